"""The compatibility matrix: what verdicts say of features, and the published answers, told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from anetrain.probe import features
from anetrain.report.document import Cell, Column, Line, Paragraph, Section, Table
from anetrain.report.inputs import Run, chip_order
from anetrain.report.published import Published
from anetrain.results import Answer

PUBLISHED_NAMES = {
    "program(1.3), ios18": features.NEW_DIALECT,
    "weights of several matrices in one blob": features.SINGLE_BLOB,
    "a weight blob for each matrix": features.BLOB_PER_MATRIX,
    "any channel count": features.CHANNELS,
    "BLOBFILE references with offsets": features.BLOB_OFFSETS,
}
"""What published rows are called in our matrix; others keep their names."""
UNTRIED = Cell("not tried", "not measured")
Answers = dict[str, list[tuple[Answer, str]]]
"""Feature -> answers, and what is said beside each."""


@dataclass(frozen=True)
class Answered:
    """A column: whose answers, and where they are from."""

    title: str
    answers: Answers
    source: str = ""

    def cell(self, feature: str) -> Cell:
        """One answer, or all where they differ."""
        answers = self.answers.get(feature, [])
        different = dict.fromkeys(answer for answer, _ in answers)
        if not different:
            return UNTRIED
        if len(different) == 1:
            answer = answers[0][0]
            return Cell(answer, answer, note="; ".join(dict.fromkeys(note for _, note in answers if note)))
        said = "; ".join(dict.fromkeys(f"{answer} ({note})" for answer, note in answers))
        return Cell(said, "unknown", note="they differ")


def section(columns: Sequence[tuple[str, Sequence[Run]]], figures: Sequence[Published]) -> Section:
    """`columns`: real devices with their runs. Emulators have a matrix of their own (`of_runs`)."""
    text = (
        "Columns that begin with measured are verdicts of anetrain's probes on that device; those that begin with "
        "published are what tables of others say of a family of chips, and nobody here has checked them."
    )
    measured = [Answered(f"measured: {one.title}", one.answers, one.source) for one in _answered(columns)]
    table = matrix("What compiles and computes", [*measured, *_published(figures)])
    return Section("Compatibility", (Paragraph(text), table))


def of_runs(caption: str, columns: Sequence[tuple[str, Sequence[Run]]]) -> list[Table]:
    """Of anything else; nothing where no verdict says anything of a feature."""
    found = _answered(columns)
    return [matrix(caption, found)] if found else []


def _answered(columns: Sequence[tuple[str, Sequence[Run]]]) -> list[Answered]:
    """Those of which verdicts say anything. Where several runs have, each answer says which it is of."""
    found = []
    for title, runs in columns:
        asked = [run for run in runs if any(verdict.features for verdict in run.results.verdicts)]
        answers: Answers = {}
        for run in asked:
            for verdict in run.results.verdicts:
                for feature, answer in verdict.features.items():
                    answers.setdefault(feature, []).append((answer, run.name if len(asked) > 1 else ""))
        if answers:
            found.append(Answered(title, answers, ", ".join(run.name for run in asked)))
    return found


def matrix(caption: str, columns: Sequence[Answered]) -> Table:
    """A line for each feature that any column knows, in the order of the probes' list."""
    known = {feature for column in columns for feature in column.answers}
    places = {feature: place for place, feature in enumerate(features.FEATURES)}
    rows = sorted(known, key=lambda feature: (places.get(feature, len(places)), feature))
    lines = [Line((Cell(feature), *(column.cell(feature) for column in columns))) for feature in rows]
    titles = (Column(column.title, column.source) for column in columns)
    return Table(caption, (Column("feature"), *titles), tuple(lines))


def _published(figures: Sequence[Published]) -> list[Answered]:
    """A column for each family or system of each source."""
    columns: dict[tuple[str, str], Answers] = {}
    for published in figures:
        for row in published.compatibility:
            feature = PUBLISHED_NAMES.get(row.feature, row.feature)
            for family, answer in row.answers.items():
                note = row.note if answer != "yes" else ""
                columns.setdefault((family, row.source), {}).setdefault(feature, []).append((answer, note))
    ordered = sorted(columns, key=lambda column: (chip_order(column[0]), column[1]))
    return [Answered(f"published: {family}", columns[family, source], source) for family, source in ordered]
