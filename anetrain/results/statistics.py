"""Numbers that stand for many."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence


def quantile(samples: Sequence[float], share: float) -> float:
    """`share` 0.5 is the median. Between two samples it is linear, as numpy's default is."""
    ordered = sorted(samples)
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def median(samples: Sequence[float]) -> float:
    return quantile(samples, 0.5)


def steady_line(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float]:
    """Where it begins, and its slope: the median of the slopes between all two points (Theil and Sen). Up to a quarter
    of the points may be far off without turning it."""
    points = sorted(zip(xs, ys, strict=True))
    slopes = [(y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in itertools.combinations(points, 2) if x2 > x1]
    if not slopes:
        raise ValueError(f"a line takes two different places, found {sorted(set(xs))}")
    slope = median(slopes)
    return median([y - slope * x for x, y in points]), slope
