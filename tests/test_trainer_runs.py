"""Runs of the Trainer: fit, validation, events, the account of a step, overfitting, independence of timing."""

from __future__ import annotations

import logging
import time
from itertools import cycle
from typing import Any

import numpy as np
import pytest

from anetrain import events
from anetrain.account import PARTS, Account
from anetrain.data import Sampler, Windows
from anetrain.model import Model
from anetrain.optim import Group
from anetrain.pipeline import Pipeline
from anetrain.trainer import DeviceFailedError, Trainer
from tests.cpu_arrays import refused
from tests.support import emulator
from tests.trainers import SCHEDULE, SPEC, batches, counted, figures, pipeline_of, snapshot, trainer_of


class Clock:
    """Time passes when somebody sleeps, and only then."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self) -> None:
        self.now += 0.05

    def after(self, work: Any) -> Any:
        """The same work, which takes 50 ms longer."""

        def longer(*arguments: Any, **options: Any) -> Any:
            self.sleep()
            return work(*arguments, **options)

        return longer


# ---------------------------------------------------------------- the account


@pytest.mark.parametrize(
    ("part", "times"),
    [("data", 3), ("backward_host", 3), ("update", 1), ("restaging", 1), ("events", 3)],
)
def test_what_takes_longer_moves_its_part_alone(part: str, times: int) -> None:
    clock = Clock()
    trainer = trainer_of(pipeline_of(account=Account(clock)))
    trainer.evaluate(batches(1))  # stages
    pipeline, data = trainer.pipeline, iter(batches(3))
    layer = pipeline.stack.layers[1]
    if part == "data":
        data = (clock.after(lambda pair=pair: pair)() for pair in batches(3))
    elif part == "backward_host":
        layer._look_at_received = clock.after(layer._look_at_received)  # type: ignore[method-assign]
    elif part == "update":
        trainer.optimizer.step = clock.after(trainer.optimizer.step)  # type: ignore[method-assign]
    elif part == "restaging":
        pipeline.stage = clock.after(pipeline.stage)  # type: ignore[method-assign]
    else:
        trainer.events.add(lambda event: clock.sleep() if isinstance(event, events.Step) else None)
    result = trainer.step(data)
    assert result.seconds == pytest.approx(0.05 * times)
    assert result.parts == pytest.approx(dict.fromkeys(PARTS, 0.0) | {part: 0.05 * times})


def test_a_sleep_in_the_optimizer_shows_in_the_update_alone() -> None:
    """With the clock on the wall."""
    trainer = trainer_of()
    step = trainer.optimizer.step
    plain = [trainer.step(batches(3)) for _ in range(10)]

    def slow(*arguments: Any, **options: Any) -> Any:
        time.sleep(0.05)
        return step(*arguments, **options)

    trainer.optimizer.step = slow  # type: ignore[method-assign]
    slowed = [trainer.step(batches(3)) for _ in range(3)]
    for part in PARTS:
        longer = min(result.parts[part] for result in slowed) - min(result.parts[part] for result in plain)
        assert (longer >= 0.045) == (part == "update"), (part, longer)
    assert all(result.seconds >= 0.05 for result in slowed)


def test_the_parts_cover_a_step() -> None:
    trainer = trainer_of(
        pipeline_of(Model.preset("tiny-llama", dim=128, hidden=344, heads=8, kv_heads=8, seq=128).spec)
    )
    data = cycle(batches(4, spec=trainer.pipeline.model.spec))
    found = [trainer.step(data) for _ in range(10)]
    covered = sorted(sum(result.parts.values()) / result.seconds for result in found)
    assert covered[len(covered) // 2] >= 0.95
    assert covered[-1] <= 1.0 + 1e-9


# ---------------------------------------------------------------- events


def test_what_listeners_hear() -> None:
    heard: list[events.Event] = []
    trainer = trainer_of(accumulation=2, listeners=[heard.append])
    data = batches(5)
    result = trainer.fit(data, validation=batches(2, seed=8), validate_every=2)
    assert [event.kind for event in heard] == [
        *["step", "step", "update"] * 2,
        "validation",
        "step",
        "update",
        "validation",
    ]
    steps = [event for event in heard if isinstance(event, events.Step)]
    assert [event.micro_step for event in steps] == [1, 2, 3, 4, 5]
    assert [event.tokens for event in steps] == [counted([pair]) for pair in data]
    assert all(event.seconds > 0.0 for event in steps)
    updates = [event for event in heard if isinstance(event, events.Update)]
    assert [event.update for event in updates] == [1, 2, 3]
    assert [event.lr for event in updates] == [SCHEDULE(0), SCHEDULE(1), SCHEDULE(2)]
    assert [event.micro_steps for event in updates] == [2, 2, 1]
    assert [event.tokens for event in updates] == [counted(data[:2]), counted(data[2:4]), counted(data[4:])]
    for event, own in zip(updates, (steps[:2], steps[2:4], steps[4:]), strict=True):
        mean = sum(step.loss * step.tokens for step in own) / sum(step.tokens for step in own)
        assert event.loss == pytest.approx(mean)
        assert event.seconds > sum(step.seconds for step in own)
        assert event.norm > 0.0
        assert event.loss_scale == 2.0**12
    last = result.last
    assert last is not None
    assert (updates[-1].loss, updates[-1].norm, updates[-1].parts) == (last.loss, last.norm, last.parts)
    validations = [event for event in heard if isinstance(event, events.Validation)]
    assert [event.update for event in validations] == [2, 3]
    assert result.validation is not None
    assert (validations[-1].loss, validations[-1].tokens) == (result.validation.loss, result.validation.tokens)


def test_build_tells_what_was_compiled() -> None:
    heard: list[events.Event] = []
    device = emulator()
    trainer = Trainer.build(device, Model(SPEC), updates=40, lr=3e-3, listeners=[heard.append])
    (event,) = heard
    assert isinstance(event, events.Compile)
    assert event.programs == trainer.pipeline.compiles == 4
    assert (event.compiles, event.live) == (device.counters().compiles, device.counters().live_programs)
    assert event.seconds > 0.0
    assert trainer.schedule(0) == pytest.approx(3e-3 / 2)  # of 40 updates 2 are warm-up
    assert trainer.schedule(40) == pytest.approx(3e-4)


def test_build_passes_on_what_it_is_given() -> None:
    trainer = Trainer.build(
        emulator(fp32=True),
        Model(SPEC),
        updates=10,
        seed=9,
        schedule="constant",
        warmup=5,
        accumulation=7,
        weight_decay=0.3,
        clip=None,
        groups=[Group("final_norm", lr_factor=2.0)],
        loss_scale=2.0**5,
        retries=9,
        layout="separate",
        precision="fp32",
    )
    assert isinstance(trainer.pipeline, Pipeline)
    assert (trainer.pipeline.layout, trainer.accumulation, trainer.scaler.scale) == ("separate", 7, 32.0)
    assert (trainer.schedule(0), trainer.schedule(9)) == (2e-4, 1e-3)
    assert trainer.optimizer.clip is None
    assert trainer.retries == 9
    assert trainer.optimizer.settings["final_norm"].lr_factor == 2.0
    assert trainer.optimizer.settings["layers.0.ffn.w1"].decay == 0.3
    np.testing.assert_array_equal(trainer.pipeline.weights["embedding"], Model(SPEC).initial(9)["embedding"])
    assert trainer.step(batches(7)).applied


# ---------------------------------------------------------------- fit and evaluation


def test_fit_ends_with_the_updates_or_the_data(caplog: pytest.LogCaptureFixture) -> None:
    trainer = trainer_of(accumulation=2)
    taken = iter(batches(20))
    result = trainer.fit(taken, 3)
    assert (result.updates, trainer.updates, len(list(taken))) == (3, 3, 14)
    result = trainer.fit(batches(5), None)
    assert (result.updates, trainer.updates) == (3, 6)
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        result = trainer.fit(batches(3), 5)
    assert result.updates == 2
    assert "the data ended after 2 of 5 updates" in caplog.text
    assert trainer.fit([], None).last is None


def test_validation_at_the_end_is_not_done_twice() -> None:
    heard: list[events.Event] = []
    trainer = trainer_of(accumulation=1, listeners=[heard.append])
    trainer.fit(batches(4), validation=batches(1), validate_every=2)
    trainer.fit(batches(1), validation=batches(1))
    assert [event.update for event in heard if isinstance(event, events.Validation)] == [2, 4, 5]


def test_the_best_validation_is_known() -> None:
    heard: list[events.Event] = []
    trainer = trainer_of(listeners=[heard.append])
    held_out = batches(2, seed=4)
    embedding = trainer.pipeline.weights["embedding"]
    for factor in (1.0, 0.5, 4.0, 0.25):  # of random logits, smaller ones have the smaller loss
        embedding *= factor
        trainer.pipeline.stage()
        trainer.validate(held_out)
        embedding /= factor
    found = [event for event in heard if isinstance(event, events.Validation)]
    losses = [event.loss for event in found]
    assert [event.best for event in found] == [loss == min(losses[: i + 1]) for i, loss in enumerate(losses)]
    assert {True, False} == {event.best for event in found}
    assert trainer.best_loss == min(losses)


def test_a_loss_that_is_not_finite_is_never_the_best() -> None:
    heard: list[events.Event] = []
    trainer = trainer_of(listeners=[heard.append])
    trainer.pipeline.weights["final_norm"][3] = np.nan
    assert np.isnan(trainer.validate(batches(1)).loss)
    assert trainer.best_loss is None
    trainer.pipeline.weights["final_norm"][3] = 1.0
    assert trainer.validate(batches(1)).loss == trainer.best_loss
    assert [event.best for event in heard if isinstance(event, events.Validation)] == [False, True]


def test_evaluation_weighs_tokens_alike() -> None:
    trainer = trainer_of(fp32=True)
    held_out = batches(4)
    before = snapshot(trainer)
    sums = counts = 0.0
    for ids, targets in held_out:
        count = counted([(ids, targets)])
        sums, counts = sums + count * trainer.pipeline.evaluate(ids, targets).mean, counts + count
    found = trainer.evaluate(iter(held_out))
    assert found.loss == pytest.approx(sums / counts, rel=1e-6)
    assert found.tokens == counts
    assert abs(found.loss - np.mean([trainer.evaluate([pair]).loss for pair in held_out])) > 1e-6
    assert snapshot(trainer) == before


def test_runs_that_cannot_be() -> None:
    trainer = trainer_of()
    tokens = np.zeros(100, np.uint16)
    data = Sampler(tokens, SPEC.batch, SPEC.seq, vocab=SPEC.vocab)
    refused(lambda: trainer.fit(data, 0), "updates is 0")
    refused(lambda: trainer.fit(data, 1, validation=iter(batches(1))), "can be iterated only once")
    refused(lambda: trainer.fit(data, 1, validation=data), "validation is a Sampler", "Windows")
    refused(lambda: trainer.fit(data, 1, validate_every=3), "nothing to validate with")
    refused(lambda: trainer.fit(data, 1, validation=batches(1), validate_every=0), "validate_every is 0")
    refused(lambda: trainer.evaluate([]), "no target of the data counts")
    assert trainer.updates == 0


def test_data_goes_back_to_the_group_that_was_not_finished() -> None:
    tokens = np.random.default_rng(1).integers(0, SPEC.vocab, 300)
    runs = []
    for fails in (False, True):
        device = emulator()
        trainer = trainer_of(device=device, retries=0)
        data = Sampler(tokens, SPEC.batch, SPEC.seq, vocab=SPEC.vocab, seed=2)
        trainer.fit(data, 2)
        if fails:
            position = data.state()
            device.inject_fault("evaluate", after=30)
            with pytest.raises(DeviceFailedError):
                trainer.fit(data, 4)
            assert position != data.state()
            trainer.fit(data, 6 - trainer.updates)
        else:
            trainer.fit(data, 4)
        runs.append((snapshot(trainer), data.state(), trainer.state().values))
    assert runs[0] == runs[1]


# ---------------------------------------------------------------- what it is for


def test_a_small_model_learns_256_tokens_by_heart() -> None:
    spec = Model.preset("tiny-llama").spec
    tokens = np.random.default_rng(0).integers(0, spec.vocab, 257)
    trainer = Trainer.build(emulator(), Model(spec), updates=200, lr=1e-2, weight_decay=0.0)
    windows = Windows(tokens, 1, spec.seq, vocab=spec.vocab)
    before, compiles = trainer.evaluate(windows), trainer.pipeline.device.counters().compiles
    assert (before.tokens, before.loss) == (256, pytest.approx(np.log(spec.vocab), rel=0.05))
    result = trainer.fit(cycle(list(windows)), 200, validation=windows)
    assert (result.updates, result.dropped) == (200, 0)
    assert result.validation is not None
    assert result.validation.loss < 0.05
    assert trainer.pipeline.device.counters().compiles == compiles


@pytest.mark.parametrize("pause", [0.0, 0.002])
def test_results_do_not_depend_on_overlap_or_timing(pause: float) -> None:
    def run(**options: Any) -> tuple[list[object], dict[str, bytes]]:
        trainer = trainer_of(**options)
        lane = trainer.pipeline.lane  # type: ignore[union-attr]
        submit = lane.submit

        def later(task: Any) -> None:
            submit(lambda: (time.sleep(pause), task()))

        lane.submit = later
        found = [figures(trainer.step(batches(3, seed))) for seed in range(3)]
        trainer.pipeline.unload()
        return list(found), snapshot(trainer)

    assert run(overlap=True) == run(overlap=False)
