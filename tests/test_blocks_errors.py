"""Mistakes in blocks are errors where they are made, in words: op, argument, both shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from anetrain.blocks import (
    Attention,
    Block,
    BlockGraph,
    Classifier,
    Linear,
    ModelSpec,
    SwiGLU,
    Value,
    build,
    gain,
    matrix,
)
from anetrain.graph import BuildError
from tests.block_runs import spec


class Written(Block):
    def __init__(self, weights: dict[str, Any], forward: Callable[[BlockGraph, Value, Any], Value]) -> None:
        self._weights, self._forward = weights, forward

    def weights(self, s: ModelSpec) -> dict[str, Any]:
        return self._weights

    def forward(self, g: BlockGraph, x: Value, w: Any) -> Value:
        return self._forward(g, x, w)


@pytest.mark.parametrize(
    ("weights", "forward", "said"),
    [
        (
            {"w": matrix(30, 48)},
            lambda g, x, w: g.linear(x, w.w),
            r"\[dense\] weight takes 48 channels, x has 60; operands: x fp16 \[1, 60, 1, 32\], weight fp16 \[30, 48\]",
        ),
        (
            {"w": gain(48)},
            lambda g, x, w: g.rms_norm(x, w.w),
            r"\[host_rms_norm\] gain has shape \[48\], expected \[60\], the channels of x; operands: x fp32 "
            r"\[1, 60, 1, 32\], gain fp32 \[48\]",
        ),
        (
            {"w": matrix(30, 60)},
            lambda g, x, w: x + g.linear(x, w.w),
            r"\[host_add\] y has shape \[1, 30, 1, 32\], x has \[1, 60, 1, 32\]; on the host both are alike",
        ),
        (
            {"w": matrix(30, 60), "b": gain(29)},
            lambda g, x, w: g.linear(x, w.w, w.b),
            r"\[shift\] vector has shape \[29\], expected \[30\], axis 1 of x; operands: x fp16 \[1, 30, 1, 32\], "
            r"vector fp16 \[29\]",
        ),
        (
            {"w": matrix(9, 60)},
            lambda g, x, w: g.swap_halves(g.linear(x, w.w), axis=1),
            r"\[swap_halves\] x has shape \[1, 9, 1, 32\]: axis 1 has no two halves",
        ),
        (
            {"w": matrix(30, 60)},
            lambda g, x, w: g.matmul(g.linear(x, w.w), g.linear(x, w.w)),
            r"\[matmul\] .*\[1, 30, 1, 32\]",
        ),
    ],
)
def test_wrong_shapes(weights: dict[str, Any], forward: Any, said: str) -> None:
    with pytest.raises(BuildError, match=said):
        build(Written(weights, forward), spec())


def test_a_block_for_another_size() -> None:
    with pytest.raises(BuildError, match=r"\[dense\] weight takes 50 channels, x has 60"):
        build(Linear(60, 50), spec())


def test_an_unknown_weight() -> None:
    with pytest.raises(AttributeError, match="no weight 'w4'; this block has w"):
        build(Written({"w": matrix(30, 60)}, lambda g, x, w: g.linear(x, w.w4)), spec())


def test_a_block_without_forward_or_weights() -> None:
    class Empty(Block):
        pass

    with pytest.raises(TypeError, match="Empty defines no weights"):
        build(Empty(), spec())

    class Half(SwiGLU):
        forward = Block.forward

    with pytest.raises(TypeError, match="Half defines no forward"):
        build(Half(), spec())


def test_a_block_that_does_nothing() -> None:
    with pytest.raises(ValueError, match=r"Written\.forward returns its input unchanged"):
        build(Written({}, lambda g, x, w: x), spec())


def test_arguments_of_blocks() -> None:
    with pytest.raises(ValueError, match="window is 0, expected a positive number of tokens"):
        Attention(window=0)
    with pytest.raises(ValueError, match="chunk_rows is 0, expected a positive number of rows"):
        Classifier("device", chunk_rows=0)
    with pytest.raises(ValueError, match="heads is 6, expected a multiple of kv_heads, 4"):
        spec(kv_heads=4)
    with pytest.raises(ValueError, match="head_dim is 9; RoPE needs an even one"):
        spec(head_dim=9)
