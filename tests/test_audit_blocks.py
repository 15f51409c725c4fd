"""Whole blocks near the ends of the engine's arithmetic, under executor="audit": products near 2^-14, which an M1 drops
and an M4 keeps, and sums near 2^15, which neither can hold. Larger and smaller loss scales are the cure."""

from __future__ import annotations

import numpy as np
import pytest

from anetrain.blocks import Linear, LlamaBlock
from anetrain.pipeline import NonFiniteError
from tests.block_runs import spec
from tests.emulated import Arrays, EmulatedBlock, assert_near, distance, tensors
from tests.support import emulator

SMALL_GRADIENT = 2.0**-12  # of a loss that is a mean over a few thousand tokens
FLUSHES = {"m1": True, "m4": False}


def audited(chip: str, gradient: float, loss_scale: float) -> tuple[Arrays, Arrays, dict[str, int]]:
    """Tensors found and expected of a Llama layer whose output's gradient has this size, and the programs' counters."""
    run = EmulatedBlock(LlamaBlock(), spec(), emulator(chip, executor="audit"), loss_scale=loss_scale)
    run.dy *= np.float32(gradient)
    found = tensors(run.run())
    reports = [program.report["counters"] for program in run.compiled.programs.values()]
    names = ("products", "flushed_products", "overflowed_sums", "infinite_values")
    return found, tensors(run.expected()), {name: sum(report[name] for report in reports) for name in names}


@pytest.mark.parametrize("chip", FLUSHES)
def test_small_gradients_need_a_loss_scale_where_products_are_flushed(chip: str) -> None:
    found, expected, before = audited(chip, SMALL_GRADIENT, 1.0)
    wk = "gradient of attention.wk"
    if FLUSHES[chip]:
        assert before["flushed_products"] > 0.2 * before["products"]
        assert distance(found[wk], expected[wk])[0] > 0.1
    else:
        assert before["flushed_products"] == 0
    found, expected, after = audited(chip, SMALL_GRADIENT, 2.0**12)
    assert after["flushed_products"] <= 0.05 * after["products"]
    assert after["overflowed_sums"] == after["infinite_values"] == 0
    assert_near(found, expected, 1.2e-2)


def square(chip: str, weight: float, x: float, dy: float, loss_scale: float = 1.0) -> EmulatedBlock:
    """y = W x, 64 x 64, where all elements of W, of x and of dy are equal."""
    s = spec(dim=64)
    run = EmulatedBlock(Linear(64, 64), s, emulator(chip, executor="audit"), loss_scale=loss_scale)
    run.parameters["weight"].fill(weight)
    run.x.fill(x)
    run.dy.fill(dy)
    return run


@pytest.mark.parametrize("chip", FLUSHES)
def test_products_of_a_linear_layer_near_the_flush(chip: str) -> None:
    """2^-14 is kept everywhere; half of it is lost on an M1, forward and backward, and a loss scale of 2 helps the
    gradient, not the output."""
    whole, half = 2.0**-7, 2.0**-8
    for x, dy, loss_scale in ((whole, half, 1.0), (half, whole, 1.0), (half, half, 2.0)):
        result = square(chip, whole, x, dy, loss_scale).run()
        lost_y = FLUSHES[chip] and x == half
        lost_dx = FLUSHES[chip] and dy * loss_scale == half
        assert np.all(result.outputs["y"] == (0.0 if lost_y else 64 * whole * x))
        assert np.all(result.gradients["x"] == (0.0 if lost_dx else 64 * whole * dy))


@pytest.mark.parametrize("chip", FLUSHES)
def test_sums_of_a_linear_layer_near_the_overflow(chip: str) -> None:
    """64 x 511.75 = 32,752 is the last sum that passes. Forward, the layer's output shows it; backward, the gradients
    are refused, and half the loss scale brings them back."""
    below, at = 511.75, 512.0
    result = square(chip, 1.0, below, below).run()
    assert np.all(result.outputs["y"] == 32_752)
    assert np.all(result.gradients["x"] == 32_752)
    assert np.all(np.isinf(square(chip, 1.0, at, 1.0).run().outputs["y"]))
    run = square(chip, 1.0, 1.0, at)
    with pytest.raises(NonFiniteError, match="backward: not finite"):
        run.run()
    assert not run.gradients["weight"].any(), "a refused backward adds nothing"
    run = square(chip, 1.0, 1.0, at, loss_scale=0.5)
    result = run.run()
    assert np.all(result.gradients["x"] == 32_768)
    assert np.all(result.parameters["weight"] == at * run.spec.tokens)
