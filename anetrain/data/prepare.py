"""Text files become token shards: `train.bin` and `validation.bin` in one folder.

.txt files hold documents with a line `<|endoftext|>` between them, .jsonl files one object per line, .json files a list
of objects; the text of an object is its field `text` or `story`. White space around a document is dropped, empty
documents are left out.

Whether a document is held out follows from its text alone: the same text is never in both files, whatever the order.
Each source is finished in files of its own, and these are joined at the end: what was interrupted goes on with the
source it was at.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from anetrain.data import tokenizers
from anetrain.data.errors import DataError
from anetrain.data.shards import Progress, ShardWriter, join, read_info

SEPARATOR = "<|endoftext|>"
FIELDS = ("text", "story")
_LONGEST = 1 << 24  # bytes of a document
_OFTEN = 1 << 20  # bytes between two calls of progress
_SPLIT = ("train", "validation")


@dataclass(frozen=True)
class Prepared:
    train: Path
    validation: Path | None
    train_tokens: int
    validation_tokens: int


@dataclass(frozen=True)
class _Job:
    source: Path
    tokenizer: Path | None
    fraction: float
    parts: tuple[Path, ...]
    """Where it goes, for each of _SPLIT."""


def prepare(
    sources: Sequence[Path],
    folder: Path,
    *,
    tokenizer: Path | None,
    fraction: float = 0.01,
    workers: int = 1,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Prepared:
    """`tokenizer` is a file or folder for `tokenizers.load`; None is the builtin one. About `fraction` of all documents
    are held out, none at 0. `progress` hears of bytes of the sources."""
    if not 0 <= fraction < 1:
        raise ValueError(f"fraction is {fraction}; expected 0 or more, and less than 1")
    if workers < 1:
        raise ValueError(f"workers is {workers}; expected 1 or more")
    _check_sources(sources)
    targets = [folder / f"{name}.bin" for name in (_SPLIT if fraction else _SPLIT[:1])]
    known = _load(tokenizer)
    parts = folder / "parts"
    jobs = [_Job(source, tokenizer, fraction, _parts(parts, source, known, fraction)) for source in sources]
    every_part = {path for job in jobs for path in job.parts}
    overwrite = overwrite or all(path.exists() for path in every_part)  # this run was interrupted at the very end
    for target in targets:
        if target.exists() and not overwrite:
            raise FileExistsError(f"{target} exists; choose another folder, or allow to overwrite it")
    parts.mkdir(parents=True, exist_ok=True)
    _run(jobs, workers, progress)
    of_target = [[job.parts[at] for job in jobs] for at in range(len(targets))]
    for target, paths in zip(targets, of_target, strict=True):
        _check_not_empty(target, paths)
    counts = [
        join(
            paths,
            target,
            vocab=known.vocab,
            document_start=known.document_start,
            tokenizer=known.hash,
            overwrite=overwrite,
        )
        for target, paths in zip(targets, of_target, strict=True)
    ]
    for path in every_part:
        path.unlink()
        for killed in parts.glob(f".{path.name}.*"):  # what a process that was killed could not remove
            killed.unlink()
    if not any(parts.iterdir()):
        parts.rmdir()
    held_out = counts[1] if fraction else 0
    return Prepared(targets[0], targets[1] if fraction else None, counts[0], held_out)


def documents(source: Path) -> Iterator[tuple[str, int]]:
    """The documents of a file, each with the bytes of the file that were read so far."""
    found = {".txt": _of_text, ".jsonl": _of_lines, ".json": _of_list}[source.suffix](source)
    for text, done in found:
        if text := text.strip():
            yield text, done


def held_out(text: str, fraction: float) -> bool:
    """Of many different texts, this fraction is."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big") < fraction * 2**64


def _run(jobs: Sequence[_Job], workers: int, progress: Progress | None) -> None:
    total, done = sum(job.source.stat().st_size for job in jobs), 0
    left = []
    for job in jobs:
        if all(path.exists() for path in job.parts):
            done += job.source.stat().st_size
        else:
            left.append(job)
    if workers == 1 or len(left) < 2:
        for job in left:
            _tokenize(job, None if progress is None else partial(_from, progress, done, total))
            done += job.source.stat().st_size
    else:
        with get_context("spawn").Pool(min(workers, len(left))) as pool:  # no fork: this process may have threads
            for size in pool.imap_unordered(_tokenize, left):
                done += size
                if progress is not None:
                    progress(done, total)
    if progress is not None:
        progress(done, total)


def _from(progress: Progress, before: int, total: int, done: int, _: int) -> None:
    """Progress of one source as that of all."""
    progress(before + done, total)


def _tokenize(job: _Job, progress: Progress | None = None) -> int:
    """Writes the parts of one source; returns its bytes."""
    tokenizer = _load(job.tokenizer)
    size, told = job.source.stat().st_size, 0
    with ExitStack() as stack:
        writers = [
            stack.enter_context(
                ShardWriter(
                    path,
                    vocab=tokenizer.vocab,
                    document_start=tokenizer.document_start,
                    tokenizer=tokenizer.hash,
                    overwrite=True,
                )
            )
            for path in job.parts
        ]
        for text, done in documents(job.source):
            try:
                ids = tokenizer.encode(text)
            except DataError as error:
                raise DataError(f"{job.source}, document that ends near byte {done}: {error}") from None
            writers[held_out(text, job.fraction)].add([tokenizer.document_start, *ids])
            if progress is not None and done - told >= _OFTEN:
                told = done
                progress(done, size)
    return size


def _check_not_empty(target: Path, parts: Sequence[Path]) -> None:
    if not any(read_info(path).count for path in parts):
        raise DataError(
            f"{target} would be empty: there is no document for it. Use more documents, or another fraction; with "
            "fraction 0 nothing is held out here, and training can hold out the end of the tokens"
        )


def _parts(folder: Path, source: Path, tokenizer: tokenizers.Tokenizer, fraction: float) -> tuple[Path, ...]:
    """Names that change with everything that decides about what is in them."""
    stat = source.stat()
    deciding = (
        str(source.resolve()),
        stat.st_size,
        stat.st_mtime_ns,
        tokenizer.hash,
        tokenizer.document_start,
        fraction,
    )
    key = hashlib.sha256(json.dumps(deciding).encode()).hexdigest()[:16]
    return tuple(folder / f"{source.stem}-{key}-{name}.bin" for name in _SPLIT)


def _load(tokenizer: Path | None) -> tokenizers.Tokenizer:
    return tokenizers.builtin_tokenizer() if tokenizer is None else tokenizers.load(tokenizer)


def _check_sources(sources: Sequence[Path]) -> None:
    if not sources:
        raise DataError("no source was given; expected .txt, .jsonl or .json files")
    for source in sources:
        if source.suffix not in (".txt", ".jsonl", ".json"):
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


def _of_text(source: Path) -> Iterator[tuple[str, int]]:
    lines: list[str] = []
    size = begin = done = 0
    for number, line, done in _lines(source):
        if line.strip() == SEPARATOR:
            yield "".join(lines), done
            lines, size, begin = [], 0, number
            continue
        lines.append(line)
        size += len(line)
        if size > _LONGEST:
            raise DataError(
                f"{source}: the document that begins at line {begin + 1} is longer than {_LONGEST} characters; put "
                f"lines {SEPARATOR} between documents"
            )
    yield "".join(lines), done


def _of_lines(source: Path) -> Iterator[tuple[str, int]]:
    for number, line, done in _lines(source):
        if line.strip():
            try:
                record = json.loads(line)
            except ValueError as error:
                raise DataError(f"{source}, line {number}: not JSON ({error})") from None
            yield _text(record, f"{source}, line {number}"), done


def _of_list(source: Path) -> Iterator[tuple[str, int]]:
    try:
        records = json.loads(source.read_bytes())
    except ValueError as error:
        raise DataError(f"{source}: not JSON ({error})") from None
    if not isinstance(records, list):
        raise DataError(f"{source}: expected a list, found {type(records).__name__}")
    size = source.stat().st_size
    for at, record in enumerate(records, 1):
        yield _text(record, f"{source}, record {at}"), size * at // len(records)


def _text(record: Any, place: str) -> str:
    names: Iterable[str] = record if isinstance(record, dict) else ()
    for name in FIELDS:
        if name in names and isinstance(record[name], str):
            return str(record[name])
    raise DataError(
        f"{place}: expected an object with a text as {' or '.join(map(repr, FIELDS))}, found {record!r:.60}"
    )
