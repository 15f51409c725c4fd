"""Token shards: files of token ids, mapped into memory and checked before anything trains on them.

Two formats are read. Without a header: uint16 ids from the first byte on, as TinyStories is published in. With a header
(little-endian, written here):

    offset  bytes
         0      8  b"ANETOKEN"
         8      4  version, 1
        12      4  bytes per id, 2 or 4
        16      8  how many ids
        24      4  vocabulary of the tokenizer: every id is less
        28      4  id that begins a document, signed; -1 where none does
        32     32  SHA-256 of the tokenizer (`Tokenizer.hash`)
        64         ids

with ShardWriter(path, vocab=tokenizer.vocab, document_start=tokenizer.bos, tokenizer=tokenizer.hash) as writer:
    writer.add(tokenizer.encode(text, bos=True))
tokens = open_tokens(path, vocab=32_000)  # read-only, stays on disk
train, validation = split(tokens, 0.01, document_start=1)
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

from anetrain import files
from anetrain.data.errors import DataError
from anetrain.tokens import Tokens, check_tokens, pieces

Progress: TypeAlias = Callable[[int, int], object]
"""Called now and then with how much is done, and of how much."""

MAGIC = b"ANETOKEN"
_HEADER = struct.Struct("<8sIIQIi32s")


@dataclass(frozen=True)
class ShardInfo:
    """What a shard says of itself. A file without a header knows neither vocabulary, document start nor tokenizer."""

    path: Path
    header: bool
    count: int
    id_bytes: int
    vocab: int | None = None
    document_start: int | None = None
    tokenizer: str | None = None
    """SHA-256 in hex."""

    @property
    def offset(self) -> int:
        return _HEADER.size if self.header else 0


def read_info(path: Path) -> ShardInfo:
    """Reads the header and compares it with the size of the file; ids are not looked at."""
    size = _size(path)
    with path.open("rb") as file:
        start = file.read(_HEADER.size)
    if start[: len(MAGIC)] == MAGIC:
        return _headed(path, start, size)
    if size % 2:
        raise DataError(
            f"{path}: {size} bytes, an odd number; expected uint16 ids, or a shard that begins with {MAGIC!r}. Was it "
            "cut short? Download or prepare it again"
        )
    return ShardInfo(path, False, size // 2, 2)


def open_tokens(
    path: Path,
    *,
    vocab: int,
    tokenizer: str | None = None,
    least: int = 2,
) -> Tokens:
    """The ids of a shard, mapped read-only, after every check: each id is less than `vocab`, there are `least` of them,
    and they come from the tokenizer with this hash (where both are known).

    Every id is looked at on each call: it goes at the speed of reading the file, a second or so for a gigabyte, and
    nothing has to be remembered that could be out of date.
    """
    info = read_info(path)
    if info.count < least:
        raise DataError(
            f"{path}: {info.count} tokens; at least {least} are needed. Use more data or a shorter sequence"
        )
    if info.vocab is not None and info.vocab > vocab:
        raise DataError(
            f"{path}: made with a vocabulary of {info.vocab}; the model has {vocab}. Prepare the data with the model's "
            "tokenizer"
        )
    if None not in (tokenizer, info.tokenizer) and tokenizer != info.tokenizer:
        raise DataError(
            f"{path}: made with the tokenizer {_short(info.tokenizer)}, expected {_short(tokenizer)}. Use the "
            "tokenizer that the data was prepared with, or prepare it again"
        )
    if not info.count:
        return np.empty(0, f"<u{info.id_bytes}")
    tokens: Tokens = np.memmap(path, f"<u{info.id_bytes}", "r", info.offset, (info.count,))
    check_ids(tokens, min(vocab, info.vocab or vocab), str(path))
    return tokens


def check_ids(tokens: Tokens, vocab: int, name: str) -> None:
    """Raises DataError at the first id that is not 0 to vocab - 1."""
    try:
        check_tokens(tokens, vocab)
    except ValueError as error:
        raise DataError(f"{name}: {error}") from None


class ShardWriter:
    """Writes a shard with a header, piece by piece. The file appears, whole, when the `with` block ends well."""

    def __init__(
        self, path: Path, *, vocab: int, document_start: int | None, tokenizer: str, overwrite: bool = False
    ) -> None:
        if not 1 <= vocab < 2**31:
            raise ValueError(f"vocab is {vocab}; expected 1 to {2**31 - 1}")
        if document_start is not None and not 0 <= document_start < vocab:
            raise ValueError(f"document_start is {document_start}; expected an id, 0 to {vocab - 1}")
        if len(bytes.fromhex(tokenizer)) != 32:
            raise ValueError(f"tokenizer is {tokenizer!r}; expected a SHA-256 as 64 hex digits")
        self.path, self.vocab, self.count = path, vocab, 0
        self._document_start, self._tokenizer = document_start, bytes.fromhex(tokenizer)
        self._overwrite = overwrite
        self._dtype = np.dtype("<u2" if vocab <= 1 << 16 else "<u4")

    def __enter__(self) -> ShardWriter:
        with ExitStack() as stack:
            self._file: BinaryIO = stack.enter_context(files.replacing(self.path, overwrite=self._overwrite))
            self._file.write(self._header())
            stack.push(self._finish)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def add(self, ids: Sequence[int] | npt.NDArray[np.integer[Any]]) -> None:
        array = np.asarray(ids)
        if not array.size:
            return
        check_ids(array, self.vocab, f"for {self.path}")
        self._file.write(array.astype(self._dtype).tobytes())
        self.count += len(array)

    def _finish(self, kind: type[BaseException] | None, *_: object) -> None:
        """The header again, now that the number of ids is known."""
        if kind is None:
            self._file.seek(0)
            self._file.write(self._header())

    def _header(self) -> bytes:
        start = -1 if self._document_start is None else self._document_start
        return _HEADER.pack(MAGIC, 1, self._dtype.itemsize, self.count, self.vocab, start, self._tokenizer)


def join(
    sources: Sequence[Path],
    target: Path,
    *,
    vocab: int,
    document_start: int | None,
    tokenizer: str,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> int:
    """One shard of several, in their order; returns how many ids it has. All are checked before it is written."""
    arrays = [open_tokens(path, vocab=vocab, tokenizer=tokenizer, least=0) for path in sources]
    total, done = sum(map(len, arrays)), 0
    with ShardWriter(
        target, vocab=vocab, document_start=document_start, tokenizer=tokenizer, overwrite=overwrite
    ) as writer:
        for array in arrays:
            for _, piece in pieces(array):
                writer.add(piece)
                done += len(piece)
                if progress is not None:
                    progress(done, total)
    return total


def document_starts(tokens: Tokens, document_start: int) -> npt.NDArray[np.int64]:
    """Where documents begin."""
    found = [np.flatnonzero(piece == document_start) + begin for begin, piece in pieces(tokens)]
    return np.concatenate([np.empty(0, np.int64), *found])


def split(tokens: Tokens, fraction: float, *, document_start: int | None) -> tuple[Tokens, Tokens]:
    """Training and validation: two views; the last documents, about this fraction of all tokens, are held out.

    Where documents are not marked the cut is made between two tokens.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction is {fraction}; expected more than 0 and less than 1")
    cut = len(tokens) - max(1, round(len(tokens) * fraction))
    if document_start is not None:
        starts = document_starts(tokens, document_start)
        starts = starts[starts > 0]
        if not len(starts):
            raise DataError("the tokens are one document: hold out some other data, or more documents")
        cut = int(starts[np.argmin(np.abs(starts - cut))])
    if not 0 < cut < len(tokens):
        raise DataError(f"{len(tokens)} tokens are too few to hold out {fraction:g} of them")
    return tokens[:cut], tokens[cut:]


def _headed(path: Path, start: bytes, size: int) -> ShardInfo:
    if len(start) < _HEADER.size:
        raise DataError(f"{path}: {size} bytes; the header of a shard alone has {_HEADER.size}. Prepare the data again")
    _, version, id_bytes, count, vocab, document_start, tokenizer = _HEADER.unpack(start)
    if version != 1:
        raise DataError(f"{path}: version {version} of the shard format; this program reads 1. Is there a newer one?")
    if id_bytes not in (2, 4):
        raise DataError(f"{path}: {id_bytes} bytes per id; expected 2 or 4. Prepare the data again")
    if size != _HEADER.size + count * id_bytes:
        raise DataError(
            f"{path}: {size} bytes; its header says {count} ids of {id_bytes} bytes, {_HEADER.size + count * id_bytes} "
            "bytes in all. Was it cut short? Prepare the data again"
        )
    if not vocab or document_start < -1 or document_start >= vocab:
        raise DataError(
            f"{path}: vocabulary {vocab}, documents begin with {document_start}; expected an id below the vocabulary. "
            "Prepare the data again"
        )
    begins = None if document_start == -1 else document_start
    return ShardInfo(path, True, count, id_bytes, vocab, begins, tokenizer.hex())


def _size(path: Path) -> int:
    if path.is_dir():
        raise DataError(f"{path} is a folder; expected a token shard")
    try:
        return path.stat().st_size
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file; prepare or download the data first") from None


def _short(tokenizer: str | None) -> str:
    return (tokenizer or "")[:12]
