"""Are 8-bit weights and activations quicker than fp16? The five published stacks of convolutions on 64x64 positions.

W8A8: what enters a convolution is quantized to int8 and dequantized again (one scale a tensor), and its weight is an
int8 constant (constexpr_affine_dequantize, one scale an output channel). An engine that has int8 arithmetic needs no
fp16 in between; one that has not computes the same in fp16.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from anetrain.bench.base import (
    Bench,
    Bound,
    Case,
    Lab,
    Scale,
    all_of,
    compare,
    compare_on_the_whole,
    relative_rms,
)
from anetrain.bench.convolutions import CAUTION, HALF, ROUNDING
from anetrain.bench.quantised import INT8_STEPS, int8_per_channel, row_sizes
from anetrain.bench.resampling import ratio_of_times
from anetrain.mil import Graph, Value
from anetrain.results import Check, Finding, Measurement, Scalar

STACKS = ((128, 512), (64, 512), (256, 256), (128, 256), (128, 384))
"""Layers and channels, in the order of the published table."""
POSITIONS = 64  # that numpy computes: a 1x1 convolution keeps positions apart
FP16, EIGHT_BITS = "fp16", "W8A8"
BEYOND_ROUNDING = 2.0  # times what quantising costs: see `_allowed`
FAR = 0.75  # a result that far off says nothing: it is never allowed

Halves = npt.NDArray[np.float16]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Sizes:
    divisor: int  # of layers and channels
    side: int  # positions are side x side


SIZES: Mapping[Scale, _Sizes] = {"full": _Sizes(1, 64), "small": _Sizes(16, 8)}


@dataclass(frozen=True)
class Shape:
    channels: int
    layers: int
    side: int

    @property
    def name(self) -> str:
        """As in the published table: 128x512ch 64x64."""
        return f"{self.layers}x{self.channels}ch {self.side}x{self.side}"

    @property
    def parameters(self) -> dict[str, Scalar]:
        return {"channels": self.channels, "layers": self.layers, "side": self.side}

    @property
    def flops(self) -> int:
        """Of the convolutions, as published: quantising is not counted."""
        return 2 * self.layers * self.channels**2 * self.side**2

    @property
    def activation_bytes(self) -> int:
        """Input and output, fp16 in both formats."""
        return 2 * HALF * self.channels * self.side**2

    def weight_bytes(self, eight_bits: bool) -> int:
        scales = HALF * self.channels * self.layers
        elements = self.layers * self.channels**2
        return elements + scales if eight_bits else HALF * elements


@dataclass(frozen=True)
class Layer:
    """A weight [out, in] in fp16, the same in int8, and the step of what enters it."""

    weight: Halves
    data: npt.NDArray[np.int8]
    scales: Halves  # [out]
    step: np.float16


class Int8(Bench):
    name = "int8"
    question = "Are 8-bit weights and activations (W8A8) quicker than fp16, and how far off are their results?"
    columns: ClassVar[tuple[str, ...]] = ("gop", "ms", "tops", "distance_to_unquantised")

    def cases(self, scale: Scale) -> Sequence[Case]:
        sizes = SIZES[scale]
        shapes = [Shape(channels // sizes.divisor, layers // sizes.divisor, sizes.side) for layers, channels in STACKS]
        formats = (FP16, EIGHT_BITS)
        return [Case(f"{shape.name} {one}", shape.parameters | {"format": one}) for shape in shapes for one in formats]

    def measure(self, lab: Lab, case: Case) -> Measurement:
        shape, eight_bits = _shape(case), case.parameters["format"] == EIGHT_BITS
        random = lab.random()
        x = random.standard_normal((shape.channels, shape.side**2), np.float32).astype(np.float16)
        places = np.linspace(0, shape.side**2 - 1, min(POSITIONS, shape.side**2)).astype(int)
        layers = calibrated_layers(random, shape, x[:, places])
        bound = _bound(lab, shape, layers, x, eight_bits, case.name)
        found, unquantised = _output(bound, places), in_numpy(layers, x[:, places], eight_bits=False)
        expected = in_numpy(layers, x[:, places], eight_bits)
        allowed = allowed_on_the_whole(shape.layers, relative_rms(expected, unquantised))
        check = all_of(
            compare_on_the_whole(found, expected, allowed=allowed, against=_oracle(eight_bits)),
            _check_of_one_layer(lab, shape, layers[0], x, places, eight_bits),
        )
        seen = eight_bits and check.passed  # what is wrong may not even be finite
        observed = {"distance_to_unquantised": relative_rms(found, unquantised)} if seen else {}
        weight_bytes = shape.weight_bytes(eight_bits)
        return self.timed(
            case,
            check,
            lambda: lab.meter.time(bound.request.run),
            flops=shape.flops,
            bytes_moved=weight_bytes + shape.activation_bytes,
            weight_bytes=weight_bytes,
            activation_bytes=shape.activation_bytes,
            observed=observed,
        )

    def findings(self, measured: Sequence[Measurement]) -> Sequence[Finding]:
        found = [_speed_up(measured), _distance(measured)]
        return [one for one in found if one is not None]


def _shape(case: Case | Measurement) -> Shape:
    return Shape(*(int(case.parameters[name] or 0) for name in ("channels", "layers", "side")))


def _oracle(eight_bits: bool) -> str:
    return "numpy, quantised in the same way" if eight_bits else "numpy in float32"


# ---------------------------------------------------------------- the program


def graph_of(layers: Sequence[Layer], side: int, eight_bits: bool) -> Graph:
    """The published programs have 64x64 at their border; here rows of 64 are joined there, as every known system
    accepts (ANE_FACTS 0.3). They lie in memory as before."""
    graph, channels = Graph(), len(layers[0].weight)
    x = graph.input("a_x", (1, channels, 1, side**2))
    x = graph.reshape(x, (1, channels, side, side))
    for index, layer in enumerate(layers):
        if eight_bits:
            x = graph.dequantize(graph.quantize(x, float(layer.step), output_dtype="int8"), float(layer.step))
        x = graph.conv(x, _weight(graph, layer, f"w{index:03}", eight_bits))
    graph.output("y", graph.reshape(x, (1, channels, 1, side**2)))
    return graph


def _weight(graph: Graph, layer: Layer, name: str, eight_bits: bool) -> Value:
    """[out, in, 1, 1]"""
    if not eight_bits:
        return graph.constant(layer.weight[:, :, None, None], name)
    data = graph.constant(layer.data[:, :, None, None], f"{name}_data")
    scales = graph.constant(layer.scales, f"{name}_scale", inline=False)
    return graph.constexpr_affine_dequantize(data, np.int8(0), scales, axis=0)


def _bound(lab: Lab, shape: Shape, layers: Sequence[Layer], x: Halves, eight_bits: bool, label: str) -> Bound:
    """Evaluated once."""
    bound = Bound.of(lab.device, graph_of(layers, shape.side, eight_bits), {"a_x": x}, label, single_blob=True)
    bound.request.run()
    return bound


def _output(bound: Bound, places: npt.NDArray[np.int_]) -> Floats:
    """[C, places]"""
    return np.asarray(bound.read("y")[0, :, 0, places].T)


def _check_of_one_layer(
    lab: Lab, shape: Shape, layer: Layer, x: Halves, places: npt.NDArray[np.int_], eight_bits: bool
) -> Check:
    """Nothing has piled up behind one layer: each value must be right, and a scale that belongs to another channel, or
    an activation that was not quantised, is seen."""
    bound = _bound(lab, shape, [layer], x, eight_bits, f"{shape.name}, its first layer")
    expected = in_numpy([layer], x[:, places], eight_bits)
    check = compare(_output(bound, places), expected, allowed=CAUTION * ROUNDING, against=_oracle(eight_bits))
    bound.unload()
    return check


# ---------------------------------------------------------------- what it must compute


def balanced_weights(random: np.random.Generator, shape: Shape) -> Iterator[Halves]:
    """Rotations, whose rows differ threefold in size: a scale that belongs to another channel is seen. Columns undo
    what the rows before them did. So values keep their size behind hundreds of layers, and errors do, too; behind
    plain random matrices errors grow beside the values."""
    before = np.ones(shape.channels, np.float32)
    for _ in range(shape.layers):
        rotation, _ = np.linalg.qr(random.standard_normal((shape.channels, shape.channels), np.float32))
        sizes = row_sizes(random, shape.channels)
        yield (sizes[:, None] * rotation / before).astype(np.float16)
        before = sizes


def calibrated_layers(random: np.random.Generator, shape: Shape, x: Halves) -> list[Layer]:
    """`x` [C, positions] is what steps are chosen by: the largest value of each tensor on the way has a place in int8.
    Steps are powers of two, and dividing by them is exact: no result hangs on how an engine divides."""
    layers, value = [], x.astype(np.float32)
    for weight in balanced_weights(random, shape):
        step = np.float16(2.0 ** np.ceil(np.log2(np.abs(value).max() / INT8_STEPS)))
        data, scales = int8_per_channel(weight)
        layers.append(Layer(weight, data, scales, step))
        value = weight.astype(np.float32) @ value
    return layers


def in_numpy(layers: Sequence[Layer], x: Halves, eight_bits: bool) -> Floats:
    """[C, positions] -> [C, positions]. Products of int8 and their sums are exact in float32."""
    value = x.astype(np.float32)
    for layer in layers:
        if eight_bits:
            step = np.float32(layer.step)
            steps = np.clip(np.rint(value / step), -INT8_STEPS - 1, INT8_STEPS)
            value = (layer.data.astype(np.float32) @ steps) * (layer.scales.astype(np.float32) * step)[:, None]
        else:
            value = layer.weight.astype(np.float32) @ value
        value = value.astype(np.float16).astype(np.float32)
    return value


def allowed_on_the_whole(layers: int, quantising: float) -> float:
    """As a share of the results. `quantising`: how far numpy's quantised results are from the unquantised ones.

    A value between two steps goes up or down by a hair, and two right computations soon have different ones; behind
    many layers their errors are as different as errors of quantising can be, of which that distance is a measure.
    Rounding to fp16 adds its own. One scale for all channels, or a layer left out, gives about 1.
    """
    return min(FAR, max(BEYOND_ROUNDING * quantising, CAUTION * math.sqrt(layers) * ROUNDING))


# ---------------------------------------------------------------- findings


def _pairs(measured: Sequence[Measurement]) -> list[tuple[Shape, Measurement, Measurement]]:
    """Of each shape that was measured in both formats: (fp16, W8A8)."""
    timed = {(_shape(one), one.parameters["format"]): one for one in measured if one.timing is not None}
    shapes = dict.fromkeys(shape for shape, _ in timed)
    return [
        (shape, timed[shape, FP16], timed[shape, EIGHT_BITS])
        for shape in shapes
        if (shape, FP16) in timed and (shape, EIGHT_BITS) in timed
    ]


def _speed_up(measured: Sequence[Measurement]) -> Finding | None:
    pairs = _pairs(measured)
    if not pairs:
        return None
    ratios = {shape.name: ratio_of_times(fp16, eight) for shape, fp16, eight in pairs}
    each = [f"{name} {ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})" for name, ratio in ratios.items()]
    return Finding(
        bench=Int8.name,
        question="How many times as quick as fp16 is W8A8?",
        answer=f"{'; '.join(each)}. In brackets: what noise leaves open.",
        figures={name: ratio.value for name, ratio in ratios.items()},
        basis=tuple(one.case for _, fp16, eight in pairs for one in (fp16, eight)),
    )


def _distance(measured: Sequence[Measurement]) -> Finding | None:
    name = "distance_to_unquantised"
    distances = {one.case: float(one.observed[name] or 0) for one in measured if name in one.observed}
    if not distances:
        return None
    low, high = min(distances.values()), max(distances.values())
    return Finding(
        bench=Int8.name,
        question="How far are its results from those of the same stack in fp16?",
        answer=f"{low:.1%} to {high:.1%} of them (root mean square), by depth.",
        figures=distances,
        basis=tuple(distances),
        from_times=False,
    )
