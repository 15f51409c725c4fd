"""Whole blocks, lowered in every layout, run step by step on a device: against the reference on the host."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from anetrain import reference
from anetrain.autodiff import differentiate
from anetrain.blocks import Block, LlamaBlock, Qwen3Block, build
from anetrain.graph import Place
from anetrain.lower import LAYOUTS, Layout, lower
from anetrain.lower.plan import Granularity
from anetrain.mil.types import Array
from anetrain.pipeline import CompiledPlan, Layer, SurfacePool
from anetrain.spec import ModelSpec
from examples.custom_block import WindowBlock
from tests.support import emulator

LLAMA = ModelSpec(dim=48, hidden=171, layers=1, heads=6, kv_heads=3, head_dim=8, vocab=11, seq=40, residual_scale=0.5)
QWEN = ModelSpec(
    dim=48, hidden=72, layers=1, heads=4, kv_heads=2, head_dim=16, vocab=11, seq=24, batch=3, rope="half", qk_norm=True
)
PAIRED_NORMS = ModelSpec(
    dim=48, hidden=72, layers=1, heads=4, kv_heads=2, head_dim=16, vocab=11, seq=24, batch=3, qk_norm=True
)
WINDOW = ModelSpec(dim=40, hidden=72, layers=1, heads=4, kv_heads=4, head_dim=16, vocab=11, seq=24, rope="none")
CASES = {
    "llama": (LlamaBlock(), LLAMA),
    "qwen3": (Qwen3Block(), QWEN),
    "paired norms": (LlamaBlock(), PAIRED_NORMS),
    "layer norms": (WindowBlock(), WINDOW),
}


def run_both(
    block: Block,
    spec: ModelSpec,
    layout: Layout,
    granularity: Granularity = "fused",
    *,
    fp32: bool,
    norms: Place = "host",
    **options: Any,
) -> tuple[reference.Result, reference.Result, Layer]:
    """(expected, found, the layer)."""
    derived = differentiate(build(block, spec, norms=norms, precision="fp32" if fp32 else "fp16"))
    rng = np.random.default_rng(1)
    parameters: dict[str, Array] = {}
    for known in derived.graph.parameters.values():
        first = known.initial(rng)
        parameters[known.name] = (
            rng.uniform(0.2, 3.0, known.shape).astype(np.float32) if known.init == "ones" else first
        )
    shape = (1, spec.dim, 1, spec.tokens)
    inputs = {name: rng.standard_normal(shape, dtype=np.float32) for name in ("x", "d_y")}
    gradients = {name: np.zeros_like(array) for name, array in parameters.items()}
    compiled = CompiledPlan(emulator(fp32=fp32), lower(derived, layout, granularity, **options), parameters)
    layer = Layer(compiled, parameters, gradients, SurfacePool())
    layer.stage()
    for _ in range(2):  # the second step finds what the first one left
        outputs = layer.forward({"x": inputs["x"]})
        dx = layer.backward({"y": inputs["d_y"]}, alpha=0.5)
    return reference.run(derived, inputs, parameters), reference.Result(outputs, dx, gradients), layer


def worst(expected: reference.Result, found: reference.Result) -> tuple[float, str]:
    errors = []
    for part in ("outputs", "gradients", "parameters"):
        wanted, got = getattr(expected, part), getattr(found, part)
        assert wanted.keys() == got.keys()
        for name, array in wanted.items():
            if np.linalg.norm(array) < 1e-6:  # a bias of keys: softmax does not see it, rounding noise remains
                assert name == "attention.bk"
                assert np.linalg.norm(got[name]) < 1e-2 * np.linalg.norm(got["attention.bq"])
                continue
            errors.append((float(np.linalg.norm(got[name] - array) / np.linalg.norm(array)), f"{part} {name}"))
    return max(errors)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", CASES)
def test_blocks_in_every_layout(case: str, layout: Layout) -> None:
    expected, found, layer = run_both(*CASES[case], layout, fp32=True)
    error, where = worst(expected, found)
    assert error < 1e-5, where
    evaluations = layer.compiled.device.counters().evaluations
    assert layer.traffic.dispatches == evaluations == 2 * len(layer.compiled.plan.programs)


@pytest.mark.parametrize("granularity", ["stage", "linear"])
@pytest.mark.parametrize("case", ["llama", "paired norms"])
def test_blocks_in_smaller_programs(case: str, granularity: Granularity) -> None:
    expected, found, _ = run_both(*CASES[case], "stacked", granularity, fp32=True)
    error, where = worst(expected, found)
    assert error < 1e-5, where


@pytest.mark.parametrize("case", CASES)
def test_blocks_in_fp16(case: str) -> None:
    expected, found, _ = run_both(*CASES[case], "stacked", fp32=False)
    error, where = worst(expected, found)
    assert error < 6e-3, where


@pytest.mark.parametrize(
    "options",
    [{"outputs": "several"}, {"save_probabilities_up_to": 16}, {"norms": "device"}],
    ids=lambda o: next(iter(o)),
)
@pytest.mark.parametrize("case", ["llama", "qwen3"])
def test_blocks_with_other_choices(case: str, options: dict[str, Any]) -> None:
    expected, found, layer = run_both(*CASES[case], "stacked", fp32=True, **options)
    error, where = worst(expected, found)
    assert error < 1e-5, where
    assert bool(layer.compiled.plan.recomputed) or "save_probabilities_up_to" not in options
