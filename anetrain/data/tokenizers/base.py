"""What every tokenizer can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence

from anetrain.data.errors import DataError


class Tokenizer(ABC):
    """Text to ids and back. `decode` is what `stream` gives piece by piece."""

    vocab: int
    """Every id is less."""
    bos: int | None
    eos: int | None
    hash: str
    """SHA-256, in hex, of what decides about ids: it travels with shards and checkpoints."""

    @abstractmethod
    def pieces(self, text: str, *, special: bool) -> list[int]:
        """The ids of text alone. With `special`, names of special tokens in it stand for them, where there are any."""

    @abstractmethod
    def stream(self) -> Stream:
        """Decodes one text, id by id."""

    def encode(self, text: str, *, bos: bool = False, eos: bool = False, special: bool = False) -> list[int]:
        """Ids of a text, after its first (`bos`) and before its last (`eos`), where asked for."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"character {error.start} of the text is {text[error.start]!r}, half of a surrogate pair; expected "
                "text that can be written as UTF-8"
            ) from None
        ids = [self._known("bos", self.bos)] if bos else []
        ids += self.pieces(text, special=special)
        return [*ids, self._known("eos", self.eos)] if eos else ids

    def decode(self, ids: Iterable[int]) -> str:
        """Special tokens give no text; bytes that are not UTF-8 become U+FFFD."""
        stream = self.stream()
        return "".join([*map(stream.push, ids), stream.finish()])

    @property
    def document_start(self) -> int:
        """The id that documents begin with in training data: the first of a text, or the last of the one before."""
        if self.bos is None and self.eos is None:
            raise DataError("the tokenizer has neither a first nor a last token: it cannot mark documents")
        return self._known("eos", self.eos) if self.bos is None else self.bos

    @property
    def ends(self) -> frozenset[int]:
        """Ids behind which a text is over: the last of a text, and the first of the next one."""
        return frozenset(token for token in (self.bos, self.eos) if token is not None)

    def chat(self, messages: Sequence[Mapping[str, str]], *, thinking: bool = True) -> list[int]:
        """Ids of a conversation and of the begin of an answer: messages have a role (system, user, assistant) and a
        content. `thinking=False` asks a model that can think not to."""
        raise DataError("this tokenizer has no chat template; give the model a prompt")

    def _known(self, name: str, value: int | None) -> int:
        if value is None:
            raise DataError(f"the tokenizer has no {name} token")
        return value

    def _checked(self, token: int) -> int:
        if not 0 <= token < self.vocab:
            raise DataError(f"id {token} is not the tokenizer's: expected 0 to {self.vocab - 1}")
        return token


class Stream(ABC):
    """Text as it comes. A character that takes several ids is given when its last one was pushed."""

    @abstractmethod
    def push(self, token: int) -> str:
        """The text that is certain now."""

    @abstractmethod
    def finish(self) -> str:
        """The rest: what began as a character and did not become one."""
