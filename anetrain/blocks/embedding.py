"""The embedding of token ids: the first block of a model, on the host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anetrain.graph import BlockGraph, Value, matrix

if TYPE_CHECKING:
    from anetrain.graph.parameters import WeightTree
    from anetrain.spec import ModelSpec

DEVIATION = 0.02  # of the first values


class Embedding:
    """Column t of the result is row ids[t] of the table."""

    def weights(self, s: ModelSpec) -> WeightTree:
        return {"embedding": matrix(s.vocab, s.dim, deviation=DEVIATION)}

    def forward(self, g: BlockGraph, ids: Value, w: Any) -> Value:
        return g.embedding(w.embedding, ids)


def build_embedding(spec: ModelSpec) -> BlockGraph:
    """Input "ids", int32 [tokens]; output "y", fp32 [1, dim, 1, tokens]."""
    g = BlockGraph(spec)
    block = Embedding()
    ids = g.input("ids", (spec.tokens,), "int32")
    g.output("y", block.forward(g, ids, g.weights(block.weights(spec))))
    return g
