"""The sizes of a model, from which its blocks take theirs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Rope = Literal["interleaved", "half", "none"]


@dataclass(frozen=True)
class ModelSpec:
    """`rope`: "interleaved" pairs neighbouring rows of a head (Llama 2), "half" row i with i + head_dim / 2 (Qwen3)."""

    dim: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    seq: int
    batch: int = 1
    norm_eps: float = 1e-5
    rope: Rope = "interleaved"
    rope_base: float = 10_000.0
    qk_norm: bool = False
    tied: bool = True
    residual_scale: float = 1.0

    def __post_init__(self) -> None:
        for name in ("dim", "hidden", "layers", "heads", "kv_heads", "head_dim", "vocab", "seq", "batch"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} is {value!r}, expected a positive whole number")
        for name in ("norm_eps", "rope_base", "residual_scale"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0.0 < value < math.inf:
                raise ValueError(f"{name} is {value!r}, expected a positive number")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads is {self.heads}, expected a multiple of kv_heads, {self.kv_heads}")
        if self.rope not in ("interleaved", "half", "none"):
            raise ValueError(f"rope is {self.rope!r}, expected 'interleaved', 'half' or 'none'")
        if self.rope != "none" and self.head_dim % 2:
            raise ValueError(f"head_dim is {self.head_dim}; RoPE needs an even one")

    @property
    def tokens(self) -> int:
        return self.batch * self.seq

    @property
    def paired_head(self) -> int:
        """head_dim where rows of Wq and Wk are stored with RoPE pairs as neighbours, else 0."""
        return self.head_dim if self.rope == "interleaved" else 0
