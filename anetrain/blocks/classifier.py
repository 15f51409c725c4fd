"""The end of a model: final norm, logits, cross-entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anetrain.blocks.embedding import DEVIATION
from anetrain.graph import BlockGraph, Place, Value, gain, matrix

if TYPE_CHECKING:
    from anetrain.graph.builder import Precision
    from anetrain.graph.parameters import WeightTree
    from anetrain.spec import ModelSpec

AXIS_LIMIT = 16_384  # the longest axis that every chip takes (ANE_FACTS C11)


class Classifier:
    """`place`: where logits are computed. On the host in fp32; on the device in chunks of at most `chunk_rows` rows of
    the vocabulary, each a stage. A tied classifier is the embedding: the parameter has the same name in both."""

    def __init__(self, place: Place = "host", chunk_rows: int = AXIS_LIMIT) -> None:
        if chunk_rows < 1:
            raise ValueError(f"chunk_rows is {chunk_rows}, expected a positive number of rows")
        self.place, self.chunk_rows = place, chunk_rows

    def weights(self, s: ModelSpec) -> WeightTree:
        name = "embedding" if s.tied else "classifier"
        return {"final_norm": gain(s.dim), name: matrix(s.vocab, s.dim, deviation=DEVIATION)}

    def logits(self, g: BlockGraph, x: Value, w: Any) -> list[Value]:
        """[1, rows, 1, T] for each chunk of the vocabulary, on the host."""
        normal = g.rms_norm(x, w.final_norm, g.spec.norm_eps)
        table = w.embedding if g.spec.tied else w.classifier
        if self.place == "host":
            return [g.host_linear(normal, table)]
        chunks = []
        for begin in range(0, g.spec.vocab, self.chunk_rows):
            g.stage()
            rows = g.staged(table, begin, min(begin + self.chunk_rows, g.spec.vocab))
            chunks.append(g.to_host(g.linear(normal, rows)))
        return chunks

    def loss(self, g: BlockGraph, x: Value, w: Any, targets: Value, scale: Value) -> Value:
        """The mean cross-entropy of the targets, ids [T], -1 where none counts. Gradients are those of scale * loss."""
        return g.cross_entropy(self.logits(g, x, w), targets, scale)


def build_loss(
    classifier: Classifier, spec: ModelSpec, *, norms: Place = "host", precision: Precision = "fp16"
) -> BlockGraph:
    """Inputs "x", fp32 [1, dim, 1, tokens], "targets", int32 [tokens], and "scale" [1]; output "loss" [1]."""
    g = BlockGraph(spec, norms=norms, precision=precision)
    x = g.activation("x", spec.dim)
    targets = g.input("targets", (spec.tokens,), "int32")
    scale = g.input("scale", (1,), "fp32")
    g.output("loss", classifier.loss(g, x, g.weights(classifier.weights(spec)), targets, scale))
    return g


def build_logits(
    classifier: Classifier, spec: ModelSpec, *, norms: Place = "host", precision: Precision = "fp16"
) -> BlockGraph:
    """Input "x"; outputs "logits_0", "logits_1" ..., fp32 [1, rows, 1, tokens]: without a loss, to generate text."""
    g = BlockGraph(spec, norms=norms, precision=precision)
    x = g.activation("x", spec.dim)
    for index, chunk in enumerate(classifier.logits(g, x, g.weights(classifier.weights(spec)))):
        g.output(f"logits_{index}", chunk)
    return g
