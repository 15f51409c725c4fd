"""How long one small program takes: the floor that every dispatch costs, and what weights add to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from anetrain.bench.base import Bench, Bound, Case, Lab, Scale, compare
from anetrain.bench.convolutions import Stack
from anetrain.mil import Graph
from anetrain.results import Finding, Measurement
from anetrain.results.statistics import steady_line

CHANNELS: Mapping[Scale, tuple[int, ...]] = {
    "full": (256, 512, 1024, 2048, 3072, 4096),
    "small": (64, 96, 128),
}
FLOOR = "dispatch floor"
FLOOR_SHAPE = (1, 64, 1, 64)  # the smallest that every known system accepts (ANE_FACTS 0.3, C46, C47)
FLOOR_SAMPLES = 50  # times as many as of others: the floor is what all else is compared with


class Latency(Bench):
    name = "latency"
    question = "How long does one dispatch take, and what does its size add?"
    columns: ClassVar[tuple[str, ...]] = ("weight_mib", "ms", "tflops")

    def cases(self, scale: Scale) -> Sequence[Case]:
        stacks = [Stack(channels, 1, 64) for channels in CHANNELS[scale]]
        return [Case(FLOOR), *(Case(stack.name, stack.parameters) for stack in stacks)]

    def measure(self, lab: Lab, case: Case) -> Measurement:
        if case.name == FLOOR:
            return self._floor(lab, case)
        stack = Stack.of(case.parameters)
        bound, check = stack.bound(lab, case.name)
        return self.timed(case, check, lambda: lab.meter.time(bound.request.run), **stack.counts)

    def _floor(self, lab: Lab, case: Case) -> Measurement:
        graph = Graph()
        graph.output("y", graph.relu(graph.input("a_x", FLOOR_SHAPE)))
        x = lab.random().standard_normal(FLOOR_SHAPE, np.float32).astype(np.float16)
        bound = Bound.of(lab.device, graph, {"a_x": x}, case.name)
        bound.request.run()
        check = compare(bound.read("y"), np.maximum(x, 0), allowed=0.0, against="numpy, exactly")
        meter = replace(lab.meter, least_samples=FLOOR_SAMPLES * lab.meter.least_samples)
        return self.timed(case, check, lambda: meter.time(bound.request.run), bytes_moved=2 * x.nbytes)

    def findings(self, measured: Sequence[Measurement]) -> Sequence[Finding]:
        timed = [one for one in measured if one.timing is not None]
        floors = [one for one in timed if one.case == FLOOR]
        sized = [one for one in timed if one.case != FLOOR]
        return [*(_floor(one) for one in floors), *([_slope(sized)] if len(sized) > 2 else [])]


def _floor(floor: Measurement) -> Finding:
    ms = floor.figures["ms"]
    return Finding(
        bench=Latency.name,
        question="How long does a dispatch take that does next to nothing?",
        answer=f"{1e3 * ms:.0f} microseconds.",
        figures={"us": 1e3 * ms},
        basis=(floor.case,),
    )


def _slope(sized: Sequence[Measurement]) -> Finding:
    """A line through the sizes that one odd size does not turn."""
    weights_gb = [(one.weight_bytes or 0) / 1e9 for one in sized]
    times_ms = [one.figures["ms"] for one in sized]
    base_ms, ms_per_gb = steady_line(weights_gb, times_ms)
    figures = {"base_us": 1e3 * base_ms, "us_per_mb": ms_per_gb}
    answer = f"{1e3 * base_ms:.0f} microseconds, and {ms_per_gb:.1f} more for each megabyte of weights"
    if ms_per_gb > 0:
        figures["gb_per_s"] = 1e3 / ms_per_gb
        answer += f" ({1e3 / ms_per_gb:.0f} GB/s)"
    return Finding(
        bench=Latency.name,
        question="What do weights add to a dispatch?",
        answer=f"{answer}.",
        figures=figures,
        basis=tuple(one.case for one in sized),
    )
