"""For each rule of the catalogue a small program that it concerns, as a function that fills a graph.

Limits are set low by the cases, so that the programs stay small.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from anetrain.mil import Graph, Value
from anetrain.mil.text import Program

Build = Callable[[Graph], None]


@dataclass(frozen=True)
class RuleCase:
    build: Build
    on: bool | float = True  # how the rule is switched on
    dialect: str = "B"
    single_blob: bool = False
    edit: tuple[str, str] = ("", "")  # replaced in the text
    blob_edit: tuple[int, bytes] = (0, b"")  # written over every weight file at an offset

    def program(self) -> Program:
        graph = Graph()
        self.build(graph)
        program = graph.program(self.dialect, single_blob=self.single_blob)
        offset, data = self.blob_edit
        blobs = {path: file[:offset] + data + file[offset + len(data) :] for path, file in program.blobs.items()}
        return Program(program.text.replace(*self.edit), blobs, program.inputs, program.outputs, program.dialect)


@dataclass(frozen=True)
class ValueCase:
    """A rule that changes values. `expected`: the first elements of the output with the rule off and on."""

    build: Build
    inputs: dict[str, np.ndarray]
    off: Sequence[float]
    changed: Sequence[float]
    on: bool | float = True
    executors: tuple[str, ...] = ("fast", "reference", "audit")
    others: dict[str, bool | float] = field(default_factory=dict)

    def program(self) -> Program:
        graph = Graph()
        self.build(graph)
        return graph.program("B")


def halves(*values: float, shape: tuple[int, ...] = (1, 1, 1, 32)) -> np.ndarray:
    """fp16 zeros that begin with the values."""
    array = np.zeros(shape, np.float16)
    array.reshape(-1)[: len(values)] = values
    return array


def one_op(op: str, shape: Sequence[int] = (1, 4, 1, 32), **arguments: object) -> Build:
    def build(g: Graph) -> None:
        g.output("y", g.apply(op, x=g.input("x", shape), **arguments)[0])

    return build


def identity_copy(shape: Sequence[int], dtype: str = "fp16") -> Build:
    """An input of some shape and type, and an fp16 output of the same shape."""

    def build(g: Graph) -> None:
        x = g.input("x", shape, dtype)
        g.output("y", g.mul(x if dtype == "fp16" else g.cast(x, "fp16"), 2.0))

    return build


def matrix(rows: int, columns: int) -> np.ndarray:
    return np.ones((rows, columns, 1, 1), np.float16)


def convolution(
    channels: int = 64, out: int = 64, *, width: int = 1, bias: bool = False, batch: int = 1, computed: bool = False
) -> Build:
    def build(g: Graph) -> None:
        x = g.input("x", (batch, channels, 1, 32))
        shape = (out, channels, 1, width)
        weight = g.input("w", shape) if computed else g.constant(np.ones(shape, np.float16), "w")
        y = g.conv(x, weight, pad_type="same", bias=np.ones(out) if bias else None)
        g.output("y", y)

    return build


def run_time_matmul(g: Graph) -> None:
    g.output("y", g.matmul(g.input("x", (1, 1, 32, 32)), g.input("w", (1, 1, 32, 32))))


def several_weights(g: Graph) -> None:
    x = g.input("x", (1, 64, 1, 32))
    for i in range(3):
        x = g.conv(x, g.constant(matrix(64, 64), f"w{i}"))
    g.output("y", x)


def wide_rows(g: Graph) -> None:
    x = g.input("x", (1, 2, 1, 64))
    flat = g.reshape(x, (1, 1, 1, 128))
    g.output("y", g.concat([flat, flat], 1, interleave=False))


def zero_product(g: Graph) -> None:
    x = g.input("x", (1, 4, 1, 32))
    g.output("y", x + g.reduce_sum(x, axes=(1,), keep_dims=True) * 0.0)


def square_fusion(g: Graph) -> None:
    g.output("y", g.tanh(g.square(g.input("x", (1, 4, 1, 96)))))


def interleaved_rope(g: Graph) -> None:
    pairs = g.reshape(g.input("x", (1, 4, 1, 64)), (1, 4, 32, 2))
    even = g.slice_by_size(pairs, (0, 0, 0, 0), (1, 4, 32, 1))
    odd = g.slice_by_size(pairs, (0, 0, 0, 1), (1, 4, 32, 1))
    g.output("y", g.reshape(g.concat([-odd, even], 3, interleave=False), (1, 4, 1, 64)))


def width_slice_concat(g: Graph) -> None:
    x = g.input("x", (1, 4, 1, 96))
    parts = [g.slice_by_size(x, (0, 0, 0, start), (1, 4, 1, 32)) for start in (32, 64)]
    g.output("y", g.concat(parts, 3, interleave=False))


def top_three(g: Graph) -> None:
    g.output("y", g.topk(g.input("x", (1, 32, 1, 32)), k=3, axis=1)[0])


def fp32_sum(g: Graph) -> None:
    x = g.cast(g.input("x", (1, 4, 1, 32)), "fp32")
    g.output("y", g.cast(x + x, "fp16"))


def quantised_activations(g: Graph) -> None:
    steps = g.quantize(g.input("x", (1, 4, 1, 32)), 0.5, output_dtype="int8")
    g.output("y", g.dequantize(steps, 0.5))


def compressed_weight(g: Graph) -> Value:
    data = g.constant(np.full((64, 64, 1, 1), 3), "data", dtype="int8")
    return g.constexpr_blockwise_shift_scale(data, np.full((64, 1, 1, 1), 0.5))


def compressed_conv(g: Graph) -> None:
    g.output("y", g.conv(g.input("x", (1, 64, 1, 32)), compressed_weight(g)))


def reshaped_weight(g: Graph) -> None:
    weight = g.reshape(compressed_weight(g), (1, 1, 64, 64))
    g.output("y", g.matmul(weight, g.input("x", (1, 1, 64, 32))))


def two_copies(g: Graph) -> None:
    x = g.input("x", (1, 4, 1, 32))
    g.output("y", g.concat([x, x], 1, interleave=False))


def sliced_input(g: Graph) -> None:
    part = g.slice_by_index(g.input("x", (1, 64, 1, 32)), (0, 0, 0, 0), (1, 32, 1, 32))
    g.output("y", g.softmax(g.conv(part, matrix(32, 32)), axis=1))


def batch_broadcast(g: Graph) -> None:
    x = g.input("x", (4, 4, 1, 32))
    g.output("y", g.tanh(x * g.input("scale", (1, 4, 1, 32))))


def attention(g: Graph, mask: Sequence[float] | None = None) -> None:
    q, k, v = (g.input(name, (1, 1, 32, 32)) for name in ("q", "k", "v"))
    g.output("y", g.scaled_dot_product_attention(q, k, v, None if mask is None else np.full((1, 1, 32, 32), mask)))


REFUSED = {
    "evidence": RuleCase(one_op("erf")),
    "border-dtype": RuleCase(identity_copy((1, 4, 1, 32), "int32")),
    "border-fp32": RuleCase(identity_copy((1, 4, 1, 32), "fp32")),
    "border-rank": RuleCase(identity_copy((4, 4, 32))),
    "border-shape": RuleCase(identity_copy((1, 4, 2, 32))),
    "border-width": RuleCase(identity_copy((1, 4, 1, 48))),
    "new-dialect": RuleCase(one_op("tanh")),
    "opset": RuleCase(attention, edit=("main<ios18>", "main<ios16>")),
    "channel-limit": RuleCase(one_op("tanh", (1, 65, 1, 32)), on=64),
    "axis-limit": RuleCase(one_op("tanh", (1, 4, 1, 96)), on=64),
    "contraction-limit": RuleCase(run_time_matmul, on=31),
    "conv-input-channels": RuleCase(convolution(64), on=64),
    "conv-kernel-width": RuleCase(convolution(width=5), on=4),
    "conv-fixed-channels": RuleCase(convolution(64)),
    "blobfile-weights": RuleCase(several_weights, on=2),
    "blob-metadata": RuleCase(several_weights, blob_edit=(72, struct.pack("<Q", 524288))),  # ANE_FACTS 4.2
    "blobfile-per-weight": RuleCase(several_weights, single_blob=True),
    "wide-rows": RuleCase(wide_rows, on=127),
    "conv-bias": RuleCase(convolution(bias=True)),
    "runtime-conv-batch": RuleCase(convolution(batch=2, width=1, computed=True)),
    "zero-product": RuleCase(zero_product),
    "square-fusion": RuleCase(square_fusion),
    "width-rope": RuleCase(interleaved_rope),
    "width-slice-concat": RuleCase(width_slice_concat),
    "topk-three-four": RuleCase(top_three),
    "trigonometry": RuleCase(one_op("sin")),
    "cast": RuleCase(identity_copy((1, 4, 1, 32), "fp32")),
    "fp32-compute": RuleCase(fp32_sum),
    "quantize": RuleCase(quantised_activations),
    "constexpr-weights": RuleCase(compressed_conv),
    "constexpr-reshape": RuleCase(reshaped_weight),
    "concat": RuleCase(two_copies),
    "rsqrt": RuleCase(one_op("rsqrt", epsilon=1e-5)),
    "gelu": RuleCase(one_op("gelu", mode="EXACT")),
    "reduce-mean": RuleCase(one_op("reduce_mean", axes=(1,), keep_dims=True)),
    "layer-norm": RuleCase(one_op("layer_norm", axes=(1,))),
    "slice-of-input": RuleCase(sliced_input),
    "runtime-matmul": RuleCase(run_time_matmul),
    "batch-broadcast": RuleCase(batch_broadcast),
}

# ---------------------------------------------------------------- evaluation


def three_outputs(g: Graph) -> None:
    x = g.input("x", (1, 4, 1, 32))
    for i in range(3):
        g.output(f"y{i}", x * float(i + 2))


def unequal_inputs(g: Graph) -> None:
    g.output("y", g.input("a", (1, 4, 1, 32)) + g.input("b", (1, 1, 1, 32)))


def unequal_outputs(g: Graph) -> None:
    x = g.input("x", (1, 4, 1, 32))
    g.output("a", x * 2.0)
    g.output("b", g.reduce_sum(x, axes=(1,), keep_dims=True))


FAILING = {
    "softmax-power-of-two": RuleCase(one_op("softmax", (1, 3, 1, 32), axis=1)),
    "tile-poison": RuleCase(one_op("tile", (1, 4, 1, 32), reps=(1, 2, 1, 1))),
    "input-surface-uniform": RuleCase(unequal_inputs),
    "output-surface-uniform": RuleCase(unequal_outputs),
    "minimum-surface": RuleCase(one_op("tanh")),
    "single-input": RuleCase(unequal_inputs),
    "output-count": RuleCase(three_outputs),
}

# ---------------------------------------------------------------- values

INF = float("inf")
NAN = float("nan")


def dot(g: Graph) -> None:
    """y[0, 0] = sum of x[0, k] w[k, 0]."""
    g.output("y", g.matmul(g.input("x", (1, 1, 1, 1056)), g.input("w", (1, 1, 1056, 32))))


def dot_inputs(x: Sequence[float], w: Sequence[float]) -> dict[str, np.ndarray]:
    column = np.zeros((1, 1, 1056, 32), np.float16)
    column[0, 0, : len(w), 0] = w
    return {"x": halves(*x, shape=(1, 1, 1, 1056)), "w": column}


def dot_case(x: Sequence[float], w: Sequence[float], off: float, changed: float, on: bool | float = True) -> ValueCase:
    return ValueCase(dot, dot_inputs(x, w), [off], [changed], on, executors=("audit",))


def audited(build: Build, inputs: dict[str, np.ndarray], off: Sequence[float], changed: Sequence[float]) -> ValueCase:
    return ValueCase(build, inputs, off, changed, executors=("audit",))


def table_case(op: str, x: float, off: float, changed: float, **arguments: object) -> ValueCase:
    return ValueCase(one_op(op, (1, 1, 1, 32), **arguments), {"x": halves(x)}, [off], [changed])


def masked_attention(g: Graph) -> None:
    attention(g, [0.0] + [-1e4] * 31)


def width_slice(g: Graph) -> None:
    g.output("y", g.slice_by_size(g.input("x", (1, 1, 1, 64)), (0, 0, 0, 32), (1, 1, 1, 32)))


def compressed_dot(g: Graph) -> None:
    data = g.constant(np.full((32, 32, 1, 1), 120), "data", dtype="int8")
    weight = g.constexpr_blockwise_shift_scale(data, np.ones((32, 1, 1, 1)))
    g.output("y", g.conv(g.input("x", (1, 32, 1, 32)), weight))


def difference(g: Graph) -> None:
    g.output("y", g.input("a", (1, 1, 1, 32)) - g.input("b", (1, 1, 1, 32)))


def unsorted_difference(g: Graph) -> None:
    b = g.input("b", (1, 1, 1, 32))
    g.output("y", b - g.input("a", (1, 1, 1, 32)))


def row_sum(g: Graph) -> None:
    g.output("y", g.input("x", (1, 1, 1, 64)) + g.reduce_sum(g.input("s", (1, 1, 1, 64)), axes=(3,), keep_dims=True))


def narrow_copy(g: Graph) -> None:
    g.output("y", g.input("x", (1, 2, 1, 16)) * 2.0)


ATTENTION_INPUTS = {
    "q": halves(shape=(1, 1, 32, 32)),
    "k": halves(shape=(1, 1, 32, 32)),
    "v": np.arange(32, dtype=np.float16).repeat(32).reshape(1, 1, 32, 32),  # row i holds i
}

CHANGED = {
    # Halfway between two knots the table gives their mean.
    "sigmoid-table": table_case("sigmoid", 1.25, 0.77734375, 0.7744140625),
    "tanh-table": table_case("tanh", 0.6875, 0.59619140625, 0.5947265625),
    "gelu-table": table_case("gelu", 0.0, 0.0, float(np.float16(-0.000543)), mode="EXACT"),
    "silu-table": table_case("silu", 0.0, 0.0, float(np.float16(-0.001259))),
    "exp-overflow": table_case("exp", 11.09375, INF, 65504.0),
    "round-limit": table_case("round", 1025.0, 1025.0, 1024.0),
    "sdpa-mask-ignored": ValueCase(masked_attention, ATTENTION_INPUTS, [0.0], [15.5]),
    "width-slice-saturation": ValueCase(
        width_slice, {"x": np.full((1, 1, 1, 64), -5000, np.float16)}, [-5000.0], [-INF]
    ),
    "oversize-dense-read": ValueCase(
        narrow_copy, {"x": np.arange(32, dtype=np.float16).reshape(1, 2, 1, 16)}, [*range(0, 32, 2)], [*range(0, 32, 2)]
    ),
    "declared-order": ValueCase(unsorted_difference, {"a": halves(1, 2), "b": halves(5, 9)}, [4, 7], [-4, -7]),
    # (1 + 2^-10)^2 = 1 + 2^-9 + 2^-20: the last term is lost when the product is rounded.
    "product-rounding": dot_case([1 + 2**-10, -1 - 2**-9], [1 + 2**-10, 1], 2**-20, 0.0),
    "denormal-flush": dot_case([2**-8], [2**-8], 2**-16, 0.0),
    "accumulator-overflow": dot_case([128], [256], 32768.0, INF),
    "interior-partial-overflow": dot_case([128, -128, 1], [256, 256, 1], 1.0, 0.0),
    "int8-weight-overflow": audited(compressed_dot, {"x": halves(256, shape=(1, 32, 1, 32))}, [30720.0], [INF]),
    "tile-of-four": dot_case([4096] + [1] * 1024, [1] * 1025, 5120.0, 5116.0),
    "ties-up": dot_case([2048, 1], [1, 1], 2048.0, 2050.0),
    "narrow-reduce-sum": audited(
        row_sum,
        {"x": halves(shape=(1, 1, 1, 64)), "s": halves(2048, *[1] * 32, shape=(1, 1, 1, 64))},
        [2080.0],
        [2112.0],
    ),
    "nan-reads-as-inf": audited(difference, {"a": halves(NAN), "b": halves()}, [NAN], [INF]),
    "invalid-gives-zero": audited(difference, {"a": halves(INF), "b": halves(INF)}, [NAN], [0.0]),
}
