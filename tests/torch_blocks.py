"""The blocks once more, in PyTorch and in its way: batch first, channels last, rows of weights as stored. The oracle of
tests of blocks; nothing here knows anetrain but its specs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Weights = dict[str, Tensor]


def from_channels_first(x: np.ndarray, batch: int) -> Tensor:
    """[1, C, 1, B * S] -> [B, S, C]"""
    return torch.tensor(x[0, :, 0, :].T.reshape(batch, -1, x.shape[1]), dtype=torch.float64)


def to_channels_first(x: Tensor) -> np.ndarray:
    return x.detach().reshape(-1, x.shape[-1]).T.numpy()[None, :, None, :]


def inner(weights: Weights, name: str) -> Weights:
    return {key.removeprefix(name + "."): value for key, value in weights.items() if key.startswith(name + ".")}


def rms_norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    return functional.rms_norm(x, (x.shape[-1],), gain, eps)


def layer_norm(x: Tensor, gain: Tensor, bias: Tensor, eps: float) -> Tensor:
    return functional.layer_norm(x, (x.shape[-1],), gain, bias, eps)


def linear(x: Tensor, w: Weights) -> Tensor:
    return functional.linear(x, w["weight"], w.get("bias"))


def rope_interleaved(x: Tensor, base: float) -> Tensor:
    """[B, H, S, D], pairs (2i, 2i + 1) as complex numbers: the way of Llama 2."""
    length, head_dim = x.shape[-2:]
    speeds = 1.0 / base ** (torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angles = torch.outer(torch.arange(length, dtype=torch.float64), speeds)
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous())
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2)


def rope_half(x: Tensor, base: float) -> Tensor:
    """[B, H, S, D], pairs (i, i + D / 2): the way of Qwen3."""
    length, head_dim = x.shape[-2:]
    speeds = 1.0 / base ** (torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angles = torch.outer(torch.arange(length, dtype=torch.float64), speeds)
    angles = torch.cat([angles, angles], -1)
    rotated = torch.cat([-x[..., head_dim // 2 :], x[..., : head_dim // 2]], -1)
    return x * angles.cos() + rotated * angles.sin()


def attention(x: Tensor, w: Weights, s: Any, window: int | None = None) -> Tensor:
    rows = [functional.linear(x, w["w" + name], w.get("b" + name)) for name in "qkv"]
    q, k, v = (t.unflatten(-1, (-1, s.head_dim)).transpose(1, 2) for t in rows)  # [B, H, S, D]
    if s.qk_norm:
        q, k = rms_norm(q, w["q_norm"], s.norm_eps), rms_norm(k, w["k_norm"], s.norm_eps)
    if s.rope != "none":
        rope = rope_interleaved if s.rope == "interleaved" else rope_half
        q, k = rope(q, s.rope_base), rope(k, s.rope_base)
    k, v = (t.repeat_interleave(s.heads // s.kv_heads, dim=1) for t in (k, v))
    seen = torch.ones(s.seq, s.seq, dtype=torch.bool).tril()
    if window is not None:
        seen &= ~torch.ones(s.seq, s.seq, dtype=torch.bool).tril(-window)
    out = functional.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=1 / math.sqrt(s.head_dim))
    return functional.linear(out.transpose(1, 2).flatten(-2), w["wo"], w.get("bo"))


def swiglu(x: Tensor, w: Weights) -> Tensor:
    return functional.linear(functional.silu(functional.linear(x, w["w1"])) * functional.linear(x, w["w3"]), w["w2"])


def gelu_ffn(x: Tensor, w: Weights) -> Tensor:
    hidden = functional.gelu(functional.linear(x, w["w1"], w["b1"]), approximate="tanh")
    return functional.linear(hidden, w["w2"], w["b2"])


def transformer(x: Tensor, w: Weights, s: Any) -> Tensor:
    x = x + s.residual_scale * attention(rms_norm(x, w["attention_norm"], s.norm_eps), inner(w, "attention"), s)
    return x + s.residual_scale * swiglu(rms_norm(x, w["ffn_norm"], s.norm_eps), inner(w, "ffn"))
