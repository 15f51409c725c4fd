"""Attention: causal, composed of products and a softmax as training does it; and the engine's own operation for it.

The operation ignores its mask on every chip that was asked, so it is measured without one, beside the composed form
without one. FLOPs are those of both products over all pairs of positions, also where a mask hides half of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from anetrain.bench.base import Bench, Case, Lab, Scale, compare
from anetrain.bench.linked import Linked
from anetrain.mil import Graph
from anetrain.mil.graph import Value
from anetrain.results import Finding, Measurement, Scalar

HIDDEN = -30000.0  # added to a score that must not count: finite in fp16, and its power is 0
ALLOWED = 0.01  # of the largest value: scores and probabilities are rounded to fp16, and exp of a score's error is one
HALF = 2

Array = npt.NDArray[np.float64]
FORMS = ("causal", "all pairs", "all pairs, one operation")


@dataclass(frozen=True)
class Shape:
    """Query heads, heads of keys and values, elements of a head, positions."""

    heads: int
    kv_heads: int
    head_dim: int
    positions: int

    @property
    def name(self) -> str:
        of = "" if self.kv_heads == self.heads else f"/{self.kv_heads}"
        return f"{self.heads}{of} heads of {self.head_dim}, {self.positions} positions"

    @property
    def parameters(self) -> dict[str, Scalar]:
        return {
            "heads": self.heads,
            "kv_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "positions": self.positions,
        }

    @property
    def group(self) -> int:
        """Query heads that share a head of keys and values."""
        return self.heads // self.kv_heads

    @property
    def flops(self) -> int:
        return 4 * self.heads * self.positions**2 * self.head_dim

    @property
    def bytes_moved(self) -> int:
        return HALF * 2 * (self.heads + self.kv_heads) * self.head_dim * self.positions


STORIES, QWEN = (12, 12, 64), (16, 8, 128)
SHAPES: dict[Scale, tuple[Shape, ...]] = {
    "full": (*(Shape(*STORIES, positions) for positions in (64, 128, 256, 512, 1024)), Shape(*QWEN, 256)),
    "small": (Shape(2, 2, 32, 64), Shape(4, 2, 32, 64)),
}


class Attention(Bench):
    name = "attention"
    question = "What does attention cost, by length and by form?"
    columns: ClassVar[tuple[str, ...]] = ("gflop", "ms", "tflops")

    def cases(self, scale: Scale) -> Sequence[Case]:
        return [
            Case(f"{shape.name}, {form}", shape.parameters | {"form": form})
            for shape in SHAPES[scale]
            for form in FORMS
        ]

    def measure(self, lab: Lab, case: Case) -> Measurement:
        sizes = (int(case.parameters[name] or 0) for name in ("heads", "kv_heads", "head_dim", "positions"))
        shape, form = Shape(*sizes), str(case.parameters["form"])
        arrays = random_inputs(shape, lab.random())
        graph = one_operation(shape) if form == FORMS[2] else composed(shape, causal=form == FORMS[0])
        linked = Linked.of(lab.device, [graph], arrays, case.name)
        linked.run()
        expected = attention(shape, arrays, causal=form == FORMS[0])
        check = compare(linked.read("y"), expected, allowed=ALLOWED, against="numpy in float64")
        return self.timed(
            case,
            check,
            lambda: lab.meter.time(linked.run),
            flops=shape.flops,
            bytes_moved=shape.bytes_moved,
            activation_bytes=shape.bytes_moved,
        )

    def findings(self, measured: Sequence[Measurement]) -> Sequence[Finding]:
        """The operation beside the composed form, where both were measured."""
        timed = {one.case: one for one in measured if one.timing is not None}
        found = []
        for case, composed_one in timed.items():
            single = timed.get(f"{case}, one operation")
            if single is None:
                continue
            ratio = single.figures["ms"] / composed_one.figures["ms"]
            found.append(
                Finding(
                    bench=self.name,
                    question="Is the engine's own operation for attention faster?",
                    answer=f"It takes {ratio:.2f} times as long as products and softmax: {case}.",
                    figures={"ratio": ratio},
                    basis=(case, single.case),
                )
            )
        return found


# ---------------------------------------------------------------- programs


def composed(shape: Shape, *, causal: bool) -> Graph:
    graph = Graph()
    q, k, v = inputs_of(graph, shape)
    probabilities = graph.softmax(scores(graph, shape, q, k, causal=causal), axis=-1)
    graph.output("y", weighted(graph, shape, probabilities, v))
    return graph


def inputs_of(graph: Graph, shape: Shape) -> tuple[Value, Value, Value]:
    kv = (1, shape.kv_heads * shape.head_dim, 1, shape.positions)
    q = graph.input("a_q", (1, shape.heads * shape.head_dim, 1, shape.positions))
    return q, graph.input("b_k", kv), graph.input("c_v", kv)


def scores(graph: Graph, shape: Shape, q: Value, k: Value, *, causal: bool) -> Value:
    """-> [1, kv, group * S, S]: rows of a group's heads one below the other, so that keys are not repeated."""
    kv, group, d, s = shape.kv_heads, shape.group, shape.head_dim, shape.positions
    folded = q * (1 / math.sqrt(d))
    rows = graph.transpose(graph.reshape(folded, (kv, group, d, s)), (0, 1, 3, 2))  # [kv, group, S, d]
    products = graph.matmul(graph.reshape(rows, (1, kv, group * s, d)), graph.reshape(k, (1, kv, d, s)))
    if not causal:
        return products
    mask = np.triu(np.full((s, s), HIDDEN, np.float16), 1)
    return products + graph.constant(np.tile(mask, (group, 1))[None, None], name="mask")  # [1, 1, group * S, S]


def weighted(graph: Graph, shape: Shape, probabilities: Value, v: Value) -> Value:
    """[1, kv, group * S, S] -> [1, C, 1, S]"""
    kv, group, d, s = shape.kv_heads, shape.group, shape.head_dim, shape.positions
    values = graph.reshape(v, (1, kv, d, s))
    rows = graph.matmul(probabilities, values, transpose_y=True)  # [1, kv, group * S, d]
    columns = graph.transpose(graph.reshape(rows, (kv, group, s, d)), (0, 1, 3, 2))  # [kv, group, d, S]
    return graph.reshape(columns, (1, shape.heads * d, 1, s))


def one_operation(shape: Shape) -> Graph:
    """Keys and values of a group are repeated by concat: the operation knows no groups."""
    graph = Graph()
    q, k, v = inputs_of(graph, shape)
    d, s = shape.head_dim, shape.positions

    def rows(value: Value, heads: int) -> Value:  # -> [1, heads, S, d]
        return graph.transpose(graph.reshape(value, (1, heads, d, s)), (0, 1, 3, 2))

    def repeated(value: Value) -> Value:
        split = graph.reshape(rows(value, shape.kv_heads), (shape.kv_heads, 1, s, d))
        each = split if shape.group == 1 else graph.concat([split] * shape.group, axis=1)
        return graph.reshape(each, (1, shape.heads, s, d))

    y = graph.scaled_dot_product_attention(rows(q, shape.heads), repeated(k), repeated(v))  # [1, heads, S, d]
    graph.output("y", graph.reshape(graph.transpose(y, (0, 1, 3, 2)), (1, shape.heads * d, 1, s)))
    return graph


# ---------------------------------------------------------------- what is right


def random_inputs(shape: Shape, random: np.random.Generator) -> dict[str, npt.NDArray[np.float16]]:
    def made(heads: int) -> npt.NDArray[np.float16]:
        size = (1, heads * shape.head_dim, 1, shape.positions)
        return random.standard_normal(size, np.float32).astype(np.float16)

    return {"a_q": made(shape.heads), "b_k": made(shape.kv_heads), "c_v": made(shape.kv_heads)}


def attention(shape: Shape, arrays: dict[str, npt.NDArray[np.float16]], *, causal: bool) -> Array:
    """Head by head, as in a textbook. -> [1, C, 1, S]"""
    d, s = shape.head_dim, shape.positions
    q, k, v = (
        arrays[name].astype(np.float64).reshape(-1, d, s).transpose(0, 2, 1) for name in ("a_q", "b_k", "c_v")
    )  # [heads, S, d]
    heads = []
    for head in range(shape.heads):
        products = q[head] @ k[head // shape.group].T / math.sqrt(d)
        if causal:
            products[np.triu_indices(s, 1)] = -np.inf
        powers = np.exp(products - products.max(-1, keepdims=True))
        heads.append((powers / powers.sum(-1, keepdims=True)) @ v[head // shape.group])  # [S, d]
    y: Array = np.stack(heads).transpose(0, 2, 1).reshape(1, shape.heads * d, 1, s)
    return y
