"""Every block against PyTorch in float64: the output, the gradient of the input and of every parameter."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest

from anetrain.blocks import (
    Attention,
    Block,
    GeluFFN,
    LayerNorm,
    Linear,
    LlamaBlock,
    ModelSpec,
    Qwen3Block,
    RMSNorm,
    SwiGLU,
    qwen3_spec,
)
from anetrain.graph import Place
from tests.block_runs import assert_close, run_block, spec
from tests.support import need

# Called with tests.torch_blocks, x, the weights by name, and the spec.
Forward = Callable[[Any, Any, Any, ModelSpec], Any]


def attention(oracle: Any, x: Any, w: Any, s: ModelSpec) -> Any:
    return oracle.attention(x, w, s)


def transformer(oracle: Any, x: Any, w: Any, s: ModelSpec) -> Any:
    return oracle.transformer(x, w, s)


BLOCKS: dict[str, tuple[Callable[[], Block], Forward]] = {
    "linear": (lambda: Linear(60, 60), lambda oracle, x, w, s: oracle.linear(x, w)),
    "linear with bias": (lambda: Linear(60, 60, bias=True), lambda oracle, x, w, s: oracle.linear(x, w)),
    "rms norm": (RMSNorm, lambda oracle, x, w, s: oracle.rms_norm(x, w["gain"], s.norm_eps)),
    "layer norm": (LayerNorm, lambda oracle, x, w, s: oracle.layer_norm(x, w["gain"], w["bias"], s.norm_eps)),
    "attention": (Attention, attention),
    "attention with biases": (lambda: Attention(qkv_bias=True, out_bias=True), attention),
    "sliding window": (lambda: Attention(window=5), lambda oracle, x, w, s: oracle.attention(x, w, s, window=5)),
    "swiglu": (SwiGLU, lambda oracle, x, w, s: oracle.swiglu(x, w)),
    "gelu ffn": (GeluFFN, lambda oracle, x, w, s: oracle.gelu_ffn(x, w)),
    "llama": (LlamaBlock, transformer),
}

Compare = Callable[..., None]


@pytest.fixture(scope="module")
def compare() -> Compare:
    need(importlib.util.find_spec("torch"), "torch is not installed")
    import torch

    from tests import torch_blocks as oracle

    def compare(block: Block, forward: Forward, s: ModelSpec, norms: Place = "host") -> None:
        run = run_block(block, s, norms)
        x = oracle.from_channels_first(run.inputs["x"], s.batch).requires_grad_()
        weights = {name: torch.tensor(array, requires_grad=True) for name, array in run.parameters.items()}
        y = forward(oracle, x, weights, s)
        y.backward(oracle.from_channels_first(run.inputs["d_y"], s.batch))
        assert x.grad is not None
        assert_close(run.result.outputs["y"], oracle.to_channels_first(y), "y")
        assert_close(run.result.gradients["x"], oracle.to_channels_first(x.grad), "dx")
        assert set(run.result.parameters) == set(weights)
        for name, weight in weights.items():
            assert weight.grad is not None, name
            assert_close(run.result.parameters[name], weight.grad.numpy(), f"gradient of {name}")

    return compare


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("norms", ["host", "device"])
@pytest.mark.parametrize("name", BLOCKS)
def test_a_block(compare: Compare, name: str, norms: Place, batch: int) -> None:
    block, forward = BLOCKS[name]
    compare(block(), forward, spec(batch=batch), norms)


@pytest.mark.parametrize("rope", ["interleaved", "half", "none"])
@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("kv_heads", [6, 3, 1])  # 1, 2 and 6 query heads for each
def test_attention(compare: Compare, kv_heads: int, qk_norm: bool, rope: Any) -> None:
    block = Attention(qkv_bias=rope != "none")  # without RoPE a bias of k changes nothing
    compare(block, attention, spec(kv_heads=kv_heads, qk_norm=qk_norm, rope=rope, batch=2))


@pytest.mark.parametrize("head_dim", [40, 48, 64, 128])
@pytest.mark.parametrize("seq", [96, 100])
def test_attention_of_published_sizes(compare: Compare, head_dim: int, seq: int) -> None:
    """Sums over more than 64 terms take another way than short ones; 100 is no multiple of 32."""
    compare(Attention(), attention, spec(head_dim=head_dim, heads=2, kv_heads=1, seq=seq, qk_norm=True))


def test_attention_of_256_tokens(compare: Compare) -> None:
    compare(Attention(), attention, spec(head_dim=64, heads=2, kv_heads=2, seq=256))


@pytest.mark.parametrize("norms", ["host", "device"])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_layer_of_qwen3(compare: Compare, batch: int, norms: Place) -> None:
    s = qwen3_spec(dim=60, hidden=171, layers=2, heads=6, kv_heads=3, head_dim=16, vocab=97, seq=32, batch=batch)
    compare(Qwen3Block(), transformer, s, norms)


def test_the_residual_scale_multiplies_what_is_added(compare: Compare) -> None:
    compare(LlamaBlock(), transformer, spec(residual_scale=0.5))
