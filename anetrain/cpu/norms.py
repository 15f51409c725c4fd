"""RMSNorm and LayerNorm over the channels of each token, forward and backward, on channel-first arrays [C, T]."""

from __future__ import annotations

from typing import Any

import numpy as np

from anetrain._cpu import ffi, lib
from anetrain.cpu._arrays import Array, Floats, matrix, matrix_shape, output, shaped, vector


def rms_norm(x: Floats, gain: Floats, eps: float, out: Floats | None = None, rrms: Floats | None = None) -> Floats:
    """out[c, t] = gain[c] x[c, t] rrms[t], where rrms[t] = 1 / sqrt(mean over c of x[c, t]^2 + eps).

    `rrms` [T] is filled when it is given; the backward needs it. `out` may be x.
    """
    channels, tokens = matrix_shape("x", x)
    y = output(out, x.shape, np.float32, gain, replaces=[x])
    lib.anecpu_rms_norm(
        *(channels, tokens, *matrix("x", x), vector("gain", gain, channels), _positive(eps)),
        *(*matrix("out", y), _filled("rrms", rrms, tokens, x, gain, y)),
    )
    return y


def rms_norm_backward(
    dy: Floats,
    x: Floats,
    gain: Floats,
    rrms: Floats,
    dx: Floats | None = None,
    dgain: Floats | None = None,
    alpha: float = 1.0,
) -> None:
    """dx = rrms (gain dy - x rrms^2 mean over c of (dy gain x)) and dgain += alpha * sum over t of (dy x rrms).

    What is given is computed: dx, dgain or both. `dx` may be dy or x.
    """
    channels, tokens = matrix_shape("x", x)
    _require(dx=dx, dgain=dgain)
    shaped("dy", dy, x.shape)
    lib.anecpu_rms_norm_backward(
        *(channels, tokens, *matrix("dy", dy), *matrix("x", x)),
        *(vector("gain", gain, channels), vector("rrms", rrms, tokens)),
        *_replaced("dx", dx, dy, x, gain, rrms),
        *(_filled("dgain", dgain, channels, dy, x, gain, rrms, dx), alpha),
    )


def layer_norm(
    x: Floats,
    gain: Floats,
    bias: Floats,
    eps: float,
    out: Floats | None = None,
    mean: Floats | None = None,
    rstd: Floats | None = None,
) -> Floats:
    """out = gain (x - mean) rstd + bias, where mean[t] is that over c, and rstd[t] = 1 / sqrt(variance over c + eps).

    `mean` [T] and `rstd` [T] are filled when they are given; the backward needs them. `out` may be x.
    """
    channels, tokens = matrix_shape("x", x)
    y = output(out, x.shape, np.float32, gain, bias, replaces=[x])
    lib.anecpu_layer_norm(
        *(channels, tokens, *matrix("x", x)),
        *(vector("gain", gain, channels), vector("bias", bias, channels), _positive(eps), *matrix("out", y)),
        *(_filled("mean", mean, tokens, x, gain, bias, y), _filled("rstd", rstd, tokens, x, gain, bias, y, mean)),
    )
    return y


def layer_norm_backward(
    dy: Floats,
    x: Floats,
    gain: Floats,
    mean: Floats,
    rstd: Floats,
    dx: Floats | None = None,
    dgain: Floats | None = None,
    dbias: Floats | None = None,
    alpha: float = 1.0,
) -> None:
    """With z = (x - mean) rstd: dx = rstd (gain dy - mean over c of (gain dy) - z mean over c of (gain dy z)),
    dgain += alpha * sum over t of (dy z), and dbias += alpha * sum over t of dy.

    What is given is computed: dx, dgain, dbias or several. `dx` may be dy or x.
    """
    channels, tokens = matrix_shape("x", x)
    _require(dx=dx, dgain=dgain, dbias=dbias)
    shaped("dy", dy, x.shape)
    inputs = (dy, x, gain, mean, rstd)
    lib.anecpu_layer_norm_backward(
        *(channels, tokens, *matrix("dy", dy), *matrix("x", x)),
        *(vector("gain", gain, channels), vector("mean", mean, tokens), vector("rstd", rstd, tokens)),
        *_replaced("dx", dx, dy, x, gain, mean, rstd),
        _filled("dgain", dgain, channels, *inputs, dx),
        *(_filled("dbias", dbias, channels, *inputs, dx, dgain), alpha),
    )


def _positive(eps: float) -> float:
    if not eps >= 0.0:
        raise ValueError(f"eps is {eps}; expected 0 or more")
    return eps


def _require(**results: Array | None) -> None:
    if all(result is None for result in results.values()):
        raise ValueError(f"nothing to compute: give {' or '.join(results)}")


def _filled(name: str, result: Floats | None, length: int, *others: Array | None) -> Any:
    """The pointer to a result [length] that may not be wanted."""
    if result is None:
        return ffi.NULL
    output(result, (length,), np.float32, *(other for other in others if other is not None), name=name)
    return vector(name, result, length)


def _replaced(name: str, result: Floats | None, dy: Floats, x: Floats, *others: Array) -> tuple[Any, int]:
    """The pointer to and row step of a result that may take the place of dy or x, or not be wanted."""
    if result is None:
        return ffi.NULL, 0
    return matrix(name, output(result, x.shape, np.float32, *others, name=name, replaces=[dy, x]))
