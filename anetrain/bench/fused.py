"""What a dispatch costs: the same work as one program, and as several that run one after the other.

Programs hand their results on without a copy, so that what separate ones take longer is dispatches, and results that
leave the engine and come back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from anetrain.bench import attention
from anetrain.bench.attention import Shape
from anetrain.bench.base import Bench, Case, Lab, Scale, compare
from anetrain.bench.convolutions import CAUTION, HALF, ROUNDING, Stack, after
from anetrain.bench.linked import Linked
from anetrain.mil import Graph
from anetrain.mil.graph import Value
from anetrain.results import Finding, Measurement, Scalar

Arrays = Mapping[str, npt.NDArray[np.float16]]
TABLES = 0.02  # of the largest value: chips look sigmoid up in tables, and are off by up to 0.4 % of its range


@dataclass(frozen=True)
class Work:
    """The same computation in both ways: `fused` is one graph whose output is "y", `separate` several, whose results
    stand one below the other in it. `expected`: in float64."""

    fused: Graph
    separate: Sequence[Graph]
    arrays: Arrays
    expected: npt.NDArray[np.float64]
    allowed: float
    flops: int
    weight_bytes: int
    activation_bytes: int
    results: tuple[str, ...] = ("y",)
    """Of the separate programs."""


@dataclass(frozen=True)
class _Sizes:
    channels: int  # of chains
    chains: tuple[int, ...]
    dim: int
    hidden: int
    heads: int
    positions: int


SIZES: Mapping[Scale, _Sizes] = {
    "full": _Sizes(256, (1, 2, 4, 8, 16, 32), 768, 2048, 12, 256),
    "small": _Sizes(32, (1, 2, 4), 64, 96, 2, 64),
}
POSITIONS = 64  # of chains


class Fused(Bench):
    name = "fused"
    question = "What does a dispatch cost, and what does fusing programs save?"
    columns: ClassVar[tuple[str, ...]] = ("dispatches", "gflop", "ms", "tflops")

    def cases(self, scale: Scale) -> Sequence[Case]:
        sizes = SIZES[scale]
        layer: dict[str, Scalar] = {
            "dim": sizes.dim,
            "hidden": sizes.hidden,
            "heads": sizes.heads,
            "positions": sizes.positions,
        }
        works: list[tuple[str, str, dict[str, Scalar]]] = [
            (f"chain of {length}", "chain", {"channels": sizes.channels, "length": length}) for length in sizes.chains
        ]
        works += [("QKV", "qkv", layer), ("attention", "attention", layer), ("feed-forward", "feed_forward", layer)]
        return [
            Case(f"{name}, {way}", {"work": work, "way": way, **known})
            for name, work, known in works
            for way in (("fused",) if known.get("length") == 1 else ("fused", "separate"))
        ]

    def measure(self, lab: Lab, case: Case) -> Measurement:
        work = WORKS[str(case.parameters["work"])](case.parameters, lab.random())
        fused = case.parameters["way"] == "fused"
        graphs = [work.fused] if fused else work.separate
        linked = Linked.of(lab.device, graphs, work.arrays, case.name)
        linked.run()
        found = np.concatenate([linked.read(name) for name in (("y",) if fused else work.results)], axis=1)
        check = compare(found, work.expected, allowed=work.allowed, against="numpy in float64")
        return self.timed(
            case,
            check,
            lambda: lab.meter.time(linked.run),
            flops=work.flops,
            weight_bytes=work.weight_bytes,
            activation_bytes=work.activation_bytes,
            bytes_moved=work.weight_bytes + work.activation_bytes,
            observed={"dispatches": len(graphs)},
        )

    def findings(self, measured: Sequence[Measurement]) -> Sequence[Finding]:
        timed = {one.case: one for one in measured if one.timing is not None}
        return [*_of_a_dispatch(list(timed.values())), *_savings(timed)]


def _of_a_dispatch(timed: Sequence[Measurement]) -> Sequence[Finding]:
    """Slopes of both lines over the length of a chain; their difference is what a dispatch more costs."""
    lines = {}
    for way in ("fused", "separate"):
        chains = [one for one in timed if one.parameters["work"] == "chain" and one.parameters["way"] == way]
        if len(chains) < 2:
            return []
        lengths = [float(one.parameters["length"] or 0) for one in chains]
        lines[way] = (float(np.polyfit(lengths, [one.figures["ms"] for one in chains], 1)[0]), chains)
    layer_us, program_us = 1e3 * lines["fused"][0], 1e3 * lines["separate"][0]
    dispatch_us = program_us - layer_us
    return [
        Finding(
            bench=Fused.name,
            question="What does a dispatch more cost?",
            answer=f"{dispatch_us:.0f} us: a program more takes {program_us:.0f} us, the same layer within a program "
            f"takes {layer_us:.0f} us.",
            figures={"dispatch_us": dispatch_us, "program_us": program_us, "layer_us": layer_us},
            basis=tuple(one.case for _, chains in lines.values() for one in chains),
        )
    ]


def _savings(timed: Mapping[str, Measurement]) -> list[Finding]:
    found = []
    for case, fused in timed.items():
        name = case.removesuffix(", fused")
        separate = timed.get(f"{name}, separate")
        if name == case or separate is None or fused.parameters["work"] == "chain":
            continue
        ratio = separate.figures["ms"] / fused.figures["ms"]
        found.append(
            Finding(
                bench=Fused.name,
                question=f"What does fusing save: {name}?",
                answer=f"{separate.observed['dispatches']} programs take {separate.figures['ms']:.3f} ms, one takes "
                f"{fused.figures['ms']:.3f} ms: {ratio:.2f} times faster.",
                figures={"ratio": ratio},
                basis=(case, separate.case),
            )
        )
    return found


# ---------------------------------------------------------------- the works


def chain(parameters: Mapping[str, Scalar], random: np.random.Generator) -> Work:
    """So many small convolutions."""
    stack = Stack(int(parameters["channels"] or 0), int(parameters["length"] or 0), POSITIONS)
    weights, x = stack.weights(random), stack.input(random)
    names = ["a_x", *(f"h{layer:02}" for layer in range(1, stack.layers)), "y"]
    separate = []
    for layer, matrix in enumerate(weights):
        graph = Graph()
        value = graph.input(names[layer], (1, stack.channels, 1, POSITIONS))
        graph.output(names[layer + 1], linear(graph, value, matrix, "w"))
        separate.append(graph)
    return Work(
        fused=stack.graph(weights),
        separate=separate,
        arrays={"a_x": x.reshape(1, stack.channels, 1, POSITIONS)},
        expected=after(weights, x).reshape(1, stack.channels, 1, POSITIONS),
        allowed=stack.allowed,
        flops=stack.flops,
        weight_bytes=stack.weight_bytes,
        activation_bytes=stack.activation_bytes,
    )


def qkv(parameters: Mapping[str, Scalar], random: np.random.Generator) -> Work:
    """Three linears of one input. Fused, their results are one output, one below the other."""
    dim, positions = _sizes(parameters, "dim", "positions")
    x = _values(random, dim, positions)
    weights = [_matrix(random, dim, dim) for _ in range(3)]
    fused = Graph()
    value = fused.input("a_x", (1, dim, 1, positions))
    fused.output("y", fused.concat([linear(fused, value, w, f"w{i}") for i, w in enumerate(weights)], axis=1))
    separate = []
    for index, matrix in enumerate(weights):
        graph = Graph()
        graph.output(f"y{index}", linear(graph, graph.input("a_x", (1, dim, 1, positions)), matrix, "w"))
        separate.append(graph)
    expected = np.concatenate([w.astype(np.float64) @ x.reshape(dim, positions) for w in weights])
    return Work(
        fused=fused,
        separate=separate,
        arrays={"a_x": x},
        expected=expected.reshape(1, 3 * dim, 1, positions),
        allowed=CAUTION * ROUNDING,
        flops=3 * 2 * dim * dim * positions,
        weight_bytes=3 * HALF * dim * dim,
        activation_bytes=4 * HALF * dim * positions,
        results=("y0", "y1", "y2"),
    )


def attention_work(parameters: Mapping[str, Scalar], random: np.random.Generator) -> Work:
    """Causal: scores, softmax, weighted sum."""
    dim, heads, positions = _sizes(parameters, "dim", "heads", "positions")
    shape = Shape(heads, heads, dim // heads, positions)
    between = (1, heads * positions, 1, positions)  # at a border channels and width alone may be large
    inside = (1, heads, positions, positions)
    q_k, softmax, sums = Graph(), Graph(), Graph()
    full = (1, dim, 1, positions)
    q, k = q_k.input("a_q", full), q_k.input("b_k", full)
    q_k.output("d_scores", q_k.reshape(attention.scores(q_k, shape, q, k, causal=True), between))
    found = softmax.reshape(softmax.input("d_scores", between), inside)
    softmax.output("e_probabilities", softmax.reshape(softmax.softmax(found, axis=-1), between))
    v = sums.input("c_v", full)
    probabilities = sums.reshape(sums.input("e_probabilities", between), inside)
    sums.output("y", attention.weighted(sums, shape, probabilities, v))
    arrays = attention.random_inputs(shape, random)
    return Work(
        fused=attention.composed(shape, causal=True),
        separate=[q_k, softmax, sums],
        arrays=arrays,
        expected=attention.attention(shape, arrays, causal=True),
        allowed=attention.ALLOWED,
        flops=shape.flops,
        weight_bytes=0,
        activation_bytes=shape.bytes_moved,
    )


def feed_forward(parameters: Mapping[str, Scalar], random: np.random.Generator) -> Work:
    """w2 (silu(w1 x) * w3 x): four programs, or one."""
    dim, hidden, positions = _sizes(parameters, "dim", "hidden", "positions")
    x = _values(random, dim, positions)
    w1, w3, w2 = _matrix(random, hidden, dim), _matrix(random, hidden, dim), _matrix(random, dim, hidden)
    narrow, wide = (1, dim, 1, positions), (1, hidden, 1, positions)

    def gated(graph: Graph, up: Value, gate: Value) -> Value:
        return up * graph.sigmoid(up) * gate

    fused = Graph()
    value = fused.input("a_x", narrow)
    hidden_value = gated(fused, linear(fused, value, w1, "w1"), linear(fused, value, w3, "w3"))
    fused.output("y", linear(fused, hidden_value, w2, "w2"))
    first, second, third, fourth = Graph(), Graph(), Graph(), Graph()
    first.output("b_up", linear(first, first.input("a_x", narrow), w1, "w1"))
    second.output("c_gate", linear(second, second.input("a_x", narrow), w3, "w3"))
    third.output("d_hidden", gated(third, third.input("b_up", wide), third.input("c_gate", wide)))
    fourth.output("y", linear(fourth, fourth.input("d_hidden", wide), w2, "w2"))
    columns = x.reshape(dim, positions).astype(np.float64)
    up, gate = w1.astype(np.float64) @ columns, w3.astype(np.float64) @ columns
    expected = w2.astype(np.float64) @ (up / (1 + np.exp(-up)) * gate)
    return Work(
        fused=fused,
        separate=[first, second, third, fourth],
        arrays={"a_x": x},
        expected=expected.reshape(narrow),
        allowed=TABLES,
        flops=3 * 2 * dim * hidden * positions,
        weight_bytes=3 * HALF * dim * hidden,
        activation_bytes=2 * HALF * dim * positions,
    )


WORKS: dict[str, Callable[[Mapping[str, Scalar], np.random.Generator], Work]] = {
    "chain": chain,
    "qkv": qkv,
    "attention": attention_work,
    "feed_forward": feed_forward,
}


def linear(graph: Graph, value: Value, matrix: npt.NDArray[np.float16], name: str) -> Value:
    """A 1x1 convolution with baked weights [out, in]."""
    return graph.conv(x=value, weight=graph.constant(matrix[:, :, None, None], name=name))


def _sizes(parameters: Mapping[str, Scalar], *names: str) -> list[int]:
    return [int(parameters[name] or 0) for name in names]


def _values(random: np.random.Generator, channels: int, positions: int) -> npt.NDArray[np.float16]:
    return random.standard_normal((1, channels, 1, positions), np.float32).astype(np.float16)


def _matrix(random: np.random.Generator, rows: int, columns: int) -> npt.NDArray[np.float16]:
    """[out, in], for results about as large as what comes in."""
    made: Any = random.standard_normal((rows, columns), np.float32) / math.sqrt(columns)
    return np.asarray(made, np.float16)
