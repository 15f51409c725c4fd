"""Tables of benches: golden for an engine and for an emulator, whose times nobody may take for an engine's."""

from __future__ import annotations

from typing import Any

import pytest

from anetrain.bench import Bench, Lab, table
from anetrain.bench.latency import Latency
from anetrain.bench.peak import Peak
from anetrain.results import Check, Device, Machine, Measurement, Meter, Provenance, Results, Timing
from tests.bench_runs import ticking
from tests.support import emulator

RIGHT = Check(against="numpy", largest_error=0.00123, allowed=0.022, elements=4096)
ENGINE = Device(kind="ane", name="ane", chip="Apple M5 Max", sub_type="h17")
EMULATOR = Device(kind="emulator", name="emulator:m4", chip="Apple M4")
BENCHES: dict[str, Bench] = {"peak": Peak(), "latency": Latency()}


def measured(case: str, *samples_ms: float, bench: str = "peak", stable: bool = True, **known: Any) -> Measurement:
    calls = known.pop("calls_per_sample", 1)
    samples_s = tuple(sample * calls / 1e3 for sample in samples_ms)
    timing = Timing.of(samples_s, warm_up=10, stable=stable, calls_per_sample=calls)
    return Measurement.of(bench, case, timing, known.pop("check", RIGHT), **known)


def stack(case: str, *samples_ms: float, layers: int, channels: int, spatial: int = 64, **known: Any) -> Measurement:
    shape = {"channels": channels, "layers": layers, "spatial": spatial}
    weights = 2 * layers * channels**2
    return measured(
        case,
        *samples_ms,
        parameters=shape | known.pop("parameters", {}),
        flops=weights * spatial,
        weight_bytes=weights,
        **known,
    )


MEASUREMENTS = (
    stack("32x512ch sp64", 0.135, 0.133, 0.139, layers=32, channels=512),
    stack("128x512ch sp64", 0.311, 0.312, 0.309, layers=128, channels=512, stable=False),
    Measurement(bench="peak", case="64x256ch sp64", status="refused", reason="64 weights; expected at most 16"),
    stack(
        "128x512ch sp2048 on end",
        *(9.138, 9.2),
        layers=128,
        channels=512,
        spatial=2048,
        calls_per_sample=11,
        parameters={"seconds": 5.0},
    ),
    Measurement.wrong("peak", "256x256ch sp64", RIGHT.model_copy(update={"largest_error": 0.98})),
    Measurement.wrong("peak", "64x384ch sp64", RIGHT.model_copy(update={"largest_error": None})),
    measured(
        "dispatch floor",
        0.09,
        0.1,
        bench="latency",
        check=RIGHT.model_copy(update={"largest_error": 0.0, "allowed": 0.0}),
    ),
)


def results(device: Device, *, complete: bool = True, scale: str = "full") -> Results:
    made = Results(
        provenance=Provenance(
            command=f"anetrain bench all --scale {scale}",
            started="2026-11-21T21:00:00+00:00",
            seed=0,
            scale=scale,
            anetrain="0.1.0",
            python="3.11",
            numpy="2.0",
            blas="a BLAS",
        ),
        machine=Machine(cpus=2, memory_bytes=1, system="Linux", kernel="Linux 6", architecture="x86_64"),
        device=device,
        complete=complete,
        measurements=MEASUREMENTS,
    )
    if device.kind == "emulator":
        return made
    found = [
        finding
        for name, bench in BENCHES.items()
        for finding in bench.findings([one for one in MEASUREMENTS if one.bench == name])
    ]
    return Results.model_validate(made.model_copy(update={"findings": tuple(found)}))


OF_AN_ENGINE = """\
ANE of Apple M5 Max
anetrain bench all --scale full, 2026-11-21T21:00:00+00:00, anetrain 0.1.0

peak: How many fp16 operations a second does the engine do, at most and on end?
case                     weights MiB  GFLOP     ms  its p10  its p90  TFLOPS  samples     error / allowed    status
32x512ch sp64                     16  1.074  0.135   0.1334   0.1382   7.954        3      0.0012 / 0.022  measured
128x512ch sp64                    64  4.295  0.311   0.3094   0.3118   13.81       3*      0.0012 / 0.022  measured
64x256ch sp64                      -      -      -        -        -       -        -                   -   refused
128x512ch sp2048 on end           64  137.4  9.169    9.144    9.194   14.99   2 x 11      0.0012 / 0.022  measured
256x256ch sp64                     -      -      -        -        -       -        -        0.98 / 0.022     wrong
64x384ch sp64                      -      -      -        -        -       -        -  not finite / 0.022     wrong
* times still fell when the warm-up had to end
64x256ch sp64: refused: 64 weights; expected at most 16
256x256ch sp64: wrong: an error of 0.98 against numpy; at most 0.022 of the largest magnitude expected
64x384ch sp64: wrong: values that are not finite against numpy; at most 0.022 of the largest magnitude expected
How many operations a second at most? 14.99 TFLOPS in fp16: 128x512ch sp2048 on end.

latency: How long does one dispatch take, and what does its size add?
case            weights MiB     ms  its p10  its p90  TFLOPS  samples  error / allowed    status
dispatch floor            -  0.095    0.091    0.099       -        2            0 / 0  measured
How long does a dispatch take that does next to nothing? 95 microseconds.
"""

OF_AN_EMULATOR = """\
emulated ANE (emulator:m4): times are of this machine's CPU, not of an ANE
anetrain bench all --scale small, 2026-11-21T21:00:00+00:00, anetrain 0.1.0
small sizes, for trying out: not to be compared with anything
incomplete: the run was interrupted

peak: How many fp16 operations a second does the engine do, at most and on end?
case                     weights MiB  GFLOP  ms of this CPU  its p10  its p90  samples     error / allowed    status
32x512ch sp64                     16  1.074           0.135   0.1334   0.1382        3      0.0012 / 0.022  measured
128x512ch sp64                    64  4.295           0.311   0.3094   0.3118       3*      0.0012 / 0.022  measured
64x256ch sp64                      -      -               -        -        -        -                   -   refused
128x512ch sp2048 on end           64  137.4           9.169    9.144    9.194   2 x 11      0.0012 / 0.022  measured
256x256ch sp64                     -      -               -        -        -        -        0.98 / 0.022     wrong
64x384ch sp64                      -      -               -        -        -        -  not finite / 0.022     wrong
* times still fell when the warm-up had to end
64x256ch sp64: refused: 64 weights; expected at most 16
256x256ch sp64: wrong: an error of 0.98 against numpy; at most 0.022 of the largest magnitude expected
64x384ch sp64: wrong: values that are not finite against numpy; at most 0.022 of the largest magnitude expected
Nothing is concluded from times: they are of this machine's CPU.

latency: How long does one dispatch take, and what does its size add?
case            weights MiB  ms of this CPU  its p10  its p90  samples  error / allowed    status
dispatch floor            -           0.095    0.091    0.099        2            0 / 0  measured
Nothing is concluded from times: they are of this machine's CPU.
"""


def test_the_table_of_an_engine() -> None:
    assert table.text(results(ENGINE), list(BENCHES.values())) + "\n" == OF_AN_ENGINE


def test_the_table_of_an_emulator() -> None:
    """Times say whose they are; there are no rates, and nothing is concluded."""
    text = table.text(results(EMULATOR, complete=False, scale="small"), list(BENCHES.values())) + "\n"
    assert text == OF_AN_EMULATOR
    assert "TFLOPS" not in text
    assert "GB/s" not in text


@pytest.mark.parametrize(
    ("name", "of_an_engine", "of_an_emulator"),
    [
        ("ms", "ms", "ms of this CPU"),
        ("us_per_operation", "us per operation", "us per operation of this CPU"),
        ("speedup", "speedup", "speedup of this CPU"),
        ("tflops", "TFLOPS", None),
        ("gb_per_s", "GB/s", None),
        ("gflops_per_mb", "gflops per mb", None),
        ("gflop", "GFLOP", "GFLOP"),
        ("weight_mib", "weights MiB", "weights MiB"),
        ("bits", "bits", "bits"),
    ],
)
def test_titles(name: str, of_an_engine: str, of_an_emulator: str | None) -> None:
    assert table.title_of(name, ENGINE) == of_an_engine
    assert table.title_of(name, EMULATOR) == of_an_emulator


def test_measured_by_a_fake_clock() -> None:
    """Each call takes two milliseconds by it: times, TFLOPS and samples follow."""
    meter = Meter(ticking(0.002), least_samples=4, least_s=0.0)
    made = [Peak().measure(Lab(emulator("exact"), meter), case) for case in Peak().cases("small")[:2]]
    rows = [line.split() for line in table.table(["gflop", "ms", "tflops"], made, ENGINE).splitlines()]
    assert " ".join(rows[0]) == "case GFLOP ms its p10 its p90 TFLOPS samples error / allowed status"
    assert [row[2:8] for row in rows[1:]] == [
        ["0.002097", "2", "2", "2", "0.001049", "4"],
        ["0.003146", "2", "2", "2", "0.001573", "4"],
    ]
    assert {row[-1] for row in rows[1:]} == {"measured"}


def test_cases_with_the_same_reason_share_a_line() -> None:
    """Which does not say their names once more."""
    why = "64 weights; expected at most 16"
    made = [
        Measurement(bench="peak", case=case, status="refused", reason=f"{case}: {why}") for case in ("one", "other")
    ]
    other = Measurement(bench="peak", case="third", status="failed", reason=why)
    text = table.text(results(ENGINE).model_copy(update={"measurements": (*made, other)}), [Peak()])
    assert text.splitlines()[-3:-1] == [f"one; other: refused: {why}", f"third: failed: {why}"]
