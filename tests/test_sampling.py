"""Which token comes next: against probabilities computed apart, and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anetrain.generation import Sampler

COUNT = 4000


def probabilities(logits: np.ndarray, temperature: float, top_k: int | None, top_p: float) -> dict[int, float]:
    """What a sampler should do, by sorting everything; most likely first."""
    order = sorted(range(len(logits)), key=lambda i: (-float(logits[i]), i))[:top_k]
    weights = [float(np.exp((float(logits[i]) - float(logits[order[0]])) / temperature)) for i in order]
    total, kept, reached = sum(weights), {}, 0.0
    for token, weight in zip(order, weights, strict=True):
        kept[token] = weight
        reached += weight
        if reached >= top_p * total:
            break
    return {token: weight / sum(kept.values()) for token, weight in kept.items()}


def some_logits(size: int = 40, seed: int = 0) -> np.ndarray:
    return (2.0 * np.random.default_rng(seed).standard_normal(size)).astype(np.float32)


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [(1.0, None, 1.0), (0.7, None, 1.0), (1.8, 5, 1.0), (1.0, None, 0.8), (1.2, 12, 0.6), (1.0, 100, 0.95)],
)
def test_frequencies(temperature: float, top_k: int | None, top_p: float) -> None:
    logits = some_logits()
    expected = probabilities(logits, temperature, top_k, top_p)
    sampler = Sampler(temperature, top_k, top_p, seed=11)
    found = Counter(sampler(logits) for _ in range(COUNT))
    assert set(found) <= set(expected)
    rare = [token for token, share in expected.items() if share * COUNT < 8]
    classes = [[token] for token in expected if token not in rare] + ([rare] if rare else [])
    squares = 0.0
    for tokens in classes:
        wanted = COUNT * sum(expected[token] for token in tokens)
        squares += (sum(found[token] for token in tokens) - wanted) ** 2 / wanted
    free = len(classes) - 1
    assert squares < free + 4.0 * np.sqrt(2.0 * free) + 4.0  # chi-square: its mean is `free`


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(-8, 8), min_size=1, max_size=30),  # many equal ones
    st.one_of(st.none(), st.integers(1, 35)),
    st.floats(0.01, 1.0),
)
def test_candidates(values: list[int], top_k: int | None, top_p: float) -> None:
    logits = np.array(values, np.float32) / 2
    sampler = Sampler(0.9, top_k, top_p)
    ids, likelihoods = sampler._candidates(logits, float(logits.max()))
    found = dict(zip(range(len(logits)) if ids is None else ids.tolist(), likelihoods, strict=True))
    expected = probabilities(logits, 0.9, top_k, top_p)
    near = probabilities(logits, 0.9, top_k, min(1.0, top_p + 1e-9)), probabilities(logits, 0.9, top_k, top_p - 1e-9)
    assert set(found) in (set(expected), *map(set, near))  # at an exact border the last bit of a sum decides
    for token, share in found.items():
        assert share / sum(found.values()) == pytest.approx(expected.get(token, share / sum(found.values())), rel=1e-6)


def test_greedy_takes_the_first_of_the_most_likely() -> None:
    logits = np.array([1.0, 3.0, 3.0, -np.inf], np.float32)
    assert [Sampler(0.0, seed=seed)(logits) for seed in range(5)] == [1] * 5
    assert Sampler(1e-300)(np.array([1.0, 4.0, 3.0], np.float32)) == 1
    assert {Sampler(2.0, top_k=1, seed=seed)(logits) for seed in range(20)} == {1}
    assert {Sampler(2.0, top_p=0.01, seed=seed)(logits) for seed in range(20)} == {1}


def test_seeds() -> None:
    rows = [some_logits(seed=seed) for seed in range(50)]
    drawn = [[sampler(row) for row in rows] for sampler in (Sampler(seed=3), Sampler(seed=3), Sampler(seed=4))]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


def test_ids_that_the_tokenizer_does_not_know_never_come() -> None:
    logits = np.zeros(10, np.float32)
    logits[7:] = 50.0
    sampler = Sampler(1.0, vocab=7, seed=1)
    assert {sampler(logits) for _ in range(300)} == set(range(7))
    assert Sampler(0.0, vocab=7)(logits) == 0
    assert Sampler(0.0, vocab=99)(logits) == 7


def test_logits_are_left_alone() -> None:
    logits = some_logits()
    before = logits.copy()
    Sampler(0.5, 7, 0.9)(logits)
    assert np.array_equal(logits, before)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sampler(-0.5), "temperature is -0.5; expected 0"),
        (lambda: Sampler(float("nan")), "temperature is nan"),
        (lambda: Sampler(float("inf")), "temperature is inf"),
        (lambda: Sampler(top_k=0), "top_k is 0; expected at least 1"),
        (lambda: Sampler(top_p=0.0), "top_p is 0; expected above 0"),
        (lambda: Sampler(top_p=1.5), "top_p is 1.5"),
        (lambda: Sampler(seed=-1), "seed is -1"),
        (lambda: Sampler(vocab=0), "vocab is 0"),
    ],
)
def test_wrong_settings_are_refused(make: Callable[[], Sampler], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_an_error(bad: float) -> None:
    logits = some_logits()
    logits[5] = bad
    with pytest.raises(FloatingPointError, match="the logit of id 5"):
        Sampler()(logits)
