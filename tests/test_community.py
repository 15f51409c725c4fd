"""The community's JSON: what it says comes back field by field, what it does not know is kept, what cannot be said is
told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from anetrain.cli import main as anetrain
from anetrain.report import community, exchange, published, submission
from anetrain.report.figures import Exact, Fail, NotDisclosed, Range
from anetrain.results import ResultsError
from tests.report_files import COMMUNITY, ane_results, community_text, emulated_results

Captured = pytest.CaptureFixture[str]


def read(text: str) -> tuple[published.Published, list[str]]:
    return community.from_community(text.encode(), "theirs.json")


def test_a_file_comes_back_field_by_field(tmp_path: Path, capsys: Captured) -> None:
    """Through files of both kinds, by the command."""
    (tmp_path / "theirs.json").write_text(community_text())
    for source, target in (("theirs.json", "ours.json"), ("ours.json", "again.json")):
        assert anetrain(["report", "community", str(tmp_path / source), "--out", str(tmp_path / target)]) == 0
    assert json.loads((tmp_path / "again.json").read_text()) == COMMUNITY
    assert anetrain(["report", "validate", str(tmp_path / "ours.json")]) == 0
    assert "no place for thermals; kept under extra" in capsys.readouterr().out


def test_what_it_says_is_in_our_rows() -> None:
    ours, unsaid = read(community_text())
    training = ours.row("community JSON 0/training")
    assert training.figures["step_ms"] == Range(low=148, high=163)
    assert training.figures["compile_per_ten_s"] == Range(low=7.9, high=8.505)
    assert training.machine == {"cores": "10-core CPU", "ram_gb": 32, "macos": "15.0"}
    assert (training.contributor, training.note) == ("one", "stacks fail")
    assert ours.row("community JSON 0/conv stack").figures == {"tflops": Fail(fail="benchmarks_pass is false")}
    peak = ours.row("community JSON 2/conv stack")
    assert peak.figures == {"tflops": Exact(12.44)}
    assert peak.identity == published.load().row("peak/m4-pro").identity  # so that a ratio can be made
    assert ours.row("community JSON specs/M5").figures["rated_tops"] == NotDisclosed(not_disclosed="", estimate=19)
    assert ours.row("community JSON specs/M4").configuration == {"precision": "int8"}
    assert any(
        "entry 1 (M3 Pro): peak_tflops and sustained_tflops are of a shape that no field" in say for say in unsaid
    )
    assert any("entry 2 (M5): ms_per_step is one value twice" in say for say in unsaid)
    assert [known.rule for known in ours.known].count("utilisation") == 2  # of a denominator that is not named


def test_our_own_figures_in_their_layout() -> None:
    """A kind that their layout lacks is told, never turned into a number."""
    theirs, unsaid = community.to_community(published.load())
    entries = {(entry["chip"], entry.get("contributor")): entry for entry in theirs["training_results"]}
    assert entries["M1 Pro", "moriwang"]["ms_per_step"] == [148, 163]
    assert entries["M1 Pro", "moriwang"]["compile_ms"] == [7900, 8500]
    assert entries["M1 Pro", "moriwang"]["benchmarks_pass"] is False
    assert entries["M4 Pro", "srt54558"]["peak_tflops_inmem"] == 12.57
    assert entries["M1 Max", "andyg5000"]["compile_ms"] == [7100, 7100]
    assert "training/m1-max: compile_ms: ~7.1 is written as [7100, 7100]" in unsaid
    assert "peak/m1-pro: tflops: no field for the reason, MIL compatibility" not in unsaid
    assert "peak/m1-pro: peak_tflops_inmem: no field for the reason, MIL compatibility" in unsaid
    assert "peak/m3-ultra: peak_tflops_inmem: not measured cannot be said; left out" in unsaid
    assert any(say.startswith("training/qwen3-m4: no field for training with model qwen3-0.6b") for say in unsaid)
    assert theirs["neural_engine_specs"]["M3_Ultra"] == {"ne_cores": 32, "rated_tops": 31.6}
    assert theirs["neural_engine_specs"]["M5"]["rated_tops"] is None
    again, _ = read(json.dumps(theirs))
    assert again.rows


def test_a_submission_in_their_layout(tmp_path: Path) -> None:
    path = tmp_path / "submission.json"
    made = submission.submission([("a", ane_results())], contributor="Some One", notes="by the window")
    submission.write(made, path)
    text, _, unsaid = exchange.exchanged(path)
    assert json.loads(text)["training_results"] == [
        {
            "chip": "M4 Pro",
            "ram_gb": 48,
            "macos": "26.3",
            "contributor": "Some One",
            "peak_tflops_inmem": 12.57,
            "notes": "by the window",
        }
    ]
    assert any("no field for conv stack with channels 512, layers 32, spatial 64" in say for say in unsaid)


def test_no_emulated_time_goes_to_the_community(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "submission.json"
    submission.write(submission.submission([("a", emulated_results())], contributor="A", emulator=True), path)
    assert anetrain(["report", "community", str(path), "--out", str(tmp_path / "theirs.json")]) == 2
    assert "cannot stand beside devices" in capsys.readouterr().err
    assert not (tmp_path / "theirs.json").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ms_per_step": [163, 148]}, "training_results.0.ms_per_step: [163, 148]; expected the smaller one first"),
        ({"ms_per_step": 148}, "training_results.0.ms_per_step: Input should be a valid array"),
        ({"ane_tflops": [0, 1]}, "training_results.0.ane_tflops.0"),
        ({"peak_tflops_inmem": "12"}, "training_results.0.peak_tflops_inmem"),
        ({"chip": None}, "training_results.0.chip"),
        ({"ram_gb": 1e300}, "ram_gb"),
    ],
)
def test_what_is_no_such_file(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ResultsError) as caught:
        read(community_text(training_results=[COMMUNITY["training_results"][0] | change]))
    assert str(caught.value).startswith("theirs.json: not the community's results: ")
    assert words in str(caught.value)


def test_powers_of_ten_are_exact() -> None:
    assert [community.scaled(7.9, 3), community.scaled(8505, -3), community.scaled(7000, -3)] == [7900, 8.505, 7]
