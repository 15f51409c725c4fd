"""Ops that move elements and compute nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from anetrain.mil.derivatives import (
    Backward,
    Gradient,
    pad_with_zeros,
    reshaped,
    slice_axis,
    spaced,
    sum_over,
    turn,
    zeros_like,
)
from anetrain.mil.ops.base import (
    Op,
    axes_of,
    axis_of,
    direct,
    disputed,
    e5rt,
    length_is,
    mismatch,
    one_of,
    one_type,
    parameter,
    rank_between,
    tensor,
)
from anetrain.mil.types import Array, Shape, TensorType

if TYPE_CHECKING:
    from anetrain.mil.graph import Value

WIDTH_SLICES = (
    "On M1 and M2 a slice that starts inside the width turns |v| > 4094 into inf, and several such slices concatenated "
    "mix up elements (C54)."
)

# ---------------------------------------------------------------- joining and cutting


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


# ---------------------------------------------------------------- shape


class Reshape(Op):
    name = "reshape"
    args = (tensor("x", "any tensor"), parameter("shape", "int32[]", required=True))
    evidence = direct("all sources")
    shape_rule = "shape, with one -1 for what is left over."
    limits = (
        "Wide rows (over about 100,000) followed by concat crash the compiler (C25).",
        "Over a constexpr result it does not compile.",
    )

    @staticmethod
    def infer(x: TensorType, shape: Sequence[int]) -> TensorType:
        known = math.prod(n for n in shape if n != -1)
        unknown = list(shape).count(-1)
        if unknown > 1 or any(n < 1 and n != -1 for n in shape):
            mismatch("shape", f"is {list(shape)}, expected positive sizes and at most one -1")
        if (unknown and x.element_count % known) or (not unknown and x.element_count != known):
            mismatch("shape", f"{list(shape)} does not hold the {x.element_count} elements of {list(x.shape)}")
        return TensorType(x.dtype, tuple(x.element_count // known if n == -1 else n for n in shape))

    @staticmethod
    def meaning(x: Array, shape: Sequence[int]) -> Array:
        return x.reshape(tuple(shape))

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        return {"x": reshaped(backward.graph, backward.gradient, backward.operand("x").shape)}


class Transpose(Op):
    name = "transpose"
    args = (tensor("x", "any tensor"), parameter("perm", "int32[]", required=True))
    evidence = direct("all sources")
    shape_rule = "Axis i of the result is axis perm[i] of x."

    @staticmethod
    def infer(x: TensorType, perm: Sequence[int]) -> TensorType:
        length_is("perm", perm, x.rank)
        return TensorType(x.dtype, tuple(x.shape[axis] for axis in axes_of(perm, x.rank, "perm")))

    @staticmethod
    def meaning(x: Array, perm: Sequence[int]) -> Array:
        return np.transpose(x, tuple(perm))

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        u = backward.gradient
        perm = [axis % len(u.shape) for axis in backward.parameter("perm")]
        return {"x": backward.graph.transpose(u, [perm.index(axis) for axis in range(len(perm))])}


class Squeeze(Op):
    name = "squeeze"
    args = (tensor("x", "any tensor"), parameter("axes", "int32[]"))
    evidence = e5rt()
    shape_rule = "The axes, which must be 1, vanish; no axes: all that are 1."

    @staticmethod
    def infer(x: TensorType, axes: Sequence[int] | None) -> TensorType:
        gone = [i for i, n in enumerate(x.shape) if n == 1] if axes is None else axes_of(axes, x.rank)
        for axis in gone:
            if x.shape[axis] != 1:
                mismatch("axes", f"axis {axis} has {x.shape[axis]} elements, expected 1")
        return TensorType(x.dtype, tuple(n for i, n in enumerate(x.shape) if i not in gone))

    @staticmethod
    def meaning(x: Array, axes: Sequence[int] | None) -> Array:
        return np.squeeze(x, axis=None if axes is None else tuple(axes))

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        return {"x": reshaped(backward.graph, backward.gradient, backward.operand("x").shape)}


class ExpandDims(Op):
    name = "expand_dims"
    args = (tensor("x", "any tensor"), parameter("axes", "int32[]", required=True))
    evidence = e5rt()
    shape_rule = "New axes of 1 at these places of the result."

    @staticmethod
    def infer(x: TensorType, axes: Sequence[int]) -> TensorType:
        rank = x.rank + len(axes)
        new = axes_of(axes, rank)
        old = iter(x.shape)
        return TensorType(x.dtype, tuple(1 if i in new else next(old) for i in range(rank)))

    @staticmethod
    def meaning(x: Array, axes: Sequence[int]) -> Array:
        return np.expand_dims(x, tuple(axes))

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        return {"x": reshaped(backward.graph, backward.gradient, backward.operand("x").shape)}


class Flatten2d(Op):
    name = "flatten2d"
    args = (tensor("x", "any tensor"), parameter("axis", "int32", 1))
    evidence = e5rt()
    shape_rule = "[product of the axes before axis, product of the rest]."

    @staticmethod
    def infer(x: TensorType, axis: int) -> TensorType:
        return TensorType(x.dtype, Flatten2d.rows_and_columns(x.shape, axis))

    @staticmethod
    def meaning(x: Array, axis: int) -> Array:
        return x.reshape(Flatten2d.rows_and_columns(x.shape, axis))

    @staticmethod
    def rows_and_columns(shape: Shape, axis: int) -> tuple[int, int]:
        if not -len(shape) <= axis <= len(shape):
            mismatch("axis", f"{axis} is outside [-{len(shape)}, {len(shape)}]")
        position = axis + len(shape) if axis < 0 else axis
        return math.prod(shape[:position]), math.prod(shape[position:])

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        return {"x": reshaped(backward.graph, backward.gradient, backward.operand("x").shape)}


# ---------------------------------------------------------------- repetition and order


class Tile(Op):
    name = "tile"
    args = (tensor("x", "any tensor"), parameter("reps", "int32[]", required=True))
    evidence = disputed("e5rt AF (factors 2, 3, 4, 8); FG: every later evaluation of the process fails (C51)")
    shape_rule = "Axis i is repeated reps[i] times."
    limits = ("Avoid it on the direct path: concat copies instead.",)

    @staticmethod
    def infer(x: TensorType, reps: Sequence[int]) -> TensorType:
        length_is("reps", reps, x.rank)
        if min(reps, default=1) < 1:
            mismatch("reps", f"is {list(reps)}, expected positive numbers")
        return TensorType(x.dtype, tuple(n * r for n, r in zip(x.shape, reps, strict=True)))

    @staticmethod
    def meaning(x: Array, reps: Sequence[int]) -> Array:
        return np.tile(x, tuple(reps))

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        value, x = backward.gradient, backward.operand("x")
        for axis, (extent, copies) in enumerate(zip(x.shape, backward.parameter("reps"), strict=True)):
            if copies > 1:
                before, after = math.prod(value.shape[:axis]), math.prod(value.shape[axis + 1 :])
                apart = backward.graph.reshape(value, (before, copies, extent, after))
                shape = (*value.shape[:axis], extent, *value.shape[axis + 1 :])
                value = backward.graph.reshape(sum_over(backward.graph, apart, (1,)), shape)
        return {"x": value}


class Reverse(Op):
    name = "reverse"
    args = (tensor("x", "any tensor"), parameter("axes", "int32[]"))
    evidence = e5rt()
    shape_rule = "The type of x, these axes (no axes: all) in opposite order."

    @staticmethod
    def infer(x: TensorType, axes: Sequence[int] | None) -> TensorType:
        axes_of(axes, x.rank)
        return x

    @staticmethod
    def meaning(x: Array, axes: Sequence[int] | None) -> Array:
        return np.flip(x, axes_of(axes, x.ndim))

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        return {"x": backward.graph.reverse(backward.gradient, axes=backward.parameter("axes"))}


_PAD_MODES: dict[str, Any] = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}


class Pad(Op):
    name = "pad"
    derivative_note = "Only of mode constant."
    args = (
        tensor("x"),
        parameter("pad", "int32[]", required=True),
        parameter("mode", "string", "constant"),
        parameter("constant_val", "fp", 0.0),
    )
    evidence = e5rt("AF, through concat and conv in places")
    shape_rule = "pad is (before, after) of each of the last axes; at most two numbers an axis."
    limits = ("Untested on the direct path.",)

    @staticmethod
    def infer(x: TensorType, pad: Sequence[int], mode: str, constant_val: float) -> TensorType:
        one_of("mode", mode, _PAD_MODES)
        if len(pad) % 2 or len(pad) > 2 * x.rank or not pad:
            mismatch("pad", f"has {len(pad)} elements, expected an even number up to {2 * x.rank}")
        shape = []
        for extent, (before, after) in zip(x.shape, Pad.pairs(x.rank, pad), strict=True):
            largest = extent - 1 if mode == "reflect" else max(before, after)
            if min(before, after) < 0 or max(before, after) > largest:
                mismatch("pad", f"({before}, {after}) does not fit {extent} elements in mode {mode}")
            shape.append(extent + before + after)
        return TensorType(x.dtype, tuple(shape))

    @staticmethod
    def meaning(x: Array, pad: Sequence[int], mode: str, constant_val: float) -> Array:
        fill = {"constant_values": constant_val} if mode == "constant" else {}
        return np.pad(x, Pad.pairs(x.ndim, pad), mode=_PAD_MODES[mode], **fill)

    @staticmethod
    def pairs(rank: int, pad: Sequence[int]) -> list[tuple[int, int]]:
        given = list(zip(pad[0::2], pad[1::2], strict=True))
        return [(0, 0)] * (rank - len(given)) + given

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        if backward.parameter("mode") != "constant":
            backward.refuse(f"mode {backward.parameter('mode')} repeats elements; the rule covers mode constant")
        value, x = backward.gradient, backward.operand("x")
        for axis, (before, _) in enumerate(Pad.pairs(len(x.shape), backward.parameter("pad"))):
            value = slice_axis(backward.graph, value, axis, before, x.shape[axis])
        return {"x": value}


class Crop(Op):
    name = "crop"
    args = (
        tensor("x"),
        parameter("crop_height", "int32[]", required=True),
        parameter("crop_width", "int32[]", required=True),
    )
    evidence = e5rt()
    shape_rule = "x [..., H, W] of rank 3 or more loses crop_height (top, bottom) and crop_width (left, right)."

    @staticmethod
    def infer(x: TensorType, crop_height: Sequence[int], crop_width: Sequence[int]) -> TensorType:
        rank_between("x", x, 3, 5)
        sizes = []
        for name, cut, extent in (("crop_height", crop_height, x.shape[-2]), ("crop_width", crop_width, x.shape[-1])):
            length_is(name, cut, 2)
            if min(cut) < 0 or sum(cut) >= extent:
                mismatch(name, f"{list(cut)} leaves nothing of {extent}")
            sizes.append(extent - sum(cut))
        return TensorType(x.dtype, (*x.shape[:-2], *sizes))

    @staticmethod
    def meaning(x: Array, crop_height: Sequence[int], crop_width: Sequence[int]) -> Array:
        (top, bottom), (left, right) = crop_height, crop_width
        return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        sides = [(0, 0)] * (len(backward.operand("x").shape) - 2)
        sides += [tuple(backward.parameter(name)) for name in ("crop_height", "crop_width")]
        return {"x": pad_with_zeros(backward.graph, backward.gradient, sides)}
