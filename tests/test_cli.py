"""The command itself: what there is, which version, and what there is not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from anetrain.cli import COMMANDS, main

Captured = pytest.CaptureFixture[str]


def test_help_names_every_command(capsys: Captured) -> None:
    for arguments in ([], ["--help"]):
        assert main(arguments) == 0
        said = capsys.readouterr().out
        assert re.findall(r"^  (\w+) ", said, re.MULTILINE) == list(COMMANDS)
        assert "Example: anetrain train" in said


def test_version(capsys: Captured) -> None:
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8")
    (version,) = re.findall(r'^version = "(.+)"', text, re.MULTILINE)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"anetrain {version}\n"


def test_an_unknown_command(capsys: Captured) -> None:
    assert main(["trian"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_interrupt_while_modules_are_imported(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("anetrain.cli.importlib.import_module", interrupted)
    assert main(["estimate"]) == 130
    assert capsys.readouterr().err == "anetrain estimate: interrupted\n"


def test_a_shell_may_have_closed_the_output() -> None:
    command = [sys.executable, "-m", "anetrain.cli", "bench", "--list", "latency"]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, preexec_fn=lambda: os.close(1))
    assert (done.returncode, done.stderr) == (0, "")
