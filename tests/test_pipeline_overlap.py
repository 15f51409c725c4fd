"""Weight gradients on their own thread: quicker where the device is slow, and the same bits whatever the timing."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from anetrain import cpu, device
from anetrain.blocks import GeluFFN, LlamaBlock
from anetrain.mil.types import Array
from anetrain.pipeline import Layer, Pipeline
from anetrain.pipeline.lane import Lane
from tests.small_models import batch, copied, model_of, step
from tests.support import emulator

BLOCKS = 5
Gradients = Mapping[str, Array]


def deep(overlap: bool, dev: device.Device | None = None) -> Pipeline:
    blocks = [GeluFFN() if number == 2 else LlamaBlock() for number in range(BLOCKS)]
    return model_of(blocks=blocks, overlap=overlap, device=dev)


def gradients_of(overlap: bool) -> Gradients:
    pipeline = deep(overlap)
    step(pipeline, *batch())
    return copied(pipeline.gradients)


def assert_same_bits(found: Gradients, expected: Gradients) -> None:
    for name, gradient in expected.items():
        assert np.array_equal(found[name], gradient), name


def delay_tasks(monkeypatch: pytest.MonkeyPatch, seconds: Callable[[], float]) -> None:
    """Each task of the lane sleeps first."""
    add = Layer._add_records

    def late(self: Layer, alpha: float) -> None:
        time.sleep(seconds())
        add(self, alpha)

    monkeypatch.setattr(Layer, "_add_records", late)


def delay_device(monkeypatch: pytest.MonkeyPatch, dev: device.Device, seconds: float) -> None:
    """Every evaluation stalls."""
    bind = device.Request.__init__

    def slow(self: device.Request, native: Any) -> None:
        bind(self, native)

        def run() -> None:
            dev.inject_fault("stall", after=0, seconds=seconds)
            native.run()

        self.run = run

    monkeypatch.setattr(device.Request, "__init__", slow)


def test_the_device_and_the_weight_gradients_run_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    task_s, evaluation_s = 0.02, 0.01  # of a layer: one task, two evaluations in backward
    delay_tasks(monkeypatch, lambda: task_s)
    pipelines = {}
    for overlap in (False, True):
        dev = emulator()
        with monkeypatch.context() as patch:
            delay_device(patch, dev, evaluation_s)
            pipelines[overlap] = deep(overlap, dev)
    quickest = dict.fromkeys(pipelines, math.inf)
    gained_s = 0.5 * (BLOCKS + 2) * task_s
    for _ in range(12):  # a machine that is busy with other things slows single steps of either
        for overlap, pipeline in pipelines.items():
            begin = time.perf_counter()
            step(pipeline, *batch())
            quickest[overlap] = min(quickest[overlap], time.perf_counter() - begin)
        if quickest[True] < quickest[False] - gained_s:
            break
    assert quickest[True] < quickest[False] - gained_s, quickest
    assert_same_bits(pipelines[True].gradients, pipelines[False].gradients)
    for pipeline in pipelines.values():
        pipeline.unload()


@pytest.mark.parametrize("seed", range(3))
def test_timing_changes_no_bit(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = gradients_of(overlap=False)
    random = np.random.default_rng(seed)
    delay_tasks(monkeypatch, lambda: float(random.choice([0.0, 0.001, 0.01])))
    assert_same_bits(gradients_of(overlap=True), expected)


def test_the_number_of_threads_changes_no_bit() -> None:
    before = cpu.threads()
    found = []
    try:
        for threads in (1, 2, 3):
            cpu.set_threads(threads)
            found += [gradients_of(overlap) for overlap in (False, True)]
    finally:
        cpu.set_threads(before)
    for other in found[1:]:
        assert_same_bits(other, found[0])


def poison_what_a_layer_may_overwrite(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Before its turn, all host scratch of a layer and the gradients that it is to make become NaN."""
    poisoned: list[str] = []
    forward, backward = Layer.forward, Layer.backward

    def scratch(layer: Layer) -> list[Array]:
        return [array for array in layer._shared._arrays.values() if array.dtype == np.float32]

    def poison(layer: Layer, arrays: list[Array]) -> None:
        for array in arrays:
            array.fill(np.nan)
        poisoned.append(layer.name)

    def spoilt_forward(self: Layer, inputs: Any = None) -> Any:
        poison(self, [*scratch(self), *self.outputs.values()])
        return forward(self, inputs)

    def spoilt_backward(self: Layer, seeds: Any = None, alpha: float = 1.0) -> Any:
        poison(self, [*scratch(self), *self.input_gradients.values()])
        return backward(self, seeds, alpha)

    monkeypatch.setattr(Layer, "forward", spoilt_forward)
    monkeypatch.setattr(Layer, "backward", spoilt_backward)
    return poisoned


@pytest.mark.parametrize("overlap", [False, True])
def test_a_task_owns_its_buffers(overlap: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = gradients_of(overlap=False)
    delay_tasks(monkeypatch, lambda: 0.01)  # each task runs when the next layer has had its turn
    poisoned = poison_what_a_layer_may_overwrite(monkeypatch)
    pipeline = deep(overlap)
    for _ in range(2):
        step(pipeline, *batch())
        assert_same_bits(pipeline.gradients, expected)
    assert len(poisoned) == 2 * 2 * (BLOCKS + 2)


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("failing", range(BLOCKS + 2))
def test_a_task_that_fails_drops_the_group(overlap: bool, failing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = deep(overlap)
    step(pipeline, *batch())
    expected = copied(pipeline.gradients)
    add, tasks = Layer._add_records, []

    def fails(self: Layer, alpha: float) -> None:
        tasks.append(self.name)
        if len(tasks) == failing + 1:
            raise MemoryError("no more")
        time.sleep(0.002)
        add(self, alpha)

    with monkeypatch.context() as patch:
        patch.setattr(Layer, "_add_records", fails)
        with pytest.raises(MemoryError, match="no more"):
            pipeline.micro_step(*batch())
    time.sleep(0.01)
    assert not any(gradient.any() for gradient in pipeline.gradients.values()), "a task ran on behind the failure"
    step(pipeline, *batch())
    assert_same_bits(pipeline.gradients, expected)


def test_the_lane_keeps_order_and_bounds() -> None:
    threads = set(threading.enumerate())
    lane = Lane(overlaps=True)
    gate, order = threading.Event(), []
    lane.submit(gate.wait)
    for number in range(4):
        lane.submit(lambda number=number: order.append(number))  # type: ignore[misc]
    lane.wait(unfinished=5)
    assert not order
    threading.Timer(0.02, gate.set).start()
    lane.wait(unfinished=1)
    assert order[:3] == [0, 1, 2]
    lane.wait()
    assert order == [0, 1, 2, 3]
    lane.close()
    assert set(threading.enumerate()) <= threads


def test_overlap_is_for_devices_that_leave_the_cpu_alone() -> None:
    assert not model_of().lane.overlaps  # an emulator is the CPU
