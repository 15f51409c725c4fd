"""The loss scale: gradients travel through fp16 times a power of two, large enough that few of them flush to zero.

scaler = LossScaler()
... scaler.scale goes into the gradient of the loss, and 1 / scaler.scale into what is added to fp32 gradients ...
scaler.good(largest_output=4.2)     # an update was taken
scaler.overflow(infinite=3)         # a group was dropped: half the scale from now on
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

FIRST = 2.0**16
LEAST, MOST = 1.0, 2.0**24
# Sums from 2^15 on are infinite on the engine, on the way to a result, too; a quarter of that is safe to aim at.
LARGEST_OUTPUT = 2.0**13


@dataclass
class Counters:
    """Over the whole run."""

    overflows: int = 0
    infinite_values: int = 0
    flushed_values: int = 0


class LossScaler:
    """The scale doubles after `growth_interval` good updates, unless the largest gradient that the device put out in
    them would then pass 2^13, and halves when a value is not finite. It is a power of two, so no digit is lost."""

    def __init__(self, scale: float = FIRST, growth_interval: int = 200) -> None:
        _check_scale("scale", scale)
        if not isinstance(growth_interval, int) or growth_interval < 1:
            raise ValueError(f"growth_interval is {growth_interval!r}; expected a whole number of updates, at least 1")
        self.scale = scale
        self.growth_interval = growth_interval
        self.counters = Counters()
        self.good_updates = 0
        """Since the scale last changed, or might have."""
        self.largest_output = 0.0
        """In these, at this scale."""

    def good(self, largest_output: float, flushed: int = 0) -> bool:
        """An update was taken. `largest_output`: the largest magnitude that the device put out in its backward
        programs; `flushed`: how many values are known to have vanished. True when the scale has grown."""
        if not 0.0 <= largest_output < math.inf:
            raise ValueError(f"largest_output is {largest_output}; expected a finite magnitude, else report overflow()")
        self.counters.flushed_values += _count("flushed", flushed)
        self.largest_output = max(self.largest_output, largest_output)
        self.good_updates += 1
        if self.good_updates < self.growth_interval:
            return False
        grows = 2.0 * self.largest_output <= LARGEST_OUTPUT and self.scale < MOST
        self._change(self.scale * 2.0 if grows else self.scale)
        return grows

    def overflow(self, infinite: int = 1) -> None:
        """A group was dropped because `infinite` values, or at least one, were not finite. The scale is halved.

        At the smallest scale an FloatingPointError is raised: what overflows then is not for the scale to mend.
        """
        self.counters.overflows += 1
        self.counters.infinite_values += _count("infinite", infinite)
        if self.scale <= LEAST:
            raise FloatingPointError(
                f"gradients are not finite even at a loss scale of {self.scale:g}: weights or activations have left "
                "the range of fp16. Lower the learning rate, clip, or resume from an earlier checkpoint"
            )
        self._change(self.scale / 2.0)

    def _change(self, scale: float) -> None:
        self.scale, self.good_updates, self.largest_output = scale, 0, 0.0

    def state(self) -> dict[str, float | int]:
        """For a checkpoint: all that decides the scales to come, and the counters."""
        own: dict[str, float | int] = {
            name: getattr(self, name) for name in ("scale", "good_updates", "largest_output")
        }
        return own | asdict(self.counters)

    def load_state(self, state: Mapping[str, float | int]) -> None:
        """Takes in what `state` gave; one that does not fit changes nothing."""
        expected = self.state()
        missing, unknown = expected.keys() - state.keys(), state.keys() - expected.keys()
        if missing or unknown:
            raise ValueError(
                f"state of the loss scaler: missing {', '.join(sorted(missing)) or 'none'}; "
                f"unknown {', '.join(sorted(unknown)) or 'none'}"
            )
        _check_scale("scale", state["scale"])
        largest = state["largest_output"]
        if isinstance(largest, bool) or not isinstance(largest, int | float) or not 0.0 <= largest < math.inf:
            raise ValueError(f"largest_output is {largest!r}; expected a finite number, 0 or more")
        counters = Counters(**{item.name: _count(item.name, state[item.name]) for item in fields(Counters)})
        good_updates = _count("good_updates", state["good_updates"])
        self.scale, self.largest_output = float(state["scale"]), float(largest)
        self.good_updates, self.counters = good_updates, counters


def _check_scale(name: str, scale: float) -> None:
    number = isinstance(scale, int | float) and not isinstance(scale, bool)
    if not number or not LEAST <= scale <= MOST or math.frexp(scale)[0] != 0.5:
        raise ValueError(f"{name} is {scale!r}; expected a power of two from {LEAST:g} to {MOST:g}")


def _count(name: str, value: float | int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{name} is {value!r}; expected a whole number, 0 or more")
    return value
