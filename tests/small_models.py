"""Small models in a pipeline, their gains not 1: what tests of the pipeline share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from anetrain.blocks import Block, Classifier, LlamaBlock
from anetrain.mil.types import Array
from anetrain.model import Model
from anetrain.pipeline import Pipeline, make_pipeline
from anetrain.spec import ModelSpec
from tests.support import emulator

SPEC = ModelSpec(dim=48, hidden=85, layers=2, heads=6, kv_heads=3, head_dim=8, vocab=61, seq=20, batch=2)


def model_of(
    spec: ModelSpec = SPEC,
    blocks: Sequence[Block] = (LlamaBlock(), LlamaBlock()),  # equal, but not the same object
    classifier: Classifier | None = None,
    *,
    fp32: bool = False,
    causal: bool = True,
    device: Any = None,
    **options: Any,
) -> Pipeline:
    model = Model(replace(spec, layers=len(blocks)), blocks, classifier=classifier, causal=causal)
    weights = model.initial(seed=3)
    rng = np.random.default_rng(4)
    for weight in weights.values():
        if weight.ndim == 1:
            weight[:] = rng.uniform(0.2, 3.0, weight.shape)
    precision = "fp32" if fp32 else "fp16"
    return make_pipeline(device or emulator(fp32=fp32), model, weights, precision=precision, **options)


def batch(spec: ModelSpec = SPEC, seed: int = 5, *, ignored: bool = True) -> tuple[Array, Array]:
    """Ids and targets; one target is -1."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, spec.vocab, (spec.batch, spec.seq))
    if ignored:
        targets[0, 3] = -1
    return rng.integers(0, spec.vocab, (spec.batch, spec.seq)), targets


def step(pipeline: Pipeline, ids: Array, targets: Array, loss_scale: float = 2.0**16) -> float:
    """The loss, and its gradients alone."""
    pipeline.clear_gradients()
    return pipeline.micro_step(ids, targets, loss_scale=loss_scale)


def copied(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name: array.copy() for name, array in arrays.items()}
