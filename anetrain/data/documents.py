"""The documents of text files.

.txt files hold documents with a line `<|endoftext|>` between them, .jsonl files one object per line, .json files a list
of objects; the text of an object is its field `text` or `story`. `Reading` says otherwise. White space around a
document is dropped, empty documents are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anetrain.data.errors import DataError

SEPARATOR = "<|endoftext|>"
FIELDS = ("text", "story")
_LONGEST = 1 << 24  # bytes of a document


@dataclass(frozen=True)
class Reading:
    """Where documents are in their files. `field` of an object holds its text, None: one of FIELDS does; `separator` is
    a line between documents of a .txt file, "": an empty one."""

    field: str | None = None
    separator: str = SEPARATOR


USUAL = Reading()


def documents(source: Path, reading: Reading = USUAL) -> Iterator[tuple[str, int]]:
    """The documents of a file, each with the bytes of the file that were read so far."""
    for text, done in _KINDS[source.suffix](source, reading):
        if text := text.strip():
            yield text, done


def check_source(source: Path) -> None:
    if source.suffix not in _KINDS:
        raise DataError(f"{source}: expected a file whose name ends in .txt, .jsonl or .json")
    if not source.is_file():
        raise DataError(f"{source}: there is no such file")


# ---------------------------------------------------------------- kinds of files


def _lines(source: Path) -> Iterator[tuple[int, str, int]]:
    """Number, text and end of each line."""
    done = 0
    with source.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(_LONGEST), b""), 1):
            done += len(line)
            if len(line) >= _LONGEST:
                raise DataError(f"{source}, line {number}: longer than {_LONGEST} bytes; is it text?")
            try:
                yield number, line.decode(), done
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{source}, line {number}: byte {error.start} of the line is 0x{line[error.start]:02x}, which is "
                    "not UTF-8; convert the file first"
                ) from None


def _of_text(source: Path, reading: Reading) -> Iterator[tuple[str, int]]:
    lines: list[str] = []
    size = begin = done = 0
    for number, line, done in _lines(source):
        if line.strip() == reading.separator:
            yield "".join(lines), done
            lines, size, begin = [], 0, number
            continue
        lines.append(line)
        size += len(line)
        if size > _LONGEST:
            raise DataError(
                f"{source}: the document that begins at line {begin + 1} is longer than {_LONGEST} characters; put "
                f"lines {reading.separator!r} between documents"
            )
    yield "".join(lines), done


def _of_lines(source: Path, reading: Reading) -> Iterator[tuple[str, int]]:
    for number, line, done in _lines(source):
        if line.strip():
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{source}, line {number}: not JSON ({error})") from None
            yield _text(record, reading, f"{source}, line {number}"), done


def _of_list(source: Path, reading: Reading) -> Iterator[tuple[str, int]]:
    try:
        records = json.loads(source.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source}: not JSON ({error})") from None
    if not isinstance(records, list):
        raise DataError(f"{source}: expected a list, found {type(records).__name__}")
    size = source.stat().st_size
    for at, record in enumerate(records, 1):
        yield _text(record, reading, f"{source}, record {at}"), size * at // len(records)


def _text(record: Any, reading: Reading, place: str) -> str:
    expected = FIELDS if reading.field is None else (reading.field,)
    names: Iterable[str] = record if isinstance(record, dict) else ()
    for name in expected:
        if name in names and isinstance(record[name], str):
            return str(record[name])
    raise DataError(
        f"{place}: expected an object with a text as {' or '.join(map(repr, expected))}, found {record!r:.60}"
    )


_KINDS = {".txt": _of_text, ".jsonl": _of_lines, ".json": _of_list}
