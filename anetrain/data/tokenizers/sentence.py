"""sentencepiece `tokenizer.model` files: reading, training, and conversion to llama2.c's tokenizer.bin."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anetrain import files
from anetrain.data.errors import DataError
from anetrain.data.tokenizers import scored
from anetrain.data.tokenizers.base import Tokenizer
from anetrain.data.tokenizers.pieces import UNKNOWN, PieceStream, PieceTable

if TYPE_CHECKING:
    from collections.abc import Iterable

_TRAINER, _NORMALIZER = 2, 3  # fields of the model's protocol buffer
_BPE = 2


class SentencePieceTokenizer(Tokenizer):
    """A model file, through the sentencepiece library. Where a tokenizer.bin does the same, both have one hash."""

    def __init__(self, path: Path) -> None:
        from sentencepiece import SentencePieceProcessor

        data = path.read_bytes()
        if not data:  # which the library takes for no model at all
            raise DataError(f"{path}: an empty file; expected a tokenizer.model")
        try:
            self._model: Any = SentencePieceProcessor(model_proto=data)
            self._pieces: list[str] = [self._model.id_to_piece(token) for token in range(self._model.vocab_size())]
            settings = _Settings(data)
        except (RuntimeError, ValueError, IndexError) as error:  # also a piece that is not UTF-8
            raise DataError(f"{path}: sentencepiece cannot read it ({error}); expected a tokenizer.model") from None
        self.vocab = len(self._pieces)
        self.bos, self.eos = (None if found < 0 else found for found in (self._model.bos_id(), self._model.eos_id()))
        self._path, self._settings = path, settings
        exact = self._settings.obstacle(self._model) is None
        self.hash = hashlib.sha256(scored.to_bin(self.bin_pieces()) if exact else data).hexdigest()
        values = [self._value(token) for token in range(self.vocab)]
        self._table = PieceTable(values, self._model.unk_id(), self._settings.strips)

    def pieces(self, text: str, *, special: bool) -> list[int]:
        ids: list[int] = self._model.encode(text)
        return ids

    def stream(self) -> PieceStream:
        return PieceStream(self, self._table)

    def bin_pieces(self) -> list[scored.Piece]:
        """The pieces of a tokenizer.bin that does the same."""
        if (obstacle := self._settings.obstacle(self._model)) is not None:
            raise DataError(f"{self._path}: {obstacle}; a tokenizer.bin cannot express that")
        texts = (piece.replace("\u2581", " ").encode() for piece in self._pieces)
        named = [*scored.NAMES, *list(texts)[scored.FIRST_TEXT :]]
        return [(text, self._model.get_score(token)) for token, text in enumerate(named)]

    def _value(self, token: int) -> str | bytes | None:
        piece = self._pieces[token]
        if self._model.is_byte(token):
            return bytes([int(piece[3:5], 16)])
        if self._model.is_control(token):
            return None
        return UNKNOWN if self._model.is_unknown(token) else piece.replace("\u2581", " ")


class _Settings:
    """What of a model's settings decides about pieces, read from its protocol buffer."""

    def __init__(self, data: bytes) -> None:
        fields = {number: value for number, value in _fields(data) if number in (_TRAINER, _NORMALIZER)}
        trainer, normalizer = (dict(_fields(fields.get(number, b""))) for number in (_TRAINER, _NORMALIZER))
        self.bpe = trainer.get(3, 1) == _BPE
        self.suffix = bool(trainer.get(24, 0))
        self.charsmap = bool(normalizer.get(2, b""))
        self.dummy_prefix, self.removes_spaces, self.escapes = (bool(normalizer.get(at, 1)) for at in (3, 4, 5))

    @property
    def strips(self) -> int:
        return sys.maxsize if self.removes_spaces else int(self.dummy_prefix)

    def obstacle(self, model: Any) -> str | None:
        """Why a tokenizer.bin would not do the same; None where it would."""
        ids = (model.unk_id(), model.bos_id(), model.eos_id())
        bytes_there = model.vocab_size() > scored.FIRST_TEXT and all(
            model.id_to_piece(scored.FIRST_BYTE + byte) == f"<0x{byte:02X}>" for byte in range(256)
        )
        special = [token for token in range(scored.FIRST_TEXT, model.vocab_size()) if not _plain(model, token)]
        for wrong, name in (
            (not self.bpe, "it is not a BPE model"),
            (ids != (0, 1, 2), f"unknown, begin and end are ids {ids}, not 0, 1, 2"),
            (not bytes_there, "ids 3 to 258 are not the pieces of the 256 bytes"),
            (bool(special), f"piece {special[:1]} behind them is a special one"),
            (self.charsmap, "it normalises characters"),
            (self.removes_spaces, "it removes spaces"),
            (self.suffix or not self.dummy_prefix or not self.escapes, "it does not put one space before a text"),
        ):
            if wrong:
                return name
        return None


def _plain(model: Any, token: int) -> bool:
    return not (model.is_control(token) or model.is_unused(token) or model.is_byte(token) or model.is_unknown(token))


def train(texts: Iterable[str], target: Path, *, vocab: int, overwrite: bool = False) -> SentencePieceTokenizer:
    """A BPE model, learnt from the lines of texts: of Llama 2's kind, digits apart, with byte pieces, every text as it
    is. `target` is a tokenizer.model."""
    import sentencepiece

    if vocab <= scored.FIRST_TEXT:
        raise ValueError(f"vocab is {vocab}; expected more than {scored.FIRST_TEXT}: 3 special pieces and 256 bytes")
    model, lines = BytesIO(), _Lines(texts)
    with files.replacing(target, overwrite=overwrite) as file:
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(lines),
                model_writer=model,
                model_type="bpe",
                vocab_size=vocab,
                byte_fallback=True,
                character_coverage=0.9999,
                split_digits=True,
                allow_whitespace_only_pieces=True,
                normalization_rule_name="identity",
                remove_extra_whitespaces=False,
                num_threads=1,
                minloglevel=2,
            )
        except RuntimeError as error:
            if lines.error is not None:
                raise lines.error from None
            raise DataError(f"{target}: no tokenizer with {vocab} pieces from these texts: {error}") from None
        file.write(model.getvalue())
    return SentencePieceTokenizer(target)


def check_text(text: str) -> None:
    """Raises DataError for a text that nothing can be learnt from."""
    if "\0" in text:
        raise DataError(f"{text[:40]!r}... holds a NUL, which no tokenizer can be trained on")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(f"{text[:40]!r}... holds half of a surrogate pair, which cannot be UTF-8") from None


class _Lines:
    """Of texts. `error` is what went wrong in finding them: the library makes a RuntimeError of it."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = texts
        self.error: BaseException | None = None

    def __iter__(self) -> Iterator[str]:
        try:
            for text in self._texts:
                check_text(text)
                yield from text.splitlines()
        except BaseException as error:
            self.error = error
            raise


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field of a protocol buffer message: whole numbers, or bytes."""
    if not isinstance(data, bytes):
        raise ValueError(f"{data!r} where a message is expected")
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    while at < len(data):
        field, wire = divmod(number(), 8)
        if wire == 0:
            yield field, number()
        else:
            size = {1: 8, 5: 4}.get(wire) or number()
            yield field, data[at : at + size]
            at += size
