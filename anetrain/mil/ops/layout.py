"""Ops that move elements and compute nothing; those that join and cut have a file of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from anetrain.mil.derivatives import (
    Backward,
    Gradient,
    pad_with_zeros,
    reshaped,
    slice_axis,
    sum_over,
)
from anetrain.mil.ops.base import (
    Op,
    axes_of,
    direct,
    disputed,
    e5rt,
    length_is,
    mismatch,
    one_of,
    parameter,
    rank_between,
    tensor,
)
from anetrain.mil.types import Array, Shape, TensorType

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
