"""Our measurements as rows beside the published ones: the same benchmarks, configurations and figures, by name.

An emulator's results make no rows: its times are of a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from anetrain.report.figures import Exact, Fail, Figure
from anetrain.report.published import Row, Setting
from anetrain.results import Measurement, Results

SHAPE = {"layers", "channels", "spatial"}
INT8 = {"layers", "channels", "side", "format"}
UNTRIED = ("interrupted", "skipped")
PROGRAM = "anetrain"  # of rows of training: other programs' steps hold other work

Counterpart = tuple[str, dict[str, Setting], dict[str, float]]
"""Benchmark, configuration, figures."""


def rows_of(results: Results, source: str) -> list[Row]:
    """Of what was measured, or failed, and has a published counterpart; medians. Cases of one benchmark and
    configuration, such as those of two precisions, make one row."""
    if results.device.kind != "ane":
        raise ValueError(f"{source}: it is of an {results.device.label}, and cannot stand beside devices")
    if results.provenance.scale != "full":
        raise ValueError(f"{source}: its scale is {results.provenance.scale!r}; only full results are compared")
    machine: dict[str, Setting] = {
        "model": results.machine.model,
        "ram_gb": round(results.machine.memory_bytes / (1 << 30)),
        "macos": results.machine.system.removeprefix("macOS "),
    }
    rows: dict[object, Row] = {}
    for measurement in results.measurements:
        counterpart = COUNTERPARTS.get(measurement.bench, _nothing)(measurement)
        if counterpart is None or measurement.status in UNTRIED:
            continue
        benchmark, configuration, figures = counterpart
        row = Row(
            id=f"{source}/{benchmark}/{measurement.case}",
            benchmark=benchmark,
            configuration=configuration,
            chip=results.device.chip.removeprefix("Apple "),
            machine={name: value for name, value in machine.items() if value},
            figures=_exact(figures) if measurement.status == "measured" else _failed(measurement),
            source=source,
            date=results.provenance.started[:10],
        )
        rows[row.identity] = _merged(rows[row.identity], row) if row.identity in rows else row
    return list(rows.values())


def _merged(one: Row, other: Row) -> Row:
    figures = {**one.figures, **other.figures}
    fp16, int8 = figures.get("fp16_ms"), figures.get("int8_ms")
    if isinstance(fp16, Exact) and isinstance(int8, Exact):
        figures |= _exact({"int8_speedup": fp16.root / int8.root})
    return one.model_copy(update={"figures": figures})


def _exact(figures: Mapping[str, float]) -> dict[str, Figure]:
    """Four digits: what a median is good for."""
    return {name: Exact(float(f"{value:.4g}")) for name, value in figures.items() if value}


def _failed(one: Measurement) -> dict[str, Figure]:
    """In the place of the figure that the case is about."""
    name = "sustained_tflops" if "seconds" in one.parameters else "tflops"
    if one.bench == "int8":
        name = "fp16_tflops" if one.parameters["format"] == "fp16" else "int8_tops"
    if one.bench == "train":
        name = "step_ms"
    return {name: Fail(fail=f"{one.status}: {one.reason}")}


# ---------------------------------------------------------------- by bench; None: nothing of the kind was published


def _nothing(one: Measurement) -> Counterpart | None:
    return None


def _peak(one: Measurement) -> Counterpart | None:
    found = _settings(one)
    if found.keys() == SHAPE | {"seconds"}:
        return "conv stack", found, {"sustained_tflops": one.figures.get("tflops", 0.0)}
    return ("conv stack", found, _times(one)) if found.keys() == SHAPE else None


def _latency(one: Measurement) -> Counterpart | None:
    found = _settings(one)
    if found.keys() != SHAPE or found["layers"] != 1:
        return None
    return "inmem_bench", {name: found[name] for name in ("channels", "spatial")}, _times(one)


def _sram(one: Measurement) -> Counterpart | None:
    found = _settings(one)
    if found.get("sweep") != "published" or not found.keys() >= SHAPE:
        return None
    return "sram_bench", {name: found[name] for name in ("channels", "spatial")}, _times(one)


def _int8(one: Measurement) -> Counterpart | None:
    found: dict[str, Any] = _settings(one)
    if found.keys() != INT8 or not isinstance(found["side"], int):
        return None
    configuration = {"layers": found["layers"], "channels": found["channels"], "spatial": found["side"] ** 2}
    kind, rate = ("fp16", "fp16_tflops") if found["format"] == "fp16" else ("int8", "int8_tops")
    times = _times(one)
    return "conv stack W8A8", configuration, {f"{kind}_ms": times["ms"], rate: times["tflops"]} if times else {}


def _train(one: Measurement) -> Counterpart | None:
    if not one.parameters.keys() >= {"model", "pipeline"}:
        return None
    configuration = {"model": one.parameters["model"], "pipeline": one.parameters["pipeline"], "program": PROGRAM}
    seen = {name: value for name, value in one.observed.items() if isinstance(value, int | float)}
    figures = {
        "step_ms": one.figures.get("ms", 0.0),
        "forward_device_ms": seen.get("forward_device_ms", 0.0),
        "compile_ms": seen.get("compile_once_ms", 0.0),
        "compile_per_ten_s": seen.get("compile_ms_per_update", 0.0) / 1e3,
    }
    return "training", {name: value for name, value in configuration.items() if value is not None}, figures


COUNTERPARTS: Mapping[str, Callable[[Measurement], Counterpart | None]] = {
    "peak": _peak,
    "latency": _latency,
    "sram": _sram,
    "int8": _int8,
    "train": _train,
}


def _settings(one: Measurement) -> dict[str, Setting]:
    return {name: value for name, value in one.parameters.items() if value is not None}


def _times(one: Measurement) -> dict[str, float]:
    return {name: one.figures[name] for name in ("ms", "tflops") if name in one.figures}
