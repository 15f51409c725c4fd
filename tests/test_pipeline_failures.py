"""Whatever fails in a micro-step: its group is dropped, nothing of it stays, and what is raised says what to do."""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from anetrain.device import Device
from anetrain.errors import DeviceUnavailable, EvalError
from anetrain.pipeline import Layer, NonFiniteError, Pipeline
from tests.small_models import batch, copied, model_of, step
from tests.support import emulator


class Judge:
    """Knows what a micro-step gives, and asks for the same bits again."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.loss = step(pipeline, *batch())
        self.gradients, self.weights = copied(pipeline.gradients), copied(pipeline.weights)

    def fails(self, error: type[BaseException], match: str | None = None, loss_scale: float = 2.0**16) -> None:
        """In a group that has begun."""
        for name, gradient in self.pipeline.gradients.items():
            gradient[:] = self.gradients[name]
        with pytest.raises(error, match=match):
            self.pipeline.micro_step(*batch(), loss_scale=loss_scale)
        assert not any(gradient.any() for gradient in self.pipeline.gradients.values()), "the group was not dropped"

    def can_be_repeated(self) -> None:
        assert self.pipeline.micro_step(*batch()) == self.loss
        for name, gradient in self.pipeline.gradients.items():
            assert np.array_equal(gradient, self.gradients[name]), name
            assert np.array_equal(self.pipeline.weights[name], self.weights[name]), name


@pytest.mark.parametrize("overlap", [False, True])
def test_a_failure_of_any_evaluation(overlap: bool) -> None:
    judge = Judge(model_of(overlap=overlap))
    pipeline = judge.pipeline
    dispatches = pipeline.traffic.dispatches
    assert dispatches == 8
    for evaluation in range(dispatches):
        pipeline.device.inject_fault("evaluate", after=evaluation)
        judge.fails(EvalError, r"^LlamaBlock (for|back)ward \d: ")
        judge.can_be_repeated()


@pytest.mark.parametrize("bad", [np.inf, np.nan, 1e6])
@pytest.mark.parametrize("name", ["layers.0.attention.wo", "layers.1.ffn.w2", "layers.1.ffn_norm", "final_norm"])
def test_a_weight_that_is_not_finite(name: str, bad: float) -> None:
    """1e6 is infinite on the device only; on the host it is a large loss, whose gradient may overflow."""
    judge = Judge(model_of())
    pipeline = judge.pipeline
    kept = pipeline.weights[name].flat[5]
    pipeline.weights[name].flat[5] = bad
    pipeline.stage()
    judge.fails((FloatingPointError, NonFiniteError))  # type: ignore[arg-type]
    pipeline.weights[name].flat[5] = kept
    pipeline.stage()
    judge.can_be_repeated()


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_an_activation_that_is_not_finite(bad: float, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Judge(model_of())
    layer = judge.pipeline.stack.layers[1]
    forward = layer.forward

    def spoilt(inputs: Any = None) -> Any:
        outputs = forward(inputs)
        outputs["y"][0, 3, 0, 7] = bad
        return outputs

    monkeypatch.setattr(layer, "forward", spoilt)
    judge.fails(FloatingPointError, "the loss is nan: weights or activations")
    monkeypatch.undo()
    judge.can_be_repeated()


def test_an_overflow_of_gradients_leads_to_a_smaller_loss_scale() -> None:
    judge = Judge(model_of())
    judge.fails(NonFiniteError, "half the loss scale", loss_scale=2.0**40)
    judge.can_be_repeated()
    step(judge.pipeline, *batch(), loss_scale=2.0**8)
    for name, gradient in judge.pipeline.gradients.items():
        assert np.linalg.norm(judge.gradients[name] - gradient) < 5e-2 * np.linalg.norm(gradient), name


def test_a_mistake_of_the_caller() -> None:
    judge = Judge(model_of())
    ids, targets = batch()
    for wrong in (np.full_like(ids, 61), np.full_like(ids, -1), np.full_like(ids, 2**32)):
        with pytest.raises(ValueError, match=r"ids: from .* expected 0 to 60"):
            judge.pipeline.micro_step(wrong, targets)
        with pytest.raises(ValueError, match=r"targets: from .* expected -1 to 60"):
            judge.pipeline.evaluate(ids, wrong - (wrong == -1))
    judge.pipeline.clear_gradients()
    judge.can_be_repeated()


def test_a_failed_evaluation_leaves_the_group_as_it_is() -> None:
    judge = Judge(model_of())
    pipeline = judge.pipeline
    for evaluation in range(4):
        pipeline.device.inject_fault("evaluate", after=evaluation)
        with pytest.raises(EvalError, match="forward"):
            pipeline.evaluate(*batch())
        for name, gradient in pipeline.gradients.items():
            assert np.array_equal(gradient, judge.gradients[name]), name
        assert pipeline.evaluate(*batch()).mean == judge.loss
    pipeline.clear_gradients()
    judge.can_be_repeated()


@pytest.mark.parametrize("moment", range(4))
def test_an_interruption_while_a_task_runs(moment: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C comes where the lane is waited for."""
    judge = Judge(model_of(overlap=True))
    add, calls = Layer._add_records, iter(range(100))
    result = Future.result

    def slow(self: Layer, alpha: float) -> None:
        time.sleep(0.01)
        add(self, alpha)

    def interrupted(self: Future[object], timeout: float | None = None) -> object:
        if next(calls) == moment:
            raise KeyboardInterrupt
        return result(self, timeout)

    monkeypatch.setattr(Layer, "_add_records", slow)
    monkeypatch.setattr(Future, "result", interrupted)
    judge.fails(KeyboardInterrupt)
    monkeypatch.undo()
    time.sleep(0.05)
    judge.can_be_repeated()


def lost_device() -> tuple[Device, Pipeline]:
    device = emulator(watchdog_s=0.2)
    return device, model_of(device=device)


def test_a_lost_device_says_so_and_leaves_what_is_to_be_saved(caplog: pytest.LogCaptureFixture) -> None:
    device, pipeline = lost_device()
    judge = Judge(pipeline)
    device.inject_fault("stall", after=5, seconds=0.4)
    for _ in range(2):  # the evaluation that did not come back, and any after it
        judge.fails(DeviceUnavailable, "Save and restart the process")
    assert device.counters().poisoned
    for name, weight in pipeline.weights.items():
        assert np.array_equal(weight, judge.weights[name]), name
    with caplog.at_level(logging.WARNING, "anetrain"):
        pipeline.unload()  # as a trainer does on its way out
    assert "go with the process" in caplog.text
