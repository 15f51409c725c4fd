"""Groups of micro-steps: what an update is made of."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from anetrain import events
from anetrain.mil.types import Array
from tests.cpu_arrays import pytorch, refused
from tests.trainers import SCHEDULE, SPEC, Pair, batches, counted, figures, pipeline_of, snapshot, trainer_of


def mean_gradients(weights: dict[str, Array], group: list[Pair]) -> tuple[float, dict[str, Array]]:
    """Loss and gradients of the group as one mean over its tokens, from one micro-step at a time, in float64."""
    pipeline = pipeline_of(weights={name: weight.copy() for name, weight in weights.items()}, fp32=True)
    total, sums = 0.0, {name: np.zeros(weight.shape) for name, weight in weights.items()}
    for ids, targets in group:
        pipeline.clear_gradients()
        count = int((targets != -1).sum())
        total += count * pipeline.micro_step(ids, targets, loss_scale=1.0)
        for name, gradient in pipeline.gradients.items():
            sums[name] += count * gradient.astype(np.float64)
    tokens = counted(group)
    return total / tokens, {name: array / tokens for name, array in sums.items()}


@pytest.mark.parametrize("clip", [None, 0.05])
def test_updates_are_those_of_explicit_averages(clip: float | None) -> None:
    """15 micro-steps at accumulation 10: a group of 10 and one of 5, each divided by what is in it."""
    torch = pytorch()
    data = batches(15)
    trainer = trainer_of(accumulation=10, clip=clip, fp32=True)
    mirror = {name: torch.nn.Parameter(torch.tensor(w)) for name, w in trainer.pipeline.weights.items()}
    groups = [
        {"params": [parameter], "weight_decay": 0.1 if parameter.ndim == 2 and name != "embedding" else 0.0}
        for name, parameter in mirror.items()
    ]
    adamw = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8)
    stream = iter(data)
    for update, group in enumerate([data[:10], data[10:]]):
        loss, gradients = mean_gradients({name: p.detach().numpy() for name, p in mirror.items()}, group)
        for name, parameter in mirror.items():
            parameter.grad = torch.tensor(gradients[name], dtype=torch.float32)
        norm = float(torch.nn.utils.clip_grad_norm_(list(mirror.values()), clip or math.inf))
        for options in adamw.param_groups:
            options["lr"] = SCHEDULE(update)
        adamw.step()

        result = trainer.step(stream)
        assert (result.applied, result.micro_steps, result.tokens) == (True, len(group), counted(group))
        assert (result.update, result.lr, result.clipped) == (update + 1, SCHEDULE(update), clip is not None)
        assert result.loss == pytest.approx(loss, rel=1e-5)
        assert result.norm == pytest.approx(norm, rel=1e-4)
        for name, parameter in mirror.items():
            found, expected = trainer.pipeline.weights[name], parameter.detach().numpy()
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6, err_msg=name)
    assert next(stream, None) is None
    assert trainer.updates == 2
    assert trainer.micro_steps == 15
    assert trainer.tokens == counted(data)


def test_ignored_targets_do_not_dilute() -> None:
    """A batch of which little counts weighs as little as it has tokens; one of which nothing counts, nothing."""
    (ids, targets), (other_ids, other_targets) = batches(2, ignored=False)
    nothing = np.full_like(targets, -1)
    with_empty, alone = trainer_of(fp32=True), trainer_of(fp32=True)
    result = with_empty.step([(ids, targets), (other_ids, nothing)])
    expected = alone.step([(ids, targets)])
    assert result.loss == pytest.approx(expected.loss, rel=1e-6)
    assert result.norm == pytest.approx(expected.norm, rel=1e-6)
    assert snapshot(with_empty) == snapshot(alone)
    few = other_targets.copy()
    few[:, 1:] = -1
    _, gradients = mean_gradients(pipeline_of().weights, [(ids, targets), (other_ids, few)])
    norm = math.sqrt(sum(float((gradient**2).sum()) for gradient in gradients.values()))
    assert trainer_of(fp32=True).step([(ids, targets), (other_ids, few)]).norm == pytest.approx(norm, rel=1e-4)


def test_the_loss_scale_does_not_show() -> None:
    norms = []
    for scale in (1.0, 2.0**16):
        norms.append(trainer_of(scale=scale, fp32=True).step(batches(3)).norm)
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)


def test_the_device_sees_each_update() -> None:
    trainer = trainer_of()
    data = batches(3)
    for _ in range(2):
        trainer.step(data)
    fresh = pipeline_of(weights=trainer.pipeline.weights)
    ids, targets = data[0]
    assert trainer.pipeline.evaluate(ids, targets) == fresh.evaluate(ids, targets)


def test_the_device_sees_weights_that_were_loaded_before_the_first_step() -> None:
    trainer, mirror = trainer_of(), trainer_of()
    trainer.pipeline.weights["layers.1.ffn.w1"] *= 0.5
    mirror.pipeline.weights["layers.1.ffn.w1"] *= 0.5
    mirror.pipeline.stage()
    assert trainer.evaluate(batches(1)) == mirror.evaluate(batches(1))
    assert figures(trainer.step(batches(3))) == figures(mirror.step(batches(3)))


def test_weights_are_staged_after_an_update_and_only_then() -> None:
    trainer = trainer_of()
    trainer.step(batches(3))
    thrice = trainer.pipeline.traffic.staged_bytes  # when it was made, before the first step, after the update
    trainer.step(batches(3))
    before = trainer.pipeline.traffic.staged_bytes
    trainer.evaluate(batches(2))
    trainer.pipeline.micro_step(*batches(1)[0])
    assert trainer.pipeline.traffic.staged_bytes == before == thrice + thrice // 3


def test_gradients_of_before_are_dropped() -> None:
    pipeline = pipeline_of()
    pipeline.micro_step(*batches(1, seed=9)[0])
    assert figures(trainer_of(pipeline).step(batches(3))) == figures(trainer_of().step(batches(3)))


def test_a_group_is_copied() -> None:
    """Data that reuses its arrays gives the same as data that does not."""
    data = batches(3)

    def reusing() -> object:
        ids, targets = (np.empty_like(array) for array in data[0])
        for own_ids, own_targets in data:
            ids[:], targets[:] = own_ids, own_targets
            yield ids, targets

    one, other = trainer_of(), trainer_of()
    assert figures(one.step(reusing())) == figures(other.step(data))  # type: ignore[arg-type]
    assert snapshot(one) == snapshot(other)


def test_groups_that_are_none() -> None:
    trainer = trainer_of(accumulation=2)
    before = snapshot(trainer)
    (ids, targets), *_ = group = batches(3)
    refused(lambda: trainer.step(group), "a group of 3 batches; accumulation is 2")
    refused(lambda: trainer.step([]), "a group without a batch")
    refused(lambda: trainer.step([(ids, np.full_like(targets, -1))]), "no target of the group counts")
    assert snapshot(trainer) == before


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda ids, targets: (ids + 0.0, targets), "ids is float64 [2, 12]"),
        (lambda ids, targets: (ids[:, 1:], targets), "expected whole numbers [2, 12]"),
        (lambda ids, targets: (ids + SPEC.vocab, targets), "ids"),
        (lambda ids, targets: (ids, np.where(targets == targets[0, 0], SPEC.vocab, targets)), "targets"),
        (lambda ids, targets: (ids, np.where(targets == targets[0, 0], -2, targets)), "targets"),
    ],
)
def test_a_batch_that_does_not_fit_leaves_no_trace(spoil: object, says: str) -> None:
    trainer = trainer_of()
    trainer.step(batches(3))
    before = snapshot(trainer)
    good, bad = batches(2)
    refused(lambda: trainer.step([good, spoil(*bad)]), says)  # type: ignore[operator]
    assert snapshot(trainer) == before


def test_a_required_listener_that_raises_leaves_no_trace() -> None:
    trainer = trainer_of()
    before = snapshot(trainer)

    def fails(event: events.Event) -> None:
        raise RuntimeError("no room on the disk")

    trainer.events.add(fails, required=True)
    with pytest.raises(RuntimeError, match="no room"):
        trainer.step(batches(3))
    assert snapshot(trainer) == before
    trainer.events.remove(fails)
    assert figures(trainer.step(batches(3))) == figures(trainer_of().step(batches(3)))


def test_options_are_checked() -> None:
    pipeline = pipeline_of(replace(SPEC, layers=1))
    refused(lambda: trainer_of(pipeline, accumulation=0), "accumulation is 0")
    refused(lambda: trainer_of(pipeline, retries=-1), "retries is -1")
