"""anetrain.cpu.embedding and its gradient: numpy's gather, and sums in the order of the tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anetrain import cpu

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int32]
SHAPES = [(1, 1, 1), (5, 3, 7), (50, 171, 33), (40, 16, 16), (300, 768, 256), (7, 65, 100)]  # vocabulary, C, T


@pytest.fixture(params=[1, 2, 5])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    cpu.set_threads(request.param)
    yield request.param
    cpu.set_threads(None)


def floats(*shape: int) -> Floats:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def some_ids(vocabulary: int, tokens: int) -> Ids:
    """With repetitions, and with both ends of the vocabulary."""
    ids = np.random.default_rng(tokens).integers(0, vocabulary, tokens).astype(np.int32)
    ids[0], ids[-1] = vocabulary - 1, 0
    return ids


def scattered(ids: Ids, d: Floats, dtable: Floats, alpha: float) -> npt.NDArray[np.float64]:
    expected = dtable.astype(np.float64)
    np.add.at(expected, ids, alpha * d.T.astype(np.float64))
    return expected


@pytest.mark.parametrize(("vocabulary", "channels", "tokens"), SHAPES)
def test_gather(threads: int, vocabulary: int, channels: int, tokens: int) -> None:
    table, ids = floats(vocabulary, channels), some_ids(vocabulary, tokens)
    assert np.array_equal(cpu.embedding(table, ids), table[ids].T)


@given(st.integers(1, 40), st.integers(1, 50), st.integers(1, 50), st.integers(0, 3))
def test_gather_between_padded_arrays(vocabulary: int, channels: int, tokens: int, pad: int) -> None:
    table, ids = floats(vocabulary, channels + pad)[:, pad:], some_ids(vocabulary, tokens)
    whole = np.full((channels, tokens + pad), 7.0, np.float32)
    out = whole[:, :tokens]
    assert cpu.embedding(table, ids, out) is out
    assert np.array_equal(out, table[ids].T)
    assert (whole[:, tokens:] == 7.0).all()


@pytest.mark.parametrize(("vocabulary", "channels", "tokens"), SHAPES)
def test_scatter_adds_every_token(threads: int, vocabulary: int, channels: int, tokens: int) -> None:
    ids, d, dtable = some_ids(vocabulary, tokens), floats(channels, tokens), floats(vocabulary, channels)
    expected = scattered(ids, d, dtable, -0.75)
    repetitions = np.bincount(ids).max()
    assert cpu.embedding_scatter(ids, d, dtable, -0.75) is dtable
    assert np.abs(dtable - expected).max() <= 1e-7 * (repetitions + 2) * (np.abs(expected).max() + repetitions)


def test_scatter_between_padded_arrays_leaves_the_padding() -> None:
    ids, d, whole = some_ids(9, 21), floats(35, 30)[:, 4:25], floats(9, 40)
    before, dtable = whole.copy(), whole[:, 3:38]
    expected = scattered(ids, d, dtable, 1.0)
    cpu.embedding_scatter(ids, d, dtable)
    np.testing.assert_allclose(dtable, expected, rtol=1e-5, atol=1e-5)
    before[:, 3:38] = dtable
    assert np.array_equal(whole, before)


def test_repeated_ids_give_the_same_bits_on_any_number_of_threads() -> None:
    ids, d = np.tile(np.array([3, 1, 3, 3], np.int32), 250), floats(700, 1000) * 1000
    results = []
    for count in (1, 2, 3):
        cpu.set_threads(count)
        results.append(cpu.embedding_scatter(ids, d, np.ones((5, 700), np.float32), 0.3))
    cpu.set_threads(None)
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


def test_the_gradient_of_the_gather_is_the_scatter() -> None:
    table, ids, d = floats(30, 20), some_ids(30, 45), floats(20, 45)
    dtable = cpu.embedding_scatter(ids, d, np.zeros_like(table))
    direction = floats(30, 20)
    change = (direction[ids].T.astype(np.float64) * d).sum()  # the gather is linear
    assert np.vdot(dtable.astype(np.float64), direction) == pytest.approx(change, rel=1e-5)


def test_no_tokens() -> None:
    table, none = floats(4, 3), np.zeros(0, np.int32)
    assert cpu.embedding(table, none).shape == (3, 0)
    assert np.array_equal(cpu.embedding_scatter(none, np.zeros((3, 0), np.float32), table.copy()), table)


@pytest.mark.parametrize("bad", [-1, 10, 2**31 - 1, -(2**31)])
def test_an_id_outside_the_table_is_named_before_anything_is_written(bad: int) -> None:
    ids = some_ids(10, 40)
    ids[33] = bad
    out, dtable = floats(6, 40), floats(10, 6)
    before = out.copy(), dtable.copy()
    message = rf"ids\[33\] is {bad}; expected an id in \[0, 10\)"
    with pytest.raises(ValueError, match=message):
        cpu.embedding(floats(10, 6), ids, out)
    with pytest.raises(ValueError, match=message):
        cpu.embedding_scatter(ids, floats(6, 40), dtable)
    assert np.array_equal(out, before[0])
    assert np.array_equal(dtable, before[1])


IDS = some_ids(10, 8)
SHARED = floats(10, 8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cpu.embedding(floats(10, 8).astype(np.float64), IDS), "table has dtype float64; expected float32"),
        (lambda: cpu.embedding(floats(10), IDS), r"table has shape \(10,\); expected two dimensions"),
        (lambda: cpu.embedding(floats(8, 10).T, IDS), "table has strides .* its rows must be contiguous"),
        (lambda: cpu.embedding(SHARED, IDS.astype(np.int64)), "ids has dtype int64; expected int32"),
        (lambda: cpu.embedding(SHARED, IDS[::2]), "ids has strides .* must be contiguous"),
        (lambda: cpu.embedding(SHARED, IDS.reshape(2, 4)), r"ids has shape \(2, 4\); expected \(8,\)"),
        (lambda: cpu.embedding(SHARED, IDS, floats(8, 7)), r"out has shape \(8, 7\); expected \(8, 8\)"),
        (lambda: cpu.embedding(SHARED, IDS, floats(8, 8).T), "out has strides .* its rows must be contiguous"),
        (lambda: cpu.embedding(SHARED, IDS, SHARED[:8]), "out overlaps an input"),
        (lambda: cpu.embedding_scatter(IDS, floats(8, 9), SHARED), r"ids has shape \(8,\); expected \(9,\)"),
        (lambda: cpu.embedding_scatter(IDS, floats(7, 8), SHARED), r"dtable has shape \(10, 8\); expected \(10, 7\)"),
        (lambda: cpu.embedding_scatter(IDS, SHARED[:8], SHARED), "dtable overlaps an input"),
        (lambda: cpu.embedding_scatter(IDS, floats(8, 8), SHARED, float("nan")), "alpha is nan"),
    ],
)
def test_wrong_arguments_are_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        call()
