"""What the tests of anetrain.cpu share: arrays, layouts, threads, and gradients by central differences."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from anetrain import cpu
from tests.support import need

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

# [C, T]: odd sizes, one token, one row, more than a strip of tokens, more than a block of channels and of a row's sum
SHAPES = [(1, 1), (7, 5), (5, 1), (1, 33), (33, 64), (96, 67), (171, 130), (3, 1025), (9, 5000)]


def floats(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng([seed, *shape]).standard_normal(shape, np.float32)


def gains(count: int) -> Floats:
    return np.random.default_rng(count).uniform(0.2, 3.0, count).astype(np.float32)


def padded(array: Floats, columns: int = 3) -> Floats:
    """The same values with rows further apart than they are long."""
    wide = np.full((array.shape[0], array.shape[1] + columns), np.nan, np.float32)
    wide[:, : array.shape[1]] = array
    return wide[:, : array.shape[1]]


def close(found: npt.NDArray[Any], expected: npt.NDArray[Any], relative: float = 2e-6) -> None:
    """Errors are judged by the largest value of the array."""
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    assert np.isfinite(found).all()
    error = np.abs(found - expected).max(initial=0.0)
    assert error <= relative * max(np.abs(expected).max(initial=0.0), 1e-30), f"error {error:.3g}"


def same_bits(compute: Callable[[], Sequence[Floats]]) -> None:
    """The results of one, two and three threads are equal, NaN included."""
    results = []
    for count in (1, 2, 3):
        cpu.set_threads(count)
        results.append([np.array(a).view(np.int32) for a in compute()])
    cpu.set_threads(None)
    for result in results[1:]:
        for found, expected in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(found, expected)


def difference_gradient(loss: Callable[[Doubles], float], at: npt.NDArray[Any]) -> Doubles:
    """d loss / d at, entry by entry, by central differences in float64."""
    point = at.astype(np.float64)
    gradient = np.empty_like(point)
    for index in np.ndindex(point.shape):
        kept = point[index]
        step = 1e-5 * max(1.0, abs(kept))
        point[index] = kept + step
        above = loss(point)
        point[index] = kept - step
        gradient[index] = (above - loss(point)) / (2 * step)
        point[index] = kept
    return gradient


def refused(call: Callable[[], object], *words: str, error: type[Exception] = ValueError) -> None:
    """The call raises, and the message has all the words."""
    with pytest.raises(error) as raised:
        call()
    for word in words:
        assert word in str(raised.value), str(raised.value)


def pytorch() -> Any:
    """The oracle for gradients of larger arrays."""
    need(importlib.util.find_spec("torch"), "PyTorch")
    return importlib.import_module("torch")
