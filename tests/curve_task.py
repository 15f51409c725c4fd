"""A small training task that two implementations can follow to the letter: model, first weights, order of data,
optimizer, learning rates. tests/golden/curve.json is its loss curve in PyTorch (scripts/make_golden_curve.py)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from anetrain.blocks import ModelSpec
from anetrain.mil.types import Array
from anetrain.model import Model
from tests.emulated import Arrays, realistic_weights

SPEC = ModelSpec(dim=48, hidden=100, layers=2, heads=6, kv_heads=3, head_dim=8, vocab=61, seq=32, batch=4, tied=True)
UPDATES = 200
PEAK_LR, WARMUP, LEAST = 3e-3, 20, 0.1  # the last as a share of the peak
BETAS, EPS, WEIGHT_DECAY, CLIP = (0.9, 0.95), 1e-8, 0.1, 1.0


def first_weights() -> Arrays:
    return realistic_weights(Model(SPEC), seed=7)


def batches() -> Iterator[tuple[Array, Array]]:
    """ids and targets [batch, seq]: walks through a table of likely next words."""
    random = np.random.default_rng(8)
    chances = random.dirichlet(np.full(SPEC.vocab, 0.05), SPEC.vocab)
    bounds = np.cumsum(chances, axis=1)
    for _ in range(UPDATES):
        words = np.zeros((SPEC.batch, SPEC.seq + 1), np.int64)
        words[:, 0] = random.integers(0, SPEC.vocab, SPEC.batch)
        for column in range(SPEC.seq):
            drawn = random.random(SPEC.batch)
            following = [int(np.searchsorted(bounds[word], x)) for word, x in zip(words[:, column], drawn, strict=True)]
            words[:, column + 1] = np.minimum(following, SPEC.vocab - 1)
        yield words[:, :-1], words[:, 1:]


def rate(update: int) -> float:
    """Of update 0, 1, ...: a linear warm-up, then half a cosine."""
    if update < WARMUP:
        return PEAK_LR * (update + 1) / WARMUP
    over = (update - WARMUP) / (UPDATES - WARMUP)
    return PEAK_LR * (LEAST + (1.0 - LEAST) * 0.5 * (1.0 + math.cos(math.pi * over)))


def decays(name: str, array: Array) -> bool:
    return array.ndim > 1 and name != "embedding"
