"""One update of stories110m with baked weights, under each rule on programs that is known of engines."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from anetrain.errors import CompileError
from anetrain.mil.types import Array
from anetrain.model import Model
from anetrain.pipeline import StaticPipeline
from tests.compile_trace import LLAMA_PROGRAMS, traced
from tests.programs import subtract
from tests.support import emulator

PROGRAMS = LLAMA_PROGRAMS * 12
LIVE, LIFETIME = "live-program-limit", "lifetime-compile-limit"


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.preset("stories110m", seq=32)


@pytest.fixture(scope="module")
def weights(model: Model) -> dict[str, Array]:
    return model.initial(0)


@pytest.mark.parametrize("limits", [{LIVE: 48}, {LIFETIME: 96}, {LIVE: 48, LIFETIME: 96}])
def test_an_update(
    model: Model, weights: dict[str, Array], limits: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each limit is as small as one update allows."""
    gc.collect()
    rules: dict[str, Any] = {LIVE: False, LIFETIME: False, **limits}
    trace = traced(monkeypatch)
    pipeline = StaticPipeline(emulator("m4", rules=rules), model, weights)
    assert trace == [("compile", label) for label in PROGRAMS]
    budget = pipeline.budget()
    assert (budget.compiles, budget.places) == (48, 48)
    ids = np.random.default_rng(1).integers(0, model.spec.vocab, (1, 32))
    loss = pipeline.micro_step(ids, np.roll(ids, -1))
    for name, gradient in pipeline.gradients.items():
        pipeline.weights[name] -= np.float32(0.1) * gradient
    trace.clear()
    before = pipeline.device.counters()
    pipeline.stage()
    assert trace == [(what, label) for label in PROGRAMS for what in ("unload", "compile")]
    assert pipeline.device.counters() == replace(
        before, compiles=before.compiles + 48, loads=before.loads + 48, unloads=before.unloads + 48
    )
    assert pipeline.evaluate(ids, np.roll(ids, -1)).mean < loss
    if LIVE in limits:
        with pytest.raises(CompileError) as refused:
            pipeline.device.compile(subtract())
        assert refused.value.rule == (LIFETIME if LIFETIME in limits else LIVE)
    if LIFETIME in limits:
        pipeline.weights["layers.0.ffn.w2"][0, 0] += 1.0
        with pytest.raises(CompileError) as refused:
            pipeline.stage()
        assert refused.value.rule == LIFETIME
    pipeline.unload()
