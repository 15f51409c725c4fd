"""Ops that join tensors and cut them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from anetrain.mil.derivatives import (
    Backward,
    Gradient,
    pad_with_zeros,
    reshaped,
    slice_axis,
    spaced,
    turn,
    zeros_like,
)
from anetrain.mil.ops.base import (
    Op,
    axis_of,
    direct,
    e5rt,
    length_is,
    mismatch,
    one_type,
    parameter,
    tensor,
)
from anetrain.mil.types import Array, TensorType

if TYPE_CHECKING:
    from anetrain.mil.graph import Value


WIDTH_SLICES = (
    "On M1 and M2 a slice that starts inside the width turns |v| > 4094 into inf, and several such slices concatenated "
    "mix up elements (C54)."
)


class Concat(Op):
    name = "concat"
    args = (
        tensor("values", "tensors"),
        parameter("axis", "int32", required=True),
        parameter("interleave", "bool", False, required=True),
    )
    evidence = direct("MAD, ESP (12+ inputs), LM (ios16, 3 inputs), M0; ORI #1 and AT report rejection (C1)")
    shape_rule = "The sizes along axis add up, all others are equal. interleave takes one slice of each in turn."
    limits = (
        "axis is a scalar, not a tensor of one element.",
        "Rows wider than about 100,000 crash the compiler (C25).",
    )

    @staticmethod
    def infer(values: Sequence[TensorType], axis: int, interleave: bool) -> TensorType:
        if not values:
            mismatch("values", "is empty")
        first = values[0]
        position = axis_of(axis, first.rank)
        for other in values[1:]:
            one_type(first, values=other)
            if other.rank != first.rank or any(
                m != n for i, (m, n) in enumerate(zip(first.shape, other.shape, strict=True)) if i != position
            ):
                mismatch("values", f"shapes {list(first.shape)} and {list(other.shape)} differ outside axis {axis}")
            if interleave and other.shape != first.shape:
                mismatch("values", f"interleave needs equal shapes, found {list(first.shape)} and {list(other.shape)}")
        total = sum(value.shape[position] for value in values)
        return TensorType(first.dtype, (*first.shape[:position], total, *first.shape[position + 1 :]))

    @staticmethod
    def meaning(values: Sequence[Array], axis: int, interleave: bool) -> Array:
        if not interleave:
            return np.concatenate(values, axis=axis)
        position = axis % values[0].ndim
        shape = list(values[0].shape)
        shape[position] *= len(values)
        return np.stack(values, axis=position + 1).reshape(shape)

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        g, u, values = backward.graph, backward.gradient, backward.operands("values")
        axis = backward.parameter("axis") % len(u.shape)
        found: list[Value | None] = []
        begin = 0
        for i, value in enumerate(values):
            part = None
            if value in backward.wanted and backward.parameter("interleave"):
                part = slice_axis(g, u, axis, i, value.shape[axis], len(values))
            elif value in backward.wanted:
                part = slice_axis(g, u, axis, begin, value.shape[axis])
            found.append(part)
            begin += value.shape[axis]
        return {"values": found}


class Stack(Op):
    name = "stack"
    args = (tensor("values", "tensors"), parameter("axis", "int32", required=True))
    evidence = e5rt()
    shape_rule = "Equal shapes are joined along a new axis."

    @staticmethod
    def infer(values: Sequence[TensorType], axis: int) -> TensorType:
        if not values:
            mismatch("values", "is empty")
        first = values[0]
        for other in values[1:]:
            one_type(first, values=other)
            if other.shape != first.shape:
                mismatch("values", f"shapes {list(first.shape)} and {list(other.shape)} differ")
        position = axis_of(axis, first.rank + 1)
        return TensorType(first.dtype, (*first.shape[:position], len(values), *first.shape[position:]))

    @staticmethod
    def meaning(values: Sequence[Array], axis: int) -> Array:
        return np.stack(values, axis=axis)

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        g, u, values = backward.graph, backward.gradient, backward.operands("values")
        axis = backward.parameter("axis") % len(u.shape)
        return {
            "values": [
                g.reshape(slice_axis(g, u, axis, i, 1), value.shape) if value in backward.wanted else None
                for i, value in enumerate(values)
            ]
        }


class Split(Op):
    name = "split"
    several_results = True
    args = (
        tensor("x", "any tensor"),
        parameter("num_splits", "int32"),
        parameter("split_sizes", "int32[]"),
        parameter("axis", "int32", required=True),
    )
    evidence = e5rt()
    shape_rule = "num_splits equal parts of axis, or parts of split_sizes; as many results."

    @staticmethod
    def infer(
        x: TensorType, num_splits: int | None, split_sizes: Sequence[int] | None, axis: int
    ) -> tuple[TensorType, ...]:
        position = axis_of(axis, x.rank)
        sizes = Split.sizes(x.shape[position], num_splits, split_sizes)
        return tuple(TensorType(x.dtype, (*x.shape[:position], size, *x.shape[position + 1 :])) for size in sizes)

    @staticmethod
    def meaning(x: Array, num_splits: int | None, split_sizes: Sequence[int] | None, axis: int) -> tuple[Array, ...]:
        sizes = Split.sizes(x.shape[axis], num_splits, split_sizes)
        return tuple(np.split(x, np.cumsum(sizes)[:-1], axis=axis))

    @staticmethod
    def sizes(length: int, num_splits: int | None, split_sizes: Sequence[int] | None) -> list[int]:
        if split_sizes is not None:
            if min(split_sizes, default=0) < 1 or sum(split_sizes) != length:
                mismatch("split_sizes", f"{list(split_sizes)} does not cut {length} elements")
            if num_splits not in (None, len(split_sizes)):
                mismatch("num_splits", f"is {num_splits}, split_sizes has {len(split_sizes)}")
            return list(split_sizes)
        if num_splits is None:
            mismatch("num_splits", "is missing: give num_splits or split_sizes")
        if num_splits < 1 or length % num_splits:
            mismatch("num_splits", f"is {num_splits}, which does not divide {length}")
        return [length // num_splits] * num_splits

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        parts = [
            zeros_like(backward.graph, part.shape, backward.operand("x")) if u is None else u
            for part, u in zip(backward.node.outputs, backward.upstream, strict=True)
        ]
        return {"x": backward.graph.concat(parts, axis=backward.parameter("axis")) if len(parts) > 1 else parts[0]}


class SliceBySize(Op):
    name = "slice_by_size"
    args = (
        tensor("x", "any tensor"),
        parameter("begin", "int32[]", required=True),
        parameter("size", "int32[]", required=True),
    )
    evidence = direct("MAD, FG, M0")
    shape_rule = "size, where -1 means up to the end."
    limits = (WIDTH_SLICES,)

    @staticmethod
    def infer(x: TensorType, begin: Sequence[int], size: Sequence[int]) -> TensorType:
        length_is("begin", begin, x.rank)
        length_is("size", size, x.rank)
        lengths = []
        for axis, (start, length, extent) in enumerate(zip(begin, size, x.shape, strict=True)):
            length = extent - start if length == -1 else length
            if not 0 <= start < extent or not 1 <= length <= extent - start:
                mismatch("begin", f"{start} with size {length} leaves axis {axis} of {extent}")
            lengths.append(length)
        return TensorType(x.dtype, tuple(lengths))

    @staticmethod
    def meaning(x: Array, begin: Sequence[int], size: Sequence[int]) -> Array:
        return np.asarray(x[tuple(slice(b, None if s == -1 else b + s) for b, s in zip(begin, size, strict=True))])

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        u, x = backward.gradient, backward.operand("x")
        sides = [
            (begin, extent - begin - size)
            for begin, size, extent in zip(backward.parameter("begin"), u.shape, x.shape, strict=True)
        ]
        return {"x": pad_with_zeros(backward.graph, u, sides)}


class SliceByIndex(Op):
    name = "slice_by_index"
    args = (
        tensor("x", "any tensor"),
        parameter("begin", "int32[]", required=True),
        parameter("end", "int32[]", required=True),
        parameter("stride", "int32[]"),
        parameter("begin_mask", "bool[]"),
        parameter("end_mask", "bool[]"),
        parameter("squeeze_mask", "bool[]"),
    )
    evidence = direct("LM (production), ORI codegen")
    shape_rule = (
        "x[begin:end:stride] per axis as numpy has it; begin_mask and end_mask take the whole side, squeeze_mask takes "
        "the element at begin and drops the axis."
    )
    limits = (WIDTH_SLICES, "Refused on function inputs of complex programs on M3 Max (C21).")

    @staticmethod
    def infer(
        x: TensorType,
        begin: Sequence[int],
        end: Sequence[int],
        stride: Sequence[int] | None,
        begin_mask: Sequence[bool] | None,
        end_mask: Sequence[bool] | None,
        squeeze_mask: Sequence[bool] | None,
    ) -> TensorType:
        given = {
            "begin": begin, "end": end, "stride": stride, "begin_mask": begin_mask, "end_mask": end_mask,
            "squeeze_mask": squeeze_mask,
        }  # fmt: skip
        for name, values in given.items():
            if values is not None:
                length_is(name, values, x.rank)
        if stride is not None and 0 in stride:
            mismatch("stride", f"is {list(stride)}: a stride of 0 goes nowhere")
        shape = []
        for axis, item in enumerate(SliceByIndex.items(begin, end, stride, begin_mask, end_mask, squeeze_mask)):
            extent = x.shape[axis]
            if isinstance(item, int):
                if not -extent <= item < extent:
                    mismatch("begin", f"{item} is outside axis {axis} of {extent}")
                continue
            length = len(range(*item.indices(extent)))
            if length == 0:
                mismatch("end", f"axis {axis} of {extent} has no element in {item.start}:{item.stop}:{item.step}")
            shape.append(length)
        return TensorType(x.dtype, tuple(shape))

    @staticmethod
    def meaning(
        x: Array,
        begin: Sequence[int],
        end: Sequence[int],
        stride: Sequence[int] | None,
        begin_mask: Sequence[bool] | None,
        end_mask: Sequence[bool] | None,
        squeeze_mask: Sequence[bool] | None,
    ) -> Array:
        return np.asarray(x[tuple(SliceByIndex.items(begin, end, stride, begin_mask, end_mask, squeeze_mask))])

    @staticmethod
    def items(
        begin: Sequence[int],
        end: Sequence[int],
        stride: Sequence[int] | None,
        begin_mask: Sequence[bool] | None,
        end_mask: Sequence[bool] | None,
        squeeze_mask: Sequence[bool] | None,
    ) -> list[slice | int]:
        """numpy's index of each axis."""
        items: list[slice | int] = []
        for axis, (first, last) in enumerate(zip(begin, end, strict=True)):
            open_start = begin_mask is not None and begin_mask[axis]
            if squeeze_mask is not None and squeeze_mask[axis]:
                items.append(0 if open_start else first)
                continue
            open_stop = end_mask is not None and end_mask[axis]
            items.append(
                slice(None if open_start else first, None if open_stop else last, stride[axis] if stride else 1)
            )
        return items

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        g, x = backward.graph, backward.operand("x")
        items = SliceByIndex.items(**backward.node.parameters)
        places = [
            range(extent)[item : item + 1 or None] if isinstance(item, int) else range(*item.indices(extent))
            for item, extent in zip(items, x.shape, strict=True)
        ]
        value = reshaped(g, backward.gradient, tuple(len(places_) for places_ in places))
        turned = [axis for axis, found in enumerate(places) if found.step < 0]
        if turned:
            value = turn(g, value, turned)
        sides = []
        for axis, found in enumerate(places):
            first, last = min(found), max(found)
            value = spaced(g, value, axis, abs(found.step))
            sides.append((first, x.shape[axis] - last - 1))
        return {"x": pad_with_zeros(g, value, sides)}
