"""A compact vocabulary is the full model restricted to the active ids, exactly; what is not active stays as it is."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from anetrain.blocks import Classifier, LlamaBlock
from anetrain.compaction import Compaction, CompactPipeline
from anetrain.data import Sampler, Windows
from anetrain.device import Device
from anetrain.mil.types import Array
from anetrain.model import Model
from anetrain.pipeline import Pipeline, PlanError
from anetrain.trainer import Trainer
from tests.cpu_arrays import refused
from tests.gradients import slope
from tests.support import emulator
from tests.trainers import SPEC, weights_of

ACTIVE = np.array([1, 2, 5, 8, 13, 21, 34])
TIED = replace(SPEC, layers=1)
UNTIED = replace(TIED, tied=False)


@pytest.fixture(scope="module")
def device() -> Device:
    return emulator()


def data(seed: int = 0, active: Array = ACTIVE) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    ids, targets = random.choice(active, (2, SPEC.batch, SPEC.seq))
    targets[0, :3] = -1
    return ids, targets


def compact_of(spec: Any = TIED, device: Device | None = None, **options: Any) -> CompactPipeline:
    model = Model(spec, **options.pop("model", {}))
    return CompactPipeline(device or emulator(), model, Compaction(ACTIVE, spec.vocab), weights_of(model), **options)


def hidden(pipeline: Pipeline) -> Array:
    """What the last norm of the last forward makes of its input, [tokens, dim], by its definition."""
    x = pipeline.stack.layers[-2].outputs["y"][0, :, 0, :].T.astype(np.float64)
    rms = np.sqrt((x**2).mean(axis=1, keepdims=True) + pipeline.spec.norm_eps)
    x = x / rms * pipeline.weights["final_norm"]
    return x.reshape(pipeline.spec.batch, pipeline.spec.seq, -1)[:, : pipeline.model.spec.seq].reshape(-1, x.shape[1])


def log_sum(logits: Array) -> Array:
    """[tokens]"""
    top = logits.max(axis=1)
    return np.asarray(top + np.log(np.exp(logits - top[:, None]).sum(axis=1)))


def table_of(weights: dict[str, Array]) -> Array:
    return weights.get("classifier", weights["embedding"])


def log_mass(pipeline: Pipeline, table: Array, targets: Array) -> float:
    """The mean log of the probability that the full model gives to the active ids."""
    logits = hidden(pipeline) @ table.T.astype(np.float64)
    return float((log_sum(logits[:, ACTIVE]) - log_sum(logits))[targets.ravel() >= 0].mean())


# ---------------------------------------------------------------- the map


def test_the_map_goes_both_ways() -> None:
    compaction = Compaction.of(np.array([34, 5, 5, 1, 21, 8, 2, 13, 34], np.uint16), 37)
    np.testing.assert_array_equal(compaction.active, ACTIVE)
    assert len(compaction) == 7
    np.testing.assert_array_equal(compaction.rows([[1, 34], [5, 5]]), [[0, 6], [2, 2]])
    np.testing.assert_array_equal(compaction.target_rows([-1, 8]), [-1, 3])
    np.testing.assert_array_equal(compaction.ids(compaction.rows(ACTIVE)), ACTIVE)
    again = Compaction(compaction.active, compaction.vocab)
    np.testing.assert_array_equal(again.rows(ACTIVE), np.arange(7))


def test_all_pieces_of_the_data_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anetrain.tokens.AT_ONCE", 3)
    np.testing.assert_array_equal(Compaction.of(np.array([4, 4, 4, 4, 9, 4, 4, 0]), 10).active, [0, 4, 9])


@pytest.mark.parametrize(
    ("ids", "says"),
    [
        ([1, 3], "ids: 3 is not one of the active ids (7 of 37)"),
        ([1, 37], "ids: 37 is outside of the vocabulary"),
        ([1, 151_000], "ids: 151000 is outside"),
        ([1, -1], "ids: -1 is outside"),
        ([1.0, 2.0], "ids is float64 [2]"),
    ],
)
def test_ids_that_have_no_row(ids: list[int], says: str) -> None:
    refused(lambda: Compaction(ACTIVE, 37).rows(ids), says)
    if min(ids) < 0 or max(ids) >= 37:
        refused(lambda: Compaction(np.arange(37), 37).rows(ids), says.partition(" (")[0])


def test_targets_that_have_no_row() -> None:
    compaction = Compaction(ACTIVE, 37)
    refused(lambda: compaction.target_rows([1, -1, 3]), "targets: 3 is not one of the active ids")
    refused(lambda: compaction.target_rows([1, -2]), "targets: -2 is outside")
    refused(lambda: compaction.target_rows([37]), "targets: 37 is outside")


def test_compactions_that_cannot_be() -> None:
    refused(lambda: Compaction.of(np.array([1, 37]), 37), "token 1 has the id 37")
    refused(lambda: Compaction(np.array([3, 2]), 37), "ascending order")
    refused(lambda: Compaction(np.array([2, 2]), 37), "each once")
    refused(lambda: Compaction(np.zeros(0, np.int64), 37), "at least one id")
    refused(lambda: Compaction(ACTIVE, 37).model(Model(replace(TIED, vocab=38))), "is 38", "37")


def test_the_compact_model_is_the_full_one_but_for_the_vocabulary() -> None:
    classifier, blocks = Classifier("device", chunk_rows=4), [LlamaBlock(), LlamaBlock()]
    full = Model(SPEC, blocks, classifier=classifier, causal=False)
    compact = Compaction(ACTIVE, SPEC.vocab).model(full)
    assert compact.spec == replace(full.spec, vocab=len(ACTIVE))
    assert compact.layers == blocks
    assert (compact.embedding, compact.classifier, compact.causal) == (full.embedding, classifier, False)


# ---------------------------------------------------------------- arrays


@pytest.mark.parametrize("spec", [TIED, UNTIED, replace(UNTIED, vocab=16, dim=16), replace(TIED, vocab=24, hidden=24)])
def test_rows_are_gathered_and_scattered(spec: Any) -> None:
    """Also where other sizes happen to be that of the vocabulary."""
    model, compaction = Model(spec), Compaction(np.array([0, 3, 7, 15]), spec.vocab)
    full = weights_of(model)
    full |= {f"mean.{name}": 2 * array for name, array in full.items()}
    compact = compaction.gather(model, full)
    tables = {"embedding"} if spec.tied else {"embedding", "classifier"}
    for name, array in full.items():
        if name.removeprefix("mean.") in tables:
            np.testing.assert_array_equal(compact[name], array[compaction.active])
            assert not np.shares_memory(compact[name], array)
        else:
            assert compact[name] is array
    compaction.model(model).check_weights({name: compact[name] for name in model.parameters})
    before = {name: array.copy() for name, array in full.items()}
    compact = {name: array + 1 for name, array in compact.items()}
    compaction.scatter(model, compact, full)
    for name, array in full.items():
        if name.removeprefix("mean.") in tables:
            inactive = np.setdiff1d(np.arange(spec.vocab), compaction.active)
            assert array[inactive].tobytes() == before[name][inactive].tobytes()
            np.testing.assert_array_equal(array[compaction.active], compact[name])
        else:
            np.testing.assert_array_equal(array, compact[name])


# ---------------------------------------------------------------- the restricted model


@pytest.mark.parametrize("spec", [TIED, UNTIED])
def test_the_loss_is_that_of_the_full_model_and_the_log_of_the_mass(device: Device, spec: Any) -> None:
    pipeline = compact_of(spec, device)
    ids, targets = data()
    compact = pipeline.micro_step(ids, targets)
    full = pipeline.evaluate(ids, targets)
    assert full.count == int((targets >= 0).sum())
    assert pipeline.evaluate_active(ids, targets).mean == compact
    mass = log_mass(pipeline.training, table_of(pipeline.full_weights()), targets)
    assert full.mean == pytest.approx(compact - mass, rel=1e-5)
    assert mass < -1.0  # the identity says something
    alone = Pipeline(device, Model(spec), weights_of(Model(spec)))
    assert alone.evaluate(ids, targets) == full
    np.testing.assert_array_equal(hidden(alone), hidden(pipeline.training))


@pytest.mark.parametrize("spec", [TIED, UNTIED])
def test_gradients_are_those_of_the_restricted_full_model(spec: Any) -> None:
    """Along random directions of all weights: differences of the full model's loss and log mass, in fp32."""
    device = emulator(fp32=True)
    pipeline = compact_of(spec, device, precision="fp32")
    pipeline.weights["embedding"] *= 20.0  # away from where the norm of an embedding is bent
    pipeline.stage()
    ids, targets = data()
    pipeline.micro_step(ids, targets, loss_scale=1.0)
    model, compaction = pipeline.full_model, pipeline.compaction
    center = {name: array.copy() for name, array in pipeline.full_weights().items()}
    full = Pipeline(device, model, {name: array.copy() for name, array in center.items()}, precision="fp32")

    def loss(direction: dict[str, Array], distance: Array) -> float:
        for name, array in full.weights.items():
            array[:] = center[name] + distance[0] * direction[name]
        full.stage()
        return full.evaluate(ids, targets).mean + log_mass(full, table_of(full.weights), targets)

    for seed in range(3):
        random = np.random.default_rng(seed)
        direction = {
            name: (array.std() + 0.1) * random.standard_normal(array.shape).astype(np.float32)
            for name, array in center.items()
        }
        inactive = np.setdiff1d(np.arange(spec.vocab), ACTIVE)
        rows = {name: array for name, array in direction.items() if name in ("embedding", "classifier")}
        found = slope(partial(loss, direction), np.zeros(1), np.ones(1), 2e-3)
        along = compaction.gather(model, direction)
        expected = sum(float((along[name] * gradient).sum()) for name, gradient in pipeline.gradients.items())
        assert found == pytest.approx(expected, rel=3e-3)
        for array in rows.values():
            array[inactive] *= 100.0  # of no influence
        moved = slope(partial(loss, direction), np.zeros(1), np.ones(1), 2e-3)
        assert moved == pytest.approx(found, rel=3e-3)


def test_a_classifier_in_chunks_on_the_device(device: Device) -> None:
    pipeline = compact_of(UNTIED, device, model={"classifier": Classifier("device", chunk_rows=4)})
    ids, targets = data()
    compact = pipeline.micro_step(ids, targets)
    mass = log_mass(pipeline.training, table_of(pipeline.full_weights()), targets)
    assert pipeline.evaluate(ids, targets).mean == pytest.approx(compact - mass, rel=2e-3)


@pytest.mark.parametrize("spec", [TIED, UNTIED])
def test_a_hundred_steps_leave_inactive_rows_alone(device: Device, spec: Any) -> None:
    compaction = Compaction(ACTIVE, spec.vocab)
    trainer = Trainer.build(
        device, Model(spec), updates=100, seed=4, lr=1e-2, weight_decay=0.5, accumulation=1, compaction=compaction
    )
    pipeline = trainer.pipeline
    assert isinstance(pipeline, CompactPipeline)
    first = Model(spec).initial(4)
    held_out = [data(99), data(98, np.arange(spec.vocab))]  # the second with ids that are not active
    before = trainer.evaluate(held_out)
    result = trainer.fit((data(seed % 3) for seed in range(100)), 100)
    assert result.last is not None
    assert result.last.loss < 1.0
    inactive = np.setdiff1d(np.arange(spec.vocab), ACTIVE)
    weights = pipeline.full_weights()
    for name in ("embedding", "classifier")[: 1 if spec.tied else 2]:
        assert weights[name][inactive].tobytes() == first[name][inactive].tobytes()
        assert (weights[name][ACTIVE] != first[name][ACTIVE]).any(axis=1).all()
        np.testing.assert_array_equal(weights[name][ACTIVE], pipeline.weights[name])
    assert (weights["layers.0.ffn.w1"] != first["layers.0.ffn.w1"]).any()

    full_moments = {f"{kind}.{name}": 3 * array for kind in ("mean", "square") for name, array in first.items()}
    kept = {name: array.copy() for name, array in full_moments.items()}
    own = trainer.state().arrays
    compaction.scatter(pipeline.full_model, own, full_moments)
    for name in ("mean.embedding", "square.embedding"):
        assert full_moments[name][inactive].tobytes() == kept[name][inactive].tobytes()
        np.testing.assert_array_equal(full_moments[name][ACTIVE], own[name])
        np.testing.assert_array_equal(compaction.gather(pipeline.full_model, full_moments)[name], own[name])

    alone = Pipeline(device, Model(spec), {name: array.copy() for name, array in weights.items()})
    after = trainer.evaluate(held_out)
    sums = [alone.evaluate(ids, targets).sum for ids, targets in held_out]
    assert after.loss == pytest.approx(sum(sums) / after.tokens, rel=1e-12)
    assert after != before


def test_evaluation_sees_every_update(device: Device) -> None:
    pipeline = compact_of(TIED, device)
    ids, targets = data()
    losses = [pipeline.evaluate(ids, targets).mean]
    for _ in range(2):
        pipeline.weights["embedding"] *= 0.5
        pipeline.weights["layers.0.ffn.w1"] *= 0.5
        pipeline.stage()
        losses.append(pipeline.evaluate(ids, targets).mean)
        alone = Pipeline(device, pipeline.full_model, pipeline.full_weights())
        assert alone.evaluate(ids, targets).mean == losses[-1]
    assert len(set(losses)) == 3


def test_ids_outside_drop_the_group(device: Device) -> None:
    pipeline = compact_of(TIED, device)
    ids, targets = data()
    for bad_ids, bad_targets in ((np.where(ids == 5, 3, ids), targets), (ids, np.where(targets == 5, 3, targets))):
        pipeline.micro_step(ids, targets)
        refused(lambda i=bad_ids, t=bad_targets: pipeline.micro_step(i, t), "3 is not one of the active ids")
        assert not any(gradient.any() for gradient in pipeline.gradients.values())
    refused(lambda: pipeline.evaluate(ids + 100, targets), "ids", error=PlanError)


def test_a_compact_run_goes_on_from_its_state(device: Device) -> None:
    """By way of the full model's arrays, as a checkpoint has them."""
    tokens = np.random.default_rng(5).choice(ACTIVE, 200)
    model, compaction = Model(TIED), Compaction.of(tokens, TIED.vocab)
    sampler = Sampler(tokens, TIED.batch, TIED.seq, vocab=TIED.vocab, seed=3)

    def new(weights: dict[str, Array]) -> Trainer:
        return Trainer.build(device, model, weights, updates=8, accumulation=2, compaction=compaction)

    straight = new(weights_of(model))
    straight.fit(sampler, 4)
    state, position = straight.state(), sampler.state()
    assert isinstance(straight.pipeline, CompactPipeline)
    full = {name: array.copy() for name, array in straight.pipeline.full_weights().items()}
    arrays = {f"{kind}.{name}": np.zeros_like(array) for kind in ("mean", "square") for name, array in full.items()}
    compaction.scatter(model, state.arrays, arrays)
    state = replace(state, arrays=compaction.gather(model, arrays))
    values = straight.fit(sampler, 4, validation=Windows(tokens, TIED.batch, TIED.seq, vocab=TIED.vocab))

    rest = new(full)
    rest.load_state(state)
    sampler.load_state(position)
    again = rest.fit(sampler, 4, validation=Windows(tokens, TIED.batch, TIED.seq, vocab=TIED.vocab))
    assert again.validation == values.validation
    assert isinstance(rest.pipeline, CompactPipeline)
    for name, array in straight.pipeline.full_weights().items():
        assert array.tobytes() == rest.pipeline.full_weights()[name].tobytes(), name


def test_nothing_is_left_on_the_device() -> None:
    device = emulator()
    pipeline = compact_of(TIED, device)
    pipeline.evaluate(*data())
    assert pipeline.compiles > pipeline.training.compiles
    before = device.counters().live_programs
    pipeline.unload()
    assert device.counters().live_programs == before - pipeline.compiles
