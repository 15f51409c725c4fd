"""Slices of one value: their gradients lie side by side again, in one concat, and are right however the slices lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from anetrain.autodiff import differentiate
from anetrain.blocks import Block, BlockGraph, ModelSpec, Value, build, matrix
from tests.block_runs import run_block, spec
from tests.test_blocks_differences import check

ROWS, SLICE = 12, 3


class Slices(Block):
    """The sum of squares of slices of the channels, each of SLICE rows."""

    def __init__(self, begins: Sequence[int], along_tokens: bool = False) -> None:
        self.begins, self.along_tokens = begins, along_tokens

    def weights(self, s: ModelSpec) -> dict[str, Any]:
        return {"first": matrix(ROWS, s.dim), "last": matrix(s.dim, SLICE)}

    def forward(self, g: BlockGraph, x: Value, w: Any) -> Value:
        h = g.linear(x, w.first)  # [1, ROWS, 1, T]
        if self.along_tokens:
            first = g.slice_by_size(h, (0, 0, 0, 0), (1, SLICE, 1, 2))
            second = g.slice_by_size(h, (0, 0, 0, 2), (1, SLICE, 1, h.shape[3] - 2))
            return x + g.linear(g.concat((first * first, second * second), axis=3), w.last)
        squares = [part * part for part in (self.slice(g, h, begin) for begin in self.begins)]
        total = squares[0]
        for square in squares[1:]:
            total = total + square
        return x + g.linear(total, w.last)

    def slice(self, g: BlockGraph, h: Value, begin: int) -> Value:
        return g.slice_by_size(h, (0, begin, 0, 0), (1, SLICE, 1, h.shape[3]))


SIZES = spec(dim=7, seq=5, heads=1, kv_heads=1, head_dim=2)


@pytest.mark.parametrize(
    ("begins", "concats", "zeros"),
    [
        ((0, 3, 6, 9), 1, 0),  # they cover all
        ((9, 0, 6, 3), 1, 0),  # in any order
        ((0, 6), 1, 2),  # gaps between and behind
        ((3, 9), 1, 2),  # in front and between
        ((6,), 1, 2),  # one alone
        ((0, 2), 2, 3),  # they overlap: each on its own, and a sum
    ],
)
def test_how_gradients_of_slices_are_joined(begins: Sequence[int], concats: int, zeros: int) -> None:
    graph = differentiate(build(Slices(begins), SIZES)).graph
    joins = [node for node in graph.nodes if node.op.name == "concat"]
    assert len(joins) == concats
    assert sum(value.data is not None for node in joins for value in node.operands) == zeros


@pytest.mark.parametrize("begins", [(0, 3, 6, 9), (9, 0, 6, 3), (0, 6), (3, 9), (6,), (0, 2), (0, 0, 3)])
def test_gradients_of_slices(begins: Sequence[int]) -> None:
    assert_gradients(Slices(begins))


def test_slices_along_two_axes_are_padded_one_after_the_other() -> None:
    assert_gradients(Slices((), along_tokens=True))


def assert_gradients(block: Block) -> None:
    run = run_block(block, SIZES)
    check(run, run.inputs["x"], run.result.gradients["x"], "x")
    for name, array in run.parameters.items():
        check(run, array, run.result.parameters[name], name)
