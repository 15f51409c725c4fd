"""Keys and values of the tokens so far, so that a new token costs one token's work."""

from __future__ import annotations

import numpy as np

from anetrain.cpu._arrays import Floats
from anetrain.spec import ModelSpec


class Cache:
    """keys    [layers, kv_heads, head_dim, capacity], turned by RoPE: a query's scores are sums of rows
    values  [layers, kv_heads, capacity, head_dim]: what attention returns is a sum of rows
    length  tokens in it

    Memory is taken by the system when it is first written, so a large capacity costs little."""

    def __init__(self, spec: ModelSpec, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity is {capacity} tokens; expected at least 1")
        self.capacity, self.length = capacity, 0
        self.keys = np.zeros((spec.layers, spec.kv_heads, spec.head_dim, capacity), np.float32)
        self.values = np.zeros((spec.layers, spec.kv_heads, capacity, spec.head_dim), np.float32)

    def enter(self, layer: int, keys: Floats, values: Floats) -> None:
        """Those of the first tokens, [kv_heads, head_dim, tokens] each."""
        tokens = keys.shape[2]
        self.keys[layer, :, :, :tokens] = keys
        self.values[layer, :, :tokens] = values.swapaxes(1, 2)
