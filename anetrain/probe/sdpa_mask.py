"""Does `scaled_dot_product_attention` apply its mask?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from anetrain.bench.base import Lab, Scale
from anetrain.mil import Graph, Value
from anetrain.mil.text import Program as Source
from anetrain.probe import features
from anetrain.probe.base import Probe, Trial
from anetrain.probe.judging import combined, evidence, opposite
from anetrain.probe.samples import Array, Sample, observe
from anetrain.results import Answer, Experiment, Verdict

MASKED = -1e4
ALLOWED = 2e-2  # of the largest: exp and the division are the engine's own
IGNORED = "as without a mask"
INLINE, BLOB, RUN_TIME = "mask in the text", "mask in a blob", "mask as an input"
NONE, COMPOSED = "no mask", "matmul, add, softmax, matmul"
LARGE = ", 64 heads"
SMALL_SIZE, LARGE_SIZE = (1, 32, 32), (64, 496, 64)  # heads, positions, head_dim: from the larger on it is routed (C5)


class SdpaMask(Probe):
    name = "sdpa-mask"
    question = "Is the mask of scaled_dot_product_attention ignored?"
    hypothesis = "the operation compiles and runs, and leaves its attn_mask out, wherever the mask stands"
    source = "three projects on M4 and M5 (C6); nobody has seen it applied"
    rules = ("sdpa-mask-ignored",)

    def trials(self, scale: Scale) -> Sequence[Trial]:
        names = [NONE, INLINE, BLOB, RUN_TIME, COMPOSED]
        if scale == "full":
            names += [NONE + LARGE, BLOB + LARGE]
        return [Trial(name, timeout_s=300.0 if LARGE in name else 60.0) for name in names]

    def experiment(self, lab: Lab, trial: Trial) -> dict[str, Any]:
        random = lab.random()
        size = LARGE_SIZE if LARGE in trial.name else SMALL_SIZE
        form = trial.name.removesuffix(LARGE)
        samples = [_sample(random, size, form) for _ in range(2)]
        return observe(lab.device, _source(size, form), samples, allowed=ALLOWED, label=trial.name)

    def judge(self, experiments: Sequence[Experiment]) -> Verdict:
        masked = [made for made in experiments if made.name.startswith("mask ")]
        answer = combined(_ignored(made) for made in masked if made.status != "refused")
        return self.verdict(
            experiments, answer, f"{SAID[answer]}: {evidence(experiments)}", {features.SDPA_MASK: opposite(answer)}
        )


SAID: dict[Answer, str] = {
    "yes": "The mask is ignored",
    "no": "The mask is not ignored",
    "partly": "The mask is ignored in some forms",
    "unknown": "Whether the mask is ignored was not seen",
}


def _ignored(made: Experiment) -> Answer:
    if made.status != "done":
        return "unknown"
    return "yes" if made.observed["values"] == IGNORED else "no"


def _causal(positions: int) -> Array:
    """[1, 1, P, P]: 0 where a position may look, else far below every score."""
    later = np.triu(np.ones((positions, positions), bool), 1)
    return np.asarray(np.where(later, np.float16(MASKED), np.float16(0))[None, None])


def _source(size: tuple[int, int, int], form: str) -> Source:
    """In the new dialect: the old one does not have the operation."""
    heads, positions, head_dim = size
    graph = Graph()
    border, inside = (1, heads * positions, 1, head_dim), (1, heads, positions, head_dim)
    q, k, v = (graph.reshape(graph.input(name, border), inside) for name in ("a_q", "b_k", "c_v"))
    mask: Value | None = None
    if form == RUN_TIME:
        given = graph.input("d_mask", (1, positions, 1, positions))
        mask = graph.reshape(given, (1, 1, positions, positions))
    elif form != NONE:
        mask = graph.constant(_causal(positions), "mask", inline=form == INLINE)
    if form == COMPOSED:
        assert mask is not None
        scores = graph.matmul(q * head_dim**-0.5, k, transpose_y=True)
        y = graph.matmul(graph.softmax(scores + mask, axis=-1), v)
    else:
        y = graph.scaled_dot_product_attention(q, k, v, mask)
    graph.output("y", graph.reshape(y, border))
    return graph.program("B")


def _sample(random: np.random.Generator, size: tuple[int, int, int], form: str) -> Sample:
    heads, positions, head_dim = size
    q, k, v = (random.standard_normal((heads, positions, head_dim)).astype(np.float16) for _ in range(3))
    border = (1, heads * positions, 1, head_dim)
    mask = _causal(positions)[0]
    plain, masked = (_attention(q, k, v, added).reshape(border) for added in (np.zeros_like(mask), mask))
    inputs = {"a_q": q.reshape(border), "b_k": k.reshape(border), "c_v": v.reshape(border)}
    if form == RUN_TIME:
        inputs["d_mask"] = mask.reshape(1, positions, 1, positions)
    if form == NONE:
        return Sample(inputs, {"y": plain})
    return Sample(inputs, {"y": masked}, {IGNORED: {"y": plain}})


def _attention(q: Array, k: Array, v: Array, mask: Array) -> Array:
    """In float64, head by head."""
    queries, keys, values = (array.astype(np.float64) for array in (q, k, v))
    scores = queries @ keys.transpose(0, 2, 1) * q.shape[-1] ** -0.5 + mask
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray((weights / weights.sum(axis=-1, keepdims=True)) @ values)
