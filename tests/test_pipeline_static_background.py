"""Programs compiled in the background: how far behind they are, exactly; what a failure leaves; what stays alive."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest

from anetrain.device import Device, Program
from anetrain.errors import BudgetError
from anetrain.mil.types import Array
from anetrain.pipeline import Pipeline, StaticPipeline
from tests.ane_abi import ROOT
from tests.small_models import batch, copied, model_of, step
from tests.support import emulator

RATE = np.float32(0.02)


@pytest.fixture(autouse=True)
def _garbage_holds_no_programs() -> None:
    gc.collect()


def static(**options: Any) -> StaticPipeline:
    pipeline = model_of(layout="baked", **options)
    assert isinstance(pipeline, StaticPipeline)
    return pipeline


def baked_names(pipeline: Pipeline) -> set[str]:
    layers = zip(pipeline.model.parts, pipeline.stack.layers, strict=True)
    return {prefix + name for (prefix, _), layer in layers for name in layer.baked_weights()}


def descend(weights: dict[str, Array], gradients: dict[str, Array]) -> None:
    for name, weight in weights.items():
        weight -= RATE * gradients[name]


def simulated(steps: int, failing: int | None = None) -> tuple[list[float], dict[str, Array]]:
    """One thing after the other: baked weights of a step are those before the last update, or of one more before, where
    the programs of update `failing`, from 0, were not made."""
    pipeline = static()
    baked, weights = baked_names(pipeline), copied(pipeline.weights)
    in_place = begun = copied(weights)
    losses = []
    for number in range(steps):
        for name, array in pipeline.weights.items():
            np.copyto(array, in_place[name] if name in baked else weights[name])
        pipeline.stage()
        losses.append(step(pipeline, *batch(seed=number)))
        descend(weights, pipeline.gradients)
        if failing is None or number - 1 != failing:
            in_place = begun
        begun = copied(weights)
    return losses, weights


@pytest.mark.parametrize("slow", [False, True])
def test_every_step_is_that_of_a_serial_simulation(slow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, however long a compile takes."""
    expected_losses, expected = simulated(6)
    pipeline = static(background=True)
    compile = Device.compile

    def slowed(self: Device, text: Any, blobs: Any = None, label: str = "") -> Program:
        time.sleep(0.02)
        return compile(self, text, blobs, label)

    if slow:
        monkeypatch.setattr(Device, "compile", slowed)
    losses = []
    for number in range(6):
        losses.append(step(pipeline, *batch(seed=number)))
        descend(pipeline.weights, pipeline.gradients)
        pipeline.stage()
        assert pipeline.baking is not None
        assert pipeline.baking.updates_behind == 1
    assert losses == expected_losses
    for name, weight in pipeline.weights.items():
        assert np.array_equal(weight, expected[name]), name
    serial = static()
    for number in range(2):
        step(serial, *batch(seed=number))
        descend(serial.weights, serial.gradients)
        serial.stage()
    assert step(serial, *batch(seed=2)) != losses[2], "the staleness shows"
    pipeline.unload()


def test_the_device_runs_while_programs_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = static(background=True)
    compile, may_go = Device.compile, threading.Event()

    def held(self: Device, text: Any, blobs: Any = None, label: str = "") -> Program:
        assert may_go.wait(20)
        return compile(self, text, blobs, label)

    monkeypatch.setattr(Device, "compile", held)
    before = step(pipeline, *batch())
    pipeline.weights["layers.0.ffn.w1"] *= 2
    pipeline.stage()
    assert step(pipeline, *batch()) == before  # no compile has ended
    may_go.set()
    pipeline.stage()
    assert step(pipeline, *batch()) != before
    pipeline.unload()


@pytest.mark.parametrize("failing", range(8))
def test_a_failed_compile_keeps_the_old_programs_and_says_so(failing: int, caplog: pytest.LogCaptureFixture) -> None:
    """Of the second update: step 3 runs on what the first one brought, for the second time."""
    expected_losses, expected = simulated(6, failing=1)
    pipeline = static(background=True)
    baking = pipeline.baking
    assert baking is not None
    live = pipeline.device.counters().live_programs
    losses, behind, said = [], [], []
    for number in range(6):
        losses.append(step(pipeline, *batch(seed=number)))
        descend(pipeline.weights, pipeline.gradients)
        if number == 1:
            assert baking._next is not None
            baking._next.result()
            pipeline.device.inject_fault("compile", after=failing)
        with caplog.at_level(logging.WARNING, "anetrain"):
            pipeline.stage()
        behind.append(baking.updates_behind)
        said.append("were not made, and the old ones go on: LlamaBlock" in caplog.text)
        assert (baking.failure is not None) is (number == 2)
        caplog.clear()
    assert behind == [1, 1, 2, 1, 1, 1]
    assert said == [False, False, True, False, False, False]
    assert losses == expected_losses
    for name, weight in pipeline.weights.items():
        assert np.array_equal(weight, expected[name]), name
    baking.finish()
    assert pipeline.device.counters().live_programs == live
    pipeline.unload()
    assert pipeline.device.counters().live_programs == live - 8


def test_nothing_is_left_of_what_was_begun() -> None:
    pipeline = static(background=True)
    before = pipeline.device.counters()
    for number in range(25):
        step(pipeline, *batch(seed=number))
        descend(pipeline.weights, pipeline.gradients)
        pipeline.stage()
    pipeline.unload()
    after = pipeline.device.counters()
    assert after.live_programs == before.live_programs - 8
    assert after.compiles == before.compiles + 25 * 8
    assert pipeline.compiles == 8 + 24 * 8, "the last ones were given up"
    del pipeline
    gc.collect()
    assert emulator().counters().live_programs == before.live_programs - 8


def test_what_has_not_changed_is_not_compiled() -> None:
    pipeline = static(background=True)
    assert pipeline.baking is not None
    pipeline.weights["layers.1.ffn.w2"] *= 2
    pipeline.stage()
    pipeline.baking.finish()
    for _ in range(2):
        pipeline.stage()
    assert pipeline.compiles == 8 + 2
    pipeline.unload()


def test_both_sets_of_programs_are_budgeted() -> None:
    used = emulator().counters()
    with pytest.raises(BudgetError, match=r"16 compiles and 16 loaded programs"):
        static(background=True, device=emulator(live_budget=used.live_programs + 15))
    device = emulator(compile_budget=used.compiles + 16)
    first = static(background=True, device=device)
    first.stage()  # nothing has changed
    first.unload()
    used = emulator().counters()
    budgets = {"live_budget": used.live_programs + 16, "compile_budget": used.compiles + 24}
    pipeline = static(background=True, device=emulator(**budgets))
    for _ in range(2):
        assert pipeline.can_stage()
        descend(pipeline.weights, pipeline.weights)
        pipeline.stage()
    assert not pipeline.can_stage(), "what is begun counts, whether it is done or not"
    with pytest.raises(BudgetError, match="the new weights take 8 compiles, and this process has 0 left"):
        pipeline.stage()
    pipeline.unload()


def test_the_example_learns() -> None:
    run = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "tiny_train.py"), "--device", "emulator:m4"],
        capture_output=True,
        text=True,
        timeout=120,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert run.returncode == 0, run.stdout + run.stderr
    *_, last, counts = run.stdout.splitlines()
    assert float(last.split()[-1]) < 1e-6
    assert counts.endswith("0 left loaded")
