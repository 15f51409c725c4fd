"""Pixels that become channels, and the way back."""

from __future__ import annotations

import numpy as np

from anetrain.mil.derivatives import Backward, Gradient
from anetrain.mil.ops.base import Op, e5rt, mismatch, parameter, rank_between, tensor
from anetrain.mil.types import Array, TensorType


def _check_factor(x: TensorType, name: str, factor: int, shrinks_pixels: bool) -> None:
    rank_between("x", x, 4, 4)
    if factor < 1:
        mismatch(name, f"is {factor}, expected a positive number")
    if shrinks_pixels and (x.shape[2] % factor or x.shape[3] % factor):
        mismatch(name, f"is {factor}, which does not divide height {x.shape[2]} and width {x.shape[3]}")
    if not shrinks_pixels and x.shape[1] % factor**2:
        mismatch(name, f"is {factor}: {x.shape[1]} channels are not a multiple of {factor**2}")


def _to_depth(x: TensorType, f: int) -> TensorType:
    n, c, h, w = x.shape
    return TensorType(x.dtype, (n, c * f * f, h // f, w // f))


def _to_space(x: TensorType, f: int) -> TensorType:
    n, c, h, w = x.shape
    return TensorType(x.dtype, (n, c // (f * f), h * f, w * f))


def _pixels_to_channels(x: Array, f: int, channel_first: bool) -> Array:
    """Pixel (i, j) of each f x f block of channel c becomes channel (c, i, j), or (i, j, c)."""
    n, c, h, w = x.shape
    blocks = x.reshape(n, c, h // f, f, w // f, f)
    order = (0, 1, 3, 5, 2, 4) if channel_first else (0, 3, 5, 1, 2, 4)
    return np.asarray(blocks.transpose(order).reshape(n, c * f * f, h // f, w // f))


def _channels_to_pixels(x: Array, f: int, channel_first: bool) -> Array:
    """The way back."""
    n, c, h, w = x.shape
    blocks = x.reshape((n, c // f**2, f, f, h, w) if channel_first else (n, f, f, c // f**2, h, w))
    order = (0, 1, 4, 2, 5, 3) if channel_first else (0, 3, 4, 1, 5, 2)
    return np.asarray(blocks.transpose(order).reshape(n, c // f**2, h * f, w * f))


class PixelShuffle(Op):
    name = "pixel_shuffle"
    args = (tensor("x"), parameter("upscale_factor", "int32", required=True))
    evidence = e5rt()
    shape_rule = "[N, C f^2, H, W] -> [N, C, H f, W f]; channel (c, i, j) goes to pixel (i, j) of channel c."

    @staticmethod
    def infer(x: TensorType, upscale_factor: int) -> TensorType:
        _check_factor(x, "upscale_factor", upscale_factor, shrinks_pixels=False)
        return _to_space(x, upscale_factor)

    @staticmethod
    def meaning(x: Array, upscale_factor: int) -> Array:
        return _channels_to_pixels(x, upscale_factor, channel_first=True)

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        return {"x": backward.graph.pixel_unshuffle(backward.gradient, backward.parameter("upscale_factor"))}


class PixelUnshuffle(Op):
    name = "pixel_unshuffle"
    args = (tensor("x"), parameter("downscale_factor", "uint32", required=True))
    evidence = e5rt()
    shape_rule = "[N, C, H f, W f] -> [N, C f^2, H, W]; pixel (i, j) of channel c goes to channel (c, i, j)."

    @staticmethod
    def infer(x: TensorType, downscale_factor: int) -> TensorType:
        _check_factor(x, "downscale_factor", downscale_factor, shrinks_pixels=True)
        return _to_depth(x, downscale_factor)

    @staticmethod
    def meaning(x: Array, downscale_factor: int) -> Array:
        return _pixels_to_channels(x, downscale_factor, channel_first=True)

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        return {"x": backward.graph.pixel_shuffle(backward.gradient, backward.parameter("downscale_factor"))}


class SpaceToDepth(Op):
    name = "space_to_depth"
    args = (tensor("x"), parameter("block_size", "int32", required=True))
    evidence = e5rt()
    shape_rule = "[N, C, H f, W f] -> [N, f^2 C, H, W]; pixel (i, j) of channel c goes to channel (i, j, c)."

    @staticmethod
    def infer(x: TensorType, block_size: int) -> TensorType:
        _check_factor(x, "block_size", block_size, shrinks_pixels=True)
        return _to_depth(x, block_size)

    @staticmethod
    def meaning(x: Array, block_size: int) -> Array:
        return _pixels_to_channels(x, block_size, channel_first=False)

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        return {"x": backward.graph.depth_to_space(backward.gradient, backward.parameter("block_size"))}


class DepthToSpace(Op):
    name = "depth_to_space"
    args = (tensor("x"), parameter("block_size", "int32", required=True))
    evidence = e5rt()
    shape_rule = "[N, f^2 C, H, W] -> [N, C, H f, W f]; channel (i, j, c) goes to pixel (i, j) of channel c."

    @staticmethod
    def infer(x: TensorType, block_size: int) -> TensorType:
        _check_factor(x, "block_size", block_size, shrinks_pixels=False)
        return _to_space(x, block_size)

    @staticmethod
    def meaning(x: Array, block_size: int) -> Array:
        return _channels_to_pixels(x, block_size, channel_first=False)

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        return {"x": backward.graph.space_to_depth(backward.gradient, backward.parameter("block_size"))}
