"""Causal self-attention: grouped queries, RoPE and, where wanted, norms of q and k, biases, a sliding window."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from anetrain.blocks.base import Block
from anetrain.blocks.rope import rotate
from anetrain.graph import BlockGraph, Parameter, Value, bias, gain, matrix
from anetrain.mil.types import Array

if TYPE_CHECKING:
    from anetrain.spec import ModelSpec

# The engine's scores stay below 2^15, so that score + MASKED is finite in fp16; and it outweighs any spread of scores
# that an fp16 model has.
MASKED = -30_000.0


class Attention(Block):
    """`window`: each token sees itself and the window - 1 tokens before it. Heads, RoPE and norms of q and k come from
    the spec."""

    def __init__(self, *, window: int | None = None, qkv_bias: bool = False, out_bias: bool = False) -> None:
        if window is not None and window < 1:
            raise ValueError(f"window is {window}, expected a positive number of tokens")
        self.window, self.qkv_bias, self.out_bias = window, qkv_bias, out_bias

    def weights(self, s: ModelSpec) -> dict[str, Parameter]:
        q_rows, kv_rows, pairs = s.heads * s.head_dim, s.kv_heads * s.head_dim, s.paired_head
        tree = {
            "wq": matrix(q_rows, s.dim, paired_head=pairs),
            "wk": matrix(kv_rows, s.dim, paired_head=pairs),
            "wv": matrix(kv_rows, s.dim),
            "wo": matrix(s.dim, q_rows),
        }
        if self.qkv_bias:
            tree |= {"bq": bias(q_rows, paired_head=pairs), "bk": bias(kv_rows, paired_head=pairs), "bv": bias(kv_rows)}
        if self.out_bias:
            tree |= {"bo": bias(s.dim)}
        if s.qk_norm:
            tree |= {"q_norm": gain(s.head_dim, paired_head=pairs), "k_norm": gain(s.head_dim, paired_head=pairs)}
        return tree

    def forward(self, g: BlockGraph, x: Value, w: Any) -> Value:
        q, k, v = self.project(g, x, w)
        g.stage()
        out = attend(g, q, k, v, causal_mask(g.spec.seq, self.window))
        g.stage()
        return g.linear(join_heads(g, out), w.wo, w.bo if self.out_bias else None)

    def project(self, g: BlockGraph, x: Value, w: Any) -> tuple[Value, Value, Value]:
        """Queries, keys and values, [1, B * heads, head_dim, S] each, as `attend` takes them."""
        s, biased = g.spec, self.qkv_bias
        q = split_heads(g, g.linear(x, w.wq, w.bq if biased else None))
        k = split_heads(g, g.linear(x, w.wk, w.bk if biased else None))
        v = split_heads(g, g.linear(x, w.wv, w.bv if biased else None))
        if s.qk_norm:
            q = g.rms_norm(q, w.q_norm, s.norm_eps, axis=2)
            k = g.rms_norm(k, w.k_norm, s.norm_eps, axis=2)
        scale = 1.0 / math.sqrt(s.head_dim)
        if s.rope == "none":
            q = q * scale
        else:
            q, k = rotate(g, q, s.rope_base, scale), rotate(g, k, s.rope_base)
        return q, k, v


def split_heads(g: BlockGraph, x: Value) -> Value:
    """[1, n * head_dim, 1, B * S] -> [1, B * n, head_dim, S]: the heads of each sequence one after the other."""
    s = g.spec
    heads = x.shape[1] // s.head_dim
    if s.batch > 1:
        x = g.transpose(g.reshape(x, (1, x.shape[1], s.batch, s.seq)), (0, 2, 1, 3))
    return g.reshape(x, (1, s.batch * heads, s.head_dim, s.seq))


def join_heads(g: BlockGraph, x: Value) -> Value:
    """[1, B * n, head_dim, S] -> [1, n * head_dim, 1, B * S]"""
    s = g.spec
    channels = x.shape[1] // s.batch * s.head_dim
    if s.batch > 1:
        x = g.transpose(g.reshape(x, (1, s.batch, channels, s.seq)), (0, 2, 1, 3))
    return g.reshape(x, (1, channels, 1, s.tokens))


def causal_mask(length: int, window: int | None = None) -> Array:
    """[1, 1, queries, keys]: 0 where a query sees a key, MASKED elsewhere."""
    distance = np.arange(length)[:, None] - np.arange(length)
    seen = (distance >= 0) & (distance < (length if window is None else window))
    return np.where(seen, 0.0, MASKED)[None, None]


def attend(g: BlockGraph, q: Value, k: Value, v: Value, mask: Array) -> Value:
    """softmax(q k + mask) v for each head: q [1, H, head_dim, S], k and v [1, H / ratio, head_dim, S] -> as q.

    Query head h uses key and value head h div ratio: the queries of a group are rows of one product, so nothing is
    repeated, and the gradients of k and v sum over the group within a product."""
    _, heads, head_dim, length = q.shape
    kv_heads = k.shape[1]
    if heads == kv_heads:
        scores = g.matmul(q, k, transpose_x=True)  # [1, H, S, S]
        return g.matmul(v, g.softmax(scores + g.constant(mask), axis=-1), transpose_y=True)
    group = heads // kv_heads * length
    rows = g.reshape(g.transpose(q, (0, 1, 3, 2)), (1, kv_heads, group, head_dim))
    scores = g.reshape(g.matmul(rows, k), (1, heads, length, length))
    probabilities = g.softmax(scores + g.constant(mask), axis=-1)
    rows = g.matmul(g.reshape(probabilities, (1, kv_heads, group, length)), v, transpose_y=True)
    return g.transpose(g.reshape(rows, (1, heads, length, head_dim)), (0, 1, 3, 2))
