"""Batches from one array of token ids: windows in random order for training, in order for validation.

tokens = np.memmap("train.bin", np.uint16)
data = Sampler(tokens, batch=4, seq=256, vocab=32_000, seed=0)
ids, targets = next(data)                                    # int32 [4, 256] each; targets are one token ahead
validation = Windows(held_out, batch=4, seq=256, vocab=32_000)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from anetrain.tokens import Tokens, check_tokens

Ids: TypeAlias = npt.NDArray[np.int32]
Batch: TypeAlias = tuple[Ids, Ids]


class Sampler:
    """Endless batches. An epoch is every window of `seq` tokens once, side by side, in an order of its own and from a
    first token of its own: so each token is seen once per epoch, and over the epochs each start of a window comes.

    The order follows from the seed and the epoch alone, so a few whole numbers are the state, and a run that is resumed
    in the middle of an epoch gets what would have followed.
    """

    def __init__(self, tokens: Tokens, batch: int, seq: int, *, vocab: int, seed: int = 0) -> None:
        check_tokens(tokens, vocab)
        _check_sizes(batch, seq)
        _check_length(len(tokens), seq)
        _check_whole("seed", seed, 0)
        self._tokens, self.batch, self.seq, self.seed = tokens, batch, seq, seed
        self._begin_epoch(0, 0)

    def __iter__(self) -> Sampler:
        return self

    def __next__(self) -> Batch:
        return _batch(self._tokens, [self._next_start() for _ in range(self.batch)], self.seq)

    def state(self) -> dict[str, int]:
        """`position`: how many windows of the epoch were given. `tokens` and `seq` say what it is a state of."""
        own = {"seed": self.seed, "epoch": self.epoch, "position": self.position}
        return own | {"tokens": len(self._tokens), "seq": self.seq}

    def load_state(self, state: Mapping[str, int]) -> None:
        """Takes in what `state` gave; one that does not fit changes nothing."""
        if state.keys() != self.state().keys():
            raise ValueError(f"state of the sampler has {', '.join(state)}; expected {', '.join(self.state())}")
        for name, value in state.items():
            _check_whole(name, value, 0)
        for name, own in (("tokens", len(self._tokens)), ("seq", self.seq)):
            if state[name] != own:
                raise ValueError(f"state of the sampler: {name} is {state[name]}, here it is {own}: other data")
        epoch, position = state["epoch"], state["position"]
        windows = len(_starts(len(self._tokens), self.seq, state["seed"], epoch))
        if position > windows:
            raise ValueError(f"state of the sampler: position is {position}, but epoch {epoch} has {windows} windows")
        self.seed = state["seed"]
        self._begin_epoch(epoch, position)

    def _begin_epoch(self, epoch: int, position: int) -> None:
        self.epoch, self.position = epoch, position
        self._order = _starts(len(self._tokens), self.seq, self.seed, epoch)

    def _next_start(self) -> int:
        if self.position == len(self._order):
            self._begin_epoch(self.epoch + 1, 0)
        self.position += 1
        return int(self._order[self.position - 1])


class Windows:
    """All tokens once, in order, as often as it is iterated: for validation. Targets that fill up the last batch are
    -1, which do not count."""

    def __init__(self, tokens: Tokens, batch: int, seq: int, *, vocab: int) -> None:
        check_tokens(tokens, vocab)
        _check_sizes(batch, seq)
        _check_length(len(tokens), 1)
        self._tokens, self.batch, self.seq = tokens, batch, seq

    def __len__(self) -> int:
        """Batches."""
        return -(-(len(self._tokens) - 1) // (self.batch * self.seq))

    def __iter__(self) -> Iterator[Batch]:
        size = self.batch * self.seq
        for begin in range(0, len(self._tokens) - 1, size):
            piece = np.asarray(self._tokens[begin : begin + size + 1], np.int32)
            ids, targets = np.zeros(size, np.int32), np.full(size, -1, np.int32)
            ids[: len(piece) - 1], targets[: len(piece) - 1] = piece[:-1], piece[1:]
            yield ids.reshape(self.batch, self.seq), targets.reshape(self.batch, self.seq)


def _batch(tokens: Tokens, starts: list[int], seq: int) -> Batch:
    windows = np.stack([tokens[start : start + seq + 1] for start in starts]).astype(np.int32)  # [batch, seq + 1]
    return np.ascontiguousarray(windows[:, :-1]), np.ascontiguousarray(windows[:, 1:])


def _starts(count: int, seq: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Of all windows of an epoch, in order: each has its `seq` tokens and the one behind them."""
    random = np.random.default_rng([seed, epoch])
    first = int(random.integers(min(seq, count - seq)))
    return first + seq * random.permutation((count - 1 - first) // seq)


def _check_sizes(batch: int, seq: int) -> None:
    _check_whole("batch", batch, 1)
    _check_whole("seq", seq, 1)


def _check_length(count: int, seq: int) -> None:
    if count < seq + 1:
        raise ValueError(f"the data has {count} tokens; windows of {seq} and the token behind them need {seq + 1}")


def _check_whole(name: str, value: int, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} is {value!r}; expected a whole number, at least {least}")
