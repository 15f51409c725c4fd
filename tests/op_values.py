"""Random values and shapes for the cases of ops: drawn by hypothesis, made by numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from anetrain.mil.types import dtype

Draw = st.DrawFn

SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, 6e-8, -6e-8, 6.1e-5, -6.1e-5, 1e-3, 3.0, -3.0], np.float16)


def half(draw: Draw, shape: tuple[int, ...], low: float = -8.0, high: float = 8.0) -> np.ndarray:
    """fp16 in [low, high]: half of them near zero, where most functions bend, one in eight a special value."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    near = np.clip(generator.normal(0.0, 2.0, shape), low, high)
    values = np.where(generator.random(shape) < 0.5, near, generator.uniform(low, high, shape)).astype(np.float16)
    allowed = SPECIAL[(low <= SPECIAL) & (high >= SPECIAL)]
    if allowed.size:
        special = generator.choice(allowed, shape)
        values = np.where(generator.random(shape) < 0.125, special, values).astype(np.float16)
    return np.clip(values, np.float16(low), np.float16(high))


def distinct(draw: Draw, shape: tuple[int, ...]) -> np.ndarray:
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = int(np.prod(shape))
    return (generator.permutation(count) - count // 2).reshape(shape).astype(np.float16)


def scalar(draw: Draw, low: float, high: float) -> float:
    return float(np.float16(draw(st.floats(low, high, width=16))))


def shape_of(draw: Draw, low_rank: int = 1, high_rank: int = 4, side: int = 6) -> tuple[int, ...]:
    rank = draw(st.integers(low_rank, high_rank))
    return tuple(draw(st.lists(st.integers(1, side), min_size=rank, max_size=rank)))


def broadcast_partner(draw: Draw, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape that broadcasts against `shape`."""
    kept = tuple(n if draw(st.booleans()) else 1 for n in shape)
    return kept[draw(st.integers(0, len(kept) - 1)) :] if draw(st.booleans()) else kept


def axis_of(draw: Draw, rank: int) -> int:
    return draw(st.integers(-rank, rank - 1))


def some_axes(draw: Draw, rank: int) -> tuple[int, ...]:
    axes = draw(st.lists(st.integers(0, rank - 1), min_size=1, max_size=rank, unique=True))
    return tuple(axis - rank if draw(st.booleans()) else axis for axis in axes)


def maybe(draw: Draw, make: Callable[[], Any]) -> Any:
    return make() if draw(st.booleans()) else None


def integers(draw: Draw, shape: tuple[int, ...], kind: str) -> np.ndarray:
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    low, high = dtype(kind).integer_range
    return np.asarray(generator.integers(low, high, shape, endpoint=True), dtype(kind).numpy)


def scale_of(draw: Draw, shape: tuple[int, ...]) -> np.ndarray:
    """Powers of two, so that the true result of a division has no ties near a rounding."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return np.asarray(2.0 ** generator.integers(-4, 1, shape), np.float16)
