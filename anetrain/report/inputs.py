"""What a report is made of: files of any of our kinds, read into runs and rows.

The order in which files are named does not matter, nor where they are; what is given twice is taken once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from anetrain import results
from anetrain.report import community, ours, published, submission
from anetrain.report.kinds import PUBLISHED, RESULTS, SUBMISSION, kind_of
from anetrain.report.published import Published, Row
from anetrain.results import Results, ResultsError
from anetrain.results.store import problems_of

CHIP = re.compile(r"(?:Apple )?M(\d{1,3})(?: (Pro|Max|Ultra))?")
TIERS = ("", "Pro", "Max", "Ultra")


@dataclass(frozen=True)
class Run:
    """One file of results, or one of those in a submission. `number`: what tables know it by."""

    results: Results
    file: str
    contributor: str = ""
    cooling: str = ""
    notes: str = ""
    number: int = 0

    @property
    def comparable(self) -> bool:
        """May it stand beside real devices?"""
        return self.results.device.kind == "ane" and self.results.provenance.scale == "full"

    @property
    def name(self) -> str:
        return f"run {self.number}"


@dataclass(frozen=True)
class Entry:
    """A row of figures, published or measured by somebody with anetrain. `where`: what its source is called."""

    row: Row
    where: str
    run: Run | None = None


@dataclass(frozen=True)
class Inputs:
    """`figures`: the published ones that come with anetrain first, then those of files, by the names of these."""

    runs: tuple[Run, ...]
    figures: tuple[tuple[str, Published], ...]
    shown_once: int = 0
    """Rows of files that are rows of the published figures, too."""

    @property
    def comparable(self) -> list[Run]:
        return [run for run in self.runs if run.comparable]

    @property
    def apart(self) -> list[Run]:
        """Of emulators, and of small scale."""
        return [run for run in self.runs if not run.comparable]

    def entries(self) -> list[Entry]:
        """Everything that may stand beside something else; what was measured first, then by source as it is there."""
        measured = [
            Entry(row, run.name if not run.contributor else f"{run.name}, {run.contributor}", run)
            for run in self.comparable
            for row in _rows_of(run)
        ]
        return measured + [Entry(row, source_of(row)) for _, figures in self.figures for row in figures.rows]


def source_of(row: Row) -> str:
    quoting = f", quoting the {row.quotes}" if row.quotes else ""
    return f"{row.source}{quoting}{f', {row.contributor}' if row.contributor else ''}"


def _rows_of(run: Run) -> list[Row]:
    try:
        return ours.rows_of(run.results, run.name)
    except ValidationError as error:
        problems = "; ".join(problems_of(error)[:3])
        raise ResultsError(f"{run.file}: its measurements make no rows of figures: {problems}") from error


def chip_order(chip: str) -> tuple[int, int, str]:
    """By generation, then by size; unknown ones at the end."""
    found = CHIP.fullmatch(chip)
    return (int(found[1]), TIERS.index(found[2] or ""), chip) if found else (1000, 0, chip)


# ---------------------------------------------------------------- reading


def read(paths: Sequence[Path]) -> Inputs:
    runs: list[Run] = []
    figures: list[tuple[str, Published]] = []
    for path in paths:
        content = path.read_bytes()
        try:
            kind = kind_of(content)
        except ResultsError as error:
            raise ResultsError(f"{path}: {error}") from error
        if kind == RESULTS:
            runs.append(Run(results.read(path), path.name))
        elif kind == SUBMISSION:
            runs += _runs_of(submission.read(path), path.name)
        elif kind == PUBLISHED:
            figures.append((path.name, published.read(path)))
        else:
            figures.append((path.name, community.from_community(content, str(path))[0]))
    ours_first = published.load()
    others, shown_once = _new_rows(figures, ours_first)
    return Inputs(_numbered(runs), (("", ours_first), *others), shown_once)


def _runs_of(made: submission.Submission, name: str) -> list[Run]:
    return [Run(one, name, made.contributor, made.cooling, made.notes) for one in made.results]


def _numbered(runs: Iterable[Run]) -> tuple[Run, ...]:
    """Each once, and with who contributed it where that is known; by chip, machine and time."""
    known: dict[str, Run] = {}
    for run in sorted(runs, key=lambda run: (not run.contributor, run.contributor, run.file, run.cooling, run.notes)):
        known.setdefault(results.text_of(run.results), run)
    ordered = sorted(known.items(), key=lambda item: (_order(item[1]), item[0]))
    return tuple(replace(run, number=number) for number, (_, run) in enumerate(ordered, 1))


def _order(run: Run) -> tuple[object, ...]:
    found, made = run.results, run.results.provenance
    chip = chip_order(found.device.chip)
    return not run.comparable, chip, found.device.name, found.machine.model, run.contributor, made.started, made.command


def _new_rows(files: Sequence[tuple[str, Published]], known: Published) -> tuple[list[tuple[str, Published]], int]:
    """Rows of files under names of their own, without those that are known."""
    there = {_said(row) for row in known.rows}
    found: list[tuple[str, Published]] = []
    twice, seen = 0, set()
    for file, figures in sorted(files, key=lambda one: (one[0], published.text_of(one[1]))):
        text = published.text_of(figures)
        if text in seen:
            continue
        seen.add(text)
        rows = [row for row in figures.rows if _said(row) not in there]
        twice += len(figures.rows) - len(rows)
        alike = sum(one.split(" (")[0] == file for one, _ in found)
        name = f"{file} ({alike + 1})" if alike else file
        found.append((name, _renamed(figures, rows, name)))
    return found, twice


def _said(row: Row) -> str:
    """What a row says, whoever repeats it."""
    content = row.model_dump(mode="json", include={"benchmark", "configuration", "chip", "figures", "contributor"})
    return json.dumps(content, sort_keys=True)


def _renamed(figures: Published, rows: Sequence[Row], name: str) -> Published:
    """Rows and what is known of them; their ids and sources with the file's name, as others may have the same."""
    sources = {f"{source} ({name})": what for source, what in figures.sources.items()}
    kept = {row.id for row in rows}
    renamed = tuple(
        row.model_copy(
            update={
                "id": f"{name}/{row.id}",
                "source": f"{row.source} ({name})",
                "chip_according_to": {f"{source} ({name})": chip for source, chip in row.chip_according_to.items()},
                "quotes": f"{row.quotes} ({name})" if row.quotes else "",
            }
        )
        for row in rows
    )
    known = tuple(
        one.model_copy(update={"rows": tuple(f"{name}/{row}" for row in one.rows)})
        for one in figures.known
        if set(one.rows) <= kept
    )
    return figures.model_copy(update={"rows": renamed, "sources": sources, "known": known, "claims": ()})
