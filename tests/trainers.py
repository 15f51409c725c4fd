"""What tests of the Trainer share: a small model with gains that are not 1, batches, and what there is to compare."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from anetrain import events
from anetrain.device import Device
from anetrain.mil.types import Array
from anetrain.model import Model
from anetrain.optim import AdamW
from anetrain.pipeline import Pipeline, make_pipeline
from anetrain.scaler import LossScaler
from anetrain.schedule import Schedule
from anetrain.spec import ModelSpec
from anetrain.trainer import StepResult, Trainer
from tests.support import emulator

SPEC = ModelSpec(dim=16, hidden=24, layers=2, heads=2, kv_heads=1, head_dim=8, vocab=37, seq=12, batch=2)
SCHEDULE = Schedule("cosine", lr=1e-2, updates=30, warmup=3, min_ratio=0.1)
Pair = tuple[Array, Array]


def weights_of(model: Model, seed: int = 3) -> dict[str, Array]:
    weights = model.initial(seed)
    random = np.random.default_rng(seed)
    for weight in weights.values():
        if weight.ndim == 1:
            weight[:] = random.uniform(0.5, 2.0, weight.shape)
    return weights


def pipeline_of(
    spec: ModelSpec = SPEC, device: Device | None = None, weights: dict[str, Array] | None = None, **options: Any
) -> Pipeline:
    model = Model(spec)
    fp32 = options.pop("fp32", False)
    precision = "fp32" if fp32 else "fp16"
    weights = weights or weights_of(model)
    return make_pipeline(device or emulator(fp32=fp32), model, weights, precision=precision, **options)


def trainer_of(
    pipeline: Pipeline | None = None,
    *,
    accumulation: int = 3,
    scale: float = 2.0**12,
    clip: float | None = 1.0,
    growth_interval: int = 200,
    listeners: Iterable[events.Listener] = (),
    retries: int = 3,
    **options: Any,
) -> Trainer:
    pipeline = pipeline or pipeline_of(**options)
    optimizer = AdamW(pipeline.model.parameters, pipeline.weights, pipeline.gradients, clip=clip)
    scaler = LossScaler(scale, growth_interval)
    return Trainer(
        pipeline,
        optimizer,
        SCHEDULE,
        scaler=scaler,
        accumulation=accumulation,
        listeners=listeners,
        retries=retries,
    )


def batches(count: int, seed: int = 5, spec: ModelSpec = SPEC, ignored: bool = True) -> list[Pair]:
    """Targets that do not count are spread unevenly over the batches."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        ids, targets = random.integers(0, spec.vocab, (2, spec.batch, spec.seq))
        if ignored:
            targets[random.random(targets.shape) < 0.2 * (number % 4)] = -1
        found.append((ids, targets))
    return found


def counted(group: Iterable[Pair]) -> int:
    return sum(int((targets != -1).sum()) for _, targets in group)


def snapshot(trainer: Trainer) -> dict[str, bytes]:
    """Weights, the optimizer's arrays and count, gradients."""
    state = trainer.optimizer.state()
    arrays = {f"weight {name}": array for name, array in trainer.pipeline.weights.items()}
    arrays |= {f"gradient {name}": array for name, array in trainer.pipeline.gradients.items()}
    return {name: array.tobytes() for name, array in (arrays | state.arrays).items()} | {
        "updates": bytes([state.integers["updates"]])
    }


def figures(result: StepResult) -> StepResult:
    """Without its times, and without how often the device failed."""
    return replace(result, seconds=0.0, parts={}, replays=0)
