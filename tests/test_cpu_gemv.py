"""anetrain.cpu.gemv, float16 weights times a float32 vector, against float64; the same bits on every version."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anetrain import cpu
from anetrain._cpu import ffi, lib

Floats = npt.NDArray[np.float32]
Halves = npt.NDArray[np.float16]


@pytest.fixture(params=[1, 2, 5])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    cpu.set_threads(request.param)
    yield request.param
    cpu.set_threads(None)


@pytest.fixture
def version() -> Iterator[Callable[[str], bool]]:
    """Selects a version; false where this CPU has no such."""
    best = ffi.string(lib.anecpu_fp16_selected())
    yield lambda name: bool(lib.anecpu_fp16_select(name.encode()))
    lib.anecpu_fp16_select(best)


def case(rows: int, columns: int) -> tuple[Halves, Floats]:
    random = np.random.default_rng(rows * 1009 + columns)
    return random.standard_normal((rows, columns)).astype(np.float16), random.standard_normal(columns, np.float32)


def check(found: Floats, w: Halves, x: Floats) -> None:
    exact = w.astype(np.float64) @ x.astype(np.float64)
    # Chains of columns / 32 additions, then five more: far below columns roundings of the largest partial sum.
    bound = 2**-24 * (w.shape[1] / 32 + 7) * (np.abs(w.astype(np.float64)) @ np.abs(x))
    assert found.dtype == np.float32
    assert found.shape == exact.shape
    assert (np.abs(found - exact) <= bound).all()


@pytest.mark.parametrize("shape", [(1, 1), (3, 31), (4, 32), (5, 33), (6, 171), (1000, 768), (301, 2048), (9, 20001)])
def test_products(threads: int, shape: tuple[int, int]) -> None:
    w, x = case(*shape)
    check(cpu.gemv(w, x), w, x)


@given(st.integers(0, 20), st.integers(0, 150), st.integers(0, 3))
def test_any_shape_of_padded_rows(rows: int, columns: int, pad: int) -> None:
    w, x = case(rows, columns + pad)
    out = np.full(rows, np.nan, np.float32)
    assert cpu.gemv(w[:, pad:], x[pad:], out) is out
    check(out, w[:, pad:], x[pad:])


def test_every_version_gives_the_same_bits(version: Callable[[str], bool]) -> None:
    w, x = case(67, 333)
    w[5, 7], w[6, 330], w[7, 332], x[3] = np.inf, np.nan, 6e-8, 1e-40
    assert version("scalar")
    expected = cpu.gemv(w, x)
    assert np.isinf(expected[5])
    assert np.isnan(expected[6])
    others = [name for name in ("f16c", "avx512", "neon") if version(name)]
    for name in others:
        assert version(name)
        assert np.array_equal(cpu.gemv(w, x).view(np.uint32), expected.view(np.uint32)), name


def test_the_same_bits_on_any_number_of_threads() -> None:
    w, x = case(2000, 700)
    results = []
    for count in (1, 2, 3):
        cpu.set_threads(count)
        results.append(cpu.gemv(w, x))
    cpu.set_threads(None)
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


@pytest.mark.parametrize("shape", [(1, 1), (3, 31), (6, 171), (1000, 768), (301, 2048), (9, 20001)])
def test_products_of_float32(threads: int, shape: tuple[int, int]) -> None:
    _, x = case(*shape)
    full = np.random.default_rng(5).standard_normal((shape[0], shape[1] + 3), np.float32)[:, 1:-2]  # padded rows
    exact, bound = full.astype(np.float64) @ x, 2**-24 * (shape[1] + 8) * (np.abs(full).astype(np.float64) @ np.abs(x))
    out = np.full(shape[0], np.nan, np.float32)
    assert cpu.gemv(full, x, out) is out
    assert (np.abs(out - exact) <= bound).all()


W, X = case(6, 8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cpu.gemv(W.astype(np.float64), X), "w has dtype float64; expected float16"),
        (lambda: cpu.gemv(W, X.astype(np.float16)), "x has dtype float16; expected float32"),
        (lambda: cpu.gemv(W[0], X), r"w has shape \(8,\); expected two dimensions"),
        (lambda: cpu.gemv(W.T, X[:6]), "w has strides .* its rows must be contiguous"),
        (lambda: cpu.gemv(W, X[:7]), r"x has shape \(7,\); expected \(8,\)"),
        (lambda: cpu.gemv(W[:, :4], X[::2]), "x has strides .* must be contiguous"),
        (lambda: cpu.gemv(W, X, np.empty(7, np.float32)), r"out has shape \(7,\); expected \(6,\)"),
        (lambda: cpu.gemv(W, X, np.empty(12, np.float32)[::2]), "out has strides .* must be contiguous"),
        (lambda: cpu.gemv(W, X, X[:6]), "out overlaps an input"),
    ],
)
def test_wrong_arguments_are_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        call()
