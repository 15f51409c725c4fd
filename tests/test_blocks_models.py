"""Two layers between embedding and loss, graph by graph, against Hugging Face transformers: logits, loss and the
gradient of every parameter, for both families. Norms, softmax and angles are in float32 there, whatever the model."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from anetrain import reference
from anetrain.autodiff import differentiate
from anetrain.blocks import (
    Classifier,
    LlamaBlock,
    ModelSpec,
    Qwen3Block,
    build,
    build_embedding,
    build_logits,
    build_loss,
    qwen3_spec,
)
from anetrain.graph import BlockGraph, Place
from tests.block_runs import assert_close, random_parameter
from tests.support import need
from tests.transformers_models import half_split, their_model, their_name

SIZES: dict[str, Any] = {"dim": 40, "hidden": 171, "layers": 2, "heads": 4, "kv_heads": 2, "vocab": 97, "seq": 32}
SPECS = {
    "llama": ModelSpec(**SIZES, head_dim=10, batch=3, tied=False),
    "llama, tied": ModelSpec(**SIZES, head_dim=10, tied=True),
    "qwen3": qwen3_spec(**SIZES, head_dim=16, batch=3, tied=True),
    "qwen3, own classifier": qwen3_spec(**SIZES, head_dim=16, tied=False),
}
TOLERANCE = 1e-5
SCALE = 8.0  # of the loss: what the gradients are of

Arrays = dict[str, np.ndarray]


class Chain:
    """The graphs of a model one after the other. Parameters of layer i are named "layers.i. ..."."""

    def __init__(self, name: str, s: ModelSpec, norms: Place, classifier: Classifier) -> None:
        block = Qwen3Block() if name.startswith("qwen3") else LlamaBlock()
        self.s, self.norms, self.classifier = s, norms, classifier
        self.embedding = build_embedding(s)
        self.layer = build(block, s, norms=norms, precision="fp32")
        self.head = build_loss(classifier, s, norms=norms, precision="fp32")
        graphs = {"": self.embedding, **{f"layers.{i}.": self.layer for i in range(s.layers)}, " ": self.head}
        random = np.random.default_rng(0)
        self.parameters: Arrays = {}
        for prefix, graph in graphs.items():
            for known in graph.parameters.values():
                self.parameters.setdefault(prefix.strip() + known.name, random_parameter(known, random))
        self.parameters["embedding"] *= 50.0  # so that the first norm has something to do

    def of(self, graph: BlockGraph, prefix: str = "") -> Arrays:
        return {known.name: self.parameters[prefix + known.name] for known in graph.parameters.values()}

    def run(self, ids: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, float, Arrays]:
        """Logits [vocab, T], the loss, and the gradients of SCALE times it."""
        s = self.s
        derived = [differentiate(graph) for graph in (self.embedding, self.layer, self.head)]
        gradients = {name: np.zeros_like(array) for name, array in self.parameters.items()}
        zeros = np.zeros((1, s.dim, 1, s.tokens))
        x = reference.run(derived[0], {"ids": ids, "d_y": zeros}, self.of(self.embedding)).outputs["y"]
        inputs = []  # of the layers
        for i in range(s.layers):
            inputs.append(x)
            x = reference.run(derived[1], {"x": x, "d_y": zeros}, self.of(self.layer, f"layers.{i}.")).outputs["y"]
        logits = self.logits(x)
        end = {"x": x, "targets": targets, "scale": np.array([SCALE])}
        head = reference.run(derived[2], end, self.of(self.head))
        add(gradients, head.parameters)
        dx = head.gradients["x"]
        for i in reversed(range(s.layers)):
            prefix = f"layers.{i}."
            result = reference.run(derived[1], {"x": inputs[i], "d_y": dx}, self.of(self.layer, prefix))
            add(gradients, {prefix + name: array for name, array in result.parameters.items()})
            dx = result.gradients["x"]
        add(gradients, reference.run(derived[0], {"ids": ids, "d_y": dx}, self.of(self.embedding)).parameters)
        return logits, head.outputs["loss"].item(), gradients

    def logits(self, x: np.ndarray) -> np.ndarray:
        graph = build_logits(self.classifier, self.s, norms=self.norms)
        parts = reference.run(differentiate(graph), {"x": x, **seeds(graph)}, self.of(graph)).outputs
        return np.concatenate([parts[f"logits_{i}"][0, :, 0, :] for i in range(len(parts))])


def seeds(graph: BlockGraph) -> Arrays:
    return {f"d_{value.name}": np.zeros(value.shape) for value in graph.outputs}


def add(total: Arrays, more: Mapping[str, np.ndarray]) -> None:
    for name, array in more.items():
        total[name] = total[name] + array


@pytest.mark.parametrize("norms", ["host", "device"])
@pytest.mark.parametrize("name", SPECS)
def test_a_model_of_two_layers(name: str, norms: Place) -> None:
    for package in ("torch", "transformers"):
        need(importlib.util.find_spec(package), f"{package} is not installed")
    import torch

    s = SPECS[name]
    classifier = Classifier("host") if norms == "host" else Classifier("device", chunk_rows=40)
    chain = Chain(name, s, norms, classifier)
    random = np.random.default_rng(1)
    ids = random.integers(0, s.vocab, s.tokens)
    targets = random.integers(0, s.vocab, s.tokens)
    targets[::7] = -1
    logits, loss, gradients = chain.run(ids, targets)

    model = their_model(s, chain.parameters)
    expected = model(torch.tensor(ids).reshape(s.batch, s.seq)).logits.flatten(0, 1)  # [T, vocab]
    their_loss = torch.nn.functional.cross_entropy(expected, torch.tensor(targets), ignore_index=-1)
    (SCALE * their_loss).backward()
    assert_close(logits, expected.detach().T.numpy(), "logits", TOLERANCE)
    assert math.isclose(loss, their_loss.item(), rel_tol=1e-6)
    named = dict(model.named_parameters())
    for parameter, gradient in gradients.items():
        theirs = named[their_name(parameter)].grad.numpy()
        assert_close(half_split(gradient, parameter, s), theirs, f"gradient of {parameter}", TOLERANCE)
