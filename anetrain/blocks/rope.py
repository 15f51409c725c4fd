"""Rotary position embedding on the device, in one form: half-split, along the axis of a head's rows.

Row i of a head turns with row i + head_dim / 2. Models whose pairs are neighbouring rows get there by the order in
which the rows of Wq and Wk are staged (`paired_head` of a parameter). Nothing is cut along the width, which some chips
refuse (ANE_FACTS C18) or get wrong (C54).
"""

from __future__ import annotations

import numpy as np

from anetrain.graph import BlockGraph, Value
from anetrain.mil.types import Array


def rope_tables(head_dim: int, length: int, base: float, scale: float = 1.0) -> tuple[Array, Array]:
    """Factors of a head's rows and of the rows with their halves swapped, [1, 1, head_dim, length] each, times `scale`.
    Position t turns pair i by t / base^(2 i / head_dim)."""
    speeds = base ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)  # [head_dim / 2]
    angles = speeds[:, None] * np.arange(length, dtype=np.float64)
    cos, sin = scale * np.cos(angles), scale * np.sin(angles)
    return np.concatenate([cos, cos])[None, None], np.concatenate([-sin, sin])[None, None]


def rotate(g: BlockGraph, x: Value, base: float, scale: float = 1.0) -> Value:
    """Turns heads x [1, heads, head_dim, S] by their positions 0 to S - 1, and scales them."""
    straight, crossed = rope_tables(x.shape[2], x.shape[3], base, scale)
    return x * g.constant(straight) + g.swap_halves(x, axis=2) * g.constant(crossed)
