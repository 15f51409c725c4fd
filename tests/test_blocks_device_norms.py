"""Norms on the device, forward and backward, for all magnitudes that a residual stream has, in the arithmetic of chips.
PITFALLS B12: squares of x = 12 over 768 channels have a sum that fp16 does not hold."""

from __future__ import annotations

import numpy as np
import pytest

from anetrain import reference
from anetrain.autodiff import Derived, differentiate
from anetrain.blocks import Block, LayerNorm, ModelSpec, RMSNorm, build
from anetrain.lower import lower
from anetrain.mil.types import Array
from anetrain.pipeline import CompiledPlan, Layer, SurfacePool
from tests.block_runs import random_parameters
from tests.support import emulator

CHANNELS, TOKENS = 768, 32
SHAPE = (1, CHANNELS, 1, TOKENS)
MAGNITUDES = (0.005, 0.02, 1.0, 12.0, 300.0, 2000.0)
DEVICES = [("exact", "fast"), ("exact", "audit"), ("m1", "audit"), ("m4", "audit"), ("m3ultra", "audit")]
TOLERANCE = 1e-2


def derive(block: Block, eps: float) -> tuple[Derived, dict[str, Array]]:
    s = ModelSpec(dim=CHANNELS, hidden=1, layers=1, heads=1, kv_heads=1, head_dim=2, vocab=1, seq=TOKENS, norm_eps=eps)
    derived = differentiate(build(block, s, norms="device"))
    parameters = random_parameters(derived.graph)
    return derived, {name: array.astype(np.float16).astype(np.float32) for name, array in parameters.items()}


def make_layer(derived: Derived, parameters: dict[str, Array], profile: str, executor: str) -> Layer:
    device = emulator(profile, executor=executor)
    gradients = {name: np.zeros_like(array) for name, array in parameters.items()}
    plan = lower(derived, dialect=str(device.facts["dialect"]))
    layer = Layer(CompiledPlan(device, plan, parameters), parameters, gradients, SurfacePool())
    layer.stage()
    return layer


def shapes_of_rows(random: np.random.Generator) -> dict[str, Array]:
    """Rows whose largest element is about 1."""
    normal = random.standard_normal(SHAPE)
    outlier = normal / 64
    outlier[:, 5] = 1.0
    offset = 1 + 0.02 * normal
    return {"signs": np.sign(normal), "normal": normal, "outlier": outlier, "offset": offset, "negative": -offset}


def halves(array: Array) -> Array:
    """As the device will see it."""
    return np.asarray(array.astype(np.float16).astype(np.float32))


def assert_near(found: Array, expected: Array, what: str) -> None:
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert error <= TOLERANCE, f"{what}: {error:.2e}"


@pytest.mark.parametrize("eps", [1e-5, 1e-6])
@pytest.mark.parametrize(("profile", "executor"), DEVICES)
@pytest.mark.parametrize("block", [RMSNorm, LayerNorm])
def test_any_magnitude(block: type[Block], profile: str, executor: str, eps: float) -> None:
    derived, parameters = derive(block(), eps)
    layer = make_layer(derived, parameters, profile, executor)
    random = np.random.default_rng(0)
    rows = shapes_of_rows(random)
    for magnitude in MAGNITUDES:
        for name, row in rows.items():
            x = halves(magnitude * row)
            for dy in (random.standard_normal(SHAPE), np.sign(x), 0.1 * random.standard_normal(SHAPE)):
                dy = halves(dy)
                expected = reference.run(derived, {"x": x, "d_y": dy}, parameters)
                what = f"{magnitude} {name}"
                assert_near(layer.forward({"x": x})["y"], expected.outputs["y"], f"{what}: y")
                assert_near(layer.backward({"y": dy})["x"], expected.gradients["x"], f"{what}: dx")


@pytest.mark.parametrize("block", [RMSNorm, LayerNorm])
@pytest.mark.parametrize(("profile", "executor"), [("exact", "fast"), ("m1", "audit"), ("m3ultra", "audit")])
def test_gradients_of_any_magnitude(block: type[Block], profile: str, executor: str) -> None:
    """Loss scaling makes them as large as it can. Along y their products have the largest sum that there can be."""
    derived, parameters = derive(block(), 1e-5)
    for name, array in parameters.items():
        array.fill(1.5 if name == "gain" else 0.0)  # so what reaches the norm stays below 65,504
    layer = make_layer(derived, parameters, profile, executor)
    random = np.random.default_rng(0)
    rows = shapes_of_rows(random)
    for magnitude in (1.0, 12.0, 2000.0):
        for name, row in rows.items():
            tolerance = 5e-2 if name == "outlier" else 2e-2  # its y is 27, times the rounding of the mean
            x = halves(magnitude * row)
            along = np.sign(layer.forward({"x": x})["y"])
            for size in (0.05, 1000.0, 8192.0, 40000.0):
                for dy in (halves(size * along), halves(size * along * (random.random(SHAPE) < 0.5))):
                    expected = reference.run(derived, {"x": x, "d_y": dy}, parameters).gradients["x"]
                    if np.abs(expected).max() > 2.0**15:
                        continue  # fp16 does not hold it
                    layer.forward({"x": x})
                    found = layer.backward({"y": dy})["x"]
                    factor = layer_factor(x, block is LayerNorm)
                    error = (np.abs(found - expected) / (1.5 * size * factor)).max()  # dx may cancel to nothing
                    assert error <= tolerance, f"{magnitude} {name} {size}: {error:.2e}"


def layer_factor(x: Array, centred: bool) -> Array:
    """1 / rms, or 1 / deviation, of each token."""
    x = x.astype(np.float64)
    centre = x.mean(axis=1, keepdims=True) if centred else 0.0
    return np.asarray(1.0 / np.sqrt(((x - centre) ** 2).mean(axis=1, keepdims=True) + 1e-5))


@pytest.mark.parametrize("value", [0.0, 1.0, 12.0, 300.0])
def test_rows_of_equal_elements_have_a_finite_layer_norm(value: float) -> None:
    derived, parameters = derive(LayerNorm(), 1e-5)
    layer = make_layer(derived, parameters, "exact", "fast")
    y = layer.forward({"x": np.full(SHAPE, value, np.float32)})["y"]
    np.testing.assert_allclose(y, np.broadcast_to(parameters["bias"][None, :, None, None], SHAPE), atol=1e-2)
