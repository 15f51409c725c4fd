"""Small models in training: the loss curve of 200 updates is that of PyTorch, and a model can learn a text by heart."""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np
import pytest

from anetrain.device import Device
from anetrain.graph.builder import Precision
from anetrain.lower import Layout
from anetrain.mil.types import Array
from anetrain.model import Model
from anetrain.optim import AdamW
from anetrain.pipeline import make_pipeline
from anetrain.schedule import Schedule
from anetrain.spec import ModelSpec
from tests import curve_task as task
from tests.ane_abi import ROOT
from tests.emulated import Arrays
from tests.support import emulator


def train(
    device: Device,
    s: ModelSpec,
    weights: Arrays,
    batches: Iterable[tuple[Array, Array]],
    schedule: Schedule,
    layout: Layout = "stacked",
) -> list[float]:
    """The loss before each update."""
    model = Model(s)
    precision: Precision = "fp32" if device.facts["fp32"] else "fp16"
    pipeline = make_pipeline(device, model, weights, layout=layout, precision=precision)
    optimizer = AdamW(
        model.parameters,
        pipeline.weights,
        pipeline.gradients,
        betas=task.BETAS,
        eps=task.EPS,
        weight_decay=task.WEIGHT_DECAY,
        clip=task.CLIP,
    )
    losses = []
    for update, (ids, targets) in enumerate(batches):
        losses.append(pipeline.micro_step(ids, targets, loss_scale=2.0**12))
        assert optimizer.step(schedule(update), count=1).finite
        pipeline.stage()
    return losses


@pytest.mark.parametrize(
    ("profile", "fp32", "tolerance"), [("exact", True, 1e-4), ("exact", False, 2e-3), ("m4", False, 1e-2)]
)
def test_the_loss_curve_is_that_of_pytorch(profile: str, fp32: bool, tolerance: float) -> None:
    golden = np.array(json.loads((ROOT / "tests" / "golden" / "curve.json").read_text()))
    assert golden[-20:].mean() < 0.6 * golden[0], "the model learns"
    schedule = Schedule("cosine", lr=task.PEAK_LR, updates=task.UPDATES, warmup=task.WARMUP, min_ratio=task.LEAST)
    losses = np.array(train(emulator(profile, fp32=fp32), task.SPEC, task.first_weights(), task.batches(), schedule))
    worst = np.abs(losses / golden - 1.0).argmax()
    assert abs(losses[worst] / golden[worst] - 1.0) <= tolerance, f"update {worst}: {losses[worst]}, {golden[worst]}"


@pytest.mark.parametrize(("preset", "chip"), [("tiny-llama", "m4"), ("tiny-qwen3", "m1")])
def test_a_small_model_learns_256_tokens_by_heart(preset: str, chip: str) -> None:
    model = Model.preset(preset, batch=4, seq=64)
    words = np.random.default_rng(9).integers(0, model.spec.vocab, 257)
    batch = words[:-1].reshape(4, 64), words[1:].reshape(4, 64)
    schedule = Schedule("cosine", lr=1e-2, updates=200, warmup=10, min_ratio=0.1)
    losses = train(emulator(chip), model.spec, model.initial(0), [batch] * 200, schedule)
    assert losses[0] > 5.0
    assert losses[-1] < 0.05
