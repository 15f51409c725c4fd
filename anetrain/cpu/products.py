"""Matrix products in float32, over the BLAS library of the machine; and with float16 weights and a vector."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from anetrain._cpu import ffi, lib
from anetrain.cpu._arrays import Array, Floats, Halves, checked, element_strides, matrix, output, pointer, vector


def matmul(a: Floats, b: Floats, out: Floats | None = None, *, alpha: float = 1.0, beta: float = 0.0) -> Floats:
    """out = alpha * a @ b + beta * out, for float32 [m, k] @ [k, n] or batches of them, [batch, m, k] @ [batch, k, n].

    A factor without the batch axis serves the whole batch. Rows or columns of each matrix must be contiguous: views
    made by `.T`, `.swapaxes(1, 2)` or slicing are, every-other-column views are not.
    """
    if out is None and beta != 0.0:
        raise ValueError(f"beta is {beta}, but there is no out to scale")
    c, multiply = bound_matmul(a, b, out)
    multiply(alpha, beta)
    return c


def bound_matmul(a: Floats, b: Floats, out: Floats | None = None) -> tuple[Floats, Callable[[float, float], None]]:
    """Where a product goes, and `matmul` of these arrays as a function of alpha and beta: checked here, once."""
    for name, array in (("a", a), ("b", b)):
        checked(name, array, np.float32)
        if array.ndim not in (2, 3):
            raise ValueError(f"{name} has shape {array.shape}; expected two or three dimensions")
    if a.shape[-1] != b.shape[-2]:
        raise ValueError(f"a {a.shape} and b {b.shape} do not fit: {a.shape[-1]} columns, {b.shape[-2]} rows")
    if a.ndim == b.ndim == 3 and a.shape[0] != b.shape[0]:
        raise ValueError(f"a {a.shape} and b {b.shape} do not fit: batches of {a.shape[0]} and {b.shape[0]}")
    batch = a.shape[:-2] or b.shape[:-2]
    m, k, n = *a.shape[-2:], b.shape[-1]
    c = output(out, (*batch, m, n), np.float32, a, b)
    a_step, lda, transpose_a = _matrix("a", a)
    b_step, ldb, transpose_b = _matrix("b", b)
    c_step, ldc, transpose_c = _matrix("out", c)
    if transpose_c:
        raise ValueError(f"out has strides {c.strides} bytes; its rows must be contiguous")
    shape = (batch[0] if batch else 1, transpose_a, transpose_b, m, n, k)
    factors = (pointer(a), lda, a_step, pointer(b), ldb, b_step)
    result = (pointer(c), ldc, c_step)

    def multiply(alpha: float, beta: float, kept: object = (a, b, c)) -> None:  # pointers do not keep arrays alive
        lib.anecpu_sgemm_batched(*shape, alpha, *factors, beta, *result)

    return c, multiply


def gemv(w: Halves | Floats, x: Floats, out: Floats | None = None) -> Floats:
    """out = w @ x for float16 or float32 w [N, K], float32 x [K] and out [N]; the sums are float32."""
    is_full = isinstance(w, np.ndarray) and w.dtype == np.float32
    checked("w", w, np.float32 if is_full else np.float16)
    w_at = matrix("w", w)
    rows, columns = w.shape
    target = output(out, (rows,), np.float32, w, x)
    multiply = lib.anecpu_sgemv if is_full else lib.anecpu_gemv
    multiply(*w_at, vector("x", x, columns), vector("out", target, rows), rows, columns)
    return target


def _matrix(name: str, array: Array) -> tuple[int, int, bool]:
    """The step from matrix to matrix, the step from line to line, and whether lines are columns; in elements."""
    *batch, row, column = element_strides(array)
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
