"""Decoding of pieces as sentencepiece does it: raw bytes among them, and a first space to take away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from anetrain.data.tokenizers.base import Stream, Tokenizer

UNKNOWN = " \u2047 "


@dataclass(frozen=True)
class PieceTable:
    """By id: text, or one byte (`bytes`), or None where a token has no text."""

    values: Sequence[str | bytes | None]
    unknown: int
    """Is shown as U+2047 between spaces."""
    strips: int
    """Spaces at the begin of a text that are not its own: 1 where encoding puts one there, or any number."""


class PieceStream(Stream):
    """The state of one text."""

    def __init__(self, tokenizer: Tokenizer, table: PieceTable) -> None:
        self._tokenizer, self._table = tokenizer, table
        self._bytes = b""
        self._to_strip = table.strips

    def push(self, token: int) -> str:
        value = self._table.values[self._tokenizer._checked(token)]
        if isinstance(value, bytes):
            self._bytes += value
            text, self._bytes = characters(self._bytes)
            self._to_strip = 0
            return text
        before = self.finish()
        if value is None:
            return before
        if self._to_strip and token != self._table.unknown and value.startswith(" "):
            value = value[1:]
            self._to_strip -= 1
        if value:
            self._to_strip = 0
        return before + value

    def finish(self) -> str:
        text = "".join(map(_or_replacement, _split_off(self._bytes)))
        self._bytes = b""
        return text


def characters(data: bytes) -> tuple[str, bytes]:
    """The text that these bytes begin with, U+FFFD for each byte that no character has; and the begin of another."""
    text = []
    while data:
        size = _size(data[0])
        if size > len(data) and all(0x80 <= byte < 0xC0 for byte in data[1:]):
            break
        character = _or_replacement(data[:size])
        text.append(character)
        data = data[1 if character == "\ufffd" and data[:size] != b"\xef\xbf\xbd" else size :]
    return "".join(text), data


def _split_off(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def _or_replacement(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "\ufffd"


def _size(first: int) -> int:
    """Bytes of the character that begins with this one."""
    return 1 if first < 0xC0 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4 if first < 0xF8 else 1
