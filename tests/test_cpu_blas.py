"""anetrain.cpu.matmul against numpy; csrc/tests/test_blas.cpp has odd sizes, padding and all flags of the C side."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anetrain import cpu

Floats = npt.NDArray[np.float32]


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    cpu.set_threads(request.param)
    yield request.param
    cpu.set_threads(None)


def floats(*shape: int) -> Floats:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def check(found: npt.NDArray[Any], a: Floats, b: Floats, alpha: float = 1.0, added: Any = 0.0) -> None:
    exact = alpha * (a.astype(np.float64) @ b.astype(np.float64)) + added
    bound = 2e-7 * (np.sqrt(a.shape[-1]) + 8) * (np.abs(a).astype(np.float64) @ np.abs(b) + 1)
    assert found.dtype == np.float32
    assert found.shape == exact.shape
    assert (np.abs(found - exact) <= bound).all()


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 7, 3), (768, 768, 256), (300, 65, 1000), (33, 2000, 17)])
@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
def test_products(threads: int, shape: tuple[int, int, int], transpose_a: bool, transpose_b: bool) -> None:
    m, k, n = shape
    a = floats(k, m).T if transpose_a else floats(m, k)
    b = floats(n, k).T if transpose_b else floats(k, n)
    check(cpu.matmul(a, b), a, b)


def test_accumulates_into_out(threads: int) -> None:
    a, b, out = floats(40, 50), floats(50, 60), floats(40, 60)
    before = out.astype(np.float64)
    assert cpu.matmul(a, b, out, alpha=0.5, beta=1.0) is out
    check(out, a, b, 0.5, before)


def test_beta_zero_does_not_read_out() -> None:
    a, b = floats(40, 50), floats(50, 60)
    check(cpu.matmul(a, b, np.full((40, 60), np.nan, np.float32)), a, b)


@pytest.mark.parametrize("batch", [1, 2, 3, 12])
@pytest.mark.parametrize("shared", ["none", "a", "b"])
def test_batches(threads: int, batch: int, shared: str) -> None:
    a = floats(70, 64) if shared == "a" else floats(batch, 70, 64)
    b = floats(64, 50) if shared == "b" else floats(batch, 64, 50)
    check(cpu.matmul(a, b), a, b)


def test_batches_of_transposed_and_cropped_views() -> None:
    heads = floats(4, 100, 80)
    a, b = heads[:, :60, 8:72], heads[:, 40:, 8:72].swapaxes(1, 2)
    out = np.zeros((4, 60, 90), np.float32)
    cpu.matmul(a, b, out[:, :, 10:70])
    check(out[:, :, 10:70], a, b)
    assert not out[:, :, :10].any()
    assert not out[:, :, 70:].any()


@given(st.tuples(*[st.integers(0, 40)] * 3), st.integers(0, 3), st.booleans(), st.booleans())
def test_any_shape(shape: tuple[int, int, int], crop: int, transpose_a: bool, transpose_b: bool) -> None:
    m, k, n = shape
    a = floats(k + crop, m + crop)[crop:, crop:].T if transpose_a else floats(m + crop, k + crop)[crop:, crop:]
    b = floats(n + crop, k + crop)[crop:, crop:].T if transpose_b else floats(k + crop, n + crop)[crop:, crop:]
    check(cpu.matmul(a, b), a, b)


@pytest.mark.parametrize(
    ("product", "message"),
    [
        (lambda: cpu.matmul(floats(3), floats(3, 2)), r"a has shape \(3,\); expected two or three dimensions"),
        (lambda: cpu.matmul(floats(3, 4), floats(3, 4)), r"a \(3, 4\) and b \(3, 4\) do not fit: 4 columns, 3 rows"),
        (lambda: cpu.matmul(floats(2, 3, 4), floats(3, 4, 5)), "batches of 2 and 3"),
        (lambda: cpu.matmul(floats(3, 8)[:, ::2], floats(4, 2)), "rows or columns of each matrix must be contiguous"),
        (lambda: cpu.matmul(floats(3, 4)[::-1], floats(4, 2)), "rows or columns of each matrix must be contiguous"),
        (lambda: cpu.matmul(floats(3, 4), floats(4, 2), floats(2, 3).T), "its rows must be contiguous"),
        (lambda: cpu.matmul(floats(3, 4), floats(4, 2), floats(3, 3)), r"out has shape \(3, 3\); expected \(3, 2\)"),
        (lambda: cpu.matmul(floats(3, 4), floats(4, 2), beta=1.0), "there is no out to scale"),
        (lambda: cpu.matmul(floats(3, 4).astype(np.float64), floats(4, 2)), "a has dtype float64"),
    ],
)
def test_wrong_arguments_are_refused(product: Callable[[], Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        product()


def test_out_must_not_overlap_an_input() -> None:
    a = floats(16, 16)
    with pytest.raises(ValueError, match="out overlaps an input"):
        cpu.matmul(a, floats(16, 16), a)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_products_in_a_forked_child() -> None:
    a, b = floats(300, 300), floats(300, 300)
    expected = cpu.matmul(a, b)
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(cpu.matmul(a, b), expected) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_the_library_is_named() -> None:
    assert cpu.blas_name().split()[0] in ("OpenBLAS", "Accelerate")
