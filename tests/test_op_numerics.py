"""Every op of the table on the emulated ANE against its numpy meaning: profile `exact`, random shapes and values, both
executors, rounded to fp16 and in fp32 mode."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from anetrain import device
from anetrain.mil import Graph, Value
from anetrain.mil.meaning import evaluate, rounded_parameters, widened
from anetrain.mil.ops import OPS
from tests.op_cases import Case, cases

EXECUTORS = ("reference", "fast")
WIDTH = 32  # of border tensors: a multiple of this
HALF_SUBNORMAL = 2.0**-25  # rounding to fp16 costs this much near zero

relaxed = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)


@cache
def open_device(executor: str, fp32: bool) -> device.Device:
    return device.open(
        "emulator", "exact", executor=executor, fp32=fp32, allow_unproven=True, compile_budget=2**31, live_budget=2**31
    )


# ---------------------------------------------------------------- a program around one op


class Harness:
    """One op between borders: each operand comes from an input [1, 1, 1, W], W a multiple of 32, each result goes to an
    output of that form. What stands between is slices, reshapes, casts: exact."""

    def __init__(self, case: Case) -> None:
        self.graph = Graph()
        self.feeds: dict[str, np.ndarray] = {}
        self.sizes: list[tuple[int, ...]] = []
        zero = self.feed("zero", np.zeros(1, np.float16), "fp16")
        for i, value in enumerate(case.apply(self.graph, self.feed)):
            result = value if value.dtype == "fp16" else self.graph.cast(value, "fp16")
            self.emit(f"y{i}", result + zero if result.is_constant or OPS[case.op].folded else result)

    def feed(self, name: str, array: np.ndarray, kind: str) -> Value:
        g = self.graph
        padded = np.zeros((1, 1, 1, -(-array.size // WIDTH) * WIDTH), np.float16)
        padded[0, 0, 0, : array.size] = array.reshape(-1)
        port = f"a{len(self.feeds):02}_{name}"
        self.feeds[port] = padded
        row = g.slice_by_size(g.input(port, padded.shape), begin=(0, 0, 0, 0), size=(1, 1, 1, array.size))
        value = g.reshape(row, array.shape)
        if kind == "bool":
            return g.greater(value, 0.5)
        return value if kind == "fp16" else g.cast(value, kind)

    def emit(self, name: str, value: Value) -> None:
        g = self.graph
        count = int(np.prod(value.shape))
        self.sizes.append(value.shape)
        row = g.reshape(value, (1, 1, 1, count))
        if count % WIDTH:
            row = g.concat([row, g.constant(np.zeros((1, 1, 1, -count % WIDTH)))], axis=3)
        g.output(name, row)

    def cropped(self, outputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [
            np.asarray(outputs[f"y{i}"], np.float64).reshape(-1)[: int(np.prod(shape))].reshape(shape)
            for i, shape in enumerate(self.sizes)
        ]

    def run(self, executor: str, fp32: bool) -> list[np.ndarray]:
        with open_device(executor, fp32).compile(self.graph.program(), label="numerics") as program:
            return self.cropped(program.run(self.feeds))

    def expected(self) -> list[np.ndarray]:
        return self.cropped(evaluate(self.graph, self.feeds, rounded=False))


# ---------------------------------------------------------------- how close


def ordinal(array: np.ndarray) -> np.ndarray:
    """fp16 numbers counted in order: neighbours differ by 1."""
    bits = array.astype(np.float16).view(np.int16).astype(np.int32)
    return np.where(bits < 0, -(bits & 0x7FFF), bits)


def meaning_of(case: Case, change: Callable[[np.ndarray], np.ndarray], **replaced: Any) -> np.ndarray:
    """The op's meaning after a change to its floating operands: the scale of its errors."""
    g = Graph()
    case.apply(g, lambda name, array, kind: g.input(name, array.shape, kind))
    node = g.nodes[-1]
    operands: dict[str, Any] = {}
    for arg in node.op.args:
        given = case.arguments.get(arg.name)
        if arg.kind == "tensors":
            operands[arg.name] = [change(widened(item)) for item in given]
        elif arg.is_tensor:
            operands[arg.name] = None if given is None else change(widened(given))
    return np.asarray(node.op.meaning(**operands, **(rounded_parameters(node) | replaced)))


def largest_operand(case: Case) -> float:
    floats = [array for array in case.arguments.values() if isinstance(array, np.ndarray) and array.dtype.kind == "f"]
    return max(float(np.abs(array.astype(np.float64)).max()) for array in floats)


def one_ulp(case: Case, found: np.ndarray, true: np.ndarray) -> np.ndarray:
    return np.abs(ordinal(found) - ordinal(true)) <= 1


def exactly(case: Case, found: np.ndarray, true: np.ndarray) -> np.ndarray:
    return np.asarray(found == true)


def as_product(case: Case, found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """A rounding of the result, and a wide sum of |A| |B|."""
    scale = meaning_of(case, np.abs)
    return np.abs(found - true) <= 2.0**-11 * np.abs(true) + 1e-6 * scale + HALF_SUBNORMAL


def as_softmax(case: Case, found: np.ndarray, true: np.ndarray) -> np.ndarray:
    return np.abs(found - true) <= 2e-3 * np.maximum(true, 2.0**-14)


def as_attention(case: Case, found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """The error of the probabilities, spread over |value|, and a rounding."""
    spread = np.abs(widened(case.arguments["value"])).max()
    return np.abs(found - true) <= 2.0**-11 * np.abs(true) + 2e-3 * spread


def as_wide(case: Case, found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """An ulp of the result, and fp32 errors at the size of the operands."""
    return np.abs(found - true) <= 2.0**-10 * np.abs(true) + 1e-5 * (1.0 + largest_operand(case))


Judge = Callable[[Case, np.ndarray, np.ndarray], np.ndarray]
LAYOUT = """concat stack split slice_by_size slice_by_index reshape transpose squeeze expand_dims flatten2d tile
    reverse pad crop pixel_shuffle pixel_unshuffle space_to_depth depth_to_space upsample_nearest_neighbor
    resize_nearest_neighbor"""
CHOICES = """equal not_equal less less_equal greater greater_equal logical_not select maximum minimum abs sign floor
    ceil round relu relu6 threshold thresholded_relu clip cast identity reduce_max reduce_min reduce_argmax topk
    max_pool quantize dequantize const constexpr_affine_dequantize constexpr_blockwise_shift_scale
    constexpr_lut_to_dense
    constexpr_sparse_to_dense constexpr_cast"""
FUNCTIONS = """add sub mul real_div floor_div pow square sqrt rsqrt inverse exp exp2 log sin cos atan erf sigmoid tanh
    softplus softsign silu gelu elu leaky_relu sigmoid_hard scaled_tanh clamped_relu linear_activation prelu"""
PRODUCTS = "conv conv_transpose matmul linear einsum reduce_sum reduce_mean reduce_l1_norm reduce_sum_square avg_pool"
WIDE = """reduce_l2_norm reduce_log_sum reduce_log_sum_exp layer_norm batch_norm instance_norm l2_norm
    local_response_norm upsample_bilinear resize_bilinear affine"""

JUDGES: dict[str, Judge] = {
    **dict.fromkeys(LAYOUT.split() + CHOICES.split(), exactly),
    **dict.fromkeys(FUNCTIONS.split(), one_ulp),
    **dict.fromkeys(PRODUCTS.split(), as_product),
    **dict.fromkeys(WIDE.split(), as_wide),
    "softmax": as_softmax,
    "scaled_dot_product_attention": as_attention,
}


def in_fp32(case: Case, found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Nothing was rounded to fp16."""
    scale = meaning_of(case, np.abs) if JUDGES[case.op] is as_product else 1.0
    if JUDGES[case.op] in (as_wide, as_attention):
        scale = 1.0 + largest_operand(case)
    return np.abs(found - true) <= 1e-5 * np.abs(true) + 1e-6 * scale


def compare(case: Case, found: list[np.ndarray], true: list[np.ndarray], judge: Judge) -> None:
    assert len(found) == len(true)
    for mine, wanted in zip(found, true, strict=True):
        near = judge(case, mine, wanted) | (mine == wanted)
        if not near.all():
            place = tuple(int(i[0]) for i in np.nonzero(~near))
            raise AssertionError(f"{case.op}: {mine[place]!r} at {place}, expected {wanted[place]!r}\n{case}")


# ---------------------------------------------------------------- tests


def test_every_op_has_a_case() -> None:
    assert set(JUDGES) == set(OPS)


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("op", OPS)
def test_exact_profile(op: str, executor: str) -> None:
    @relaxed
    @given(cases(op))
    def run(case: Case) -> None:
        harness = Harness(case)
        compare(case, harness.run(executor, fp32=False), harness.expected(), JUDGES[op])

    run()


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("op", OPS)
def test_fp32_mode(op: str, executor: str) -> None:
    @relaxed
    @given(cases(op))
    def run(case: Case) -> None:
        harness = Harness(case)
        judge = exactly if JUDGES[op] is exactly else in_fp32
        compare(case, harness.run(executor, fp32=True), harness.expected(), judge)

    run()
