"""Any of our files: which one is it, does it follow its schema, and does it add up? Every problem, with its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import from_json

from anetrain.report import flags
from anetrain.report.published import SCHEMA as PUBLISHED
from anetrain.report.published import Published
from anetrain.results import Results
from anetrain.results.schema import SCHEMA as RESULTS
from anetrain.results.store import problems_of


class Checked(NamedTuple):
    what: str
    problems: list[str]


def _results(content: bytes) -> Checked:
    results = Results.model_validate_json(content)
    state = "" if results.complete else ", interrupted"
    count = f"{len(results.measurements)} measurements, {len(results.verdicts)} verdicts"
    return Checked(f"results of the {results.device.label}; {count}{state}", [])


def _published(content: bytes) -> Checked:
    published = Published.model_validate_json(content)
    what = f"published figures; {len(published.rows)} rows, {len(published.known)} known inconsistencies"
    return Checked(what, flags.unexpected(published))


KINDS: dict[str, tuple[str, Callable[[bytes], Checked]]] = {
    RESULTS: ("results", _results),
    PUBLISHED: ("published figures", _published),
}


def check(path: Path) -> Checked:
    content = path.read_bytes()
    try:
        document = from_json(content)
    except ValueError as error:
        return Checked("no JSON", [f"is no JSON: {error}"])
    kind = _kind(document)
    if kind not in KINDS:
        return Checked("unknown", [f"schema is {kind!r}; expected one of {', '.join(KINDS)}"])
    name, parse = KINDS[kind]
    try:
        return parse(content)
    except ValidationError as error:
        return Checked(name, problems_of(error))


def _kind(document: Any) -> object:
    return document.get("schema") if isinstance(document, dict) else None
