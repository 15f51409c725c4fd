"""What a run shows while it goes and when it ends: a bar, or lines where there is no terminal, and the account.

These listen to the events of a run (anetrain.events). Times are those of the process; what an emulator takes is named
so, never as an ANE's.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from tqdm import tqdm

from anetrain import events


class Progress:
    """A bar on a terminal; elsewhere a line every `every` updates. `first`: updates that the run has already."""

    def __init__(self, stream: TextIO, *, first: int, last: int, every: int) -> None:
        self._stream, self._last, self._every = stream, last, every
        self._begin, self._tokens, self._done = time.perf_counter(), 0, 0
        self._bar: Any = None
        if stream.isatty():
            self._bar = tqdm(total=last, initial=first, file=stream, unit="update", dynamic_ncols=True)

    def __call__(self, event: events.Event) -> None:
        if isinstance(event, events.Update):
            self._update(event)
        elif isinstance(event, events.Validation):
            best = ", the best so far" if event.best else ""
            self.say(f"update {event.update}: validation loss {event.loss:.4f}{best}")
        elif isinstance(event, events.Overflow):
            self.say(f"a group was dropped: {event.where}; the loss scale is {event.loss_scale:g} now")
        elif isinstance(event, events.Failure):
            self.say(f"the device failed: {event.error}" + ("; the group is run again" if event.replayed else ""))

    def say(self, text: str) -> None:
        """A line of its own, above the bar if there is one."""
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _update(self, event: events.Update) -> None:
        self._tokens, self._done = self._tokens + event.tokens, self._done + 1
        seconds = time.perf_counter() - self._begin
        rate = self._tokens / max(seconds, 1e-9)
        if self._bar is not None:
            self._bar.set_postfix(loss=f"{event.loss:.3f}", lr=f"{event.lr:.2e}", tok_s=f"{rate:,.0f}", refresh=False)
            self._bar.update()
        elif event.update % self._every == 0 or event.update == self._last or self._done == 1:
            left = seconds / self._done * (self._last - event.update)
            self.say(
                f"update {event.update}/{self._last}  loss {event.loss:.4f}  lr {event.lr:.2e}  "
                f"{rate:,.0f} tok/s  eta {tqdm.format_interval(left)}"
            )


class Totals:
    """Adds up what the updates took, for the report at the end."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock, self._begin = clock, clock()
        self.updates = self.micro_steps = self.tokens = self.dropped = 0
        self.seconds = self.saving = self.validating = 0.0
        self.parts: Counter[str] = Counter()

    def __call__(self, event: events.Event) -> None:
        if isinstance(event, events.Update):
            self.updates, self.micro_steps = self.updates + 1, self.micro_steps + event.micro_steps
            self.tokens, self.seconds = self.tokens + event.tokens, self.seconds + event.seconds
            self.parts.update(event.parts)
        elif isinstance(event, events.Overflow):
            self.dropped += 1
        elif isinstance(event, events.Checkpoint):
            self.saving += event.seconds
        elif isinstance(event, events.Validation):
            self.validating += event.seconds

    def report(self, facts: Mapping[str, Any], compiles: int) -> events.Report:
        """Milliseconds are of a whole update, optimizer and restaging included, and of each of its parts."""
        count = max(self.updates, 1)
        figures: dict[str, float | int | str] = {
            "device": device_name(facts),
            "wall_s": self._clock() - self._begin,
            "updates": self.updates,
            "micro_steps": self.micro_steps,
            "dropped_groups": self.dropped,
            "tokens": self.tokens,
            "tokens_per_s": self.tokens / self.seconds if self.seconds else 0.0,
            "ms_per_update": 1e3 * self.seconds / count,
            "validation_s": self.validating,
            "checkpoint_s": self.saving,
            "compiles": compiles,
        }
        figures |= {f"ms_{name}": 1e3 * seconds / count for name, seconds in self.parts.items()}
        return events.Report("end of run", figures)


def device_name(facts: Mapping[str, Any]) -> str:
    if facts["kind"] == "ane":
        return f"ane ({facts.get('chip') or 'unknown chip'})"
    return f"emulator:{facts['profile']} (times are of this CPU, not of an ANE)"


def report_text(report: events.Report) -> str:
    """One line for the run, one for where the time of an update went, the largest part first."""
    found = report.figures
    parts = {name[3:]: float(found[name]) for name in found if name.startswith("ms_") and name != "ms_per_update"}
    whole = float(found["ms_per_update"])
    listed = ", ".join(
        f"{name.replace('_', ' ')} {size:.1f}"
        for name, size in sorted(parts.items(), key=lambda item: -item[1])
        if size >= 0.005 * whole and size > 0.0
    )
    return (
        f"{found['updates']} updates, {found['tokens']:,} tokens in {float(found['wall_s']):.1f} s; "
        f"{float(found['tokens_per_s']):,.0f} tok/s while training; {found['compiles']} compiles; "
        f"{found['dropped_groups']} groups dropped\n"
        f"device: {found['device']}\n"
        f"{whole:.1f} ms per update: {listed or 'nothing was measured'}"
    )
