"""Is the default loss scale right for a chip that flushes small products? Judged by the audit (docs/pipeline.md)."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from anetrain.mil.types import Array
from anetrain.model import PRESETS, Model
from anetrain.pipeline import Pipeline
from tests.support import emulator

SPEC = replace(PRESETS["stories15m"], layers=3, seq=64)
DEFAULT = 2.0**16


def weights(model: Model) -> dict[str, Array]:
    found = model.initial(seed=0)
    random = np.random.default_rng(1)
    for weight in found.values():
        if weight.ndim == 1:
            weight[:] = random.uniform(0.5, 1.5, weight.shape)
    return found


@cache
def gradients(profile: str, executor: str, loss_scale: float, fp32: bool = False) -> tuple[dict[str, Array], float]:
    """(gradients, the share of products of backward that were flushed)."""
    model = Model(SPEC)
    device = emulator(profile, executor=executor, fp32=fp32)
    pipeline = Pipeline(device, model, weights(model), precision="fp32" if fp32 else "fp16")
    ids = np.random.default_rng(2).integers(0, SPEC.vocab, (1, SPEC.seq))
    pipeline.micro_step(ids, np.roll(ids, -1), loss_scale=loss_scale)
    programs = pipeline.stack.layers[1].compiled.programs.values()
    late = [program for program in programs if "backward" in program.label]
    counters = [program.report.get("counters") or {} for program in late]
    products, flushed = (sum(each.get(name, 0) for each in counters) for name in ("products", "flushed_products"))
    pipeline.unload()
    return pipeline.gradients, flushed / products if products else 0.0


def errors(found: dict[str, Array]) -> Array:
    expected, _ = gradients("exact", "fast", 1.0, fp32=True)
    return np.array([np.linalg.norm(found[name] - array) / np.linalg.norm(array) for name, array in expected.items()])


@pytest.mark.parametrize("profile", ["m1", "m4"])
def test_at_the_default_scale_flushing_costs_nothing(profile: str) -> None:
    """The audit is as near to fp32 as the same chip without flushing, overflow and narrow sums."""
    audited, flushed = gradients(profile, "audit", DEFAULT)
    without, _ = gradients(profile, "fast", DEFAULT)
    assert np.all(errors(audited) < 1.1 * errors(without) + 1e-3)
    assert errors(audited).max() < 0.04
    assert flushed < 0.03
    assert all(gradient.any() for gradient in audited.values())


def test_at_the_scale_of_earlier_trainers_it_costs_much() -> None:
    """256 over 256 tokens: each token's gradient is what it is here with 64 and 64 tokens."""
    small, flushed = gradients("m1", "audit", 2.0**6)
    default, _ = gradients("m1", "audit", DEFAULT)
    assert flushed > 0.1
    assert errors(small).max() > 1.5 * errors(default).max()


def test_a_larger_scale_would_gain_nothing() -> None:
    larger, _ = gradients("m1", "audit", 2.0**18)
    default, _ = gradients("m1", "audit", DEFAULT)
    assert np.all(errors(larger) > 0.9 * errors(default) - 1e-3)
