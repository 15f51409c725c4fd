"""Sequences that are not a multiple of 32 long: what is added to them counts for nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from anetrain.blocks import Block, LlamaBlock, attend, join_heads, matrix, split_heads
from anetrain.graph import BlockGraph, Parameter, Value
from anetrain.pipeline import Pipeline
from anetrain.spec import ModelSpec
from tests.small_models import SPEC, batch, copied, model_of, step


def assert_same_gradients(found: Pipeline, expected: Pipeline, limit: float) -> None:
    for name, gradient in expected.gradients.items():
        error = np.linalg.norm(found.gradients[name] - gradient)
        assert error <= limit * np.linalg.norm(gradient), name


@pytest.mark.parametrize("batches", [1, 3])
@pytest.mark.parametrize("seq", [1, 20, 31, 33])
def test_padded_sequences_give_what_unpadded_ones_give(seq: int, batches: int) -> None:
    spec = replace(SPEC, seq=seq, batch=batches)
    padded, as_it_is = (model_of(spec, fp32=True, causal=causal) for causal in (True, False))
    assert padded.spec.seq == (64 if seq == 33 else 32)
    assert as_it_is.spec.seq == seq
    ids, targets = batch(spec, ignored=seq > 3)
    losses = [step(pipeline, ids, targets) for pipeline in (padded, as_it_is)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert_same_gradients(padded, as_it_is, 2e-5)
    assert padded.evaluate(ids, targets).count == as_it_is.evaluate(ids, targets).count == (targets >= 0).sum()


def test_what_is_added_changes_no_bit() -> None:
    pipeline = model_of()
    step(pipeline, *batch())
    expected = copied(pipeline.gradients)
    pipeline._ids[:, SPEC.seq :] = 17
    step(pipeline, *batch())
    for name, gradient in expected.items():
        assert np.array_equal(pipeline.gradients[name], gradient), name


class LooksAhead(Block):
    """Attention to all tokens."""

    def weights(self, s: ModelSpec) -> dict[str, Parameter]:
        side = s.heads * s.head_dim
        return {name: matrix(side, s.dim) for name in ("wq", "wk", "wv")} | {"wo": matrix(s.dim, side)}

    def forward(self, g: BlockGraph, x: Value, w: Any) -> Value:
        q, k, v = (split_heads(g, g.linear(x, weight)) for weight in (w.wq, w.wk, w.wv))
        out = attend(g, q, k, v, np.zeros((g.spec.seq, g.spec.seq)))
        return x + g.linear(join_heads(g, out), w.wo)


@pytest.mark.parametrize("block", [LooksAhead(), LlamaBlock()])
def test_only_causal_models_can_be_padded(block: Block) -> None:
    """The case that the promise of `causal` is about: a block that looks ahead sees what was added."""
    spec = replace(SPEC, heads=6, kv_heads=6)
    padded, as_it_is = (model_of(spec, [block], fp32=True, causal=causal) for causal in (True, False))
    losses = [step(pipeline, *batch(spec)) for pipeline in (padded, as_it_is)]
    assert (abs(losses[0] - losses[1]) < 1e-5) == isinstance(block, LlamaBlock)


class Positions(Block):
    """One trained vector for each position."""

    def weights(self, s: ModelSpec) -> dict[str, Parameter]:
        return {"positions": Parameter((1, s.dim, 1, s.seq), deviation=0.5)}

    def forward(self, g: BlockGraph, x: Value, w: Any) -> Value:
        return x + w.positions


def test_a_parameter_with_an_element_for_each_position_forbids_padding() -> None:
    spec = replace(SPEC, batch=1)
    pipeline = model_of(spec, [Positions(), LlamaBlock()], fp32=True)
    assert pipeline.spec.seq == spec.seq == 20
    ids, targets = batch(spec)
    step(pipeline, ids, targets)
    positions, gradient = pipeline.weights["layers.0.positions"], pipeline.gradients["layers.0.positions"].copy()
    direction = np.random.default_rng(0).standard_normal(positions.shape, np.float32)
    losses = []
    for sign in (1, -2):
        positions += sign * np.float32(0.002) * direction
        losses.append(pipeline.evaluate(ids, targets).mean)
    assert (losses[0] - losses[1]) / 0.004 == pytest.approx(float((gradient * direction).sum()), rel=2e-3)
