"""The file of results that a command writes while it works: named by the day, never over another one unasked."""

from __future__ import annotations

import argparse
import shlex
from datetime import datetime
from pathlib import Path

from anetrain import results
from anetrain.results import Results


class ResultsFile:
    """Written again and again, whole each time: whatever ends the command, the last state is there."""

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        """An existing file is an error before any work is done."""
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path} exists; choose another name, or allow to overwrite it")
        self.path = path
        self._ours = overwrite

    @classmethod
    def of(cls, options: argparse.Namespace, what: str) -> ResultsFile:
        """`--out`, or a name from what is done and when; `--force`."""
        named = options.out or Path("results") / f"{what}-{datetime.now():%Y%m%d-%H%M%S}.json"
        return cls(named, overwrite=options.force)

    def write(self, found: Results) -> None:
        results.write(found, self.path, overwrite=self._ours)
        self._ours = True


def add_options(parser: argparse.ArgumentParser) -> None:
    """What every command takes that finds something out about a device."""
    add = parser.add_argument
    add("--device", default="auto", help="auto (default), ane, emulator or emulator:PROFILE")
    add("--scale", choices=("full", "small"), default="full", help="small: for trying out, never compared (full)")
    add("--seed", type=int, default=0, metavar="N", help="of the values that are computed with (0)")
    add("--out", type=Path, metavar="FILE", help="where results go (results/, named by what is done and when)")
    add("--force", action="store_true", help="overwrite FILE")


def seed_of(options: argparse.Namespace) -> int:
    seed: int = options.seed
    if seed < 0:
        raise ValueError(f"--seed is {seed}; expected 0 or more")
    return seed


def command_line(command: str, options: argparse.Namespace, *more: str) -> str:
    """As it goes into the results: all that changes them, and no path."""
    kind, colon, profile = options.device.partition(":")  # which may be a file
    device = f"{kind}{colon}{Path(profile).name}"
    words = [*command.split(), *more, "--device", device, "--scale", options.scale, "--seed", str(options.seed)]
    return shlex.join(words)
