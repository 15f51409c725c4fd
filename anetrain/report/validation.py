"""Any of our files: which one is it, does it follow its schema, and does it add up? Every problem, with its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from anetrain.report import community, flags
from anetrain.report.kinds import COMMUNITY, PUBLISHED, RESULTS, SUBMISSION, kind_of
from anetrain.report.published import Published
from anetrain.report.submission import Submission
from anetrain.results import Results, ResultsError
from anetrain.results.store import problems_of


class Checked(NamedTuple):
    what: str
    problems: list[str]


def _results(content: bytes) -> Checked:
    results = Results.model_validate_json(content)
    parts = {"measurements": results.measurements, "verdicts": results.verdicts, "questions of health": results.health}
    counts = [f"{len(part)} {name}" for name, part in parts.items() if part]
    state = [] if results.complete else ["interrupted"]
    return Checked(f"results of the {results.device.label}; {', '.join(counts + state) or 'empty'}", [])


def _published(content: bytes) -> Checked:
    published = Published.model_validate_json(content)
    what = f"published figures; {len(published.rows)} rows, {len(published.known)} known inconsistencies"
    return Checked(what, flags.unexpected(published))


def _submission(content: bytes) -> Checked:
    made = Submission.model_validate_json(content)
    return Checked(f"submission of {len(made.results)} results by {made.contributor}, {made.head.label}", [])


def _community(content: bytes) -> Checked:
    document, unsaid = community.from_community(content, "it")
    problems = [f"{', '.join(known.rows)}: {known.rule}: {known.finding}" for known in document.known]
    return Checked(f"the community's results; {len(document.rows)} rows, {len(unsaid)} doubts", problems)


PARSERS: dict[str, tuple[str, Callable[[bytes], Checked]]] = {
    RESULTS: ("results", _results),
    SUBMISSION: ("submission", _submission),
    PUBLISHED: ("published figures", _published),
    COMMUNITY: ("the community's results", _community),
}


def check(path: Path) -> Checked:
    content = path.read_bytes()
    try:
        kind = kind_of(content)
    except ResultsError as error:
        return Checked("unknown", [str(error)])
    name, parse = PARSERS[kind]
    try:
        return parse(content)
    except ValidationError as error:
        return Checked(name, problems_of(error))
    except ResultsError as error:
        return Checked(name, [str(error)])
