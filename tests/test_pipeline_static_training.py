"""Training with baked weights: the curve of the dynamic pipeline and of PyTorch; trainers in processes with budgets."""

from __future__ import annotations

import gc
import json
from typing import Any

import numpy as np
import pytest

from anetrain.blocks import qwen3_spec
from anetrain.errors import BudgetError, CompileError
from anetrain.pipeline import StaticPipeline
from anetrain.schedule import Schedule
from anetrain.spec import ModelSpec
from anetrain.trainer import Trainer
from tests import curve_task as task
from tests.ane_abi import ROOT
from tests.support import emulator
from tests.test_training_curves import train
from tests.trainers import Pair, batches, figures, pipeline_of, snapshot, trainer_of

ODD = {"dim": 36, "hidden": 53, "layers": 2, "heads": 6, "vocab": 61, "seq": 21, "batch": 2}
FAMILIES = {
    "llama": ModelSpec(**ODD, kv_heads=3, head_dim=6, tied=True),  # type: ignore[arg-type]
    "qwen3": qwen3_spec(**ODD, kv_heads=2, head_dim=10, tied=False),
}
UPDATES, ACCUMULATION = 50, 3


@pytest.fixture(autouse=True)
def _garbage_holds_no_programs() -> None:
    gc.collect()


def losses_of(s: ModelSpec, data: list[Pair], **options: Any) -> tuple[list[float], Trainer]:
    """The loss of each group, the last of which is shorter."""
    trainer = trainer_of(pipeline_of(s, **options), accumulation=ACCUMULATION)
    groups = [data[first : first + ACCUMULATION] for first in range(0, len(data), ACCUMULATION)]
    assert [len(group) for group in groups[-2:]] == [ACCUMULATION, 1]
    return [trainer.step(group).loss for group in groups], trainer


@pytest.mark.parametrize("family", FAMILIES)
def test_static_equals_dynamic(family: str) -> None:
    """fp16 rounds the same weights to the same values in both; only sums may be in another order."""
    s = FAMILIES[family]
    drawn = batches((UPDATES - 1) * ACCUMULATION + 1, spec=s)
    data = [(ids, np.where(targets < 0, -1, (5 * ids + 1) % s.vocab)) for ids, targets in drawn]  # can be learnt
    losses, weights = [], []
    for layout in ("stacked", "baked"):
        found, trainer = losses_of(s, data, layout=layout, device=emulator("m4"))
        losses.append(np.array(found))
        weights.append(trainer.pipeline.weights)
        assert trainer.updates == UPDATES
    assert isinstance(trainer.pipeline, StaticPipeline)
    assert trainer.pipeline.compiles == UPDATES * 8 + 8
    assert losses[0][-1] < 0.8 * losses[0][0], "the weights have moved"
    assert np.abs(losses[1] / losses[0] - 1.0).max() < 1e-3
    for name, weight in weights[0].items():
        assert np.linalg.norm(weights[1][name] - weight) < 1e-2 * np.linalg.norm(weight), name


@pytest.mark.parametrize(("profile", "fp32", "tolerance"), [("exact", True, 1e-4), ("m4", False, 1e-2)])
def test_the_loss_curve_is_that_of_pytorch(profile: str, fp32: bool, tolerance: float) -> None:
    golden = np.array(json.loads((ROOT / "tests" / "golden" / "curve.json").read_text()))
    schedule = Schedule("cosine", lr=task.PEAK_LR, updates=task.UPDATES, warmup=task.WARMUP, min_ratio=task.LEAST)
    device = emulator(profile, fp32=fp32)
    losses = np.array(train(device, task.SPEC, task.first_weights(), task.batches(), schedule, layout="baked"))
    worst = np.abs(losses / golden - 1.0).argmax()
    assert abs(losses[worst] / golden[worst] - 1.0) <= tolerance, f"update {worst}: {losses[worst]}, {golden[worst]}"


# ---------------------------------------------------------------- a trainer in a process with a budget


def limited(compiles: int) -> Any:
    return emulator(compile_budget=emulator().counters().compiles + compiles)


def static_trainer(compiles: int = 2**30, weights: dict[str, Any] | None = None) -> Trainer:
    return trainer_of(pipeline_of(device=limited(compiles), weights=weights, layout="baked"), accumulation=2)


def groups_of(count: int) -> list[list[Pair]]:
    data = batches(2 * count)
    return [data[2 * i : 2 * i + 2] for i in range(count)]


def test_an_update_that_cannot_be_compiled_is_left_to_a_new_process() -> None:
    """Every process has compiles for its first programs and one update more; each goes on where the last one ended."""
    groups = groups_of(7)
    straight = static_trainer()
    expected = [figures(straight.step(group)) for group in groups]
    trainer = static_trainer(compiles=2 * 8)
    found, restarts = [], 0
    for group in groups:
        if trainer.needs_restart:
            with pytest.raises(BudgetError, match="take 8 compiles, and this process has 0 left"):
                trainer.step(group)
            state, weights = trainer.state(), {name: w.copy() for name, w in trainer.pipeline.weights.items()}
            trainer.pipeline.unload()
            trainer = static_trainer(compiles=2 * 8, weights=weights)
            trainer.load_state(state)
            restarts += 1
            assert not trainer.needs_restart, "the first programs have these weights"
        found.append(figures(trainer.step(group)))
    assert found == expected
    assert restarts == 3
    assert snapshot(trainer) == snapshot(straight)


def test_a_budget_of_one_update_is_enough() -> None:
    groups = groups_of(3)
    straight = static_trainer()
    for group in groups:
        straight.step(group)
    weights, state = None, None
    for group in groups:
        trainer = static_trainer(compiles=8, weights=weights)
        if state:
            trainer.load_state(state)
        assert not trainer.needs_restart
        trainer.step(group)
        assert trainer.needs_restart
        weights, state = {name: w.copy() for name, w in trainer.pipeline.weights.items()}, trainer.state()
        trainer.pipeline.unload()
    assert snapshot(trainer) == snapshot(straight)


def test_a_compile_that_fails_after_an_update() -> None:
    """The update is done; its way to the device is tried again by the next step, with the bits it would have had."""
    groups = groups_of(3)
    straight = static_trainer()
    for group in groups:
        straight.step(group)
    for failing in range(8):
        trainer = static_trainer()
        trainer.step(groups[0])
        trainer.pipeline.device.inject_fault("compile", after=failing)
        with pytest.raises(CompileError, match=r"^LlamaBlock \w+ \d: an injected fault"):
            trainer.step(groups[1])
        assert trainer.updates == 2
        assert not any(gradient.any() for gradient in trainer.pipeline.gradients.values())
        trainer.step(groups[2])
        assert snapshot(trainer) == snapshot(straight)
        trainer.pipeline.unload()


def test_programs_after_a_resume_have_the_weights_of_the_checkpoint() -> None:
    """Loaded after the pipeline was made, as `Trainer.load_state` allows."""
    groups = groups_of(3)
    straight = static_trainer()
    for group in groups[:2]:
        straight.step(group)
    resumed = static_trainer()
    for name, weight in resumed.pipeline.weights.items():
        np.copyto(weight, straight.pipeline.weights[name])
    resumed.load_state(straight.state())
    assert figures(resumed.step(groups[2])) == figures(straight.step(groups[2]))
    assert snapshot(resumed) == snapshot(straight)
