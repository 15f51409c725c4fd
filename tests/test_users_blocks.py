"""Blocks that a user might write and the library has not: each trains without a line of backward code, in every layout,
and every chip takes its programs."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from anetrain.autodiff import differentiate
from anetrain.blocks import Attention, Block, GeluFFN, SwiGLU, build, causal_mask, join_heads, split_heads
from anetrain.graph import BlockGraph, Value, bias, gain, matrix
from anetrain.lower import LAYOUTS, Layout, check_plan, lower
from anetrain.spec import ModelSpec
from tests.block_runs import run_block, spec
from tests.emulated import EmulatedBlock, assert_near, tensors
from tests.support import emulator
from tests.test_blocks_differences import check


class Parallel(Block):
    """Attention and feed-forward side by side, as in GPT-J."""

    def __init__(self) -> None:
        self.attention, self.ffn = Attention(), GeluFFN()

    def weights(self, s: ModelSpec) -> dict[str, Any]:
        return {"norm": gain(s.dim), "attention": self.attention.weights(s), "ffn": self.ffn.weights(s)}

    def forward(self, g: BlockGraph, x: Value, w: Any) -> Value:
        h = g.rms_norm(x, w.norm)
        return x + self.attention.forward(g, h, w.attention) + self.ffn.forward(g, h, w.ffn)


class SquaredRelu(Block):
    def weights(self, s: ModelSpec) -> dict[str, Any]:
        return {"norm": gain(s.dim), "up": matrix(s.hidden, s.dim), "down": matrix(s.dim, s.hidden)}

    def forward(self, g: BlockGraph, x: Value, w: Any) -> Value:
        h = g.relu(g.linear(g.rms_norm(x, w.norm), w.up))
        return 0.5 * x + g.linear(h * h, w.down) - 0.25


class ComputedMatrices(Block):
    """Products of parameters as weights: forward leaves them for backward, beside what depends on its input."""

    def weights(self, s: ModelSpec) -> dict[str, Any]:
        square = {name: matrix(s.dim, s.dim) for name in "ab"}
        return {"u": matrix(s.dim, 5), "v": matrix(5, s.dim), **square, "c": bias(s.dim), "d": gain(s.dim)}

    def forward(self, g: BlockGraph, x: Value, w: Any) -> Value:
        y = g.linear(g.rms_norm(x, w.d), g.matmul(w.u, w.v))
        return x + g.linear(g.tanh(y), w.a * g.sigmoid(w.b), w.c * w.d)


class Mixture(Block):
    """Two gated networks, weighed by a softmax."""

    def __init__(self) -> None:
        self.ffn = SwiGLU()

    def weights(self, s: ModelSpec) -> dict[str, Any]:
        return {"norm": gain(s.dim), "gate": matrix(2, s.dim), "one": self.ffn.weights(s), "two": self.ffn.weights(s)}

    def forward(self, g: BlockGraph, x: Value, w: Any) -> Value:
        h = g.rms_norm(x, w.norm)
        first, second = g.split(g.softmax(g.linear(h, w.gate), axis=1), axis=1, num_splits=2)
        return x + first * self.ffn.forward(g, h, w.one) + second * self.ffn.forward(g, h, w.two)


class BiasedAttention(Block):
    """A temperature for each head, and a learned bias for each pair of positions."""

    def weights(self, s: ModelSpec) -> dict[str, Any]:
        side = s.heads * s.head_dim
        matrices = {name: matrix(side, s.dim) for name in ("wq", "wk", "wv")}
        return {**matrices, "wo": matrix(s.dim, side), "heat": gain(s.heads), "pairs": matrix(s.seq, s.seq)}

    def forward(self, g: BlockGraph, x: Value, w: Any) -> Value:
        s = g.spec
        q, k, v = (split_heads(g, g.linear(x, weight)) for weight in (w.wq, w.wk, w.wv))
        by_head = g.reshape(q, (s.batch, s.heads, s.head_dim, s.seq))
        q = g.reshape(g.scale(by_head, w.heat) * s.head_dim**-0.5, q.shape)
        scores = g.matmul(q, k, transpose_x=True) + w.pairs + causal_mask(s.seq)
        return x + g.linear(join_heads(g, g.matmul(v, g.softmax(scores, axis=-1), transpose_y=True)), w.wo)


class SharedWeights(Block):
    """One matrix in two places, another one and its transpose, one gain for two norms."""

    def weights(self, s: ModelSpec) -> dict[str, Any]:
        return {"norm": gain(s.dim), "w": matrix(s.dim, s.dim), "e": matrix(s.hidden, s.dim)}

    def forward(self, g: BlockGraph, x: Value, w: Any) -> Value:
        h = g.rms_norm(x, w.norm)
        y = g.linear(g.tanh(g.linear(h, w.w)), w.w)
        z = g.linear(g.silu(g.linear(h, w.e)), g.transpose(w.e, (1, 0)))
        return x + g.rms_norm(y + x, w.norm) + z


class RunningMean(Block):
    """Pooling over time: the mean of all tokens so far, and positions of its own, of no operand but parameters."""

    def weights(self, s: ModelSpec) -> dict[str, Any]:
        return {"a": matrix(s.dim, s.dim), "b": matrix(s.dim, s.dim), "k": gain(s.dim), "places": matrix(s.dim, s.seq)}

    def forward(self, g: BlockGraph, x: Value, w: Any) -> Value:
        s = g.spec
        means = np.triu(np.ones((s.seq, s.seq))) / np.arange(1, s.seq + 1)
        h = g.reshape(g.linear(x, w.a), (1, s.dim, s.batch, s.seq)) + g.reshape(w.places, (1, s.dim, 1, s.seq))
        return x + g.linear(g.silu(g.reshape(g.matmul(h, means), x.shape) * w.k), w.b)


class Sharpened(Block):
    """Long sums, extremes, divisions, roots, one number as a parameter."""

    def weights(self, s: ModelSpec) -> dict[str, Any]:
        return {"a": matrix(s.hidden, s.dim), "b": matrix(s.dim, s.hidden), "heat": gain(1)}

    def forward(self, g: BlockGraph, x: Value, w: Any) -> Value:
        h = g.linear(x, w.a)
        h = g.exp(h - g.reduce_max(h, axes=(1,), keep_dims=True))
        h = h / g.sqrt(g.reduce_mean(h * h, axes=(1,), keep_dims=True) + 0.01)
        return x + g.linear(h / (1.0 + g.reduce_sum(h, axes=(1,), keep_dims=True)), w.b) * w.heat


class Positions(Block):
    """A parameter is all that is added: the only program reads no activation."""

    def weights(self, s: ModelSpec) -> dict[str, Any]:
        return {"places": matrix(s.dim, s.seq)}

    def forward(self, g: BlockGraph, x: Value, w: Any) -> Value:
        s = g.spec
        return x * 2.0 + g.concat([g.reshape(w.places, (1, s.dim, 1, s.seq))] * s.batch, axis=3)


BLOCKS: tuple[type[Block], ...] = (
    Parallel, SquaredRelu, ComputedMatrices, Mixture, BiasedAttention, SharedWeights, RunningMean, Sharpened, Positions,
)  # fmt: skip


@pytest.mark.parametrize("block", BLOCKS)
def test_gradients_are_differences(block: type[Block]) -> None:
    run = run_block(block(), spec(dim=8, hidden=9, heads=2, kv_heads=2, head_dim=4, seq=5, batch=2))
    check(run, run.inputs["x"], run.result.gradients["x"], "x")
    for parameter, array in run.parameters.items():
        check(run, array, run.result.parameters[parameter], parameter)


@pytest.mark.parametrize("block", BLOCKS)
def test_every_layout_computes_them(block: type[Block]) -> None:
    exact, rounding = emulator(fp32=True), emulator()
    for batch, seq in itertools.product((1, 3), (20, 100)):
        s = spec(dim=24, hidden=70, heads=4, kv_heads=4, head_dim=6, batch=batch, seq=seq)
        for number, layout in enumerate(LAYOUTS):
            norms = ("host", "device")[(number + batch + seq // 20) % 2]
            run = EmulatedBlock(block(), s, exact, layout=layout, norms=norms)
            assert_near(tensors(run.run()), tensors(run.expected()), 1e-5, what=f"{s}, {layout}, {norms}")
        run = EmulatedBlock(block(), s, rounding, loss_scale=16.0)
        assert_near(tensors(run.run()), tensors(run.expected()), 1.5e-2, 0.9998, what=f"{s}, fp16")


@pytest.mark.parametrize("block", BLOCKS)
def test_every_chip_takes_them(block: type[Block]) -> None:
    """As they are in all layouts: sums of 25,600 elements are none in one product, and no sum is narrow."""
    s = spec(dim=64, hidden=100, heads=4, kv_heads=4, head_dim=16, seq=256)
    derived = differentiate(build(block(), s))
    for layout in LAYOUTS:
        plans = {dialect: lower(derived, layout, dialect=dialect) for dialect in "AB"}
        for chip in ("m1", "m3ultra", "m4", "m5"):
            found = check_plan(plans["A" if chip == "m1" else "B"], chip)
            assert {finding.rule for _, finding in found} <= {"width-slice-saturation"}, chip
            assert not found or (layout == "packed" and chip == "m1"), chip


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("ones", [("hidden",), ("dim",), ("seq",), ("dim", "hidden", "seq")], ids="-".join)
def test_sizes_of_one(ones: tuple[str, ...], layout: Layout) -> None:
    """A matrix of one row is no vector."""
    s = spec(**{"dim": 24, "heads": 1, "kv_heads": 1, "head_dim": 2, **dict.fromkeys(ones, 1)})
    run = EmulatedBlock(Mixture(), s, emulator(fp32=True), layout=layout)
    assert_near(tensors(run.run()), tensors(run.expected()), 1e-4)
