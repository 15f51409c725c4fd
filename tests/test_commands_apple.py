"""Benches, probes, doctor and report over the real device's code and the fake framework: nothing wants an emulator."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from anetrain import results
from anetrain.bench import catalogue as benches
from anetrain.doctor import all_questions
from anetrain.probe import catalogue as probes
from anetrain.results import Results

# What the fake framework is: an engine without limits, whose framework is as its users found it.
NO = {"compile-limit", "sdpa-mask", "matmul-ceiling", "large-results", "subnormals", "tile"}
UNKNOWN = {"strides"}  # rows that are padded are refused before they reach it


@pytest.fixture
def environment(fake_environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    temporary = tmp_path / "temporary"
    temporary.mkdir(mode=0o700)
    return {**fake_environment, "TEMP": str(temporary)}


def run(environment: dict[str, str], folder: Path, *words: str, crashes: int = 0) -> Results:
    """Of programs no folder is left, but for those of processes that crashed, which the next one sweeps."""
    path = folder / "found.json"
    command = [sys.executable, "-m", "anetrain.cli", *words, "--device", "ane", "--out", str(path)]
    made = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=300)
    assert (made.returncode, made.stderr) == (0, "")
    found = results.read(path)
    assert (found.complete, found.device.kind) == (True, "ane")
    assert made.stdout.startswith("ANE of ")
    assert len(list(Path(environment["TEMP"]).iterdir())) == crashes
    return found


def test_every_bench(environment: dict[str, str], tmp_path: Path) -> None:
    few = ("--scale", "small", "--samples", "2", "--seconds", "0")
    found = run(environment, tmp_path, "bench", "all", *few)
    assert {one.bench for one in found.measurements} == set(benches.BENCHES)
    others = {one.case: (one.status, one.reason) for one in found.measurements if one.status != "measured"}
    assert others == {}
    page = [sys.executable, "-m", "anetrain.cli", "report", "found.json", "--out", "pages"]
    assert subprocess.run(page, env=environment, cwd=tmp_path, capture_output=True).returncode == 0
    assert "small" in (tmp_path / "pages" / "report.md").read_text()


def test_every_probe(environment: dict[str, str], tmp_path: Path) -> None:
    found = run(environment, tmp_path, "probe", "all", "--scale", "small", crashes=1)  # shared events
    expected = {name: "no" if name in NO else "unknown" if name in UNKNOWN else "yes" for name in probes.PROBES}
    assert {verdict.probe: verdict.answer for verdict in found.verdicts} == expected


def test_the_doctor(environment: dict[str, str], tmp_path: Path) -> None:
    found = run(environment, tmp_path, "doctor")
    assert {health.name: health.status for health in found.health} == {each.name: "ok" for each in all_questions()}
