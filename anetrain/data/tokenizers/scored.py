"""llama2.c `tokenizer.bin`: BPE by score, with a piece for every byte.

The file is a uint32 (bytes of the longest piece), then for every piece a float32 score, a uint32 length and its UTF-8
bytes. Ids 0, 1, 2 are unknown, begin and end of a text; ids 3 to 258 are the bytes, spelled <0x00> to <0xFF>.
"""

from __future__ import annotations

import hashlib
import heapq
import re
import struct
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from anetrain import files
from anetrain.data.errors import DataError
from anetrain.data.tokenizers.base import Tokenizer
from anetrain.data.tokenizers.pieces import UNKNOWN, PieceStream, PieceTable

Piece = tuple[bytes, float]
"""UTF-8 text, score."""

UNKNOWN_ID, BOS, EOS, FIRST_BYTE, FIRST_TEXT = 0, 1, 2, 3, 259
NAMES = (b"<unk>", b"\n<s>\n", b"\n</s>\n", *(b"<0x%02X>" % byte for byte in range(256)))
"""Of the ids before FIRST_TEXT."""

_RECORD = struct.Struct("<fI")
_BLOCK = "\u2581"  # sentencepiece's sign for a space; it takes one in a text for a space, too


class ScoredTokenizer(Tokenizer):
    """Characters are joined to pieces, of all neighbours those with the highest score first, then those furthest left.

    A character that is no piece is written in bytes. Each text gets a space in front, which decoding takes away.
    `block_is_space`: as sentencepiece has it, U+2581 in a text is a space; without, every text comes back as it was.
    """

    bos, eos = BOS, EOS

    def __init__(self, pieces: Sequence[Piece], *, block_is_space: bool = True) -> None:
        self.vocab = len(pieces)
        self._pieces = list(pieces)
        self.hash = hashlib.sha256(to_bin(pieces)).hexdigest()
        self._block_is_space = block_is_space
        texts = [text.decode() for text, _ in pieces[FIRST_TEXT:]]
        self._ids = {text: FIRST_TEXT + at for at, text in reversed(list(enumerate(texts)))}
        self._scores = [score for _, score in pieces]
        values = [UNKNOWN, None, None, *(bytes([byte]) for byte in range(256)), *texts]
        self._table = PieceTable(values, UNKNOWN_ID, strips=1)
        inner_space = any(" " in text.lstrip(" ") for text in texts)
        self._words = re.compile(r".+" if inner_space else r" *[^ ]+| +", re.DOTALL)
        self._word_ids = lru_cache(1 << 16)(self._join)

    def pieces(self, text: str, *, special: bool) -> list[int]:
        if not text:
            return []
        if self._block_is_space:
            text = text.replace(_BLOCK, " ")
        return [token for word in self._words.findall(" " + text) for token in self._word_ids(word)]

    def bin_pieces(self) -> list[Piece]:
        """For `write`."""
        return list(self._pieces)

    def stream(self) -> PieceStream:
        return PieceStream(self, self._table)

    def _join(self, word: str) -> tuple[int, ...]:
        """A linked list of pieces, and a heap of the pairs that could be joined; outdated pairs are passed over."""
        pieces: list[str] = list(word)
        before = list(range(-1, len(pieces) - 1))
        after = [*range(1, len(pieces)), -1]
        pairs: list[tuple[float, int, int, int]] = []  # minus score, left, right, length of both together

        def offer(left: int, right: int) -> None:
            if left >= 0 and right >= 0:
                joined = pieces[left] + pieces[right]
                if (token := self._ids.get(joined)) is not None:
                    heapq.heappush(pairs, (-self._scores[token], left, right, len(joined)))

        for at in range(len(pieces) - 1):
            offer(at, at + 1)
        while pairs:
            _, left, right, length = heapq.heappop(pairs)
            if not pieces[left] or not pieces[right] or len(pieces[left]) + len(pieces[right]) != length:
                continue
            pieces[left] += pieces[right]
            pieces[right] = ""
            after[left] = after[right]
            if after[right] >= 0:
                before[after[right]] = left
            offer(before[left], left)
            offer(left, after[left])
        return tuple(token for piece in pieces if piece for token in self._of_piece(piece))

    def _of_piece(self, piece: str) -> list[int]:
        token = self._ids.get(piece)
        return [FIRST_BYTE + byte for byte in piece.encode()] if token is None else [token]


def read(path: Path) -> ScoredTokenizer:
    """A tokenizer.bin."""
    return ScoredTokenizer(from_bin(path.read_bytes(), str(path)))


def write(path: Path, pieces: Sequence[Piece], *, overwrite: bool = False) -> None:
    """A tokenizer.bin, for llama2.c and `read`."""
    with files.replacing(path, overwrite=overwrite) as file:
        file.write(to_bin(pieces))


def to_bin(pieces: Sequence[Piece]) -> bytes:
    longest = max(len(text) for text, _ in pieces)
    return struct.pack("<I", longest) + b"".join(_RECORD.pack(score, len(text)) + text for text, score in pieces)


def from_bin(data: bytes, name: str) -> list[Piece]:
    """The pieces of a file. How many there are is not stored: they fill it to the last byte."""
    if len(data) < 4:
        raise DataError(f"{name}: {len(data)} bytes; expected a tokenizer.bin of llama2.c")
    longest: int = struct.unpack_from("<I", data)[0]
    pieces: list[Piece] = []
    at = 4
    while at < len(data):
        score, length = _RECORD.unpack_from(data, at) if len(data) - at >= _RECORD.size else (0.0, len(data))
        begin, at = at + _RECORD.size, at + _RECORD.size + length
        if at > len(data) or length > longest or score != score:
            raise DataError(
                f"{name}: piece {len(pieces)} (score {score:g}, {length} bytes) does not fit a file of {len(data)} "
                f"bytes with pieces of at most {longest}. Is it a tokenizer.bin of llama2.c, and whole?"
            )
        pieces.append((data[begin:at], score))
    _check(pieces, longest, name)
    return pieces


def _check(pieces: Sequence[Piece], longest: int, name: str) -> None:
    spelled = tuple(text for text, _ in pieces[:FIRST_TEXT])
    for at, (found, expected) in enumerate(zip(spelled, NAMES, strict=False)):
        if found != expected and at not in (UNKNOWN_ID, BOS, EOS):  # their names differ between exporters
            raise DataError(f"{name}: piece {at} is {found!r}; expected {expected!r}, one of 256 pieces for bytes")
    if len(pieces) <= FIRST_TEXT:
        raise DataError(
            f"{name}: {len(pieces)} pieces; expected more than {FIRST_TEXT}: 3 special ones, 256 bytes, text"
        )
    if max(len(text) for text, _ in pieces) != longest:
        raise DataError(f"{name}: no piece is as long as its first number says, {longest} bytes. Export it again")
    for at, (text, _) in enumerate(pieces[FIRST_TEXT:], FIRST_TEXT):
        try:
            text.decode()
        except UnicodeDecodeError:
            raise DataError(f"{name}: piece {at} is {text!r}, which is not UTF-8. Export it again") from None
