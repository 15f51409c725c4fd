"""anetrain.telemetry: the published lines and their keys, forward and backward apart, the update in the step's time."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from anetrain import events
from anetrain.account import PARTS, Account
from anetrain.chips import Peak
from anetrain.efficiency import DeviceWork
from anetrain.telemetry import TIMES, Telemetry
from tests.trainers import batches, pipeline_of, trainer_of

# As they were published, with the digits behind the point that they were printed with.
PUBLISHED = {
    "step": {"step": 0, "loss": 6, "compiles": 0}
    | dict.fromkeys(["t_ane", "t_io", "t_cls", "t_elem", "t_rms", "t_cblas_wait"], 3),
    "batch": {"batch": 0, "compile_ms": 1, "train_ms": 1, "ms_per_step": 1},
    "perf": {"ane_tflops": 3, "ane_util_pct": 2},
}
WORK = DeviceWork(1_500_000_000, 4_500_000_000, "Apple M4", Peak(19.0, "19 TFLOPS, it is said"))
PARTS_OF_STEP = {"forward_device": 0.002, "backward_device": 0.004, "forward_norms": 0.001, "weight_gradients": 0.003}
PARTS_OF_UPDATE = {
    "forward_device": 0.004,
    "backward_device": 0.008,
    "update": 0.02,
    "restaging": 0.01,
    "saving": 0.002,
}
STEP = events.Step(7, 2.123456789, 64, 0.0105, PARTS_OF_STEP)


def update(**changes: Any) -> events.Update:
    fields: dict[str, Any] = {"update": 4, "loss": 2.5, "lr": 1e-3, "norm": 1.0, "clipped": False, "micro_steps": 2}
    fields |= {"tokens": 128, "loss_scale": 1.0, "seconds": 0.1, "parts": PARTS_OF_UPDATE}
    return events.Update(**fields | changes)


def lines(*heard: events.Event, work: DeviceWork | None = WORK) -> list[dict[str, Any]]:
    stream = io.StringIO()
    telemetry = Telemetry(stream, "the device", work)
    for event in heard:
        telemetry(event)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_the_published_keys_are_there() -> None:
    found = lines(events.Compile("model", 4, 0.25, 4, 4, 0), STEP, update())
    assert [line["type"] for line in found] == ["step", "batch", "perf"]
    for line in found:
        assert line["device"] == "the device"
        for key, digits in PUBLISHED[line["type"]].items():
            assert isinstance(line[key], int if digits == 0 else float), key
            assert line[key] == round(line[key], digits), key


def test_a_step_has_its_own_times() -> None:
    """Not a running mean over the group."""
    other = events.Step(8, 2.0, 64, 0.5, {"forward_device": 0.1})
    first, second = lines(STEP, other)
    assert (first["step"], first["loss"], first["tokens"], first["t_step"]) == (7, 2.123457, 64, 10.5)
    times = {key: value for key, value in first.items() if key.startswith("t_") and value}
    assert times == {"t_ane": 2.0, "t_ane_bwd": 4.0, "t_rms": 1.0, "t_dw": 3.0, "t_step": 10.5}
    assert (second["step"], second["t_ane"], second["t_ane_bwd"]) == (8, 100.0, 0.0)


def test_the_update_is_in_the_time_of_a_step() -> None:
    _, batch, _ = lines(STEP, update())
    assert (batch["batch"], batch["update"], batch["train_ms"]) == (2, 4, 100.0)
    assert (batch["ms_per_step"], batch["ms_per_step_without_update"]) == (50.0, 34.0)
    assert (batch["update_ms"], batch["restaging_ms"], batch["saving_ms"]) == (20.0, 10.0, 2.0)


def test_compiles_are_counted_once() -> None:
    """In the batch that they come before; not in its training time."""
    parts = PARTS_OF_UPDATE | {"compiling": 0.04}
    found = lines(
        events.Compile("model", 4, 0.25, 4, 4, 0),
        STEP,
        events.Compile("weights", 2, 0.04, 6, 4, 0),
        update(parts=parts),
        STEP,
        update(),
        work=None,
    )
    steps, groups = found[::2], found[1::2]
    assert [line["compiles"] for line in steps] == [4, 6]
    assert [(line["compile_ms"], line["train_ms"]) for line in groups] == [(290.0, 60.0), (0.0, 100.0)]


def test_performance_is_work_by_device_time() -> None:
    """2 micro-steps of 6 GFLOP in 12 ms of device time: one TFLOPS, whatever the CPU did meanwhile."""
    perf = lines(update())[-1]
    assert perf == {
        "type": "perf",
        "ane_tflops": 1.0,
        "ane_util_pct": 5.26,
        "ane_util_of": "Apple M4: 19 TFLOPS, it is said",
        "ane_idle_pct": 88.0,
        "device": "the device",
    }


def test_no_performance_without_a_device() -> None:
    assert [line["type"] for line in lines(STEP, update(), work=None)] == ["step", "batch"]


def test_no_utilisation_without_a_denominator() -> None:
    perf = lines(update(), work=DeviceWork(1, 1, "Apple M2", None))[-1]
    assert not {"ane_util_pct", "ane_util_of"} & set(perf)


def test_losses_that_are_not_finite() -> None:
    assert lines(events.Step(1, float("nan"), 1, 0.1))[0]["loss"] == "nan"


def test_other_events_are_no_lines() -> None:
    assert lines(events.Validation(1, 2.0, 5, 0.1, True), events.Overflow(1, "x", 1, 1.0, 0.5)) == []


# ---------------------------------------------------------------- of a trainer


def test_the_times_of_a_real_step_cover_it() -> None:
    stream = io.StringIO()
    trainer = trainer_of(listeners=[Telemetry(stream, "emulator:exact", None)])
    for _ in range(4):
        trainer.step(batches(3))
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["type"] for line in found] == ["step", "step", "step", "batch"] * 4
    assert [line["step"] for line in found if line["type"] == "step"] == list(range(1, 13))
    steps = [line for line in found if line["type"] == "step"][3:]
    for line in steps:
        assert line["t_ane"] > 0.0 < line["t_ane_bwd"]
        assert sum(line[key] for key in TIMES) <= line["t_step"] + 0.01
    assert max(sum(line[key] for key in TIMES) / line["t_step"] for line in steps) > 0.85


def test_a_costly_optimizer_shows_in_the_batch_alone() -> None:
    now_s = 0.0

    def clock() -> float:
        return now_s

    stream = io.StringIO()
    trainer = trainer_of(pipeline_of(account=Account(clock)), listeners=[Telemetry(stream, "ane", WORK)])
    step = trainer.optimizer.step

    def costly(*arguments: Any, **options: Any) -> Any:
        nonlocal now_s
        now_s += 0.3
        return step(*arguments, **options)

    trainer.optimizer.step = costly  # type: ignore[method-assign]
    trainer.step(batches(3))
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["t_step"] for line in found if line["type"] == "step"] == [0.0, 0.0, 0.0]
    assert found[-1]["type"] == "batch"  # the device took no time, so there is nothing to divide by
    assert (found[-1]["ms_per_step"], found[-1]["ms_per_step_without_update"]) == (100.0, 0.0)


def test_every_part_of_a_step_has_a_key() -> None:
    of_updates = {"update", "saving", "restaging", "compiling", "events"}
    assert set(TIMES.values()) == set(PARTS) - of_updates


@pytest.mark.parametrize("key", TIMES)
def test_a_part_goes_to_its_key(key: str) -> None:
    found = lines(events.Step(1, 1.0, 1, 0.01, {TIMES[key]: 0.008}))[0]
    assert {name: value for name, value in found.items() if name.startswith("t_") and value} == {
        key: 8.0,
        "t_step": 10.0,
    }
