"""Sums of arrays and sums of rows: the residual stream, and gradients of biases and gains. And largest values."""

from __future__ import annotations

import numpy as np

from anetrain._cpu import lib
from anetrain.cpu._arrays import Floats, checked, elementwise, matrix, output, pointer, shaped


def add(x: Floats, y: Floats, alpha: float = 1.0, out: Floats | None = None) -> Floats:
    """x + alpha * y. `out` may be x or y, and may not overlap them otherwise.

    Contiguous arrays may have any number of dimensions, others must be [C, T] with contiguous rows.
    """
    checked("x", x, np.float32)
    shaped("y", y, x.shape)
    result = output(out, x.shape, np.float32, replaces=[x, y])
    rows, columns, (x_rows, y_rows, result_rows) = elementwise({"x": x, "y": y, "out": result})
    lib.anecpu_add(rows, columns, *x_rows, *y_rows, alpha, *result_rows)
    return result


def scale(x: Floats, alpha: float, out: Floats | None = None) -> Floats:
    """alpha * x. `out` may be x. Layouts are those of `add`."""
    checked("x", x, np.float32)
    result = output(out, x.shape, np.float32, replaces=[x])
    rows, columns, (x_rows, result_rows) = elementwise({"x": x, "out": result})
    lib.anecpu_scale(rows, columns, *x_rows, alpha, *result_rows)
    return result


def row_sum(a: Floats, out: Floats, alpha: float = 1.0) -> Floats:
    """out[r % n] += alpha * sum of row r of a [R, T], where out is [n] and R a multiple of n."""
    rows, columns = _rows_of("a", a, out)
    result = output(out, out.shape, np.float32, a)
    lib.anecpu_row_sum(rows, columns, *matrix("a", a), alpha, pointer(result), len(result))
    return result


def row_dot(a: Floats, b: Floats, out: Floats, alpha: float = 1.0) -> Floats:
    """out[r % n] += alpha * dot product of the rows r of a and b [R, T], where out is [n] and R a multiple of n."""
    rows, columns = _rows_of("a", a, out)
    shaped("b", b, a.shape)
    result = output(out, out.shape, np.float32, a, b)
    lib.anecpu_row_dot(rows, columns, *matrix("a", a), *matrix("b", b), alpha, pointer(result), len(result))
    return result


def largest(array: Floats) -> float:
    """The largest magnitude of a contiguous array: infinite or NaN if and only if an element is; 0 if it has none."""
    checked("array", array, np.float32)
    if not array.flags.c_contiguous:
        raise ValueError(f"array has strides {array.strides} bytes; it must be contiguous")
    return float(lib.anecpu_largest(array.size, pointer(array)))


def _rows_of(name: str, array: Floats, out: Floats) -> tuple[int, int]:
    checked(name, array, np.float32)
    checked("out", out, np.float32)
    if array.ndim != 2:
        raise ValueError(f"{name} has shape {array.shape}; expected [rows, columns]")
    if out.ndim != 1 or not out.flags.c_contiguous or (array.shape[0] % len(out) if len(out) else array.shape[0]):
        raise ValueError(
            f"out has shape {out.shape}, strides {out.strides}; expected a contiguous [n], "
            f"where n divides the {array.shape[0]} rows of {name} {array.shape}"
        )
    return array.shape
