"""Pooling, resampling, the affine warp: ops over height and width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from anetrain.mil.derivatives import Backward, Gradient
from anetrain.mil.ops.base import Arg, Op, direct, e5rt, mismatch, one_of, one_type, parameter, rank_between, tensor
from anetrain.mil.ops.spatial import check_pairs, output_size, padding_of
from anetrain.mil.types import Array, TensorType

if TYPE_CHECKING:
    from anetrain.mil.graph import Value

# ---------------------------------------------------------------- pools

_POOL_ARGS = (
    tensor("x"),
    parameter("kernel_sizes", "int32[]", required=True),
    parameter("strides", "int32[]", (1, 1)),
    parameter("pad_type", "string", "valid", required=True),
    parameter("pad", "int32[]", (0, 0, 0, 0)),
    parameter("ceil_mode", "bool", False),
)


class Pool(Op):
    args: ClassVar[tuple[Arg, ...]] = _POOL_ARGS
    evidence = e5rt()
    shape_rule = (
        "x [N, C, H, W] -> [N, C, H', W'] with H' = (H + pads - kernel) / stride + 1, rounded up in ceil_mode, without "
        "windows that lie wholly in the padding. Every window meets x: pads are smaller than the kernel. ceil_mode "
        "wants equal pads on both sides and no `same`."
    )

    @staticmethod
    def infer(
        x: TensorType,
        kernel_sizes: Sequence[int],
        strides: Sequence[int],
        pad_type: str,
        pad: Sequence[int],
        ceil_mode: bool,
        exclude_padding_from_average: bool = False,
    ) -> TensorType:
        rank_between("x", x, 4, 4)
        check_pairs(kernel_sizes=kernel_sizes, strides=strides)
        padding = padding_of(pad_type, pad, x.shape[2:], kernel_sizes, strides)
        if ceil_mode and (pad_type.startswith("same") or any(before != after for before, after in padding)):
            mismatch("ceil_mode", f"goes with equal pads on both sides, found pad_type {pad_type}, pad {list(pad)}")
        sizes = output_size(x.shape[2:], kernel_sizes, strides, padding, ceil_mode)
        for extent, kernel, stride, (before, _), count in zip(
            x.shape[2:], kernel_sizes, strides, padding, sizes, strict=True
        ):
            if before >= kernel or (count - 1) * stride - before >= extent:
                mismatch(
                    "kernel_sizes",
                    f"has windows of {kernel} that lie wholly outside of the {extent} elements of x; expected padding "
                    "smaller than the window and every window to meet x",
                )
        return TensorType(x.dtype, (*x.shape[:2], *sizes))

    @staticmethod
    def windows(
        x: Array,
        kernel_sizes: Sequence[int],
        strides: Sequence[int],
        pad_type: str,
        pad: Sequence[int],
        ceil_mode: bool,
        fill: float,
        beyond: float,
    ) -> Array:
        """[N, C, H', W', kH, kW]; `fill` stands in the padding, `beyond` where ceil_mode reaches past it."""
        padding = padding_of(pad_type, pad, x.shape[2:], kernel_sizes, strides)
        height, width = output_size(x.shape[2:], kernel_sizes, strides, padding, ceil_mode)
        padded = np.pad(x, ((0, 0), (0, 0), *padding), constant_values=fill)
        reach = [
            (0, max(0, (count - 1) * stride + kernel - extent))
            for count, stride, kernel, extent in zip(
                (height, width), strides, kernel_sizes, padded.shape[2:], strict=True
            )
        ]
        padded = np.pad(padded, ((0, 0), (0, 0), *reach), constant_values=beyond)
        windows = np.lib.stride_tricks.sliding_window_view(padded, tuple(kernel_sizes), axis=(2, 3))
        return np.asarray(windows[:, :, :: strides[0], :: strides[1]][:, :, :height, :width])


def _through_matrices(backward: Backward, rows: Array, columns: Array) -> Value:
    """For y = rows x columns^T over [..., H, W], as averages and resamplings are: rows^T u columns."""
    g, u = backward.graph, backward.gradient
    lead = (1,) * (len(u.shape) - 2)
    down = g.matmul(g.constant(rows.reshape(*lead, *rows.shape), dtype=u.dtype), u, transpose_x=True)
    return g.matmul(down, g.constant(columns.reshape(*lead, *columns.shape), dtype=u.dtype))


def _averages(
    extent: int, count: int, kernel: int, stride: int, padding: tuple[int, int], exclude_padding: bool
) -> Array:
    """[count, extent]: what each element adds to each window along one axis."""
    before, after = padding
    places = (np.arange(count) * stride - before)[:, None] + np.arange(kernel)  # [count, kernel]
    first, last = (0, extent) if exclude_padding else (-before, extent + after)
    sizes = np.sum((places >= first) & (places < last), axis=1, keepdims=True)
    return np.asarray((places[:, :, None] == np.arange(extent)).sum(axis=1) / sizes)


class MaxPool(Pool):
    name = "max_pool"
    no_derivative = "its windows may overlap, and the gradient would be scattered to computed places"

    @staticmethod
    def meaning(
        x: Array,
        kernel_sizes: Sequence[int],
        strides: Sequence[int],
        pad_type: str,
        pad: Sequence[int],
        ceil_mode: bool,
    ) -> Array:
        windows = Pool.windows(x, kernel_sizes, strides, pad_type, pad, ceil_mode, -math.inf, -math.inf)
        return np.asarray(windows.max(axis=(-2, -1)))


class AvgPool(Pool):
    name = "avg_pool"
    args = (*_POOL_ARGS, parameter("exclude_padding_from_average", "bool", False))
    limits = ("Divides by the elements of a window inside x and its padding; exclude_padding_from_average: inside x.",)

    @staticmethod
    def meaning(
        x: Array,
        kernel_sizes: Sequence[int],
        strides: Sequence[int],
        pad_type: str,
        pad: Sequence[int],
        ceil_mode: bool,
        exclude_padding_from_average: bool,
    ) -> Array:
        windows = Pool.windows(x, kernel_sizes, strides, pad_type, pad, ceil_mode, 0.0, 0.0)
        weight = 0.0 if exclude_padding_from_average else 1.0  # of an element of the padding
        counted = Pool.windows(np.ones_like(x), kernel_sizes, strides, pad_type, pad, ceil_mode, weight, 0.0)
        return np.asarray(windows.sum(axis=(-2, -1)) / counted.sum(axis=(-2, -1)))

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        x, y = backward.operand("x"), backward.output
        kernel, strides = backward.parameter("kernel_sizes"), backward.parameter("strides")
        padding = padding_of(backward.parameter("pad_type"), backward.parameter("pad"), x.shape[2:], kernel, strides)
        exclude = backward.parameter("exclude_padding_from_average")
        rows, columns = (
            _averages(*side, exclude) for side in zip(x.shape[2:], y.shape[2:], kernel, strides, padding, strict=True)
        )
        return {"x": _through_matrices(backward, rows, columns)}


# ---------------------------------------------------------------- resampling


def _resample(x: Array, rows: Array, columns: Array) -> Array:
    """Bilinear samples of x [..., H, W] at fractional rows and columns, which lie inside."""
    for axis, points in ((-2, rows), (-1, columns)):
        last = x.shape[axis] - 1
        below = np.minimum(np.floor(points).astype(int), last)
        part = points - below
        shape = [1] * x.ndim
        shape[axis] = len(points)
        weight = part.reshape(shape)
        x = np.take(x, below, axis) * (1.0 - weight) + np.take(x, np.minimum(below + 1, last), axis) * weight
    return x


def _grid(size: int, count: int, mode: str) -> Array:
    """Where `count` samples of `size` pixels lie; the five published sampling modes."""
    steps = np.arange(count, dtype=np.float64)
    if mode == "ALIGN_CORNERS" and count == 1:
        return np.array([(size - 1) / 2.0])
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        points = steps * ((size - 1) / (count - 1) if count > 1 else 0.0)
    elif mode == "DEFAULT":
        points = steps * ((size - size / count) / (count - 1) if count > 1 else 0.0)
    elif mode == "OFFSET_CORNERS":
        delta = max(1, size - 1) / count
        points = 0.5 * delta + steps * delta
    else:  # UNALIGN_CORNERS
        points = (steps + 0.5) * (size / count) - 0.5
    return np.clip(points, 0.0, size - 1.0)


def _nearest(x: Array, height: int, width: int) -> Array:
    rows = np.arange(height) * x.shape[-2] // height
    columns = np.arange(width) * x.shape[-1] // width
    return np.asarray(np.take(np.take(x, rows, axis=-2), columns, axis=-1))


def _samples(backward: Backward, mode: str) -> tuple[Array, Array]:
    """The weights of the pixels in the samples, of height [H', H] and of width [W', W]."""

    def weights(size: int, count: int) -> Array:
        if mode == "NEAREST":
            return np.asarray(np.eye(size)[np.arange(count) * size // count])
        return _resample(np.eye(size), _grid(size, count, mode), np.arange(float(size)))

    (height, width), (tall, wide) = backward.operand("x").shape[-2:], backward.output.shape[-2:]
    return weights(height, tall), weights(width, wide)


def _scaled_size(x: TensorType, height_factor: float, width_factor: float) -> TensorType:
    rank_between("x", x, 3, 5)
    for name, factor in (("scale_factor_height", height_factor), ("scale_factor_width", width_factor)):
        if factor <= 0:
            mismatch(name, f"is {factor}, expected a positive number")
    sizes = (math.floor(x.shape[-2] * height_factor), math.floor(x.shape[-1] * width_factor))
    if min(sizes) < 1:
        mismatch("scale_factor_height", f"the result would be {sizes[0]} x {sizes[1]} pixels")
    return TensorType(x.dtype, (*x.shape[:-2], *sizes))


def _target_size(x: TensorType, height: int, width: int) -> TensorType:
    rank_between("x", x, 3, 5)
    for name, size in (("target_size_height", height), ("target_size_width", width)):
        if size < 1:
            mismatch(name, f"is {size}, expected a positive number")
    return TensorType(x.dtype, (*x.shape[:-2], height, width))


class UpsampleNearestNeighbor(Op):
    name = "upsample_nearest_neighbor"
    args = (
        tensor("x"),
        parameter("scale_factor_height", "scale", 1),
        parameter("scale_factor_width", "scale", 1),
    )
    evidence = direct("AT (UNet)")
    shape_rule = "x [..., H, W], rank 3 or more -> [..., floor(H * factor), floor(W * factor)]."

    @staticmethod
    def infer(x: TensorType, scale_factor_height: float, scale_factor_width: float) -> TensorType:
        return _scaled_size(x, scale_factor_height, scale_factor_width)

    @staticmethod
    def meaning(x: Array, scale_factor_height: float, scale_factor_width: float) -> Array:
        height = math.floor(x.shape[-2] * scale_factor_height)
        return _nearest(x, height, math.floor(x.shape[-1] * scale_factor_width))

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        return {"x": _through_matrices(backward, *_samples(backward, "NEAREST"))}


class UpsampleBilinear(Op):
    name = "upsample_bilinear"
    args = (
        tensor("x"),
        parameter("scale_factor_height", "scale", 1),
        parameter("scale_factor_width", "scale", 1),
        parameter("align_corners", "bool", True),
    )
    evidence = e5rt()
    shape_rule = "x [..., H, W], rank 3 or more -> [..., floor(H * factor), floor(W * factor)]."
    limits = ("align_corners samples corner to corner, without it the centres of pixels.",)

    @staticmethod
    def infer(x: TensorType, scale_factor_height: float, scale_factor_width: float, align_corners: bool) -> TensorType:
        return _scaled_size(x, scale_factor_height, scale_factor_width)

    @staticmethod
    def meaning(x: Array, scale_factor_height: float, scale_factor_width: float, align_corners: bool) -> Array:
        mode = "STRICT_ALIGN_CORNERS" if align_corners else "UNALIGN_CORNERS"
        height, width = math.floor(x.shape[-2] * scale_factor_height), math.floor(x.shape[-1] * scale_factor_width)
        return _resample(x, _grid(x.shape[-2], height, mode), _grid(x.shape[-1], width, mode))

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        mode = "STRICT_ALIGN_CORNERS" if backward.parameter("align_corners") else "UNALIGN_CORNERS"
        return {"x": _through_matrices(backward, *_samples(backward, mode))}


class ResizeNearestNeighbor(Op):
    name = "resize_nearest_neighbor"
    args = (
        tensor("x"),
        parameter("target_size_height", "int32", required=True),
        parameter("target_size_width", "int32", required=True),
    )
    evidence = e5rt()
    shape_rule = "x [..., H, W], rank 3 or more -> [..., target_size_height, target_size_width]."

    @staticmethod
    def infer(x: TensorType, target_size_height: int, target_size_width: int) -> TensorType:
        return _target_size(x, target_size_height, target_size_width)

    @staticmethod
    def meaning(x: Array, target_size_height: int, target_size_width: int) -> Array:
        return _nearest(x, target_size_height, target_size_width)

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        return {"x": _through_matrices(backward, *_samples(backward, "NEAREST"))}


SAMPLING_MODES = ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS")


class ResizeBilinear(Op):
    name = "resize_bilinear"
    args = (
        tensor("x"),
        parameter("target_size_height", "int32", 1),
        parameter("target_size_width", "int32", 1),
        parameter("sampling_mode", "string", "DEFAULT"),
    )
    evidence = e5rt()
    shape_rule = "x [..., H, W], rank 3 or more -> [..., target_size_height, target_size_width]."
    limits = (f"sampling_mode is one of {', '.join(SAMPLING_MODES)}.",)

    @staticmethod
    def infer(x: TensorType, target_size_height: int, target_size_width: int, sampling_mode: str) -> TensorType:
        one_of("sampling_mode", sampling_mode, SAMPLING_MODES)
        return _target_size(x, target_size_height, target_size_width)

    @staticmethod
    def meaning(x: Array, target_size_height: int, target_size_width: int, sampling_mode: str) -> Array:
        rows = _grid(x.shape[-2], target_size_height, sampling_mode)
        return _resample(x, rows, _grid(x.shape[-1], target_size_width, sampling_mode))

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        return {"x": _through_matrices(backward, *_samples(backward, backward.parameter("sampling_mode")))}


class Affine(Op):
    name = "affine"
    no_derivative = "its gradient would be scattered to computed places"
    args = (
        tensor("x"),
        tensor("transform_matrix"),
        parameter("output_height", "int32", required=True),
        parameter("output_width", "int32", required=True),
        parameter("sampling_mode", "string", "bilinear", required=True),
        parameter("padding_mode", "string", "constant", required=True),
        parameter("padding_value", "fp", 0.0, required=True),
        parameter("coordinates_mode", "string", "normalized_minus_one_to_one", required=True),
        parameter("align_corners", "bool", True, required=True),
    )
    evidence = e5rt()
    shape_rule = (
        "x [N, C, H, W], transform_matrix [N or 1, 6] = (a0, a1, a2, b0, b1, b2) -> [N, C, output_height, "
        "output_width]: pixel (x, y) comes from (a0 x + a1 y + a2, b0 x + b1 y + b2), coordinates from -1 to 1, "
        "corner to corner."
    )
    limits = ("Only these modes exist: bilinear, constant 0, normalized_minus_one_to_one, align_corners.",)

    @staticmethod
    def infer(
        x: TensorType,
        transform_matrix: TensorType,
        output_height: int,
        output_width: int,
        sampling_mode: str,
        padding_mode: str,
        padding_value: float,
        coordinates_mode: str,
        align_corners: bool,
    ) -> TensorType:
        rank_between("x", x, 4, 4)
        one_type(x, transform_matrix=transform_matrix)
        if transform_matrix.shape not in ((x.shape[0], 6), (1, 6)):
            mismatch(
                "transform_matrix", f"has shape {list(transform_matrix.shape)}, expected [{x.shape[0]}, 6] or [1, 6]"
            )
        one_of("sampling_mode", sampling_mode, ("bilinear",))
        one_of("padding_mode", padding_mode, ("constant",))
        one_of("coordinates_mode", coordinates_mode, ("normalized_minus_one_to_one",))
        if padding_value != 0.0:
            mismatch("padding_value", f"is {padding_value}, only 0 exists")
        if not align_corners:
            mismatch("align_corners", "is false, only true exists")
        return TensorType(x.dtype, (*x.shape[:2], output_height, output_width))

    @staticmethod
    def meaning(
        x: Array,
        transform_matrix: Array,
        output_height: int,
        output_width: int,
        sampling_mode: str,
        padding_mode: str,
        padding_value: float,
        coordinates_mode: str,
        align_corners: bool,
    ) -> Array:
        batch, _, height, width = x.shape
        across = np.linspace(-1.0, 1.0, output_width) if output_width > 1 else np.array([-1.0])
        down = np.linspace(-1.0, 1.0, output_height) if output_height > 1 else np.array([-1.0])
        column, row = np.meshgrid(across, down)  # [H', W'] each
        result = np.empty((*x.shape[:2], output_height, output_width))
        for n in range(batch):
            a0, a1, a2, b0, b1, b2 = transform_matrix[n % len(transform_matrix)]
            from_column = (a0 * column + a1 * row + a2 + 1.0) / 2.0 * (width - 1)
            from_row = (b0 * column + b1 * row + b2 + 1.0) / 2.0 * (height - 1)
            result[n] = _bilinear_with_zeros(x[n], from_row, from_column)
        return result


def _bilinear_with_zeros(image: Array, rows: Array, columns: Array) -> Array:
    """Samples of image [C, H, W] at rows, columns [H', W']; pixels outside are 0."""
    top, left = np.floor(rows), np.floor(columns)
    total = np.zeros((image.shape[0], *rows.shape))
    for i in (0, 1):
        for j in (0, 1):
            weight = (1 - np.abs(rows - (top + i))) * (1 - np.abs(columns - (left + j)))
            r, c = (top + i).astype(int), (left + j).astype(int)
            inside = (r >= 0) & (r < image.shape[1]) & (c >= 0) & (c < image.shape[2])
            pixels = image[:, np.clip(r, 0, image.shape[1] - 1), np.clip(c, 0, image.shape[2] - 1)]
            total += np.where(inside, weight, 0.0) * pixels
    return total
