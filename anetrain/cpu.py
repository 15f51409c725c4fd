"""The CPU numerics of csrc/cpu on numpy arrays: fp16 conversions and fp32 matrix products, on one pool of threads.

    half = cpu.to_half(x)                  # float32 -> float16: nearest even, overflow to infinity
    cpu.to_float(half.T, out=y)            # any strides up to two dimensions; writes into y
    c = cpu.matmul(a, b.T)                 # transposed views are not copied
    cpu.matmul(dy, x.T, out=dw, beta=1.0)  # dw += dy @ x.T

Arrays are used where they are: a wrong dtype or layout is an error, never a hidden copy. The GIL is free meanwhile.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from anetrain._cpu import ffi, lib

__all__ = [
    "blas_name",
    "cpu_features",
    "fp16_version",
    "matmul",
    "set_threads",
    "threads",
    "to_float",
    "to_half",
]

Floats: TypeAlias = npt.NDArray[np.float32]
Halves: TypeAlias = npt.NDArray[np.float16]
Array: TypeAlias = npt.NDArray[Any]

_C_ARRAYS = {np.dtype(np.float32): ffi.typeof("float[]"), np.dtype(np.float16): ffi.typeof("uint16_t[]")}
_C_POINTERS = {np.dtype(np.float32): ffi.typeof("float *"), np.dtype(np.float16): ffi.typeof("uint16_t *")}


# --- Checks shared by all functions ---


def _checked(name: str, array: Array, dtype: npt.DTypeLike) -> None:
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} is {type(array).__name__}; expected a numpy array of {np.dtype(dtype)}")
    if array.dtype != dtype or not array.dtype.isnative:
        raise TypeError(f"{name} has dtype {array.dtype}; expected {np.dtype(dtype)}")
    if not array.flags.aligned or any(stride % array.itemsize for stride in array.strides):
        raise ValueError(f"{name} is not aligned: strides {array.strides} bytes for items of {array.itemsize}")


def _output(out: Array | None, shape: tuple[int, ...], dtype: npt.DTypeLike, *sources: Array) -> Array:
    """`out` when it can be written, or a new array."""
    if out is None:
        return np.empty(shape, dtype)
    _checked("out", out, dtype)
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}; expected {shape}")
    if not out.flags.writeable:
        raise ValueError("out is read-only")
    if 0 in out.strides and any(s == 0 and n > 1 for s, n in zip(out.strides, out.shape, strict=True)):
        raise ValueError(f"out has strides {out.strides}: several of its elements are the same memory")
    if any(np.may_share_memory(out, source) for source in sources):
        raise ValueError("out overlaps an input")
    return out


def _pointer(array: Array) -> Any:
    if array.flags.c_contiguous:  # ten times faster than the general way
        return ffi.from_buffer(_C_ARRAYS[array.dtype], array)
    return ffi.cast(_C_POINTERS[array.dtype], array.__array_interface__["data"][0])


def _element_strides(array: Array) -> list[int]:
    return [stride // array.itemsize for stride in array.strides]


# --- fp16 ---


def to_half(values: Floats, out: Halves | None = None) -> Halves:
    """float32 to float16. Contiguous arrays may have any number of dimensions, others at most two."""
    return _convert(values, np.float32, out, np.float16, lib.anecpu_halves_from_floats_2d)


def to_float(values: Halves, out: Floats | None = None) -> Floats:
    """float16 to float32. Contiguous arrays may have any number of dimensions, others at most two."""
    return _convert(values, np.float16, out, np.float32, lib.anecpu_floats_from_halves_2d)


def _convert(
    values: Array, source_dtype: npt.DTypeLike, out: Array | None, target_dtype: npt.DTypeLike, convert: Any
) -> Array:
    _checked("values", values, source_dtype)
    target = _output(out, values.shape, target_dtype, values)
    if values.flags.c_contiguous and target.flags.c_contiguous:
        convert(_pointer(values), values.size, 1, _pointer(target), values.size, 1, 1, values.size)
        return target
    if values.ndim > 2:
        raise ValueError(
            f"values has {values.ndim} dimensions with strides {values.strides}, out {target.strides}; "
            "beyond two dimensions both must be contiguous: convert slice by slice, or reshape"
        )
    rows, columns = (1, *values.shape) if values.ndim == 1 else values.shape
    source_strides, target_strides = ([0, *_element_strides(a)][-2:] for a in (values, target))
    convert(_pointer(values), *source_strides, _pointer(target), *target_strides, rows, columns)
    return target


def fp16_version() -> str:
    """Which implementation this CPU runs: avx512, f16c, neon or scalar. All give the same bits."""
    return str(ffi.string(lib.anecpu_fp16_selected()).decode())


# --- Matrix products ---


def matmul(a: Floats, b: Floats, out: Floats | None = None, *, alpha: float = 1.0, beta: float = 0.0) -> Floats:
    """out = alpha * a @ b + beta * out, for float32 [m, k] @ [k, n] or batches of them, [batch, m, k] @ [batch, k, n].

    A factor without the batch axis serves the whole batch. Rows or columns of each matrix must be contiguous: views
    made by `.T`, `.swapaxes(1, 2)` or slicing are, every-other-column views are not.
    """
    for name, array in (("a", a), ("b", b)):
        _checked(name, array, np.float32)
        if array.ndim not in (2, 3):
            raise ValueError(f"{name} has shape {array.shape}; expected two or three dimensions")
    if a.shape[-1] != b.shape[-2]:
        raise ValueError(f"a {a.shape} and b {b.shape} do not fit: {a.shape[-1]} columns, {b.shape[-2]} rows")
    if a.ndim == b.ndim == 3 and a.shape[0] != b.shape[0]:
        raise ValueError(f"a {a.shape} and b {b.shape} do not fit: batches of {a.shape[0]} and {b.shape[0]}")
    if out is None and beta != 0.0:
        raise ValueError(f"beta is {beta}, but there is no out to scale")
    batch = a.shape[:-2] or b.shape[:-2]
    m, k, n = *a.shape[-2:], b.shape[-1]
    c = _output(out, (*batch, m, n), np.float32, a, b)
    a_step, lda, transpose_a = _matrix("a", a)
    b_step, ldb, transpose_b = _matrix("b", b)
    c_step, ldc, transpose_c = _matrix("out", c)
    if transpose_c:
        raise ValueError(f"out has strides {c.strides} bytes; its rows must be contiguous")
    lib.anecpu_sgemm_batched(
        batch[0] if batch else 1,
        *(transpose_a, transpose_b, m, n, k, alpha),
        *(_pointer(a), lda, a_step, _pointer(b), ldb, b_step),
        *(beta, _pointer(c), ldc, c_step),
    )
    return c


def _matrix(name: str, array: Array) -> tuple[int, int, bool]:
    """The step from matrix to matrix, the step from line to line, and whether lines are columns; in elements."""
    *batch, row, column = _element_strides(array)
    rows, columns = array.shape[-2:]
    if array.size == 0:  # numpy gives such arrays no strides to speak of
        return 0, max(columns, 1), False
    for step, line, length, lines, is_transposed in (
        (column, row, columns, rows, False),
        (row, column, rows, columns, True),
    ):
        # A line of one element has no step; a single line has no distance to the next.
        if (step == 1 or length <= 1) and (line >= length or lines <= 1) and all(s >= 0 for s in batch):
            return batch[0] if batch else 0, max(line, length, 1), is_transposed
    raise ValueError(f"{name} has strides {array.strides} bytes; rows or columns of each matrix must be contiguous")


def blas_name() -> str:
    """The library behind `matmul`, its version and kernel."""
    return str(ffi.string(lib.anecpu_blas_name()).decode())


# --- The machine ---


def threads() -> int:
    """How many threads work together, here and in the emulated device."""
    return int(lib.anecpu_threads())


def set_threads(count: int | None) -> None:
    """Sets the number of threads; None means the CPUs this process may use."""
    if count is not None and count < 1:
        raise ValueError(f"{count} threads; expected at least 1, or None for the CPUs this process may use")
    lib.anecpu_set_threads(0 if count is None else count)


def cpu_features() -> str:
    """The instruction sets found that the native code makes use of."""
    return str(ffi.string(lib.anecpu_cpu_features()).decode())
