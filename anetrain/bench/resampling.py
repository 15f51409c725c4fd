"""What noise does to a median: medians of samples drawn again, with replacement, from those that were measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anetrain.results import Measurement

RESAMPLINGS = 500
SURE = 0.95  # of the resamplings

Floats = npt.NDArray[np.float64]


def samples_s(measurement: Measurement) -> list[float]:
    """Seconds of one call, of a measurement that has times."""
    timing = measurement.timing
    assert timing is not None
    return [sample / timing.calls_per_sample for sample in timing.samples_s]


def resampled_medians(samples: Sequence[float], random: np.random.Generator) -> Floats:
    """[RESAMPLINGS]"""
    taken = random.choice(np.asarray(samples, dtype=np.float64), (RESAMPLINGS, len(samples)))
    return np.asarray(np.median(taken, axis=1))


def interval(values: Floats) -> tuple[float, float]:
    """What holds SURE of them."""
    outside = (1 - SURE) / 2
    low, high = np.quantile(values, [outside, 1 - outside])
    return float(low), float(high)


@dataclass(frozen=True)
class Ratio:
    value: float
    low: float
    high: float


def ratio_of_times(over: Measurement, under: Measurement, *, seed: int = 0) -> Ratio:
    """Of two medians; above 1: the second is the quicker. `low` to `high`: what noise leaves open."""
    random = np.random.default_rng(seed)
    low, high = interval(resampled_medians(samples_s(over), random) / resampled_medians(samples_s(under), random))
    return Ratio(over.figures["ms"] / under.figures["ms"], low, high)
