"""Runs that are restarted, many in a short time. Run by tests/test_restart.py as a process of its own, because this
forks, and a test process has threads.

    python -m tests.restart_children kill CONFIG FOLDER        SIGKILL at many lines of a restart; then a plain --resume
    python -m tests.restart_children faults CONFIG FOLDER      one compile fails, each one in turn
    python -m tests.restart_children smaller CONFIG FOLDER     a compile fails; smaller programs fit the budget
    python -m tests.restart_children refused CONFIG FOLDER     from the first update on, all compiles fail
    python -m tests.restart_children stuck CONFIG FOLDER       no process can make an update
    python -m tests.restart_children off CONFIG FOLDER         with pipeline.restart=false

In the place of exec a process ends with what it would have become, and a fork becomes that. What is seen is printed as
one line of JSON.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from anetrain import assembly, device, events, files, restart, train
from anetrain import run as run_module
from anetrain.checkpoint import checkpoints, find, load, store
from anetrain.errors import CompileError
from anetrain.trainer import Trainer

BUDGET = "device.compile_budget=8"  # the model has 4 programs: a process makes two updates
Hook = Callable[[int], None]


@dataclass
class Process:
    code: int
    next: tuple[list[str], str] | None
    out: str
    err: str


def process(command: list[str], handed_over: str | None, hook: Callable[[], None]) -> Process:
    """`command`: what sys.orig_argv is."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            result = _in_child(command, handed_over, hook)
            with os.fdopen(writing, "wb") as file:
                pickle.dump(result, file)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(99)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        content = file.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return Process(code, None, "", "") if code else pickle.loads(content)


class _Executed(BaseException):
    pass


def _in_child(command: list[str], handed_over: str | None, hook: Callable[[], None]) -> Process:
    found: list[tuple[list[str], str]] = []

    def execve(path: str, arguments: list[str], environment: Mapping[str, str]) -> None:
        assert path == arguments[0] == sys.executable
        found.append((arguments, environment[restart.VARIABLE]))
        raise _Executed

    os.execve = execve  # type: ignore[assignment]
    sys.orig_argv = command
    if handed_over is not None:
        os.environ[restart.VARIABLE] = handed_over
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            hook()
            code = train.main(command[3:])
        except _Executed:
            pass
    return Process(code, found[0] if found else None, out.getvalue(), err.getvalue())


def command(config: Path, folder: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "anetrain.train", str(config), "--out", str(folder), "--set", BUDGET, *arguments]


def run(first: list[str], hook: Hook = lambda number: None) -> list[Process]:
    """All processes of a command; `hook` runs in each of them, with its number."""
    found: list[Process] = []
    following: tuple[list[str], str | None] | None = (first, None)
    while following is not None:
        number = len(found)
        assert number < 20, "restarts do not end"
        found.append(process(*following, lambda number=number: hook(number)))  # type: ignore[misc]
        following = found[-1].next
    return found


def losses(folder: Path) -> list[float]:
    """Of all updates, of which none is missing or there twice."""
    heard = [event for _, event in events.read_json_lines(folder / "events.jsonl")]
    steps = [event.micro_step for event in heard if isinstance(event, events.Step)]
    updates = [event for event in heard if isinstance(event, events.Update)]
    assert steps == list(range(1, len(steps) + 1)), steps
    assert [event.update for event in updates] == list(range(1, len(updates) + 1)), updates
    validations = [event.update for event in heard if isinstance(event, events.Validation)]
    assert len(set(validations)) == len(validations), validations
    return [event.loss for event in updates] + [event.loss for event in heard if isinstance(event, events.Validation)]


def state(folder: Path) -> tuple[Any, ...]:
    """What must not depend on restarts, of the last checkpoint."""
    last = load(find(folder))
    values = {name: value for name, value in last.values.items() if name != run_module.TOTALS}
    arrays = [(name, part[name].tobytes()) for part in (last.weights, last.arrays, last.baked) for name in part]
    return last.step, values, last.validation_loss, arrays


def straight(config: Path, folder: Path) -> Path:
    without = ["--set", "device.compile_budget=1000"]
    found = run(command(config, folder / "straight", *without))
    assert [item.code for item in found] == [0], found
    return folder / "straight"


# ---------------------------------------------------------------- what is done to them


def kill(config: Path, folder: Path) -> dict[str, Any]:
    """The first process is killed at a line of its restart, or the second one at a line of its begin."""
    expected = straight(config, folder)
    points = [(0, line) for line in range(1, 300, 40)] + [(1, line) for line in range(1, 200, 60)]
    killed = [0, 0]
    for victim, line in points:
        target = folder / f"{victim}-{line}"

        def hook(number: int, victim: int = victim, line: int = line) -> None:
            files.sync = lambda descriptor: None
            if number == victim:
                _kill_at(line, only_restart=victim == 0)

        found = run(command(config, target), hook)
        if found[-1].code == 0:
            continue  # there are no more lines
        assert found[-1].code == -signal.SIGKILL, found
        killed[victim] += 1
        again = run(command(config, target, *(["--resume"] if checkpoints(target) else [])))
        assert again[-1].code == 0, again
        assert losses(target) == losses(expected), (victim, line)
        assert state(target) == state(expected), (victim, line)
    return {"killed": killed}


def _kill_at(line: int, only_restart: bool) -> None:
    watched = {module.__file__ for module in (train, run_module, restart, store, events)}
    left, counts = [line], [not only_restart]

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_name == "_restart":
            counts[0] = True
        if frame.f_code.co_filename not in watched:
            return None
        left[0] -= counts[0] and event == "line"
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)


def faults(config: Path, folder: Path) -> dict[str, Any]:
    """4 compiles make the pipeline, and 4 an update."""
    expected = straight(config, folder)
    seen = {}
    for victim, count in [(0, k) for k in range(4, 8)] + [(1, k) for k in range(4)]:
        target = folder / f"fault-{victim}-{count}"

        def hook(number: int, victim: int = victim, count: int = count) -> None:
            if number == victim:
                _fail_one(count)

        found = run(command(config, target), hook)
        assert found[-1].code == 0, found[-1]
        off = max(abs(one - other) for one, other in zip(losses(target), losses(expected), strict=True))
        seen[f"{victim} {count}"] = [len(found), off, state(target) == state(expected)]
    return seen


def smaller(config: Path, folder: Path) -> dict[str, Any]:
    """Of the second process, the first one: it may step down the ladder, and must not."""
    longer = ["--set", "train.updates=8"]
    expected = run(command(config, folder / "straight", *longer, "--set", "device.compile_budget=1000"))
    found = run(
        command(config, folder / "run", *longer, "--set", "device.compile_budget=20"),
        lambda number: _fail_one(0) if number == 1 else None,
    )
    return {
        "codes": [item.code for item in (*expected, *found)],
        "same": state(folder / "run") == state(folder / "straight"),
        "rungs": load(find(folder / "run")).values[run_module.RUNGS],
        "err": found[1].err,
    }


def _fail_one(count: int) -> None:
    opened = assembly.open_device

    def open_device(config: Any) -> device.Device:
        made = opened(config)
        made.inject_fault("compile", count)
        return made

    assembly.open_device = open_device


def refused(config: Path, folder: Path) -> dict[str, Any]:
    compile, counts = device.Device.compile, [0]

    def fails(self: device.Device, *arguments: Any, **options: Any) -> Any:
        counts[0] += 1
        if counts[0] > 4:
            raise CompileError("this program is too beautiful", label="ffn")
        return compile(self, *arguments, **options)

    def hook(number: int) -> None:
        counts[0] = 4 * (number > 0)
        device.Device.compile = fails  # type: ignore[method-assign]

    found = run(command(config, folder / "refused"), hook)
    return {
        "codes": [item.code for item in found],
        "err": [item.err for item in found],
        "step": state(folder / "refused")[0],
    }


def stuck(config: Path, folder: Path) -> dict[str, Any]:
    def hook(_: int) -> None:
        Trainer.needs_restart = property(lambda self: True)  # type: ignore[method-assign, assignment]

    found = run(command(config, folder / "stuck"), hook)
    return {"codes": [item.code for item in found], "err": found[-1].err, "step": state(folder / "stuck")[0]}


def off(config: Path, folder: Path) -> dict[str, Any]:
    found = run(command(config, folder / "off", "--set", "pipeline.restart=false"))
    return {"codes": [item.code for item in found], "err": found[-1].err, "step": state(folder / "off")[0]}


if __name__ == "__main__":
    name, *paths = sys.argv[1:]
    commands = {"kill": kill, "faults": faults, "smaller": smaller, "refused": refused, "stuck": stuck, "off": off}
    print(json.dumps(commands[name](*map(Path, paths))))
