"""Gradients that the emulated ANE computes, without rounding, against central differences of the layer written in
PyTorch, in float64: every element of every tensor, and random directions."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

from anetrain.blocks import LlamaBlock, Qwen3Block
from anetrain.blocks.qwen3 import PUBLISHED
from anetrain.graph import Place
from tests.block_runs import spec
from tests.emulated import Arrays, EmulatedBlock, tensors
from tests.support import emulator, need

STEP = 1e-5
TOLERANCE = 1e-4  # of an element, relative to the largest; of a direction, relative to the gradient's norm
DIRECTIONS = 8


@pytest.mark.parametrize(("family", "norms"), [("llama", "device"), ("qwen3", "host")])
def test_gradients_are_differences(family: str, norms: Place) -> None:
    need(importlib.util.find_spec("torch"), "torch is not installed")
    import torch

    from tests import torch_blocks as oracle

    torch.set_num_threads(1)  # thousands of tiny products
    changes: dict[str, Any] = PUBLISHED if family == "qwen3" else {"residual_scale": 0.7}
    s = spec(dim=8, hidden=5, heads=2, kv_heads=1, head_dim=4, seq=4, batch=2, **changes)
    block = Qwen3Block() if family == "qwen3" else LlamaBlock()
    run = EmulatedBlock(block, s, emulator(fp32=True), norms=norms)
    found = tensors(run.run())
    values: Arrays = {name: array.astype(np.float64) for name, array in run.parameters.items()}
    values["input x"] = run.x.astype(np.float64)
    seed = oracle.from_channels_first(run.dy, s.batch)

    def loss() -> float:
        weights = {name: torch.from_numpy(array) for name, array in values.items() if name != "input x"}
        with torch.no_grad():
            y = oracle.transformer(oracle.from_channels_first(values["input x"], s.batch), weights, s)
            return float((y * seed).sum())

    def difference(array: np.ndarray, direction: np.ndarray) -> float:
        before = array.copy()
        array += STEP * direction
        ahead = loss()
        array -= 2 * STEP * direction
        behind = loss()
        array[...] = before
        return (ahead - behind) / (2 * STEP)

    random = np.random.default_rng(5)
    for name, array in values.items():
        gradient = found[f"gradient of {name}"]
        assert array.size < 2000
        for index in range(array.size):
            unit = np.zeros(array.size)
            unit[index] = 1.0
            error = abs(gradient.flat[index] - difference(array, unit.reshape(array.shape)))
            assert error <= TOLERANCE * np.abs(gradient).max(), f"{name}[{index}]"
        for _ in range(DIRECTIONS):
            direction = random.standard_normal(array.shape)
            error = abs(float((gradient * direction).sum()) - difference(array, direction))
            assert error <= TOLERANCE * np.linalg.norm(gradient), name
