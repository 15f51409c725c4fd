"""Device ops that are written out in several MIL ops but have a derivative of their own: safer in fp16, or shorter,
than what the derivatives of their parts would give. And some of MIL's own, in operations that are proven, or exact."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from anetrain.graph.device_ops import BlockOp
from anetrain.mil.derivatives import mean_over, slice_axis, sum_over
from anetrain.mil.ops import joining, rows
from anetrain.mil.ops.base import axes_of, axis_of, mismatch, parameter, tensor
from anetrain.mil.types import Array, TensorType

if TYPE_CHECKING:
    from anetrain.mil.derivatives import Backward
    from anetrain.mil.graph import Graph, Value


SMALLEST_GRADIENT = 2.0**-10  # rows below it are not brought to size 1, so that rows of zeros are not divided by 0


class ComposedOp(BlockOp):
    @staticmethod
    def compose(g: Graph, *operands: Any, **parameters: Any) -> tuple[Value, ...]:
        """The results, in MIL ops."""
        raise TypeError("a composed op says how it is written")


class Normalise(ComposedOp):
    """x / sqrt(mean of x^2 + eps) along an axis, x first centred if wanted. Results: that, and the factor of each row.

    Works for any magnitude that fp16 has: x is first divided by about its largest element, so that squares neither
    overflow nor vanish. What exactly it is divided by makes no difference.
    """

    name = "normalise"
    several_results = True
    args = (
        tensor("x"),
        parameter("eps", "fp", required=True),
        parameter("axis", "int32", 1),
        parameter("centred", "bool", False),
    )
    shape_rule = "The type of x; and with 1 for the axis."

    @staticmethod
    def infer(x: TensorType, eps: float, axis: int, centred: bool) -> tuple[TensorType, ...]:
        axis = axis_of(axis, x.rank)
        if eps <= 0:
            mismatch("eps", f"is {eps}, expected more than 0")
        return x, TensorType(x.dtype, (*x.shape[:axis], 1, *x.shape[axis + 1 :]))

    @staticmethod
    def meaning(x: Array, eps: float, axis: int, centred: bool) -> tuple[Array, Array]:
        if centred:
            x = x - np.mean(x, axis=axis, keepdims=True)
        factor = 1.0 / np.sqrt(np.mean(x * x, axis=axis, keepdims=True) + eps)
        return x * factor, factor

    @staticmethod
    def compose(g: Graph, x: Value, eps: float, axis: int, centred: bool) -> tuple[Value, ...]:
        axis %= len(x.shape)
        terms, floor = x.shape[axis], math.sqrt(eps)
        # The largest elements become about `size`, a power of two whose squares have a sum below 2^14: large, because
        # some engines drop summands below 2^-14, but far from 2^15, where sums end.
        size = 2.0 ** math.floor(math.log2(2**14 / terms) / 2)
        inverse = g.pow(_about_the_largest(g, x, axis, 1.0 / size, floor), -1.0)
        unit = g.mul(x, inverse)
        small = g.mul(inverse, floor)  # sqrt(eps) in the same units
        least = g.mul(small, small)
        if centred:
            for _ in range(2):  # the second time takes off what rounding left of the mean
                unit = g.sub(unit, g.mul(sum_over(g, unit, (axis,)), 1.0 / terms))
            least = g.add(least, 2.0**-20)  # for rows of equal elements
        mean = g.mul(sum_over(g, g.mul(unit, unit), (axis,)), 1.0 / terms)
        root = g.pow(g.add(mean, least), -0.5)
        return g.mul(unit, root), g.mul(inverse, root)

    @staticmethod
    def derivative(backward: Backward) -> Mapping[str, Any]:
        """dx = factor * (dy - mean(dy) - y * mean(dy * y)), mean(dy) only where x was centred."""
        g, (y, factor) = backward.graph, backward.node.outputs
        upstream, of_factor = backward.upstream
        if upstream is None or of_factor is not None:
            backward.refuse("the factor of a row is for its own derivative only")
        axis = backward.parameter("axis")
        terms = y.shape[axis]
        # All of it is done with dy divided by about its largest element, whose elements are at most 2. The mean of |y|
        # is at most 1, as that of y^2 is: sums stay below 2^14, half of where they end, for gradients of any magnitude.
        scale = 2.0 ** math.floor(math.log2(2**13 / terms))
        size = _about_the_largest(g, upstream, axis, 0.5, SMALLEST_GRADIENT)
        unit = g.mul(upstream, g.pow(size, -1.0))

        def mean(value: Value) -> Value:
            return g.mul(sum_over(g, value, (axis,)), 1.0 / (terms * scale))

        change = g.sub(unit, g.mul(y, mean(g.mul(unit, g.mul(y, scale)))))
        if backward.parameter("centred"):
            change = g.sub(change, mean(g.mul(unit, scale)))
        return {"x": g.mul(g.mul(change, factor), size)}


def _about_the_largest(g: Graph, x: Value, axis: int, scale: float, floor: float) -> Value:
    """Of each row: scale times a number between its largest magnitude and twice that, plus `floor`."""
    above, below = (g.relu(g.reduce_max(v, axes=(axis,), keep_dims=True)) for v in (x, g.mul(x, -1.0)))
    return g.add(g.add(g.mul(above, scale), g.mul(below, scale)), scale * floor)


class SwapHalves(ComposedOp):
    """The two halves of an axis change places."""

    name = "swap_halves"
    args = (tensor("x"), parameter("axis", "int32", required=True))
    shape_rule = "The type of x."

    @staticmethod
    def infer(x: TensorType, axis: int) -> TensorType:
        if x.shape[axis_of(axis, x.rank)] % 2:
            mismatch("x", f"has shape {list(x.shape)}: axis {axis} has no two halves")
        return x

    @staticmethod
    def meaning(x: Array, axis: int) -> Array:
        return np.roll(x, x.shape[axis] // 2, axis)

    @staticmethod
    def compose(g: Graph, x: Value, axis: int) -> tuple[Value, ...]:
        axis %= len(x.shape)
        half = x.shape[axis] // 2
        size = tuple(half if i == axis else extent for i, extent in enumerate(x.shape))
        lower, upper = (
            g.slice_by_size(x, begin=tuple(begin if i == axis else 0 for i in range(len(size))), size=size)
            for begin in (0, half)
        )
        return (g.concat((upper, lower), axis=axis),)

    @staticmethod
    def derivative(backward: Backward) -> Mapping[str, Any]:
        axis = backward.parameter("axis")
        return {"x": backward.graph.apply("swap_halves", x=backward.gradient, axis=axis)[0]}


class Split(ComposedOp, joining.Split):
    """In slices: MIL's own has no direct evidence."""

    name = "split"
    shape_rule = joining.Split.shape_rule

    @staticmethod
    def compose(
        g: Graph, x: Value, num_splits: int | None, split_sizes: Sequence[int] | None, axis: int
    ) -> tuple[Value, ...]:
        axis %= len(x.shape)
        sizes = joining.Split.sizes(x.shape[axis], num_splits, split_sizes)
        ends = np.cumsum(sizes)
        return tuple(slice_axis(g, x, axis, int(end) - size, size) for end, size in zip(ends, sizes, strict=True))


class ReduceSum(ComposedOp, rows.ReduceSum):
    """By a product with ones where it is long: the engine's own adds in fp16."""

    name = "reduce_sum"
    shape_rule = rows.ReduceSum.shape_rule

    @staticmethod
    def compose(g: Graph, x: Value, axes: Sequence[int] | None, keep_dims: bool) -> tuple[Value, ...]:
        return (sum_over(g, x, axes_of(axes, len(x.shape)), keep_dims),)


class ReduceMean(ComposedOp, rows.ReduceMean):
    name = "reduce_mean"
    shape_rule = rows.ReduceMean.shape_rule

    @staticmethod
    def compose(g: Graph, x: Value, axes: Sequence[int] | None, keep_dims: bool) -> tuple[Value, ...]:
        mean = mean_over(g, x, axes_of(axes, len(x.shape)))
        return (mean if keep_dims else sum_over(g, mean, axes_of(axes, len(x.shape)), keep_dims=False),)
