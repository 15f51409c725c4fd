"""Which kind of file it is, by the schema that it names; the community's names none."""

from __future__ import annotations

from pydantic_core import from_json

from anetrain.report.community import is_community
from anetrain.report.published import SCHEMA as PUBLISHED
from anetrain.report.submission import SCHEMA as SUBMISSION
from anetrain.results import ResultsError
from anetrain.results.schema import SCHEMA as RESULTS

__all__ = ["COMMUNITY", "PUBLISHED", "RESULTS", "SUBMISSION", "kind_of"]

COMMUNITY = "community"


def kind_of(content: bytes) -> str:
    """RESULTS, SUBMISSION, PUBLISHED or COMMUNITY."""
    try:
        document = from_json(content)
    except ValueError as error:
        raise ResultsError(f"is no JSON: {error}") from error
    if is_community(document):
        return COMMUNITY
    kind = document.get("schema") if isinstance(document, dict) else None
    if kind not in (RESULTS, SUBMISSION, PUBLISHED):
        raise ResultsError(f"schema is {kind!r}; expected one of {RESULTS}, {SUBMISSION}, {PUBLISHED}")
    return str(kind)
