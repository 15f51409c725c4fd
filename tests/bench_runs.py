"""Benches run in this process, at small scale, and measurements made up from times."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from anetrain.bench import catalogue
from anetrain.bench.run import Run, Settings
from anetrain.isolate import Inline
from anetrain.results import Check, Measurement, Results, Scalar, Timing

UNLIMITED = 2**32 - 1
QUICK = {"least_samples": 3, "least_s": 0.0, "most_warm_up": 5}
RIGHT = Check(against="numpy", largest_error=0.001, allowed=0.01, elements=4)


@functools.cache
def small_run(name: str, profile: str, *, allow_unproven: bool = False, executor: str = "fast") -> Results:
    """All cases of a bench."""
    options = {"kind": f"emulator:{profile}", "allow_unproven": allow_unproven, "executor": executor}
    settings = Settings(
        device=options | {"live_budget": UNLIMITED, "compile_budget": UNLIMITED}, scale="small", meter=QUICK
    )
    run, bench = Run(settings, Inline(), command=f"anetrain bench {name}"), catalogue.bench(name)
    for case in bench.cases("small"):
        run.measure(bench, case)
    run.finish()
    return run.results


def by_case(results: Results) -> dict[str, Measurement]:
    return {one.case: one for one in results.measurements}


def made_up(
    bench: str, case: str, ms: float | Sequence[float], parameters: Mapping[str, Scalar], **known: Any
) -> Measurement:
    """As if it had been measured."""
    samples = tuple(1e-3 * one for one in (ms if isinstance(ms, Sequence) else [ms]))
    timing = Timing.of(samples, warm_up=5, stable=True)
    return Measurement.of(bench, case, timing, RIGHT, parameters=dict(parameters), **known)


def ticking(tick_s: float) -> Callable[[], float]:
    """A clock that goes on by so much whenever it is looked at."""
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += tick_s
        return now

    return clock
