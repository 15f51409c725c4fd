"""What is in token shards: for people who want to know what they are about to train on.

description = describe(Path("data/tinystories/train.bin"))
description.tokens, description.documents, description.entropy
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from anetrain.data import tokenizers
from anetrain.data.errors import DataError
from anetrain.data.shards import Progress, ShardInfo, open_tokens, read_info
from anetrain.data.tokenizers import Tokenizer, builtin_tokenizer
from anetrain.tokens import Tokens, pieces

_ANY_ID = 1 << 31  # for shards that do not say what their vocabulary is


@dataclass(frozen=True)
class Frequent:
    """A token: how often it is there, and its text where a tokenizer is at hand."""

    id: int
    count: int
    text: str | None


@dataclass(frozen=True)
class Description:
    """`vocab`, `document_start`, `documents` and `tokenizer` (its hash) are None where neither the shard nor a
    tokenizer at hand says them. `entropy` is that of the ids' frequencies, in nats: the loss of a model that knows
    nothing else. `tokenizer_from`: where the tokenizer at hand is from, None: there is none."""

    path: str
    bytes: int
    header: bool
    dtype: str
    tokens: int
    documents: int | None
    document_start: int | None
    vocab: int | None
    distinct: int
    largest: int | None
    entropy: float
    tokenizer: str | None
    tokenizer_from: str | None
    frequent: tuple[Frequent, ...]


def shards_of(path: Path) -> list[Path]:
    """The file, or the shards of a folder: train.bin and validation.bin, or else data00.bin and so on."""
    if not path.is_dir():
        return [path]
    found = [path / name for name in ("train.bin", "validation.bin") if (path / name).is_file()]
    found = found or sorted(path.glob("data*.bin"))
    if not found:
        raise DataError(f"{path}: holds no train.bin, validation.bin or data*.bin; give the path of a shard")
    return found


def describe(
    path: Path, *, tokenizer: Path | None = None, frequent: int = 10, progress: Progress | None = None
) -> Description:
    """One shard. `tokenizer`: one that is not beside it; `frequent`: how many of the most frequent tokens to name."""
    info = read_info(path)
    at_hand, origin = _tokenizer(info, tokenizer)
    vocab = info.vocab or (at_hand.vocab if at_hand else None)
    tokens = open_tokens(path, vocab=vocab or _ANY_ID, least=0)
    start = info.document_start if info.header else _document_start(at_hand)
    counts = _counts(tokens, progress)
    order = np.argsort(-counts, kind="stable")[:frequent]
    return Description(
        path=str(path),
        bytes=path.stat().st_size,
        header=info.header,
        dtype=f"uint{8 * info.id_bytes}",
        tokens=info.count,
        documents=None if start is None else int(counts[start]) if start < len(counts) else 0,
        document_start=start,
        vocab=vocab,
        distinct=int(np.count_nonzero(counts)),
        largest=len(counts) - 1 if len(counts) else None,
        entropy=_entropy(counts),
        tokenizer=info.tokenizer or (at_hand.hash if at_hand else None),
        tokenizer_from=origin,
        frequent=tuple(Frequent(int(token), int(counts[token]), _text(at_hand, int(token))) for token in order),
    )


def _tokenizer(info: ShardInfo, given: Path | None) -> tuple[Tokenizer | None, str | None]:
    """The one that is given, or lies beside the shard, or is built in; and where it is from."""
    if given is not None:
        found = tokenizers.load(given)
        if info.tokenizer not in (None, found.hash):
            raise DataError(
                f"{info.path}: made with the tokenizer {info.tokenizer}, and {given} is {found.hash}: another one"
            )
        return found, str(given)
    if info.tokenizer == builtin_tokenizer().hash:
        return builtin_tokenizer(), "builtin"
    beside = tokenizers.within(info.path.parent)
    if beside is None:
        return None, None
    found = tokenizers.load(beside)
    return (found, str(beside)) if info.tokenizer in (None, found.hash) else (None, None)


def _document_start(tokenizer: Tokenizer | None) -> int | None:
    if tokenizer is None or (tokenizer.bos is None and tokenizer.eos is None):
        return None
    return tokenizer.document_start


def _counts(tokens: Tokens, progress: Progress | None) -> npt.NDArray[np.int64]:
    """How often each id is there, up to the largest one."""
    counts = np.zeros(0, np.int64)
    done = 0
    for _, piece in pieces(tokens):
        found = np.bincount(piece, minlength=len(counts))
        found[: len(counts)] += counts
        counts = found
        done += len(piece)
        if progress is not None:
            progress(done, len(tokens))
    return counts


def _entropy(counts: npt.NDArray[np.int64]) -> float:
    share = counts[counts > 0] / max(int(counts.sum()), 1)
    return max(0.0, -float(np.sum(share * np.log(share))))


def _text(tokenizer: Tokenizer | None, token: int) -> str | None:
    """As it is in the middle of a text: the first space of a text may not be its own."""
    if tokenizer is None:
        return None
    around = tokenizer.encode("a")
    before = tokenizer.decode(around)
    return tokenizer.decode([*around, token]).removeprefix(before)
