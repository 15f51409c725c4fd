"""The command itself: what there is, which version, and what there is not."""

from __future__ import annotations

import re
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
