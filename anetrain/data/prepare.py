"""Text files become token shards: `train.bin` and `validation.bin` in one folder.

Whether a document is held out follows from its text alone: the same text is never in both files, whatever the order
(unless there are sources for validation alone). Each source is finished in files of its own, and these are joined at
the end: what was interrupted goes on with the source it was at.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from anetrain import files
from anetrain.data import tokenizers
from anetrain.data.documents import USUAL, Reading, check_source, documents
from anetrain.data.errors import DataError
from anetrain.data.shards import Progress, ShardWriter, join, read_info
from anetrain.data.tokenizers import scored, sentence

_OFTEN = 1 << 20  # bytes between two calls of progress
_IGNORING = (signal.SIGINT, signal.SIG_IGN)
_TRAINED_ON = 50_000_000  # characters at most that a tokenizer is trained on: its trainer holds them all in memory
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
    reading: Reading
    parts: tuple[Path, ...]
    """Where it goes, for each of _SPLIT."""


def prepare(
    sources: Sequence[Path],
    folder: Path,
    *,
    tokenizer: Path | None,
    validation: Sequence[Path] = (),
    fraction: float = 0.01,
    reading: Reading = USUAL,
    workers: int = 1,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Prepared:
    """`tokenizer` is a file or folder for `tokenizers.load`, which is copied into `folder`; None is the builtin one.
    About `fraction` of all documents of `sources` are held out, none at 0; those of `validation` all are. `progress`
    hears of bytes of the sources."""
    if not 0 <= fraction < 1:
        raise ValueError(f"fraction is {fraction}; expected 0 or more, and less than 1")
    if workers < 1:
        raise ValueError(f"workers is {workers}; expected 1 or more")
    _check_sources([*sources, *validation])
    targets = [folder / f"{name}.bin" for name in (_SPLIT if fraction or validation else _SPLIT[:1])]
    known = _load(tokenizer)
    companions = {} if tokenizer is None else tokenizers.companions(tokenizer)
    parts = folder / "parts"
    jobs = [
        _Job(source, tokenizer, share, reading, _parts(parts, source, known, share, reading))
        for share, group in ((fraction, sources), (1.0, validation))
        for source in group
    ]
    every_part = {path for job in jobs for path in job.parts}
    overwrite = overwrite or all(path.exists() for path in every_part)  # this run was interrupted at the very end
    check_targets(folder, overwrite=overwrite)
    _check_companions(folder, companions, overwrite)
    with _made(parts):
        _run(jobs, workers, progress)
        try:
            counts = _join(jobs, targets, known, overwrite)
        except DataError:  # of no use to a run that goes on
            _remove(every_part)
            raise
        for name, path in companions.items():
            _copy(path, folder / name)
        _remove(every_part)
    if len(targets) == 1:
        (folder / "validation.bin").unlink(missing_ok=True)  # of other documents
        return Prepared(targets[0], None, counts[0], 0)
    return Prepared(targets[0], targets[1], counts[0], counts[1])


def check_targets(folder: Path, *, overwrite: bool = False) -> None:
    """Raises FileExistsError where there are shards already: to be asked before a long work begins."""
    for name in _SPLIT:
        if (folder / f"{name}.bin").exists() and not overwrite:
            raise FileExistsError(f"{folder / name}.bin exists; choose another folder, or allow to overwrite it")


def train_tokenizer(
    sources: Sequence[Path],
    folder: Path,
    *,
    vocab: int,
    fraction: float = 0.01,
    reading: Reading = USUAL,
    overwrite: bool = False,
) -> Path:
    """Trains one of Llama 2's kind on the documents that `prepare` does not hold out, on the first 50 million
    characters of them. `folder` gets a tokenizer.model, which is returned, and the tokenizer.bin of llama2.c."""
    _check_sources(sources)
    target, exported = folder / "tokenizer.model", folder / "tokenizer.bin"
    for path in (target, exported):
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path} exists; take it as the tokenizer, choose another folder, or overwrite it")
    with _made(folder):
        texts = _to_train_on(sources, fraction, reading)
        trained = sentence.train(texts, target, vocab=vocab, overwrite=overwrite)
        scored.write(exported, trained.bin_pieces(), overwrite=overwrite)
    return target


def _to_train_on(sources: Sequence[Path], fraction: float, reading: Reading) -> Iterator[str]:
    count = 0
    for source in sources:
        for text, done in documents(source, reading):
            if held_out(text, fraction):
                continue
            try:
                sentence.check_text(text)
            except DataError as error:
                raise DataError(f"{source}, document that ends near byte {done}: {error}") from None
            yield text
            count += len(text)
            if count >= _TRAINED_ON:
                return


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
        # No fork: this process may have threads. Of Ctrl-C only this process has something to say.
        with get_context("spawn").Pool(min(workers, len(left)), signal.signal, _IGNORING) as pool:
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
        for text, done in documents(job.source, job.reading):
            try:
                ids = tokenizer.encode(text)
            except DataError as error:
                raise DataError(f"{job.source}, document that ends near byte {done}: {error}") from None
            writers[held_out(text, job.fraction)].add([tokenizer.document_start, *ids])
            if progress is not None and done - told >= _OFTEN:
                told = done
                progress(done, size)
    return size


def _remove(parts: Iterable[Path]) -> None:
    for path in parts:
        path.unlink()
        for killed in path.parent.glob(f".{path.name}.*"):  # what a process that was killed could not remove
            killed.unlink()
    if not any(path.parent.iterdir()):
        path.parent.rmdir()


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """It is there, and the ones around it; those that were made here and are empty in the end are removed again."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        for path in made:
            with suppress(OSError):  # it is not empty
                path.rmdir()


def _check_companions(folder: Path, companions: Mapping[str, Path], overwrite: bool) -> None:
    for name, path in companions.items():
        if (folder / name).exists() and not overwrite and (folder / name).read_bytes() != path.read_bytes():
            raise FileExistsError(f"{folder / name} is not {path}; choose another folder, or allow to overwrite it")


def _copy(source: Path, target: Path) -> None:
    if target.exists() and target.samefile(source):
        return
    with source.open("rb") as old, files.replacing(target, overwrite=True) as new:
        shutil.copyfileobj(old, new)


def _join(jobs: Sequence[_Job], targets: Sequence[Path], tokenizer: tokenizers.Tokenizer, overwrite: bool) -> list[int]:
    """The parts of all jobs become the targets; returns how many ids each has."""
    of_target = [[job.parts[at] for job in jobs] for at in range(len(targets))]
    for target, paths in zip(targets, of_target, strict=True):
        _check_not_empty(target, paths)
    return [
        join(
            paths,
            target,
            vocab=tokenizer.vocab,
            document_start=tokenizer.document_start,
            tokenizer=tokenizer.hash,
            overwrite=overwrite,
        )
        for target, paths in zip(targets, of_target, strict=True)
    ]


def _check_not_empty(target: Path, parts: Sequence[Path]) -> None:
    if not any(read_info(path).count for path in parts):
        raise DataError(
            f"{target} would be empty: there is no document for it. Use more documents, or another fraction; with "
            "fraction 0 nothing is held out here, and training can hold out the end of the tokens"
        )


def _parts(
    folder: Path, source: Path, tokenizer: tokenizers.Tokenizer, fraction: float, reading: Reading = USUAL
) -> tuple[Path, ...]:
    """Names that change with everything that decides about what is in them."""
    stat = source.stat()
    deciding = (
        str(source.resolve()),
        stat.st_size,
        stat.st_mtime_ns,
        tokenizer.hash,
        tokenizer.document_start,
        fraction,
        reading.field,
        reading.separator,
    )
    key = hashlib.sha256(json.dumps(deciding).encode()).hexdigest()[:16]
    return tuple(folder / f"{source.stem}-{key}-{name}.bin" for name in _SPLIT)


def _load(path: Path | None) -> tokenizers.Tokenizer:
    """One that can mark documents."""
    tokenizer = tokenizers.builtin_tokenizer() if path is None else tokenizers.load(path)
    try:
        _ = tokenizer.document_start
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    return tokenizer


def _check_sources(sources: Sequence[Path]) -> None:
    if not sources:
        raise DataError("no source was given; expected .txt, .jsonl or .json files")
    for source in sources:
        check_source(source)
