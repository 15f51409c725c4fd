"""`anetrain train` with programs made in the background: one update behind, and exactly so over stops and restarts."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import anetrain.device
from anetrain import events, formats
from anetrain.checkpoint import load
from anetrain.device import Device, Program
from anetrain.errors import CompileError
from anetrain.train import main
from tests.restart_children import losses
from tests.runs import ROOT, changed, check_same, heard, last, run

BACKGROUND = changed("pipeline.kind=static", "pipeline.background=true", "train.validate_every=3")
PROGRAMS = 4
pytestmark = pytest.mark.usefixtures("no_waiting")


def process(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A run that may restart."""
    command = [sys.executable, "-m", "anetrain.train", str(config), "--out", str(config.parent / "run"), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, stdin=subprocess.DEVNULL)


def check_same_runs(first: Path, second: Path) -> None:
    assert losses(first) == losses(second)
    check_same(last(first), last(second))


def refusal(config: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main([str(config), *BACKGROUND, *arguments]) == 2
    return capsys.readouterr().err


# ---------------------------------------------------------------- the same run


def test_a_restart_every_two_updates(config: Path) -> None:
    """A process that goes on makes two sets of programs to begin with."""
    longer = changed("train.updates=20", "train.validate_every=7", "checkpoint.every=9")
    straight = run(config, "straight", *BACKGROUND, *longer)
    result = process(config, *BACKGROUND, *longer, *changed(f"device.compile_budget={3 * PROGRAMS}"))
    assert (result.returncode, result.stderr) == (0, "")
    folder = config.parent / "run"
    assert [event.update for event in heard(folder, events.Restart)] == list(range(3, 20, 2))
    check_same_runs(folder, straight)
    found = [event.programs for event in heard(folder, events.Compile)]
    report = json.loads((folder / "report.json").read_text())
    assert report["compiles"] == sum(found) == 9 * 3 * PROGRAMS + 2 * PROGRAMS  # the last ones begun are not waited for
    assert (
        "an update takes 4 compiles, and a process has 12: after 3 updates the run saves, and goes on in a new "
        "process, which takes 8 to begin with"
    ) in result.stdout


def test_a_restart_at_every_update(config: Path) -> None:
    """As little as there can be: the weights of each checkpoint are not in any programs yet."""
    straight = run(config, "straight", *BACKGROUND)
    result = process(config, *BACKGROUND, *changed(f"device.compile_budget={2 * PROGRAMS}"))
    assert (result.returncode, result.stderr) == (0, "")
    assert [event.update for event in heard(config.parent / "run", events.Restart)] == [2, 3, 4, 5, 6]
    check_same_runs(config.parent / "run", straight)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_straight_is_a_stop_and_the_rest(config: Path, k: int) -> None:
    straight = run(config, "straight", *BACKGROUND)
    run(config, "run", *BACKGROUND, "--steps", str(k))
    check_same_runs(run(config, "run", *BACKGROUND, "--resume"), straight)


def test_it_is_another_run_than_one_that_waits(config: Path) -> None:
    late, waits = (
        run(config, "late", *BACKGROUND),
        run(config, "waits", *BACKGROUND, *changed("pipeline.background=false")),
    )
    assert losses(late)[:1] == losses(waits)[:1]
    assert losses(late)[2:] != losses(waits)[2:]


def test_what_was_saved(config: Path) -> None:
    """Weights of before the last update, and only those that are in programs."""
    folder = run(config, "run", *BACKGROUND, "--steps", "4")
    run(config, "run", *BACKGROUND, "--resume", "--steps", "1")
    saved = [load(folder / f"step-{number:08}") for number in (4, 5)]
    assert {name.rpartition(".")[2] for name in saved[1].baked} == {"wq", "wk", "wv", "wo", "w1", "w2", "w3"}
    for name in saved[1].baked:
        assert np.array_equal(saved[1].baked[name], saved[0].weights[name]), name
        assert not np.array_equal(saved[1].baked[name], saved[1].weights[name]), name
    without = run(config, "without", *changed("pipeline.kind=static"))
    assert len(last(without).baked) == 0
    assert not list(last(without).path.glob("baked*"))


# ---------------------------------------------------------------- failures


def failing(monkeypatch: pytest.MonkeyPatch, fails: Callable[[int], bool]) -> None:
    """Compiles by their number, the first of which is 1."""
    compile, count = Device.compile, 0

    def counted(self: Device, text: Any, blobs: Any = None, label: str = "") -> Program:
        nonlocal count
        count += 1
        if fails(count):
            raise CompileError("no memory for this one", label=label)
        return compile(self, text, blobs, label)

    monkeypatch.setattr(Device, "compile", counted)


def test_a_failed_compile_is_heard_of_and_outlives_a_stop(
    config: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The programs of update 2 are not made; with a stop after it has shown, and without."""
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "anetrain"):
        failing(patch, lambda number: number == 3 * PROGRAMS)
        straight = run(config, "straight", *BACKGROUND)
    assert caplog.text.count("were not made, and the old ones go on") == 1
    failures = heard(straight, events.CompileFailure)
    assert [(event.update, event.error.endswith("no memory for this one")) for event in failures] == [(3, True)]
    with monkeypatch.context() as patch:
        failing(patch, lambda number: number == 3 * PROGRAMS)
        run(config, "run", *BACKGROUND, "--steps", "3")
    check_same_runs(run(config, "run", *BACKGROUND, "--resume"), straight)
    assert losses(straight) != losses(run(config, "good", *BACKGROUND))


def test_a_compile_that_fails_before_a_restart(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for when the run is saved: what is saved are the programs that stay."""
    with monkeypatch.context() as patch:
        failing(patch, lambda number: number == 2 * PROGRAMS + 1)
        straight = run(config, "straight", *BACKGROUND)
    used = anetrain.device.open("emulator").counters().compiles
    budget = changed(f"device.compile_budget={used + 3 * PROGRAMS}", "pipeline.restart=false")
    with monkeypatch.context() as patch:
        failing(patch, lambda number: number == 2 * PROGRAMS + 1)
        assert main([str(config), "--out", str(config.parent / "run"), *BACKGROUND, *budget]) == 1
    assert last(config.parent / "run").step == 3
    assert [event.update for event in heard(config.parent / "run", events.CompileFailure)] == [3]
    check_same_runs(run(config, "run", *BACKGROUND, "--resume"), straight)


# ---------------------------------------------------------------- what fits what


def test_resumed_without_it_and_with_it_again(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without it, and where the checkpoint has none, programs begin with the newest weights."""
    static = changed("pipeline.kind=static", "train.validate_every=3")
    for first, second in ((BACKGROUND, static), (static, BACKGROUND)):
        folder = run(config, f"run {len(first)}", *first, "--steps", "3")
        resumed = run(config, folder, *second, "--resume", "--steps", "1")
        assert "changed since then: pipeline.background was " in capsys.readouterr().out
        assert (len(last(resumed).baked) > 0) is (second is BACKGROUND)
        dynamic = run(config, f"dynamic {len(first)}", "--resume", str(folder), "--steps", "1")
        assert last(dynamic).step == 5


def test_other_programs_are_refused(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run(config, "run", *BACKGROUND, "--steps", "2")
    said = refusal(config, capsys, "--resume", str(folder), *changed("pipeline.extras=classifier"))
    assert "were made of other weights than those that these bake in: missing embedding; unknown none" in said


def test_a_damaged_file_is_for_training_alone(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = last(run(config, "run", *BACKGROUND, "--steps", "2")).path
    content = bytearray((path / "baked.safetensors").read_bytes())
    content[-1] ^= 0x40
    (path / "baked.safetensors").write_bytes(content)
    said = refusal(config, capsys, "--resume", str(path))
    assert "baked.safetensors: layers.0.ffn.w2: the checksum of its values is" in said
    (path / "baked.safetensors").unlink()
    assert f"{path}/baked.safetensors: is missing" in refusal(config, capsys, "--resume", str(path))
    assert len(dict(formats.load(path).weights)) > 0
    with pytest.raises(ValueError, match="weights_only"):
        _ = load(path, weights_only=True).baked


def test_both_numbers_where_it_cannot_fit(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(config.parent / "run")]
    said = refusal(config, capsys, *out, *changed(f"device.compile_budget={2 * PROGRAMS - 1}"))
    assert "one update of this model takes 8 compiles and 8 loaded programs, and the budget of a process is 7" in said
    assert "pipeline.background: false" in said
    said = refusal(config, capsys, *out, *changed("pipeline.kind=dynamic"))
    assert "pipeline: background is true, which is for kind static: dynamic compiles nothing at an update" in said
    assert not (config.parent / "run").exists()
