"""Feed-forward networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anetrain.blocks.base import Block
from anetrain.graph import BlockGraph, Value, bias, matrix

if TYPE_CHECKING:
    from anetrain.graph.parameters import WeightTree
    from anetrain.spec import ModelSpec


class SwiGLU(Block):
    """w2 (silu(w1 x) * w3 x)"""

    def weights(self, s: ModelSpec) -> WeightTree:
        return {"w1": matrix(s.hidden, s.dim), "w3": matrix(s.hidden, s.dim), "w2": matrix(s.dim, s.hidden)}

    def forward(self, g: BlockGraph, x: Value, w: Any) -> Value:
        return g.linear(g.silu(g.linear(x, w.w1)) * g.linear(x, w.w3), w.w2)


class GeluFFN(Block):
    """w2 gelu(w1 x + b1) + b2"""

    def weights(self, s: ModelSpec) -> WeightTree:
        return {
            "w1": matrix(s.hidden, s.dim),
            "b1": bias(s.hidden),
            "w2": matrix(s.dim, s.hidden),
            "b2": bias(s.dim),
        }

    def forward(self, g: BlockGraph, x: Value, w: Any) -> Value:
        return g.linear(g.gelu(g.linear(x, w.w1, w.b1)), w.w2, w.b2)
