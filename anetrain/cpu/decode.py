"""One token through layers of Llama or Qwen3, with the keys and values of the tokens before it, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from anetrain._cpu import ffi, lib
from anetrain.cpu._arrays import Array, Floats, Halves, pointer, shaped, vector


@dataclass(frozen=True)
class DecodeSizes:
    """`capacity`: tokens that the keys and values have room for."""

    dim: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    capacity: int
    norm_eps: float
    residual_scale: float = 1.0


@dataclass(frozen=True, eq=False)
class DecodeLayer:
    """Contiguous arrays. Matrices that multiply the same vector are one, row upon row; RoPE pairs are half a head
    apart."""

    attention_norm: Floats  # [dim]
    qkv: Halves  # [(heads + 2 kv_heads) head_dim, dim]: Wq, Wk, Wv
    out: Halves  # [dim, heads head_dim]
    ffn_norm: Floats  # [dim]
    gate_up: Halves  # [2 hidden, dim]: W1, W3
    down: Halves  # [dim, hidden]
    keys: Floats  # [kv_heads, head_dim, capacity], turned by RoPE
    values: Floats  # [kv_heads, capacity, head_dim]
    q_norm: Floats | None = None  # [head_dim]
    k_norm: Floats | None = None


class Decode:
    """`cos`, `sin`: [capacity, head_dim / 2], angles by position; None without RoPE. Arrays stay where they are."""

    def __init__(
        self, sizes: DecodeSizes, layers: Sequence[DecodeLayer], cos: Floats | None = None, sin: Floats | None = None
    ) -> None:
        self.sizes, self.layers = sizes, list(layers)
        self._tables = _tables(sizes, cos, sin)
        self._sizes = ffi.new("AnecpuDecodeSizes *", vars(sizes))
        self._layers = ffi.new("AnecpuDecodeLayer[]", len(self.layers))
        for number, layer in enumerate(self.layers):
            for name, shape in _shapes(sizes).items():
                array = getattr(layer, name)
                if array is not None:
                    setattr(self._layers[number], name, _checked(f"layers[{number}].{name}", array, shape))
                elif name not in ("q_norm", "k_norm"):
                    raise ValueError(f"layers[{number}].{name} is None")
        self._scratch = np.empty(lib.anecpu_decode_scratch(self._sizes), np.float32)

    def __call__(self, x: Floats, position: int) -> None:
        """The token x [dim] at `position` becomes what the last layer makes of it. Keys and values of the positions
        before are there already; its own join them."""
        if not 0 <= position < self.sizes.capacity:
            raise ValueError(f"position is {position}; expected 0 to {self.sizes.capacity - 1}")
        turns = [ffi.NULL, ffi.NULL] if self._tables is None else [pointer(table[position]) for table in self._tables]
        at = vector("x", x, self.sizes.dim)
        lib.anecpu_decode(self._sizes, self._layers, len(self.layers), position, *turns, at, pointer(self._scratch))


def _shapes(s: DecodeSizes) -> dict[str, tuple[int, ...]]:
    return {
        "attention_norm": (s.dim,),
        "ffn_norm": (s.dim,),
        "q_norm": (s.head_dim,),
        "k_norm": (s.head_dim,),
        "qkv": ((s.heads + 2 * s.kv_heads) * s.head_dim, s.dim),
        "out": (s.dim, s.heads * s.head_dim),
        "gate_up": (2 * s.hidden, s.dim),
        "down": (s.dim, s.hidden),
        "keys": (s.kv_heads, s.head_dim, s.capacity),
        "values": (s.kv_heads, s.capacity, s.head_dim),
    }


def _checked(name: str, array: Array, shape: tuple[int, ...]) -> Any:
    is_matrix = name.rpartition(".")[2] in ("qkv", "out", "gate_up", "down")
    shaped(name, array, shape, np.float16 if is_matrix else np.float32)
    if not array.flags.c_contiguous:
        raise ValueError(f"{name} has strides {array.strides} bytes; it must be contiguous")
    return pointer(array)


def _tables(s: DecodeSizes, cos: Floats | None, sin: Floats | None) -> tuple[Floats, Floats] | None:
    if s.heads % s.kv_heads:
        raise ValueError(f"{s.heads} heads; expected a multiple of {s.kv_heads} kv_heads")
    if cos is None and sin is None:
        return None
    if cos is None or sin is None or s.head_dim % 2:
        raise ValueError("RoPE needs both tables, and an even head_dim")
    for name, table in (("cos", cos), ("sin", sin)):
        _checked(name, table, (s.capacity, s.head_dim // 2))
    return cos, sin
