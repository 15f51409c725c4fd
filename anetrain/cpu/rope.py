"""Rotary position embedding on channel-first arrays [heads * head_dim, T], from tables of cosines and sines."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import numpy as np

from anetrain._cpu import lib
from anetrain.cpu._arrays import Floats, matrix, matrix_shape, output, shaped

Pairing: TypeAlias = Literal["half", "interleaved"]


def rope_tables(seq: int, head_dim: int, base: float, batch: int = 1) -> tuple[Floats, Floats]:
    """Cosines and sines [head_dim / 2, batch * seq] of the angles position * base^(-2 i / head_dim).

    Positions begin again with each sequence of the batch. Angles are float64.
    """
    if seq < 0 or batch < 0:
        raise ValueError(f"{batch} sequences of {seq} positions; expected none or more")
    _check_head(head_dim)
    if not base > 0.0:
        raise ValueError(f"base is {base}; expected a positive number")
    frequencies = float(base) ** (np.arange(0, head_dim, 2) / -head_dim)
    angles = np.outer(frequencies, np.arange(seq))  # [head_dim / 2, seq]
    cos, sin = (np.tile(table, batch).astype(np.float32) for table in (np.cos(angles), np.sin(angles)))
    return cos, sin


def rope(
    x: Floats,
    cos: Floats,
    sin: Floats,
    head_dim: int,
    pairing: Pairing = "half",
    inverse: bool = False,
    out: Floats | None = None,
) -> Floats:
    """Turns pair i of the channels of each head by the angle of row i of the tables [head_dim / 2, T].

    Pair i of a head is its channels i and i + head_dim / 2 ("half"), or 2 i and 2 i + 1 ("interleaved"). The inverse
    turns back, which is also the derivative: dx = rope(dy, ..., inverse=True). `out` may be x.
    """
    channels, tokens = matrix_shape("x", x)
    _check_head(head_dim)
    if channels % head_dim:
        raise ValueError(f"x has {channels} channels; expected a multiple of head_dim {head_dim}")
    if pairing not in get_args(Pairing):
        raise ValueError(f"pairing is {pairing!r}; expected one of {', '.join(get_args(Pairing))}")
    for name, table in (("cos", cos), ("sin", sin)):
        shaped(name, table, (head_dim // 2, tokens))
    y = output(out, x.shape, np.float32, cos, sin, replaces=[x])
    lib.anecpu_rope(
        *(channels // head_dim, head_dim, tokens, *matrix("x", x), *matrix("cos", cos), *matrix("sin", sin)),
        *(pairing == "interleaved", inverse, *matrix("out", y)),
    )
    return y


def _check_head(head_dim: int) -> None:
    if head_dim < 2 or head_dim % 2:
        raise ValueError(f"head_dim is {head_dim}; expected an even number, at least 2")
