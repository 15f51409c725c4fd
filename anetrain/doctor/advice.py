"""What is known to go wrong on a chip or a system, and what to do: from published reports, by chip and macOS."""

from __future__ import annotations

from collections.abc import Iterator

from anetrain.bench.train import MEMORY_BYTES
from anetrain.results import Device, Machine

FIRST_CHIPS = ("h13", "h14")  # M1 and M2


def advice(machine: Machine, device: Device, *, translated: bool = False) -> Iterator[str]:
    yield from _of_the_system(machine, device, translated)
    yield from _of_the_chip(device)
    yield from _of_the_memory(machine)


def _of_the_system(machine: Machine, device: Device, translated: bool) -> Iterator[str]:
    major = _macos(machine)
    if translated:
        yield "this Python is for Intel and runs under Rosetta, where there is no engine: install one for arm64"
    if major is None:
        yield (
            f"{machine.system} has no Neural Engine: programs run on the emulated one, which gives the right numbers "
            "and says nothing of an engine's speed"
        )
        return
    if machine.architecture == "x86_64" and not translated:
        yield "a Mac with an Intel processor has no Neural Engine: programs run on the emulated one"
    if major < 15:
        yield f"{machine.system} is older than macOS 15, the first that this project is built for: update"
    if device.kind == "emulator":
        yield "this Mac's engine was not used: `anetrain info --device ane` says what stands in the way"
    if major == 27:
        yield "a test version of macOS 27.0 refused programs with code 10; 27.0.1 takes them again: update"


def _of_the_chip(device: Device) -> Iterator[str]:
    sub_type = device.sub_type.lower()
    if sub_type.startswith(FIRST_CHIPS):
        yield (
            "M1 and M2 take fp16 at a program's border only, and saturate at 4094 where a slice starts inside a row; "
            "the programs of this project do without both: keep pipeline.layout at stacked or separate, not packed"
        )
    if sub_type.startswith("h15"):
        yield (
            "an M3 with macOS 15 was reported to take convolutions of 512 channels only; those programs had weight "
            "files with untrue records, which this project's have not: `anetrain probe blobs channels` tells"
        )
    if (device.engines or 1) > 1:
        yield f"this chip has {device.engines} engines, and a run uses one of them: two runs at a time use both"


def _of_the_memory(machine: Machine) -> Iterator[str]:
    for name, needed in MEMORY_BYTES.items():
        if machine.memory_bytes < needed:
            yield f"{machine.memory_bytes / 1e9:.0f} GB of memory are not enough for {name} ({needed / 1e9:.0f} GB)"


def _macos(machine: Machine) -> int | None:
    name, _, version = machine.system.partition(" ")
    major = version.split(".")[0]
    return int(major) if name == "macOS" and major.isdigit() else None
