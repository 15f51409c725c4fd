"""`anetrain train`: a signal within a group of micro-steps, and saving to a slow disk while training goes on."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anetrain import assembly, events
from anetrain.checkpoint import Saving, checkpoints, load
from anetrain.config import load as load_config
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
    assert capsys.readouterr().err == "anetrain train: stopped before the first update\n"
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
