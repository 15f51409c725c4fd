"""Our measurements beside published ones: the same benchmarks by name, and never an emulator's times."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from anetrain.bench.base import Bench
from anetrain.bench.int8 import Int8
from anetrain.bench.latency import Latency
from anetrain.bench.peak import Peak
from anetrain.bench.sram import Sram
from anetrain.bench.train import Train
from anetrain.report import ours, published
from anetrain.results import Measurement, Timing
from tests.report_files import ane_results, emulated_results, provenance, stack

FIGURES = published.load()


@dataclass(frozen=True)
class _Published:
    bench: type[Bench]
    prefix: str
    rows: int
    figure: str


def measured(bench: type[Bench]) -> list[Measurement]:
    """Every case of full scale, as if each took a millisecond."""
    like = stack(1, 64, 64, 1.0).model_dump()
    return [
        Measurement(**like | {"bench": bench.name, "case": case.name, "parameters": dict(case.parameters)})
        for case in bench().cases("full")
    ]


@pytest.mark.parametrize(
    "case",
    [
        _Published(Peak, "peak/m5-max-", 10, "ms"),
        _Published(Latency, "inmem_bench/m5-max-", 6, "ms"),
        _Published(Sram, "sram_bench/m5-max-", 9, "ms"),
        _Published(Int8, "int8/m5-max-", 5, "int8_speedup"),
    ],
    ids=lambda case: case.prefix,
)
def test_published_rows_have_counterparts(case: _Published) -> None:
    """Whoever changes the parameters of a bench sees it here."""
    rows = ours.rows_of(ane_results(measurements=tuple(measured(case.bench))), "mine")
    by_identity = {row.identity: row for row in rows}
    theirs = [row for row in FIGURES.rows if row.id.startswith(case.prefix)]
    assert len(theirs) == case.rows
    for row in theirs:
        assert published.ratio(by_identity[row.identity], row, case.figure).low > 0


def test_two_precisions_make_one_row() -> None:
    like = stack(1, 64, 64, 1.0).model_dump()
    cases = {case.name: case for case in Int8().cases("full")}
    both = [
        Measurement(
            **like
            | {"bench": "int8", "case": name, "parameters": dict(cases[name].parameters)}
            | {"timing": Timing.of((ms / 1e3,), warm_up=1, stable=True), "flops": 10**9}
            | {"figures": {"ms": ms, "tflops": 1 / ms}}
        )
        for name, ms in zip(list(cases)[:2], (8.0, 4.0), strict=True)
    ]
    (row,) = ours.rows_of(ane_results(measurements=tuple(both)), "mine")
    texts = {name: figure.text for name, figure in row.figures.items()}
    assert texts == {
        "fp16_ms": "8.0",
        "fp16_tflops": "0.125",
        "int8_ms": "4.0",
        "int8_tops": "0.25",
        "int8_speedup": "2.0",
    }
    (alone,) = ours.rows_of(ane_results(measurements=(both[1],)), "mine")
    assert alone.figures.keys() == {"int8_ms", "int8_tops"}


def test_steps_of_training_are_rows_that_make_no_ratio_with_other_programs() -> None:
    (case, *_) = (case for case in Train().cases("full") if case.name == "stories110m, static")
    seen = {"forward_device_ms": 9.0, "compile_once_ms": 400.0, "compile_ms_per_update": 3500.0}
    step = Measurement.of(
        "train",
        case.name,
        Timing.of((0.9,), warm_up=10, stable=True, calls_per_sample=10),
        stack(1, 64, 64, 1.0).check,
        parameters=dict(case.parameters),
        observed=seen,
    )
    (row,) = ours.rows_of(ane_results(measurements=(step,)), "mine")
    texts = {name: figure.text for name, figure in row.figures.items()}
    assert texts == {
        "step_ms": "90.0",
        "forward_device_ms": "9.0",
        "compile_ms": "400.0",
        "compile_per_ten_s": "3.5",
    }
    assert row.configuration == {"model": "stories110m", "pipeline": "static", "program": "anetrain"}
    assert texts.keys() <= FIGURES.quantities.keys()
    with pytest.raises(ValueError, match="not the same benchmark in the same configuration"):
        published.ratio(row, FIGURES.row("training/m5-max"), "step_ms")


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
