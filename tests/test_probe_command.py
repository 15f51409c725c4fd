"""`anetrain probe`: what it prints and writes, and what it says of mistakes."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from anetrain import results
from anetrain.cli import main
from anetrain.commands.probe import switches
from anetrain.probe import catalogue

SMALL = ["--device", "emulator:m4", "--scale", "small"]


def test_list_shows_every_question(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(catalogue.PROBES)
    assert all(line.endswith("?") for line in lines)
    assert main(["probe", "--list", "tile"]) == 0
    assert capsys.readouterr().out.split(None, 1)[0] == "tile"


def test_a_verdict_is_a_line_and_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "found.json"
    rules = ["--rules", "evidence=off,tile-poison=on"]
    assert main(["probe", "tile", "subnormals", "tile", *SMALL, *rules, "--out", str(path)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "emulated ANE (emulator:m4): times are of this machine's CPU, not of an ANE"
    assert printed[1].startswith("tile: Does tile make its own evaluation and every later one fail? YES. Tile fails")
    assert printed[2].startswith(
        "subnormals: Do products below 2^-14 vanish inside a multiply-accumulate? NO. matmul: "
    )
    assert printed[3:] == [f"results: {path}"]
    found = results.read(path)
    assert found.complete
    assert [verdict.probe for verdict in found.verdicts] == ["tile", "subnormals"]
    assert found.device.facts["rules"]["tile-poison"] is True
    assert found.provenance.command == (
        "anetrain probe tile subnormals --rules evidence=off,tile-poison=on --device emulator:m4 --scale small --seed 0"
    )
    assert str(tmp_path) not in path.read_text()


def test_verbose_prints_experiments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "subnormals", *SMALL, "--verbose", "--out", str(tmp_path / "a.json")]) == 0
    assert "    elementwise product: right\n" in capsys.readouterr().out


def test_nothing_is_overwritten_unasked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "found.json"
    path.write_text("precious")
    assert main(["probe", "subnormals", *SMALL, "--out", str(path)]) == 2
    assert path.read_text() == "precious"
    assert "found.json exists" in capsys.readouterr().err
    assert main(["probe", "subnormals", *SMALL, "--out", str(path), "--force"]) == 0
    assert results.read(path).complete


def test_a_framework_is_compared_with_an_older_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    older, newer = tmp_path / "older.json", tmp_path / "newer.json"
    assert main(["probe", "api", *SMALL, "--out", str(older)]) == 0
    older.write_text(older.read_text().replace('"hasANE": "B16@0:8"', '"hadANE": "B16@0:8"', 1))
    capsys.readouterr()
    assert main(["probe", "api", *SMALL, "--out", str(newer), "--against", str(older)]) == 0
    told = capsys.readouterr().out
    assert f"against {older}: 2 changes\n" in told
    assert "    +[_ANEDeviceInfo hadANE] is gone\n    +[_ANEDeviceInfo hasANE] is new: B16@0:8\n" in told
    assert main(["probe", "api", *SMALL, "--out", str(newer), "--force", "--against", str(newer)]) == 0
    assert "nothing has changed" in capsys.readouterr().out
    assert main(["probe", "tile", *SMALL, "--against", str(older)]) == 2
    assert "--against is for the probe api, and that is not asked for" in capsys.readouterr().err
    without = tmp_path / "without.json"
    assert main(["probe", "subnormals", *SMALL, "--out", str(without)]) == 0
    assert main(["probe", "api", *SMALL, "--against", str(without)]) == 2
    assert "has not seen a framework there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["tiles"], "no probe 'tiles'; there are dialects, "),
        ([], "which probe? One or more of dialects, "),
        (["tile", "--rules", "evidence"], "--rules: 'evidence' is no rule with its setting"),
        (
            ["tile", "--rules", "evidence=perhaps"],
            "--rules: evidence is set to 'perhaps'; expected on, off or a number",
        ),
        (["tile", "--device", "emulator:m4", "--rules", "evidnce=on"], "no rule 'evidnce'"),
        (["tile", "--device", "emulator:m9"], "no profile 'm9'"),
        (["tile", "--seed", "-1"], "--seed is -1; expected 0 or more"),
    ],
)
def test_a_mistake_is_a_sentence(
    words: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["probe", *words, "--out", str(tmp_path / "none.json")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("anetrain probe: ")
    assert complaint in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "none.json").exists()


def test_a_file_that_cannot_be_written_is_told_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(found: results.Results, path: Path, *, overwrite: bool) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(results, "write", refused)
    path = tmp_path / "none.json"
    assert main(["probe", "tile", *SMALL, "--out", str(path)]) == 2
    assert capsys.readouterr() == ("", f"anetrain probe: {path}: Permission denied\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_what_was_seen(number: signal.Signals, tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    command = [sys.executable, "-m", "anetrain.cli", "probe", "all", *SMALL, "--out", str(path)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout is not None
    assert running.stdout.readline().startswith("emulated ANE")
    assert running.stdout.readline().startswith("dialects: ")
    running.send_signal(number)
    printed, complaints = running.communicate(timeout=60)
    assert running.returncode == 130, complaints
    assert printed.endswith(f"results: {path} (incomplete)\n")
    assert complaints == "anetrain probe: interrupted\n"
    found = results.read(path)
    assert not found.complete
    assert 1 <= len(found.verdicts) < len(catalogue.PROBES)


def test_switches() -> None:
    assert switches("") == {}
    assert switches("a=on, b=off,c=5,d=-14.5") == {"a": True, "b": False, "c": 5.0, "d": -14.5}
