"""What a run shows while it goes: a bar, or lines where there is no terminal. It listens to the events of the run."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, TextIO

from tqdm import tqdm

from anetrain import events
from anetrain.commands.running import lead_nowhere

COLUMNS, LINES = 80, 24  # where a terminal does not say how many it has


def _size(stream: TextIO) -> dict[str, Any]:
    """As tqdm's options. It shows nothing on a terminal of 0 columns or lines, as one has that was given no size."""
    try:
        columns, lines = os.get_terminal_size(stream.fileno())
    except (OSError, AttributeError):
        return {"dynamic_ncols": True}
    return {"dynamic_ncols": True} if columns and lines else {"ncols": columns or COLUMNS, "nrows": lines or LINES}


class Progress:
    """A bar on a terminal; elsewhere a line every `every` updates. `first`: updates that the run has already.
    `before`: what the process before this one has handed over, if this one goes on for it."""

    def __init__(
        self, stream: TextIO, *, first: int, last: int, every: int, before: Mapping[str, Any] | None = None
    ) -> None:
        self._stream, self._last, self._every = stream, last, every
        self._first, self._done, self._tokens, self._begin = first, 0, 0, time.perf_counter()
        if before is not None:
            self._first, self._done = int(before["first"]), int(before["done"])
            self._tokens, self._begin = int(before["tokens"]), before["begin"]
        self._bar: Any = None
        if stream.isatty():
            # With a delay, the bar of the process before this one stays until it can be drawn with a figure.
            delay = 1e-9 if before is not None else 0
            options = {"file": stream, "unit": "update", "delay": delay, **_size(stream)}
            self._bar = tqdm(total=last, initial=self._first, **options)
            self._bar.n = self._bar.last_print_n = self._first + self._done
            self._bar.start_t += self._begin - time.perf_counter()

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
        """A line of its own, above the bar if there is one. Who reads may leave: the run goes on, and what would have
        been said is in its events."""
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
            return
        try:
            print(text, file=self._stream, flush=True)
        except BrokenPipeError:
            lead_nowhere(self._stream)

    def hand_over(self) -> dict[str, float]:
        """For the next process (`before`). Its bar will be drawn where this one stays."""
        if self._bar is not None:
            self._bar.refresh()
            self._bar.disable = True
        return {"first": self._first, "done": self._done, "tokens": self._tokens, "begin": self._begin}

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
