"""What tests of file formats share: random models, and logits of a spec with weights in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anetrain import reference
from anetrain.autodiff import differentiate
from anetrain.blocks import Block, build, build_embedding, build_logits
from anetrain.formats import FormatError
from anetrain.graph import BlockGraph
from anetrain.model import Model
from anetrain.spec import ModelSpec
from tests.block_runs import random_parameter

Arrays = dict[str, np.ndarray]


def random_weights(spec: ModelSpec, seed: int = 0) -> Arrays:
    """fp32, gains from U(0.2, 3), embeddings large enough that every layer matters."""
    random = np.random.default_rng(seed)
    weights = {name: random_parameter(item, random) for name, item in Model(spec).parameters.items()}
    weights["embedding"] *= 20.0
    return {name: array.astype(np.float32) for name, array in weights.items()}


def logits(
    spec: ModelSpec, weights: Mapping[str, np.ndarray], ids: np.ndarray, block: Block | None = None
) -> np.ndarray:
    """[tokens, vocab] by the graphs of a Model, in float64."""
    s = replace(spec, seq=len(ids), batch=1)
    model = Model(s, block)

    def run(graph: BlockGraph, prefix: str, **inputs: np.ndarray) -> Arrays:
        held = {known.name: weights[prefix + known.name] for known in graph.parameters.values()}
        seeds = {f"d_{value.name}": np.zeros(value.shape) for value in graph.outputs}
        return reference.run(differentiate(graph), {**inputs, **seeds}, held).outputs

    x = run(build_embedding(s), "", ids=ids)["y"]
    for number, block in enumerate(model.layers):
        x = run(build(block, s, precision="fp32"), f"layers.{number}.", x=x)["y"]
    return run(build_logits(model.classifier, s), "", x=x)["logits_0"][0, :, 0, :].T


def assert_same(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    """Names, types, and values bit for bit."""
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert found[name].dtype == np.float32, name
        np.testing.assert_array_equal(found[name].view(np.uint32), array.view(np.uint32), err_msg=name)


def refused(read: Callable[[], Any], path: Path, *words: str) -> None:
    """One error that names the path and says the words."""
    with pytest.raises(FormatError) as caught:
        read()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value), f"{word!r} is not in: {caught.value}"
