"""What fails in a group leaves no trace: overflow moves on with half the scale, a device error runs the group again."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from dataclasses import replace

import pytest

from anetrain import events
from anetrain.device import Device
from anetrain.errors import BudgetError, SurfaceError
from anetrain.pipeline import Layer
from anetrain.trainer import DeviceFailedError, DivergedError, StepResult, Trainer
from tests.ane_abi import ROOT
from tests.support import emulator
from tests.trainers import SPEC, batches, figures, pipeline_of, snapshot, trainer_of

SMALL = replace(SPEC, layers=1)


@pytest.fixture(scope="module")
def device() -> Device:
    return emulator()


def evaluations_of_a_group(device: Device) -> int:
    trainer = trainer_of(spec=SMALL, device=device, accumulation=2)
    before = device.counters().evaluations
    trainer.step(batches(2, spec=SMALL))
    return device.counters().evaluations - before


@pytest.fixture(scope="module")
def without(device: Device) -> tuple[StepResult, dict[str, bytes]]:
    """Two groups with an overflow between them, as if what overflowed had never been there."""
    trainer = trainer_of(spec=SMALL, device=device, accumulation=2)
    trainer.step(batches(2, 0, SMALL))
    trainer.scaler.overflow()
    return figures(trainer.step(batches(2, 2, SMALL))), snapshot(trainer)


# ---------------------------------------------------------------- values that are not finite


def received(trainer: Trainer) -> list[tuple[Layer, int]]:
    """All that backward has from the device."""
    layers = trainer.pipeline.stack.layers
    return [(layer, index) for layer in layers for index in range(len(layer._received))]


def spoil(layer: Layer, index: int, value: float, run: int) -> None:
    """What arrives there in run number `run` from now has one element of `value`."""
    look, runs = layer._look_at_received, itertools.count()

    def wrong() -> None:
        if next(runs) == run:
            layer._values[layer._received[index]].reshape(-1)[-1] = value
        look()

    layer._look_at_received = wrong  # type: ignore[method-assign]


@pytest.mark.parametrize(("value", "run"), [(math.inf, 0), (math.inf, 1), (-math.inf, 1), (math.nan, 1)])
def test_a_value_that_is_not_finite_drops_the_group(
    device: Device, without: tuple[StepResult, dict[str, bytes]], value: float, run: int
) -> None:
    """In either micro-step of the group, wherever it comes from the device."""
    for index in range(len(received(trainer_of(spec=SMALL, device=device)))):
        trainer = trainer_of(spec=SMALL, device=device, accumulation=2)
        trainer.step(batches(2, 0, SMALL))
        before = snapshot(trainer)
        spoil(*received(trainer)[index], value, run)
        result = trainer.step(batches(2, 1, SMALL))
        assert (result.applied, result.loss_scale, trainer.scaler.scale) == (False, 2.0**12, 2.0**11)
        assert "not finite" in result.reason
        assert snapshot(trainer) == before
        assert not any(gradient.any() for gradient in trainer.pipeline.gradients.values())
        assert trainer.micro_steps == 4
        assert (figures(trainer.step(batches(2, 2, SMALL))), snapshot(trainer)) == without


@pytest.mark.parametrize("value", [math.inf, math.nan, 3e38])
def test_a_norm_that_is_not_finite_drops_the_group(device: Device, value: float) -> None:
    """In fp32 gradients, where no value of the device showed it. 3e38 is finite; its square is past what is kept."""
    trainer = trainer_of(spec=SMALL, device=device, accumulation=2, clip=None)
    inject = {"on": False}

    def last_step(event: events.Event) -> None:
        if inject["on"] and isinstance(event, events.Step) and event.micro_step % 2 == 0:
            trainer.pipeline.gradients["layers.0.ffn.w1"][3, 4] = value
            inject["on"] = False

    trainer.events.add(last_step)
    first, second = batches(2, spec=SMALL), batches(2, seed=1, spec=SMALL)
    trainer.step(first)
    before = snapshot(trainer)
    inject["on"] = True
    result = trainer.step(second)
    assert not inject["on"]
    assert (result.applied, trainer.scaler.scale) == (False, 2.0**11)
    assert "norm" in result.reason
    assert math.isfinite(result.loss)
    assert snapshot(trainer) == before
    staged = trainer.pipeline.traffic.staged_bytes  # when it was made, before the first step, after one update
    assert trainer.step(second).applied
    assert trainer.pipeline.traffic.staged_bytes == staged + staged // 3


def test_a_scale_that_is_too_large_is_found(device: Device) -> None:
    """Nothing is injected: gradients overflow fp16 at 2^24 times a model with a large classifier."""
    pipeline = pipeline_of(SMALL, device)
    pipeline.weights["embedding"] *= 40.0
    heard: list[events.Event] = []
    trainer = trainer_of(pipeline, scale=2.0**24, listeners=[heard.append])
    pipeline.stage()
    stream = (pair for seed in range(100) for pair in batches(3, seed, SMALL))
    result = trainer.fit(stream, 5)
    assert (result.updates, trainer.updates) == (5, 5)
    assert result.dropped > 2
    overflows = [event for event in heard if isinstance(event, events.Overflow)]
    assert [event.loss_scale for event in overflows[:3]] == [2.0**23, 2.0**22, 2.0**21]
    assert len(overflows) == result.dropped == trainer.scaler.counters.overflows
    assert all(event.infinite >= 1 and "not finite" in event.where for event in overflows)
    assert trainer.micro_steps == 3 * (5 + result.dropped)


def test_what_a_dropped_group_put_out_does_not_hold_the_scale_back(device: Device) -> None:
    trainer = trainer_of(spec=SMALL, device=device, accumulation=2, growth_interval=1)
    for layer in trainer.pipeline.stack.layers:
        layer.largest_received = 6e4
    spoil(*received(trainer)[0], math.inf, run=1)
    group = batches(2, spec=SMALL)
    assert not trainer.step(group).applied
    assert trainer.step(group).applied
    assert trainer.scaler.scale == 2.0**12  # halved, then grown


def test_the_scale_grows_as_far_as_outputs_allow(device: Device) -> None:
    trainer = trainer_of(spec=SMALL, device=device, scale=1.0, accumulation=1, growth_interval=1)
    data = iter(batches(30, spec=SMALL))
    scales = [trainer.step(data).loss_scale for _ in range(30)]
    assert all(after in (before, 2 * before) for before, after in itertools.pairwise(scales))
    assert 2.0**8 < scales[-1] == scales[-2]
    trainer.pipeline.micro_step(*batches(1)[0], loss_scale=scales[-1])
    assert 2.0**11 < trainer.pipeline.largest_output < 2.0**14


def test_a_loss_that_is_not_finite_stops_with_a_diagnosis(device: Device) -> None:
    trainer = trainer_of(spec=SMALL, device=device)
    trainer.pipeline.weights["layers.0.attention.wv"][:] = 1e5
    trainer.pipeline.stage()
    before, scale = snapshot(trainer), trainer.scaler.scale
    with pytest.raises(DivergedError) as raised:
        trainer.step(batches(3, spec=SMALL))
    says = str(raised.value)
    beyond = "the largest, in layers.0.attention.wv, is 1e+05, beyond fp16's 65504"
    for words in ("update 1", "the loss is nan", beyond, "came from layers.0, from inputs of at most 0.0"):
        assert words in says
    assert snapshot(trainer) == before
    assert trainer.scaler.scale == scale


def test_weights_that_are_not_finite_are_named(device: Device) -> None:
    trainer = trainer_of(spec=SMALL, device=device)
    trainer.pipeline.weights["final_norm"][2] = math.nan
    with pytest.raises(DivergedError, match=r"Weights are not finite: final_norm\..* go back to an earlier checkpoint"):
        trainer.step(batches(3, spec=SMALL))


def test_overflow_at_the_smallest_scale_stops(device: Device) -> None:
    trainer = trainer_of(spec=SMALL, device=device, scale=2.0)
    before = snapshot(trainer)
    for run in range(2):
        spoil(*received(trainer)[0], math.inf, run)
    assert not trainer.step(batches(1, spec=SMALL)).applied
    with pytest.raises(DivergedError, match=r"even at a loss scale of 1.*Weights are finite; the largest"):
        trainer.step(batches(1, spec=SMALL))
    assert snapshot(trainer) == before


# ---------------------------------------------------------------- the device fails


def test_every_failed_evaluation_is_undone_and_run_again(device: Device) -> None:
    first, second = batches(2, spec=SMALL), batches(2, seed=1, spec=SMALL)
    mirror = trainer_of(spec=SMALL, device=device, accumulation=2)
    expected = [figures(mirror.step(group)) for group in (first, second)]
    count = evaluations_of_a_group(device)
    assert count >= 8
    for k in range(count):
        heard: list[events.Event] = []
        trainer = trainer_of(spec=SMALL, device=device, accumulation=2, listeners=[heard.append])
        assert figures(trainer.step(first)) == expected[0]
        device.inject_fault("evaluate", after=k)
        result = trainer.step(second)
        assert result.replays == 1
        assert figures(result) == expected[1]
        assert snapshot(trainer) == snapshot(mirror)
        assert trainer.state().values == mirror.state().values
        failures = [event for event in heard if isinstance(event, events.Failure)]
        assert [(event.update, event.replayed) for event in failures] == [(1, True)]
        losses = {event.micro_step: event.loss for event in heard if isinstance(event, events.Step)}
        assert sorted(losses) == [1, 2, 3, 4]


def test_every_failed_evaluation_leaves_no_trace(device: Device) -> None:
    first, second = batches(2, spec=SMALL), batches(2, seed=1, spec=SMALL)
    mirror = trainer_of(spec=SMALL, device=device, accumulation=2)
    mirror.step(first)
    expected = figures(mirror.step(second))
    for k in range(evaluations_of_a_group(device)):
        trainer = trainer_of(spec=SMALL, device=device, accumulation=2, retries=0)
        trainer.step(first)
        before, values = snapshot(trainer), trainer.state().values
        device.inject_fault("evaluate", after=k)
        with pytest.raises(DeviceFailedError, match="failed 1 times"):
            trainer.step(second)
        assert snapshot(trainer) == before
        assert trainer.state().values == values
        assert figures(trainer.step(second)) == expected
        assert snapshot(trainer) == snapshot(mirror)


def test_retries_are_bounded(device: Device) -> None:
    heard: list[events.Event] = []
    trainer = trainer_of(spec=SMALL, device=device, accumulation=1, retries=2, listeners=[heard.append])
    before = snapshot(trainer)
    device.inject_fault("evaluate")
    trainer.events.add(lambda event: device.inject_fault("evaluate") if isinstance(event, events.Failure) else None)
    with pytest.raises(DeviceFailedError, match=r"failed 3 times at the same work.*: LlamaBlock forward 0"):
        trainer.step(batches(1, spec=SMALL))
    device.inject_fault("clear")
    assert snapshot(trainer) == before
    assert [event.replayed for event in heard if isinstance(event, events.Failure)] == [True, True, False]
    assert trainer.step(batches(1, spec=SMALL)).applied


def test_a_failed_evaluation_of_validation_is_run_again(device: Device) -> None:
    trainer = trainer_of(spec=SMALL, device=device)
    expected = trainer.evaluate(batches(3, spec=SMALL))
    device.inject_fault("evaluate", after=1)
    assert trainer.evaluate(batches(3, spec=SMALL)) == expected
    assert device.counters().failed_evaluations


def test_a_run_with_faults_is_the_run_without(device: Device) -> None:
    data = batches(30, spec=SMALL)
    curves = []
    for faults in (False, True):
        losses: list[float] = []
        trainer = trainer_of(spec=SMALL, device=device)
        stream = iter(data)
        for number in range(10):
            if faults and number % 3 == 1:
                device.inject_fault("evaluate", after=2 * number)
            losses.append(trainer.step(stream).loss)
        curves.append((losses, snapshot(trainer)))
    assert curves[0] == curves[1]


def test_staging_that_fails_is_made_up_for(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """The update was taken, so it stays; the next step stages before it runs."""
    trainer, mirror = (trainer_of(spec=SMALL, device=device) for _ in range(2))
    first, second = batches(3, spec=SMALL), batches(3, seed=1, spec=SMALL)
    for each in (trainer, mirror):
        each.step(batches(3, seed=2, spec=SMALL))
    stage = trainer.pipeline.stage

    def fails(copied: bool = False) -> None:
        monkeypatch.setattr(trainer.pipeline, "stage", stage)
        raise OSError("no room")

    monkeypatch.setattr(trainer.pipeline, "stage", fails)
    with pytest.raises(OSError, match="no room"):
        trainer.step(first)
    mirror.step(first)
    assert snapshot(trainer) == snapshot(mirror)
    assert trainer.state().values == mirror.state().values
    assert figures(trainer.step(second)) == figures(mirror.step(second))


def test_a_lost_device_says_so() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOST], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "True True\n" * 3


LOST = """
from anetrain.trainer import DeviceLostError
from tests.support import emulator
from tests.trainers import *

device = emulator(watchdog_s=0.2)
trainer = trainer_of(device=device)
trainer.step(batches(3))
before = snapshot(trainer)
device.inject_fault("stall", after=5, seconds=60)
for work in (trainer.step, trainer.step, trainer.evaluate):
    try:
        work(batches(3))
    except DeviceLostError as error:
        says = "save a checkpoint and go on in a new process" in str(error) and "after 1 updates" in str(error)
        print(says, snapshot(trainer) == before)
"""


@pytest.mark.parametrize("error", [KeyError("broken"), SurfaceError("broken"), BudgetError("broken")])
def test_an_error_that_no_replay_mends_is_not_tried_again(
    device: Device, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    trainer = trainer_of(spec=SMALL, device=device)
    calls = []

    def fails(*_: object, **__: object) -> float:
        calls.append(1)
        raise error

    monkeypatch.setattr(trainer.pipeline, "micro_step", fails)
    trainer.pipeline.gradients["final_norm"][:] = 1.0
    with pytest.raises(type(error), match="broken"):
        trainer.step(batches(3, spec=SMALL))
    assert len(calls) == 1
    assert not trainer.pipeline.gradients["final_norm"].any()
