"""`anetrain train` and the ladder: what a device takes is remembered; a run keeps its programs, or says it cannot."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from anetrain import assembly, events
from anetrain.config import Config
from anetrain.device import Device
from anetrain.files import cache_folder as cache_folder_of
from anetrain.lower import Granularity
from anetrain.pipeline import Pipeline
from anetrain.run import RUNGS
from anetrain.train import main
from tests.runs import changed, heard, last, run

pytestmark = pytest.mark.usefixtures("no_waiting")
STATIC = changed("pipeline.kind=static")
LAYER = "layers.0"


def with_faults(monkeypatch: pytest.MonkeyPatch, *compiles: int) -> None:
    """These compiles of devices that are opened from now on fail, the first of which is 0."""
    opened = assembly.open_device

    def open_device(config: Config) -> Device:
        device = opened(config)
        for number in compiles:
            device.inject_fault("compile", number)
        return device

    monkeypatch.setattr(assembly, "open_device", open_device)


def rungs_of(folder: Path) -> dict[str, Granularity]:
    found: dict[str, Granularity] = last(folder).values[RUNGS]
    return found


def memory_of(cache: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((cache / "anetrain" / "ladder.json").read_text())
    return content["rungs"]


# ---------------------------------------------------------------- between runs


def test_the_next_run_begins_where_this_one_came_to(
    config: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        with_faults(patch, 0)
        assert rungs_of(run(config, "first", "--steps", "1")) == {LAYER: "stage"}
    said = capsys.readouterr().out
    assert "note: layers.0: 8 dispatches, per stage, instead of 4: fused: LlamaBlock forward 0: " in said
    assert f"(remembered in {cache_folder}/anetrain/ladder.json)" in said
    assert [entry["rung"] for entry in memory_of(cache_folder).values()] == ["stage"]
    assert rungs_of(run(config, "second", "--steps", "1")) == {LAYER: "stage"}
    assert capsys.readouterr().out.count("note: layers.0: 8 dispatches") == 1
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_folder / "other"))
    assert rungs_of(run(config, "third", "--steps", "1")) == {LAYER: "fused"}
    assert "note: layers.0" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, b"", b"[1]", b"\xff"], ids=["unwritable", "empty", "list", "bytes"])
def test_a_memory_of_no_use_is_reported_once(
    content: bytes | None, config: Path, cache_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = cache_folder / "anetrain" / "ladder.json"
    if content is None:
        cache_folder.parent.mkdir(exist_ok=True)
        cache_folder.write_text("in the way")
    else:
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    with caplog.at_level(logging.WARNING, "anetrain"):
        assert rungs_of(run(config, "run", "--steps", "1")) == {LAYER: "fused"}
    about = [record.getMessage() for record in caplog.records if str(path) in record.getMessage()]
    assert len(set(about)) == len(about)
    assert len(about) == (1 if content is None else 2)  # that it is of no use, and where it went


def test_where_it_is(tmp_path: Path) -> None:
    home = {"HOME": "/home/me"}
    assert cache_folder_of(home, "linux") == Path("/home/me/.cache/anetrain")
    assert cache_folder_of(home, "darwin") == Path("/home/me/Library/Caches/anetrain")
    for platform in ("linux", "darwin"):
        assert cache_folder_of(home | {"XDG_CACHE_HOME": "/tmp/x"}, platform) == Path("/tmp/x/anetrain")
    for ignored in ("", "x/y"):
        assert cache_folder_of(home | {"XDG_CACHE_HOME": ignored}, "linux") == Path("/home/me/.cache/anetrain")


def test_nobody_knows_where(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "home", unknown)
    assert cache_folder_of({}) is None


# ---------------------------------------------------------------- within a run


@pytest.mark.parametrize("kind", [[], STATIC], ids=["dynamic", "static"])
def test_a_resumed_run_keeps_its_programs(
    kind: list[str],
    config: Path,
    cache_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On another machine, whose memory is empty, and on one that remembers something else."""
    with monkeypatch.context() as patch:
        with_faults(patch, 0)
        folder = run(config, "run", *kind, "--steps", "3")
    run(config, "asked", *kind, *changed("pipeline.granularity=stage"))
    for number, (memory, faults) in enumerate(((False, []), (True, [0]))):
        monkeypatch.setenv("XDG_CACHE_HOME", str(cache_folder / str(number)))
        if memory:
            with monkeypatch.context() as patch:
                with_faults(patch, *faults, 1)
                assert rungs_of(run(config, "another", *kind, "--steps", "1")) == {LAYER: "linear"}
        capsys.readouterr()
        resumed = run(config, f"resumed-{number}", *kind, "--resume", str(folder))
        assert rungs_of(resumed) == {LAYER: "stage"}
        assert "note: layers.0: 8 dispatches, per stage, instead of 4: as before\n" in capsys.readouterr().out
        for name, array in last(config.parent / "asked").weights.items():
            assert last(resumed).weights[name].tobytes() == array.tobytes(), name


@pytest.mark.parametrize("kind", [[], STATIC], ids=["dynamic", "static"])
def test_a_resumed_run_that_cannot_says_so(
    kind: list[str], config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(config, "run", *kind, "--steps", "2")
    with_faults(monkeypatch, 0)
    capsys.readouterr()
    run(config, "run", *kind, "--resume", "--steps", "1")
    assert rungs_of(folder) == {LAYER: "stage"}
    said = capsys.readouterr().out
    assert (
        "WARNING: layers.0: its programs were fused, and this process has stage ones (8 dispatches, per stage, instead "
        "of 4: fused: LlamaBlock forward 0: "
    ) in said
    reports = [event for event in heard(folder, events.Report) if event.title == "other programs"]
    assert [(event.figures["before"], event.figures["now"]) for event in reports] == [("fused", "stage")]


def test_other_settings_or_another_device_begin_anew(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run(config, "run", *changed("pipeline.granularity=linear"), "--steps", "1")
    for number, other in enumerate(([], ["--device", "emulator:m1", *changed("pipeline.granularity=stage")])):
        capsys.readouterr()
        resumed = run(config, f"other {number}", "--resume", str(folder), "--steps", "1", *other)
        assert rungs_of(resumed) == {LAYER: "stage" if other else "fused"}
        assert "WARNING" not in capsys.readouterr().out


def test_a_rung_that_is_none_is_refused(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "rungs", property(lambda self: {LAYER: "tiny"}))
        folder = run(config, "run", "--steps", "1")
    assert main([str(config), "--resume", str(folder)]) == 2
    assert "values.rungs is {'layers.0': 'tiny'}; expected one of fused, stage, linear" in capsys.readouterr().err
