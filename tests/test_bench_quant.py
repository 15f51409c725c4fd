"""The bench of compressed weights: what devices take, what a wrong reading gives, and the verdicts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anetrain import device, mil
from anetrain.bench import Lab, catalogue, quant
from anetrain.bench.base import Bound, Case
from anetrain.bench.quant import APPROACHES, Quant
from anetrain.commands import bench as command
from anetrain.mil import blobs
from anetrain.results import Finding, Measurement, Meter, read
from tests.bench_runs import by_case, made_up, small_run
from tests.support import emulator

COMPRESSED = [name for name in APPROACHES if not name.startswith("fp16")]
NEWER = [name for name in COMPRESSED if name.startswith("uint4") or name.endswith("palette")]  # ops of ios18
UNPROVEN = ["uint4 blocks of 32, +0", "4-bit palette"]
MB = 2**20


def statuses(profile: str, **options: Any) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for one in small_run("quant", profile, **options).measurements:
        found.setdefault(str(one.parameters["approach"]), set()).add(one.status)
    return found


@pytest.mark.parametrize("profile", device.profiles())
def test_every_profile(profile: str) -> None:
    refused = set(UNPROVEN) if profile != "exact" else set()
    if "new-dialect" in emulator(profile).facts["rules"]:
        refused |= set(NEWER)
    assert statuses(profile) == {name: {"refused" if name in refused else "measured"} for name in APPROACHES}


def test_refusals_have_the_rule() -> None:
    m1, m4 = (by_case(small_run("quant", profile)) for profile in ("m1", "m4"))
    assert "rule new-dialect" in m1["64x64 uint4 affine"].reason
    assert "rule evidence" in m4["64x64 4-bit palette"].reason
    assert "rule evidence" in m4["64x64 uint4 blocks of 32, +0"].reason
    assert m4["64x64 4-bit palette"].parameters["evidence"] == "e5rt"


def test_with_unproven_operations_all_are_measured() -> None:
    assert set(map(frozenset, statuses("m4", allow_unproven=True).values())) == {frozenset({"measured"})}


@pytest.mark.parametrize("profile", ["m1", "m3ultra", "m4"])
def test_the_engines_arithmetic_passes_the_checks(profile: str) -> None:
    assert "wrong" not in set().union(*statuses(profile, allow_unproven=True, executor="audit").values())


def test_what_is_counted() -> None:
    """By hand, for 96 outputs and 64 inputs on 32 positions."""
    found = by_case(small_run("quant", "exact"))
    stored = {
        "fp16": 2 * 96 * 64,
        "int8 per channel": 96 * 64 + 2 * 96,
        "uint4 affine": 96 * 64 // 2 + 2 * 96 + 96 // 2,
        "uint4 blocks of 32": 96 * 64 // 2 + 2 * 2 * 96 + 96,
        "4-bit palette": 96 * 64 // 2 + 2 * 16,
    }
    for name, weight_bytes in stored.items():
        one = found[f"96x64 {name}"]
        assert one.weight_bytes == weight_bytes, name
        assert one.observed["bytes_saved"] == 2 * 96 * 64 - weight_bytes
        assert one.bytes_moved == weight_bytes + 2 * (96 + 64) * 32
        assert one.flops == 2 * 96 * 64 * 32
        assert one.timing is not None
        assert len(one.timing.samples_s) >= 100


def test_sizes_are_those_asked_for() -> None:
    cases = Quant().cases("full")
    sizes = dict.fromkeys((case.parameters["outputs"], case.parameters["inputs"]) for case in cases)
    assert list(sizes) == [(768, 768), (2048, 768), (768, 2048), (1024, 1024), (2048, 2048)]
    assert {case.parameters["spatial"] for case in cases} == {64}
    assert len({case.name for case in cases}) == len(cases) == 5 * len(APPROACHES)


# ---------------------------------------------------------------- what reads weights wrongly


Edit = Callable[[mil.Program], mil.Program]


def edited(name: str, edit: Callable[[np.ndarray], np.ndarray], kind: type = np.uint8) -> Edit:
    """The payload of one blob file changed on its way to the device."""

    def change(program: mil.Program) -> mil.Program:
        (path,) = (path for path in program.blobs if path.endswith(f"/{name}.bin"))
        file = bytes(program.blobs[path])
        payload = edit(np.frombuffer(file[128:], kind).copy()).astype(kind).tobytes()
        assert len(payload) == len(file) - 128
        assert payload != file[128:]
        return dataclasses.replace(program, blobs=dict(program.blobs) | {path: file[:128] + payload})

    return change


def swapped(payload: np.ndarray) -> np.ndarray:
    return payload >> 4 | payload << 4


def first_for_all(payload: np.ndarray) -> np.ndarray:
    return np.full_like(payload, payload[0])


def transposed(payload: np.ndarray) -> np.ndarray:
    return payload.reshape(64, -1).T.reshape(-1)


def other_axis(program: mil.Program) -> mil.Program:
    assert "axis = int32(0)" in program.text
    return dataclasses.replace(program, text=program.text.replace("axis = int32(0)", "axis = int32(1)"))


READ_WRONGLY = {
    "scales along the other axis": ("int8 per channel", other_axis),
    "one scale for the tensor": ("int8 per channel", edited("scale", first_for_all, np.float16)),
    "inputs for outputs": ("int8 per channel", edited("data", transposed, np.int8)),
    "unsigned": ("int8 per channel", edited("data", lambda payload: payload & 0x7F)),
    "halves of bytes swapped": ("uint4 affine", edited("data", swapped)),
    "halves of bytes swapped, in zero points": ("uint4 affine", edited("offset", swapped)),
    "no zero points": ("uint4 affine", edited("offset", np.zeros_like)),
    "one scale for all rows": ("uint4 affine", edited("scale", first_for_all, np.float16)),
    "one scale for both blocks": (
        "uint4 blocks of 32",
        edited("scale", lambda scales: np.repeat(scales[::2], 2), np.float16),
    ),
    "blocks along the other axis": ("uint4 blocks of 32", edited("scale", transposed, np.float16)),
    "halves of indices swapped": ("4-bit palette", edited("indices", swapped)),
    "a palette from the other end": ("4-bit palette", edited("lut", lambda values: values[::-1], np.float16)),
}


def measured_with(monkeypatch: pytest.MonkeyPatch, approach: str, edit: Edit) -> Measurement:
    def of_edited(device: Any, source: mil.Program, arrays: Any, label: str) -> Bound:
        return of_source(device, edit(source), arrays, label)

    of_source = Bound.of_source
    monkeypatch.setattr(quant.Bound, "of_source", of_edited)
    return measure(f"64x64 {approach}")


def measure(name: str) -> Measurement:
    lab = Lab(emulator("m4", allow_unproven=True), Meter(least_samples=1, least_s=0.0))
    (case,) = (case for case in Quant().cases("small") if case.name == name)
    return Quant().measure(lab, case)


@pytest.mark.parametrize(("approach", "edit"), READ_WRONGLY.values(), ids=READ_WRONGLY)
def test_a_device_that_reads_weights_wrongly_is_seen(
    monkeypatch: pytest.MonkeyPatch, approach: str, edit: Edit
) -> None:
    found = measured_with(monkeypatch, approach, edit)
    assert (found.status, found.timing) == ("wrong", None)
    assert "against numpy's reading of the blob files" in found.reason


def test_a_device_that_reads_them_rightly_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    for approach in COMPRESSED:
        with monkeypatch.context() as patch:
            assert measured_with(patch, approach, lambda program: program).status == "measured"


@pytest.mark.parametrize("approach", ["uint4 affine", "uint4 blocks of 32", "4-bit palette"])
def test_a_writer_that_swaps_halves_is_seen(monkeypatch: pytest.MonkeyPatch, approach: str) -> None:
    """Both readers agree with each other then, but not with what was to be stored."""

    def pack(array: np.ndarray, kind: str) -> bytes:
        payload = right(array, kind)
        return swapped(np.frombuffer(payload, np.uint8)).tobytes() if kind == "uint4" else payload

    right = blobs.pack
    monkeypatch.setattr(blobs, "pack", pack)
    found = measure(f"64x64 {approach}")
    assert found.status == "wrong"
    assert "against the weight before it was stored" in found.reason


def test_values_that_are_not_finite_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quant.Bound, "read", lambda bound, name: np.full((1, 64, 1, 32), np.nan, np.float32))
    found = measure("64x64 int8 per channel")
    assert found.status == "wrong"
    assert found.reason.startswith("values that are not finite against numpy's reading")


def test_a_wrong_product_of_right_weights_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device whose values for columns of the identity are right, and for others not."""
    read = Bound.read

    def clipped(bound: Bound, name: str) -> np.ndarray:
        return np.minimum(read(bound, name), 0.9)

    monkeypatch.setattr(quant.Bound, "read", clipped)
    found = measure("64x64 int8 per channel")
    assert found.status == "wrong"
    assert "against numpy in float64" in found.reason


# ---------------------------------------------------------------- verdicts

SIZES = ((768, 768), (2048, 768), (768, 2048), (1024, 1024), (2048, 2048))
FLOOR_MS = 0.09


def timed(approach: str, ms_for_a_million: float, *, noise: float = 0.01) -> list[Measurement]:
    """Of all sizes: a floor, so much for a million weights, and samples that are late by up to a share."""
    late = 1 + noise * np.linspace(0, 1, 100) ** 2
    found = []
    for outputs, inputs in SIZES:
        ms = (FLOOR_MS + ms_for_a_million * outputs * inputs / 1e6) * late
        parameters = {"approach": approach, "outputs": outputs, "inputs": inputs}
        saved = outputs * inputs
        found.append(
            made_up("quant", f"{outputs}x{inputs} {approach}", ms.tolist(), parameters, weight_bytes=saved).model_copy(
                update={"observed": {"bytes_saved": saved}}
            )
        )
    return found


def findings(*measured: list[Measurement]) -> dict[str, Finding]:
    return {found.question: found for found in Quant().findings([one for some in measured for one in some])}


def gain(*measured: list[Measurement], of: str = "int8 per channel") -> Finding:
    return findings(*measured)[f"Does the engine gain from weights as {of}?"]


def test_half_the_time_for_a_weight_is_native() -> None:
    found = gain(timed("fp16", 0.02), timed("int8 per channel", 0.01), timed("fp16 again", 0.02))
    assert found.answer == (
        "Native: 0.76 (0.76 to 0.76; fp16 against itself: 1.00) of the time of fp16 at 2048x2048, "
        "0.50 (0.50 to 0.50; fp16 against itself: 1.00) for a further weight."
    )
    assert found.figures["time_share"] == pytest.approx((0.09 + 0.01 * 4.194304) / (0.09 + 0.02 * 4.194304), rel=1e-3)
    assert found.figures["weight_time_share"] == pytest.approx(0.5, rel=1e-3)
    assert found.from_times
    assert len(found.basis) == 15


def test_fewer_bytes_count_where_the_floor_hides_them() -> None:
    """0.97 of the time at the largest size is within the margin; 0.6 of the time for a weight is not."""
    found = gain(timed("fp16", 0.002), timed("int8 per channel", 0.0012, noise=0.001))
    assert found.figures["time_share"] > 0.95
    assert found.answer.startswith("Native")


@pytest.mark.parametrize(
    ("weights_ms", "again_ms", "verdict"),
    [
        (0.0200, 0.020, "Dequantise only"),
        (0.0192, 0.020, "Dequantise only"),  # 4 % less, below the margin
        (0.0240, 0.020, "Dequantise only"),
        (0.0150, 0.020, "Native"),
        (0.0150, 0.028, "Dequantise only"),  # fp16 differs as much from itself
    ],
)
def test_the_rule_of_the_verdict(weights_ms: float, again_ms: float, verdict: str) -> None:
    found = gain(timed("fp16", 0.02), timed("int8 per channel", weights_ms), timed("fp16 again", again_ms))
    assert found.answer.startswith(f"{verdict}: ")


def test_noise_within_samples_is_no_gain() -> None:
    found = gain(timed("fp16", 0.02, noise=1.5), timed("int8 per channel", 0.019, noise=1.5))
    assert found.answer.startswith("Dequantise only")


def test_missing_sizes_leave_the_time_at_the_largest() -> None:
    fp16, other = timed("fp16", 0.02), timed("int8 per channel", 0.01)
    found = gain(fp16, other[:1] + other[3:4])
    assert "at 1024x1024" in found.answer
    assert "weight_time_share" not in found.figures
    assert not [question for question in findings(fp16) if "gain" in question]
    assert not [question for question in findings(other) if "gain" in question]


def unmeasured(status: Any, reason: str, approach: str = "4-bit palette") -> list[Measurement]:
    return [
        Measurement(bench="quant", case=one.case, parameters=one.parameters, status=status, reason=reason)
        for one in timed(approach, 0.01)
    ]


@pytest.mark.parametrize(
    ("status", "reason", "answer"),
    [
        ("refused", "no such op", "Unsupported: refused at 768x768 4-bit palette: no such op"),
        ("crashed", "signal 11", "Unsupported: crashed at 768x768 4-bit palette: signal 11"),
        ("wrong", "an error of 1", "Unsupported: wrong at 768x768 4-bit palette: an error of 1"),
        (
            "refused",
            "or open the device with allow_unproven",
            "Not tried: an emulator takes what nobody is known to have run on an engine only with --allow-unproven.",
        ),
    ],
)
def test_unsupported_has_the_devices_reason(status: str, reason: str, answer: str) -> None:
    found = findings(timed("fp16", 0.02), unmeasured(status, reason))
    taken = found["Does the device take weights as 4-bit palette?"]
    assert (taken.answer, taken.from_times) == (answer, False)
    assert len(found) == 1


def test_what_was_interrupted_is_no_verdict() -> None:
    assert not findings(timed("fp16", 0.02), unmeasured("interrupted", "enough"))


def test_right_values_are_said_of_how_many_sizes() -> None:
    some = timed("4-bit palette", 0.01)[:3] + unmeasured("refused", "too large")[3:]
    taken = findings(timed("fp16", 0.02), some)["Does the device take weights as 4-bit palette?"]
    assert taken.answer == (
        "Yes, with right values at 3 of 5 sizes, and 50% of the weight bytes saved. "
        "Native or dequantise only: that cannot be told without times of an engine."
    )
    assert taken.figures == {"right": 3, "tried": 5, "saved_share": 0.5}


def test_an_emulator_gives_no_verdict_on_speed() -> None:
    found = small_run("quant", "m4").findings
    assert len(found) == len(COMPRESSED)
    assert not [one for one in found if one.from_times]


def test_the_catalogue_has_it() -> None:
    assert isinstance(catalogue.bench("quant"), Quant)
    assert isinstance(Quant().cases("small")[0], Case)


@pytest.mark.parametrize(("flags", "status"), [([], "refused"), (["--allow-unproven"], "measured")])
def test_the_command_opens_devices_for_what_is_unproven(
    flags: list[str], status: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "quant.json"
    asked = ["quant", "--device", "emulator:m4", "--scale", "small", "--filter", "32x64 4-bit", "--seconds", "0"]
    assert command.main([*asked, "--out", str(path), *flags]) == 0
    found = read(path)
    assert [one.status for one in found.measurements] == [status]
    assert found.provenance.command.endswith("--seed 0")
    assert ("--allow-unproven" in found.provenance.command) == bool(flags)
    assert "32x64 4-bit palette" in capsys.readouterr().out
