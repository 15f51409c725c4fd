"""The builtin stories as token ids, made in memory: what training takes where there is no other data. And as text."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from anetrain import files
from anetrain.data.corpus import stories
from anetrain.data.documents import SEPARATOR
from anetrain.data.shards import Progress
from anetrain.data.tokenizers import builtin_tokenizer
from anetrain.tokens import Tokens

FIRST_HELD_OUT = 1 << 32
"""Training takes stories from 0 on, validation from here: more of the ones are never some of the others."""

_OFTEN = 250  # stories between two calls of progress


def builtin_tokens(
    train: int = 10_000, validation: int = 500, *, progress: Progress | None = None
) -> tuple[Tokens, Tokens]:
    """Ids of so many stories, for training and for validation. 10 000 are 2.3 million ids, in about three seconds."""
    for name, count in (("train", train), ("validation", validation)):
        if not 0 < count <= FIRST_HELD_OUT:
            raise ValueError(f"{name} is {count} stories; expected 1 to {FIRST_HELD_OUT}")
    tokenizer = builtin_tokenizer()
    sets: list[Tokens] = []
    done = 0
    for begin, count in ((0, train), (FIRST_HELD_OUT, validation)):
        ids: list[int] = []
        for text in stories(begin, begin + count):
            ids += tokenizer.encode(text, bos=True)
            done += 1
            if progress is not None and (done % _OFTEN == 0 or done == train + validation):
                progress(done, train + validation)
        sets.append(np.array(ids, np.uint16))
    return sets[0], sets[1]


def write_stories(
    path: Path, count: int, *, begin: int = 0, overwrite: bool = False, progress: Progress | None = None
) -> None:
    """Stories from number `begin` on, as a .txt for `prepare`. 10 000 are 8.8 MB."""
    if not 0 < count <= FIRST_HELD_OUT:
        raise ValueError(f"{path}: {count} stories; expected 1 to {FIRST_HELD_OUT}")
    with files.replacing(path, overwrite=overwrite) as file:
        for done, text in enumerate(stories(begin, begin + count), 1):
            file.write(f"{text}\n{SEPARATOR}\n".encode())
            if progress is not None and (done % _OFTEN == 0 or done == count):
                progress(done, count)
