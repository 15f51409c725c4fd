"""Weights that an update stages on its way: what surfaces hold, what is counted, and what failures leave."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from anetrain import cpu
from anetrain.optim import SGD, AdamW
from anetrain.pipeline import Pipeline
from anetrain.pipeline.errors import PlanError
from anetrain.pipeline.weights import Staging
from anetrain.trainer import Trainer
from tests.small_models import SPEC, model_of
from tests.support import emulator
from tests.trainers import SCHEDULE, batches, figures, pipeline_of, snapshot, trainer_of

CASES: dict[str, dict[str, Any]] = {
    "stacked": {"layout": "stacked"},
    "separate": {"layout": "separate"},
    "packed": {"layout": "packed"},
    "all extras": {"extras": "all"},
    "tied, on the device": {"spec": replace(SPEC, tied=True), "extras": "all"},
    "separate, all extras": {"layout": "separate", "extras": "all"},
    "single linears": {"granularity": "linear", "layout": "separate"},
    "larger": {"spec": replace(SPEC, dim=192, hidden=330, heads=6, kv_heads=2, head_dim=32)},
    "fp32": {"fp32": True},
}


def surfaces_of(pipeline: Pipeline) -> dict[str, bytes]:
    """What is on all surfaces with weights."""
    found = {}
    for number, layer in enumerate(pipeline.stack.layers):
        for name, placed in layer.surfaces.items():
            if layer.compiled.plan.surfaces[name].weights:
                with placed.surface.lock() as view:
                    found[f"{number} {name}"] = bytes(view)
    return found


def optimizer_of(pipeline: Pipeline, kind: Any = AdamW) -> Any:
    return kind(pipeline.model.parameters, pipeline.weights, pipeline.gradients)


def fill(pipeline: Pipeline, seed: int) -> None:
    random = np.random.default_rng(seed)
    for gradient in pipeline.gradients.values():
        gradient[:] = random.standard_normal(gradient.shape)


def overwrite(pipeline: Pipeline) -> None:
    """So that what is not staged shows."""
    for layer in pipeline.stack.layers:
        for _, surface, block in layer.staging.copied:
            values, begin, row_stride = block
            with surface.surface.lock(write=True) as view:
                elements = view.view(np.float16)[begin:]
                np.lib.stride_tricks.as_strided(elements, values.shape, (2 * row_stride, 2))[:] = -99.0


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("case", CASES)
def test_surfaces_are_those_of_staging(case: str, threads: int) -> None:
    options = dict(CASES[case])
    fp32 = options.get("fp32", False)
    device = emulator(fp32=fp32)
    copying, staging = (model_of(device=device, **options) for _ in range(2))
    both = [(pipeline, optimizer_of(pipeline)) for pipeline in (copying, staging)]
    cpu.set_threads(threads)
    try:
        for update in range(3):
            overwrite(copying)
            copying.clear_traffic()
            staging.clear_traffic()
            for pipeline, optimizer in both:
                fill(pipeline, update)
                optimizer.step(0.01, 1, copies=copying.copies if pipeline is copying else None)
            copying.stage(copied=True)
            staging.stage()
            assert surfaces_of(copying) == surfaces_of(staging)
            assert copying.traffic == staging.traffic
            assert copying.traffic.staged_bytes
            for name, weight in copying.weights.items():
                assert weight.tobytes() == staging.weights[name].tobytes()
    finally:
        cpu.set_threads(None)
    matrices = sum(len(layer.staging.copied) for layer in copying.stack.layers)
    assert (matrices == 0) == fp32


def test_everything_is_converted_once() -> None:
    """What copies take and what they leave is all there is, and nothing is both."""
    pipeline = model_of(extras="all")
    written = 0
    for layer in pipeline.stack.layers:
        left = sum(moves_elements(layer.staging, surface) for surface in layer.surfaces.values())
        copied = sum(block[0].size for _, _, block in layer.staging.copied)
        written += left + copied
        assert copied or not layer.compiled.plan.weights
    assert 2 * written == pipeline.traffic.staged_bytes


def moves_elements(staging: Staging, surface: Any) -> int:
    """How many elements the staging behind copies writes to a surface."""
    count = 0
    with surface.surface.lock() as view:
        before = np.array(view)
    for value in (0x3C, 0x3D):  # whatever is written differs from one of them
        with surface.surface.lock(write=True) as view:
            view[:] = value
        staging.stage(copied=True)
        with surface.surface.lock() as view:
            count = max(count, int(np.count_nonzero(np.array(view).view(np.uint16) != value * 0x101)))
    with surface.surface.lock(write=True) as view:
        view[:] = before
    return count


def test_an_update_that_fails_leaves_nothing_staged(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, mirror = model_of(), model_of()
    optimizer = optimizer_of(pipeline)
    real = cpu.adamw

    def fails(*arguments: Any, **options: Any) -> None:
        real(*arguments, **options)
        raise MemoryError("halfway")

    monkeypatch.setattr(cpu, "adamw", fails)
    fill(pipeline, 1)
    with pytest.raises(MemoryError, match="halfway"):
        optimizer.step(0.01, 1, copies=pipeline.copies)
    ids = np.zeros((SPEC.batch, SPEC.seq), np.int64)
    with pytest.raises(PlanError, match="not on the device"):
        pipeline.evaluate(ids, ids)
    with pytest.raises(PlanError, match=r"call stage\(\) first"):
        pipeline.stack.layers[1].forward()
    with pytest.raises(PlanError, match="stage all weights"):
        pipeline.stage(copied=True)
    pipeline.stage()
    for name, weight in pipeline.weights.items():
        mirror.weights[name][:] = weight
    mirror.stage()
    assert surfaces_of(pipeline) == surfaces_of(mirror)
    with pytest.raises(PlanError, match="stage all weights"):
        pipeline.stage(copied=True)


def test_copies_of_weights_that_were_not_staged_are_not_enough() -> None:
    pipeline = model_of()
    optimizer = optimizer_of(pipeline)
    for _ in range(2):  # the second update begins with surfaces that lack the rest of the first
        fill(pipeline, 1)
        optimizer.step(0.01, 1, copies=pipeline.copies)
    with pytest.raises(PlanError, match="stage all weights"):
        pipeline.stage(copied=True)
    pipeline.stage()


def test_a_refused_step_touches_no_surface() -> None:
    pipeline = model_of()
    before = surfaces_of(pipeline)
    pipeline.gradients["embedding"][0, 0] = np.inf
    result = optimizer_of(pipeline).step(0.01, 1, copies=pipeline.copies)
    assert (result.finite, result.copied) == (False, False)
    assert surfaces_of(pipeline) == before
    ids = np.zeros((SPEC.batch, SPEC.seq), np.int64)
    pipeline.evaluate(ids, ids)


def test_who_takes_copies() -> None:
    pipeline = model_of()

    assert optimizer_of(pipeline).takes_copies
    for kind in (SGD, Plain):
        optimizer = optimizer_of(pipeline, kind)
        assert not optimizer.takes_copies
        with pytest.raises(ValueError, match="makes no copies"):
            optimizer.step(0.1, 1, copies=pipeline.copies)
    assert model_of(layout="baked").copies is None


class Plain(AdamW):
    """An update of its own, so no copies are made."""

    def _update(self, lr: float, factor: float) -> None:
        super()._update(lr, factor)


@pytest.mark.parametrize("layout", ["stacked", "separate", "packed"])
def test_a_trainer_that_copies_is_one_that_stages(layout: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Updates with an overflow, an error of the device and a failed staging in between."""
    copying = trainer_of(pipeline_of(layout=layout))
    pipeline = pipeline_of(layout=layout)
    staging = Trainer(pipeline, optimizer_of(pipeline, Plain), SCHEDULE, scaler=copying.scaler, accumulation=3)
    staging.scaler = type(copying.scaler)(2.0**12)
    calls: list[bool] = []
    stage = copying.pipeline.stage

    def noted(copied: bool = False) -> None:
        calls.append(copied)
        stage(copied)

    monkeypatch.setattr(copying.pipeline, "stage", noted)
    for update in range(6):
        group = batches(3, seed=update)
        for trainer in (copying, staging):
            if update == 2:
                trainer.pipeline.device.inject_fault("evaluate", after=5)
            if update == 3:
                trainer.optimizer._gradients[0][0, 0] = np.inf
        results = [figures(trainer.step(group)) for trainer in (copying, staging)]
        assert results[0] == results[1]
        assert results[0].applied == (update != 3)
        assert snapshot(copying) == snapshot(staging)
        assert surfaces_of(copying.pipeline) == surfaces_of(staging.pipeline)
    assert copying.pipeline.traffic == staging.pipeline.traffic
    assert calls == [False] + [True] * 5


def test_the_rest_that_fails_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    copying, mirror = (trainer_of(pipeline_of(extras="all")) for _ in range(2))
    stage = Staging.stage

    def fails(self: Staging, copied: bool = False) -> None:
        monkeypatch.setattr(Staging, "stage", stage)
        raise OSError("no room")

    for trainer in (copying, mirror):
        trainer.step(batches(3))
    monkeypatch.setattr(Staging, "stage", fails)
    with pytest.raises(OSError, match="no room"):
        copying.step(batches(3, seed=1))
    mirror.step(batches(3, seed=1))
    for array in copying.pipeline.weights.values():  # all are staged anew, whatever the copies were
        array += 0.5
    for array in mirror.pipeline.weights.values():
        array += 0.5
    mirror.pipeline.stage()
    assert figures(copying.step(batches(3, seed=2))) == figures(mirror.step(batches(3, seed=2)))
    assert surfaces_of(copying.pipeline) == surfaces_of(mirror.pipeline)
