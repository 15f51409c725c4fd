"""scripts/plot_run.py: the picture of a run's losses."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from anetrain import events
from scripts.plot_run import HEIGHT, TRAINING, VALIDATION, WIDTH, main, ticks

LINE = "{http://www.w3.org/2000/svg}polyline"


def points(picture: Path, colour: str) -> list[tuple[float, float]]:
    (line,) = (line for line in ElementTree.parse(picture).iter(LINE) if line.get("stroke") == colour)
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in line.get("points", "").split())]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    journal = events.JsonLines(tmp_path / "events.jsonl")
    for update in range(1, 401):
        journal(events.Update(update, 8.0 - update / 100, 1e-3, 1.0, False, 1, 64, 1.0, 0.1))
        if update % 100 == 0:
            journal(events.Validation(update, 9.0 - update / 100, 64, 0.1, True))
    journal.close()
    return tmp_path


def test_a_picture(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder), "--level", "5.7", "words <alone>"]) == 0
    picture = folder / "loss.svg"
    assert capsys.readouterr().out.strip() == str(picture)
    assert "words &lt;alone&gt;: 5.7" in picture.read_text()
    training, validation = points(picture, TRAINING), points(picture, VALIDATION)
    assert len(validation) == 4
    assert len(training) > 50
    for line in (training, validation):
        assert all(0 < x < WIDTH and 0 < y < HEIGHT for x, y in line)
        assert line == sorted(line)  # time goes to the right, and these losses down, which is where y grows
    assert validation[-1][0] == training[-1][0]
    assert validation[-1][1] < training[-1][1]  # a larger loss is higher up


def test_round_numbers() -> None:
    for largest, step in ((8.4, 1.0), (800, 100), (11, 2), (26, 5), (0.9, 0.1), (1e6, 1e5)):
        found = ticks(largest)
        assert found[0] == 0.0
        assert found[1] == pytest.approx(step)
        assert found[-1] <= largest < found[-1] + step * 1.001


def test_runs_that_have_nothing_to_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    (tmp_path / "events.jsonl").write_text("")
    assert main([str(tmp_path)]) == 2
    assert main([str(tmp_path), "--level", "low", "x"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 3
