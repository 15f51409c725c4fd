"""Operations that some found refused, with and without the arguments they need."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from anetrain.bench.base import Lab, Scale
from anetrain.mil import Graph, Value
from anetrain.probe import features
from anetrain.probe.base import Probe, Trial
from anetrain.probe.judging import combined, evidence, named, opposite, worked
from anetrain.probe.samples import Array, Sample, observe
from anetrain.results import Experiment, Verdict

SHAPE = (1, 4, 1, 32)
EXACT, GELU_TABLE = 2e-3, 1e-2  # of the largest


@dataclass(frozen=True)
class Form:
    build: Callable[[Graph, Value], Value]
    meaning: Callable[[Array], Array]
    without: str = ""
    """This argument is taken out of the text: such a program should be refused."""
    allowed: float = EXACT


def _concat(count: int) -> Form:
    return Form(
        lambda g, x: g.concat([x * float(i + 1) for i in range(count)], 1, interleave=False),
        lambda x: np.concatenate([x * (i + 1) for i in range(count)], axis=1),
    )


def _gelu(x: Array) -> Array:
    return np.asarray(0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))))


RSQRT = Form(lambda g, x: g.rsqrt(g.mul(x, x), epsilon=1e-5), lambda x: (x * x + 1e-5) ** -0.5)
GELU = Form(lambda g, x: g.gelu(x, mode="EXACT"), _gelu, allowed=GELU_TABLE)
FORMS: Mapping[str, Form] = {
    "concat of 2": _concat(2),
    "concat of 12": _concat(12),
    "rsqrt with epsilon": RSQRT,
    "rsqrt without epsilon": replace(RSQRT, without="epsilon"),
    "pow of -0.5": Form(lambda g, x: g.pow(g.mul(x, x) + 1e-5, -0.5), RSQRT.meaning),
    "gelu with mode": GELU,
    "gelu without mode": replace(GELU, without="mode"),
    "reduce_mean": Form(
        lambda g, x: g.reduce_mean(x, axes=(1,), keep_dims=True), lambda x: x.mean(axis=1, keepdims=True)
    ),
}
OF_FEATURE = {
    features.CONCAT: ("concat of 2", "concat of 12"),
    features.RSQRT: ("rsqrt with epsilon",),
    features.GELU: ("gelu with mode",),
    features.REDUCE_MEAN: ("reduce_mean",),
}


class OpForms(Probe):
    name = "op-forms"
    question = "Do concat, reduce_mean, and rsqrt and gelu with all their arguments, work?"
    hypothesis = (
        "concat and reduce_mean work; rsqrt needs its epsilon and gelu its mode, and where these were called invalid "
        "they were missing"
    )
    source = (
        "reports of refusals on M3 Max, M4, M5 and M1 (C1, C7, C8, C9), each contradicted by projects that use them"
    )
    rules = ("concat", "rsqrt", "gelu", "reduce-mean", "evidence")

    def trials(self, scale: Scale) -> Sequence[Trial]:
        return [Trial(name) for name in FORMS]

    def experiment(self, lab: Lab, trial: Trial) -> dict[str, Any]:
        form, random = FORMS[trial.name], lab.random()
        graph = Graph()
        graph.output("y", form.build(graph, graph.input("a_x", SHAPE)))
        source = graph.program(lab.device.facts["dialect"])
        if form.without:
            text, found = re.subn(rf",\s*{form.without} = \w+", "", source.text)
            assert found == 1, f"{form.without} stands {found} times in the text"
            source = replace(source, text=text)
        samples = [_sample(random, form) for _ in range(2)]
        return observe(lab.device, source, samples, allowed=form.allowed, label=trial.name)

    def judge(self, experiments: Sequence[Experiment]) -> Verdict:
        found = {name: worked(named(experiments, name)) for name in FORMS}
        filled = {feature: combined(found[name] for name in names) for feature, names in OF_FEATURE.items()}
        incomplete = [opposite(found[name]) for name, form in FORMS.items() if form.without]
        answer = combined([*filled.values(), *incomplete])
        working = ", ".join(feature for feature, answered in filled.items() if answered == "yes") or "none of them"
        return self.verdict(experiments, answer, f"These work: {working}. {evidence(experiments)}", filled)


def _sample(random: np.random.Generator, form: Form) -> Sample:
    """Powers of two of either sign: squares and their roots are exact."""
    x = 2.0 ** random.integers(-1, 3, SHAPE) * random.choice((-1, 1), SHAPE)
    return Sample({"a_x": x.astype(np.float16)}, {"y": form.meaning(x)})
