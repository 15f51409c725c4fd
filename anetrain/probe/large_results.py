"""From which magnitude on results of products are not right any more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from anetrain.bench.base import Lab, Scale
from anetrain.mil import Graph
from anetrain.probe import features
from anetrain.probe.base import Probe, Trial
from anetrain.probe.judging import named, phrase, right_where_run
from anetrain.probe.samples import Array, Sample, evaluator, observe
from anetrain.results import Answer, Experiment, Verdict

EDGE = 32768
RESULTS = (8192, 16384, 24576, 29984, 30016, 32704, 32736, 32752, EDGE, 32800, 36864, 49152, 65472, 65504)
TERMS, COLUMNS = 32, 32  # of the terms two are not 0, each half of the result
FACTOR = 128.0
MATMUL, CONV, CONV_OF_THREE = "matmul", "conv 1x1", "conv of width 3"
INTERIOR, ELEMENTWISE = "partial sum of 32,768 in a matmul", "elementwise product"


class LargeResults(Probe):
    name = "large-results"
    question = "Do results of a matmul of 32,768 and more become infinity?"
    hypothesis = (
        "results of matmul and of convs of several taps are right below 2^15 and infinite from there on; elementwise "
        "products are right up to 65,504; what a partial sum past 2^15 does is disputed (infinity, or 0)"
    )
    source = "a compiler project on M1, M2 Pro, M4 and later (C67); another one on M3 Ultra for partial sums"
    rules = ("accumulator-overflow", "interior-partial-overflow")

    def trials(self, scale: Scale) -> Sequence[Trial]:
        return [Trial(name) for name in (MATMUL, CONV, CONV_OF_THREE, ELEMENTWISE, INTERIOR)]

    def experiment(self, lab: Lab, trial: Trial) -> dict[str, Any]:
        source = _graph(trial.name).program(lab.device.facts["dialect"])
        if trial.name == INTERIOR:
            return observe(lab.device, source, [_interior()], label=trial.name)
        return _first_wrong(lab, source, trial.name)

    def judge(self, experiments: Sequence[Experiment]) -> Verdict:
        matmul, interior = named(experiments, MATMUL), named(experiments, INTERIOR)
        filled: dict[str, Answer] = {
            features.LARGE_RESULTS: right_where_run(matmul),
            features.INTERIOR_SUMS: right_where_run(interior),
        }
        sentence = "; ".join(_said(made) for made in experiments) or "Nothing was tried"
        return self.verdict(experiments, _infinite_from_edge(matmul), sentence, filled)


def _infinite_from_edge(matmul: Experiment | None) -> Answer:
    if matmul is None or matmul.status != "done":
        return "unknown"
    if matmul.observed["values"] == "right":
        return "no"
    from_edge = (matmul.observed["first_wrong"], matmul.observed["gives"]) == (EDGE, "inf")
    return "yes" if from_edge and matmul.observed["all_alike"] else "partly"


def _said(made: Experiment) -> str:
    if made.status == "done" and "first_wrong" in made.observed:
        return f"{made.name}: right below {made.observed['first_wrong']:,}, which gives {made.observed['gives']}"
    return f"{made.name}: {phrase(made)}"


def _first_wrong(lab: Lab, source: Any, name: str) -> dict[str, Any]:
    """Two samples, with results of either sign; what each gives is kept as text."""
    with lab.device.compile(source, label=name) as program:
        evaluate = evaluator(lab.device, program)
        for sign in (1, -1):
            found = evaluate(_sample(name, sign).inputs)["y"].reshape(-1)[: len(RESULTS)].astype(np.float64) * sign
            right = found == np.array(RESULTS)
            if not right.all():
                first = int(np.argmin(right))
                return {
                    "values": "wrong from some magnitude on",
                    "first_wrong": RESULTS[first],
                    "gives": f"{found[first]:g}",
                    "all_alike": bool(np.all(found[first:] == found[first])),
                    "found": [f"{value:g}" for value in found],
                }
    return {"values": "right"}


# ---------------------------------------------------------------- programs and samples


def _graph(name: str) -> Graph:
    graph = Graph()
    if name == ELEMENTWISE:
        graph.output("y", graph.input("a_x", (1, 1, 1, COLUMNS)) * FACTOR)
    elif name in (CONV, CONV_OF_THREE):
        taps = 3 if name == CONV_OF_THREE else 1
        kernel = np.zeros((1, TERMS, 1, taps), np.float16)
        kernel[0, :2, 0, taps // 2] = FACTOR
        x = graph.input("b_w", (1, TERMS, 1, COLUMNS))
        graph.output("y", graph.conv(x, graph.constant(kernel, "kernel", inline=False), pad_type="same"))
    else:
        x = graph.input("a_x", (1, 1, 1, TERMS))
        w = graph.reshape(graph.input("b_w", (1, TERMS, 1, COLUMNS)), (1, 1, TERMS, COLUMNS))
        graph.output("y", graph.matmul(x, w))
    return graph


def _results() -> Array:
    padded = np.zeros(COLUMNS)
    padded[: len(RESULTS)] = RESULTS
    return padded


def _sample(name: str, sign: int) -> Sample:
    expected = (_results() * sign).reshape(1, 1, 1, COLUMNS)
    if name == ELEMENTWISE:
        return Sample({"a_x": (expected / FACTOR).astype(np.float16)}, {"y": expected})
    w = np.zeros((1, TERMS, 1, COLUMNS), np.float16)
    w[0, :2] = expected[0] / FACTOR / 2
    inputs = {"b_w": w}
    if name == MATMUL:
        inputs["a_x"] = np.zeros((1, 1, 1, TERMS), np.float16)
        inputs["a_x"][..., :2] = FACTOR
    return Sample(inputs, {"y": expected})


def _interior() -> Sample:
    """32,768 - 32,768 + 1."""
    x, w = np.zeros((1, 1, 1, TERMS), np.float16), np.zeros((1, TERMS, 1, COLUMNS), np.float16)
    x[..., :3] = FACTOR, -FACTOR, 1
    w[0, :3] = np.array([EDGE / FACTOR, EDGE / FACTOR, 1])[:, None, None]
    ones = np.ones((1, 1, 1, COLUMNS))
    return Sample({"a_x": x, "b_w": w}, {"y": ones}, {"infinite": {"y": ones * np.inf}})
