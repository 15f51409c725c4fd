"""Constants and quantisation: plain constants, activations quantised at run time, and the constexpr_* ops that compress
weights.

The constexpr ops take the iOS 18 arguments of ANE_FACTS 3.3; the compiler turns them into constants.
"""

from __future__ import annotations

import math

import numpy as np

from anetrain.mil.ops.base import (
    Op,
    axis_of,
    direct,
    disputed,
    e5rt,
    mismatch,
    one_of,
    parameter,
    tensor,
)
from anetrain.mil.types import Array, TensorType, dtype


class Const(Op):
    name = "const"
    no_derivative = "a constant depends on nothing"
    args = (tensor("val", "any tensor"),)
    evidence = direct("all sources")
    shape_rule = (
        "The type that is written; the value stands in the text or in a blob file. The builder's g.constant makes it."
    )
    limits = ("At most 16 blob references in a program (C14).", "No inf and no NaN in fp16 data.")
    folded = True
    spelling = "attributes"

    @staticmethod
    def infer(val: TensorType) -> TensorType:
        return val

    @staticmethod
    def meaning(val: Array) -> Array:
        return val


def _check_vector(name: str, vector: TensorType | None, data: TensorType, axis: int | None) -> None:
    """A scale or zero point: a scalar, or one number for each place of `axis`."""
    if vector is None or vector.rank == 0:
        return
    if axis is None:
        mismatch("axis", f"is missing: {name} is a vector")
    length = data.shape[axis_of(axis, data.rank)]
    if vector.shape != (length,):
        mismatch(name, f"has shape {list(vector.shape)}, expected a scalar or [{length}]")


def _along(vector: Array, rank: int, axis: int | None) -> Array:
    if vector.ndim == 0 or axis is None:
        return vector
    shape = [1] * rank
    shape[axis] = -1
    return vector.reshape(shape)


class Quantize(Op):
    name = "quantize"
    no_derivative = "its result is an integer"
    args = (
        tensor("input"),
        tensor("zero_point", "const int tensor", required=False),
        tensor("scale", "const tensor"),
        parameter("axis", "int32"),
        parameter("output_dtype", "string", required=True),
    )
    evidence = direct("MAD (M4), MAD PR #50 (M5 Max); M0 (M5) says unsupported type (C35)")
    shape_rule = (
        "The shape of input as int8 or uint8: clip(round(input / scale) + zero_point); scale is a scalar or lies "
        "along axis."
    )
    opset = "ios17"

    @staticmethod
    def infer(
        input: TensorType, zero_point: TensorType | None, scale: TensorType, axis: int | None, output_dtype: str
    ) -> TensorType:
        one_of("output_dtype", output_dtype, ("int8", "uint8"))
        if scale.dtype != input.dtype:
            mismatch("scale", f"is {scale.dtype}, input is {input.dtype}")
        if zero_point is not None and zero_point.dtype != output_dtype:
            mismatch("zero_point", f"is {zero_point.dtype}, output_dtype says {output_dtype}")
        _check_vector("scale", scale, input, axis)
        _check_vector("zero_point", zero_point, input, axis)
        return TensorType(output_dtype, input.shape)

    @staticmethod
    def meaning(input: Array, zero_point: Array | None, scale: Array, axis: int | None, output_dtype: str) -> Array:
        steps = np.round(input / _along(scale, input.ndim, axis))
        if zero_point is not None:
            steps = steps + _along(zero_point, input.ndim, axis)
        low, high = dtype(output_dtype).integer_range
        return np.clip(steps, low, high).astype(output_dtype)


class Dequantize(Op):
    name = "dequantize"
    no_derivative = "its operand is an integer"
    args = (
        tensor("input", "int tensor"),
        tensor("zero_point", "const int tensor", required=False),
        tensor("scale", "const tensor"),
        parameter("axis", "int32"),
    )
    evidence = direct("MAD (M4)")
    shape_rule = "The shape of input in the type of scale: (input - zero_point) * scale."
    opset = "ios17"

    @staticmethod
    def infer(input: TensorType, zero_point: TensorType | None, scale: TensorType, axis: int | None) -> TensorType:
        if input.dtype not in ("int8", "uint8"):
            mismatch("input", f"is {input.dtype}, expected int8 or uint8")
        if zero_point is not None and zero_point.dtype != input.dtype:
            mismatch("zero_point", f"is {zero_point.dtype}, input is {input.dtype}")
        _check_vector("scale", scale, input, axis)
        _check_vector("zero_point", zero_point, input, axis)
        return TensorType(scale.dtype, input.shape)

    @staticmethod
    def meaning(input: Array, zero_point: Array | None, scale: Array, axis: int | None) -> Array:
        steps = input.astype(np.float64)
        if zero_point is not None:
            steps = steps - _along(zero_point, input.ndim, axis)
        return np.asarray(steps * _along(scale, input.ndim, axis))


# ---------------------------------------------------------------- weights


class ConstexprAffineDequantize(Op):
    name = "constexpr_affine_dequantize"
    no_derivative = "the compiler folds it into a constant"
    args = (
        tensor("quantized_data", "const int tensor"),
        tensor("zero_point", "const int tensor"),
        tensor("scale", "const tensor"),
        parameter("axis", "int32", 0, required=True),
    )
    evidence = direct("MAD (M4), a scalar scale; e5rt AF, a scale per channel")
    shape_rule = (
        "The shape of quantized_data (int8 or uint8) in the type of scale: scale * (quantized_data - zero_point)."
    )
    limits = ("M0 and ESP report failures; a wrong offset, type code or the call spelling is suspected (C34).",)
    folded = True
    spelling = "attributes"

    @staticmethod
    def infer(quantized_data: TensorType, zero_point: TensorType, scale: TensorType, axis: int) -> TensorType:
        if quantized_data.dtype not in ("int8", "uint8"):
            mismatch("quantized_data", f"is {quantized_data.dtype}, expected int8 or uint8")
        if zero_point.dtype != quantized_data.dtype:
            mismatch("zero_point", f"is {zero_point.dtype}, quantized_data is {quantized_data.dtype}")
        axis_of(axis, quantized_data.rank)
        _check_vector("scale", scale, quantized_data, axis)
        _check_vector("zero_point", zero_point, quantized_data, axis)
        return TensorType(scale.dtype, quantized_data.shape)

    @staticmethod
    def meaning(quantized_data: Array, zero_point: Array, scale: Array, axis: int) -> Array:
        rank = quantized_data.ndim
        return np.asarray(
            (quantized_data.astype(np.float64) - _along(zero_point, rank, axis)) * _along(scale, rank, axis)
        )


_BLOCK_TYPES = ("int4", "uint4", "int8", "uint8")


def _spread(blocks: Array, shape: tuple[int, ...]) -> Array:
    """Repeats each entry over its block, so that `blocks` gets `shape`."""
    for axis, (length, count) in enumerate(zip(shape, blocks.shape, strict=True)):
        blocks = np.repeat(blocks, length // count, axis)
    return blocks


class ConstexprBlockwiseShiftScale(Op):
    name = "constexpr_blockwise_shift_scale"
    no_derivative = "the compiler folds it into a constant"
    args = (
        tensor("data", "const int tensor"),
        tensor("scale", "const tensor"),
        tensor("offset", "const int tensor", required=False),
    )
    evidence = direct("OM (production, per-channel int8, ios18)")
    shape_rule = (
        "The shape of data (int4, uint4, int8, uint8) in the type of scale: scale * (data - offset). scale and "
        "offset have the rank of data; each of their axes divides the axis of data into blocks."
    )
    limits = ("With more than one block a channel it does not serve as a weight (C34): add 0 to it first.",)
    opset = "ios18"
    folded = True

    @staticmethod
    def infer(data: TensorType, scale: TensorType, offset: TensorType | None) -> TensorType:
        if data.dtype not in _BLOCK_TYPES:
            mismatch("data", f"is {data.dtype}, expected one of {', '.join(_BLOCK_TYPES)}")
        if scale.rank != data.rank or any(n % m for n, m in zip(data.shape, scale.shape, strict=True)):
            mismatch("scale", f"has shape {list(scale.shape)}, which does not divide {list(data.shape)} into blocks")
        if offset is not None and (offset.shape != scale.shape or offset.dtype != data.dtype):
            mismatch("offset", f"is {offset}, expected {data.dtype} {list(scale.shape)}, as data and scale")
        return TensorType(scale.dtype, data.shape)

    @staticmethod
    def meaning(data: Array, scale: Array, offset: Array | None) -> Array:
        values = data.astype(np.float64)
        if offset is not None:
            values = values - _spread(offset.astype(np.float64), data.shape)
        return np.asarray(values * _spread(scale, data.shape))


_INDEX_TYPES = ("uint1", "uint2", "uint3", "uint4", "uint6", "uint8")


class ConstexprLutToDense(Op):
    name = "constexpr_lut_to_dense"
    no_derivative = "the compiler folds it into a constant"
    args = (
        tensor("indices", "const int tensor"),
        tensor("lut", "const tensor"),
        parameter("vector_axis", "int32"),
    )
    evidence = e5rt("AF (M1 to M6)")
    shape_rule = (
        "indices (uint1 to uint8) [..], lut of two axes more: groups of each axis, then 2^bits entries, then the "
        "vector length. The result has the shape of indices, vector_axis (for vectors longer than 1) times the length."
    )
    limits = (
        "M0's direct attempt failed with the older form.",
        "Indices have the shape of the weight: no reshape after.",
    )
    opset = "ios18"
    folded = True

    @staticmethod
    def infer(indices: TensorType, lut: TensorType, vector_axis: int | None) -> TensorType:
        if indices.dtype not in _INDEX_TYPES:
            mismatch("indices", f"is {indices.dtype}, expected one of {', '.join(_INDEX_TYPES)}")
        entries = 2 ** dtype(indices.dtype).bits
        if lut.rank != indices.rank + 2 or lut.shape[-2] != entries:
            mismatch(
                "lut", f"has shape {list(lut.shape)}, expected {indices.rank} group axes, {entries} entries, vector"
            )
        if any(n % m for n, m in zip(indices.shape, lut.shape[:-2], strict=True)):
            mismatch("lut", f"groups {list(lut.shape[:-2])} do not divide {list(indices.shape)}")
        shape = list(indices.shape)
        if lut.shape[-1] > 1:
            if vector_axis is None:
                mismatch("vector_axis", f"is missing: entries are vectors of {lut.shape[-1]}")
            shape[axis_of(vector_axis, indices.rank, "vector_axis")] *= lut.shape[-1]
        return TensorType(lut.dtype, tuple(shape))

    @staticmethod
    def meaning(indices: Array, lut: Array, vector_axis: int | None) -> Array:
        groups, vector = lut.shape[:-2], lut.shape[-1]
        flat = lut.reshape(math.prod(groups), *lut.shape[-2:])  # [groups, entries, vector]
        group_of = _spread(np.arange(math.prod(groups)).reshape(groups), indices.shape)
        picked = flat[group_of, indices.astype(int)]  # [*indices, vector]
        if vector == 1:
            return np.asarray(picked[..., 0])
        assert vector_axis is not None  # infer refuses vectors without it
        axis = vector_axis % indices.ndim
        shape = list(indices.shape)
        shape[axis] *= vector
        return np.asarray(np.moveaxis(picked, -1, axis + 1).reshape(shape))


class ConstexprSparseToDense(Op):
    name = "constexpr_sparse_to_dense"
    no_derivative = "the compiler folds it into a constant"
    args = (tensor("nonzero_data", "const tensor"), tensor("mask", "const int tensor"))
    evidence = e5rt()
    shape_rule = "The shape of mask (uint1): nonzero_data, one after the other, where mask is 1, elsewhere 0."
    limits = ("Pays from half zeros on.",)
    opset = "ios18"
    folded = True

    @staticmethod
    def infer(nonzero_data: TensorType, mask: TensorType) -> TensorType:
        if mask.dtype != "uint1":
            mismatch("mask", f"is {mask.dtype}, expected uint1")
        if nonzero_data.rank != 1:
            mismatch("nonzero_data", f"has rank {nonzero_data.rank}, expected 1")
        return TensorType(nonzero_data.dtype, mask.shape)

    @staticmethod
    def meaning(nonzero_data: Array, mask: Array) -> Array:
        dense = np.zeros(mask.shape, nonzero_data.dtype)
        dense[mask.astype(bool)] = nonzero_data
        return dense


class ConstexprCast(Op):
    name = "constexpr_cast"
    no_derivative = "the compiler folds it into a constant"
    args = (tensor("source_val", "const tensor"), parameter("output_dtype", "string", required=True))
    evidence = disputed("no source uses it")
    shape_rule = "The shape of source_val (fp16) as fp32."
    folded = True

    @staticmethod
    def infer(source_val: TensorType, output_dtype: str) -> TensorType:
        if source_val.dtype != "fp16":
            mismatch("source_val", f"is {source_val.dtype}, expected fp16")
        one_of("output_dtype", output_dtype, ("fp32",))
        return TensorType(output_dtype, source_val.shape)

    @staticmethod
    def meaning(source_val: Array, output_dtype: str) -> Array:
        return source_val
