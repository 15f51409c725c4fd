"""Tables of the benches of weights, as of an engine: from published times, and for quant from times made up."""

from __future__ import annotations

from anetrain.bench import catalogue, table
from anetrain.bench.convolutions import Stack
from anetrain.bench.int8 import Int8, Shape
from anetrain.bench.quant import APPROACHES
from anetrain.bench.sram import act_mib
from anetrain.results import Device, Machine, Measurement, Provenance, Results
from tests.bench_runs import made_up

MACHINE = Machine(
    model="Mac17,7", cpus=18, memory_bytes=2**37, system="macOS 26.4.1", kernel="Darwin 25.4.0", architecture="arm64"
)
PROVENANCE = Provenance(
    command="anetrain bench", started="2026-11-21T00:00:00+00:00", seed=0, scale="full", anetrain="0", python="3",
    numpy="2", blas="Accelerate",
)  # fmt: skip


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
            reason = "InvalidMILProgram"
            found.append(
                Measurement(
                    bench="quant", case=case.name, parameters=dict(case.parameters), status="refused", reason=reason
                )
            )
            continue
        stored = 2048 * 2048 * bits[name] // 8
        observed = {"bytes_saved": 2 * 2048 * 2048 - stored, "quantisation_error": error[name]}
        flops = 2 * 2048 * 2048 * 64
        found.append(
            made_up("quant", case.name, took, case.parameters, flops=flops, weight_bytes=stored, observed=observed)
        )
    return found


MADE = {"sram": published_sram, "int8": published_int8, "quant": made_up_quant}


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
