"""What the cost model knows of each chip: three numbers, and where each comes from.

Nobody has measured any of them with this project's code. Some were fitted, by least squares of relative errors, to
published times of stacks of 1x1 convolutions; docs/estimate.md says how well they give those times back, and compares
with published step times that nothing was fitted to.
"""

from __future__ import annotations

from dataclasses import dataclass

from anetrain.lower.check import profile_of_chip


@dataclass(frozen=True)
class Input:
    value: float
    source: str


@dataclass(frozen=True)
class ChipCosts:
    """`floor_us`: of a dispatch, whatever it computes. `peak_tflops`: fp16, of a long program. `bandwidth_gb_per_s`: of
    weights and activations on their way to the engine."""

    name: str
    floor_us: Input
    peak_tflops: Input
    bandwidth_gb_per_s: Input


_SINGLE = "from published times of one convolution with 8 to 18 MB of weights"
_FITTED = "fitted to ten published stacks of 32 to 256 convolutions"


def _head(name: str) -> str:
    return f"published bandwidth of a language model's head on the {name}, through Core ML"


_M1_FLOOR = Input(220, "published time of the smallest programs on the M1, through another route to the engine")
_M1_PEAK = Input(3.25, "published model of the M1's matrix products, through another route to the engine")
_M3_FLOOR = Input(119, "published fit of 0.119 ms + bytes / 78 GB/s to single programs of the M3 Max")
_M3_PEAK = Input(16.77, "published: 128 convolutions of 512 channels at 2048 positions, M3 Pro")
_M4_FLOOR = Input(88, f"{_FITTED}, M4 mini")
_M4_MAX_FLOOR = Input(110, "published: the shortest of 0.11 to 0.21 ms")
_M4_PEAK = Input(15.8, f"{_FITTED}, M4 mini")

CHIPS = {
    chip.name: chip
    for chip in (
        ChipCosts("M1", _M1_FLOOR, _M1_PEAK, Input(60.9, _head("M1"))),
        ChipCosts("M1 Pro", _M1_FLOOR, _M1_PEAK, Input(54.9, _head("M1 Pro"))),
        ChipCosts("M1 Max", _M1_FLOOR, _M1_PEAK, Input(54.6, _head("M1 Max"))),
        ChipCosts("M3 Pro", _M3_FLOOR, _M3_PEAK, Input(63.1, _head("M3"))),
        ChipCosts("M3 Max", _M3_FLOOR, _M3_PEAK, Input(78, "the slope of the same fit as the floor")),
        ChipCosts(
            "M3 Ultra",
            Input(201, "fitted to five published stacks of 32 to 128 convolutions, M3 Ultra"),
            Input(15.6, "fitted to the same five stacks: one of its two engines"),
            Input(63.1, _head("M3")),
        ),
        ChipCosts("M4", _M4_FLOOR, _M4_PEAK, Input(57, f"{_SINGLE}, M4 mini")),
        ChipCosts("M4 Pro", _M4_FLOOR, _M4_PEAK, Input(126.4, _head("M4 Pro"))),
        ChipCosts("M4 Max", _M4_MAX_FLOOR, _M4_PEAK, Input(118.9, _head("M4 Max"))),
        ChipCosts(
            "M5",
            Input(70, "published: small programs take 60 to 80 us"),
            Input(15.6, "published: 128 convolutions of 512 channels at 64 positions take 0.345 ms, less the floor"),
            Input(70.2, _head("M5")),
        ),
        ChipCosts(
            "M5 Max",
            Input(96, f"{_FITTED}, M5 Max"),
            Input(20.8, f"{_FITTED}, M5 Max"),
            Input(220, f"{_SINGLE}, M5 Max"),
        ),
    )
}


def costs_of(chip: str) -> ChipCosts:
    """By any spelling: "M4 Pro", "m4pro", "Apple M4 Pro"."""
    wanted = _plain(chip)
    for name, costs in CHIPS.items():
        if _plain(name) == wanted:
            return costs
    raise ValueError(f"no figures are known for the chip {chip!r}; there are some for {', '.join(CHIPS)}")


def profile_of(costs: ChipCosts) -> str:
    """The emulator's profile whose programs are priced: of a chip that has none, its family's."""
    return profile_of_chip(costs.name) or profile_of_chip(costs.name.split()[0]) or _FAMILY[costs.name.split()[0]]


_FAMILY = {"M3": "m3pro"}


def _plain(chip: str) -> str:
    return chip.lower().removeprefix("apple").replace(" ", "")
