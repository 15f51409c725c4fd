"""A block: its weights and its forward function. Everything else is derived from these two.

class FFN(Block):
    def weights(self, s):
        return {"w1": matrix(s.hidden, s.dim), "w3": matrix(s.hidden, s.dim), "w2": matrix(s.dim, s.hidden)}

    def forward(self, g, x, w):
        return g.linear(g.silu(g.linear(x, w.w1)) * g.linear(x, w.w3), w.w2)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anetrain.graph import BlockGraph, Place, Value
from anetrain.graph.builder import Precision

if TYPE_CHECKING:
    from anetrain.graph.parameters import WeightTree
    from anetrain.spec import ModelSpec


class Block:
    """Subclasses define `weights` and `forward`. Sizes come from the ModelSpec: as `s` here, as `g.spec` there."""

    def weights(self, s: ModelSpec) -> WeightTree:
        raise TypeError(f"{type(self).__name__} defines no weights")

    def forward(self, g: BlockGraph, x: Value, w: Any) -> Value:
        raise TypeError(f"{type(self).__name__} defines no forward")


def build(block: Block, spec: ModelSpec, *, norms: Place = "host", precision: Precision = "fp16") -> BlockGraph:
    """The graph of one block: input "x" and output "y", fp32 [1, dim, 1, batch * seq] on the host."""
    g = BlockGraph(spec, norms=norms, precision=precision)
    x = g.activation("x", spec.dim)
    y = block.forward(g, x, g.weights(block.weights(spec)))
    if not isinstance(y, Value):
        raise ValueError(f"{type(block).__name__}.forward returns {y!r}, expected a value of the graph")
    if y is x:
        raise ValueError(f"{type(block).__name__}.forward returns its input unchanged")
    if y.shape != x.shape:
        raise ValueError(f"{type(block).__name__}.forward returns {y.type}, expected {x.type}, as the block takes it")
    g.output("y", g.to_host(y))
    return g
