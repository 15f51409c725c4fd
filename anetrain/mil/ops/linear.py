"""Linear algebra: matmul and its relatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from anetrain.mil.derivatives import Backward, Gradient, reshaped, sum_over
from anetrain.mil.ops.base import (
    Op,
    broadcast,
    direct,
    e5rt,
    length_is,
    mismatch,
    one_type,
    parameter,
    rank_between,
    tensor,
)
from anetrain.mil.types import Array, TensorType

if TYPE_CHECKING:
    from anetrain.mil.graph import Value

CHUNKED_SUM = "Results at or past 2^15 become inf, small products may flush to zero on chips (ANE_FACTS 6)."


def check_bias(bias: TensorType | None, channels: int) -> None:
    if bias is not None and bias.shape != (channels,):
        mismatch("bias", f"has shape {list(bias.shape)}, expected [{channels}]")


class MatMul(Op):
    name = "matmul"
    args = (
        tensor("x"),
        tensor("y"),
        parameter("transpose_x", "bool", False),
        parameter("transpose_y", "bool", False),
    )
    evidence = direct("MAD, M0, ORI, ESP, AT, H3, OM")
    shape_rule = (
        "x [..., M, K] and y [..., K, N] -> [..., M, N]; a transpose flag swaps the last two axes of its operand; "
        "leading axes broadcast. Rank 2 to 5."
    )
    limits = (
        CHUNKED_SUM,
        "Both operands may be computed; with constant weights a 1x1 conv is about 3 times faster (C76).",
        "transpose_y over unusual layouts can compile for 30 s (C29).",
        "Keep the last axis a multiple of 32 (C30).",
    )

    @staticmethod
    def infer(x: TensorType, y: TensorType, transpose_x: bool, transpose_y: bool) -> TensorType:
        one_type(x, y=y)
        rank_between("x", x, 2, 5)
        rank_between("y", y, 2, 5)
        rows, inner = x.shape[:-3:-1] if transpose_x else x.shape[-2:]
        inner_y, columns = y.shape[:-3:-1] if transpose_y else y.shape[-2:]
        if inner != inner_y:
            mismatch("y", f"inner dimensions differ: {inner} of x, {inner_y} of y")
        return TensorType(x.dtype, (*broadcast("y", x.shape[:-2], y.shape[:-2]), rows, columns))

    @staticmethod
    def meaning(x: Array, y: Array, transpose_x: bool, transpose_y: bool) -> Array:
        left = np.swapaxes(x, -1, -2) if transpose_x else x
        right = np.swapaxes(y, -1, -2) if transpose_y else y
        return np.asarray(np.matmul(left, right))

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        g, u, x, y = backward.graph, backward.gradient, backward.operand("x"), backward.operand("y")
        turned_x, turned_y = backward.parameter("transpose_x"), backward.parameter("transpose_y")

        def of_x() -> Value:
            if turned_x:
                return g.matmul(y, u, transpose_x=turned_y, transpose_y=True)
            return g.matmul(u, y, transpose_y=not turned_y)

        def of_y() -> Value:
            if turned_y:
                return g.matmul(u, x, transpose_x=True, transpose_y=turned_x)
            return g.matmul(x, u, transpose_x=not turned_x)

        return backward.gradients(x=of_x, y=of_y)


class Linear(Op):
    name = "linear"
    args = (tensor("x"), tensor("weight", "const tensor"), tensor("bias", "const tensor", required=False))
    evidence = e5rt("P40 through the MLE5 engine (M4 Max)")
    shape_rule = "x [..., I] of rank 1 to 3, weight [O, I], bias [O] -> [..., O]."
    limits = (CHUNKED_SUM, "No source uses it on the direct path: prefer conv or matmul.")

    @staticmethod
    def infer(x: TensorType, weight: TensorType, bias: TensorType | None) -> TensorType:
        one_type(x, weight=weight, bias=bias)
        rank_between("x", x, 1, 3)
        rank_between("weight", weight, 2, 2)
        if weight.shape[1] != x.shape[-1]:
            mismatch("weight", f"takes {weight.shape[1]} features, the last axis of x has {x.shape[-1]}")
        check_bias(bias, weight.shape[0])
        return TensorType(x.dtype, (*x.shape[:-1], weight.shape[0]))

    @staticmethod
    def meaning(x: Array, weight: Array, bias: Array | None) -> Array:
        product = np.matmul(x, weight.T)
        return np.asarray(product if bias is None else product + bias)

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        g, x, weight = backward.graph, backward.operand("x"), backward.operand("weight")
        outputs, features = weight.shape
        rows = x.type.element_count // features
        u = reshaped(g, backward.gradient, (rows, outputs))
        found: dict[str, Gradient] = {}
        if backward.wants("x"):
            found["x"] = reshaped(g, g.matmul(u, weight), x.shape)
        if backward.wants("weight"):
            found["weight"] = g.matmul(u, reshaped(g, x, (rows, features)), transpose_x=True)
        if backward.wants("bias"):
            found["bias"] = sum_over(g, u, (0,), keep_dims=False)
        return found


EINSUM_EQUATION = "nchw,nwhu->nchu"


class Einsum(Op):
    name = "einsum"
    args = (tensor("values", "tensors"), parameter("equation", "string", required=True))
    evidence = e5rt()
    shape_rule = f'Only the equation "{EINSUM_EQUATION}": a [N, C, H, W], b [N, W, H, U] -> [N, C, H, U].'
    limits = (CHUNKED_SUM, "No other equation is known to reach the engine.")

    @staticmethod
    def infer(values: Sequence[TensorType], equation: str) -> TensorType:
        if equation.replace(" ", "") != EINSUM_EQUATION:
            mismatch("equation", f"is {equation!r}; only {EINSUM_EQUATION!r} is known to reach the engine")
        length_is("values", values, 2)
        a, b = values
        one_type(a, values=b)
        rank_between("values", a, 4, 4)
        rank_between("values", b, 4, 4)
        batch, channels, height, width = a.shape
        if b.shape[:3] != (batch, width, height):
            mismatch("values", f"the second is {list(b.shape)}, expected [{batch}, {width}, {height}, U]")
        return TensorType(a.dtype, (batch, channels, height, b.shape[3]))

    @staticmethod
    def meaning(values: Sequence[Array], equation: str) -> Array:
        return np.asarray(np.einsum(EINSUM_EQUATION, *values))

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        g, u, (a, b) = backward.graph, backward.gradient, backward.operands("values")
        swap = (0, 3, 2, 1)  # of channels and width
        of_a = g.einsum([u, g.transpose(b, swap)], EINSUM_EQUATION) if a in backward.wanted else None
        of_b = g.einsum([g.transpose(a, swap), u], EINSUM_EQUATION) if b in backward.wanted else None
        return {"values": [of_a, of_b]}
