"""What commands have in common: exit codes, one sentence for whatever goes wrong, bars."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from tqdm import tqdm

from anetrain.checkpoint import CheckpointError

DONE, REFUSED, INTERRUPTED = 0, 2, 130


def run(name: str, work: Callable[[argparse.Namespace], object], options: argparse.Namespace) -> int:
    """The exit code. Whatever is wrong with what was given is one line; other exceptions are mistakes of ours."""
    open_standard_streams()
    try:
        work(options)
        sys.stdout.flush()
    except BrokenPipeError:  # who reads the output has seen enough; there is nowhere to write the rest
        lead_nowhere(sys.stdout)
        return DONE
    except FileExistsError as error:
        print(f"anetrain {name}: {sentence(error)} (--force)", file=sys.stderr)
        return REFUSED
    except (ValueError, OSError, CheckpointError) as error:
        print(f"anetrain {name}: {sentence(error)}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print(f"anetrain {name}: interrupted", file=sys.stderr)
        return INTERRUPTED
    return DONE


def sentence(error: BaseException) -> str:
    """What an exception says, on one line; of the system's errors without numbers, and the file first."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return one_line(error)


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def open_standard_streams() -> None:
    """Those that were closed when the process began lead nowhere. Else Python has none, and the next files that are
    opened take their numbers, and whatever writes to these writes there."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):  # in the order of their numbers
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 (until the process ends)


def lead_nowhere(stream: TextIO) -> None:
    """From now on, in this process and in those that it becomes or begins."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


def find_modules_here() -> None:
    """For model.import: the console script has its own folder in sys.path, and not the one it was called in."""
    here = str(Path.cwd())
    if "" not in sys.path and here not in sys.path:
        sys.path.insert(0, here)


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM is a KeyboardInterrupt here, as Ctrl-C is: what there is gets kept."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def bar(what: str, unit: str = "B") -> Iterator[Callable[[int, int], None]]:
    """A progress bar where standard error is a terminal, nothing elsewhere. Takes how much is done, and of how much."""
    shown: Any = tqdm(desc=what, unit=unit, unit_scale=True, file=sys.stderr, disable=not sys.stderr.isatty())

    def progress(done: int, total: int) -> None:
        shown.total = total or None
        shown.update(done - shown.n)

    with shown:
        yield progress
