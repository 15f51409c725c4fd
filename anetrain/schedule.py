"""Learning rates by update: warm-up, then constant, linear, cosine, or constant with a cool-down at the end (WSD).

    schedule = Schedule("cosine", lr=3e-4, updates=1000, warmup=100, min_ratio=0.1)
    schedule(0)      # of the first update: 3e-6

Everything counts in updates of the weights, never in micro-steps, and depends on the number of the update alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["constant", "linear", "cosine", "wsd"]


@dataclass(frozen=True)
class Schedule:
    """With p the share that is over of the updates behind the warm-up:

    constant   lr
    linear     falls by p from lr to min_ratio lr
    cosine     falls by (1 - cos(pi p)) / 2
    wsd        lr, and in the last `cooldown` updates (by default a fifth of all) falls by sqrt(p), p of these alone

    In the warm-up update number u, from 0, has (u + 1) / warmup of lr. From number `updates` on p is 1.
    """

    kind: Kind
    lr: float
    updates: int
    warmup: int = 0
    min_ratio: float = 0.0
    cooldown: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind is {self.kind!r}; expected one of {', '.join(get_args(Kind))}")
        if not 0.0 < self.lr < math.inf:
            raise ValueError(f"lr is {self.lr!r}; expected a positive number")
        _check_whole("updates", self.updates, 1)
        _check_whole("warmup", self.warmup, 0)
        if self.warmup > self.updates:
            raise ValueError(f"warmup is {self.warmup}; expected at most `updates`, {self.updates}")
        if not 0.0 <= self.min_ratio <= 1.0:
            raise ValueError(f"min_ratio is {self.min_ratio!r}; expected a number from 0 to 1")
        if self.cooldown is not None:
            self._check_cooldown(self.cooldown)

    def __call__(self, update: int) -> float:
        _check_whole("update", update, 0)
        if update < self.warmup:
            return self.lr * (update + 1) / self.warmup
        return self.lr * (1.0 - (1.0 - self.min_ratio) * self._fallen(update))

    def _fallen(self, update: int) -> float:
        """The share, 0 to 1, of the way from lr to the least rate."""
        if self.kind == "constant":
            return 0.0
        if self.kind == "linear":
            return self._share(update, self.updates - self.warmup)
        if self.kind == "cosine":
            return 0.5 * (1.0 - math.cos(math.pi * self._share(update, self.updates - self.warmup)))
        return math.sqrt(self._share(update, self._cooldown))

    def _share(self, update: int, length: int) -> float:
        """How much of the last `length` updates is over before this one."""
        if update >= self.updates:
            return 1.0
        return max(0.0, 1.0 - (self.updates - update) / length) if length else 0.0

    @property
    def _cooldown(self) -> int:
        return min(self.updates // 5, self.updates - self.warmup) if self.cooldown is None else self.cooldown

    def _check_cooldown(self, cooldown: int) -> None:
        if self.kind != "wsd":
            raise ValueError(f"cooldown is {cooldown!r}; only kind 'wsd' has one, and this is {self.kind!r}")
        _check_whole("cooldown", cooldown, 0)
        if cooldown > self.updates - self.warmup:
            raise ValueError(
                f"cooldown is {cooldown}; expected at most the {self.updates - self.warmup} updates behind the warm-up"
            )


def _check_whole(name: str, value: int, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} is {value!r}; expected a whole number, at least {least}")
