"""Programs that a device has compiled before are loaded, and counted apart: on the emulator, whose rule it is."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from anetrain.pipeline import StaticPipeline
from tests.compile_trace import LLAMA_PROGRAMS, traced
from tests.small_models import batch, copied, model_of, step
from tests.support import emulator


@pytest.fixture(autouse=True)
def _garbage_holds_no_programs() -> None:
    gc.collect()


@pytest.mark.parametrize("caches", [False, True])
def test_weights_of_an_earlier_update_are_loaded(caches: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    device = emulator(rules={"compiled-model-cache": caches})
    pipeline = model_of(layout="baked", device=device)
    assert isinstance(pipeline, StaticPipeline)
    expected = step(pipeline, *batch()), copied(pipeline.gradients)
    first = copied(pipeline.weights)
    for weight in pipeline.weights.values():
        weight *= np.float32(1.25)
    pipeline.stage()
    assert (pipeline.compiles, pipeline.cache_loads) == (16, 0)
    other = step(pipeline, *batch())
    for name, weight in pipeline.weights.items():
        np.copyto(weight, first[name])
    trace = traced(monkeypatch)
    pipeline.stage()
    assert len(trace) == 2 * len(LLAMA_PROGRAMS * 2), "places are given back and taken all the same"
    assert (pipeline.compiles, pipeline.cache_loads) == ((16, 8) if caches else (24, 0))
    assert step(pipeline, *batch()) == expected[0] != other
    for name, gradient in pipeline.gradients.items():
        assert np.array_equal(gradient, expected[1][name]), name


def test_a_pipeline_built_again_takes_no_compile() -> None:
    """As after a restart, on a device that keeps what it compiled for the process before."""
    device = emulator(rules={"compiled-model-cache": True})
    pipeline = model_of(layout="baked", device=device)
    loss = step(pipeline, *batch())
    pipeline.unload()
    again = model_of(layout="baked", device=device)
    assert (again.compiles, again.cache_loads) == (0, 8)
    assert step(again, *batch()) == loss
    dynamic = model_of(device=device)
    assert (dynamic.compiles, dynamic.cache_loads) == (4, 0)
    dynamic.unload()
    dynamic = model_of(device=device)
    assert (dynamic.compiles, dynamic.cache_loads) == (0, 4)
