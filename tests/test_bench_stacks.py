"""The benches `peak` and `latency`: the published sizes, right values on every profile, and checks that can fail."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import pytest

from anetrain import device
from anetrain.bench import Bench, Case, Lab, catalogue
from anetrain.bench.convolutions import Matrix, Stack, after
from anetrain.bench.latency import Latency
from anetrain.bench.peak import Peak, product_at_run_time
from anetrain.device import Device
from anetrain.mil import Graph
from anetrain.results import Check, Measurement, Meter, Timing
from tests.support import emulator

QUICK = Meter(least_samples=1, least_s=0.0, most_s=0.1, most_warm_up=5)

# ANE_FACTS and published reports of an M5 Max: weights in MB, GFLOP, ms and TFLOPS.
PUBLISHED_PEAK = {
    "32x512ch sp64": (16.0, 1.07, 0.135, 7.95),
    "48x512ch sp64": (24.0, 1.61, 0.171, 9.42),
    "64x512ch sp64": (32.0, 2.15, 0.206, 10.40),
    "96x512ch sp64": (48.0, 3.22, 0.266, 12.13),
    "128x512ch sp64": (64.0, 4.29, 0.311, 13.80),
    "64x256ch sp64": (8.0, 0.54, 0.168, 3.19),
    "128x256ch sp64": (16.0, 1.07, 0.132, 8.16),
    "256x256ch sp64": (32.0, 2.15, 0.216, 9.94),
    "64x384ch sp64": (18.0, 1.21, 0.142, 8.52),
    "128x384ch sp64": (36.0, 2.42, 0.203, 11.91),
}
PUBLISHED_LATENCY = {
    "256ch sp64": (0.1, 0.088, 0.09),
    "512ch sp64": (0.5, 0.089, 0.38),
    "1024ch sp64": (2.0, 0.313, 0.43),
    "2048ch sp64": (8.0, 0.131, 4.10),
    "3072ch sp64": (18.0, 0.189, 6.38),
    "4096ch sp64": (32.0, 0.302, 7.11),
}


@cache
def of_profile(profile: str, executor: str = "fast") -> Device:
    return emulator(profile, executor=executor)


def full(bench: Bench) -> dict[str, Case]:
    return {case.name: case for case in bench.cases("full")}


def as_measured(bench: Bench, case: str, ms: float) -> Measurement:
    found = full(bench)[case]
    size = int(found.parameters.get("size") or 0)
    counts = (Stack(size, 1, size) if size else Stack.of(found.parameters)).counts if found.parameters else {}
    right = Check(against="numpy", largest_error=0.001, allowed=0.01, elements=1)
    return bench.timed(found, right, lambda: Timing.of((ms / 1e3,), warm_up=5, stable=True), **counts)


# ---------------------------------------------------------------- sizes and counts


def test_the_ten_stacks_are_the_published_ones() -> None:
    assert list(full(Peak()))[:10] == list(PUBLISHED_PEAK)
    for name, (weights_mb, gflop, ms, tflops) in PUBLISHED_PEAK.items():
        one = as_measured(Peak(), name, ms)
        assert round((one.weight_bytes or 0) / 2**20, 1) == weights_mb
        assert round((one.flops or 0) / 1e9, 2) == gflop
        assert one.figures["tflops"] == pytest.approx(tflops, rel=0.005)  # ms has three digits


def test_the_single_convolutions_are_the_published_ones() -> None:
    assert list(full(Latency()))[1:] == list(PUBLISHED_LATENCY)
    for name, (weights_mb, ms, tflops) in PUBLISHED_LATENCY.items():
        one = as_measured(Latency(), name, ms)
        assert round((one.weight_bytes or 0) / 2**20, 1) == weights_mb
        assert one.figures["tflops"] == pytest.approx(tflops, abs=0.012 if tflops < 1 else 0.02)


def test_the_other_cases() -> None:
    assert list(full(Peak()))[10:] == [
        *(f"128x512ch sp{width}" for width in (128, 256, 512, 1024, 2048)),
        "matmul 2048, baked weights",
        "matmul 2048, run-time weights",
        "128x512ch sp2048, 5 s on end",
    ]
    for name in ("matmul 2048, baked weights", "matmul 2048, run-time weights"):
        one = as_measured(Peak(), name, 1.0)
        assert (one.flops, one.bytes_moved) == (2 * 2048**3, 3 * 2 * 2048**2)


@pytest.mark.parametrize("stack", [Stack(64, 4, 96), Stack(32, 1, 64)])
def test_counts_are_the_devices(stack: Stack) -> None:
    random = np.random.default_rng(0)
    report = of_profile("m4").compile(stack.graph(stack.weights(random)).program(single_blob=True)).report
    assert report["flops"] == stack.flops
    assert 0 <= report["constant_bytes"] - stack.weight_bytes < 64  # the convolutions' parameters, once
    assert (report["blob_files"], report["blob_references"]) == (1, stack.layers)


def test_the_products_count_is_the_devices() -> None:
    kinds = of_profile("m4").compile(product_at_run_time(64).program()).report["operation_kinds"]
    assert kinds["matmul"]["flops"] == Stack(64, 1, 64).flops


# ---------------------------------------------------------------- every profile


@pytest.mark.parametrize("bench", ["peak", "latency"])
@pytest.mark.parametrize("profile", device.profiles())
def test_every_profile_measures_every_case(profile: str, bench: str) -> None:
    made = catalogue.bench(bench)
    for case in made.cases("small"):
        if "seconds" in case.parameters:
            case = dataclasses.replace(case, parameters={**case.parameters, "seconds": 0.01})
        one = made.measure(Lab(of_profile(profile), QUICK), case)
        assert (one.status, one.parameters) == ("measured", case.parameters), one.reason
        assert one.check is not None
        assert (one.check.largest_error or 0.0) <= one.check.allowed / 3


@pytest.mark.parametrize("profile", ["m1", "m3ultra", "m5"])
def test_the_engines_arithmetic_is_within_the_bound(profile: str) -> None:
    """Products rounded and flushed, sums in tiles: the largest stacks that the audit does in a second."""
    for stack in (Stack(64, 32, 32), Stack(256, 4, 32), Stack(32, 128, 32)):
        check = stack.bound(Lab(of_profile(profile, "audit")), "stack")[1]
        assert check.passed
        assert (check.largest_error or 0.0) > check.allowed / 40  # and it is not loose


def test_the_bound_at_the_full_size() -> None:
    """The deepest stack, each layer rounded to fp16 by numpy, against none rounded; and with a layer lost."""
    stack, random = Stack(256, 256, 8), np.random.default_rng(0)
    weights, x = stack.weights(random), stack.input(random)
    expected, rounded = after(weights, x), x
    for matrix in weights:
        rounded = (matrix.astype(np.float32) @ rounded.astype(np.float32)).astype(np.float16)
    largest = np.abs(expected).max()
    assert 1.0 < largest < 1000.0  # neither vanished nor near the engine's overflow
    assert np.abs(rounded - expected).max() / largest < stack.allowed / 2
    lost = after(weights[:60] + weights[61:], x)
    assert np.abs(lost - expected).max() / largest > 10 * stack.allowed


# ---------------------------------------------------------------- the checks can fail


def lost(weights: list[Matrix]) -> list[Matrix]:
    return weights[:7] + weights[8:]


def last_lost(weights: list[Matrix]) -> list[Matrix]:
    return weights[:-1]


def swapped(weights: list[Matrix]) -> list[Matrix]:
    return [*weights[:4], weights[5], weights[4], *weights[6:]]


def transposed(weights: list[Matrix]) -> list[Matrix]:
    return [*weights[:9], np.ascontiguousarray(weights[9].T), *weights[10:]]


def one_channel_zeroed(weights: list[Matrix]) -> list[Matrix]:
    changed = weights[3].copy()
    changed[17] = 0
    return [*weights[:3], changed, *weights[4:]]


def halved(weights: list[Matrix]) -> list[Matrix]:
    return [*weights[:15], weights[15] * np.float16(0.5)]


@pytest.mark.parametrize("change", [lost, last_lost, swapped, transposed, one_channel_zeroed, halved])
def test_a_stack_with_wrong_weights_is_wrong(
    change: Callable[[list[Matrix]], list[Matrix]], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Stack.graph

    def graph(stack: Stack, weights: Sequence[Matrix]) -> Graph:
        return right(stack, change(list(weights)))

    monkeypatch.setattr(Stack, "graph", graph)
    case = next(case for case in Peak().cases("small") if case.name == "16x64ch sp64")
    one = Peak().measure(Lab(of_profile("m4"), QUICK), case)
    assert (one.status, one.timing, one.figures) == ("wrong", None, {})
    assert one.check is not None
    assert (one.check.largest_error or 0.0) > 3 * one.check.allowed


def test_a_transposed_product_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def graph(size: int) -> Graph:
        made = Graph()
        x, w = (made.reshape(made.input(name, (1, size, 1, size)), (1, 1, size, size)) for name in ("a_x", "b_w"))
        made.output("y", made.reshape(made.matmul(x, w), (1, size, 1, size)))
        return made

    monkeypatch.setattr("anetrain.bench.peak.product_at_run_time", graph)
    case = next(case for case in Peak().cases("small") if "size" in case.parameters)
    assert Peak().measure(Lab(of_profile("m4"), QUICK), case).status == "wrong"


def test_a_floor_that_computes_something_else_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Graph, "relu", lambda graph, x: graph.mul(x, 1.0))
    (floor, *_) = Latency().cases("small")
    assert Latency().measure(Lab(of_profile("m4"), QUICK), floor).status == "wrong"


# ---------------------------------------------------------------- findings


def test_findings_of_peak() -> None:
    """The published times of an M5 Max, wider rows and a sustained run of an M3 Pro."""
    ms = {name: row[2] for name, row in PUBLISHED_PEAK.items()} | {
        "128x512ch sp2048": 8.195,
        "128x512ch sp2048, 5 s on end": 9.138,
        "matmul 2048, baked weights": 1.0,
        "matmul 2048, run-time weights": 2.5,
    }
    found = Peak().findings([as_measured(Peak(), name, time) for name, time in ms.items()])
    assert [one.answer for one in found] == [
        "17.18 TFLOPS in fp16: matmul 2048, baked weights.",
        "13.81 TFLOPS on 64 positions, 16.77 on 2048: 1.21 times as many.",
        "15.04 TFLOPS over 5 s without a pause: 89.7 % of what single calls reach.",
        "The product takes 2.50 times as long as with baked weights.",
    ]
    assert found[2].basis == ("128x512ch sp2048", "128x512ch sp2048, 5 s on end")


def test_findings_of_peak_take_what_there_is() -> None:
    assert Peak().findings([]) == []
    (only,) = Peak().findings([as_measured(Peak(), "matmul 2048, baked weights", 1.0)])
    assert only.basis == ("matmul 2048, baked weights",)
    for name in list(full(Peak()))[-2:]:  # whose counterparts are missing
        assert len(Peak().findings([as_measured(Peak(), name, 1.0)])) == 1


def test_findings_of_latency() -> None:
    """Of the published times, in which 1024 channels take longer than 4096."""
    ms = {name: row[1] for name, row in PUBLISHED_LATENCY.items()} | {"dispatch floor": 0.0745}
    found = Latency().findings([as_measured(Latency(), name, time) for name, time in ms.items()])
    assert [one.answer for one in found] == [
        "74 microseconds.",
        "87 microseconds, and 5.4 more for each megabyte of weights (184 GB/s).",
    ]
    assert len(Latency().findings([as_measured(Latency(), name, 1.0) for name in list(ms)[:2]])) == 0


def test_numbers_are_the_seeds() -> None:
    """The same for a case whichever were measured before it; others with another seed."""
    lab, other = (Lab(of_profile("m4"), QUICK, seed) for seed in (1, 2))
    first, second, third = (Stack(32, 1, 32).input(one.random()) for one in (lab, lab, other))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, third)


def test_the_floor_has_many_samples() -> None:
    floor, single, *_ = Latency().cases("small")
    counts = [len(one.timing.samples_s) for case in (floor, single) if (one := measure_latency(case)).timing]
    assert counts == [50, 1]


def measure_latency(case: Case) -> Measurement:
    return Latency().measure(Lab(of_profile("m4"), QUICK), case)
