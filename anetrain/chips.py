"""What is known of the chips' engines: cores, ratings, and what a utilisation in fp16 is a share of.

Ratings are the makers' and differ in what they count: those of M4 count int8 operations. A denominator is therefore a
figure of its own, with its source, and measurements may be above it: more than 100 % is shown as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Peak:
    """What a chip's engine is said to do in fp16, and who says so."""

    tflops: float
    source: str

    def percent(self, tflops: float) -> float:
        """Not clipped: above 100 % the denominator is too small, and a reader should see it."""
        return 100.0 * tflops / self.tflops


@dataclass(frozen=True)
class Chip:
    """`rated_tops`: None where none is disclosed. `peak`: the denominator of utilisations."""

    name: str
    engine_cores: int
    engines: int
    rated_tops: float | None
    rated_precision: Literal["", "int8"]
    peak: Peak


_M1 = Peak(11.0, "11 TFLOPS, the rated TOPS")
_M2_M3 = Peak(15.8, "15.8 TFLOPS, the rated TOPS")
_M4 = Peak(19.0, "19 TFLOPS, half of the 38 TOPS that are rated for int8")
_CHIPS = (
    *(Chip(name, 16, 1, 11.0, "", _M1) for name in ("M1", "M1 Pro", "M1 Max")),
    Chip("M1 Ultra", 32, 2, 22.0, "", Peak(22.0, "22 TFLOPS, the rated TOPS of its two engines")),
    *(Chip(name, 16, 1, 15.8, "", _M2_M3) for name in ("M2", "M2 Pro", "M2 Max")),
    Chip("M2 Ultra", 32, 2, 31.6, "", Peak(31.6, "31.6 TFLOPS, the rated TOPS of its two engines")),
    *(Chip(name, 16, 1, 15.8, "", _M2_M3) for name in ("M3", "M3 Pro", "M3 Max")),
    Chip("M3 Ultra", 32, 2, 31.6, "", Peak(31.6, "31.6 TFLOPS, the rated TOPS of its two engines")),
    *(Chip(name, 16, 1, 38.0, "int8", _M4) for name in ("M4", "M4 Pro", "M4 Max")),
    Chip("M5", 16, 1, None, "", Peak(19.0, "19 TFLOPS, a published estimate: no rating is disclosed")),
    Chip(
        "M5 Max",
        16,
        1,
        None,
        "",
        Peak(19.27, "19.27 TFLOPS, the most that was published as measured (convolutions, fp16)"),
    ),
)
CHIPS = {chip.name: chip for chip in _CHIPS}


def known(name: str) -> Chip | None:
    """Of a chip as the system names it ("Apple M4 Pro") or as tables do ("M4 Pro")."""
    return CHIPS.get(name.removeprefix("Apple "))
