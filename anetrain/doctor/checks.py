"""What the doctor looks at, one function per question. Each runs in a process of its own and returns what it saw;
whether that is well is decided in `questions.py`.

`device` are the arguments of `anetrain.device.open`.
"""

from __future__ import annotations

import math
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import anetrain.device
from anetrain import cpu, raw
from anetrain.bench.base import compare, relative_rms
from anetrain.device import Device
from anetrain.lower import Layout
from anetrain.lower.check import with_weights
from anetrain.lower.plan import Plan, ProgramSpec
from anetrain.mil import Graph
from anetrain.mil.text import Program
from anetrain.mil.types import Array
from anetrain.model import Model
from anetrain.pipeline.extras import Extras
from anetrain.pipeline.places import part_plans
from anetrain.probe.api import unexpected
from anetrain.results import device_of, this_machine

Opened = Mapping[str, Any]

ACTIVATION_SIZE = 0.5  # and weights so that their products have size 1: where activations bend


def environment(*, device: Opened) -> dict[str, Any]:
    usable, why = anetrain.device.real_available()
    return {
        "machine": this_machine().model_dump(mode="json"),
        "python": f"{platform.python_version()} {platform.machine()}",
        "translated": _translated(),
        "back_ends": list(anetrain.device.backends()),
        "real_ane": {"usable": usable, "why": why},
        "blas": cpu.blas_name(),
        "threads": cpu.threads(),
        "device": device_of(_open(device).facts).model_dump(mode="json"),
    }


def _translated() -> bool:
    """An Intel Python under Rosetta: on an Apple chip, and without its engine."""
    if sys.platform != "darwin":
        return False
    run = subprocess.run(["/usr/sbin/sysctl", "-n", "sysctl.proc_translated"], capture_output=True, text=True)
    return run.stdout.strip() == "1"


def framework(*, device: Opened) -> dict[str, Any]:
    """What is missing of it, or has other types."""
    api = raw.api(_open(device))
    return {
        "framework": api["framework"],
        "version": api["version"],
        "classes": len(api["classes"]),
        "differences": list(unexpected(api)),
    }


def self_test(*, device: Opened) -> dict[str, Any]:
    """A convolution, compiled, run and compared with numpy."""
    opened = _open(device)
    random = np.random.default_rng(0)
    x = random.standard_normal((1, 64, 1, 128)).astype(np.float16)
    w = (random.standard_normal((32, 64, 1, 1)) / 8).astype(np.float16)
    graph = Graph()
    graph.output("y", graph.conv(x=graph.input("a_x", x.shape), weight=graph.constant(w, name="w")))
    program = opened.compile(graph.program(dialect=opened.facts["dialect"]), label="self-test")
    found = program.run({"a_x": x})["y"].reshape(32, 128)
    expected = w.reshape(32, 64).astype(np.float64) @ x.reshape(64, 128).astype(np.float64)
    report = program.report
    return {
        "largest_error": _errors(found, expected)[0],
        "compile_ms": report["compile_ms"],
        "ports_verified": report.get("ports_verified"),
    }


def programs(*, device: Opened, model: str, layout: Layout, extras: Extras) -> dict[str, Any]:
    """Every program of a model's training, once on the device and once on the exact emulator, on the same random
    inputs. Errors as shares of the largest and of the root mean square value; None where a value is not finite."""
    opened, exact = _open(device), _open({"kind": "emulator", "profile": "exact"})
    random = np.random.default_rng(0)
    largest: dict[str, float | None] = {}
    mean_square: dict[str, float | None] = {}
    made = Model.preset(model)
    weight_size = 1 / (ACTIVATION_SIZE * math.sqrt(made.spec.dim))
    for part, plan in _distinct_plans(made, opened, layout, extras):
        for spec in plan.programs:
            program = with_weights(plan, spec, lambda shape: random.standard_normal(shape) * weight_size)
            inputs = _inputs(plan, spec, random, weight_size)
            found, expected = (_once(each, program, inputs) for each in (opened, exact))
            errors = [_errors(found[name], expected[name]) for name in expected]
            name = f"{part}: {spec.label}"
            largest[name], mean_square[name] = (_worst(kind) for kind in zip(*errors, strict=True))
    return {"largest_errors": largest, "rms_errors": mean_square}


def _distinct_plans(model: Model, device: Device, layout: Layout, extras: Extras) -> Iterator[tuple[str, Plan]]:
    seen: set[int] = set()
    for part, plan in part_plans(model, device, layout=layout, extras=extras):
        if plan.programs and id(plan) not in seen:
            seen.add(id(plan))
            yield part.kind, plan


def _inputs(plan: Plan, spec: ProgramSpec, random: np.random.Generator, weight_size: float) -> dict[str, Array]:
    sizes = {
        port: weight_size if plan.surfaces[surface].weights else ACTIVATION_SIZE
        for port, surface in spec.inputs.items()
    }
    return {
        port: (random.standard_normal(shape, np.float32) * np.float32(sizes[port])).astype(np.float16)
        for port, shape in spec.report.inputs.items()
    }


def _once(device: Device, program: Program, inputs: Mapping[str, Array]) -> dict[str, Array]:
    with device.compile(program) as compiled:
        return compiled.run(inputs)


def leaks(*, device: Opened, rounds: int) -> dict[str, Any]:
    """What is left of programs that were compiled, run and given back: nothing, if all is well."""
    temporary = Path(tempfile.gettempdir())
    opened = _open(device)
    graph = Graph()
    x = graph.input("a_x", (1, 64, 1, 64))
    graph.output("y", graph.add(x=x, y=x))
    program = graph.program(dialect=opened.facts["dialect"])

    def once() -> None:
        with opened.compile(program, label="leaks") as compiled:
            compiled.run({"a_x": np.ones((1, 64, 1, 64), np.float16)})

    once()  # what is made once stays
    before, folders, memory = opened.counters(), _folders(temporary), _memory_bytes()
    for _ in range(rounds):
        once()
    after = opened.counters()
    names = ("live_programs", "live_surfaces", "live_requests", "surface_bytes", "backend_objects")
    return {
        "rounds": rounds,
        "left": {name: getattr(after, name) - getattr(before, name) for name in names},
        "folders_left": len(_folders(temporary) - folders),
        "memory_mb": (_memory_bytes() - memory) / 1e6,
    }


def _folders(temporary: Path) -> set[str]:
    """Of programs: three SHA-256 in hex."""
    return {path.name for path in temporary.iterdir() if len(path.name) == 3 * 64 + 2 and path.name.count("_") == 2}


def _memory_bytes() -> int:
    """The most this process ever had: it grows with a leak, and does not shrink."""
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def _open(device: Opened) -> Device:
    return anetrain.device.open(**device)


def _errors(found: Array, expected: Array) -> tuple[float | None, float | None]:
    """By the largest value and by the root mean square."""
    if not np.all(np.isfinite(found)):
        return None, None
    largest = compare(found, expected, allowed=0.0, against="the exact emulator").largest_error
    return largest, relative_rms(found, expected)


def _worst(errors: Iterable[float | None]) -> float | None:
    worst = 0.0
    for error in errors:
        if error is None:
            return None
        worst = max(worst, error)
    return worst
