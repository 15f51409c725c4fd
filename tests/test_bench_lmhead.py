"""The logits of one token: every way gives the same sums, and the counts are those of a 50,257 x 768 matrix."""

from __future__ import annotations

import numpy as np
import pytest

from anetrain import cpu, device
from anetrain.bench import Case, Lab, lmhead
from anetrain.bench.lmhead import DEVICE, WAYS, Head, LMHead, Weights
from anetrain.results import Check, Measurement, Meter, Timing
from tests.support import emulator

QUICK = Meter(least_samples=2, least_s=0.0, most_s=0.2, most_warm_up=10)
BENCH = LMHead()


def case_of(way: str) -> Case:
    (case,) = (case for case in BENCH.cases("small") if case.name == way)
    return case


@pytest.mark.parametrize("way", [*WAYS, *DEVICE])
def test_every_way_is_right(way: str) -> None:
    before = cpu.threads()
    measured = BENCH.measure(Lab(emulator("m4"), QUICK), case_of(way))
    assert (measured.status, measured.flops) == ("measured", 2 * 997 * 64)
    assert measured.weight_bytes == 997 * 64 * (4 if ("sgem" in way and "fp16" not in way) or "dot" in way else 2)
    assert cpu.threads() == before


@pytest.mark.parametrize("profile", device.profiles())
def test_the_device_of_every_chip(profile: str) -> None:
    assert BENCH.measure(Lab(emulator(profile), QUICK), case_of("device")).status == "measured"


def test_a_vocabulary_beyond_the_axes_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmhead, "limit_on_device", lambda opened, rule, unknown: {"channel-limit": 700}.get(rule, 300))
    w = Weights.random(997, 64, np.random.default_rng(0))
    head = Head(emulator("m4"), w, "head")
    assert [port.shape[1] for name, port in head.linked.ports.items() if name.startswith("y")] == [300, 300, 300, 97]
    expected = w.half.astype(np.float64) @ w.x
    assert np.abs(head.logits() - expected).max() < 2e-3 * np.abs(expected).max()
    w.x[:] = w.x[::-1].copy()  # what is written is what counts, not what was there at first
    expected = w.half.astype(np.float64) @ w.x
    assert np.abs(head.logits() - expected).max() < 2e-3 * np.abs(expected).max()


@pytest.mark.parametrize("profile", ["m1", "m4"])
def test_the_published_size_fits_a_chip(profile: str) -> None:
    opened = emulator(profile)
    limits = [lmhead.limit_on_device(opened, rule, 0) for rule in ("channel-limit", "axis-limit")]
    assert lmhead.SIZES["full"] == (50257, 768)
    assert -(-50257 // min(limits)) == {"m1": 4, "m4": 1}[profile]


@pytest.mark.parametrize("way", WAYS)
def test_wrong_sums_are_seen(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = WAYS[way].call
    spoilt = lmhead.Way(lambda w: np.roll(honest(w), 1), WAYS[way].threads, WAYS[way].bytes_each)
    monkeypatch.setitem(WAYS, way, spoilt)
    assert BENCH.measure(Lab(emulator("m4"), QUICK), case_of(way)).status == "wrong"


def took(way: str, ms: float) -> Measurement:
    check = Check(against="numpy", largest_error=0.0, allowed=0.01, elements=1)
    timing = Timing.of((ms / 1e3,), warm_up=1, stable=True)
    return Measurement.of("lmhead", way, timing, check, observed={"runs_on": "device" if way in DEVICE else "CPU"})


def test_the_best_of_the_cpu_is_compared() -> None:
    measured = [took("sgemv, one thread", 4.0), took("fp16 weights, all threads", 1.5), took("device", 0.5)]
    assert BENCH.findings(measured) == []
    (found,) = BENCH.findings([*measured, took("device, with writing and reading", 1.0)])
    assert found.figures == {"ratio": pytest.approx(1.5)}
    assert "the quickest way on the CPU (fp16 weights, all threads) 1.500 ms: 1.50 times as long." in found.answer
