"""The layer of Llama 2: attention, then a gated FFN, each behind an RMSNorm and beside the residual stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anetrain.blocks.attention import Attention
from anetrain.blocks.base import Block
from anetrain.blocks.ffn import SwiGLU
from anetrain.graph import BlockGraph, Value, gain

if TYPE_CHECKING:
    from anetrain.graph.parameters import WeightTree
    from anetrain.spec import ModelSpec


class LlamaBlock(Block):
    """x + attention(norm(x)), then x + ffn(norm(x)); what is added is first scaled by the spec's residual_scale."""

    def __init__(self, attention: Block | None = None, ffn: Block | None = None) -> None:
        self.attention = attention or Attention()
        self.ffn = ffn or SwiGLU()

    def weights(self, s: ModelSpec) -> WeightTree:
        return {
            "attention_norm": gain(s.dim),
            "attention": self.attention.weights(s),
            "ffn_norm": gain(s.dim),
            "ffn": self.ffn.weights(s),
        }

    def forward(self, g: BlockGraph, x: Value, w: Any) -> Value:
        s = g.spec
        attended = self.attention.forward(g, g.rms_norm(x, w.attention_norm, s.norm_eps), w.attention)
        x = g.residual(x, attended, s.residual_scale)
        g.stage()
        changed = self.ffn.forward(g, g.rms_norm(x, w.ffn_norm, s.norm_eps), w.ffn)
        return g.residual(x, changed, s.residual_scale)
