"""N steps straight are k steps, state saved and loaded into new objects, and the rest: bit for bit."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from anetrain.data import Sampler
from anetrain.trainer import Trainer, TrainerState
from tests.cpu_arrays import refused
from tests.trainers import SPEC, batches, snapshot, trainer_of

TOKENS = np.random.default_rng(6).integers(0, SPEC.vocab, 400)


def new(**options: Any) -> tuple[Trainer, Sampler]:
    trainer = trainer_of(scale=2.0**23, growth_interval=2, accumulation=2, **options)
    trainer.pipeline.weights["embedding"] *= 30.0  # so that the first scales overflow
    trainer.pipeline.stage()
    return trainer, Sampler(TOKENS, SPEC.batch, SPEC.seq, vocab=SPEC.vocab, seed=1)


def everything(trainer: Trainer, data: Sampler) -> tuple[dict[str, bytes], dict[str, Any]]:
    return snapshot(trainer), trainer.state(data).values


def saved(trainer: Trainer, data: Sampler) -> tuple[dict[str, Any], TrainerState]:
    """As files would have it: copies of arrays, JSON of all else."""
    state = trainer.state(data)
    arrays = {name: array.copy() for name, array in state.arrays.items()}
    weights = {name: array.copy() for name, array in trainer.pipeline.weights.items()}
    return weights, TrainerState(arrays, json.loads(json.dumps(state.values)))


@pytest.mark.parametrize("k", [0, 1, 2, 7, 12])
def test_straight_is_saved_and_loaded_and_the_rest(k: int) -> None:
    steps = 13  # with dropped groups, a growing scale, and more than an epoch of 33 windows
    straight, data = new()
    straight.validate(batches(2, seed=3))  # random weights may well stay the best ones here
    for _ in range(steps):
        straight.step(data)
    assert data.epoch == 1
    assert straight.scaler.counters.overflows > 0

    first, data_of_first = new()
    first.validate(batches(2, seed=3))
    for _ in range(k):
        first.step(data_of_first)
    weights, state = saved(first, data_of_first)
    rest, data_of_rest = new()
    rest.step(batches(2, seed=9))  # whatever these objects have done before is forgotten
    data_of_rest.load_state(data_of_rest.state() | {"position": 5, "seed": 8})
    rest.load_state(state, data_of_rest)
    for name, array in weights.items():
        rest.pipeline.weights[name][:] = array
    assert everything(rest, data_of_rest) == everything(first, data_of_first)
    for _ in range(steps - k):
        rest.step(data_of_rest)
    assert rest.best_loss is not None
    assert everything(rest, data_of_rest) == everything(straight, data)


def test_loaded_weights_are_staged_before_they_are_used() -> None:
    trainer, data = new()
    weights, state = saved(trainer, data)
    expected = trainer.evaluate(batches(2))
    while not trainer.updates:
        trainer.step(data)
    assert trainer.evaluate(batches(2)) != expected
    trainer.load_state(state, data)
    for name, array in weights.items():
        trainer.pipeline.weights[name][:] = array
    assert trainer.evaluate(batches(2)) == expected


def test_gradients_that_were_left_are_dropped() -> None:
    trainer, data = new()
    _, state = saved(trainer, data)
    trainer.pipeline.gradients["final_norm"][:] = 3.0
    trainer.load_state(state, data)
    assert not trainer.pipeline.gradients["final_norm"].any()


def test_state_is_arrays_and_what_json_can_hold() -> None:
    trainer, data = new()
    trainer.step(data)
    state = trainer.state(data)
    assert set(state.arrays) == {f"{kind}.{name}" for kind in ("mean", "square") for name in trainer.pipeline.weights}
    assert json.loads(json.dumps(state.values, allow_nan=False)) == state.values
    assert trainer.state().values["data"] is None


CHANGES: dict[str, tuple[Callable[[dict[str, Any], dict[str, Any]], object], str]] = {
    "missing": (lambda arrays, values: values.pop("scaler"), "expected data, optimizer, progress, scaler"),
    "scaler": (lambda arrays, values: values["scaler"].update(scale=3.0), "scale is 3.0"),
    "data": (lambda arrays, values: values["data"].update(position=1000), "position is 1000"),
    "no data": (lambda arrays, values: values.update(data=None), "has data to go on with"),
    "array": (lambda arrays, values: arrays.pop("mean.final_norm"), "missing mean.final_norm"),
    "shape": (lambda arrays, values: arrays.update({"mean.final_norm": np.zeros(3, np.float32)}), "mean.final_norm"),
    "updates": (lambda arrays, values: values["optimizer"].update(updates=-1), "updates is -1"),
    "progress": (lambda arrays, values: values["progress"].update(tokens=1.5), "tokens is 1.5"),
    "names": (lambda arrays, values: values["progress"].pop("tokens"), "expected micro_steps, tokens, best_loss"),
    "best": (lambda arrays, values: values["progress"].update(best_loss=math.nan), "best_loss is nan"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_state_that_does_not_fit_changes_nothing(change: str) -> None:
    trainer, data = new()
    _, state = saved(trainer, data)
    for _ in range(4):
        trainer.step(data)
    before = everything(trainer, data)
    values, arrays = copy.deepcopy(state.values), dict(state.arrays)
    spoil, says = CHANGES[change]
    spoil(arrays, values)
    refused(lambda: trainer.load_state(TrainerState(arrays, values), data), says)
    assert everything(trainer, data) == before
    refused(lambda: trainer.load_state(state), "has data to go on with")
    assert everything(trainer, data) == before
