"""`anetrain train`: signals, saving to a slow disk while training goes on, no memory, the bar."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shlex
import signal
import struct
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anetrain import assembly, events
from anetrain.checkpoint import Saving, checkpoints, load
from anetrain.config import load as load_config
from anetrain.pipeline import Pipeline
from anetrain.progress import Progress
from anetrain.train import main
from anetrain.trainer import Trainer
from tests.checkpoints import SlowDisk
from tests.runs import Terminal, changed, check_same, heard, last, listen, run
from tests.trainers import snapshot

pytestmark = pytest.mark.usefixtures("no_waiting")

GROUPS_OF_THREE = ["train.accumulation=3", "train.validate_every=null", "train.updates=5"]


@pytest.mark.parametrize("micro_step", [4, 5, 6])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_within_a_group(
    config: Path,
    number: signal.Signals,
    micro_step: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The group of micro-steps 4, 5 and 6 goes on to its update, which is saved; the rest is as if nothing had been."""
    settings, handler = changed(*GROUPS_OF_THREE), signal.getsignal(number)
    straight = run(config, "straight", *settings)

    def stop(trainer: Trainer, event: events.Event) -> None:
        if isinstance(event, events.Step) and event.micro_step == micro_step:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        listen(patch, stop)
        stopped = run(config, "stopped", *settings)
    assert [event.micro_step for event in heard(stopped, events.Step)] == [1, 2, 3, 4, 5, 6]
    assert [load(path).step for path in checkpoints(stopped)] == [2]
    said = capsys.readouterr().out
    assert f"stopped by {number.name} after update 2. To go on:" in said
    assert main(shlex.split(said.strip().splitlines()[-1])[3:]) == 0
    check_same(last(stopped), last(straight))
    for kind in (events.Step, events.Update):
        assert _losses(stopped, kind) == _losses(straight, kind)
    assert [event.micro_step for event in heard(stopped, events.Step)] == list(range(1, 16))
    assert signal.getsignal(number) is handler  # as it was before


def _losses(folder: Path, kind: type[events.Event]) -> list[float]:
    return [event.loss for event in heard(folder, kind)]


def test_a_signal_before_the_first_group(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(trainer: Trainer, event: events.Event) -> None:
        if isinstance(event, events.Report) and event.title == "begin of run":
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        listen(patch, stop)
        folder = run(config, "run")
    assert last(folder).step == 0
    check_same(last(run(config, "run", "--resume")), last(run(config, "straight")))


def test_the_bar_of_a_resumed_run_begins_where_it_stopped(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(config, "run", "--steps", "3")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    run(config, "run", "--resume")
    counts = [(int(done), int(of)) for done, of in re.findall(r" (\d+)/(\d+) \[", terminal.text)]
    assert counts[0] == (3, 6)
    assert counts[-1] == (6, 6)
    assert counts == sorted(counts)


def test_ctrl_c_while_the_model_is_compiled(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any, **__: Any) -> Trainer:
        raise KeyboardInterrupt

    monkeypatch.setattr(assembly, "make_trainer", interrupted)
    assert main([str(config), "--out", str(config.parent / "run")]) == 130
    said = "anetrain train: stopped by SIGINT before the first update: nothing was saved\n"
    assert capsys.readouterr().err == said
    assert not (config.parent / "run").exists()


# ---------------------------------------------------------------- a slow disk


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowDisk]:
    """Stands still, until it is let. What a thread has in its hands when all else is copied it writes."""
    disk, copy = SlowDisk(monkeypatch), Saving._copy_from_end

    def copied(saving: Saving) -> int:
        first = copy(saving)
        if first:
            disk.let(first)
        return first

    monkeypatch.setattr(Saving, "_copy_from_end", copied)
    yield disk
    disk.let(100_000)


def test_micro_steps_go_on_while_a_slow_disk_writes(
    config: Path, disk: SlowDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a byte is on the disk when the micro-steps of the next group are done, and what is saved is the state of its
    update all the same."""
    states: dict[int, dict[str, bytes]] = {}
    taken: list[tuple[str, int, int]] = []

    def look(trainer: Trainer, event: events.Event) -> None:
        if isinstance(event, events.Step):
            taken.append(("step", event.micro_step, disk.taken))
        elif isinstance(event, events.Update):
            taken.append(("update", event.update, disk.taken))
            states[event.update] = snapshot(trainer)
            if event.update == 3:
                disk.let(100_000)

    with monkeypatch.context() as patch:
        listen(patch, look)
        folder = run(config, "run", *changed(*GROUPS_OF_THREE, "checkpoint.every=2", "checkpoint.keep=null"))
    at = taken.index(("update", 2, 0))
    assert taken[at + 1 : at + 4] == [("step", 7, 0), ("step", 8, 0), ("step", 9, 0)]
    assert taken[at + 4][:2] == ("update", 3)
    assert taken[at + 4][2] <= 1  # what was not written was copied, not waited for
    found = {load(path).step: load(path) for path in checkpoints(folder)}
    assert found.keys() >= {2, 5}
    for step, checkpoint in found.items():
        for name in checkpoint.weights:
            assert checkpoint.weights[name].tobytes() == states[step][f"weight {name}"], (step, name)
        for name in checkpoint.arrays:
            assert checkpoint.arrays[name].tobytes() == states[step][name], (step, name)


def test_a_checkpoint_that_falls_due_meanwhile_comes_later(
    config: Path, disk: SlowDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training does not wait for the disk; the first checkpoint takes as long as 4 updates."""

    def look(trainer: Trainer, event: events.Event) -> None:
        if isinstance(event, events.Update) and event.update == 4:
            assert disk.taken <= 1
            disk.let(100_000)

    with monkeypatch.context() as patch:
        listen(patch, look)
        folder = run(config, "run", *changed(*GROUPS_OF_THREE, "checkpoint.every=1", "checkpoint.keep=null"))
    found = [load(path).step for path in checkpoints(folder)]
    assert found[0] == 1
    assert found[-1] == 5
    assert not {2, 3} & set(found)
    check_same(last(folder), last(run(config, "straight", *changed(*GROUPS_OF_THREE, "checkpoint.every=1"))))


def test_copies_show_in_the_account(config: Path, disk: SlowDisk) -> None:
    """A part of its own, so that a slow save is seen."""
    disk.let(100_000)
    folder = run(config, "run", *changed(*GROUPS_OF_THREE, "checkpoint.every=1"))
    parts: list[dict[str, Any]] = [event.parts for event in heard(folder, events.Update)]
    assert all(event["saving"] > 0.0 for event in parts)
    assert load_config(folder / "config.yaml").checkpoint.every == 1


# ---------------------------------------------------------------- memory


def test_no_memory_within_an_update(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was saved before is there, and the run goes on from it."""
    settings = changed("checkpoint.every=2", "train.validate_every=3")
    straight, step = run(config, "straight", *settings), Pipeline.micro_step

    def too_large(self: Pipeline, *arguments: Any, **options: Any) -> float:
        if len(updates) == 3:
            np.empty((1 << 29, 1 << 29))
        return step(self, *arguments, **options)

    updates: list[int] = []
    with monkeypatch.context() as patch:
        listen(patch, lambda _, event: updates.append(1) if isinstance(event, events.Update) else None)
        patch.setattr(Pipeline, "micro_step", too_large)
        assert main([str(config), "--out", str(config.parent / "run"), *settings]) == 1
    said = capsys.readouterr().err
    assert "anetrain train: there was not enough memory for update 4 (Unable to allocate 2.00 EiB" in said
    assert "a smaller train.batch" in said
    folder = config.parent / "run"
    assert f"The last checkpoint is {folder}/step-0000000" in said
    assert last(folder).step in (2, 3)  # the best one, after update 3, where the disk had done with the one before
    assert [event.title for event in heard(folder, events.Report)][-1] == "stopped"
    check_same(last(run(config, "run", *settings, "--resume")), last(straight))


def test_no_memory_for_a_checkpoint_and_before_all(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise MemoryError

    out = ["--out", str(config.parent / "run"), *changed("train.validate_every=null")]
    with monkeypatch.context() as patch:
        patch.setattr(Saving, "_write_file", fails)
        assert main([str(config), *out]) == 1
    said = capsys.readouterr().err
    assert "there was not enough memory for the checkpoint of update 6. Less is needed" in said
    assert said.endswith("Nothing was saved\n")
    monkeypatch.setattr(assembly, "make_trainer", fails)
    assert main([str(config), *out]) == 2
    assert "there was not enough memory for the model and its programs. Less is needed" in capsys.readouterr().err


# ---------------------------------------------------------------- before the first update


def interrupting(monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    make = assembly.make_trainer

    def signalled(*arguments: Any, **options: Any) -> Trainer:
        trainer = make(*arguments, **options)
        os.kill(os.getpid(), number)
        return trainer

    monkeypatch.setattr(assembly, "make_trainer", signalled)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_model_is_compiled(
    config: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, handler = run(config, "run", "--steps", "2"), signal.getsignal(number)
    interrupting(monkeypatch, number)
    capsys.readouterr()
    prefix = f"anetrain train: stopped by {number.name} before the first update: "
    assert main([str(config), "--out", str(config.parent / "new")]) == 128 + number
    assert capsys.readouterr().err == prefix + "nothing was saved\n"
    assert main([str(config), "--resume", str(folder)]) == 128 + number
    assert capsys.readouterr().err == prefix + "what was saved before is as it was\n"
    assert last(folder).step == 2
    assert signal.getsignal(number) is handler


# ---------------------------------------------------------------- the bar


@pytest.mark.parametrize(("lines", "columns", "width"), [(0, 0, 80), (0, 50, 50), (40, 50, 50)])
def test_the_bar_has_a_width(lines: int, columns: int, width: int) -> None:
    main_end, child_end = pty.openpty()
    fcntl.ioctl(child_end, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    with os.fdopen(child_end, "w") as stream:
        bar = Progress(stream, first=0, last=10, every=1)
        bar.close()
        shown = os.read(main_end, 10_000).decode()
    os.close(main_end)
    assert "0/10 [" in shown
    assert width - 2 <= max(map(len, re.split(r"[\r\n]", shown))) <= width
