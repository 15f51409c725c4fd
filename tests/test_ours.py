"""Our measurements beside published ones: the same benchmarks by name, and never an emulator's times."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from anetrain.bench.base import Bench
from anetrain.bench.latency import Latency
from anetrain.bench.peak import Peak
from anetrain.report import ours, published
from anetrain.results import Measurement
from tests.report_files import ane_results, emulated_results, provenance, stack

FIGURES = published.load()


@dataclass(frozen=True)
class _Published:
    bench: type[Bench]
    prefix: str
    rows: int


def measured(bench: type[Bench]) -> list[Measurement]:
    """Every case of full scale, as if each took a millisecond."""
    like = stack(1, 64, 64, 1.0).model_dump()
    return [
        Measurement(**like | {"bench": bench.name, "case": case.name, "parameters": dict(case.parameters)})
        for case in bench().cases("full")
    ]


@pytest.mark.parametrize(
    "case",
    [_Published(Peak, "peak/m5-max-", 10), _Published(Latency, "inmem_bench/m5-max-", 6)],
    ids=lambda case: case.prefix,
)
def test_published_rows_have_counterparts(case: _Published) -> None:
    """Whoever changes the parameters of a bench sees it here."""
    rows = ours.rows_of(ane_results(measurements=tuple(measured(case.bench))), "mine")
    by_identity = {row.identity: row for row in rows}
    theirs = [row for row in FIGURES.rows if row.id.startswith(case.prefix)]
    assert len(theirs) == case.rows
    for row in theirs:
        assert published.ratio(by_identity[row.identity], row, "ms").low > 0


def test_five_seconds_on_end_have_a_counterpart() -> None:
    rows = ours.rows_of(ane_results(measurements=tuple(measured(Peak))), "mine")
    theirs = FIGURES.row("peak/m3-pro-sustained")
    (row,) = [row for row in rows if row.identity == theirs.identity]
    assert row.figures.keys() == {"sustained_tflops"}


def test_a_row_says_what_it_is_of() -> None:
    row, other = ours.rows_of(ane_results(), "mine")
    assert (row.chip, row.source, row.date) == ("M4 Pro", "mine", "2026-03-05")
    assert row.machine == {"model": "Mac16,11", "ram_gb": 48, "macos": "26.3"}
    assert {name: figure.text for name, figure in row.figures.items()} == {"ms": "0.3417", "tflops": "12.57"}
    assert other.configuration == {"layers": 32, "channels": 512, "spatial": 64}


def test_what_may_not_stand_beside_devices() -> None:
    with pytest.raises(ValueError, match=r"mine: it is of an emulated ANE \(emulator:m4\)"):
        ours.rows_of(emulated_results(), "mine")
    with pytest.raises(ValueError, match="mine: its scale is 'small'"):
        ours.rows_of(ane_results(provenance=provenance(scale="small")), "mine")
