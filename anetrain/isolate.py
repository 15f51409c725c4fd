"""Work in a process of its own: one that crashes or hangs is a result, and not the end.

    with Worker() as worker:
        outcome = worker.run("anetrain.probe.run:experiment", {"probe": "qos", ...}, timeout_s=60)

A worker is one process for all its work, until that process dies, hangs or is asked to go (`renew`); the next work then
gets a new one. Functions are named as "module:function", take keyword arguments and return plain data: both travel as
JSON. What the process prints, and the engine's framework in it, is kept, and its end is in the outcome.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, BinaryIO, Literal, Protocol

from anetrain.errors import ANEError, BudgetError

OUTPUT_BYTES = 4000  # of what the process printed last
GRACE_S = 5.0  # for a killed process to be gone; one that is stuck in a driver may never be

Status = Literal["done", "refused", "failed", "crashed", "timed out"]


@dataclass(frozen=True)
class Outcome:
    """`refused`: the device raised an ANEError (`refusal`). `failed`: any other exception."""

    status: Status
    value: Any = None
    reason: str = ""
    refusal: dict[str, Any] | None = None
    over_budget: bool = False
    """Refused by a budget of this project's own, not by the device: a new process may do it."""
    seconds: float = 0.0
    output: str = field(default="", repr=False)


class Runner(Protocol):
    """A `Worker`, or `Inline`."""

    def run(self, function: str, arguments: Mapping[str, Any], *, timeout_s: float) -> Outcome: ...
    def renew(self) -> None: ...


class Inline:
    """Runs the work here: for tests, and for looking at it in a debugger. Nothing is isolated."""

    def run(self, function: str, arguments: Mapping[str, Any], *, timeout_s: float) -> Outcome:
        return _perform(function, arguments)

    def renew(self) -> None:
        pass


class Worker:
    """See above. Not for several threads."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._output: BinaryIO | None = None
        self._said_before = 0  # bytes of output, of earlier work
        self._answers = b""

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.renew()

    def renew(self) -> None:
        """The next work gets a new process."""
        self._end()

    def run(self, function: str, arguments: Mapping[str, Any], *, timeout_s: float) -> Outcome:
        """Whatever becomes of it. KeyboardInterrupt ends the process, and is raised."""
        begin = time.perf_counter()
        process = self._started()
        self._said_before = self._output_size()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps({"function": function, "arguments": dict(arguments)}).encode() + b"\n")
            process.stdin.flush()
            line = self._answer(timeout_s)
        except BrokenPipeError:
            line = b""
        except BaseException:
            self._end()
            raise
        seconds = time.perf_counter() - begin
        if line is None:
            output = self._end()
            return Outcome("timed out", reason=f"no answer within {timeout_s:g} s", seconds=seconds, output=output)
        if not line:
            how, output = self._how_it_died(), self._end()
            return Outcome("crashed", reason=how, seconds=seconds, output=output)
        return Outcome(**json.loads(line), seconds=seconds, output=self._tail())

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._answers = b""
            self._output = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
            self._process = subprocess.Popen(
                [sys.executable, "-u", "-m", "anetrain.isolate"],  # what it prints is there when it dies
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._output,
                start_new_session=True,  # Ctrl-C is for us, who then end it
                env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            )
        return self._process

    def _answer(self, timeout_s: float) -> bytes | None:
        """A line; empty when the process died; None when time is up."""
        assert self._process is not None
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._answers:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not select.select([self._process.stdout], [], [], left_s)[0]:
                return None
            piece = os.read(self._process.stdout.fileno(), 1 << 16)
            if not piece:
                return b""
            self._answers += piece
        line, _, self._answers = self._answers.partition(b"\n")
        return line

    def _how_it_died(self) -> str:
        assert self._process is not None
        try:
            code = self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            return "its process closed its pipe and went on"
        if code >= 0:
            return f"its process ended with exit code {code}"
        return f"its process was killed by signal {-code} ({signal.Signals(-code).name})"

    def _end(self) -> str:
        """What it printed last."""
        process, output = self._process, self._tail()
        self._process = None
        if process is not None:
            assert process.stdin is not None
            assert process.stdout is not None
            with contextlib.suppress(ProcessLookupError):  # it had ended, and nobody is left of its group
                os.killpg(process.pid, signal.SIGKILL)  # and what it has begun itself
            process.stdout.close()
            with contextlib.suppress(BrokenPipeError):  # it had died with work still in the pipe
                process.stdin.close()
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                output += f"\n(process {process.pid} cannot be killed: it is stuck in the system)"
        if self._output is not None:
            self._output.close()
            self._output = None
        return output

    def _tail(self) -> str:
        """What the process printed last, of what it printed since this work began."""
        if self._output is None:
            return ""
        begin = max(self._said_before, self._output_size() - OUTPUT_BYTES)
        # Not by seeking: the process writes where our common position is.
        return os.pread(self._output.fileno(), OUTPUT_BYTES, begin).decode(errors="replace")

    def _output_size(self) -> int:
        assert self._output is not None
        return os.fstat(self._output.fileno()).st_size


# ---------------------------------------------------------------- in the process


def resolve(place: str) -> Any:
    """The function or class that "module:name" names."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def place_of(made: object) -> str:
    """Of an object's class, as `resolve` takes it."""
    return f"{type(made).__module__}:{type(made).__qualname__}"


def _perform(function: str, arguments: Mapping[str, Any]) -> Outcome:
    try:
        value = resolve(function)(**arguments)
        return Outcome("done", value=json.loads(json.dumps(value)))
    except ANEError as error:
        said = {key: getattr(error, key) for key in ("domain", "code", "text", "detail", "rule")}
        refusal = {"error": type(error).__name__, **said}
        return Outcome("refused", reason=str(error), refusal=refusal, over_budget=isinstance(error, BudgetError))
    except Exception as error:
        return Outcome("failed", reason=f"{type(error).__name__}: {error}")


def main() -> int:
    """Reads lines of work from standard input and answers to what standard output was: what is printed, by libraries
    too, goes to standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for line in sys.stdin.buffer:
        work = json.loads(line)
        outcome = _perform(work["function"], work["arguments"])
        told = {key: getattr(outcome, key) for key in ("status", "value", "reason", "refusal", "over_budget")}
        answers.write(json.dumps(told).encode() + b"\n")
        answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
