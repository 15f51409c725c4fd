"""Normalisations: of rows, of channels, of neighbourhoods of channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from anetrain.mil.derivatives import (
    Backward,
    Gradient,
    mean_over,
    pad_with_zeros,
    slice_axis,
    spread_along,
    sum_over,
)
from anetrain.mil.ops.base import (
    Op,
    along_channels,
    axes_of,
    e5rt,
    mismatch,
    one_type,
    parameter,
    rank_between,
    tensor,
)
from anetrain.mil.types import Array, TensorType

if TYPE_CHECKING:
    from anetrain.mil.graph import Graph, Value


def _check_channel_vectors(x: TensorType, **vectors: TensorType | None) -> None:
    one_type(x, **vectors)
    for name, vector in vectors.items():
        if vector is not None and vector.shape != (x.shape[1],):
            mismatch(name, f"has shape {list(vector.shape)}, expected [{x.shape[1]}], the channels of x")


def _scaled(normal: Array, gamma: Array | None, beta: Array | None) -> Array:
    if gamma is not None:
        normal = normal * gamma
    return normal if beta is None else normal + beta


def _times_gamma(backward: Backward, u: Value, axes: Sequence[int]) -> Value:
    if backward.node.tensors["gamma"] is None:
        return u
    return u * spread_along(backward.graph, backward.operand("gamma"), u.shape, axes)


def _of_affine(backward: Backward, normal: Callable[[], Value], axes: Sequence[int]) -> dict[str, Gradient]:
    """Of gamma and beta, which lie along `axes`."""
    g, u = backward.graph, backward.gradient
    others = [axis for axis in range(len(u.shape)) if axis not in axes]
    found: dict[str, Gradient] = {}
    if backward.wants("gamma"):
        found["gamma"] = sum_over(g, u * normal(), others, keep_dims=False)
    if backward.wants("beta"):
        found["beta"] = sum_over(g, u, others, keep_dims=False)
    return found


def _of_normalisation(backward: Backward, axes: Sequence[int], affine_axes: Sequence[int]) -> dict[str, Gradient]:
    """y = n gamma + beta, n = (x - mean) / deviation along `axes`; with d = u gamma
    dx = (d - mean(d) - n mean(d n)) / deviation."""
    g, x, u = backward.graph, backward.operand("x"), backward.gradient

    @cache
    def normal_and_scale() -> tuple[Value, Value]:
        centred = x - mean_over(g, x, axes)
        scale = g.pow(mean_over(g, centred * centred, axes) + backward.parameter("epsilon"), -0.5)
        return centred * scale, scale

    def of_x() -> Value:
        normal, scale = normal_and_scale()
        d = _times_gamma(backward, u, affine_axes)
        return (d - mean_over(g, d, axes) - normal * mean_over(g, d * normal, axes)) * scale

    return {**backward.gradients(x=of_x), **_of_affine(backward, lambda: normal_and_scale()[0], affine_axes)}


class LayerNorm(Op):
    name = "layer_norm"
    args = (
        tensor("x"),
        parameter("axes", "int32[]"),
        tensor("gamma", "const tensor", required=False),
        tensor("beta", "const tensor", required=False),
        parameter("epsilon", "fp", 1e-5),
    )
    evidence = e5rt("P40 through the MLE5 engine (M4 Max)")
    shape_rule = "The type of x; gamma and beta have the shape of the normalised axes."
    limits = ("The native op compiles or not depending on gamma and beta (C27): compose it instead.",)

    @staticmethod
    def infer(
        x: TensorType, axes: Sequence[int] | None, gamma: TensorType | None, beta: TensorType | None, epsilon: float
    ) -> TensorType:
        one_type(x, gamma=gamma, beta=beta)
        normalised = tuple(x.shape[axis] for axis in sorted(axes_of(axes, x.rank)))
        for name, vector in (("gamma", gamma), ("beta", beta)):
            if vector is not None and vector.shape != normalised:
                mismatch(name, f"has shape {list(vector.shape)}, expected {list(normalised)}, the normalised axes of x")
        return x

    @staticmethod
    def meaning(x: Array, axes: Sequence[int] | None, gamma: Array | None, beta: Array | None, epsilon: float) -> Array:
        positive = axes_of(axes, x.ndim)
        centred = x - np.mean(x, axis=positive, keepdims=True)
        normal = centred / np.sqrt(np.mean(centred**2, axis=positive, keepdims=True) + epsilon)
        shape = tuple(n if i in positive else 1 for i, n in enumerate(x.shape))
        return _scaled(
            normal, None if gamma is None else gamma.reshape(shape), None if beta is None else beta.reshape(shape)
        )

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        x = backward.operand("x")
        axes = axes_of(backward.parameter("axes"), len(x.shape))
        return _of_normalisation(backward, axes, sorted(axes))


class BatchNorm(Op):
    name = "batch_norm"
    derivative_note = "Of x, gamma and beta; mean and variance are running statistics."
    args = (
        tensor("x"),
        tensor("mean", "const tensor"),
        tensor("variance", "const tensor"),
        tensor("gamma", "const tensor", required=False),
        tensor("beta", "const tensor", required=False),
        parameter("epsilon", "fp", 1e-5),
    )
    evidence = e5rt()
    shape_rule = "The type of x [N, C, ...], rank 3 to 5; mean, variance, gamma and beta are [C]."

    @staticmethod
    def infer(
        x: TensorType,
        mean: TensorType,
        variance: TensorType,
        gamma: TensorType | None,
        beta: TensorType | None,
        epsilon: float,
    ) -> TensorType:
        rank_between("x", x, 3, 5)
        _check_channel_vectors(x, mean=mean, variance=variance, gamma=gamma, beta=beta)
        return x

    @staticmethod
    def meaning(
        x: Array, mean: Array, variance: Array, gamma: Array | None, beta: Array | None, epsilon: float
    ) -> Array:
        normal = (x - along_channels(mean, x.ndim)) / np.sqrt(along_channels(variance, x.ndim) + epsilon)
        return _scaled(
            normal,
            None if gamma is None else along_channels(gamma, x.ndim),
            None if beta is None else along_channels(beta, x.ndim),
        )

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        g, x, u = backward.graph, backward.operand("x"), backward.gradient
        if backward.wants("mean") or backward.wants("variance"):
            backward.refuse("mean and variance are running statistics; the rule covers x, gamma and beta")

        @cache
        def scale() -> Value:
            variance = spread_along(g, backward.operand("variance"), x.shape, (1,))
            return g.pow(variance + backward.parameter("epsilon"), -0.5)

        def normal() -> Value:
            return (x - spread_along(g, backward.operand("mean"), x.shape, (1,))) * scale()

        return {
            **backward.gradients(x=lambda: _times_gamma(backward, u, (1,)) * scale()),
            **_of_affine(backward, normal, (1,)),
        }


class InstanceNorm(Op):
    name = "instance_norm"
    args = (
        tensor("x"),
        tensor("gamma", "const tensor", required=False),
        tensor("beta", "const tensor", required=False),
        parameter("epsilon", "fp", 1e-5),
    )
    evidence = e5rt()
    shape_rule = "The type of x [N, C, ...], rank 3 or 4, normalised over the axes after C; gamma and beta are [C]."

    @staticmethod
    def infer(x: TensorType, gamma: TensorType | None, beta: TensorType | None, epsilon: float) -> TensorType:
        rank_between("x", x, 3, 4)
        _check_channel_vectors(x, gamma=gamma, beta=beta)
        return x

    @staticmethod
    def meaning(x: Array, gamma: Array | None, beta: Array | None, epsilon: float) -> Array:
        spatial = tuple(range(2, x.ndim))
        centred = x - np.mean(x, axis=spatial, keepdims=True)
        normal = centred / np.sqrt(np.mean(centred**2, axis=spatial, keepdims=True) + epsilon)
        return _scaled(
            normal,
            None if gamma is None else along_channels(gamma, x.ndim),
            None if beta is None else along_channels(beta, x.ndim),
        )

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        return _of_normalisation(backward, range(2, len(backward.operand("x").shape)), (1,))


class L2Norm(Op):
    name = "l2_norm"
    args = (tensor("x"), parameter("epsilon", "fp", 1e-6))
    evidence = e5rt()
    shape_rule = "The type of x, rank 3 or more, divided by the norm of its last three axes."

    @staticmethod
    def infer(x: TensorType, epsilon: float) -> TensorType:
        rank_between("x", x, 3, 5)
        return x

    @staticmethod
    def meaning(x: Array, epsilon: float) -> Array:
        return np.asarray(x / np.sqrt(np.sum(x * x, axis=(-3, -2, -1), keepdims=True) + epsilon))

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        g, x, u, y = backward.graph, backward.operand("x"), backward.gradient, backward.output
        axes = (-3, -2, -1)
        scale = g.pow(sum_over(g, x * x, axes) + backward.parameter("epsilon"), -0.5)
        return {"x": (u - y * sum_over(g, u * y, axes)) * scale}


def _window_sum(graph: Graph, value: Value, before: int, after: int) -> Value:
    """Of each channel and its neighbours."""
    padded = pad_with_zeros(graph, value, [(0, 0), (before, after)])
    total = slice_axis(graph, padded, 1, 0, value.shape[1])
    for begin in range(1, before + after + 1):
        total = total + slice_axis(graph, padded, 1, begin, value.shape[1])
    return total


class LocalResponseNorm(Op):
    name = "local_response_norm"
    args = (
        tensor("x"),
        parameter("size", "int32", required=True),
        parameter("alpha", "fp", 1e-4),
        parameter("beta", "fp", 0.75),
        parameter("k", "fp", 1.0),
    )
    evidence = e5rt()
    shape_rule = (
        "The type of x [N, C, ...], rank 3 or 4: x / (k + alpha / size * sum of the squares of `size` channels)^beta."
    )

    @staticmethod
    def infer(x: TensorType, size: int, alpha: float, beta: float, k: float) -> TensorType:
        rank_between("x", x, 3, 4)
        if size < 1:
            mismatch("size", f"is {size}, expected a positive number")
        return x

    @staticmethod
    def meaning(x: Array, size: int, alpha: float, beta: float, k: float) -> Array:
        before = (size - 1) // 2  # an even window reaches one further ahead
        spread = [(0, 0)] * x.ndim
        spread[1] = (before, size - 1 - before)
        squares = np.pad(x * x, spread)
        total = sum(squares[:, i : i + x.shape[1]] for i in range(size))
        return np.asarray(x / (k + alpha / size * total) ** beta)

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        # y = x s^-beta, s = k + alpha / size * (squares summed over the window); the way back has the mirrored window
        g, x, u, y = backward.graph, backward.operand("x"), backward.gradient, backward.output
        size, alpha, beta = (backward.parameter(name) for name in ("size", "alpha", "beta"))
        before = (size - 1) // 2
        after = size - 1 - before
        s = _window_sum(g, x * x, before, after) * (alpha / size) + backward.parameter("k")
        shared = _window_sum(g, u * y / s, after, before)
        return {"x": u * g.pow(s, -beta) - x * shared * (2.0 * alpha * beta / size)}
