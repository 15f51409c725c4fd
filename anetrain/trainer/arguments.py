"""What a Trainer is given, and whether it fits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from anetrain.mil.types import Array

Pair = tuple[npt.ArrayLike, npt.ArrayLike]
Batches = Iterable[Pair]


@runtime_checkable
class Resumable(Protocol):
    """Data that can be told where to go on, such as a Sampler."""

    def state(self) -> dict[str, Any]: ...
    def load_state(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class MicroBatch:
    """`tokens`: how many targets count."""

    ids: Array
    targets: Array
    tokens: int

    @classmethod
    def copied(cls, pair: Pair) -> MicroBatch:
        """The group may have to be run again, and who gave these arrays may use their memory for the next ones."""
        ids, targets = pair
        own = np.array(targets)
        return cls(np.array(ids), own, int(np.count_nonzero(own >= 0)))


def check_run(updates: int | None, validation: Batches | None, validate_every: int | None) -> None:
    if updates is not None:
        check_whole("updates", updates, 1)
    if validate_every is not None:
        check_whole("validate_every", validate_every, 1)
        if validation is None:
            raise ValueError("validate_every without validation: there is nothing to validate with")
    if isinstance(validation, Iterator):
        raise ValueError(
            f"validation is a {type(validation).__name__}, which can be iterated only once, or has no end; "
            "expected a list, or anetrain.data.Windows"
        )


def checked_progress(progress: dict[str, Any]) -> tuple[int, int, float | None]:
    if progress.keys() != {"micro_steps", "tokens", "best_loss"}:
        raise ValueError(f"progress has {', '.join(progress)}; expected micro_steps, tokens, best_loss")
    best = progress["best_loss"]
    for name in ("micro_steps", "tokens"):
        check_whole(name, progress[name], 0)
    if best is not None and not (isinstance(best, float) and math.isfinite(best)):
        raise ValueError(f"best_loss is {best!r}; expected a finite number, or None")
    return progress["micro_steps"], progress["tokens"], best


def check_whole(name: str, value: int, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} is {value!r}; expected a whole number, at least {least}")
