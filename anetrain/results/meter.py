"""Times calls: first until they are as fast as they get, then as often as a median needs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from anetrain.results.schema import Timing
from anetrain.results.statistics import median

WINDOW = 5  # calls whose median tells whether times still fall
KEPT = 1000  # samples at most, or what was asked for: of hundreds of thousands a file would have megabytes
SETTLED = 0.97  # a window's median that is not below this share of the last one's: stable


@dataclass(frozen=True)
class Meter:
    """`clock` gives seconds. Samples: at least `least_samples`, more until `least_s` have passed; after `most_s` only
    what there is."""

    clock: Callable[[], float] = time.perf_counter
    least_samples: int = 20
    least_s: float = 0.5
    most_s: float = 20.0
    most_warm_up: int = 200

    def time(self, call: Callable[[], object]) -> Timing:
        warm_up, stable = self._warm_up(call)
        samples_s: list[float] = []
        most_kept, calls, every = max(KEPT, 2 * self.least_samples), 0, 1  # every so many-th is kept
        begin = self.clock()
        while calls < self.least_samples or self.clock() - begin < self.least_s:
            sample_s = self._once(call)
            if calls % every == 0:
                samples_s.append(sample_s)
            calls += 1
            if len(samples_s) == most_kept:
                samples_s, every = samples_s[::2], 2 * every
            if self.clock() - begin > self.most_s:
                break
        return Timing.of(tuple(samples_s), warm_up=warm_up, stable=stable)

    def sustain(self, call: Callable[[], object], seconds: float, *, sample_s: float = 0.1) -> Timing:
        """Without a pause for so long. A sample is as many calls as take about `sample_s`: thousands of short ones
        would make a file of megabytes."""
        warm_up, stable = self._warm_up(call)
        calls = max(1, round(sample_s / self._once(call)))
        samples_s: list[float] = []
        begin = self.clock()
        while not samples_s or self.clock() - begin < seconds:
            samples_s.append(self._once(lambda: [call() for _ in range(calls)]))
        return Timing.of(tuple(samples_s), warm_up=warm_up + 1, stable=stable, calls_per_sample=calls)

    def _warm_up(self, call: Callable[[], object]) -> tuple[int, bool]:
        """How many calls it took, and whether times had ceased to fall by then."""
        last: float | None = None
        begin = self.clock()
        for calls in range(WINDOW, self.most_warm_up + 1, WINDOW):
            now = median([self._once(call) for _ in range(WINDOW)])
            if last is not None and now >= SETTLED * last:
                return calls, True
            last = now
            if self.clock() - begin > self.most_s / 2:
                return calls, False
        return self.most_warm_up, False

    def _once(self, call: Callable[[], object]) -> float:
        begin = self.clock()
        call()
        return round(self.clock() - begin, 9)  # no clock tells less than nanoseconds
