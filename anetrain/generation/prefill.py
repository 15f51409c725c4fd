"""The prompt, all its tokens at once, on the device: keys and values of every layer come out with the activations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from anetrain.blocks import Attention, Embedding, LlamaBlock, build, build_embedding
from anetrain.cpu._arrays import Floats
from anetrain.device import Device
from anetrain.generation.cache import Cache
from anetrain.generation.widths import ModelPart, WidthStacks
from anetrain.graph import BlockGraph, Value
from anetrain.graph.builder import Precision
from anetrain.model import Model
from anetrain.spec import ModelSpec


class Prefill:
    """For models of LlamaBlocks or Qwen3Blocks whose RoPE is "half" or "none"."""

    def __init__(self, device: Device, model: Model, weights: Mapping[str, Floats]) -> None:
        self.stacks = WidthStacks(device, model, model.parts[:-1], weights, _graph_of)

    def run(self, ids: Sequence[int], cache: Cache) -> Floats:
        """Fills the cache, and returns what the last layer makes of the last token, [dim]."""
        stack = self.stacks.run(ids)
        for number, layer in enumerate(stack.layers[1:]):
            keys, values = (layer.outputs[name][0, :, :, : len(ids)] for name in ("k", "v"))
            cache.enter(number, keys, values)
        cache.length = len(ids)
        return np.ascontiguousarray(stack.outputs["y"][0, :, 0, len(ids) - 1])


class _OpenAttention(Attention):
    """Remembers keys and values of the graph that it was last built into."""

    keys: Value
    values: Value

    def project(self, g: BlockGraph, x: Value, w: Any) -> tuple[Value, Value, Value]:
        q, self.keys, self.values = super().project(g, x, w)
        return q, self.keys, self.values


def _graph_of(part: ModelPart, spec: ModelSpec, precision: Precision) -> BlockGraph:
    """Outputs "y", and of layers "k" and "v", [1, kv_heads, head_dim, tokens]."""
    if isinstance(part, Embedding):
        return build_embedding(spec)
    assert isinstance(part, LlamaBlock)
    attention = _OpenAttention()
    graph = build(type(part)(attention, part.ffn), spec, precision=precision)
    graph.output("k", graph.to_host(attention.keys))
    graph.output("v", graph.to_host(attention.values))
    return graph
