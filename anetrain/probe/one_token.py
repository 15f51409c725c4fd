"""Feed-forward and attention of a single token: what decoding text needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from anetrain.bench.base import Lab, Scale
from anetrain.mil import Graph
from anetrain.mil.text import Program as Source
from anetrain.probe import features
from anetrain.probe.base import Probe, Trial
from anetrain.probe.judging import combined, evidence, named, opposite, worked
from anetrain.probe.samples import Array, Arrays, Sample, observe
from anetrain.results import Answer, Experiment, Verdict

DIM, HIDDEN, HEADS = 64, 128, 4
PADDED = 32
CACHE, UNEVEN_CACHE = 64, 96  # positions; the second no power of two
ALLOWED = 2e-2  # of the largest: tables of sigmoid and exp are up to 3.4e-3 off
FFN_1, FFN_32 = "feed-forward of width 1", "feed-forward padded to 32"
ATTENTION_1, ATTENTION_32 = "attention of width 1", "attention padded to 32"
UNEVEN = f"attention over {UNEVEN_CACHE} positions"


class OneToken(Probe):
    name = "one-token"
    question = "Does a single token run where it is padded to a width of 32, and only there?"
    hypothesis = (
        "feed-forward and decode attention of one token are right with the token in column 0 of 32, and refused, "
        "failing or wrong at width 1; attention over any number of positions works"
    )
    source = "decoders for M3 Max (C47); one says that softmax needs a power of two (C19), others contradict"
    rules = ("border-width", "softmax-power-of-two")

    def trials(self, scale: Scale) -> Sequence[Trial]:
        return [Trial(name) for name in (FFN_1, FFN_32, ATTENTION_1, ATTENTION_32, UNEVEN)]

    def experiment(self, lab: Lab, trial: Trial) -> dict[str, Any]:
        random, dialect = lab.random(), lab.device.facts["dialect"]
        width = 1 if trial.name in (FFN_1, ATTENTION_1) else PADDED
        if trial.name in (FFN_1, FFN_32):
            weights = _weights(random)
            samples = [_ffn_sample(_token(random, width), weights) for _ in range(2)]
            return observe(lab.device, _ffn(width, weights, dialect), samples, allowed=ALLOWED, label=trial.name)
        positions = UNEVEN_CACHE if trial.name == UNEVEN else CACHE
        samples = [_attention_sample(random, width, positions) for _ in range(2)]
        source = _attention(width, positions, dialect)
        return observe(lab.device, source, samples, allowed=ALLOWED, label=trial.name)

    def judge(self, experiments: Sequence[Experiment]) -> Verdict:
        def all_of(*names: str) -> Answer:
            return combined(worked(named(experiments, name)) for name in names)

        padded, narrow, uneven = all_of(FFN_32, ATTENTION_32), all_of(FFN_1, ATTENTION_1), all_of(UNEVEN)
        filled: dict[str, Answer] = {
            features.ONE_TOKEN_PADDED: padded,
            features.ONE_TOKEN: narrow,
            features.ANY_SOFTMAX: uneven,
        }
        answer = combined((padded, opposite(narrow), uneven))
        sentence = f"Padded to 32: {padded}; of width 1: {narrow}. {evidence(experiments)}"
        return self.verdict(experiments, answer, sentence, filled)


def _token(random: np.random.Generator, width: int, channels: int = DIM) -> Array:
    """[1, C, 1, W], all but column 0 padding."""
    x = np.zeros((1, channels, 1, width), np.float16)
    x[..., 0] = random.standard_normal((1, channels, 1))
    return x


def _weights(random: np.random.Generator) -> Arrays:
    shapes = {"w1": (HIDDEN, DIM), "w2": (DIM, HIDDEN), "w3": (HIDDEN, DIM)}
    drawn = {name: random.standard_normal(shape) / np.sqrt(shape[1]) for name, shape in shapes.items()}
    return {name: weight.astype(np.float16) for name, weight in drawn.items()}


def _ffn(width: int, weights: Arrays, dialect: str) -> Source:
    graph = Graph()
    kernels = {name: graph.constant(weight[:, :, None, None], name) for name, weight in weights.items()}
    x = graph.input("a_x", (1, DIM, 1, width))
    h = graph.conv(x, kernels["w1"])
    graph.output("y", graph.conv(h * graph.sigmoid(h) * graph.conv(x, kernels["w3"]), kernels["w2"]))
    return graph.program(dialect)


def _ffn_sample(x: Array, weights: Arrays) -> Sample:
    w1, w2, w3 = (weights[name].astype(np.float64) for name in ("w1", "w2", "w3"))
    columns = x[0, :, 0].astype(np.float64)
    h = w1 @ columns
    y = w2 @ (h / (1 + np.exp(-h)) * (w3 @ columns))
    return Sample({"a_x": x}, {"y": y[None, :, None]})


def _attention(width: int, positions: int, dialect: str) -> Source:
    """Of queries in columns, over keys and values that are inputs, too: y = V softmax(q^T K)^T, for each head."""
    graph, head_dim = Graph(), DIM // HEADS
    q = graph.reshape(graph.input("a_q", (1, DIM, 1, width)), (1, HEADS, head_dim, width))
    k, v = (
        graph.reshape(graph.input(name, (1, DIM, 1, positions)), (1, HEADS, head_dim, positions))
        for name in ("b_k", "c_v")
    )
    scores = graph.matmul(q * head_dim**-0.5, k, transpose_x=True)  # [1, H, W, P]
    y = graph.matmul(v, graph.softmax(scores, axis=-1), transpose_y=True)  # [1, H, head_dim, W]
    graph.output("y", graph.reshape(y, (1, DIM, 1, width)))
    return graph.program(dialect)


def _attention_sample(random: np.random.Generator, width: int, positions: int) -> Sample:
    q = _token(random, width)
    k, v = (random.standard_normal((1, DIM, 1, positions)).astype(np.float16) for _ in range(2))
    heads = [array.reshape(HEADS, DIM // HEADS, -1).astype(np.float64) for array in (q, k, v)]
    scores = np.einsum("hdw,hdp->hwp", heads[0], heads[1]) * (DIM // HEADS) ** -0.5
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    y = np.einsum("hdp,hwp->hdw", heads[2], weights).reshape(1, DIM, 1, width)
    return Sample({"a_q": q, "b_k": k, "c_v": v}, {"y": y})
