"""Ops that look along whole axes: softmax, reductions, searches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from anetrain.mil.derivatives import (
    Backward,
    Gradient,
    expand,
    keep_axes,
    sum_over,
)
from anetrain.mil.ops.base import (
    Op,
    axes_of,
    axis_of,
    direct,
    e5rt,
    mismatch,
    parameter,
    tensor,
)
from anetrain.mil.types import Array, Shape, TensorType

if TYPE_CHECKING:
    from anetrain.mil.graph import Value


class Softmax(Op):
    name = "softmax"
    args = (tensor("x"), parameter("axis", "int32", -1))
    evidence = direct("MAD, ORI, ESP, M0")
    shape_rule = "The type of x."
    limits = (
        "The maximum is subtracted inside, so finite masks of -1e4 or -65504 are fine.",
        "257 channels on axis 1 compile and fail at evaluation on M3 Max (C19): prefer powers of two.",
    )

    @staticmethod
    def infer(x: TensorType, axis: int) -> TensorType:
        axis_of(axis, x.rank)
        return x

    @staticmethod
    def meaning(x: Array, axis: int) -> Array:
        powers = np.exp(x - np.max(x, axis=axis, keepdims=True))
        return np.asarray(powers / np.sum(powers, axis=axis, keepdims=True))

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        u, p = backward.gradient, backward.output
        return {"x": p * (u - sum_over(backward.graph, p * u, (backward.parameter("axis"),)))}


# ---------------------------------------------------------------- reductions


def _reduced_shape(shape: Shape, axes: Sequence[int] | None, keep_dims: bool) -> Shape:
    gone = axes_of(axes, len(shape))
    return tuple(1 if i in gone else n for i, n in enumerate(shape) if keep_dims or i not in gone)


class Reduction(Op):
    args = (tensor("x"), parameter("axes", "int32[]"), parameter("keep_dims", "bool", False))
    shape_rule = "The axes become 1, or vanish unless keep_dims; no axes: all."
    evidence = e5rt()
    limits: ClassVar[tuple[str, ...]] = ("Over the channel axis slow past 256 rows (C82).",)

    @staticmethod
    def infer(x: TensorType, axes: Sequence[int] | None, keep_dims: bool) -> TensorType:
        return TensorType(x.dtype, _reduced_shape(x.shape, axes, keep_dims))


def _kept(backward: Backward, reduced: Value) -> Value:
    """With the reduced axes as 1: broadcasts against x."""
    return keep_axes(backward.graph, reduced, backward.operand("x").shape, backward.parameter("axes"))


def _shared_by_extremes(backward: Backward, behind: Callable[[Value, Value], Value]) -> Value:
    """1 where x is the extreme, 0 from 2^-15 `behind` it (negative) on, by ops of direct evidence. Where 2^15 times the
    distance overflows, relu(1 - inf) is 0."""
    g, x, extreme = backward.graph, backward.operand("x"), _kept(backward, backward.output)
    chosen = g.relu(behind(x, extreme) * 2.0**15 + 1.0)
    count = sum_over(g, chosen, axes_of(backward.parameter("axes"), len(x.shape)))
    return chosen * (_kept(backward, backward.gradient) / count)


class ReduceSum(Reduction):
    name = "reduce_sum"
    evidence = direct("MAD, ORI, FG, ESP")
    limits = (
        "Accumulates in fp16 (C69): exact to 2,048; use matmul with ones for more than 64 terms.",
        *Reduction.limits,
    )

    @staticmethod
    def meaning(x: Array, axes: Sequence[int] | None, keep_dims: bool) -> Array:
        return np.asarray(np.sum(x, axis=axes_of(axes, x.ndim), keepdims=keep_dims))

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        return {"x": expand(backward.graph, _kept(backward, backward.gradient), backward.operand("x").shape)}


class ReduceMean(Reduction):
    name = "reduce_mean"
    evidence = direct("ORI (ESP and M0 say it is missing, C9)")
    limits = ("Accumulates in fp16 like reduce_sum (C69).", *Reduction.limits)

    @staticmethod
    def meaning(x: Array, axes: Sequence[int] | None, keep_dims: bool) -> Array:
        return np.asarray(np.mean(x, axis=axes_of(axes, x.ndim), keepdims=keep_dims))

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        x = backward.operand("x")
        terms = x.type.element_count // backward.output.type.element_count
        return {"x": expand(backward.graph, _kept(backward, backward.gradient), x.shape, 1.0 / terms)}


class ReduceMax(Reduction):
    name = "reduce_max"
    derivative_note = "Equal extremes share the gradient; so do values within 2^-15 of the extreme, in part."
    evidence = direct("ESP")

    @staticmethod
    def meaning(x: Array, axes: Sequence[int] | None, keep_dims: bool) -> Array:
        return np.asarray(np.max(x, axis=axes_of(axes, x.ndim), keepdims=keep_dims))

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        return {"x": _shared_by_extremes(backward, lambda x, top: x - top)}


class ReduceMin(Reduction):
    name = "reduce_min"
    derivative_note = "Equal extremes share the gradient; so do values within 2^-15 of the extreme, in part."

    @staticmethod
    def meaning(x: Array, axes: Sequence[int] | None, keep_dims: bool) -> Array:
        return np.asarray(np.min(x, axis=axes_of(axes, x.ndim), keepdims=keep_dims))

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        return {"x": _shared_by_extremes(backward, lambda x, bottom: bottom - x)}


class ReduceL1Norm(Reduction):
    name = "reduce_l1_norm"
    derivative_note = "At 0 it is 0."

    @staticmethod
    def meaning(x: Array, axes: Sequence[int] | None, keep_dims: bool) -> Array:
        return np.asarray(np.sum(np.abs(x), axis=axes_of(axes, x.ndim), keepdims=keep_dims))

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        return {"x": backward.graph.sign(backward.operand("x")) * _kept(backward, backward.gradient)}


class ReduceL2Norm(Reduction):
    name = "reduce_l2_norm"
    derivative_note = "The norm must not be 0."

    @staticmethod
    def meaning(x: Array, axes: Sequence[int] | None, keep_dims: bool) -> Array:
        return np.asarray(np.sqrt(np.sum(x * x, axis=axes_of(axes, x.ndim), keepdims=keep_dims)))

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        u, norm = _kept(backward, backward.gradient), _kept(backward, backward.output)
        return {"x": backward.operand("x") / norm * u}


class ReduceLogSum(Reduction):
    name = "reduce_log_sum"

    @staticmethod
    def meaning(x: Array, axes: Sequence[int] | None, keep_dims: bool) -> Array:
        return np.asarray(np.log(np.sum(x, axis=axes_of(axes, x.ndim), keepdims=keep_dims)))

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        u, x = backward.gradient, backward.operand("x")
        share = u * backward.graph.exp(-backward.output)
        return {"x": expand(backward.graph, _kept(backward, share), x.shape)}


class ReduceSumSquare(Reduction):
    name = "reduce_sum_square"

    @staticmethod
    def meaning(x: Array, axes: Sequence[int] | None, keep_dims: bool) -> Array:
        return np.asarray(np.sum(x * x, axis=axes_of(axes, x.ndim), keepdims=keep_dims))

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        return {"x": backward.operand("x") * (_kept(backward, backward.gradient) * 2.0)}


class ReduceLogSumExp(Reduction):
    name = "reduce_log_sum_exp"

    @staticmethod
    def meaning(x: Array, axes: Sequence[int] | None, keep_dims: bool) -> Array:
        positive = axes_of(axes, x.ndim)
        top = np.max(x, axis=positive, keepdims=True)
        total = np.log(np.sum(np.exp(x - top), axis=positive, keepdims=True)) + top
        return np.asarray(total if keep_dims else np.squeeze(total, axis=positive))

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        u, total = _kept(backward, backward.gradient), _kept(backward, backward.output)
        return {"x": backward.graph.exp(backward.operand("x") - total) * u}


class ReduceArgmax(Op):
    name = "reduce_argmax"
    no_derivative = "its result is an index"
    args = (tensor("x"), parameter("axis", "int32", -1), parameter("keep_dims", "bool", False))
    evidence = e5rt("AF, partial")
    shape_rule = (
        "One axis becomes 1, or vanishes unless keep_dims; the result is int32, usable only inside the program."
    )
    limits = ("Untested on the direct path.", "The first of equal maxima.")

    @staticmethod
    def infer(x: TensorType, axis: int, keep_dims: bool) -> TensorType:
        axis_of(axis, x.rank)
        return TensorType("int32", _reduced_shape(x.shape, (axis,), keep_dims))

    @staticmethod
    def meaning(x: Array, axis: int, keep_dims: bool) -> Array:
        return np.asarray(np.argmax(x, axis=axis, keepdims=keep_dims), dtype=np.int32)


class TopK(Op):
    name = "topk"
    no_derivative = "its gradient would be scattered to computed places"
    several_results = True
    args = (
        tensor("x"),
        parameter("k", "int32", 1),
        parameter("axis", "int32", -1),
        parameter("ascending", "bool", False),
    )
    evidence = e5rt("AF, partial")
    shape_rule = "The axis becomes k; two results, the values and their int32 indices."
    limits = ("k = 3 and k = 4 fail (C10).", "ascending gives the smallest values, smallest first.")

    @staticmethod
    def infer(x: TensorType, k: int, axis: int, ascending: bool) -> tuple[TensorType, ...]:
        position = axis_of(axis, x.rank)
        if not 1 <= k <= x.shape[position]:
            mismatch("k", f"is {k}, expected 1 to {x.shape[position]}, the length of axis {axis}")
        shape = (*x.shape[:position], k, *x.shape[position + 1 :])
        return TensorType(x.dtype, shape), TensorType("int32", shape)

    @staticmethod
    def meaning(x: Array, k: int, axis: int, ascending: bool) -> tuple[Array, Array]:
        order = np.argsort(x if ascending else -x, axis=axis, kind="stable")
        indices = np.take(order, np.arange(k), axis=axis)
        return np.take_along_axis(x, indices, axis=axis), indices.astype(np.int32)
