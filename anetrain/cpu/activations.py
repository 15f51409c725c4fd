"""SiLU and GELU with their derivatives.

Contiguous arrays may have any number of dimensions, others must be [C, T] with contiguous rows.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import numpy as np

from anetrain._cpu import lib
from anetrain.cpu._arrays import Floats, checked, elementwise, output, shaped

GeluMode: TypeAlias = Literal["tanh", "exact"]


def silu(x: Floats, out: Floats | None = None) -> Floats:
    """x sigmoid(x). `out` may be x."""
    checked("x", x, np.float32)
    y = output(out, x.shape, np.float32, replaces=[x])
    rows, columns, (x_rows, y_rows) = elementwise({"x": x, "out": y})
    lib.anecpu_silu(rows, columns, *x_rows, *y_rows)
    return y


def silu_backward(dy: Floats, x: Floats, out: Floats | None = None) -> Floats:
    """The gradient of x, from that of silu(x). `out` may be dy or x."""
    checked("x", x, np.float32)
    shaped("dy", dy, x.shape)
    dx = output(out, x.shape, np.float32, replaces=[dy, x])
    rows, columns, (dy_rows, x_rows, dx_rows) = elementwise({"dy": dy, "x": x, "out": dx})
    lib.anecpu_silu_backward(rows, columns, *dy_rows, *x_rows, *dx_rows)
    return dx


def gelu(x: Floats, mode: GeluMode = "tanh", out: Floats | None = None) -> Floats:
    """x Phi(x) with the normal distribution Phi ("exact"), or its approximation by a tanh. `out` may be x."""
    checked("x", x, np.float32)
    y = output(out, x.shape, np.float32, replaces=[x])
    rows, columns, (x_rows, y_rows) = elementwise({"x": x, "out": y})
    lib.anecpu_gelu(_is_exact(mode), rows, columns, *x_rows, *y_rows)
    return y


def gelu_backward(dy: Floats, x: Floats, mode: GeluMode = "tanh", out: Floats | None = None) -> Floats:
    """The gradient of x, from that of gelu(x, mode). `out` may be dy or x."""
    checked("x", x, np.float32)
    shaped("dy", dy, x.shape)
    dx = output(out, x.shape, np.float32, replaces=[dy, x])
    rows, columns, (dy_rows, x_rows, dx_rows) = elementwise({"dy": dy, "x": x, "out": dx})
    lib.anecpu_gelu_backward(_is_exact(mode), rows, columns, *dy_rows, *x_rows, *dx_rows)
    return dx


def _is_exact(mode: str) -> bool:
    if mode not in get_args(GeluMode):
        raise ValueError(f"mode is {mode!r}; expected one of {', '.join(get_args(GeluMode))}")
    return mode == "exact"
