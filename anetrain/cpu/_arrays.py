"""Checks of the arrays that are handed to C: types, layouts, overlap; and their pointers and strides for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from anetrain._cpu import ffi, lib

Floats: TypeAlias = npt.NDArray[np.float32]
Halves: TypeAlias = npt.NDArray[np.float16]
Ids: TypeAlias = npt.NDArray[np.int32]
Array: TypeAlias = npt.NDArray[Any]

_C_NAMES = {np.float32: "float", np.float16: "uint16_t", np.int32: "int32_t"}
_C_ARRAYS = {np.dtype(dtype): ffi.typeof(f"{name}[]") for dtype, name in _C_NAMES.items()}
_C_POINTERS = {np.dtype(dtype): ffi.typeof(f"{name} *") for dtype, name in _C_NAMES.items()}


def checked(name: str, array: Array, dtype: npt.DTypeLike) -> None:
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} is {type(array).__name__}; expected a numpy array of {np.dtype(dtype)}")
    if array.dtype != dtype or not array.dtype.isnative:
        raise TypeError(f"{name} has dtype {array.dtype}; expected {np.dtype(dtype)}")
    if not array.flags.aligned or any(stride % array.itemsize for stride in array.strides):
        raise ValueError(f"{name} is not aligned: strides {array.strides} bytes for items of {array.itemsize}")


def output(
    out: Array | None,
    shape: tuple[int, ...],
    dtype: npt.DTypeLike,
    *sources: Array,
    name: str = "out",
    replaces: Sequence[Array] = (),
) -> Array:
    """`out` when it can be written, or a new array. It may be one of `replaces`, and overlap nothing else."""
    if out is None:
        return np.empty(shape, dtype)
    checked(name, out, dtype)
    if out.shape != shape:
        raise ValueError(f"{name} has shape {out.shape}; expected {shape}")
    if not out.flags.writeable:
        raise ValueError(f"{name} is read-only")
    if 0 in out.strides and out.size and any(s == 0 and n > 1 for s, n in zip(out.strides, out.shape, strict=True)):
        raise ValueError(f"{name} has strides {out.strides}: several of its elements are the same memory")
    if any(np.may_share_memory(out, source) for source in sources):
        raise ValueError(f"{name} overlaps an input")
    if any(np.may_share_memory(out, source) and not _is_same(out, source) for source in replaces):
        raise ValueError(f"{name} overlaps an input, but does not take its exact place")
    return out


def _is_same(a: Array, b: Array) -> bool:
    return a.ctypes.data == b.ctypes.data and a.shape == b.shape and a.strides == b.strides


def shaped(name: str, array: Array, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> None:
    """Refuses an array of another type or shape."""
    checked(name, array, dtype)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; expected {shape}")


def vector(name: str, array: Array, length: int, dtype: npt.DTypeLike = np.float32) -> Any:
    """The pointer to a contiguous [length]."""
    shaped(name, array, (length,), dtype)
    if not array.flags.c_contiguous:
        raise ValueError(f"{name} has strides {array.strides} bytes; it must be contiguous")
    return pointer(array)


def matrix_shape(name: str, array: Floats) -> tuple[int, int]:
    """The shape of a float32 [C, T], which may not be without channels."""
    checked(name, array, np.float32)
    if array.ndim != 2 or array.shape[0] == 0:
        raise ValueError(f"{name} has shape {array.shape}; expected [channels, tokens]")
    return array.shape


def matrix(name: str, array: Array) -> tuple[Any, int]:
    """The pointer to a [C, T] and the distance between its rows in elements; each row must be contiguous."""
    if array.ndim != 2:
        raise ValueError(f"{name} has shape {array.shape}; expected two dimensions")
    (row, column), (rows, columns) = element_strides(array), array.shape
    if array.size and ((column != 1 and columns > 1) or (row < columns and rows > 1)):
        raise ValueError(f"{name} has strides {array.strides} bytes; its rows must be contiguous")
    return pointer(array), max(row, columns)


def elementwise(arrays: dict[str, Array]) -> tuple[int, int, list[tuple[Any, int]]]:
    """Rows, columns, and the pointer and row step of each array, for arrays of one shape.

    Contiguous arrays may have any number of dimensions, others must be [C, T] with contiguous rows.
    """
    first = next(iter(arrays.values()))
    if all(array.flags.c_contiguous for array in arrays.values()):
        return 1, first.size, [(pointer(array), first.size) for array in arrays.values()]
    if first.ndim != 2:
        layouts = ", ".join(f"{name} {array.strides}" for name, array in arrays.items())
        raise ValueError(f"strides are {layouts} bytes; beyond two dimensions, and in one, all must be contiguous")
    return *first.shape, [matrix(name, array) for name, array in arrays.items()]


def checked_ids(name: str, ids: Ids, count: int, limit: int, *, ignored: int | None = None) -> Any:
    """The pointer to a contiguous int32 [count], all of it, but what is `ignored`, in [0, limit)."""
    ids_pointer = vector(name, ids, count, np.int32)
    skip = ffi.NULL if ignored is None else ffi.new("int32_t *", ignored)
    position = lib.anecpu_first_outside(ids_pointer, count, limit, skip)
    if position < ids.size:
        also = "" if ignored is None else f", or {ignored} to ignore it"
        raise ValueError(f"{name}[{position}] is {ids[position]}; expected an id in [0, {limit}){also}")
    return ids_pointer


def pointer(array: Array) -> Any:
    if array.flags.c_contiguous:  # ten times faster than the general way
        return ffi.from_buffer(_C_ARRAYS[array.dtype], array)
    return ffi.cast(_C_POINTERS[array.dtype], array.__array_interface__["data"][0])


def element_strides(array: Array) -> list[int]:
    return [stride // array.itemsize for stride in array.strides]
