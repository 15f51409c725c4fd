"""Hugging Face `tokenizer.json` files, through the tokenizers library; special tokens from the tokenizer_config.json
beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anetrain.data.errors import DataError
from anetrain.data.tokenizers import chat
from anetrain.data.tokenizers.base import Stream, Tokenizer


class HuggingFaceTokenizer(Tokenizer):
    """`bos` and `eos` name special tokens, e.g. "<|endoftext|>", where tokenizer_config.json does not, or others."""

    def __init__(self, path: Path, *, bos: str | None = None, eos: str | None = None) -> None:
        import tokenizers

        content = _json(path)
        self._tokenizer: Any = None
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(json.dumps(content))
        except Exception as error:  # the library raises no other class
            raise DataError(
                f"{path}: the tokenizers library cannot read it ({error}); expected a tokenizer.json"
            ) from None
        known: dict[str, int] = self._tokenizer.get_vocab(with_added_tokens=True)
        if not known:
            raise DataError(f"{path}: its vocabulary is empty")
        self.vocab = max(known.values()) + 1
        if self.vocab >= 1 << 31:
            raise DataError(
                f"{path}: has the id {self.vocab - 1}; expected ids that token files can hold, below 2^31 - 1"
            )
        settings = path.with_name("tokenizer_config.json")
        config = _json(settings) if settings.exists() else {}
        self._ids, self._path = known, path
        self.uncertain = _pieces_of_bytes(content, known)
        self.bos = self._special(bos or _name(config.get("bos_token")))
        self.eos = self._special(eos or _name(config.get("eos_token")))
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
        self.hash = hashlib.sha256(canonical).hexdigest()

    def pieces(self, text: str, *, special: bool) -> list[int]:
        self._tokenizer.encode_special_tokens = not special
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def stream(self) -> Stream:
        return _Window(self)

    def chat(self, messages: Sequence[Mapping[str, str]], *, thinking: bool = True) -> list[int]:
        if not self._ids.keys() >= {chat.BEGIN, chat.END}:
            return super().chat(messages, thinking=thinking)
        return self.encode(chat.qwen3(messages, thinking=thinking), special=True)

    @property
    def ends(self) -> frozenset[int]:
        return super().ends | {self._ids[name] for name in chat.ENDS if name in self._ids}

    def text(self, ids: Sequence[int]) -> str:
        """Of ids that do not begin or end within a character."""
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def _special(self, name: str | None) -> int | None:
        if name is None:
            return None
        if name not in self._ids:
            raise DataError(f"{self._path}: has no token {name!r}, which is to begin or end a text")
        return self._ids[name]


class _Window(Stream):
    """Decodes the ids of the last piece of text again, together with those behind it: what a piece is decoded to may
    depend on the one before."""

    def __init__(self, tokenizer: HuggingFaceTokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._given = 0  # how many of them are in text that was given
        self._text = ""  # which is this

    def push(self, token: int) -> str:
        self._ids.append(self._tokenizer._checked(token))
        text = self._tokenizer.text(self._ids)
        if text.endswith("\ufffd") or token in self._tokenizer.uncertain:
            return ""
        return self._give(text)

    def finish(self) -> str:
        return self._give(self._tokenizer.text(self._ids))

    def _give(self, text: str) -> str:
        new = text[len(self._text) :]
        if new:
            self._ids = self._ids[self._given :]
            self._given, self._text = len(self._ids), self._tokenizer.text(self._ids)
        return new


def _pieces_of_bytes(content: Mapping[str, Any], known: Mapping[str, int]) -> frozenset[int]:
    """Ids of <0x00> to <0xFF>, where they are decoded as Llama's are: each one of a row gives U+FFFD unless the whole
    row is UTF-8, so that none is certain before the row has ended."""
    if "ByteFallback" not in json.dumps(content.get("decoder")):
        return frozenset()
    names = (f"<0x{byte:02X}>" for byte in range(256))
    return frozenset(known[name] for name in names if name in known)


def _name(token: Any) -> str | None:
    """A token is given by its text, or as an object that has it."""
    name = token.get("content") if isinstance(token, Mapping) else token
    return name if isinstance(name, str) else None


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error}); was it cut short?") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content
