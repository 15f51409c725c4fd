"""Do products below 2^-14, the smallest normal number of fp16, vanish inside a multiply-accumulate?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from anetrain.bench.base import Lab, Scale
from anetrain.device import Device, Program
from anetrain.mil import Graph
from anetrain.probe import features
from anetrain.probe.base import Probe, Trial
from anetrain.probe.judging import named, phrase, right_where_run
from anetrain.probe.samples import Arrays, evaluator
from anetrain.results import Answer, Experiment, Verdict

TERMS, COLUMNS = 1024, 32
EXPONENTS = tuple(range(-10, -25, -1))  # of a product, column by column; 1024 of them make a normal number
SMALLEST_NORMAL = -14
X = 2.0**-7
MATMUL, CONV, ELEMENTWISE = "matmul", "conv", "elementwise product"


class Subnormals(Probe):
    name = "subnormals"
    question = "Do products below 2^-14 vanish inside a multiply-accumulate?"
    hypothesis = "sums of products lose every product below 2^-14 on M1 and M3 Ultra; M5 keeps them; elementwise all do"
    source = "reverse engineering of M1 and M5, a measurement on M3 Ultra (C70)"
    rules = ("denormal-flush",)

    def trials(self, scale: Scale) -> Sequence[Trial]:
        return [Trial(name) for name in (MATMUL, CONV, ELEMENTWISE)]

    def experiment(self, lab: Lab, trial: Trial) -> dict[str, Any]:
        with lab.device.compile(_graph(trial.name).program(lab.device.facts["dialect"]), label=trial.name) as program:
            return _observe(lab.device, program, trial.name)

    def judge(self, experiments: Sequence[Experiment]) -> Verdict:
        matmul = named(experiments, MATMUL)
        answer: Answer = "unknown"
        if matmul is not None and matmul.status == "done":
            flushes = matmul.observed.get("zero_below") == SMALLEST_NORMAL
            answer = "no" if matmul.observed["values"] == "right" else "yes" if flushes else "partly"
        sentence = "; ".join(_said(made) for made in experiments) or "Nothing was tried"
        return self.verdict(experiments, answer, sentence, {features.SUBNORMAL_PRODUCTS: right_where_run(matmul)})


def _said(made: Experiment) -> str:
    if "zero_below" in made.observed:
        return f"{made.name}: products below 2^{made.observed['zero_below']} vanish, others are right"
    return f"{made.name}: {phrase(made)}" + (" down to 2^-24" if made.observed.get("values") == "right" else "")


def _observe(device: Device, program: Program, name: str) -> dict[str, Any]:
    terms = 1 if name == ELEMENTWISE else TERMS
    expected = terms * 2.0 ** np.array(EXPONENTS)
    found = evaluator(device, program)(_inputs(name))["y"].reshape(-1)[: len(EXPONENTS)].astype(np.float64)
    right = found == expected
    if right.all():
        return {"values": "right"}
    kept = int(np.argmin(right))  # so many columns, from the largest product on
    seen: dict[str, Any] = {"values": "wrong", "found": [f"{value:g}" for value in found]}
    if kept and not found[kept:].any():
        seen |= {"values": "zero from some product on", "zero_below": EXPONENTS[kept - 1]}
    return seen


def _graph(name: str) -> Graph:
    graph = Graph()
    if name == ELEMENTWISE:
        graph.output("y", graph.input("b_w", (1, 1, 1, COLUMNS)) * X)
    elif name == CONV:
        kernel = graph.constant(np.full((1, TERMS, 1, 1), X), "kernel", inline=False)
        graph.output("y", graph.conv(graph.input("b_w", (1, TERMS, 1, COLUMNS)), kernel))
    else:
        x = graph.input("a_x", (1, 1, 1, TERMS))
        w = graph.reshape(graph.input("b_w", (1, TERMS, 1, COLUMNS)), (1, 1, TERMS, COLUMNS))
        graph.output("y", graph.matmul(x, w))
    return graph


def _inputs(name: str) -> Arrays:
    row = np.zeros(COLUMNS)
    row[: len(EXPONENTS)] = 2.0 ** np.array(EXPONENTS) / X
    rows = 1 if name == ELEMENTWISE else TERMS
    inputs = {"b_w": np.broadcast_to(row.astype(np.float16), (1, rows, 1, COLUMNS)).copy()}
    if name == MATMUL:
        inputs["a_x"] = np.full((1, 1, 1, TERMS), X, np.float16)
    return inputs
