"""One file of figures becomes another kind: the community's JSON becomes ours, ours and submissions become theirs."""

from __future__ import annotations

from pathlib import Path

from anetrain.report import community, ours, published, submission
from anetrain.report.kinds import COMMUNITY, SUBMISSION, kind_of
from anetrain.report.published import Published, Source
from anetrain.report.submission import Submission
from anetrain.results import ResultsError


def exchanged(path: Path) -> tuple[str, str, list[str]]:
    """The text of the other file, what it is, and what it cannot say."""
    content = path.read_bytes()
    try:
        kind = kind_of(content)
    except ResultsError as error:
        raise ResultsError(f"{path}: {error}") from error
    if kind == COMMUNITY:
        figures, unsaid = community.from_community(content, str(path))
        what = f"published figures, {len(figures.rows)} rows, {len(figures.known)} inconsistencies"
        return published.text_of(figures), what, unsaid
    figures = rows_of(submission.read(path)) if kind == SUBMISSION else published.read(path)
    theirs, unsaid = community.to_community(figures)
    return community.text_of(theirs), f"the community's JSON, {len(theirs['training_results'])} entries", unsaid


def rows_of(made: Submission) -> Published:
    """A submission's measurements as rows; refused for an emulator's."""
    rows = [
        row.model_copy(update={"id": f"{number}/{row.id}", "contributor": made.contributor, "note": made.notes})
        for number, results in enumerate(made.results)
        for row in ours.rows_of(results, made.contributor)
    ]
    return community.document(
        rows,
        {made.contributor: Source(what=f"a submission by {made.contributor}", date=rows[0].date if rows else "")},
    )
