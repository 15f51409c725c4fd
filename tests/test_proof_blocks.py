"""Whole blocks on the emulated ANE against PyTorch autograd in float64: the output, the gradient of the input and of
every parameter, in all layouts, granularities and kinds of output; fp32 without rounding, and fp16."""

from __future__ import annotations

import importlib.util
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest

from anetrain.blocks import Block, LlamaBlock, ModelSpec, Qwen3Block
from anetrain.blocks.qwen3 import PUBLISHED
from anetrain.graph import Place
from anetrain.lower import GRANULARITIES, LAYOUTS
from tests.block_runs import spec
from tests.emulated import Arrays, EmulatedBlock, assert_near, tensors
from tests.support import emulator, need
from tests.test_blocks_pytorch import BLOCKS, Forward, transformer

FP32 = 1e-5  # ten times better than what is asked for
FP16 = 6e-3
BETWEEN_LAYOUTS = 4e-3  # of fp16: they round the same values, in another order

CHIPS = ("m1", "m3pro", "m4", "m5")  # as they come: strict, and no border whose width is no multiple of 32
TABLES = 8e-3  # what the tables of a chip's activations change

CASES: dict[str, tuple[Any, Forward, dict[str, Any]]] = {
    **{name: (make, forward, {}) for name, (make, forward) in BLOCKS.items()},
    "qwen3": (Qwen3Block, transformer, {**PUBLISHED, "head_dim": 40}),
}


@pytest.fixture(scope="module")
def oracle() -> Any:
    need(importlib.util.find_spec("torch"), "torch is not installed")
    import torch

    from tests import torch_blocks

    torch.set_num_threads(1)  # blocks are tiny here
    return torch_blocks


def expected_of(oracle: Any, forward: Forward, run: EmulatedBlock) -> Arrays:
    import torch

    s = run.spec
    x = oracle.from_channels_first(run.x, s.batch).requires_grad_()
    weights = {
        name: torch.tensor(array, dtype=torch.float64, requires_grad=True) for name, array in run.parameters.items()
    }
    y = forward(oracle, x, weights, s)
    y.backward(oracle.from_channels_first(run.dy, s.batch))
    gradients = {f"gradient of {name}": weight.grad.numpy() for name, weight in weights.items()}
    return {
        "output y": oracle.to_channels_first(y),
        "gradient of input x": oracle.to_channels_first(x.grad),
        **gradients,
    }


def found_of(block: Block, s: ModelSpec, *, fp32: bool, **options: Any) -> tuple[EmulatedBlock, Arrays]:
    run = EmulatedBlock(block, s, emulator(fp32=fp32), **options)
    return run, tensors(run.run())


def without_noise(found: Arrays, expected: Arrays, tolerance: float) -> tuple[Arrays, Arrays]:
    """A bias of keys without RoPE or norms changes nothing: its gradient is 0, what is found is rounding."""
    noise = [name for name, array in expected.items() if np.abs(array).max() < 1e-9]
    for name in noise:
        assert np.linalg.norm(found[name]) <= tolerance * np.linalg.norm(expected["gradient of bq"]), name
    return tuple({k: v for k, v in arrays.items() if k not in noise} for arrays in (found, expected))  # type: ignore


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("norms", ["host", "device"])
@pytest.mark.parametrize("case", CASES)
def test_every_block_in_every_layout(oracle: Any, case: str, norms: Place, batch: int) -> None:
    """fp32 in all layouts; fp16, too, for three sequences, and in one layout for a single one."""
    make, forward, changes = CASES[case]
    s = spec(batch=batch, **changes)
    expected: Arrays = {}
    fp16 = {}
    for layout in LAYOUTS:
        run, found = found_of(make(), s, fp32=True, norms=norms, layout=layout)
        expected = expected or expected_of(oracle, forward, run)
        assert_near(*without_noise(found, expected, FP32), FP32, what=f"{layout}, fp32")
        if batch == 1 and layout != "stacked":
            continue
        _, found = found_of(make(), s, fp32=False, norms=norms, layout=layout, loss_scale=16.0)
        fp16[layout], wanted = without_noise(found, expected, FP16)
        assert_near(fp16[layout], wanted, FP16, what=f"{layout}, fp16")
    for one, other in combinations(fp16, 2):
        assert_near(fp16[one], fp16[other], BETWEEN_LAYOUTS, what=f"{one} and {other}")


# GQA of 1, 2 and 6 query heads for each pair of keys and values; widths that are and are not multiples of 32.
SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "llama, head_dim 40": (
        {"head_dim": 40, "heads": 6, "kv_heads": 1, "seq": 32, "batch": 3},
        {"norms": "device", "layout": "packed", "granularity": "stage"},
    ),
    "llama, head_dim 48": (
        {"head_dim": 48, "heads": 4, "kv_heads": 2, "seq": 100},
        {"layout": "separate", "outputs": "several"},
    ),
    "llama, head_dim 64": (
        {"head_dim": 64, "heads": 2, "kv_heads": 2, "seq": 256, "residual_scale": 0.5},
        {"norms": "device", "save_probabilities_up_to": 255},
    ),
    "llama, head_dim 128": (
        {"head_dim": 128, "heads": 2, "kv_heads": 1, "seq": 96, "batch": 3},
        {"layout": "baked", "granularity": "linear"},
    ),
    "qwen3, head_dim 40": (
        {**PUBLISHED, "head_dim": 40, "heads": 6, "kv_heads": 1, "seq": 100, "batch": 3},
        {"save_probabilities_up_to": 99},
    ),
    "qwen3, head_dim 48": (
        {**PUBLISHED, "head_dim": 48, "heads": 2, "kv_heads": 2, "seq": 96},
        {"norms": "device", "layout": "baked", "outputs": "several"},
    ),
    "qwen3, head_dim 64": (
        {**PUBLISHED, "head_dim": 64, "heads": 4, "kv_heads": 2, "seq": 32, "batch": 3},
        {"layout": "packed", "granularity": "linear"},
    ),
    "qwen3, head_dim 128": (
        {**PUBLISHED, "head_dim": 128, "heads": 6, "kv_heads": 1, "seq": 256},
        {"norms": "device", "layout": "separate", "granularity": "stage"},
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_layers_of_many_shapes(oracle: Any, shape: str) -> None:
    changes, options = SHAPES[shape]
    s = spec(**changes)
    block = Qwen3Block() if s.qk_norm else LlamaBlock()
    run, found = found_of(block, s, fp32=True, **options)
    expected = expected_of(oracle, transformer, run)
    assert_near(found, expected, FP32, what="fp32")
    assert bool(run.plan.recomputed) or "save_probabilities_up_to" not in options
    _, rounded = found_of(block, s, fp32=False, loss_scale=16.0, **options)
    assert_near(rounded, expected, FP16, what="fp16")
    for chip in CHIPS:
        on_chip = tensors(EmulatedBlock(block, s, emulator(chip), loss_scale=16.0, **options).run())
        assert_near(on_chip, rounded, TABLES, what=chip)


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_every_way_to_run_a_layer_computes_the_same(family: str) -> None:
    """4 layouts, 3 granularities, 2 kinds of output, probabilities kept or computed again."""
    changes = {**PUBLISHED, "batch": 2} if family == "qwen3" else {"residual_scale": 0.5}
    s = spec(**changes, seq=20)
    block = Qwen3Block() if family == "qwen3" else LlamaBlock()
    expected = None
    choices: list[dict[str, Any]] = [{}, {"outputs": "several"}, {"save_probabilities_up_to": 19}]
    for number, (layout, granularity) in enumerate(product(LAYOUTS, GRANULARITIES)):
        for options in (choices[0], choices[1 + number % 2]):
            run, found = found_of(block, s, fp32=True, layout=layout, granularity=granularity, **options)
            expected = expected or tensors(run.expected())
            assert_near(found, expected, FP32, what=f"{layout}, {granularity}, {options}")
