"""Our measurements as rows beside the published ones: the same benchmarks, configurations and figures, by name.

An emulator's results make no rows: its times are of a CPU.
"""

from __future__ import annotations

from anetrain.report.figures import Exact, Figure
from anetrain.report.published import Row, Setting
from anetrain.results import Measurement, Results

SHAPE = {"layers", "channels", "spatial"}


def rows_of(results: Results, source: str) -> list[Row]:
    """Of what was measured and has a published counterpart; medians."""
    if results.device.kind != "ane":
        raise ValueError(f"{source}: it is of an {results.device.label}, and cannot stand beside devices")
    if results.provenance.scale != "full":
        raise ValueError(f"{source}: its scale is {results.provenance.scale!r}; only full results are compared")
    machine: dict[str, Setting] = {
        "model": results.machine.model,
        "ram_gb": round(results.machine.memory_bytes / (1 << 30)),
        "macos": results.machine.system.removeprefix("macOS "),
    }
    rows = []
    for measurement in results.measurements:
        benchmark, configuration = _counterpart(measurement)
        if not benchmark or measurement.status != "measured":
            continue
        rows.append(
            Row(
                id=f"{source}/{benchmark}/{measurement.case}",
                benchmark=benchmark,
                configuration=configuration,
                chip=results.device.chip.removeprefix("Apple "),
                machine={name: value for name, value in machine.items() if value},
                figures=_figures(measurement),
                source=source,
                date=results.provenance.started[:10],
            )
        )
    return rows


def _counterpart(one: Measurement) -> tuple[str, dict[str, Setting]]:
    """Benchmark and configuration; empty where nothing of the kind was published."""
    found: dict[str, Setting] = {name: value for name, value in one.parameters.items() if value is not None}
    if one.bench == "peak" and found.keys() in (SHAPE, SHAPE | {"seconds"}):
        return "conv stack", found
    if one.bench == "latency" and found.keys() == SHAPE and found["layers"] == 1:
        return "inmem_bench", {name: found[name] for name in ("channels", "spatial")}
    return "", {}


def _figures(one: Measurement) -> dict[str, Figure]:
    """Four digits: what a median is good for."""
    names = {"tflops": "sustained_tflops"} if "seconds" in one.parameters else {"ms": "ms", "tflops": "tflops"}
    return {
        name: Exact(float(f"{one.figures[figure]:.4g}")) for figure, name in names.items() if one.figures.get(figure)
    }
