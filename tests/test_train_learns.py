"""A small model learns the builtin stories: after seconds its validation loss is below the entropy of single words."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from anetrain import events
from anetrain.data.builtin import builtin_tokens
from anetrain.train import main
from tests.runs import changed, heard

CONFIG = """
model: {dim: 64, hidden: 128, layers: 2, heads: 2, kv_heads: 2, head_dim: 32, vocab: 2048, seq: 64}
data: {path: builtin, stories: 1000, validation_tokens: 4096}
train: {updates: 200, batch: 8, validate_every: 200}
optim: {lr: 5e-3}
schedule: {warmup: 10}
device: {kind: emulator, live_budget: 1000000, compile_budget: 1000000}
checkpoint: {every: 1000}
"""
MARGIN = 1.0  # nats


def entropy(tokens: np.ndarray) -> float:
    """Of one token, in nats, whatever comes before it: what a model reaches that has learnt nothing but frequencies."""
    counts = np.bincount(tokens)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def test_validation_falls_below_the_entropy_of_single_tokens(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(CONFIG)
    assert main([str(path), "--out", str(tmp_path / "run"), *changed("log.every=40")]) == 0
    (validation,) = heard(tmp_path / "run", events.Validation)
    train, held_out = builtin_tokens(1000, 20)
    found = entropy(np.asarray(train[:]))
    assert 5.5 < found < 5.9
    assert validation.loss < found - MARGIN
    assert validation.loss < entropy(np.asarray(held_out[:4096])) - MARGIN
