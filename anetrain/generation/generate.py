"""Tokens one after the other, and their text as it becomes certain."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from anetrain.data.tokenizers import Stream
from anetrain.generation.engine import Engine
from anetrain.generation.sampling import Sampler


def generate(
    engine: Engine, prompt: Sequence[int], sampler: Sampler, *, most: int, ends: Collection[int] = ()
) -> Iterator[int]:
    """At most `most` new tokens, while the engine has room for them, up to one of `ends`, which is not given."""
    if most < 0:
        raise ValueError(f"most is {most} tokens; expected 0 or more")
    count = min(most, engine.capacity - len(prompt))
    if count <= 0:
        return
    logits = engine.prompt(prompt)
    for left in range(count, 0, -1):
        token = sampler(logits)
        if token in ends:
            return
        yield token
        if left > 1:
            logits = engine.append(token)


def texts(tokens: Iterable[int], stream: Stream) -> Iterator[str]:
    """Pieces of text: a character of several bytes comes when it is whole."""
    for token in tokens:
        if text := stream.push(token):
            yield text
    if text := stream.finish():
        yield text
