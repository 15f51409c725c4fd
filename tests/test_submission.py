"""`anetrain report submit` and `validate`: what is in a submission, what is refused, what every file is checked for."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from anetrain import results
from anetrain.cli import main as anetrain
from anetrain.report import flags, published, submission, validation
from anetrain.results import Results
from tests.report_files import ANE, MAC, ane_results, community_text, emulated_results, provenance, stack, write

Captured = pytest.CaptureFixture[str]

SAID = """\
device: ANE of Apple M4 Pro
machine: Mac16,11, Apple M4 Pro, aneSubType h16, P/E cores 10/4, 48 GB, macOS 26.3, Darwin 25.3.0
contributor: Some One
cooling: a fan
notes: none
bench peak: 2 of 3 cases measured
probes: tile
measured: 2026-03-05T10:00:00+00:00 to 2026-03-05T10:00:00+00:00, with anetrain 0.1.0
written: submission.json, {size:,} bytes. Nothing was sent: whom to give it to is yours.
"""


SUBMITTED = submission.text_of(submission.submission([("", ane_results())], contributor="Some One", cooling="a fan"))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    return tmp_path


def submit(*more: str) -> int:
    return anetrain(["report", "submit", "--contributor", "Some One", "--out", "submission.json", *more])


def test_what_it_says_and_writes(folder: Path, capsys: Captured) -> None:
    write(folder, "peak.json", ane_results())
    assert submit("--results", "peak.json", "--cooling", "a fan") == 0
    assert capsys.readouterr().out == SAID.format(size=len(SUBMITTED.encode()))
    assert Path("submission.json").read_text() == SUBMITTED
    made = submission.read(folder / "submission.json")
    assert made.results == (ane_results(),)
    assert made.head.model_dump() == {
        "label": "ANE of Apple M4 Pro",
        "emulated": False,
        "model": "Mac16,11",
        "chip": "Apple M4 Pro",
        "ane_sub_type": "h16",
        "performance_cores": 10,
        "efficiency_cores": 4,
        "ram_gb": 48.0,
        "system": "macOS 26.3",
        "kernel": "Darwin 25.3.0",
    }
    first = Path("submission.json").read_bytes()
    assert submit("--results", "peak.json", "--cooling", "a fan", "--force") == 0
    assert Path("submission.json").read_bytes() == first
    assert anetrain(["report", "validate", "submission.json"]) == 0


def test_several_files_of_one_device(folder: Path, capsys: Captured) -> None:
    write(folder, "a.json", ane_results())
    later = ane_results(provenance=provenance(started="2026-03-06T09:00:00+00:00"), verdicts=())
    write(folder, "b.json", later)
    assert submit("--results", "a.json", "b.json") == 0
    said = capsys.readouterr().out
    assert "bench peak: 4 of 6 cases measured" in said
    assert "measured: 2026-03-05T10:00:00+00:00 to 2026-03-06T09:00:00+00:00" in said


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ([ane_results(complete=False)], "a.json: it was interrupted"),
        ([ane_results(provenance=provenance(scale="small"))], "a.json: its scale is 'small'"),
        ([emulated_results()], "a.json: it is of an emulated ANE (emulator:m4)"),
        ([ane_results(measurements=(), verdicts=())], "a.json: there is nothing in it"),
        ([ane_results(), ane_results()], "b.json: it is the same as a.json"),
        (
            [ane_results(), ane_results(device=ANE.model_copy(update={"chip": "Apple M4 Max"}))],
            "b.json: it is of ANE of Apple M4 Max, and a.json of ANE of Apple M4 Pro",
        ),
        (
            [ane_results(), ane_results(machine=MAC.model_copy(update={"system": "macOS 26.4"}))],
            "b.json: it is of another machine or system than a.json",
        ),
        (
            [ane_results(complete=False), ane_results(provenance=provenance(scale="small"))],
            "b.json: its scale is 'small'",
        ),
    ],
)
def test_what_is_refused(folder: Path, capsys: Captured, made: list[Results], words: str) -> None:
    names = [write(folder, f"{name}.json", one).name for name, one in zip("ab", made, strict=False)]
    assert submit("--results", *names) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (folder / "submission.json").exists()


def test_an_emulators_results_are_marked_throughout(folder: Path, capsys: Captured) -> None:
    write(folder, "a.json", emulated_results())
    assert submit("--results", "a.json", "--emulator") == 0
    assert capsys.readouterr().out.startswith("device: emulated ANE (emulator:m4): times are of this machine's CPU")
    written = json.loads((folder / "submission.json").read_text())
    assert (written["head"]["emulated"], written["results"][0]["device"]["kind"]) == (True, "emulator")
    assert written["head"]["label"].startswith("emulated ANE")
    assert anetrain(["report", "validate", "submission.json"]) == 0
    assert "emulated ANE (emulator:m4)" in capsys.readouterr().out
    write(folder, "a.json", ane_results())
    assert submit("--results", "a.json", "--emulator", "--force") == 2
    assert "not of an emulator" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "text", "words"),
    [
        ("--contributor", "", "contributor"),
        ("--contributor", "a\nb", "cannot be printed"),
        ("--contributor", "x" * 101, "101 characters; expected at most 100"),
        ("--notes", "\x1b[2J", "cannot be printed"),
        ("--cooling", "\udcff", "cannot be printed"),
    ],
)
def test_texts_are_plain(folder: Path, capsys: Captured, option: str, text: str, words: str) -> None:
    write(folder, "a.json", ane_results())
    assert submit("--results", "a.json", option, text) == 2
    assert words in capsys.readouterr().err


def test_nothing_is_overwritten(folder: Path, capsys: Captured) -> None:
    write(folder, "a.json", ane_results())
    Path("submission.json").write_text("mine")
    assert submit("--results", "a.json") == 2
    assert "(--force)" in capsys.readouterr().err
    assert Path("submission.json").read_text() == "mine"


# ---------------------------------------------------------------- validate


def changed(made: Any, place: str, value: Any) -> bytes:
    document = json.loads(made)
    holder: Any = document
    *names, last = [int(name) if name.isdigit() else name for name in place.split(".")]
    for name in names:
        holder = holder[name]
    holder[last] = value
    return json.dumps(document).encode()


SUBMISSION = submission.text_of(submission.submission([("a", ane_results())], contributor="A"))
RESULTS = results.text_of(ane_results())
FIGURES = published.text_of(published.load())


@pytest.mark.parametrize(
    ("made", "place", "value", "problem"),
    [
        (RESULTS, "measurements.0.figures.ms", 1.0, "measurements.0: 128x512ch sp64: ms is 1, computed again 0.3417"),
        (RESULTS, "measurements.1.timing.median_s", 9.0, "measurements.1.timing: median_s is 9"),
        (RESULTS, "measurements.0.flops", 10**400, "measurements.0.flops"),
        (RESULTS, "machine.memory_bytes", -1, "machine.memory_bytes"),
        (RESULTS, "complete", "yes", "complete: Input should be a valid boolean"),
        (RESULTS, "schema", "anetrain-results/2", "schema is 'anetrain-results/2'; expected one of anetrain-results/1"),
        (SUBMISSION, "head.chip", "Apple M5", "head.chip is 'Apple M5', and in the results 'Apple M4 Pro'"),
        (SUBMISSION, "head.emulated", True, "not of an emulator"),
        (SUBMISSION, "head.ram_gb", 64.0, "head.ram_gb is 64.0, and in the results 48.0"),
        (SUBMISSION, "results.0.complete", False, "it was interrupted"),
        (SUBMISSION, "results.0.provenance.scale", "small", "its scale is 'small'"),
        (
            SUBMISSION,
            "results.0.measurements.0.figures.tflops",
            99.0,
            "results.0.measurements.0: 128x512ch sp64: tflops",
        ),
        (SUBMISSION, "contributor", "", "contributor"),
        (FIGURES, "rows.2.figures.step_ms", 105.7, "training/m3-ultra: rate of a step: known as '0.88 TFLOPS belongs"),
        (FIGURES, "rows.4.figures.ane_tflops", 2.9, "training/m4-max: rate of a step: 2.9 TFLOPS belongs to 32.1 ms"),
        (FIGURES, "rows.4.figures.ane_tflops", 0, "rows.4.figures.ane_tflops"),
        (FIGURES, "rows.4.figures.ane_tflops", {"low": 3, "high": 2}, "expected the smaller one first"),
        (FIGURES, "rows.4.figures.ane_tflops", {"fail": ""}, "rows.4.figures.ane_tflops"),
        (FIGURES, "rows.4.figures", {"speed": 3}, "row training/m4-max: there is nothing called 'speed' in quantities"),
        (FIGURES, "rows.4.source", "hearsay", "row training/m4-max: there is nothing called 'hearsay' in sources"),
        (FIGURES, "rows.4.id", "training/m5", "more than one row or claim is called training/m5"),
        (FIGURES, "known.0.rows.0", "nothing", "known rate of a step: there is no row or claim 'nothing'"),
        (FIGURES, "claims.0.above.row", "nothing", "there is no row 'nothing'"),
        (FIGURES, "claims.0.above.figure", "gop_", "row int8/m5-max-128x512 has no gop_"),
    ],
)
def test_every_problem_has_its_place(
    folder: Path, capsys: Captured, made: str, place: str, value: Any, problem: str
) -> None:
    path = folder / "changed.json"
    path.write_bytes(changed(made, place, value))
    assert any(problem in found for found in validation.check(path).problems), validation.check(path).problems
    assert anetrain(["report", "validate", "changed.json"]) == 2
    told = capsys.readouterr()
    assert "problem" in told.out
    assert told.err.startswith("anetrain report validate: changed.json: ")
    assert told.err.count("\n") == 1


def test_all_problems_of_all_files(folder: Path, capsys: Captured) -> None:
    Path("a.json").write_bytes(changed(RESULTS, "complete", 1))
    Path("b.json").write_bytes(changed(changed(RESULTS, "machine.cpus", "x"), "device.kind", "gpu"))
    Path("c.json").write_text(FIGURES)
    Path("d.json").write_text(community_text())
    assert anetrain(["report", "validate", "a.json", "b.json", "c.json", "d.json"]) == 2
    told = capsys.readouterr()
    assert "b.json: results: 2 problems\n  machine.cpus: " in told.out
    assert "  device.kind: " in told.out
    assert (
        f"c.json: published figures; 151 rows, {len(flags.flags(published.load()))} known inconsistencies: good"
        in told.out
    )
    assert "d.json: the community's results; 10 rows" in told.out
    assert "a.json: complete: " in told.err
    assert "more, above)" in told.err


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (ane_results(), "results of the ANE of Apple M4 Pro; 3 measurements, 1 verdicts: good"),
        (
            ane_results(complete=False, verdicts=()),
            "results of the ANE of Apple M4 Pro; 3 measurements, interrupted: good",
        ),
        (
            emulated_results(),
            "results of the emulated ANE (emulator:m4): times are of this machine's CPU, not of an ANE; ",
        ),
    ],
)
def test_results_say_what_they_are_of(folder: Path, capsys: Captured, made: Results, said: str) -> None:
    write(folder, "a.json", made)
    assert anetrain(["report", "validate", "a.json"]) == 0
    assert capsys.readouterr().out.startswith(f"a.json: {said}")


def test_a_submission_is_measurements_not_only_numbers(folder: Path) -> None:
    """Samples, findings and verdicts are as they were."""
    path = folder / "submission.json"
    path.write_text(SUBMISSION)
    assert submission.read(path).results[0].measurements[0].timing == stack(128, 512, 64, 0.3417).timing
    assert submission.read(path).results[0].verdicts == ane_results().verdicts


def test_the_page_shows_what_is_printed() -> None:
    page = (Path(__file__).parent.parent / "docs" / "report.md").read_text(encoding="utf-8")
    assert SAID.rsplit("written", 1)[0] in page
