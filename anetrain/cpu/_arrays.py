"""Checks of the arrays that are handed to C: types, layouts, overlap; and their pointers and strides for it."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from anetrain._cpu import ffi

Floats: TypeAlias = npt.NDArray[np.float32]
Halves: TypeAlias = npt.NDArray[np.float16]
Array: TypeAlias = npt.NDArray[Any]

_C_ARRAYS = {np.dtype(np.float32): ffi.typeof("float[]"), np.dtype(np.float16): ffi.typeof("uint16_t[]")}
_C_POINTERS = {np.dtype(np.float32): ffi.typeof("float *"), np.dtype(np.float16): ffi.typeof("uint16_t *")}


def checked(name: str, array: Array, dtype: npt.DTypeLike) -> None:
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} is {type(array).__name__}; expected a numpy array of {np.dtype(dtype)}")
    if array.dtype != dtype or not array.dtype.isnative:
        raise TypeError(f"{name} has dtype {array.dtype}; expected {np.dtype(dtype)}")
    if not array.flags.aligned or any(stride % array.itemsize for stride in array.strides):
        raise ValueError(f"{name} is not aligned: strides {array.strides} bytes for items of {array.itemsize}")


def output(out: Array | None, shape: tuple[int, ...], dtype: npt.DTypeLike, *sources: Array) -> Array:
    """`out` when it can be written, or a new array."""
    if out is None:
        return np.empty(shape, dtype)
    checked("out", out, dtype)
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}; expected {shape}")
    if not out.flags.writeable:
        raise ValueError("out is read-only")
    if 0 in out.strides and any(s == 0 and n > 1 for s, n in zip(out.strides, out.shape, strict=True)):
        raise ValueError(f"out has strides {out.strides}: several of its elements are the same memory")
    if any(np.may_share_memory(out, source) for source in sources):
        raise ValueError("out overlaps an input")
    return out


def pointer(array: Array) -> Any:
    if array.flags.c_contiguous:  # ten times faster than the general way
        return ffi.from_buffer(_C_ARRAYS[array.dtype], array)
    return ffi.cast(_C_POINTERS[array.dtype], array.__array_interface__["data"][0])


def element_strides(array: Array) -> list[int]:
    return [stride // array.itemsize for stride in array.strides]
