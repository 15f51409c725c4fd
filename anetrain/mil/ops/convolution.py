"""Convolutions and transposed ones. Weights usually are constants, may be computed."""

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
    sum_over,
    turn,
)
from anetrain.mil.ops.base import (
    Op,
    along_channels,
    direct,
    e5rt,
    mismatch,
    one_type,
    parameter,
    rank_between,
    tensor,
)
from anetrain.mil.ops.linear import CHUNKED_SUM, check_bias
from anetrain.mil.ops.spatial import Padding, check_pairs, output_size, padding_of, window_of
from anetrain.mil.types import Array, TensorType

if TYPE_CHECKING:
    from anetrain.mil.graph import Graph, Value


def _check_groups(x: TensorType, groups: int) -> None:
    if groups < 1 or x.shape[1] % groups:
        mismatch("groups", f"is {groups}, which does not divide the {x.shape[1]} channels of x")


class Conv(Op):
    name = "conv"
    derivative_note = (
        "Of x by a conv with the turned weight, which is computed where the weight is; by a matmul where a computed "
        "weight is 1x1."
    )
    args = (
        tensor("x"),
        tensor("weight"),
        tensor("bias", required=False),
        parameter("strides", "int32[]", (1, 1)),
        parameter("pad_type", "string", "valid"),
        parameter("pad", "int32[]", (0, 0, 0, 0)),
        parameter("dilations", "int32[]", (1, 1)),
        parameter("groups", "int32", 1),
    )
    evidence = direct("all sources")
    shape_rule = (
        "x [N, Ci, H, W], weight [Co, Ci / groups, kH, kW], bias [Co] -> [N, Co, H', W'] with "
        "H' = (H + pads - ((kH - 1) * dilation + 1)) / stride + 1, W' alike. pad is (top, bottom, left, right)."
    )
    limits = (
        CHUNKED_SUM,
        "A 1x1 conv over [1, C, 1, S] is a linear layer.",
        "bias is refused by some systems (C36): add it separately.",
        "32,000 output channels compile, 32,000 input channels do not (C11).",
        "kW at most 13 on M1, 15 on M5 (C12).",
        "A run-time weight needs N = 1: more crashes the compile service (C26).",
    )

    @staticmethod
    def infer(
        x: TensorType,
        weight: TensorType,
        bias: TensorType | None,
        strides: Sequence[int],
        pad_type: str,
        pad: Sequence[int],
        dilations: Sequence[int],
        groups: int,
    ) -> TensorType:
        rank_between("x", x, 4, 4)
        rank_between("weight", weight, 4, 4)
        one_type(x, weight=weight, bias=bias)
        check_pairs(strides=strides, dilations=dilations)
        _check_groups(x, groups)
        if weight.shape[1] * groups != x.shape[1]:
            mismatch("weight", f"has {weight.shape[1]} input channels for {groups} groups, x has {x.shape[1]} channels")
        if weight.shape[0] % groups:
            mismatch("groups", f"is {groups}, which does not divide the {weight.shape[0]} output channels")
        check_bias(bias, weight.shape[0])
        window = window_of(weight.shape[2:], dilations)
        padding = padding_of(pad_type, pad, x.shape[2:], window, strides)
        return TensorType(x.dtype, (x.shape[0], weight.shape[0], *output_size(x.shape[2:], window, strides, padding)))

    @staticmethod
    def meaning(
        x: Array,
        weight: Array,
        bias: Array | None,
        strides: Sequence[int],
        pad_type: str,
        pad: Sequence[int],
        dilations: Sequence[int],
        groups: int,
    ) -> Array:
        window = window_of(weight.shape[2:], dilations)
        padding = padding_of(pad_type, pad, x.shape[2:], window, strides)
        height, width = output_size(x.shape[2:], window, strides, padding)
        padded = np.pad(x, ((0, 0), (0, 0), *padding))
        batch, out_channels = x.shape[0], weight.shape[0]
        grouped_weight = weight.reshape(groups, out_channels // groups, *weight.shape[1:])  # [G, Co/G, Ci/G, kH, kW]
        result = np.zeros((batch, groups, out_channels // groups, height, width))
        for i in range(weight.shape[2]):
            for j in range(weight.shape[3]):
                top, left = i * dilations[0], j * dilations[1]
                tap = padded[
                    :, :, top : top + height * strides[0] : strides[0], left : left + width * strides[1] : strides[1]
                ][:, :, :height, :width]
                tap = tap.reshape(batch, groups, -1, height, width)  # [N, G, Ci/G, H', W']
                result += np.einsum("ngchw,goc->ngohw", tap, grouped_weight[:, :, :, i, j])
        flat = result.reshape(batch, out_channels, height, width)
        return flat if bias is None else flat + along_channels(bias, 4)

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        x, weight, u = backward.operand("x"), backward.operand("weight"), backward.gradient
        window = window_of(weight.shape[2:], backward.parameter("dilations"))
        padding = padding_of(
            backward.parameter("pad_type"),
            backward.parameter("pad"),
            x.shape[2:],
            window,
            backward.parameter("strides"),
        )
        return {
            **backward.gradients(
                x=lambda: _conv_of_x(backward, window, padding),
                weight=lambda: _weight_gradient(backward, x, u, padding),
            ),
            **_of_bias(backward),
        }


def _conv_of_x(backward: Backward, window: Sequence[int], padding: Padding) -> Value | None:
    """A conv with the taps in opposite order, over the gradient with zeros where the strides left elements out."""
    g, x, weight, u = backward.graph, backward.operand("x"), backward.operand("weight"), backward.gradient
    strides, dilations, groups = (backward.parameter(name) for name in ("strides", "dilations", "groups"))
    is_linear = tuple(strides) == (1, 1) and weight.shape[2:] == (1, 1) and not any(map(any, padding))
    if is_linear and weight.data is None:
        rows, columns = (
            _grouped(g, weight, 0, groups),
            _grouped(g, u, 1, groups),
        )  # [1, G, Co/G, Ci/G], [N, G, Co/G, HW]
        return reshaped(g, g.matmul(rows, columns, transpose_x=True), x.shape)
    pad = []
    for axis, stride, span, (before, _) in zip((2, 3), strides, window, padding, strict=True):
        u = spaced(g, u, axis, stride)
        first = span - 1 - before  # zeros before the first element; negative: elements that met padding only
        last = x.shape[axis] - u.shape[axis] - first + span - 1
        begin, end = max(-first, 0), u.shape[axis] - max(-last, 0)
        if begin >= end:
            return None  # no window leaves the padding
        u = slice_axis(g, u, axis, begin, end - begin)
        pad += [max(first, 0), max(last, 0)]
    turned = _turned(g, weight, groups)
    return g.conv(u, turned, None, (1, 1), "custom" if any(pad) else "valid", pad, dilations, groups)


def _turned(g: Graph, weight: Value, groups: int) -> Value:
    """[Co, Ci/G, kH, kW] -> [Ci, Co/G, kH, kW], the taps in opposite order."""
    out_channels, in_channels, *taps = weight.shape
    grouped = (groups, out_channels // groups, in_channels, *taps)  # [G, Co/G, Ci/G, kH, kW]
    shape = (groups * in_channels, out_channels // groups, *taps)
    if weight.data is not None:
        swapped = weight.data.reshape(grouped).swapaxes(1, 2).reshape(shape)
        return g.constant(np.flip(swapped, (2, 3)), dtype=weight.dtype)
    if grouped[1:3] != (1, 1):
        weight = reshaped(g, g.transpose(reshaped(g, weight, grouped), (0, 2, 1, 3, 4)), shape)
    axes = [axis for axis in (2, 3) if weight.shape[axis] > 1]
    return turn(g, weight, axes) if axes else weight


def _grouped(graph: Graph, value: Value, axis: int, groups: int) -> Value:
    """[..., G C, ...] with the channels on `axis` -> [N or 1, G, C, the rest]"""
    batch = value.shape[0] if axis == 1 else 1
    channels = value.shape[axis] // groups
    return reshaped(graph, value, (batch, groups, channels, value.type.element_count // (batch * groups * channels)))


def _weight_gradient(backward: Backward, data: Value, slid: Value, padding: Padding) -> Value:
    """Of the weight of a conv that slides over `data` and meets `slid` [N, Co, H', W']: one matmul per tap."""
    g, weight, groups = backward.graph, backward.operand("weight"), backward.parameter("groups")
    strides, dilations = backward.parameter("strides"), backward.parameter("dilations")
    padded = pad_with_zeros(g, data, [(0, 0), (0, 0), *padding])
    rows = _grouped(g, slid, 1, groups)  # [N, G, Co/G, H' W']
    taps = []
    for i in range(weight.shape[2]):
        lines = slice_axis(g, padded, 2, i * dilations[0], slid.shape[2], strides[0])
        for j in range(weight.shape[3]):
            tap = slice_axis(g, lines, 3, j * dilations[1], slid.shape[3], strides[1])  # [N, Ci, H', W']
            product = g.matmul(rows, _grouped(g, tap, 1, groups), transpose_y=True)  # [N, G, Co/G, Ci/G]
            total = sum_over(g, product, (0,))
            taps.append(total if weight.shape[2:] == (1, 1) else g.reshape(total, (*weight.shape[:2], 1)))
    return reshaped(g, g.concat(taps, axis=2) if len(taps) > 1 else taps[0], weight.shape)


def _of_bias(backward: Backward) -> dict[str, Gradient]:
    if not backward.wants("bias"):
        return {}
    return {"bias": sum_over(backward.graph, backward.gradient, (0, 2, 3), keep_dims=False)}


class ConvTranspose(Op):
    name = "conv_transpose"
    args = (
        tensor("x"),
        tensor("weight"),
        tensor("bias", required=False),
        parameter("pad", "int32[]", (0, 0, 0, 0)),
        parameter("output_shape", "int32[]"),
        parameter("pad_type", "string", "valid"),
        parameter("strides", "int32[]", (1, 1)),
        parameter("dilations", "int32[]", (1, 1)),
        parameter("groups", "int32", 1),
    )
    evidence = e5rt()
    shape_rule = (
        "x [N, Ci, H, W], weight [Ci, Co / groups, kH, kW] -> [N, Co, H', W'] with "
        "H' = (H - 1) * stride + (kH - 1) * dilation + 1 - pads; H * stride for pad_type same."
    )
    limits = (CHUNKED_SUM,)

    @staticmethod
    def infer(
        x: TensorType,
        weight: TensorType,
        bias: TensorType | None,
        pad: Sequence[int],
        output_shape: Sequence[int] | None,
        pad_type: str,
        strides: Sequence[int],
        dilations: Sequence[int],
        groups: int,
    ) -> TensorType:
        rank_between("x", x, 4, 4)
        rank_between("weight", weight, 4, 4)
        one_type(x, weight=weight, bias=bias)
        check_pairs(strides=strides, dilations=dilations)
        _check_groups(x, groups)
        if weight.shape[0] != x.shape[1]:
            mismatch("weight", f"has {weight.shape[0]} input channels, x has {x.shape[1]}")
        channels = weight.shape[1] * groups
        check_bias(bias, channels)
        (height, _), (width, _) = _transposed_sides(x.shape, weight.shape, pad_type, pad, strides, dilations)
        shape = (x.shape[0], channels, height, width)
        if output_shape is not None and tuple(output_shape) != shape:
            mismatch("output_shape", f"is {list(output_shape)}, the other arguments make {list(shape)}")
        return TensorType(x.dtype, shape)

    @staticmethod
    def meaning(
        x: Array,
        weight: Array,
        bias: Array | None,
        pad: Sequence[int],
        output_shape: Sequence[int] | None,
        pad_type: str,
        strides: Sequence[int],
        dilations: Sequence[int],
        groups: int,
    ) -> Array:
        (height, top), (width, left) = _transposed_sides(x.shape, weight.shape, pad_type, pad, strides, dilations)
        batch, channels, rows, columns = x.shape
        grouped_x = x.reshape(batch, groups, channels // groups, rows, columns)
        grouped_weight = weight.reshape(groups, channels // groups, *weight.shape[1:])  # [G, Ci/G, Co/G, kH, kW]
        full_height = (rows - 1) * strides[0] + (weight.shape[2] - 1) * dilations[0] + 1
        full_width = (columns - 1) * strides[1] + (weight.shape[3] - 1) * dilations[1] + 1
        # Room on the far side: "same" may ask for more than the taps reach.
        full = np.zeros((batch, groups, weight.shape[1], max(full_height, top + height), max(full_width, left + width)))
        for i in range(weight.shape[2]):
            for j in range(weight.shape[3]):
                spread = np.einsum("ngchw,gco->ngohw", grouped_x, grouped_weight[:, :, :, i, j])
                a, b = i * dilations[0], j * dilations[1]
                full[
                    ...,
                    a : a + (rows - 1) * strides[0] + 1 : strides[0],
                    b : b + (columns - 1) * strides[1] + 1 : strides[1],
                ] += spread
        result = full[..., top : top + height, left : left + width].reshape(batch, -1, height, width)
        return result if bias is None else result + along_channels(bias, 4)

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        # The other way round: its gradient is a conv with the same weight, whose padding is what was cut off.
        g, x, weight, u = backward.graph, backward.operand("x"), backward.operand("weight"), backward.gradient
        strides, dilations = backward.parameter("strides"), backward.parameter("dilations")
        window = window_of(weight.shape[2:], dilations)
        sides = _transposed_sides(
            x.shape, weight.shape, backward.parameter("pad_type"), backward.parameter("pad"), strides, dilations
        )
        reached = [
            (extent - 1) * stride + span for extent, stride, span in zip(x.shape[2:], strides, window, strict=True)
        ]
        rows, columns = ((cut, max(n - length - cut, 0)) for n, (length, cut) in zip(reached, sides, strict=True))

        def of_x() -> Value:
            return g.conv(
                u, weight, None, strides, "custom", (*rows, *columns), dilations, backward.parameter("groups")
            )

        return {
            **backward.gradients(x=of_x, weight=lambda: _weight_gradient(backward, u, x, (rows, columns))),
            **_of_bias(backward),
        }


def _transposed_sides(
    x_shape: Sequence[int],
    weight_shape: Sequence[int],
    pad_type: str,
    pad: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> tuple[tuple[int, int], tuple[int, int]]:
    """(output extent, elements cut off before it) of height and width."""
    window = window_of(weight_shape[2:], dilations)
    if pad_type in ("same", "same_lower"):
        sides = []
        for extent, span, stride in zip(x_shape[2:], window, strides, strict=True):
            cut = max(span - stride, 0)
            sides.append((extent * stride, cut // 2 if pad_type == "same" else cut - cut // 2))
        return sides[0], sides[1]
    padding = padding_of(pad_type, pad, x_shape[2:], window, strides)
    extents = []
    for extent, span, stride, (before, after) in zip(x_shape[2:], window, strides, padding, strict=True):
        length = (extent - 1) * stride + span - before - after
        if length < 1:
            mismatch("pad", f"cuts {before} + {after} from {length + before + after} elements")
        extents.append((length, before))
    return extents[0], extents[1]
