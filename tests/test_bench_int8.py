"""The bench of W8A8: its published shapes, what it must compute, and what a wrong scale gives."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from anetrain import device
from anetrain.bench import Lab, int8
from anetrain.bench.int8 import Int8, Layer, Shape
from anetrain.mil import Graph
from anetrain.results import Measurement, Meter
from tests.bench_runs import by_case, made_up, small_run
from tests.support import emulator

# M5 Max: layers, channels, GOP, ms and TOPS of fp16 and of W8A8, ratio
PUBLISHED = [
    (128, 512, 274.88, 14.263, 19.27, 7.720, 35.61, 1.85),
    (64, 512, 137.44, 7.153, 19.21, 3.824, 35.94, 1.87),
    (256, 256, 137.44, 7.318, 18.78, 4.118, 33.37, 1.78),
    (128, 256, 68.72, 3.696, 18.59, 2.112, 32.54, 1.75),
    (128, 384, 154.62, 8.154, 18.96, 4.389, 35.23, 1.86),
]


def measured(case: str, ms: float) -> Measurement:
    (found,) = (one for one in Int8().cases("full") if one.name == case)
    shape = Shape(*(int(found.parameters[name] or 0) for name in ("channels", "layers", "side")))
    return made_up("int8", case, ms, found.parameters, flops=shape.flops)


@pytest.mark.parametrize(("layers", "channels", "gop", "ms", "tops", "eight_ms", "eight_tops", "ratio"), PUBLISHED)
def test_the_published_rows_add_up(
    layers: int, channels: int, gop: float, ms: float, tops: float, eight_ms: float, eight_tops: float, ratio: float
) -> None:
    name = f"{layers}x{channels}ch 64x64"
    fp16, eight = measured(f"{name} fp16", ms), measured(f"{name} W8A8", eight_ms)
    assert (fp16.flops or 0) / 1e9 == pytest.approx(gop, abs=0.005)
    assert fp16.figures["tflops"] == pytest.approx(tops, abs=0.006)
    assert eight.figures["tflops"] == pytest.approx(eight_tops, abs=0.01)
    (found,) = Int8().findings([fp16, eight])
    assert found.figures == {name: pytest.approx(ratio, abs=0.006)}


def test_the_cases_are_the_published_ones() -> None:
    cases = Int8().cases("full")
    assert [case.name for case in cases] == [
        f"{layers}x{channels}ch 64x64 {form}" for layers, channels, *_ in PUBLISHED for form in ("fp16", "W8A8")
    ]
    assert {case.parameters["side"] for case in cases} == {64}


@pytest.mark.parametrize("profile", device.profiles())
def test_every_profile(profile: str) -> None:
    rules = emulator(profile).facts["rules"]
    refusal = "new-dialect" if "new-dialect" in rules else "quantize" if "quantize" in rules else ""
    for one in small_run("int8", profile).measurements:
        if one.parameters["format"] == "W8A8" and refusal:
            assert one.status == "refused"
            assert f"rule {refusal}" in one.reason
        else:
            assert one.status == "measured", one.reason


@pytest.mark.parametrize("profile", ["m1", "m3ultra", "m4"])
def test_the_engines_arithmetic_passes_the_checks(profile: str) -> None:
    assert {one.status for one in small_run("int8", profile, executor="audit").measurements} <= {"measured", "refused"}


def test_what_is_counted() -> None:
    """By hand: 8 layers of 32 channels on 8x8 positions. The device counts the convolutions alike."""
    found = by_case(small_run("int8", "exact"))
    fp16, eight = found["8x32ch 8x8 fp16"], found["8x32ch 8x8 W8A8"]
    assert fp16.flops == eight.flops == 2 * 8 * 32 * 32 * 64
    assert (fp16.weight_bytes, eight.weight_bytes) == (2 * 8 * 1024, 8 * (1024 + 2 * 32))
    assert fp16.activation_bytes == eight.activation_bytes == 2 * 2 * 32 * 64
    assert eight.bytes_moved == 8 * (1024 + 64) + 8192
    layers = some_layers(4)
    program = emulator().compile(int8.graph_of(layers, 8, eight_bits=False).program())
    assert program.report["flops"] == Shape(16, 4, 8).flops


# ---------------------------------------------------------------- what it must compute


def some_layers(count: int, channels: int = 16) -> list[Layer]:
    random = np.random.default_rng(5)
    x = random.standard_normal((channels, 64)).astype(np.float16)
    return int8.calibrated_layers(random, Shape(channels, count, 8), x)


def test_layers_keep_values_and_differ_in_rows() -> None:
    random = np.random.default_rng(1)
    x = random.standard_normal((48, 64)).astype(np.float16)
    layers = int8.calibrated_layers(random, Shape(48, 60, 8), x)
    behind = int8.in_numpy(layers, x, eight_bits=False)
    assert 0.5 < np.std(behind) < 2
    rows = np.linalg.norm(layers[0].weight.astype(np.float64), axis=1)
    assert rows.max() / rows.min() > 2
    for layer in layers:
        assert np.log2(layer.step) % 1 == 0


def test_numpys_layer_is_the_definition() -> None:
    """Element by element, in Python's integers."""
    (layer,) = some_layers(1)
    x = np.random.default_rng(2).standard_normal((16, 3)).astype(np.float16)
    expected = np.zeros((16, 3))
    for o in range(16):
        for p in range(3):
            steps = [max(-128, min(127, round(float(v) / float(layer.step)))) for v in x[:, p]]
            total = sum(int(w) * s for w, s in zip(layer.data[o], steps, strict=True))
            expected[o, p] = total * float(layer.scales[o]) * float(layer.step)
    np.testing.assert_allclose(int8.in_numpy([layer], x, eight_bits=True), expected, rtol=2**-11, atol=1e-7)


def test_calibration_leaves_a_place_for_the_largest_value() -> None:
    random = np.random.default_rng(1)
    x = random.standard_normal((16, 64)).astype(np.float16)
    (layer,) = int8.calibrated_layers(random, Shape(16, 1, 8), x)
    assert 63 <= np.abs(x).max() / float(layer.step) <= 127


def test_quantising_is_what_the_distance_says() -> None:
    found = by_case(small_run("int8", "exact"))
    for one in found.values():
        if one.parameters["format"] == "W8A8":
            assert 0.01 < float(one.observed["distance_to_unquantised"] or 0) < 0.1
        else:
            assert not one.observed


# ---------------------------------------------------------------- what computes wrongly

Edit = Callable[[Layer], Layer]


def one_scale(layer: Layer) -> Layer:
    return dataclasses.replace(layer, scales=np.full_like(layer.scales, layer.scales.max()))


def shifted_scales(layer: Layer) -> Layer:
    return dataclasses.replace(layer, scales=np.roll(layer.scales, 1))


def transposed(layer: Layer) -> Layer:
    return dataclasses.replace(layer, data=np.ascontiguousarray(layer.data.T))


def wider_step(layer: Layer) -> Layer:
    return dataclasses.replace(layer, step=np.float16(2 * layer.step))


@pytest.mark.parametrize("edit", [one_scale, shifted_scales, transposed, wider_step])
def test_wrong_layers_are_seen(monkeypatch: pytest.MonkeyPatch, edit: Edit) -> None:
    assert wrongly_built(monkeypatch, lambda layers: [edit(layer) for layer in layers]).status == "wrong"


@pytest.mark.parametrize("edit", [one_scale, shifted_scales, transposed])
def test_one_wrong_layer_behind_right_ones_is_seen(monkeypatch: pytest.MonkeyPatch, edit: Edit) -> None:
    def last(layers: Sequence[Layer]) -> Sequence[Layer]:
        return layers if len(layers) == 1 else [*layers[:-1], edit(layers[-1])]

    found = wrongly_built(monkeypatch, last)
    assert found.status == "wrong"
    assert found.check is not None
    assert found.check.of == "the root mean square"


def test_a_missing_layer_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert wrongly_built(monkeypatch, lambda layers: layers[: max(1, len(layers) - 1)]).status == "wrong"


def test_activations_that_are_not_quantised_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their results are nearer to the unquantised ones, and wrong all the same."""

    def unquantised(self: Graph, *arguments: Any, **named: Any) -> Any:
        return arguments[0]

    monkeypatch.setattr(Graph, "quantize", unquantised)
    monkeypatch.setattr(Graph, "dequantize", unquantised)
    found = measure()
    assert found.status == "wrong"
    assert found.check is not None
    assert found.check.of == "the largest magnitude"


def test_values_that_are_not_finite_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8.Bound, "read", lambda bound, name: np.full((1, 32, 1, 64), np.inf, np.float32))
    found = measure()
    assert found.status == "wrong"
    assert found.reason.startswith("values that are not finite against numpy")
    assert not found.observed


def test_right_layers_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    assert wrongly_built(monkeypatch, lambda layers: list(layers)).status == "measured"


def wrongly_built(monkeypatch: pytest.MonkeyPatch, edit: Callable[[Sequence[Layer]], Sequence[Layer]]) -> Measurement:
    def graph_of(layers: Sequence[Layer], side: int, eight_bits: bool) -> Graph:
        return right(edit(layers), side, eight_bits)

    right = int8.graph_of
    monkeypatch.setattr(int8, "graph_of", graph_of)
    return measure()


def measure() -> Measurement:
    (case,) = (case for case in Int8().cases("small") if case.name == "8x32ch 8x8 W8A8")
    return Int8().measure(Lab(emulator("m4"), Meter(least_samples=1, least_s=0.0)), case)


# ---------------------------------------------------------------- findings


def test_ratios_are_of_the_same_shape_only() -> None:
    fp16, eight = measured("128x512ch 64x64 fp16", 14.0), measured("64x512ch 64x64 W8A8", 4.0)
    assert not Int8().findings([fp16, eight])
    assert not Int8().findings([fp16])
    assert not Int8().findings([])


def test_the_sentence() -> None:
    parameters = {"channels": 512, "layers": 64, "side": 64}
    fp16 = made_up("int8", "a", [7.0, 7.2, 7.4] * 10, parameters | {"format": "fp16"})
    eight = made_up("int8", "b", [3.5, 3.6, 3.7] * 10, parameters | {"format": "W8A8"})
    (found,) = Int8().findings([fp16, eight])
    assert found.answer == "64x512ch 64x64 2.00 (1.95 to 2.06). In brackets: what noise leaves open."
    assert found.figures == {"64x512ch 64x64": pytest.approx(2.0)}
    assert (found.basis, found.from_times) == (("a", "b"), True)


def test_an_emulator_has_a_distance_and_no_ratio() -> None:
    (found,) = small_run("int8", "m4").findings
    assert not found.from_times
    assert found.answer == "3.6% to 7.2% of them (root mean square), by depth."
    assert not small_run("int8", "m5").findings
