"""Files of results: written whole after each thing found, read with a sentence for whatever is wrong."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from anetrain import files
from anetrain.results.schema import SCHEMA, Results


class ResultsError(ValueError):
    """What is wrong with a file of results: which file, where in it, what was found and expected."""


def text_of(results: Results) -> str:
    """The same bytes for the same results."""
    return json.dumps(results.model_dump(mode="json", by_alias=True), indent=1, ensure_ascii=False) + "\n"


def write(results: Results, path: Path, *, overwrite: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path, overwrite=overwrite) as file:
        file.write(text_of(results).encode())


def read(path: Path) -> Results:
    text = path.read_bytes()
    try:
        return Results.model_validate_json(text)
    except ValidationError as error:
        problems = "; ".join(problems_of(error)[:5])
        raise ResultsError(f"{path}: not a file of results ({SCHEMA}): {problems}") from error


def problems_of(error: ValidationError) -> list[str]:
    """Each with its place."""
    return [_sentence(problem["loc"], problem["msg"]) for problem in error.errors()]


def _sentence(place: tuple[int | str, ...], message: str) -> str:
    where = ".".join(map(str, place))
    return f"{where}: {message.removeprefix('Value error, ')}" if where else message
