"""The table of every bench, of an engine, is as it was; and what a bench times is what the clock says."""

from __future__ import annotations

import pytest

from anetrain.bench import Lab, catalogue
from anetrain.results import Meter
from scripts import make_golden_bench_tables
from tests import bench_tables
from tests.bench_runs import ticking
from tests.support import emulator


def test_tables_are_as_they_were() -> None:
    assert bench_tables.text() == make_golden_bench_tables.TARGET.read_text(encoding="utf-8")


def test_every_bench_has_a_table() -> None:
    assert set(bench_tables.MADE) == set(catalogue.BENCHES)


@pytest.mark.parametrize("name", sorted(set(catalogue.BENCHES) - {"train"}))  # whose clock is that of another process
def test_times_are_those_of_the_clock(name: str) -> None:
    """By which each call takes two milliseconds."""
    bench, lab = catalogue.bench(name), Lab(emulator("exact"), Meter(ticking(0.002), least_samples=4, least_s=0.0))
    for case in (one for one in bench.cases("small") if "seconds" not in one.parameters):  # many calls for each look
        measured = bench.measure(lab, case)
        assert measured.status == "measured", measured.reason
        assert measured.figures["ms"] == pytest.approx(2.0)
        assert measured.timing is not None
        assert measured.timing.p90_s == pytest.approx(measured.timing.p10_s)
