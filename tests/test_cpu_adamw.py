"""anetrain.cpu's adamw and sum_of_squares against numpy in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, ClassVar

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


class Copied:
    """Weights, some of them large, whose copies go to two buffers: rows as they are and in pairs, transposed, twice."""

    SHAPES: ClassVar[list[tuple[int, int]]] = [(300, 512), (5, 3), (160, 700), (64, 130), (0, 7)]

    def __init__(self) -> None:
        self.tensors = [
            cpu.AdamWTensor(*(floats(*shape, seed=seed) for seed in range(3)), np.square(floats(*shape, seed=3)))
            for shape in self.SHAPES
        ]
        self.targets = [cpu.HalfTarget(), cpu.HalfTarget()]
        a, b, c, d, _ = (tensor.weight for tensor in self.tensors)
        first: list[tuple[int, tuple[Any, int, int]]] = [
            (0, (a[20:84:2], 5, 600)),
            (0, (a[21:84:2], 5 + 32 * 600, 600)),
            (0, (a[90:299], 40_000, 512)),
            (1, (a[100:190].T, 0, 90)),
            (1, (a[100:102], 60_000, 512)),
        ]
        other = [[(0, (b, 0, 5)), (1, (b[:0], 7, 5))], [(1, (c.T, 70_000, 160))], [(0, (d[:, 3:9], 150_000, 6))]]
        self.blocks = [first, *other]
        self.copies = [
            cpu.HalfCopies(weight, [(self.targets[target], block) for target, block in blocks])
            for weight, blocks in zip((a, b, c, d), self.blocks, strict=True)
        ]
        self.buffers = [np.full(200_000, 7.0, np.float16) for _ in self.targets]

    def update(self, copies: Sequence[cpu.HalfCopies]) -> None:
        with ExitStack() as bound:
            for target, buffer in zip(self.targets, self.buffers, strict=True):
                bound.enter_context(target.bound(buffer))
            cpu.adamw(self.tensors, STEP, lr=LR, betas=BETAS, eps=EPS, factor=FACTOR, clear=True, copies=copies)

    def results(self) -> list[Any]:
        return [array for t in self.tensors for array in (t.weight, t.gradient, t.mean, t.square)]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_copies_are_those_of_the_new_weights(threads: int) -> None:
    cpu.set_threads(threads)
    try:
        found, plain = Copied(), Copied()
        found.update(found.copies)
        plain.update([])
        assert all((buffer == 7.0).all() for buffer in plain.buffers)
        for target, block in (item for blocks in plain.blocks for item in blocks):
            cpu.HalfMoves([block])(plain.buffers[target])
        for one, other in zip(found.results(), plain.results(), strict=True):
            assert one.tobytes() == other.tobytes()
        for one, other in zip(found.buffers, plain.buffers, strict=True):
            assert one.tobytes() == other.tobytes()
    finally:
        cpu.set_threads(None)


def test_copies_that_cannot_be_made() -> None:
    case = Copied()
    refused(lambda: cpu.adamw(case.tensors, 1, lr=0.1, copies=case.copies), "[300, 512]", "not bound")
    weight = case.tensors[0].weight
    before = weight.copy()
    refused(lambda: case.update([cpu.HalfCopies(weight[:50], [])]), "[50, 512]", "in part")
    refused(lambda: case.update([case.copies[0], case.copies[0]]), "two sets of copies")
    refused(lambda: cpu.HalfCopies(weight.T, []), "contiguous")
    refused(lambda: cpu.HalfCopies(weight, [(case.targets[0], (before[:3], 0, 512))]), "[3, 512]", "no part")
    refused(lambda: case.targets[0].bound(np.zeros(10, np.float16)).__enter__(), "10 elements", "150384")
    np.testing.assert_array_equal(weight, before)
    with case.targets[1].bound(case.buffers[1]):
        assert case.targets[1].is_bound
    assert not case.targets[1].is_bound
    case.update([cpu.HalfCopies(before, [(case.targets[0], (before, 0, 512))])])  # no tensor changes it
    assert all((buffer == 7.0).all() for buffer in case.buffers)


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
