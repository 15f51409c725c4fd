"""A process that gives its place to a new one: the same command line, with `--resume`, by exec.

What a process may compile is limited, and only a new process may compile again. Whoever started a run sees one process:
its id, terminal, streams, environment and folder stay. `Handover` is what the checkpoint does not have: how far the
command wanted to go, and what was counted and shown so far.

A signal to stop is not lost on the way. `Signals` remembers it; while the process is replaced it waits, or ends the
process, whose checkpoint is complete.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

VARIABLE = "ANETRAIN_RESTART"
TRIES = 3  # restarts without an update between them


class RestartError(RuntimeError):
    """Why this process cannot be replaced."""


# ---------------------------------------------------------------- what the next process goes on with


@dataclass(frozen=True)
class Handover:
    """`target`: the update to stop after. `clock_s`: time.perf_counter(), which all processes of a machine share, when
    the totals were taken. `tries`: so many restarts came after this `update`, the one to come included. `passing`: the
    checkpoint was made for the restart alone."""

    target: int
    update: int
    reason: str
    tries: int
    clock_s: float
    totals: dict[str, Any]
    progress: dict[str, float]
    passing: bool = False

    def text(self) -> str:
        return json.dumps(asdict(self))


def taken(environment: MutableMapping[str, str]) -> Handover | None:
    """What the process before this one has put there, if any; it is removed."""
    text = environment.pop(VARIABLE, None)
    if text is None:
        return None
    try:
        return Handover(**json.loads(text))
    except (ValueError, TypeError) as error:
        raise RestartError(
            f"the environment has {VARIABLE}={text!r}, which no run of this anetrain has put there ({error}): remove "
            "it, and go on with --resume"
        ) from error


# ---------------------------------------------------------------- the process


def command_line(arguments: Sequence[str], folder: Path) -> list[str]:
    """The one of this process, whose last arguments are these, resuming from the last checkpoint of a folder.

    The interpreter is named by its path; what stands between it and the arguments (`-m anetrain.train`, a script, a
    console script and its subcommand) stays as it was.
    """
    given, command = list(arguments), list(sys.orig_argv[1:])
    head = command[: len(command) - len(given)]
    if not sys.executable or not head or head[-1] == "-" or command[len(head) :] != given:
        raise RestartError(
            "this process was not started with the arguments of the run (main was called by a program, or the program "
            "came from standard input), and cannot be started in the same way again"
        )
    end = given.index("--") if "--" in given else len(given)
    resume = f"--resume={folder}"  # in one piece, so that the name may begin with a dash; the last --resume counts
    options = [argument for argument in given[:end] if argument != resume]
    return [sys.executable, *head, *options, resume, *given[end:]]


class Signals:
    """SIGINT and SIGTERM raise KeyboardInterrupt, until somebody listens: then they are remembered in `number`, and the
    same one once more ends the process at once."""

    NUMBERS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.number: int | None = None
        self._listens = False
        self._before: dict[int, Any] = {}

    def listen(self) -> None:
        """From now on, and to those that came since a process before this one has held them."""
        self._listens = True
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self.NUMBERS)

    @property
    def name(self) -> str | None:
        return signal.Signals(self.number).name if self.number is not None else None

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        self.number = number
        signal.signal(number, signal.SIG_DFL)
        if not self._listens:
            raise KeyboardInterrupt

    def __enter__(self) -> Signals:
        self._before = {number: signal.signal(number, self._remember) for number in self.NUMBERS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    @contextmanager
    def held(self) -> Iterator[None]:
        """None is remembered here: they wait for the next process, except that one which the system gives to another
        thread (only the first thread can make signals wait) ends this process."""
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, self.NUMBERS)
        handlers = {number: signal.signal(number, signal.SIG_DFL) for number in self.NUMBERS}
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


class Restarts:
    """The processes of one command: the one before this, and the one to come. `arguments` are those of the command,
    which was given in the folder that is the working directory now."""

    def __init__(self, arguments: Sequence[str], environment: MutableMapping[str, str]) -> None:
        self._arguments, self._directory = list(arguments), os.getcwd()
        self.before = taken(environment)
        self._environment = environment
        self.folder: Path | None = None
        """Of the checkpoint that the next process resumes from."""
        self._next: tuple[list[str], Handover] | None = None

    def refusal(self) -> str | None:
        """Why this process cannot be replaced, if so."""
        try:
            command_line(self._arguments, Path())
        except RestartError as error:
            return str(error)
        return None

    def tries(self, update: int) -> int:
        """How many new processes will have begun at this update, if there is one more; TRIES at most are worth it."""
        return self.before.tries + 1 if self.before is not None and self.before.update == update else 1

    def plan(self, handover: Handover, folder: Path) -> None:
        """For `go_on`, once everything is closed."""
        self._next, self.folder = (command_line(self._arguments, folder), handover), folder

    def go_on(self, signals: Signals) -> None:
        """In the next process; comes back only if a signal came before. Whatever must end with this process has ended:
        nothing is closed here but what has close-on-exec, which is all that Python opens."""
        assert self._next is not None
        command, handover = self._next
        environment = {**self._environment, VARIABLE: handover.text()}
        try:
            os.chdir(self._directory)
            sys.stdout.flush()
            sys.stderr.flush()
            with signals.held():
                if signals.number is None:
                    os.execve(command[0], command, environment)
        except OSError as error:
            raise RestartError(f"{command[0]} could not be started again: {error}") from error
