"""Where the time of an update goes: a clock with named parts and no catch-all.

    account = Account()
    account.start()
    with account.part("forward_device"):
        request.run()
    spent = account.stop()     # spent.seconds, spent.parts, spent.covered

A part inside another one is taken out of it, so the parts never add up to more than the whole. What no part measures is
in none of them: `covered` says how much that is not. An account belongs to one thread; what worker threads do meanwhile
shows as "waiting", when the training thread waits for them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, get_args

PartName = Literal[
    "data",  # making and checking batches
    "forward_device",  # evaluations of the device
    "forward_conversion",  # fp32 <-> fp16, to and from surfaces
    "forward_norms",  # those on the host
    "forward_classifier",  # its product, where it is on the host
    "forward_host",  # residual sums, embedding, loss
    "backward_device",
    "backward_conversion",
    "backward_norms",
    "backward_classifier",
    "backward_host",
    "weight_gradients",  # products of activations and gradients, in the training thread
    "waiting",  # for weight gradients that another thread makes
    "update",  # norm, clipping, optimizer, and the weights that it stages on its way
    "saving",  # copies of what is not saved yet, before an update changes it
    "restaging",  # new weights to the device, but for those that the update has staged
    "compiling",  # of programs that have weights baked in
    "events",  # listeners
]
PARTS: tuple[PartName, ...] = get_args(PartName)


@dataclass(frozen=True)
class Spent:
    """Seconds from start to stop, and of each part."""

    seconds: float
    parts: dict[str, float]

    @property
    def covered(self) -> float:
        """The share of all time that the parts have; 1 when no time has passed."""
        return sum(self.parts.values()) / self.seconds if self.seconds > 0.0 else 1.0

    def since(self, before: Spent) -> Spent:
        """What came in between; parts that took no time are left out."""
        parts = {name: gained for name, seconds in self.parts.items() if (gained := seconds - before.parts[name])}
        return Spent(self.seconds - before.seconds, parts)


class Account:
    """Outside of start and stop nothing is measured, so that code with parts also runs without an account of it."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._sections = {name: _Section(self, name) for name in PARTS}
        self._parts: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        self._open: list[PartName] = []
        self._mark = self._begun = 0.0
        self._running = False

    def start(self) -> None:
        """All parts from zero; a part that an error left open is forgotten. Not to be called inside of a part."""
        self._parts = dict.fromkeys(PARTS, 0.0)
        self._open.clear()
        self._running = True
        self._mark = self._begun = self._clock()

    def part(self, name: PartName) -> _Section:
        """`with account.part("update"):`"""
        if name not in self._sections:
            raise ValueError(f"no part {name!r}; there are {', '.join(PARTS)}")
        return self._sections[name]

    def begin(self, name: PartName) -> None:
        """Until the matching `end`, time goes to this part; cheaper than `part` by a little."""
        now = self._clock()
        if self._open:
            self._parts[self._open[-1]] += now - self._mark
        self._open.append(name)
        self._mark = now

    def end(self) -> None:
        now = self._clock()
        self._parts[self._open.pop()] += now - self._mark
        self._mark = now

    def so_far(self) -> Spent:
        """Since start, outside of all parts: two of these say what lies between them."""
        return Spent(self._clock() - self._begun, dict(self._parts))

    def stop(self) -> Spent:
        if not self._running:
            raise RuntimeError("the account was not started: call start() where the update begins")
        if self._open:
            raise RuntimeError(f"the account is stopped inside of {', '.join(self._open)}: a begin() has no end()")
        self._running = False
        return self.so_far()


class _Section:
    """One object per part, used again and again."""

    def __init__(self, account: Account, name: PartName) -> None:
        self._account, self._name = account, name

    def __enter__(self) -> None:
        self._account.begin(self._name)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._account.end()
