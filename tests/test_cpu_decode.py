"""anetrain.cpu.Decode: one token through layers, against the formulas in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from anetrain import cpu
from anetrain._cpu import ffi, lib
from anetrain.cpu import Decode, DecodeLayer, DecodeSizes

SIZES = DecodeSizes(dim=24, hidden=37, heads=6, kv_heads=3, head_dim=8, capacity=40, norm_eps=1e-5)
Arrays = dict[str, np.ndarray]


def layer(s: DecodeSizes, seed: int, *, qk_norm: bool = False) -> DecodeLayer:
    random = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> np.ndarray:
        return (random.standard_normal((rows, columns)) / np.sqrt(columns)).astype(np.float16)

    def gain(size: int) -> np.ndarray:
        return random.uniform(0.2, 3.0, size).astype(np.float32)

    return DecodeLayer(
        attention_norm=gain(s.dim),
        qkv=matrix((s.heads + 2 * s.kv_heads) * s.head_dim, s.dim),
        out=matrix(s.dim, s.heads * s.head_dim),
        ffn_norm=gain(s.dim),
        gate_up=matrix(2 * s.hidden, s.dim),
        down=matrix(s.dim, s.hidden),
        keys=np.full((s.kv_heads, s.head_dim, s.capacity), np.nan, np.float32),  # what was not entered is not read
        values=np.full((s.kv_heads, s.capacity, s.head_dim), np.nan, np.float32),
        q_norm=gain(s.head_dim) if qk_norm else None,
        k_norm=gain(s.head_dim) if qk_norm else None,
    )


def tables(s: DecodeSizes, base: float = 100.0) -> tuple[np.ndarray, np.ndarray]:
    angles = np.outer(np.arange(s.capacity), base ** (-np.arange(0, s.head_dim, 2) / s.head_dim))
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def expected(s: DecodeSizes, layers: list[DecodeLayer], x: np.ndarray, base: float | None) -> np.ndarray:
    """[tokens, dim] of all tokens at once, in float64, with complex numbers for RoPE."""

    def norm(v: np.ndarray, gain: np.ndarray) -> np.ndarray:
        return v / np.sqrt((v * v).mean(axis=-1, keepdims=True) + s.norm_eps) * gain

    def turned(v: np.ndarray) -> np.ndarray:  # [tokens, heads, head_dim]
        if base is None:
            return v
        half = s.head_dim // 2
        angles = np.outer(np.arange(len(v)), base ** (-np.arange(half) / half))
        pairs = (v[..., :half] + 1j * v[..., half:]) * np.exp(1j * angles)[:, None]
        return np.concatenate([pairs.real, pairs.imag], axis=-1)

    tokens, q_rows, kv_rows = len(x), s.heads * s.head_dim, s.kv_heads * s.head_dim
    for item in layers:
        rows = norm(x, item.attention_norm) @ item.qkv.astype(np.float64).T
        q, k, v = np.split(rows, [q_rows, q_rows + kv_rows], axis=1)
        q, k, v = (part.reshape(tokens, -1, s.head_dim) for part in (q, k, v))
        if item.q_norm is not None and item.k_norm is not None:
            q, k = norm(q, item.q_norm), norm(k, item.k_norm)
        k, v = (np.repeat(part, s.heads // s.kv_heads, axis=1) for part in (turned(k), v))
        scores = np.einsum("qhd,khd->hqk", turned(q), k) / np.sqrt(s.head_dim)
        scores = np.where(np.tri(tokens, dtype=bool), scores, -np.inf)
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", shares, v).reshape(tokens, -1)
        x = x + s.residual_scale * mixed @ item.out.astype(np.float64).T
        gate, up = np.split(norm(x, item.ffn_norm) @ item.gate_up.astype(np.float64).T, 2, axis=1)
        x = x + s.residual_scale * (gate / (1 + np.exp(-gate)) * up) @ item.down.astype(np.float64).T
    return x


def decoded(s: DecodeSizes, layers: list[DecodeLayer], x: np.ndarray, base: float | None) -> np.ndarray:
    decode = Decode(s, layers, *(tables(s, base) if base is not None else ()))
    found = x.astype(np.float32)
    for position, token in enumerate(found):
        decode(token, position)
    return found


def tokens_of(s: DecodeSizes, count: int) -> np.ndarray:
    return np.random.default_rng(7).standard_normal((count, s.dim)).astype(np.float32)


@pytest.mark.parametrize("kv_heads", [1, 3, 6])
@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("base", [100.0, None])
def test_tokens_one_by_one(kv_heads: int, qk_norm: bool, base: float | None) -> None:
    s = replace(SIZES, kv_heads=kv_heads, residual_scale=0.6)
    layers = [layer(s, seed, qk_norm=qk_norm) for seed in (1, 2)]
    x = tokens_of(s, s.capacity)
    found, wanted = decoded(s, layers, x, base), expected(s, layers, x.astype(np.float64), base)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())


def test_keys_and_values_stay_as_they_are() -> None:
    item = layer(SIZES, 1)
    decoded(SIZES, [item], tokens_of(SIZES, 5), 100.0)
    assert np.isfinite(item.keys[:, :, :5]).all()
    assert np.isfinite(item.values[:, :5]).all()
    assert np.isnan(item.keys[:, :, 5:]).all()
    assert np.isnan(item.values[:, 5:]).all()


def test_large_scores_do_not_overflow() -> None:
    item = layer(SIZES, 1)
    item.qkv[:] *= np.float16(60.0)
    x = tokens_of(SIZES, 12)
    wanted = expected(SIZES, [item], x.astype(np.float64), 100.0)
    np.testing.assert_allclose(decoded(SIZES, [item], x, 100.0), wanted, rtol=0, atol=1e-3 * np.abs(wanted).max())


@pytest.fixture
def best_versions() -> Any:
    fp16 = ffi.string(lib.anecpu_fp16_selected())
    yield
    lib.anecpu_fp16_select(fp16)
    cpu.set_threads(None)


def test_the_same_bits_on_any_number_of_threads_and_any_version(best_versions: None) -> None:
    s = DecodeSizes(dim=384, hidden=1024, heads=6, kv_heads=6, head_dim=64, capacity=64, norm_eps=1e-5)
    x, results = tokens_of(s, 40), []
    for threads, version in ((1, b"scalar"), (2, b""), (5, b"")):
        cpu.set_threads(threads)
        if version:
            assert lib.anecpu_fp16_select(version)
        results.append(decoded(s, [layer(s, 3)], x, 100.0))
    assert all(np.array_equal(results[0], other) for other in results[1:])


def changed(**changes: Any) -> Callable[[], object]:
    return lambda: Decode(SIZES, [replace(layer(SIZES, 1), **changes)], *tables(SIZES))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (changed(out=np.zeros((24, 47), np.float16)), r"layers\[0\].out has shape \(24, 47\); expected \(24, 48\)"),
        (changed(down=np.zeros((24, 37), np.float32)), "down has dtype float32; expected float16"),
        (changed(qkv=np.zeros((24, 96), np.float16).T), "qkv has strides .* must be contiguous"),
        (changed(keys=None), r"layers\[0\].keys is None"),
        (lambda: Decode(replace(SIZES, kv_heads=4), []), "6 heads; expected a multiple of 4 kv_heads"),
        (lambda: Decode(SIZES, [layer(SIZES, 1)], tables(SIZES)[0]), "RoPE needs both tables"),
        (
            lambda: Decode(SIZES, [], *tables(replace(SIZES, capacity=39))),
            r"cos has shape \(39, 4\); expected \(40, 4\)",
        ),
        (lambda: Decode(SIZES, [layer(SIZES, 1)])(np.zeros(24, np.float32), 40), "position is 40; expected 0 to 39"),
        (
            lambda: Decode(SIZES, [layer(SIZES, 1)])(np.zeros(23, np.float32), 0),
            r"x has shape \(23,\); expected \(24,\)",
        ),
    ],
)
def test_wrong_arguments_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        call()
