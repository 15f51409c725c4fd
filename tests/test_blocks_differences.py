"""The derived gradients of blocks against central differences of their own forward pass, in float64: every element of
small tensors, random directions of large ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from anetrain.blocks import Attention, Block, GeluFFN, LayerNorm, Linear, LlamaBlock, RMSNorm, SwiGLU
from anetrain.graph import Place
from tests.block_runs import Run, run_block, spec

STEP = 1e-5
TOLERANCE = 1e-6
EVERY_ELEMENT = 2_000  # of a tensor of at most so many elements; larger ones have DIRECTIONS
DIRECTIONS = 8

BLOCKS: dict[str, Callable[[], Block]] = {
    "linear": lambda: Linear(12, 12, bias=True),
    "rms norm": RMSNorm,
    "layer norm": LayerNorm,
    "attention": lambda: Attention(qkv_bias=True, out_bias=True),
    "window": lambda: Attention(window=3),
    "swiglu": SwiGLU,
    "gelu ffn": GeluFFN,
    "llama": LlamaBlock,
}


@pytest.mark.parametrize("norms", ["host", "device"])
@pytest.mark.parametrize("name", BLOCKS)
def test_gradients_are_differences(name: str, norms: Place) -> None:
    s = spec(dim=12, hidden=13, heads=6, kv_heads=1, head_dim=4, seq=6, batch=2, qk_norm=True, residual_scale=0.7)
    run = run_block(BLOCKS[name](), s, norms)
    check(run, run.inputs["x"], run.result.gradients["x"], "x")
    for parameter, array in run.parameters.items():
        check(run, array, run.result.parameters[parameter], parameter)


def check(run: Run, array: np.ndarray, gradient: np.ndarray, what: str) -> None:
    scale = np.linalg.norm(gradient) / np.sqrt(gradient.size)
    assert scale > 0, what
    for direction in directions(array.shape):
        found = float((gradient * direction).sum())
        expected = (output_along(run, array, direction, STEP) - output_along(run, array, direction, -STEP)) / (2 * STEP)
        error = abs(found - expected) / (scale * np.linalg.norm(direction))
        assert error <= TOLERANCE, f"{what}: {found:.9g} along a direction, expected {expected:.9g}"


def directions(shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    if np.prod(shape) <= EVERY_ELEMENT:
        yield from (unit.reshape(shape) for unit in np.eye(int(np.prod(shape))))
    random = np.random.default_rng(5)
    for _ in range(DIRECTIONS):
        yield random.standard_normal(shape)


def output_along(run: Run, array: np.ndarray, direction: np.ndarray, step: float) -> float:
    """What the seed makes of the output, with the array moved by step * direction."""
    before = array.copy()
    array += step * direction
    output = run.output()
    array[...] = before
    return float((output * run.inputs["d_y"]).sum())
