"""anetrain.cpu's adamw and sum_of_squares against numpy in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from anetrain import cpu
from tests.cpu_arrays import close, floats, refused, same_bits

# one element, less than a vector, several pieces of work
SHAPES: list[tuple[int, ...]] = [(1,), (7, 5), (3, 2, 11), (300, 257)]
STEP, LR, BETAS, EPS, FACTOR = 3, 0.01, (0.8, 0.95), 1e-3, 0.25


def tensors() -> list[cpu.AdamWTensor]:
    return [
        cpu.AdamWTensor(
            floats(*shape),
            floats(*shape, seed=1),
            floats(*shape, seed=2),
            np.square(floats(*shape, seed=3)),
            lr_factor=1.0 + index,
            decay=0.5 * index,
        )
        for index, shape in enumerate(SHAPES)
    ]


def updated(clear: bool = False) -> list[cpu.AdamWTensor]:
    result = tensors()
    cpu.adamw(result, STEP, lr=LR, betas=BETAS, eps=EPS, factor=FACTOR, clear=clear)
    return result


def test_update() -> None:
    for before, after in zip(tensors(), updated(), strict=True):
        g = FACTOR * before.gradient.astype(np.float64)
        mean = BETAS[0] * before.mean + (1 - BETAS[0]) * g
        square = BETAS[1] * before.square + (1 - BETAS[1]) * g**2
        rate = LR * before.lr_factor
        step = mean / (1 - BETAS[0] ** STEP) / (np.sqrt(square / (1 - BETAS[1] ** STEP)) + EPS)
        close(after.mean, mean, 2e-7)
        close(after.square, square, 2e-7)
        close(after.weight, before.weight * (1 - rate * before.decay) - rate * step, 2e-7)
        close(before.weight - after.weight, rate * (step + before.decay * before.weight), 2e-4)
        np.testing.assert_array_equal(after.gradient, before.gradient)


def test_gradients_are_cleared_on_demand() -> None:
    for plain, cleared in zip(updated(), updated(clear=True), strict=True):
        np.testing.assert_array_equal(cleared.weight, plain.weight)
        assert not np.any(cleared.gradient)


def test_sum_of_squares() -> None:
    arrays = [floats(*shape) for shape in SHAPES]
    exact = math.fsum(float(x) ** 2 for array in arrays for x in array.ravel())
    assert cpu.sum_of_squares(arrays) == pytest.approx(exact, rel=1e-14)
    assert cpu.sum_of_squares([]) == 0.0


def test_squares_beyond_fp32_are_summed() -> None:
    assert cpu.sum_of_squares([np.float32([3e38, 1])]) == pytest.approx(9e76, rel=1e-6)
    assert cpu.sum_of_squares([np.float32([1e-30] * 33)]) == pytest.approx(33e-60, rel=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 99_999, 100_002])
def test_what_is_not_finite_shows(bad: float, place: int) -> None:
    array = floats(100_003)
    array[place] = bad
    assert not math.isfinite(cpu.sum_of_squares([floats(5), array]))


def test_threads_do_not_matter() -> None:
    def results() -> Sequence[Any]:
        sums = np.array([cpu.sum_of_squares([t.gradient for t in tensors()])])
        return [sums.view(np.float32), *(a for t in updated() for a in (t.weight, t.mean, t.square))]

    same_bits(results)


def test_mistakes() -> None:
    a, b, c, d = (floats(6, 4, seed=seed) for seed in range(4))
    refused(lambda: cpu.AdamWTensor(a, b[:, :3], c, d), "gradient", "(6, 3)", "(6, 4)")
    refused(lambda: cpu.AdamWTensor(a, b.astype(np.float64), c, d), "gradient", "float64", error=TypeError)  # type: ignore[arg-type]
    refused(lambda: cpu.AdamWTensor(a, b, c, a), "overlaps")
    refused(lambda: cpu.AdamWTensor(a.T, b.T, c.T, d.T), "weight", "contiguous")
    frozen = a.copy()
    frozen.flags.writeable = False
    refused(lambda: cpu.AdamWTensor(frozen, b, c, d), "weight", "read-only")
    good = [cpu.AdamWTensor(a, b, c, d)]
    refused(lambda: cpu.adamw(good, 0, lr=0.1), "step is 0")
    refused(lambda: cpu.adamw(good, 1, lr=0.1, betas=(0.9, 1.0)), "betas", "1.0")
    refused(lambda: cpu.adamw(good, 1, lr=math.nan), "lr is nan")
    refused(lambda: cpu.adamw(good, 1, lr=0.1, factor=math.inf), "factor inf")
    refused(lambda: cpu.adamw(good, 1, lr=0.1, eps=0.0), "eps 0.0")
    np.testing.assert_array_equal(a, floats(6, 4))
    refused(lambda: cpu.sum_of_squares([a, b.T]), "arrays[1]", "contiguous")
    refused(lambda: cpu.sum_of_squares([a.astype(np.float16)]), "arrays[0]", "float16", error=TypeError)  # type: ignore[list-item]


def test_zeros_in_one_piece() -> None:
    """Each array is contiguous, begins a cache line and shares memory with no other."""
    shapes: dict[str, tuple[int, ...]] = {"a": (3, 5), "b": (16,), "none": (0, 4), "one": (), "c": (2, 3, 7)}
    arrays = cpu.zeros_by_name(shapes)
    assert {name: array.shape for name, array in arrays.items()} == shapes
    for number, array in enumerate(arrays.values()):
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
        assert array.flags.writeable
        assert array.ctypes.data % 64 == 0 or not array.size
        assert not array.any()
        array.fill(number + 1.0)
    for number, array in enumerate(arrays.values()):
        assert (array == number + 1.0).all()
    assert cpu.zeros_by_name({}) == {}
