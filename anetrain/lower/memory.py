"""What a ladder remembers between runs: which rung a chip took, and why not a higher one.

A small JSON file. It is a hint only: without it, or with a wrong one, a run takes longer to start, or more dispatches.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_args

from anetrain import files
from anetrain.lower.plan import Granularity

log = logging.getLogger("anetrain.lower")

FORMAT = "anetrain ladder memory"
VERSION = 1


@dataclass(frozen=True)
class Descent:
    """Why a rung was left. `rule`, `value` and `limit` are empty where a device gave no more than words."""

    rung: Granularity
    label: str  # of the program that did not pass
    error: str  # begins with the label, as errors do
    rule: str = ""
    value: str = ""
    limit: str = ""

    def __str__(self) -> str:
        known = f"{self.label}: rule {self.rule}: {self.value}, expected {self.limit}"
        reason = known if self.value else self.error
        return f"{self.rung}: {reason}"


@dataclass(frozen=True)
class Remembered:
    rung: Granularity
    descents: tuple[Descent, ...]


class LadderMemory:
    """Reads the file when it is asked, writes it whole, under a temporary name first. A file that is damaged, or of
    something else, is reported and set aside as `<name>.unreadable` when there is something new to write. The same is
    reported once."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._reported: set[str] = set()

    def recall(self, key: str) -> Remembered | None:
        entries, _ = self._read()
        try:
            return _entry(entries[key]) if key in entries else None
        except (TypeError, ValueError, KeyError) as error:
            self._report(f"the entry {key} is damaged ({error}) and is not used")
            return None

    def remember(self, key: str, rung: Granularity, descents: tuple[Descent, ...]) -> None:
        """Never fails: what cannot be written is only reported."""
        entries, damaged = self._read()
        entry = {"rung": rung, "descents": [asdict(descent) for descent in descents]}
        if entries.get(key) == entry:
            return
        text = json.dumps({"format": FORMAT, "version": VERSION, "rungs": {**entries, key: entry}}, indent=1) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if damaged:
                aside = self.path.with_name(self.path.name + ".unreadable")
                os.replace(self.path, aside)
                self._report(f"is set aside as {aside}")
            with files.replacing(self.path, overwrite=True) as file:
                file.write(text.encode())
        except OSError as error:
            self._report(f"what a device takes cannot be remembered: {error.strerror or error}")

    def _report(self, what: str) -> None:
        if what not in self._reported:
            self._reported.add(what)
            log.warning("%s: %s", self.path, what)

    def _read(self) -> tuple[dict[str, Any], bool]:
        """(entries, is there something else in its place?)"""
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            if content["format"] != FORMAT or content["version"] != VERSION:
                raise ValueError(f"format {content['format']!r}, version {content['version']!r}")
            return dict(content["rungs"]), False
        except (FileNotFoundError, NotADirectoryError):
            return {}, False
        except (OSError, ValueError, TypeError, KeyError) as error:
            expected = f"expected {FORMAT!r}, version {VERSION}"
            self._report(f"is no ladder memory ({error}; {expected}) and is not used")
            return {}, True


def _entry(found: dict[str, Any]) -> Remembered:
    if found["rung"] not in get_args(Granularity):
        raise ValueError(f"unknown rung {found['rung']!r}")
    names = [field.name for field in fields(Descent)]
    descents = [Descent(**{name: str(item[name]) for name in names}) for item in found["descents"]]  # type: ignore[arg-type]
    return Remembered(found["rung"], tuple(descents))
