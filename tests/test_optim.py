"""anetrain.optim against PyTorch; groups, clipping, refusal, state."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from anetrain.graph.parameters import Parameter, bias, gain, matrix
from anetrain.model import Model
from anetrain.optim import SGD, AdamW, Group, Optimizer, OptimizerState
from tests.cpu_arrays import pytorch, refused

Arrays = dict[str, npt.NDArray[np.float32]]

PARAMETERS: dict[str, Parameter] = {
    "embedding": matrix(50, 12),
    "layers.0.w1": matrix(33, 12),
    "layers.0.norm": gain(12),
    "layers.0.bias": bias(33),
    "layers.1.w1": matrix(33, 12),
    "head": matrix(7, 12),
}
GROUPS = [Group("layers.1.*", lr_factor=0.5, decay=0.3), Group(["head", "*.bias"], lr_factor=2.0)]
# What these groups, a weight decay of 0.2 and none of the embedding come to: lr_factor, decay
EXPECTED = {
    "embedding": (1.0, 0.0),
    "layers.0.w1": (1.0, 0.2),
    "layers.0.norm": (1.0, 0.0),
    "layers.0.bias": (2.0, 0.0),
    "layers.1.w1": (0.5, 0.3),
    "head": (2.0, 0.2),
}


def arrays(seed: int, spread: float = 1.0) -> Arrays:
    random = np.random.default_rng(seed)
    return {
        name: np.float32(spread) * random.standard_normal(item.shape, np.float32) for name, item in PARAMETERS.items()
    }


def zeros() -> Arrays:
    return {name: np.zeros(item.shape, np.float32) for name, item in PARAMETERS.items()}


def copied(source: Mapping[str, npt.NDArray[np.float32]]) -> Arrays:
    return {name: array.copy() for name, array in source.items()}


def same(found: Mapping[str, npt.NDArray[Any]], expected: Mapping[str, npt.NDArray[Any]]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def adamw(weights: Arrays, gradients: Arrays, **changes: Any) -> AdamW:
    options: dict[str, Any] = {"groups": GROUPS, "weight_decay": 0.2, "clip": 0.7}
    return AdamW(PARAMETERS, weights, gradients, **{**options, **changes})


def sgd(weights: Arrays, gradients: Arrays, **changes: Any) -> SGD:
    options: dict[str, Any] = {"groups": GROUPS, "weight_decay": 0.2, "clip": 0.7}
    return SGD(PARAMETERS, weights, gradients, **{**options, **changes})


# ---------------------------------------------------------------- against PyTorch


def rates(update: int, largest: float) -> float:
    return 0.5 * largest * (1.0 + math.sin(update))


def spread(update: int) -> float:
    """Some gradients are clipped, some are not."""
    return 10.0 ** (update % 4 - 2)


def hundred_steps(
    make: Callable[[Arrays, Arrays], Optimizer], oracle: Callable[[Any, Any], Any], largest_rate: float
) -> None:
    torch = pytorch()
    weights, gradients = arrays(1), zeros()
    optimizer = make(weights, gradients)
    theirs = {name: torch.tensor(array, dtype=torch.float64, requires_grad=True) for name, array in weights.items()}
    groups = [{"params": [theirs[name]], "weight_decay": EXPECTED[name][1]} for name in theirs]
    reference, clipped = oracle(torch, groups), set()
    for update in range(100):
        count = 1 + update % 3
        for name, array in arrays(update + 2, spread(update)).items():
            gradients[name] += array * np.float32(4.0)
            theirs[name].grad = torch.tensor(array / count, dtype=torch.float64)
        norm = torch.nn.utils.clip_grad_norm_(theirs.values(), 0.7)
        for name, group in zip(theirs, reference.param_groups, strict=True):
            group["lr"] = rates(update, largest_rate) * EXPECTED[name][0]
        reference.step()
        result = optimizer.step(rates(update, largest_rate), count, scale=4.0)
        assert result.finite
        assert result.norm == pytest.approx(float(norm), rel=1e-6)
        assert result.clipped == (float(norm) > 0.7)
        clipped.add(result.clipped)
    assert clipped == {True, False}
    for name, weight in weights.items():
        expected = theirs[name].detach().numpy()
        assert np.abs(expected - arrays(1)[name]).max() > 0.1, name
        assert np.abs(weight - expected).max() <= 1e-6 * np.abs(expected).max(), name


def test_adamw_equals_pytorch() -> None:
    hundred_steps(
        lambda w, g: adamw(w, g, betas=(0.85, 0.97), eps=1e-6),
        lambda torch, groups: torch.optim.AdamW(groups, betas=(0.85, 0.97), eps=1e-6),
        largest_rate=0.02,
    )


def test_sgd_equals_pytorch() -> None:
    hundred_steps(sgd, lambda torch, groups: torch.optim.SGD(groups), largest_rate=0.5)


# ---------------------------------------------------------------- groups


def test_settings_of_groups() -> None:
    settings = adamw(arrays(1), zeros()).settings
    assert {name: (item.lr_factor, item.decay) for name, item in settings.items()} == EXPECTED


def test_what_decays_by_default() -> None:
    decays = {name: item.decay for name, item in AdamW(PARAMETERS, arrays(1), zeros()).settings.items()}
    assert decays == {
        "embedding": 0.0,
        "layers.0.w1": 0.1,
        "layers.0.norm": 0.0,
        "layers.0.bias": 0.0,
        "layers.1.w1": 0.1,
        "head": 0.1,
    }
    assert adamw(arrays(1), zeros(), decay_embedding=True).settings["embedding"].decay == 0.2


def test_decay_without_gradient_shrinks_matrices_only() -> None:
    """In a model with presets' names: zero gradients change what decays, and nothing else."""
    model = Model.preset("tiny-qwen3", vocab=64)
    weights = model.initial(seed=3)
    for name, array in weights.items():
        if model.parameters[name].init != "normal":
            array += 0.5
    before = copied(weights)
    gradients = {name: np.zeros_like(array) for name, array in weights.items()}
    AdamW(model.parameters, weights, gradients, weight_decay=0.5).step(0.1, 1)
    shrunk = {name for name in weights if not np.array_equal(weights[name], before[name])}
    expected = {name for name, item in model.parameters.items() if len(item.shape) == 2 and name != "embedding"}
    assert shrunk == expected
    for name in shrunk:
        np.testing.assert_allclose(weights[name], before[name] * 0.95, rtol=2e-7)


def test_every_parameter_moves() -> None:
    weights, gradients = arrays(1), arrays(2)
    before = copied(weights)
    adamw(weights, gradients).step(0.01, 1)
    for name in PARAMETERS:
        assert (weights[name] != before[name]).all(), name


# ---------------------------------------------------------------- accumulation, clipping, refusal


def test_a_short_group_is_an_average() -> None:
    """15 micro-steps in groups of 10: the last has 5, and is divided by 5."""
    micro = [arrays(seed) for seed in range(10, 25)]
    weights, gradients = arrays(1), zeros()
    optimizer = sgd(weights, gradients, groups=(), weight_decay=0.0, clip=None)
    expected = {name: array.astype(np.float64) for name, array in arrays(1).items()}
    for begin in (0, 10):
        group = micro[begin : begin + 10]
        for item in group:
            for name, gradient in gradients.items():
                gradient += item[name]
        optimizer.step(0.1, len(group))
        for name, weight in expected.items():
            weight -= 0.1 * np.mean([item[name].astype(np.float64) for item in group], axis=0)
    for name, weight in weights.items():
        np.testing.assert_allclose(weight, expected[name], rtol=0, atol=2e-6)


def test_gradients_are_zero_after_a_step() -> None:
    for make in (adamw, sgd):
        gradients = arrays(2)
        make(arrays(1), gradients).step(0.01, 1)
        same(gradients, zeros())


def test_clipping_is_of_the_whole() -> None:
    weights, gradients = arrays(1), arrays(2)
    before = copied(weights)
    whole = math.sqrt(sum(float(np.square(g, dtype=np.float64).sum()) for g in gradients.values()))
    result = sgd(weights, gradients, groups=(), weight_decay=0.0).step(1.0, 1)
    assert result.norm == pytest.approx(whole, rel=1e-7)
    assert result.clipped
    moved = math.sqrt(sum(float(np.square(weights[n] - before[n], dtype=np.float64).sum()) for n in weights))
    assert moved == pytest.approx(0.7, rel=1e-5)


def test_no_gradient_is_no_trouble() -> None:
    weights = arrays(1)
    result = adamw(weights, zeros(), weight_decay=0.0, groups=()).step(0.01, 1)
    assert (result.norm, result.clipped, result.finite) == (0.0, False, True)
    same(weights, arrays(1))


@pytest.mark.parametrize("make", [adamw, sgd])
@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_changes_nothing(make: Any, clip: float | None, bad: float) -> None:
    weights, gradients = arrays(1), arrays(2)
    optimizer = make(weights, gradients, clip=clip)
    optimizer.step(0.01, 1)
    before, state = copied(weights), optimizer.state()
    kept = OptimizerState(copied(state.arrays), dict(state.integers))
    gradients["layers.0.norm"][11] = bad
    result = optimizer.step(0.01, 1)
    assert not result.finite
    assert not result.clipped
    assert not math.isfinite(result.norm)
    same(weights, before)
    same(optimizer.state().arrays, kept.arrays)
    assert optimizer.state().integers == kept.integers == {"updates": 1}
    same(gradients, zeros())


def test_a_gradient_whose_square_is_infinite_in_fp32() -> None:
    """Clipped it is fine; unclipped it would leave an infinite mean of squares for good."""
    weights, gradients = arrays(1), zeros()
    optimizer = adamw(weights, gradients, clip=None)
    gradients["head"][0, 0] = 1e20
    assert not optimizer.step(0.01, 1).finite
    same(weights, arrays(1))
    gradients["head"][0, 0] = 1e20
    assert adamw(weights, gradients, clip=1.0).step(0.01, 1).finite
    assert all(np.isfinite(array).all() for array in weights.values())


# ---------------------------------------------------------------- state


def run(optimizer: Optimizer, gradients: Arrays, updates: range) -> None:
    for update in updates:
        for name, array in arrays(100 + update).items():
            gradients[name] += array
        optimizer.step(0.01, 1)


@pytest.mark.parametrize("make", [adamw, sgd])
def test_resumed_is_uninterrupted(make: Any) -> None:
    straight, gradients = arrays(1), zeros()
    whole = make(straight, gradients)
    run(whole, gradients, range(6))

    weights, gradients = arrays(1), zeros()
    first = make(weights, gradients)
    run(first, gradients, range(2))
    saved = first.state()
    kept = OptimizerState(copied(saved.arrays), dict(saved.integers))
    second = make(weights, gradients)
    second.load_state(kept)
    run(second, gradients, range(2, 6))
    same(weights, straight)
    same(second.state().arrays, whole.state().arrays)
    assert second.updates == whole.updates == 6


def test_state_has_both_means_of_everything() -> None:
    state = adamw(arrays(1), zeros()).state()
    assert set(state.arrays) == {f"{kind}.{name}" for kind in ("mean", "square") for name in PARAMETERS}
    assert sgd(arrays(1), zeros()).state() == OptimizerState({}, {"updates": 0})


def test_damaged_states_are_refused_whole() -> None:
    gradients = zeros()
    optimizer = adamw(arrays(1), gradients)
    run(optimizer, gradients, range(2))
    state = optimizer.state()
    before = copied(state.arrays)

    def refuses(changes: Mapping[str, Any], *words: str, updates: Any = 7) -> None:
        changed = {name: np.full_like(array, 0.5) for name, array in state.arrays.items()}
        changed = {name: array for name, array in {**changed, **changes}.items() if array is not None}
        refused(lambda: optimizer.load_state(OptimizerState(changed, {"updates": updates})), *words)
        same(optimizer.state().arrays, before)
        assert optimizer.updates == 2

    good = state.arrays["mean.head"]
    bad = good.copy()
    bad[3, 3] = math.nan
    refuses({"mean.head": None}, "missing mean.head", "unknown none")
    refuses({"mean.tail": good}, "unknown mean.tail")
    refuses({"mean.head": good[:3]}, "mean.head", "[3, 12]", "[7, 12]")
    refuses({"mean.head": good.astype(np.float64)}, "mean.head", "float64")
    refuses({"mean.head": bad}, "mean.head", "not finite")
    refuses({"square.head": -np.ones_like(good)}, "square.head", "-1.0")
    refuses({}, "updates is -1", updates=-1)
    refuses({}, "updates is 1.5", updates=1.5)
    wrong = replace(state, integers={"steps": 3})
    refused(lambda: optimizer.load_state(wrong), "missing updates", "unknown steps")


# ---------------------------------------------------------------- mistakes


def test_mistakes() -> None:
    weights, gradients = arrays(1), zeros()
    refused(lambda: adamw(weights, {}), "gradients", "missing embedding")
    refused(lambda: adamw({**weights, "more": weights["head"]}, gradients), "weights", "unknown more")
    refused(lambda: adamw({**weights, "head": weights["head"][:3]}, gradients), "weights: head", "[3, 12]")
    refused(lambda: adamw({**weights, "head": np.ones((12, 7), np.float32).T}, gradients), "head", "contiguous")
    shared = {**weights, "layers.0.w1": weights["layers.1.w1"]}
    refused(lambda: adamw(shared, gradients), "weight layers.0.w1", "weight layers.1.w1", "share memory")
    refused(lambda: sgd(weights, weights), "share memory")
    refused(lambda: adamw(weights, gradients, groups=[Group("layer.0.w1")]), "'layer.0.w1'", "did you mean", "layers.0")
    refused(lambda: adamw(weights, gradients, groups=[Group("nothing")]), "'nothing'", "there are embedding")
    refused(lambda: Group([]), "patterns")
    refused(lambda: Group("head", lr_factor=-1.0), "lr_factor is -1.0")
    refused(lambda: Group("head", decay=math.nan), "decay is nan")
    refused(lambda: adamw(weights, gradients, clip=0.0), "clip is 0.0")
    refused(lambda: adamw(weights, gradients, weight_decay=-0.1), "weight_decay is -0.1")
    refused(lambda: adamw(weights, gradients, betas=(0.9, 1.0)), "betas", "1.0")
    refused(lambda: adamw(weights, gradients, eps=0.0), "eps is 0.0")
    optimizer = adamw(weights, gradients)
    refused(lambda: optimizer.step(math.nan, 1), "lr is nan")
    refused(lambda: optimizer.step(0.1, 0), "count is 0")
    refused(lambda: optimizer.step(0.1, 1, scale=0.0), "scale is 0.0")
    assert optimizer.updates == 0
    same(weights, arrays(1))
