"""Processes that save until something ends them. Run by tests/test_checkpoint_crash.py as modules of their own, because
they fork, and a test process has threads.

    python -m tests.checkpoint_children kill FOLDER COUNT      SIGKILL at random moments
    python -m tests.checkpoint_children lines FOLDER           an end at every third line of a save
    python -m tests.checkpoint_children limit FOLDER           RLIMIT_FSIZE
    python -m tests.checkpoint_children rights FOLDER          as a user who may not write there

What is seen is printed as one line of JSON.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from anetrain import files
from anetrain.checkpoint import CheckpointError, Store, checkpoints, find, load, store, writing
from tests import checkpoints as small

NOBODY = 65534


def check_last(folder: Path, at_least: int) -> int:
    """Every checkpoint that has a name is whole, and nothing that was reported as saved is gone."""
    for path in checkpoints(folder):
        step = load(path).step
        small.check(load(path), small.state(step, validation_loss=1.0 / (1 + step)))
    last = load(find(folder)).step
    assert last >= at_least, (last, at_least)
    return last


def in_child(work: Callable[[], None]) -> int:
    """The id of a process that works, and never comes back."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    return child


def kill(folder: Path, count: int) -> dict[str, Any]:
    """Each process goes on where the one before it was killed, under the same lock."""
    files.sync = lambda descriptor: None  # a kill does not lose what the system has taken
    chance = random.Random(3)
    saved, reached, during = 0, 0, 0
    Store(folder).save(small.state(0, validation_loss=1.0))

    for _ in range(count):
        reading, reporting = os.pipe()
        child = in_child(partial(save_for_ever, folder, reporting))
        os.close(reporting)
        os.read(reading, 8)  # it begins
        time.sleep(chance.random() * 0.03)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        during += any(path.name.endswith((".tmp", ".old")) for path in folder.iterdir())
        while report := os.read(reading, 8):
            reached = int.from_bytes(report, "little")
        os.close(reading)
        saved = check_last(folder, reached)
    return {"killed": count, "during": during, "last": saved}


def save_for_ever(folder: Path, reporting: int) -> None:
    step = load(find(folder)).step
    with Store(folder, step=step, keep=2) as target:
        os.write(reporting, step.to_bytes(8, "little"))
        while True:
            step += 1
            saving = target.save_in_background(small.state(step, validation_loss=1.0 / (1 + step)))
            saving.release()
            saving.wait()
            os.write(reporting, step.to_bytes(8, "little"))


def lines(folder: Path) -> dict[str, Any]:
    """The process ends at every third line of what writes; the next one sweeps, and saves another step."""
    files.sync = lambda descriptor: None
    watched = {module.__file__ for module in (store, writing, files)}
    step, line, left_over = 0, 0, 0
    Store(folder).save(small.state(0, validation_loss=1.0))
    ended = True
    while ended:
        line += 3
        child = in_child(partial(save_until, folder, step, line, watched))
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        left_over += any(path.name.endswith((".tmp", ".old")) for path in folder.iterdir())
        step = check_last(folder, step)
        for path in checkpoints(folder)[:-2]:  # else there are more and more lines, of their removal
            shutil.rmtree(path)
    return {"lines": line, "left_over": left_over, "last": step}


def save_until(folder: Path, step: int, line: int, watched: set[str | None]) -> None:
    left = [line]

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in watched:
            return None
        left[0] -= event == "line"
        if left[0] == 0:
            os._exit(9)
        return trace

    sys.settrace(trace)
    threading.settrace(trace)
    with Store(folder, step=step, keep=1) as target:
        target.save(small.state(step + 1, validation_loss=1.0 / (2 + step)))
    os._exit(0)


def limit(folder: Path) -> dict[str, Any]:
    """Files must not grow past so many bytes: a real error from the middle of a write."""
    errors = []
    with Store(folder) as target:
        target.save(small.state(0, validation_loss=1.0))
        largest = max(path.stat().st_size for path in find(folder).iterdir())
        for size in range(64, largest, 100):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
            try:
                target.save(small.state(1, validation_loss=0.5))
            except CheckpointError as error:
                errors.append(str(error))
            assert small.names(folder) == ["step-00000000"], size
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        target.save(small.state(1, validation_loss=0.5))
    return {"errors": errors, "last": check_last(folder, 1)}


def rights(folder: Path) -> dict[str, Any]:
    """As root everything may be written, so this becomes nobody."""
    errors = []
    target = Store(folder)
    target.save(small.state(0, validation_loss=1.0))
    folder.chmod(0o555)
    if os.getuid() == 0:
        os.setresuid(NOBODY, NOBODY, NOBODY)
    for attempt in (lambda: target.save(small.state(1)), lambda: Store(folder), lambda: Store(folder / "deeper")):
        try:
            attempt()
        except CheckpointError as error:
            errors.append(str(error))
    return {"errors": errors, "last": check_last(folder, 0)}


if __name__ == "__main__":
    command, path, *numbers = sys.argv[1:]
    programs: dict[str, Callable[..., dict[str, Any]]] = {
        "kill": kill,
        "lines": lines,
        "limit": limit,
        "rights": rights,
    }
    print(json.dumps(programs[command](Path(path), *map(int, numbers))))
