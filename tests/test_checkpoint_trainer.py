"""A Trainer goes on from a checkpoint as if it had never stopped, bit for bit; it trains on while one is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from anetrain.checkpoint import State, Store, find, load
from anetrain.data import Sampler
from anetrain.trainer import Trainer, TrainerState
from tests.trainers import SPEC, snapshot, trainer_of

TOKENS = np.random.default_rng(6).integers(0, SPEC.vocab, 400)


def new() -> tuple[Trainer, Sampler]:
    return trainer_of(accumulation=2), Sampler(TOKENS, SPEC.batch, SPEC.seq, vocab=SPEC.vocab, seed=1)


def test_saved_in_the_background_and_resumed(tmp_path: Path) -> None:
    straight, data = new()
    with Store(tmp_path) as store:
        for step in range(6):
            if step == 3:
                state = straight.state(data)
                saving = store.save_in_background(
                    State(step, SPEC, straight.pipeline.weights, state.arrays, dict(state.values))
                )
                straight.before_update = saving.release
            straight.step(data)
    resumed, data_of_resumed = new()
    checkpoint = load(find(tmp_path))
    checkpoint.check_spec(SPEC)
    checkpoint.weights.read_into(resumed.pipeline.weights)
    resumed.load_state(TrainerState(dict(checkpoint.arrays), checkpoint.values), data_of_resumed)
    for _ in range(checkpoint.step, 6):
        resumed.step(data_of_resumed)
    assert snapshot(resumed) == snapshot(straight)
    assert resumed.state(data_of_resumed).values == straight.state(data).values
