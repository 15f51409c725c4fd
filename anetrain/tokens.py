"""Token ids as they come from outside: looked at once, before anything is indexed with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Tokens: TypeAlias = npt.NDArray[np.integer[Any]]

AT_ONCE = 1 << 22  # ids: a mapped file is looked through without being in memory as a whole


def check_tokens(tokens: Tokens, vocab: int) -> None:
    """Raises ValueError unless these are ids, 0 to vocab - 1, in one dimension."""
    if not isinstance(tokens, np.ndarray) or tokens.ndim != 1 or tokens.dtype.kind not in "iu":
        found = f"{tokens.dtype} {list(tokens.shape)}" if isinstance(tokens, np.ndarray) else type(tokens).__name__
        raise ValueError(f"tokens is {found}; expected an array of whole numbers in one dimension")
    for begin, piece in pieces(tokens):
        if piece.min() < 0 or piece.max() >= vocab:
            position = int(np.argmax((piece < 0) | (piece >= vocab)))
            raise ValueError(
                f"token {begin + position} has the id {piece[position]}; expected 0 to {vocab - 1}. Was this data made "
                "for another vocabulary?"
            )


def pieces(tokens: Tokens) -> Iterator[tuple[int, Tokens]]:
    """(position, some tokens from there on)"""
    for begin in range(0, len(tokens), AT_ONCE):
        yield begin, tokens[begin : begin + AT_ONCE]
