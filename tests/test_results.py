"""A file of results: only right values have times, and what can be computed again is."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from anetrain import results
from anetrain.results import Check, Device, Finding, Measurement, Meter, Results, ResultsError, Timing
from anetrain.results.statistics import quantile, steady_line
from tests.support import emulator

RIGHT = Check(against="numpy", largest_error=0.001, allowed=0.01, elements=4)
WRONG = Check(against="numpy", largest_error=0.5, allowed=0.01, elements=4)
NOT_FINITE = Check(against="numpy", largest_error=None, allowed=0.01, elements=4)


def timing(*samples_s: float) -> Timing:
    return Timing.of(samples_s, warm_up=5, stable=True)


def untrue(sample_s: float, median_s: float) -> dict[str, Any]:
    """A timing as in a file."""
    of_one = dict.fromkeys(("p10_s", "p90_s"), sample_s)
    return {"samples_s": [sample_s], "warm_up": 0, "stable": True, "median_s": median_s, **of_one}


def measured(**changes: Any) -> Measurement:
    known = {"flops": 4_000_000_000, "bytes_moved": 2_000_000} | changes
    return Measurement.of("peak", "a case", timing(0.002, 0.004, 0.003), RIGHT, **known)


def file_of(*measurements: Measurement) -> Results:
    return Results(
        provenance=results.provenance("anetrain bench peak", seed=0, scale="small"),
        machine=results.this_machine(),
        device=results.device_of(emulator("m4").facts),
        complete=True,
        measurements=measurements,
    )


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_quantiles_are_numpys(share: float) -> None:
    samples = np.random.default_rng(1).standard_normal(23).tolist()
    assert quantile(samples, share) == pytest.approx(np.quantile(samples, share))
    assert quantile([3.0], share) == 3.0


def test_figures_are_of_the_median() -> None:
    figures = measured().figures
    assert figures == pytest.approx({"ms": 3.0, "tflops": 4 / 3, "gb_per_s": 2 / 3})
    assert timing(0.2, 0.4).median_s == pytest.approx(0.3)
    many = Timing.of((0.2, 0.4), warm_up=0, stable=False, calls_per_sample=10)
    assert (many.median_s, many.p10_s) == pytest.approx((0.03, 0.022))


@pytest.mark.parametrize("check", [WRONG, NOT_FINITE])
def test_wrong_values_have_no_times(check: Check) -> None:
    wrong = Measurement.of("peak", "a case", timing(0.002), check, flops=1)
    assert (wrong.status, wrong.timing, wrong.figures) == ("wrong", None, {})
    assert "expected" in wrong.reason
    with pytest.raises(ValidationError, match="its values were not checked, or were wrong"):
        Measurement(
            bench="peak", case="a case", status="measured", check=check, timing=timing(1.0), figures={"ms": 1e3}
        )


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"figures": {"ms": 2.0, "tflops": 4 / 3, "gb_per_s": 2 / 3}}, "ms is 2, computed again 3"),
        ({"flops": None}, r"figures \['gb_per_s', 'ms', 'tflops'\], expected \['gb_per_s', 'ms'\]"),
        ({"timing": None}, "status 'measured' lacks times"),
        ({"status": "failed"}, "status 'failed' has times"),
        ({"speed": 3}, "Extra inputs are not permitted"),
        ({"timing": untrue(0.1, median_s=0.2)}, "median_s is 0.2, and that of its samples 0.1"),
        ({"timing": untrue(0.0, median_s=0.0)}, "expected more than 0"),
    ],
)
def test_what_does_not_add_up_is_refused(change: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    written = file_of(measured()).model_dump(mode="json", by_alias=True)
    written["measurements"][0] |= change
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(written))
    with pytest.raises(ResultsError, match=complaint):
        results.read(path)


def test_a_file_comes_back_as_it_was(tmp_path: Path) -> None:
    made = file_of(measured(), measured(parameters={"channels": 512, "stack": "conv", "half": 0.5, "on": True}))
    path = tmp_path / "new" / "results.json"
    results.write(made, path)
    assert results.read(path) == made
    assert results.text_of(results.read(path)) == path.read_text()
    with pytest.raises(FileExistsError):
        results.write(made, path)


def test_a_device_is_never_mistaken() -> None:
    device = results.device_of(emulator("m1").facts)
    assert (device.kind, device.name, device.chip) == ("emulator", "emulator:m1", "Apple M1")
    assert device.label == "emulated ANE (emulator:m1): times are of this machine's CPU, not of an ANE"


class FakeClock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"kind": "ane"}, "facts.kind is 'emulator', and kind 'ane'"),
        ({"kind": "ane", "facts": {}}, "name is 'emulator', and kind 'ane'"),
    ],
)
def test_an_emulator_is_not_called_an_engine(change: dict[str, Any], complaint: str) -> None:
    device = {"kind": "emulator", "name": "emulator:m4", "facts": {"kind": "emulator"}}
    with pytest.raises(ValueError, match=complaint):
        Device.model_validate(device | change)


def test_a_meter_waits_until_times_no_longer_fall() -> None:
    clock, calls = FakeClock(), 0

    def call() -> None:
        nonlocal calls
        calls += 1
        clock.now_s += 1.0 / 2 ** min(calls // 5, 3)  # 1, 1/2, 1/4, 1/8, 1/8 ...

    timed = Meter(clock, least_samples=4, least_s=0.0, most_s=1000.0).time(call)
    assert (timed.samples_s, timed.stable, timed.warm_up) == ((0.125,) * 4, True, 25)


def test_a_meter_gives_up_in_time_and_says_so() -> None:
    clock, slower = FakeClock(), iter(range(1, 1000))

    def call() -> None:
        clock.now_s += 10.0 / next(slower)

    timed = Meter(clock, least_samples=20, least_s=0.0, most_s=1.0).time(call)
    assert not timed.stable
    assert 1 <= len(timed.samples_s) < 20


def test_sustained_samples_hold_many_calls() -> None:
    clock = FakeClock()

    def call() -> None:
        clock.now_s += 0.001

    timed = Meter(clock).sustain(call, 5.0)
    assert (timed.calls_per_sample, len(timed.samples_s)) == (100, 50)
    assert timed.median_s == pytest.approx(0.001)


def test_of_very_many_samples_an_even_selection_is_kept() -> None:
    """A call takes as many milliseconds as have been made before it."""
    clock, calls = FakeClock(), iter(range(10**6))

    def call() -> None:
        clock.now_s += next(calls) / 1e3

    timed = Meter(clock, least_samples=5, least_s=10_000.0, most_s=1e9, most_warm_up=5).time(call)
    kept = len(timed.samples_s)
    assert 500 <= kept < 1000
    steps = {round(1e3 * (late - early)) for early, late in pairwise(timed.samples_s)}
    assert steps == {8}  # every eighth of about 4500
    assert round(1e3 * timed.samples_s[0]) == 5
    few = Meter(clock, least_samples=1200, least_s=0.0, most_s=1e9, most_warm_up=5).time(call)
    assert len(few.samples_s) == 1200  # what was asked for is kept


@pytest.mark.parametrize("odd", [{}, {2: 900.0}, {0: -100.0}])
def test_a_line_that_one_odd_point_does_not_turn(odd: dict[int, float]) -> None:
    xs = [4.0, 1.0, 2.0, 8.0, 16.0, 32.0]
    ys = [odd.get(index, 3.0 + 2.0 * x) for index, x in enumerate(xs)]
    base, slope = steady_line(xs, ys)
    assert slope == pytest.approx(2.0)
    assert base == pytest.approx(3.0, abs=0.01 if not odd else 1.0)
    with pytest.raises(ValueError, match=r"two different places, found \[1.0\]"):
        steady_line([1.0, 1.0], [2.0, 3.0])


def test_nothing_is_concluded_from_an_emulators_times() -> None:
    found = Finding(bench="peak", question="How quick?", answer="Very.", basis=("a case",))
    made = file_of(measured())
    for finding, allowed in ((found, False), (found.model_copy(update={"from_times": False}), True)):
        plain = json.loads(results.text_of(made.model_copy(update={"findings": (finding,)})))
        if allowed:
            Results.model_validate_json(json.dumps(plain))
        else:
            with pytest.raises(ValidationError, match="findings of peak rest on times"):
                Results.model_validate_json(json.dumps(plain))
