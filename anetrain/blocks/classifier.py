"""The end of a model: final norm, logits, cross-entropy."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from anetrain.blocks.embedding import DEVIATION
from anetrain.graph import BlockGraph, Place, Value, gain, matrix

if TYPE_CHECKING:
    from anetrain.graph.builder import Precision
    from anetrain.graph.parameters import WeightTree
    from anetrain.spec import ModelSpec

AXIS_LIMIT = 16_384  # the longest axis that every chip takes (ANE_FACTS C11)
CHANNEL_LIMIT = 65_536  # the most channels that any chip takes
ROWS_MULTIPLE = 64  # what an engine computes at a time


class Classifier:
    """`place`: where logits are computed. On the host in fp32; on the device in chunks of at most `chunk_rows` rows of
    the vocabulary, each a stage. Gradients are computed on the host in either case: those of logits are too small for
    fp16. A tied classifier is the embedding: the parameter has the same name in both."""

    def __init__(self, place: Place = "host", chunk_rows: int = AXIS_LIMIT) -> None:
        if chunk_rows < 1:
            raise ValueError(f"chunk_rows is {chunk_rows}, expected a positive number of rows")
        self.place, self.chunk_rows = place, chunk_rows

    def on_device(self, chunk_rows: int) -> Classifier:
        """This classifier with its logits on the device; as it is if they are there already."""
        if self.place == "device":
            return self
        moved = copy.copy(self)
        moved.place, moved.chunk_rows = "device", chunk_rows
        return moved

    def chunks(self, vocab: int) -> list[tuple[int, int]]:
        """(first row, behind the last row) of each: as few as there can be, about equally long."""
        count = -(-vocab // self.chunk_rows)
        rows = -(-vocab // count)
        rows = min(-(-rows // ROWS_MULTIPLE) * ROWS_MULTIPLE, self.chunk_rows)
        return [(begin, min(begin + rows, vocab)) for begin in range(0, vocab, rows)]

    def weights(self, s: ModelSpec) -> WeightTree:
        name = "embedding" if s.tied else "classifier"
        return {"final_norm": gain(s.dim), name: matrix(s.vocab, s.dim, deviation=DEVIATION)}

    def logits(self, g: BlockGraph, x: Value, w: Any) -> list[Value]:
        """[1, rows, 1, T] for each chunk of the vocabulary, on the host."""
        normal = g.rms_norm(x, w.final_norm, g.spec.norm_eps)
        table = w.embedding if g.spec.tied else w.classifier
        if self.place == "host":
            return [g.host_linear(normal, table)]
        chunks: list[Value] = []
        for begin, end in self.chunks(g.spec.vocab):
            if chunks:
                g.stage()
            rows = g.staged(table, begin, end)
            chunks.append(g.to_host(g.linear(normal, rows, host_backward=True)))
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
