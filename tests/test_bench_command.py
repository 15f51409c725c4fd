"""`anetrain bench`: what it prints, what it keeps, and what Ctrl-C and SIGTERM leave."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from anetrain import results
from anetrain.bench import catalogue
from anetrain.cli import main
from tests.bench_children import BEGUN

Captured = pytest.CaptureFixture[str]

ROOT = Path(__file__).parent.parent
QUICK = ["--device", "emulator:m4", "--scale", "small", "--seconds", "0", "--samples", "2"]


def test_list_opens_no_device(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anetrain.device.open", None)
    assert main(["bench", "--list"]) == 0
    said = capsys.readouterr().out
    for name in catalogue.BENCHES:
        assert f"{name}: {catalogue.bench(name).question}" in said
    assert "  128x512ch sp64 (channels 512, layers 128, spatial 64)" in said
    assert main(["bench", "latency", "--list", "--scale", "small"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  dispatch floor",
        "  64ch sp64 (channels 64, layers 1, spatial 64)",
        "  96ch sp64 (channels 96, layers 1, spatial 64)",
        "  128ch sp64 (channels 128, layers 1, spatial 64)",
    ]


def test_two_benches_go_to_one_file(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "new folder" / "found.json"
    assert main(["bench", "latency", "peak", "--filter", "sp1", "--out", str(path), "--seed", "3", *QUICK]) == 0
    said, complaints = capsys.readouterr()
    assert complaints == ""
    assert said.startswith("emulated ANE (emulator:m4): times are of this machine's CPU, not of an ANE\n")
    assert said.endswith(f"\nresults: 2 of 2 cases; anetrain report {path}\n")
    assert "latency" not in "".join(said.splitlines()[3:])  # of which the filter left nothing
    found = results.read(path)
    assert (found.complete, found.provenance.seed, found.provenance.scale) == (True, 3, "small")
    assert [one.case for one in found.measurements] == ["16x64ch sp128", "16x64ch sp128, 0.2 s on end"]
    assert found.measurements[0].timing is not None
    assert len(found.measurements[0].timing.samples_s) == 2
    assert str(tmp_path) not in path.read_text()


def test_all_is_every_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    few = {name: catalogue.BENCHES[name] for name in ("peak", "latency")}
    monkeypatch.setattr(catalogue, "BENCHES", few)
    assert main(["bench", "all", *QUICK]) == 0
    (path,) = (tmp_path / "results").iterdir()
    assert path.name.startswith("all-")
    assert list(dict.fromkeys(one.bench for one in results.read(path).measurements)) == list(few)


def test_nothing_is_overwritten_unasked(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "found.json"
    path.write_text("mine")
    given = ["bench", "latency", "--filter", "floor", "--out", str(path), *QUICK]
    assert main(given) == 2
    assert path.read_text() == "mine"
    assert capsys.readouterr().err.endswith("(--force)\n")
    assert main([*given, "--force"]) == 0
    assert results.read(path).complete


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "name what to measure: peak, latency"),
        (["peek"], "no bench 'peek'; there are peak, latency"),
        (["peak", "--filter", "x1y"], "no case has 'x1y' in its name"),
        (["peak", "--samples", "0"], "--samples is 0; expected at least 1"),
        (["peak", "--seconds", "-1"], "--seconds is -1.0; expected 0 or more"),
        (["peak", "--seconds", "nan"], "--seconds is nan; expected 0 or more"),
        (["peak", "--seed", "-1"], "--seed is -1; expected 0 or more"),
        (["peak", "--device", "emulator:m9"], "there is no profile 'm9'"),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: list[str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["bench", *arguments]) == 2
    said, complaints = capsys.readouterr()
    assert said == ""
    assert complaints.startswith(f"anetrain bench: {complaint}")
    assert complaints.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    """Of what was measured by then; and the file as it was written last."""
    path, honest = tmp_path / "found.json", results.write

    def write(found: results.Results, path: Path, *, overwrite: bool) -> None:
        if found.measurements:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        honest(found, path, overwrite=overwrite)

    monkeypatch.setattr(results, "write", write)
    assert main(["bench", "latency", "--out", str(path), *QUICK]) == 2
    said, complaints = capsys.readouterr()
    assert "\ndispatch floor " in said
    assert complaints == f"anetrain bench: {path}: No space left on device\n"
    assert results.read(path).measurements == ()


SCRIPT = """
import sys
from anetrain.bench import catalogue
from anetrain.cli import main
catalogue.BENCHES = {"slow": "tests.bench_children:Slow"}
sys.exit(main(["bench", "slow", "--device", "emulator:m4", "--scale", "small", "--seconds", "0", "--out", sys.argv[1]]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_what_there_is(number: signal.Signals, tmp_path: Path) -> None:
    """By a signal, as a terminal or a system sends it."""
    path, begun = tmp_path / "found.json", tmp_path / "begun"
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), BEGUN: str(begun)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(begun)
    before = json.loads(path.read_text())  # written before anybody interrupted
    assert (before["complete"], [one["case"] for one in before["measurements"]]) == (False, ["quick"])
    process.send_signal(number)
    printed, complaints = process.communicate(timeout=60)
    assert process.returncode == 130
    assert complaints == "anetrain bench: interrupted\n"
    assert "incomplete: the run was interrupted" in printed
    assert "endless: interrupted: the run was interrupted while it was measured" in printed
    assert printed.endswith(f"\nresults: 2 of 3 cases; anetrain report {path}\n")
    found = results.read(path)
    assert not found.complete
    assert [(one.case, one.status) for one in found.measurements] == [("quick", "measured"), ("endless", "interrupted")]


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
