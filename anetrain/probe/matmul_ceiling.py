"""How long an axis, and the contraction of a matmul, may be: found by halving what lies between right and not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from anetrain.bench.base import Lab, Scale
from anetrain.mil import Graph
from anetrain.probe import features
from anetrain.probe.base import Probe, Trial
from anetrain.probe.judging import combined, named, phrase, worked
from anetrain.probe.samples import Array, Sample, observe, whole_numbers
from anetrain.results import Answer, Experiment, Verdict

CEILING = 65536
LADDER = (1024, 16384, 32768, CEILING, 2 * CEILING)
STEP = {"full": 32, "small": 8192}  # between the largest that is right and the smallest that is not
COLUMNS = 32
KINDS = {
    "contraction": features.CONTRACTION,
    "width": features.WIDE_AXIS,
    "channels": features.MANY_CHANNELS,
}


class MatmulCeiling(Probe):
    name = "matmul-ceiling"
    question = "Is 65,536 the most that an axis, and the contraction of a matmul, may have?"
    hypothesis = (
        "65,536 compile and are right, more are refused; before M4 the limit of width and contraction is 16,384"
    )
    source = "a compiler project's caps for M1 to M6 (C11)"
    rules = ("contraction-limit", "axis-limit", "channel-limit")

    def trials(self, scale: Scale) -> Sequence[Trial]:
        return [_trial(kind, size) for kind in KINDS for size in LADDER]

    def follow_up(self, scale: Scale, experiments: Sequence[Experiment]) -> Sequence[Trial]:
        middles = []
        for kind in KINDS:
            right, other = _limits(kind, experiments)
            if right is not None and other is not None and other - right > STEP[scale]:
                middles.append(_trial(kind, (right + other) // 2 // COLUMNS * COLUMNS))
        return middles

    def experiment(self, lab: Lab, trial: Trial) -> dict[str, Any]:
        kind, size, random = trial.parameters["kind"], int(str(trial.parameters["size"])), lab.random()
        graph = Graph()
        if kind == "contraction":
            x, w = graph.input("a_x", (1, 1, 1, size)), graph.input("b_w", (1, COLUMNS, 1, size))
            columns = graph.reshape(w, (1, 1, COLUMNS, size))
            graph.output("y", graph.matmul(x, columns, transpose_y=True))
            samples = [_product(random, size) for _ in range(2)]
        else:
            shape = (1, 1, 1, size) if kind == "width" else (1, size, 1, COLUMNS)
            graph.output("y", graph.input("a_x", shape) * 2.0)
            samples = [_double(whole_numbers(random, shape)) for _ in range(2)]
        return observe(lab.device, graph.program(lab.device.facts["dialect"]), samples, label=trial.name)

    def judge(self, experiments: Sequence[Experiment]) -> Verdict:
        filled = {feature: worked(named(experiments, _name(kind, CEILING))) for kind, feature in KINDS.items()}
        answer = combined(_is_ceiling(kind, experiments) for kind in KINDS)
        sentence = "; ".join(_said(kind, experiments) for kind in KINDS)
        return self.verdict(experiments, answer, sentence, filled)


def _name(kind: str, size: int) -> str:
    return f"{kind} {size}"


def _trial(kind: str, size: int) -> Trial:
    return Trial(_name(kind, size), {"kind": kind, "size": size}, timeout_s=120.0)


def _of(kind: str, experiments: Sequence[Experiment]) -> dict[int, Experiment]:
    return {int(str(made.parameters["size"])): made for made in experiments if made.parameters["kind"] == kind}


def _limits(kind: str, experiments: Sequence[Experiment]) -> tuple[int | None, int | None]:
    """The largest that is right, and the smallest above it that is not."""
    answers = {size: worked(made) for size, made in _of(kind, experiments).items()}
    right = max((size for size, answer in answers.items() if answer == "yes"), default=None)
    others = [size for size, answer in answers.items() if answer == "no" and (right is None or size > right)]
    return right, min(others, default=None)


def _is_ceiling(kind: str, experiments: Sequence[Experiment]) -> Answer:
    right, other = _limits(kind, experiments)
    if right is None or (other is None and right <= CEILING):
        return "unknown"
    return "yes" if right == CEILING else "no"


def _said(kind: str, experiments: Sequence[Experiment]) -> str:
    right, other = _limits(kind, experiments)
    said = f"{kind}: right up to {right:,}" if right is not None else f"{kind}: none is right"
    if other is None:
        return said + ", no larger one was tried that is not"
    return said + f"; {other:,}: {phrase(_of(kind, experiments)[other])}"


def _product(random: np.random.Generator, size: int) -> Sample:
    """Ones of either sign: sums stay small however long they are."""
    x, w = whole_numbers(random, (1, 1, 1, size), 1), whole_numbers(random, (1, COLUMNS, 1, size), 1)
    y = x.reshape(1, size).astype(np.float64) @ w.reshape(COLUMNS, size).astype(np.float64).T
    return Sample({"a_x": x, "b_w": w}, {"y": y.reshape(1, 1, 1, COLUMNS)})


def _double(x: Array) -> Sample:
    return Sample({"a_x": x}, {"y": x * 2})
