"""anetrain.cpu.cross_entropy against float64 and PyTorch's float64 autograd; ignored targets, bounds, huge logits."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anetrain import cpu
from tests.support import need

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int32]
SHAPES = [(2, 1), (7, 5), (171, 33), (256, 64), (257, 4), (1000, 100), (3001, 517), (50000, 1)]


@pytest.fixture(params=[1, 2, 5])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    cpu.set_threads(request.param)
    yield request.param
    cpu.set_threads(None)


def case(vocabulary: int, tokens: int, spread: float = 4.0) -> tuple[Floats, Ids]:
    random = np.random.default_rng(vocabulary * 10007 + tokens)
    logits = (random.standard_normal((vocabulary, tokens)) * spread + random.uniform(-5, 5, tokens)).astype(np.float32)
    return logits, random.integers(0, vocabulary, tokens).astype(np.int32)


def reference(logits: Floats, targets: Ids, scale: float = 1.0, ignore: int = -1) -> tuple[float, int, Doubles]:
    """Loss, count and gradient in float64."""
    wide = logits.astype(np.float64)
    counted = np.flatnonzero(targets != ignore)
    largest = wide.max(axis=0)
    exponentials = np.exp(wide - largest)
    total = exponentials.sum(axis=0)
    gradient = exponentials / total
    gradient[targets[counted], counted] -= 1.0
    gradient[:, targets == ignore] = 0.0
    losses = np.log(total[counted]) + (largest[counted] - wide[targets[counted], counted])
    return float(losses.mean()), counted.size, gradient * scale / counted.size


def check(logits: Floats, targets: Ids, scale: float = 1.0, ignore: int = -1) -> None:
    loss, count, gradient = reference(logits, targets, scale, ignore)
    dlogits = np.full_like(logits, np.nan)
    found = cpu.cross_entropy(logits, targets, scale, dlogits, ignore)
    assert found[1] == count
    assert found[0] == pytest.approx(loss, rel=1e-6, abs=1e-6)
    counted = np.flatnonzero(targets != ignore)
    # Of exp's argument, logit - largest, fp32 keeps 2^-24; of the target's entry, p - 1, as much of the 1.
    below = logits.max(axis=0) - logits.astype(np.float64)
    share = np.abs(gradient)
    share[targets[counted], counted] += abs(scale) / count
    allowed = (8e-7 + 2.0**-24 * below) * share + 1e-37
    assert (np.abs(dlogits - gradient) <= allowed).all()


@pytest.mark.parametrize(("vocabulary", "tokens"), SHAPES)
def test_loss_and_gradient(threads: int, vocabulary: int, tokens: int) -> None:
    check(*case(vocabulary, tokens), scale=1024.0)


@given(st.integers(1, 600), st.integers(1, 70), st.sampled_from([1.0, -0.3, 65536.0]), st.integers(0, 3), st.data())
def test_any_shape_with_ignored_targets(vocabulary: int, tokens: int, scale: float, pad: int, data: Any) -> None:
    logits, targets = case(vocabulary, tokens + pad)
    ignored = data.draw(st.lists(st.integers(1, tokens), max_size=tokens))  # never the first
    targets = targets[:tokens].copy()
    targets[[i for i in ignored if i < tokens]] = -1
    check(logits[:, :tokens], targets, scale)


def test_against_torch_autograd_in_float64() -> None:
    need(importlib.util.find_spec("torch"), "torch")
    import torch

    logits, targets = case(801, 59)
    targets[[3, 17]] = -100
    wide = torch.tensor(logits.T.astype(np.float64), requires_grad=True)
    loss = torch.nn.functional.cross_entropy(wide, torch.tensor(targets, dtype=torch.long))
    (3.0 * loss).backward()  # type: ignore[no-untyped-call]
    dlogits = np.empty_like(logits)
    found, count = cpu.cross_entropy(logits, targets, 3.0, dlogits, ignore=-100)
    assert count == 57
    assert found == pytest.approx(loss.item(), rel=1e-6)
    assert wide.grad is not None
    np.testing.assert_allclose(dlogits, wide.grad.numpy().T, rtol=1e-6, atol=1e-8)


def test_directional_differences() -> None:
    logits, targets = case(90, 31)
    targets[5] = -1
    dlogits = np.empty_like(logits)
    cpu.cross_entropy(logits, targets, 1.0, dlogits)
    random = np.random.default_rng(1)
    for _ in range(8):
        direction = random.standard_normal(logits.shape)
        step = 1e-5
        plus, minus = (_double_loss(logits + sign * step * direction, targets) for sign in (1, -1))
        assert np.vdot(dlogits.astype(np.float64), direction) == pytest.approx((plus - minus) / (2 * step), rel=1e-5)


def _double_loss(logits: Doubles, targets: Ids) -> float:
    kept = np.flatnonzero(targets >= 0)
    return float((np.log(np.exp(logits).sum(axis=0)) - logits[targets, np.arange(targets.size)])[kept].mean())


@pytest.mark.parametrize(("vocabulary", "tokens"), SHAPES)
def test_in_place_gives_the_same_bits(vocabulary: int, tokens: int) -> None:
    logits, targets = case(vocabulary, tokens)
    apart = np.empty_like(logits)
    expected = cpu.cross_entropy(logits, targets, 2.0, apart)
    assert cpu.cross_entropy(logits, targets, 2.0, logits) == expected
    assert np.array_equal(logits, apart)


def test_chunks_of_rows(threads: int) -> None:
    logits, targets = case(1003, 77)
    targets[:4] = 0, 299, 300, 1002  # the chunks' edges
    loss, count, gradient = reference(logits, targets, 4.0)
    chunks = [logits[:300].copy(), logits[300:301].copy(), np.empty((0, 77), np.float32), logits[301:].copy()]
    outs = [np.empty_like(chunks[0]), chunks[1], np.empty_like(chunks[2]), chunks[3]]  # some in place
    found = cpu.cross_entropy(chunks, targets, 4.0, outs)
    assert found == (pytest.approx(loss, rel=1e-6), count)
    np.testing.assert_allclose(np.concatenate(outs), gradient, rtol=1e-6, atol=1e-8)
    assert cpu.cross_entropy([logits], targets) == (pytest.approx(loss, rel=1e-6), count)


def test_the_same_bits_on_any_number_of_threads() -> None:
    logits, targets = case(2000, 130)
    results = []
    for count in (1, 2, 3):
        cpu.set_threads(count)
        dlogits = np.empty_like(logits)
        results.append((cpu.cross_entropy(logits, targets, 1.0, dlogits), dlogits))
    cpu.set_threads(None)
    for result, dlogits in results[1:]:
        assert result == results[0][0]
        assert np.array_equal(dlogits, results[0][1])


def test_loss_is_not_capped() -> None:
    """A target 40 below the maximum: exp(-40) vanishes beside 1, the loss does not."""
    logits = np.full((100, 3), -40.0, np.float32)
    logits[7] = 0.0
    loss, _ = cpu.cross_entropy(logits, np.array([1, 2, 3], np.int32))
    assert loss == pytest.approx(40.0, abs=1e-6)
    logits[5] = -3e4
    assert cpu.cross_entropy(logits, np.array([5, 5, 5], np.int32))[0] == pytest.approx(3e4)


@pytest.mark.parametrize("offset", [1e4, -1e4, 3e38])
def test_huge_logits(offset: float) -> None:
    logits, targets = case(300, 20)
    check((logits + np.float32(offset)).astype(np.float32), targets)


def test_rows_at_minus_infinity_have_no_share() -> None:
    logits, targets = case(1000, 19)
    targets %= 100
    logits[100:] = -np.inf  # whole groups and pieces of them
    loss, count, gradient = reference(logits[:100], targets)
    dlogits = np.empty_like(logits)
    assert cpu.cross_entropy(logits, targets, 1.0, dlogits) == (pytest.approx(loss, rel=1e-6), count)
    assert not dlogits[100:].any()
    np.testing.assert_allclose(dlogits[:100], gradient, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("row", [0, 3, 700])
def test_nan_is_not_hidden(row: int) -> None:
    logits, targets = case(800, 20)
    logits[row, 4] = np.nan
    dlogits = np.empty_like(logits)
    assert math.isnan(cpu.cross_entropy(logits, targets, 1.0, dlogits)[0])
    assert np.isnan(dlogits[:, 4]).all()
    assert np.isfinite(np.delete(dlogits, 4, axis=1)).all()


def test_an_ignored_column_is_zero_whatever_it_holds() -> None:
    logits, targets = case(500, 21)
    logits[:, 6] = np.nan
    logits[3, 7] = np.inf
    targets[[6, 7]] = -1
    dlogits = np.full_like(logits, 9.0)
    loss, count = cpu.cross_entropy(logits, targets, 1.0, dlogits)
    assert math.isfinite(loss)
    assert count == 19
    assert not dlogits[:, [6, 7]].any()


def test_all_ignored() -> None:
    logits, _ = case(400, 9)
    dlogits = np.full_like(logits, 9.0)
    assert cpu.cross_entropy(logits, np.full(9, -1, np.int32), 1.0, dlogits) == (0.0, 0)
    assert not dlogits.any()
    assert cpu.cross_entropy(np.zeros((4, 0), np.float32), np.zeros(0, np.int32)) == (0.0, 0)


def test_an_id_of_the_vocabulary_may_be_ignored() -> None:
    logits, targets = case(11, 200)
    check(logits, targets, ignore=3)


@pytest.mark.parametrize("bad", [-2, 50, -(2**31), 2**31 - 1])
def test_a_target_outside_the_vocabulary_is_named_before_anything_is_written(bad: int) -> None:
    logits, targets = case(50, 30)
    targets[[2, 21]] = -1, bad
    before = logits.copy()
    with pytest.raises(ValueError, match=rf"targets\[21\] is {bad}; expected an id in \[0, 50\), or -1 to ignore it"):
        cpu.cross_entropy(logits, targets, 1.0, logits)
    assert np.array_equal(logits, before)


LOGITS, TARGETS = case(10, 8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cpu.cross_entropy(LOGITS.astype(np.float16), TARGETS), "logits has dtype float16; expected float32"),
        (lambda: cpu.cross_entropy(case(8, 10)[0].T, TARGETS), "logits has strides .* its rows must be contiguous"),
        (lambda: cpu.cross_entropy(LOGITS, TARGETS[:7]), r"logits has shape \(10, 8\); expected 7 columns"),
        (lambda: cpu.cross_entropy([LOGITS, LOGITS[:, 1:]], TARGETS), r"logits\[1\] has shape \(10, 7\)"),
        (lambda: cpu.cross_entropy([], TARGETS), "logits is an empty list"),
        (lambda: cpu.cross_entropy([LOGITS, LOGITS], TARGETS, 1.0, [LOGITS]), "dlogits has 1 arrays; expected 2"),
        (lambda: cpu.cross_entropy(LOGITS, TARGETS.astype(np.int64)), "targets has dtype int64; expected int32"),
        (lambda: cpu.cross_entropy(LOGITS[:, :4], TARGETS[::2]), "targets has strides"),
        (lambda: cpu.cross_entropy(LOGITS, TARGETS, math.inf), "scale is inf; expected a finite number"),
        (
            lambda: cpu.cross_entropy(LOGITS, TARGETS, 1.0, LOGITS[:9]),
            r"dlogits has shape \(9, 8\); expected \(10, 8\)",
        ),
        (lambda: cpu.cross_entropy(LOGITS[1:], TARGETS, 1.0, LOGITS[:-1]), "dlogits overlaps an input"),
        (
            lambda: cpu.cross_entropy([LOGITS, LOGITS.copy()], TARGETS, 1.0, [LOGITS.copy(), LOGITS]),
            r"dlogits\[1\] overlaps an input",
        ),
    ],
)
def test_wrong_arguments_are_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        call()
