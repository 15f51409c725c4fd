"""Is there a size beyond which work gets slower for its size: does a memory end there?

Work that grows in one way takes a floor and so much for each byte: a straight line. Beyond the end of a memory it
takes more. Two lines, with a knee between two of the measured sizes, always fit better than one; they are believed
where they fit better than their three more parameters explain (BIC), and where the second one is the slower. Whether
that hangs on noise is asked of resamplings: each takes as many samples of each size as there are, with replacement,
moves the size's median by what sizes are off the lines anyway (programs differ, and no number of samples of one shows
that), and looks for a knee of its own. Pure arithmetic: no device, no clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from anetrain.bench.resampling import RESAMPLINGS, SURE, Floats, resampled_medians

SIDE = 3  # sizes on each side of a knee: two make a line, the third tells whether it is one
SLOWER = 1.1  # by so much at the largest size; less is not a cliff
FINEST = 0.002  # residuals below this share of a time are not evidence: clocks and engines are not that regular
LINE_PARAMETERS, KNEE_PARAMETERS = 2, 5  # floor and slope; two of each and the place of the knee

Answer = Literal["cliff", "no cliff", "unsure", "too few sizes"]


@dataclass(frozen=True)
class Cliff:
    """`low` and `high`: the measured sizes between which it lies in nine of ten resamplings that see one. `confidence`:
    the share of all resamplings that say as `answer` does; of "unsure", of those that see a cliff. `slower`: the time
    of the largest size over what it would take if nothing had happened."""

    answer: Answer
    sizes: int
    largest: float
    confidence: float = 0.0
    low: float | None = None
    high: float | None = None
    slower: float | None = None


def find(samples_of: Mapping[float, Sequence[float]], *, seed: int = 0) -> Cliff:
    """`samples_of`: times of one call by size, in any units; sizes that were not measured are left out."""
    sizes = np.array(sorted(samples_of), dtype=np.float64)
    largest = float(sizes[-1]) if sizes.size else 0.0
    if sizes.size < 2 * SIDE:
        return Cliff("too few sizes", sizes.size, largest)
    random = np.random.default_rng(seed)
    times = np.stack([resampled_medians(samples_of[size], random) for size in sizes], axis=1)  # [resamplings, sizes]
    scatter = _scatter(sizes, np.array([[np.median(samples_of[size]) for size in sizes]]))
    knees = _knees(sizes, times * np.exp(scatter * random.standard_normal(times.shape)))
    seen = float(np.mean(knees.believed))
    if seen < SURE:
        answer: Answer = "no cliff" if seen <= 1 - SURE else "unsure"
        return Cliff(answer, sizes.size, largest, confidence=1 - seen if answer == "no cliff" else seen)
    at = knees.at[knees.believed]
    return Cliff(
        "cliff",
        sizes.size,
        largest,
        confidence=seen,
        low=float(sizes[int(np.quantile(at, 0.05, method="lower")) - 1]),
        high=float(sizes[int(np.quantile(at, 0.95, method="higher"))]),
        slower=float(np.median(knees.slower[knees.believed])),
    )


def _scatter(sizes: Floats, medians: Floats) -> float:
    """How far sizes are off two lines, as a share of their times."""
    residual = _best_split(sizes, medians).residual[0]
    return float(np.sqrt(residual / max(1, sizes.size - KNEE_PARAMETERS)))


# ---------------------------------------------------------------- lines, of many resamplings at once


@dataclass(frozen=True)
class _Lines:
    """One per resampling."""

    floor: Floats
    slope: Floats
    residual: Floats  # sums of squares, each as a share of its time

    def times(self, size: float) -> Floats:
        return self.floor + self.slope * size


@dataclass(frozen=True)
class _Splits:
    at: Floats  # sizes on the left
    residual: Floats
    slower: Floats  # the right line over the left one, at the largest size; 0 where the left one says nothing there


@dataclass(frozen=True)
class _Knees:
    believed: npt.NDArray[np.bool_]
    at: Floats
    slower: Floats


def _knees(sizes: Floats, times: Floats) -> _Knees:
    two = _best_split(sizes, times)
    one_line = _bic(_fit(sizes, times).residual, sizes.size, LINE_PARAMETERS)
    two_lines = _bic(two.residual, sizes.size, KNEE_PARAMETERS)
    return _Knees((two_lines < one_line) & (two.slower >= SLOWER), two.at, two.slower)


def _best_split(sizes: Floats, times: Floats) -> _Splits:
    splits = [_split(sizes, times, at) for at in range(SIDE, sizes.size - SIDE + 1)]
    best = np.argmin([split.residual for split in splits], axis=0)
    every = np.arange(len(times))

    def chosen(name: str) -> Floats:
        return np.asarray(np.stack([getattr(split, name) for split in splits])[best, every])

    return _Splits(chosen("at"), chosen("residual"), chosen("slower"))


def _split(sizes: Floats, times: Floats, at: int) -> _Splits:
    left, right = _fit(sizes[:at], times[:, :at]), _fit(sizes[at:], times[:, at:])
    expected, found = left.times(sizes[-1]), right.times(sizes[-1])
    slower = np.divide(found, expected, out=np.zeros_like(found), where=expected > 0)
    return _Splits(np.full(len(times), at), left.residual + right.residual, slower)


def _fit(sizes: Floats, times: Floats) -> _Lines:
    """Least squares of relative residuals: a large time may be off by more."""
    a, b = 1 / times, sizes / times  # [resamplings, sizes]: (floor * a + slope * b) shall be 1
    aa, ab, bb = (np.sum(terms, axis=1) for terms in (a * a, a * b, b * b))
    determinant = aa * bb - ab * ab
    floor = (bb * a.sum(1) - ab * b.sum(1)) / determinant
    slope = (aa * b.sum(1) - ab * a.sum(1)) / determinant
    off = floor[:, None] * a + slope[:, None] * b - 1
    return _Lines(floor, slope, np.sum(off * off, axis=1))


def _bic(residual: Floats, sizes: int, parameters: int) -> Floats:
    return np.asarray(sizes * np.log(residual / sizes + FINEST**2) + parameters * np.log(sizes))


# ---------------------------------------------------------------- in words


def sentence(cliff: Cliff, what: str, unit: str) -> str:
    """Such as: a cliff between 32 and 36 MB of weights: 1.40 times the time at 128 MB (in 100% of ...)."""
    sure = f"in {cliff.confidence:.0%} of {RESAMPLINGS} resamplings of {cliff.sizes} sizes"
    if cliff.answer == "too few sizes":
        return f"cannot be told: {cliff.sizes} sizes of {what} measured, at least {2 * SIDE} needed"
    if cliff.answer == "no cliff":
        return f"no cliff seen up to {cliff.largest:.4g} {unit} of {what} ({sure})"
    if cliff.answer == "unsure":
        return f"cannot be told: up to {cliff.largest:.4g} {unit} of {what} there is a cliff {sure}"
    return (
        f"a cliff between {cliff.low:.4g} and {cliff.high:.4g} {unit} of {what}: {cliff.slower:.2f} times the time "
        f"at {cliff.largest:.4g} {unit} ({sure})"
    )


def figures(cliff: Cliff, unit: str) -> dict[str, float]:
    named = {
        "sizes": cliff.sizes,
        f"largest_{unit}": cliff.largest,
        "confidence": cliff.confidence,
        f"cliff_low_{unit}": cliff.low,
        f"cliff_high_{unit}": cliff.high,
        "slower": cliff.slower,
    }
    return {name: float(value) for name, value in named.items() if value is not None}
