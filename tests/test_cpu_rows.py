"""anetrain.cpu's add, scale, row_sum, row_dot and largest against numpy in float64."""

from __future__ import annotations

import numpy as np
import pytest

from anetrain import cpu
from tests.cpu_arrays import SHAPES, close, floats, padded, refused, same_bits


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_add_and_scale(shape: tuple[int, int], alpha: float) -> None:
    x, y = floats(*shape), floats(*shape, seed=1)
    close(cpu.add(x, y, alpha), x.astype(np.float64) + alpha * y.astype(np.float64), 2e-7)
    close(cpu.scale(x, alpha), alpha * x.astype(np.float64), 2e-7)
    out = np.full_like(x, np.nan)
    assert cpu.add(x, y, out=out) is out
    np.testing.assert_array_equal(out, x + y)
    assert cpu.scale(x, -2.0, out) is out
    np.testing.assert_array_equal(out, -2.0 * x)


def test_add_and_scale_layouts() -> None:
    x, y = floats(33, 67), floats(33, 67, seed=1)
    total = x + y
    result = padded(x, 5)
    np.testing.assert_array_equal(cpu.add(padded(x), padded(y, 2), out=result), total)
    wide = result.base
    assert isinstance(wide, np.ndarray)
    assert np.isnan(wide[:, 67:]).all()
    np.testing.assert_array_equal(cpu.add(x.reshape(3, 11, 67), y.reshape(3, 11, 67)), total.reshape(3, 11, 67))
    for target in (0, 1):
        arrays = padded(x), padded(y)
        np.testing.assert_array_equal(cpu.add(*arrays, out=arrays[target]), total)
    np.testing.assert_array_equal(cpu.scale(padded(x), 4.0), 4 * x)
    np.testing.assert_array_equal(cpu.scale(x.copy(), 4.0, out=padded(x)), 4 * x)
    doubled = 2 * x
    np.testing.assert_array_equal(cpu.add(x, x, out=x), doubled)


def test_every_element_is_taken_once() -> None:
    """In place, an element that two pieces of the work share would be scaled twice."""
    for x in (floats(9, 5000), padded(floats(9, 5000))):
        doubled = 2 * x
        np.testing.assert_array_equal(cpu.scale(x, 2.0, out=x), doubled)


@pytest.mark.parametrize("shape", [*SHAPES, (96, 1000), (33, 2049)])
def test_sums_of_rows(shape: tuple[int, int]) -> None:
    a, b = floats(*shape), floats(*shape, seed=1)
    for n in {1, 3, shape[0]}:
        if shape[0] % n:
            continue
        out = floats(n, seed=2)
        before, groups = out.astype(np.float64), (shape[0] // n, n, shape[1])
        assert cpu.row_sum(a, out, 0.5) is out
        close(out, before + 0.5 * a.astype(np.float64).reshape(groups).sum((0, 2)))
        out = before.astype(np.float32)
        assert cpu.row_dot(a, b, out, -2.0) is out
        close(out, before - 2.0 * (a.astype(np.float64) * b).reshape(groups).sum((0, 2)))


def test_rows_meet_by_remainder() -> None:
    """Row r goes to out[r % n]: heads follow each other."""
    a = np.repeat(np.float32([1, 10, 100, 2, 20, 200])[:, None], 2, 1)
    np.testing.assert_array_equal(cpu.row_sum(a, np.zeros(3, np.float32)), [6, 60, 600])


def test_long_rows_are_summed_well() -> None:
    """One after the other, a million floats between 1 and 2 would be 1e-4 off; and small ones survive large ones."""
    a = 1 + np.random.default_rng(3).random((2, 1_000_003), np.float32)
    expected = a.sum(1, dtype=np.float64)
    found = cpu.row_sum(a, np.zeros(2, np.float32))
    assert (np.abs(found - expected) <= 1.2e-7 * expected).all()
    squares = cpu.row_dot(a, a, np.zeros(2, np.float32))
    exact = (a.astype(np.float64) ** 2).sum(1)
    assert (np.abs(squares - exact) <= 1.2e-7 * exact).all()


def test_padded_rows() -> None:
    a, b = floats(33, 67), floats(33, 67, seed=1)
    zeros = np.zeros(11, np.float32)
    np.testing.assert_array_equal(cpu.row_sum(padded(a), zeros.copy()), cpu.row_sum(a, zeros.copy()))
    np.testing.assert_array_equal(cpu.row_dot(padded(a), padded(b, 1), zeros.copy()), cpu.row_dot(a, b, zeros.copy()))


@pytest.mark.parametrize("shape", [(171, 301), (3, 50_001)])
def test_threads_do_not_matter(shape: tuple[int, int]) -> None:
    a, b = floats(*shape), floats(*shape, seed=1)
    same_bits(lambda: [cpu.add(a, b, 0.3), cpu.add(padded(a), b), cpu.scale(a, 0.3)])
    same_bits(lambda: [f(n) for n in (3, shape[0]) for f in (
        lambda n: cpu.row_sum(a, np.zeros(n, np.float32)),
        lambda n: cpu.row_dot(a, b, np.zeros(n, np.float32)),
    )])  # fmt: skip


@pytest.mark.parametrize("size", [1, 3, 31, 64, 65, 1000, 70_001])
def test_the_largest_magnitude_wherever_it_is(size: int) -> None:
    x = floats(1, size)[0]
    assert cpu.largest(x) == np.abs(x).max()
    places = {0, 1, size // 2, size - 2, size - 1} & set(range(size))
    for place in places:
        for value in (-7e37, 1e38, np.inf, -np.inf, np.nan):
            changed = x.copy()
            changed[place] = value
            np.testing.assert_equal(cpu.largest(changed), abs(np.float32(value)))
            if size > 1:  # a NaN counts for more than infinity
                changed[place - 1] = np.inf
                np.testing.assert_equal(cpu.largest(changed), np.nan if np.isnan(value) else np.inf)
    assert cpu.largest(np.zeros((3, 5), np.float32)) == 0.0
    assert cpu.largest(np.full((2, size), -1e-42, np.float32)) == np.float32(1e-42)


def test_empty() -> None:
    a, out = np.empty((6, 0), np.float32), floats(3)
    assert cpu.add(a, a).shape == (6, 0)
    assert cpu.largest(a) == 0.0
    np.testing.assert_array_equal(cpu.row_sum(a, out.copy()), out)
    np.testing.assert_array_equal(cpu.row_dot(a, a, out.copy()), out)
    np.testing.assert_array_equal(cpu.row_sum(np.empty((0, 5), np.float32), out.copy()), out)
    assert cpu.row_sum(np.empty((0, 5), np.float32), np.empty(0, np.float32)).shape == (0,)


def test_mistakes() -> None:
    x, out = floats(6, 4), np.zeros(3, np.float32)
    refused(lambda: cpu.add(x, x[:, :3]), "y", "(6, 3)", "(6, 4)")
    refused(lambda: cpu.add(x, x.astype(np.float16)), "y", "float16", error=TypeError)  # type: ignore[arg-type]
    refused(lambda: cpu.add(x[:, 1:], x[:, 1:], out=x[:, :3]), "out", "exact place")
    refused(lambda: cpu.add(x[:, ::2], x[:, ::2]), "x", "rows must be contiguous")
    refused(lambda: cpu.scale(x, 2.0, out=np.empty((6, 4), np.float16)), "out", "float16", error=TypeError)  # type: ignore[arg-type]
    refused(lambda: cpu.row_sum(x, np.zeros(4, np.float32)), "out", "(4,)", "6 rows")
    refused(lambda: cpu.row_sum(x, np.zeros(0, np.float32)), "out", "(0,)", "6 rows")
    refused(lambda: cpu.row_sum(x, np.zeros(6, np.float32)[::2]), "out", "contiguous")
    refused(lambda: cpu.row_sum(x, x[0, :3]), "out", "overlaps")
    refused(lambda: cpu.row_sum(x[0], out), "a", "(4,)", "[rows, columns]")
    refused(lambda: cpu.row_sum(x.T, out), "out", "4 rows")
    refused(lambda: cpu.row_sum(floats(4, 6).T, out), "a", "rows must be contiguous")
    refused(lambda: cpu.row_dot(x, x[:, :3], out), "b", "(6, 3)", "(6, 4)")
    refused(lambda: cpu.largest(x[:, 1:]), "array", "contiguous")
    refused(lambda: cpu.largest(np.zeros(3)), "array", "float64", error=TypeError)  # type: ignore[arg-type]
    refused(lambda: cpu.row_sum(x, np.zeros(3)), "out", "float64", error=TypeError)  # type: ignore[arg-type]
