"""The graphs of a model's parts as a device will run them: sequences padded, extras where they were asked for."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from anetrain.blocks import Block, Classifier, Embedding, build, build_embedding, build_loss
from anetrain.device import Device
from anetrain.graph import BlockGraph, Place
from anetrain.graph.builder import Precision
from anetrain.lower import Layout
from anetrain.lower.weights import padded
from anetrain.model import Model
from anetrain.pipeline.extras import Extra, classifier_on_device
from anetrain.spec import ModelSpec


@dataclass(frozen=True)
class PartGraph:
    """`prefix`: of the names of its parameters in the model."""

    prefix: str
    block: Block | Embedding | Classifier
    graph: BlockGraph

    @property
    def kind(self) -> str:
        return type(self.block).__name__

    @property
    def label(self) -> str:
        return self.prefix.rstrip(".") or self.kind.lower()


def part_graphs(
    model: Model, device: Device, layout: Layout, extras: frozenset[Extra], precision: Precision
) -> list[PartGraph]:
    spec = padded_spec(model)
    norms: Place = "device" if "norms" in extras else "host"
    final_norm: Place = "device" if "final_norm" in extras else "host"
    parts = []
    for prefix, block in model.parts:
        if isinstance(block, Embedding):
            graph = build_embedding(spec)
        elif isinstance(block, Classifier):
            if "classifier" in extras:
                block = classifier_on_device(block, device, layout, spec)
            graph = build_loss(block, spec, norms=final_norm, precision=precision)
        else:
            graph = build(block, spec, norms=norms, precision=precision)
        parts.append(PartGraph(prefix, block, graph))
    return parts


def padded_spec(model: Model) -> ModelSpec:
    """Sequences are a multiple of 32 long on the device. What is added counts for nothing, and comes last. As they are
    where a token may depend on later ones, or a parameter has one element for each position."""
    wide = dataclasses.replace(model.spec, seq=padded(model.spec.seq))
    return wide if model.causal and model.has_parameters_of(wide) else model.spec
