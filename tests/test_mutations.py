"""A changed weight changes what depends on it, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from anetrain.blocks import LlamaBlock, Qwen3Block
from anetrain.blocks.qwen3 import PUBLISHED
from anetrain.lower import Layout
from anetrain.mil.types import Array
from tests.block_runs import spec
from tests.emulated import Arrays, EmulatedBlock, EmulatedModel, copied, random_tokens, tensors
from tests.support import emulator

FAMILIES: dict[str, dict[str, Any]] = {"llama": {}, "qwen3": PUBLISHED}


def mutate(parameter: Array) -> Array:
    """The old values. The new ones are not just scaled: a norm behind them would not see it."""
    before = parameter.copy()
    parameter *= np.random.default_rng(2).uniform(0.5, 1.5, parameter.shape)
    return before


@pytest.mark.parametrize("layout", ["stacked", "baked"])
@pytest.mark.parametrize("family", FAMILIES)
def test_weights_of_a_model(family: str, layout: Layout) -> None:
    """Outputs of parts before the changed one are the same bit for bit; all behind it, and the loss, are not."""
    s = spec(**FAMILIES[family], dim=36, heads=2, kv_heads=1, tied=False)
    model = EmulatedModel(s, emulator(fp32=True), layout=layout)
    ids, targets = random_tokens(s)
    place = {"embedding": 0, "layers.0": 1, "layers.1": 2, "final_norm": 3, "classifier": 3}

    def run() -> tuple[list[Array], Arrays]:
        loss = model.step(ids, targets)
        outputs = [layer.outputs["y"].copy() for layer in model.layers[:-1]]
        return [*outputs, np.array(loss)], copied(model.gradients)

    outputs, gradients = run()
    for name, parameter in model.parameters.items():
        before = mutate(parameter)
        changed, others = run()
        first = next(position for prefix, position in place.items() if name.startswith(prefix))
        for position, (old, new) in enumerate(zip(outputs, changed, strict=True)):
            assert np.array_equal(old, new) == (position < first), f"{name}: output {position}"
        for other, gradient in gradients.items():
            assert not np.array_equal(gradient, others[other]), f"{name}: gradient of {other}"
        parameter[...] = before
    again, others = run()
    assert all(np.array_equal(old, new) for old, new in zip(outputs, again, strict=True))
    assert all(np.array_equal(gradient, others[name]) for name, gradient in gradients.items())


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_of_a_layer(family: str) -> None:
    """Only where a weight and all behind it are linear does its own gradient not depend on it: w3 and w2."""
    block = Qwen3Block() if family == "qwen3" else LlamaBlock()
    run = EmulatedBlock(block, spec(**FAMILIES[family]), emulator(fp32=True))
    expected = tensors(run.run())
    for name, parameter in run.parameters.items():
        before = mutate(parameter)
        found = tensors(run.run())
        same = [tensor for tensor, array in expected.items() if np.array_equal(array, found[tensor])]
        assert same == ([f"gradient of {name}"] if name in ("ffn.w2", "ffn.w3") else []), name
        parameter[...] = before
