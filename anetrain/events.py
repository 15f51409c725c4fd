"""What happens in a run, as one stream of events; progress bars, files, reports and dashboards listen to it.

    events = Events()
    events.add(JsonLines(path))
    events.emit(Update(update=7, loss=3.2, ...))

A listener is called with every event, in the thread that emits it. One that raises must not end a run of days, nor may
its failure pass unseen: the error is logged with its traceback, kept in `failures`, and the listener hears no more.
A listener added as `required` ends the run instead: its error is raised again, after the others have heard the event.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, TextIO

_log = logging.getLogger(__name__)

KINDS: dict[str, type[Event]] = {}


@dataclass(frozen=True)
class Event:
    """Fields are numbers, texts, and dicts of them. A subclass names its kind: class Step(Event, kind="step")."""

    kind: ClassVar[str] = ""

    def __init_subclass__(cls, kind: str, **options: Any) -> None:
        super().__init_subclass__(**options)
        if kind in KINDS:
            raise TypeError(f"two events of kind {kind!r}: {KINDS[kind].__name__} and {cls.__name__}")
        cls.kind = kind
        KINDS[kind] = cls


@dataclass(frozen=True)
class Compile(Event, kind="compile"):
    """Programs were compiled and loaded. `compiles` and `live` are the device's counts after it. `cache_loads`: those
    beside them that had been compiled before, and were loaded without the compiler."""

    label: str
    programs: int
    seconds: float
    compiles: int
    live: int
    cache_loads: int


@dataclass(frozen=True)
class Step(Event, kind="step"):
    """One micro-step: forward and backward of a batch. `parts` are the account of its time, but for those that took
    none."""

    micro_step: int
    loss: float
    tokens: int
    seconds: float
    parts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Update(Event, kind="update"):
    """The weights have changed. `loss` is the mean over the group; `seconds` includes all of it, update and restaging
    too; `parts` are the account of this time."""

    update: int
    loss: float
    lr: float
    norm: float
    clipped: bool
    micro_steps: int
    tokens: int
    loss_scale: float
    seconds: float
    parts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Overflow(Event, kind="overflow"):
    """Values were not finite: a group of micro-steps was dropped. `loss_scale` is the one that holds from now on;
    `seconds` is what the group took."""

    update: int
    where: str
    infinite: int
    loss_scale: float
    seconds: float


@dataclass(frozen=True)
class Failure(Event, kind="failure"):
    """The device failed. `replayed`: the group is run once more."""

    update: int
    error: str
    replayed: bool


@dataclass(frozen=True)
class CompileFailure(Event, kind="compile_failure"):
    """Programs were not made in the background: those before them go on. `update`: after which this was found."""

    update: int
    error: str


@dataclass(frozen=True)
class Validation(Event, kind="validation"):
    update: int
    loss: float
    tokens: int
    seconds: float
    best: bool


@dataclass(frozen=True)
class Checkpoint(Event, kind="checkpoint"):
    update: int
    path: str
    bytes: int
    seconds: float


@dataclass(frozen=True)
class Restart(Event, kind="restart"):
    """The process is about to be replaced by itself, resumed from `checkpoint`."""

    update: int
    reason: str
    checkpoint: str


@dataclass(frozen=True)
class Restarted(Event, kind="restarted"):
    """A new process is ready to go on. Seconds: until it ran, until data and device were there, of reading the weights,
    of making the pipeline and its programs."""

    update: int
    start_seconds: float
    prepare_seconds: float
    load_seconds: float
    build_seconds: float


@dataclass(frozen=True)
class Report(Event, kind="report"):
    """Figures of a run by name, such as those of its end."""

    title: str
    figures: dict[str, float | int | str]


Listener = Callable[[Event], object]


@dataclass(frozen=True)
class ListenerFailure:
    listener: Listener
    event: Event
    error: Exception


class Events:
    def __init__(self) -> None:
        self._listeners: list[tuple[Listener, bool]] = []
        self.failures: list[ListenerFailure] = []

    def add(self, listener: Listener, *, required: bool = False) -> None:
        self._listeners.append((listener, required))

    def remove(self, listener: Listener) -> None:
        kept = [(other, required) for other, required in self._listeners if other != listener]
        if len(kept) == len(self._listeners):
            raise ValueError(f"{listener!r} does not listen")
        self._listeners = kept

    def emit(self, event: Event) -> None:
        fatal: Exception | None = None
        for listener, required in tuple(self._listeners):
            try:
                listener(event)
            except Exception as error:
                self.failures.append(ListenerFailure(listener, event, error))
                if required:
                    fatal = fatal or error
                else:
                    self._listeners.remove((listener, required))
                    _log.exception("%r failed at a %r event and hears no more; the run goes on", listener, event.kind)
        if fatal is not None:
            raise fatal


# ---------------------------------------------------------------- as JSON


def to_record(event: Event) -> dict[str, Any]:
    """For JSON, which has no infinities: floats that are not finite become "nan", "inf" or "-inf"."""
    return {"kind": event.kind} | {item.name: plain(getattr(event, item.name)) for item in fields(event)}


def from_record(record: Mapping[str, Any]) -> Event:
    """What `to_record` made a record of."""
    known = KINDS.get(record.get("kind", ""))
    if known is None:
        raise ValueError(f"kind is {record.get('kind')!r}; expected one of {', '.join(KINDS)}")
    values = {name: value for name, value in record.items() if name != "kind"}
    for item in fields(known):
        if item.type == "float" and isinstance(values.get(item.name), str):
            values[item.name] = float(values[item.name])
        elif item.name == "parts":
            values["parts"] = {part: float(seconds) for part, seconds in values.get("parts", {}).items()}
    try:
        return known(**values)
    except TypeError as error:
        raise ValueError(f"a {known.kind!r} record does not fit: {error}") from None


def plain(value: Any) -> Any:
    """As JSON can have it: floats that are not finite as texts."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(float(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return value


class JsonLines:
    """A listener that appends one line of JSON for each event, with the time it came (seconds since 1970).

    What a crash left of a line at the end of the file is removed.
    """

    def __init__(self, path: str | os.PathLike[str], clock: Callable[[], float] = time.time) -> None:
        self.path = Path(path)
        self._clock = clock
        self._file: TextIO = self.path.open("a+", encoding="utf-8")
        _drop_half_line(self._file)

    def __call__(self, event: Event) -> None:
        record = {"time": self._clock()} | to_record(event)
        self._file.write(json.dumps(record, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _drop_half_line(file: TextIO) -> None:
    file.seek(0)
    whole = 0
    for line in iter(file.readline, ""):
        if line.endswith("\n"):
            whole = file.tell()
    file.truncate(whole)


def forget_after(path: str | os.PathLike[str], micro_steps: int, validated: int) -> None:
    """For a run that goes on from a checkpoint: what a file has of later micro-steps, and of validations after a later
    update than the one that was `validated` last, is removed, since they come again; so is half a line at its end. The
    file may be one of events or of telemetry."""
    end = 0
    with Path(path).open("r+b") as file:
        for line in file:
            step, validation = _STEP.search(line), _VALIDATION.search(line)
            comes_again = (step and int(step[1]) > micro_steps) or (validation and int(validation[1]) > validated)
            if comes_again or not line.endswith(b"\n"):
                break
            end += len(line)
        file.truncate(end)


_VALIDATION = re.compile(rb'"kind": "validation", "update": (\d+)')
_STEP = re.compile(rb'"(?:kind|type)": "step", "(?:micro_)?step": (\d+)')


def read_json_lines(path: str | os.PathLike[str]) -> Iterator[tuple[float, Event]]:
    """The events of a file, each with its time. A last line without an end is still being written, and left out."""
    with Path(path).open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith("\n"):
                return
            try:
                record = json.loads(line)
                seconds = float(record.pop("time"))
                event = from_record(record)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"{path}, line {number}: not an event: {error}") from None
            yield seconds, event
