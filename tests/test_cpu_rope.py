"""anetrain.cpu.rope against rotations by complex numbers, and its tables."""

from __future__ import annotations

import numpy as np
import pytest

from anetrain import cpu
from tests.cpu_arrays import Doubles, Floats, close, difference_gradient, floats, padded, refused, same_bits

# heads, head_dim, tokens
SHAPES = [(1, 2, 1), (3, 6, 5), (2, 40, 33), (12, 64, 67), (1, 128, 5000)]
PAIRINGS = ["half", "interleaved"]


def exact_rope(x: Floats | Doubles, cos: Floats, sin: Floats, head_dim: int, pairing: str, turn: int = 1) -> Doubles:
    """Pairs as complex numbers, times cos + i sin."""
    heads = x.astype(np.float64).reshape(-1, head_dim, x.shape[1])
    first, second = (
        (slice(0, head_dim // 2), slice(head_dim // 2, None))
        if pairing == "half"
        else (
            slice(0, None, 2),
            slice(1, None, 2),
        )
    )
    turned = (heads[:, first] + 1j * heads[:, second]) * (cos.astype(np.float64) + turn * 1j * sin.astype(np.float64))
    y = np.empty_like(heads)
    y[:, first], y[:, second] = turned.real, turned.imag
    return y.reshape(x.shape)


def inputs(heads: int, head_dim: int, tokens: int) -> tuple[Floats, Floats, Floats]:
    return floats(heads * head_dim, tokens), *cpu.rope_tables(tokens, head_dim, 1e4)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pairing", PAIRINGS)
@pytest.mark.parametrize("inverse", [False, True])
def test_values(shape: tuple[int, int, int], pairing: cpu.Pairing, inverse: bool) -> None:
    x, cos, sin = inputs(*shape)
    out = np.full_like(x, np.nan)
    assert cpu.rope(x, cos, sin, shape[1], pairing, inverse, out) is out
    close(out, exact_rope(x, cos, sin, shape[1], pairing, -1 if inverse else 1), 3e-7)
    np.testing.assert_array_equal(cpu.rope(x, cos, sin, shape[1], pairing, inverse), out)


@pytest.mark.parametrize("pairing", PAIRINGS)
def test_inverse_is_the_gradient(pairing: cpu.Pairing) -> None:
    x, cos, sin = inputs(3, 6, 5)
    dy = floats(18, 5, seed=1)
    expected = difference_gradient(lambda x: float((dy * exact_rope(x, cos, sin, 6, pairing)).sum()), x)
    close(cpu.rope(dy, cos, sin, 6, pairing, inverse=True), expected, 1e-6)


def test_position_one_by_hand() -> None:
    """A head of 4 at position 1: pair 0 turns by 1, pair 1 by 1 / sqrt(base)."""
    x = np.zeros((4, 2), np.float32)
    x[0], x[1] = 1.0, 10.0
    tables = cpu.rope_tables(2, 4, 100.0)
    half, interleaved = cpu.rope(x, *tables, 4, "half"), cpu.rope(x, *tables, 4, "interleaved")
    np.testing.assert_array_equal(half[:, 0], x[:, 0])
    np.testing.assert_allclose(half[:, 1], [np.cos(1), 10 * np.cos(0.1), np.sin(1), 10 * np.sin(0.1)], rtol=1e-6)
    turned = [np.cos(1) - 10 * np.sin(1), 10 * np.cos(1) + np.sin(1), 0, 0]
    np.testing.assert_allclose(interleaved[:, 1], turned, rtol=1e-6)


def test_tables() -> None:
    cos, sin = cpu.rope_tables(4000, 128, 1e6, batch=3)
    position = np.tile(np.arange(4000), 3)
    for i in (0, 1, 17, 63):
        angle = position / np.longdouble(1e6) ** (np.longdouble(2 * i) / 128)
        np.testing.assert_allclose(cos[i], np.cos(angle).astype(np.float64), rtol=0, atol=4e-8)
        np.testing.assert_allclose(sin[i], np.sin(angle).astype(np.float64), rtol=0, atol=4e-8)
    for table in (cos, sin):
        assert table.shape == (64, 12000)
        assert table.dtype == np.float32
        assert table.flags.c_contiguous
        np.testing.assert_array_equal(table[:, :4000], table[:, 8000:])


@pytest.mark.parametrize("pairing", PAIRINGS)
def test_padded_rows_and_results_in_place(pairing: cpu.Pairing) -> None:
    x, cos, sin = inputs(3, 6, 37)
    expected = cpu.rope(x, cos, sin, 6, pairing)
    result = padded(x, 5)
    np.testing.assert_array_equal(cpu.rope(padded(x), padded(cos, 2), padded(sin, 1), 6, pairing, out=result), expected)
    wide = result.base
    assert isinstance(wide, np.ndarray)
    assert np.isnan(wide[:, 37:]).all()
    np.testing.assert_array_equal(cpu.rope(x, cos, sin, 6, pairing, out=x), expected)


@pytest.mark.parametrize("shape", [(12, 64, 67), (1, 128, 5000)])
def test_threads_do_not_matter(shape: tuple[int, int, int]) -> None:
    x, cos, sin = inputs(*shape)
    same_bits(lambda: [cpu.rope(x, cos, sin, shape[1]), cpu.rope(x, cos, sin, shape[1], "interleaved", True)])


def test_no_tokens() -> None:
    x, cos, sin = inputs(3, 6, 0)
    assert cpu.rope(x, cos, sin, 6).shape == (18, 0)


def test_mistakes() -> None:
    x, cos, sin = inputs(3, 6, 5)
    refused(lambda: cpu.rope(x[:17], cos, sin, 6), "17 channels", "head_dim 6")
    refused(lambda: cpu.rope(x, cos, sin, 9), "head_dim is 9", "even")
    refused(lambda: cpu.rope(x, cos, sin, 0), "head_dim is 0")
    refused(lambda: cpu.rope(x, cos[:2], sin, 6), "cos", "(2, 5)", "(3, 5)")
    refused(lambda: cpu.rope(x, cos, sin[:, :4], 6), "sin", "(3, 4)", "(3, 5)")
    refused(lambda: cpu.rope(x, cos, sin, 6, "both"), "'both'", "half, interleaved")  # type: ignore[arg-type]
    refused(lambda: cpu.rope(x, cos, sin, 6, out=x[:, :4]), "out", "(18, 4)")
    refused(lambda: cpu.rope(x[:4], cos, sin, 2, out=x), "cos", "(3, 5)", "(1, 5)")
    refused(lambda: cpu.rope(cos[:2], cos[:1], sin[:1], 2, out=cos[:2]), "out", "overlaps")
    wide = floats(18, 6)
    refused(lambda: cpu.rope(wide[:, 1:], cos, sin, 6, out=wide[:, :5]), "out", "exact place")
    refused(lambda: cpu.rope(x, cos.astype(np.float64), sin, 6), "cos", "float64", error=TypeError)  # type: ignore[arg-type]
    refused(lambda: cpu.rope_tables(-1, 6, 1e4), "-1 positions")
    refused(lambda: cpu.rope_tables(4, 5, 1e4), "head_dim is 5")
    refused(lambda: cpu.rope_tables(4, 6, 0.0), "base is 0.0")
