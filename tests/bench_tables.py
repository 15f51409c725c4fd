"""The table of every bench, with its findings, as of an engine: from published times where there are any, else from
times made up."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from anetrain import events
from anetrain.bench import attention, catalogue, lmhead, table
from anetrain.bench.base import Case
from anetrain.bench.convolutions import Stack
from anetrain.bench.fused import WORKS
from anetrain.bench.int8 import Int8, Shape
from anetrain.bench.quant import APPROACHES
from anetrain.bench.sram import act_mib
from anetrain.bench.train import Train
from anetrain.results import Device, Machine, Measurement, Provenance, Results
from tests.bench_runs import made_up

MACHINE = Machine(
    model="Mac17,7", cpus=18, memory_bytes=2**37, system="macOS 26.4.1", kernel="Darwin 25.4.0", architecture="arm64"
)
PROVENANCE = Provenance(
    command="anetrain bench", started="2026-11-21T00:00:00+00:00", seed=0, scale="full", anetrain="0", python="3",
    numpy="2", blas="Accelerate",
)  # fmt: skip
FLOOR_MS, FLOPS_PER_MS, BYTES_PER_MS = 0.09, 15e9, 1e8
"""Of an engine made up: a dispatch, operations, bytes."""


def spread(ms: float) -> tuple[float, ...]:
    """Samples with quantiles that differ."""
    return tuple(ms * share for share in (1.02, 0.99, 1.0, 1.01, 0.995))


def by_model(*, dispatches: int = 1, flops: float = 0.0, moved: float = 0.0) -> tuple[float, ...]:
    return spread(dispatches * FLOOR_MS + max(flops / FLOPS_PER_MS, moved / BYTES_PER_MS))


def published_peak() -> list[Measurement]:
    """M5 Max: the ten stacks. The others made up."""
    ms = (0.135, 0.171, 0.206, 0.266, 0.311, 0.168, 0.132, 0.216, 0.142, 0.203)
    found = []
    for index, case in enumerate(catalogue.bench("peak").cases("full")):
        size = int(case.parameters.get("size") or 0)
        stack = Stack(size, 1, size) if size else Stack.of(case.parameters)
        took = spread(ms[index]) if index < len(ms) else by_model(flops=stack.flops * (2 if size else 1))
        found.append(made_up("peak", case.name, took, case.parameters, **stack.counts))
    return found


def made_up_latency() -> list[Measurement]:
    """With one odd size, as a published table has one."""
    found = []
    for case in catalogue.bench("latency").cases("full"):
        if not case.parameters:
            found.append(made_up("latency", case.name, by_model(), {}, bytes_moved=16384))
            continue
        stack = Stack.of(case.parameters)
        took = spread(0.313) if stack.channels == 1024 else by_model(flops=stack.flops, moved=stack.weight_bytes)
        found.append(made_up("latency", case.name, took, case.parameters, **stack.counts))
    return found


def made_up_fused() -> list[Measurement]:
    found = []
    for case in catalogue.bench("fused").cases("full"):
        work = WORKS[str(case.parameters["work"])](case.parameters, np.random.default_rng(0))
        dispatches = 1 if case.parameters["way"] == "fused" else len(work.separate)
        found.append(
            made_up(
                "fused", case.name, by_model(dispatches=dispatches, flops=work.flops), case.parameters,
                flops=work.flops, weight_bytes=work.weight_bytes, activation_bytes=work.activation_bytes,
                bytes_moved=work.weight_bytes + work.activation_bytes, observed={"dispatches": dispatches},
            )
        )  # fmt: skip
    return found


def made_up_attention() -> list[Measurement]:
    """The engine's own operation twice as quick, and refused where heads share keys."""
    found = []
    for case in catalogue.bench("attention").cases("full"):
        heads, kv_heads, head_dim, positions = (
            int(case.parameters[name] or 0) for name in ("heads", "kv_heads", "head_dim", "positions")
        )
        shape = attention.Shape(heads, kv_heads, head_dim, positions)
        single = case.parameters["form"] == attention.FORMS[2]
        if single and kv_heads != heads:
            found.append(refused("attention", case))
            continue
        took = by_model(flops=shape.flops * (1 if single else 2))
        counts = {"flops": shape.flops, "bytes_moved": shape.bytes_moved, "activation_bytes": shape.bytes_moved}
        found.append(made_up("attention", case.name, took, case.parameters, **counts))
    return found


def made_up_lmhead() -> list[Measurement]:
    """The CPU at a tenth of the engine's bytes a second for each thread of four."""
    found = []
    for case in catalogue.bench("lmhead").cases("full"):
        way, size = case.name, int(case.parameters["rows"] or 0) * int(case.parameters["columns"] or 0)
        on_cpu = lmhead.WAYS.get(way)
        weight_bytes = size * (on_cpu.bytes_each if on_cpu else 2)
        if on_cpu:
            took = spread(10 * weight_bytes / BYTES_PER_MS / (on_cpu.threads or 4))
            observed: dict[str, int | str] = {"threads": on_cpu.threads or 4, "runs_on": "CPU"}
        else:
            took = by_model(moved=weight_bytes * (1.2 if lmhead.DEVICE[way] else 1))
            observed = {"programs": 1, "runs_on": "device"}
        counts = {"flops": 2 * size, "weight_bytes": weight_bytes, "bytes_moved": weight_bytes + 4 * (50257 + 768)}
        found.append(made_up("lmhead", way, took, case.parameters, observed=observed, **counts))
    return found


def made_up_train() -> list[Measurement]:
    """From events of runs: parts as the M5 Max report has them, compiling as long as there, and a model refused."""
    found = []
    for case in catalogue.bench("train").cases("full"):
        static = case.parameters["pipeline"] == "static"
        if static and case.parameters["model"] == "qwen3-0.6b":
            found.append(refused("train", case))
            continue
        step_s, compile_s = (0.0900, 3.36) if static else (0.0735, 0.0)
        vocab = 32000 if case.parameters["model"] == "stories110m" else 151936
        parts = {"forward_device": 0.080, "backward_device": 0.090, "update": 0.030, "weight_gradients": 0.300}
        heard: list[events.Event] = [
            events.Compile("model", 48, 0.421, 48, 48, 0),
            events.Step(1, math.log(vocab), 50, 1),
        ]
        heard += [
            events.Update(
                number, 10.0, 1e-3, 1.0, False, 10, 2560, 65536.0, 10 * step_s + compile_s,
                parts | ({"compiling": compile_s} if static else {}),
            )
            for number in (1, 2, 3)
        ]  # fmt: skip
        found.append(Train()._of_events(case, heard, vocab=vocab, parameters=109_529_856))
    return found


def refused(bench: str, case: Case) -> Measurement:
    parameters = dict(case.parameters)
    return Measurement(bench=bench, case=case.name, parameters=parameters, status="refused", reason="InvalidMILProgram")


def published_sram() -> list[Measurement]:
    """M5 Max, the last three rows."""
    cases = {case.name: case for case in catalogue.bench("sram").cases("full")}
    found = []
    for name, ms in (("5120ch sp64", 0.432), ("6144ch sp64", 0.565), ("8192ch sp32", 0.965)):
        case = cases[f"published: {name}"]
        stack = Stack.of(case.parameters)
        observed = {"act_mib": act_mib(stack)}
        found.append(made_up("sram", case.name, ms, case.parameters, observed=observed, **stack.counts))
    return found


def published_int8() -> list[Measurement]:
    """M5 Max, two rows of five."""
    ms = {"128x512ch 64x64": (14.263, 7.720), "256x256ch 64x64": (7.318, 4.118)}
    found = []
    for case in Int8().cases("full"):
        name, form = case.name.rsplit(" ", 1)
        if name in ms:
            shape = Shape(*(int(case.parameters[size] or 0) for size in ("channels", "layers", "side")))
            observed = {"distance_to_unquantised": 0.28} if form == "W8A8" else {}
            took = ms[name][form == "W8A8"]
            found.append(made_up("int8", case.name, took, case.parameters, flops=shape.flops, observed=observed))
    return found


def made_up_quant() -> list[Measurement]:
    """One size; times as on an engine that streams int8 and palettes, refuses blocks, and expands what is left."""
    ms = dict(zip(APPROACHES, (0.31, 0.21, 0.31, None, 0.40, 0.17, 0.312), strict=True))
    bits = dict(zip(APPROACHES, (16, 8, 4, 4, 4, 4, 16), strict=True))
    error = dict(zip(APPROACHES, (0.0002, 0.006, 0.1, 0.08, 0.08, 0.2, 0.0002), strict=True))
    found = []
    for case in catalogue.bench("quant").cases("full"):
        name, took = str(case.parameters["approach"]), ms[str(case.parameters["approach"])]
        if not case.name.startswith("2048x2048"):
            continue
        if took is None:
            found.append(refused("quant", case))
            continue
        stored = 2048 * 2048 * bits[name] // 8
        observed = {"bytes_saved": 2 * 2048 * 2048 - stored, "quantisation_error": error[name]}
        flops = 2 * 2048 * 2048 * 64
        found.append(
            made_up("quant", case.name, took, case.parameters, flops=flops, weight_bytes=stored, observed=observed)
        )
    return found


MADE: Mapping[str, Callable[[], list[Measurement]]] = {
    "peak": published_peak,
    "latency": made_up_latency,
    "sram": published_sram,
    "int8": published_int8,
    "quant": made_up_quant,
    "fused": made_up_fused,
    "attention": made_up_attention,
    "lmhead": made_up_lmhead,
    "train": made_up_train,
}


def text() -> str:
    """As `anetrain bench` prints them."""
    return "\n".join(f"{_rendered(name)}\n" for name in MADE)


def _rendered(name: str) -> str:
    measured, bench = MADE[name](), catalogue.bench(name)
    made = Results(
        provenance=PROVENANCE,
        machine=MACHINE,
        device=Device(kind="ane", name="ane", chip="Apple M5 Max"),
        complete=True,
        measurements=tuple(measured),
        findings=tuple(bench.findings(measured)),
    )
    return table.of_bench(made, bench)
