"""Does the engine gain from compressed weights? Five ways to store one weight, at five sizes, on 64 positions.

Each weight is compressed, put into a 1x1 convolution, and read back from the device: columns of the identity matrix
give its columns as the engine sees them. They must be what the bytes of the blob files mean (decoding.py). Then a
random input must give the product, and then it is timed.

The verdicts, which `findings` computes:
- unsupported: no size was computed right: refused, crashed, or wrong, with the device's reason
- native: values are right, and it is quicker than fp16 at the largest size, or moves fewer bytes: a further weight
  (slope of time against size) takes less time than in fp16. By more than noise: what resampling leaves open lies below
  fp16 by more than the fp16 program differs from itself, compiled and measured a second time, and by MARGIN
- dequantise only: values are right, and neither
Native or dequantise only is a matter of an engine's times: of an emulator it cannot be told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from anetrain.bench import decoding
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
    written,
)
from anetrain.bench.convolutions import CAUTION, HALF, ROUNDING
from anetrain.bench.quantised import int8_per_channel, palette, uint4_affine, uneven_rows
from anetrain.bench.resampling import Floats as Many
from anetrain.bench.resampling import interval, resampled_medians, samples_s
from anetrain.mil import Graph, Value
from anetrain.results import Check, Finding, Measurement, Scalar

BLOCK = 32  # weights of a row with one scale
EVALUATIONS = 100  # at least
UNTRIED = ("interrupted", "skipped")
UNPROVEN = "allow_unproven"  # of an emulator's reason: it refused what no engine is known to refuse
ENOUGH = 3  # sizes, for a slope
MARGIN = 0.05  # differences below are not a gain, however sure

SIZES: Mapping[Scale, tuple[tuple[int, int], ...]] = {
    "full": ((768, 768), (2048, 768), (768, 2048), (1024, 1024), (2048, 2048)),
    "small": ((32, 64), (96, 64), (64, 96), (64, 64), (96, 96)),
}
"""Outputs and inputs."""
SPATIAL: Mapping[Scale, int] = {"full": 64, "small": 32}

Floats = npt.NDArray[np.float32]


# ---------------------------------------------------------------- ways to store a weight


@dataclass(frozen=True)
class Approach:
    """`store` puts a weight [out, in] into a graph, as [out, in, 1, 1]; `decode` reads it from the blob files."""

    name: str
    store: Callable[[Graph, Floats], Value]
    decode: Callable[[Mapping[str, bytes], int, int], npt.NDArray[np.float64]]
    coarse: float
    """How far off stored weights may be, as a root mean square: a blob that was written wrongly gives about 1."""
    evidence: str = "direct"
    """Who ran such a program, as in docs/ops.md. An emulator takes what is not direct only with allow_unproven."""


def _fp16(graph: Graph, weight: Floats) -> Value:
    return graph.constant(_kernel(weight), "weight", dtype="fp16")


def _int8(graph: Graph, weight: Floats) -> Value:
    data, scales = int8_per_channel(weight)
    held = graph.constant(_kernel(data), "data", dtype="int8")
    return graph.constexpr_affine_dequantize(held, np.int8(0), graph.constant(scales, "scale", inline=False), axis=0)


def _uint4_affine(graph: Graph, weight: Floats) -> Value:
    return _uint4(graph, weight, block=weight.shape[1])


def _uint4_blocks(graph: Graph, weight: Floats) -> Value:
    return _uint4(graph, weight, block=BLOCK)


def _uint4_blocks_computed(graph: Graph, weight: Floats) -> Value:
    """A sum is no constant: the way around compilers that take no weight of several blocks a channel (ANE_FACTS 3.3).
    The weight may then be expanded at each evaluation."""
    return graph.add(_uint4_blocks(graph, weight), 0.0)


def _uint4(graph: Graph, weight: Floats, block: int) -> Value:
    """constexpr_affine_dequantize has no 4-bit form; this op has, with a scale and an offset for each block."""
    data, scales, zeros = uint4_affine(weight, block)
    return graph.constexpr_blockwise_shift_scale(
        graph.constant(_kernel(data), "data", dtype="uint4"),
        graph.constant(_kernel(scales), "scale", inline=False),
        graph.constant(_kernel(zeros), "offset", dtype="uint4"),
    )


def _palette(graph: Graph, weight: Floats) -> Value:
    indices, values = palette(weight)
    table = graph.constant(values.reshape(1, 1, 1, 1, -1, 1), "lut", inline=False)
    return graph.constexpr_lut_to_dense(graph.constant(_kernel(indices), "indices", dtype="uint4"), table)


def _kernel(matrix: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    return matrix[:, :, None, None]


FP16, FP16_AGAIN = "fp16", "fp16 again"
APPROACHES = {
    approach.name: approach
    for approach in (
        Approach(FP16, _fp16, decoding.plain, 0.001),
        Approach("int8 per channel", _int8, decoding.scaled, 0.02),
        Approach("uint4 affine", _uint4_affine, decoding.scaled, 0.2),
        Approach("uint4 blocks of 32", _uint4_blocks, decoding.scaled, 0.2),
        Approach("uint4 blocks of 32, +0", _uint4_blocks_computed, decoding.scaled, 0.2, evidence="e5rt"),
        Approach("4-bit palette", _palette, decoding.looked_up, 0.3, evidence="e5rt"),
        # The same once more, after the others: what differs between the two is noise.
        Approach(FP16_AGAIN, _fp16, decoding.plain, 0.001),
    )
}


# ---------------------------------------------------------------- the bench


class Quant(Bench):
    name = "quant"
    question = "Which compressed weights does the engine take, and does it gain from them?"
    columns: ClassVar[tuple[str, ...]] = ("weight_mib", "bytes_saved", "quantisation_error", "ms", "tflops")

    def cases(self, scale: Scale) -> Sequence[Case]:
        return [
            Case(
                f"{outputs}x{inputs} {approach.name}",
                {
                    "approach": approach.name,
                    "outputs": outputs,
                    "inputs": inputs,
                    "spatial": SPATIAL[scale],
                    "evidence": approach.evidence,
                },
            )
            for outputs, inputs in SIZES[scale]
            for approach in APPROACHES.values()
        ]

    def measure(self, lab: Lab, case: Case) -> Measurement:
        approach = APPROACHES[str(case.parameters["approach"])]
        outputs, inputs, spatial = (int(case.parameters[name] or 0) for name in ("outputs", "inputs", "spatial"))
        random = lab.random()
        weight = uneven_rows(random, outputs, inputs)
        x = random.standard_normal((inputs, spatial), np.float32).astype(np.float16)
        source = written(lab.device, graph_of(approach, weight, spatial))
        bound = Bound.of_source(lab.device, source, {"a_x": x}, case.name)
        files = {path.rsplit("/", 1)[-1].removesuffix(".bin"): bytes(data) for path, data in source.blobs.items()}
        meant = approach.decode(files, outputs, inputs)
        check = all_of(
            _check_of_weight(bound, meant, spatial),
            _check_of_product(bound, meant, x),
            compare_on_the_whole(meant, weight, allowed=approach.coarse, against="the weight before it was stored"),
        )
        stored = decoding.payload_bytes(files)
        activation_bytes = HALF * (inputs + outputs) * spatial
        observed: dict[str, Scalar] = {"bytes_saved": HALF * outputs * inputs - stored}
        if check.passed:  # what is wrong may not even be finite
            observed["quantisation_error"] = relative_rms(meant, weight)
        meter = replace(lab.meter, least_samples=max(EVALUATIONS, lab.meter.least_samples))
        return self.timed(
            case,
            check,
            lambda: meter.time(bound.request.run),
            flops=2 * outputs * inputs * spatial,
            bytes_moved=stored + activation_bytes,
            weight_bytes=stored,
            activation_bytes=activation_bytes,
            observed=observed,
        )

    def findings(self, measured: Sequence[Measurement]) -> Sequence[Finding]:
        compressed = [name for name in APPROACHES if name not in (FP16, FP16_AGAIN)]
        found = [finding for name in compressed for finding in (_taken(name, measured), _gain(name, measured))]
        return [finding for finding in found if finding is not None]


def graph_of(approach: Approach, weight: Floats, spatial: int) -> Graph:
    graph = Graph()
    x = graph.input("a_x", (1, weight.shape[1], 1, spatial))
    graph.output("y", graph.conv(x, approach.store(graph, weight)))
    return graph


def _check_of_weight(bound: Bound, meant: npt.NDArray[np.float64], spatial: int) -> Check:
    """The weight as the engine sees it: each product with a column of the identity has one term."""
    outputs, inputs = meant.shape
    seen = np.empty((outputs, inputs), np.float32)
    identity = np.eye(inputs, dtype=np.float16)
    for start in range(0, inputs, spatial):
        columns = np.zeros((inputs, spatial), np.float16)
        width = min(spatial, inputs - start)
        columns[:, :width] = identity[:, start : start + width]
        bound.write("a_x", columns)
        bound.request.run()
        seen[:, start : start + width] = bound.read("y")[0, :, 0, :width]
    return compare(seen, meant, allowed=2 * ROUNDING, against="numpy's reading of the blob files")


def _check_of_product(bound: Bound, meant: npt.NDArray[np.float64], x: npt.NDArray[np.float16]) -> Check:
    """Leaves `x` on the device: it is what is timed."""
    bound.write("a_x", x)
    bound.request.run()
    expected = meant @ x.astype(np.float64)
    return compare(bound.read("y")[0, :, 0], expected, allowed=CAUTION * ROUNDING, against="numpy in float64")


# ---------------------------------------------------------------- verdicts


def _taken(name: str, measured: Sequence[Measurement]) -> Finding | None:
    """Does the device take it, with right values? Rests on no time."""
    tried = [one for one in measured if one.parameters["approach"] == name and one.status not in UNTRIED]
    right = [one for one in tried if one.status == "measured"]
    if not tried:
        return None
    figures = {"right": float(len(right)), "tried": float(len(tried))}
    if right:
        saved = sum(int(one.observed["bytes_saved"] or 0) for one in right)
        figures["saved_share"] = saved / (saved + sum(one.weight_bytes or 0 for one in right))
        answer = (
            f"Yes, with right values at {len(right)} of {len(tried)} sizes, and {figures['saved_share']:.0%} of the "
            "weight bytes saved. Native or dequantise only: that cannot be told without times of an engine."
        )
    elif all(UNPROVEN in one.reason for one in tried):
        answer = (
            "Not tried: an emulator takes what nobody is known to have run on an engine only with --allow-unproven."
        )
    else:
        answer = (
            f"Unsupported: {tried[0].status} at {tried[0].case}: {tried[0].reason.removeprefix(f'{tried[0].case}: ')}"
        )
    return Finding(
        bench=Quant.name,
        question=f"Does the device take weights as {name}?",
        answer=answer,
        figures=figures,
        basis=tuple(one.case for one in tried),
        from_times=False,
    )


Size = tuple[int, int]


def _weights(size: Size) -> int:
    return size[0] * size[1]


@dataclass(frozen=True)
class Share:
    """Of what fp16 takes. `low` to `high`: what resampling leaves open; `noise`: by how much fp16 is off itself."""

    value: float
    low: float
    high: float
    noise: float

    @property
    def is_gain(self) -> bool:
        return self.high < 1 - max(self.noise, MARGIN)

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f}; fp16 against itself: {1 + self.noise:.2f})"


def _gain(name: str, measured: Sequence[Measurement]) -> Finding | None:
    """Native or dequantise only, from the sizes of which it and fp16 were timed."""
    fp16, other, again = (_timed(measured, way) for way in (FP16, name, FP16_AGAIN))
    sizes = sorted(fp16.keys() & other.keys(), key=_weights)
    if not sizes:
        return None
    largest = sizes[-1]
    shares = {"time": _share(_times, [largest], fp16, other, again)}
    answer = f"{shares['time']} of the time of fp16 at {largest[0]}x{largest[1]}"
    if len({_weights(size) for size in sizes}) >= ENOUGH:
        shares["weight_time"] = _share(_slopes, sizes, fp16, other, again)
        answer += f", {shares['weight_time']} for a further weight"
    native = any(share.is_gain for share in shares.values())
    return Finding(
        bench=Quant.name,
        question=f"Does the engine gain from weights as {name}?",
        answer=f"{'Native' if native else 'Dequantise only'}: {answer}.",
        figures={f"{what}_share": share.value for what, share in shares.items()}
        | {f"{what}_noise": share.noise for what, share in shares.items()},
        basis=tuple(one.case for way in (fp16, other, again) for size, one in way.items() if size in sizes),
    )


def _timed(measured: Sequence[Measurement], name: str) -> dict[Size, Measurement]:
    return {
        (int(one.parameters["outputs"] or 0), int(one.parameters["inputs"] or 0)): one
        for one in measured
        if one.parameters["approach"] == name and one.timing is not None
    }


def _share(
    figure: Callable[[Sequence[Size], Many], Many], sizes: Sequence[Size], *ways: Mapping[Size, Measurement]
) -> Share:
    """`figure` makes one number of the times of all sizes [sizes, n] -> [n]. `ways`: fp16, the approach, fp16 again."""
    random = np.random.default_rng(0)

    def medians(way: Mapping[Size, Measurement]) -> float:
        return float(figure(sizes, np.array([[way[size].figures["ms"]] for size in sizes]))[0])

    def resampled(way: Mapping[Size, Measurement]) -> Many:
        return figure(sizes, np.stack([resampled_medians(samples_s(way[size]), random) for size in sizes]))

    fp16, other, again = ways
    second = medians(again) if all(size in again for size in sizes) else medians(fp16)
    noise = abs(second / medians(fp16) - 1)
    return Share(medians(other) / medians(fp16), *interval(resampled(other) / resampled(fp16)), noise)


def _times(sizes: Sequence[Size], times: Many) -> Many:
    return np.asarray(times[0])


def _slopes(sizes: Sequence[Size], times: Many) -> Many:
    """What a further weight takes, by least squares."""
    weights = np.array([_weights(size) for size in sizes], dtype=np.float64)
    centred = weights - weights.mean()
    return np.asarray(centred @ times / (centred @ centred))
