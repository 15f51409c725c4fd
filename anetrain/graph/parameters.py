"""What is trained: names, shapes and first values of parameters, and the order in which a device sees their rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias, Union

import numpy as np
import numpy.typing as npt

from anetrain.cpu import half_split_order

if TYPE_CHECKING:
    from anetrain.mil.graph import Value

Init = Literal["normal", "ones", "zeros"]
WeightTree: TypeAlias = Mapping[str, Union["Parameter", "WeightTree"]]


@dataclass(frozen=True)
class Parameter:
    """One trained tensor. `name` is its dotted path inside the block: "attention.wq"."""

    shape: tuple[int, ...]
    init: Init = "normal"
    deviation: float = 0.0  # of init "normal"
    decay: bool = True  # does weight decay apply?
    paired_head: int = 0  # head_dim where RoPE pairs are neighbouring rows here; devices see each head half-split
    name: str = ""

    def __post_init__(self) -> None:
        _check_shape(self.shape)
        if self.paired_head:
            half_split_order(self.shape[0], self.paired_head)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def initial(self, random: np.random.Generator) -> npt.NDArray[np.float32]:
        if self.init == "normal":
            return np.asarray(random.standard_normal(self.shape, dtype=np.float32) * np.float32(self.deviation))
        return np.full(self.shape, 1.0 if self.init == "ones" else 0.0, np.float32)


def matrix(rows: int, columns: int, *, paired_head: int = 0, deviation: float | None = None) -> Parameter:
    """[rows, columns], applied as W x to channel-first activations: `columns` is the fan-in."""
    _check_shape((rows, columns))
    spread = 1.0 / math.sqrt(columns) if deviation is None else deviation
    return Parameter((rows, columns), "normal", spread, paired_head=paired_head)


def gain(length: int, *, paired_head: int = 0) -> Parameter:
    """A vector of factors, 1 at first, not decayed."""
    return Parameter((length,), "ones", decay=False, paired_head=paired_head)


def bias(length: int, *, paired_head: int = 0) -> Parameter:
    """A vector of summands, 0 at first, not decayed."""
    return Parameter((length,), "zeros", decay=False, paired_head=paired_head)


def _check_shape(shape: tuple[int, ...]) -> None:
    if not 1 <= len(shape) <= 5 or any(not isinstance(n, int) or n < 1 for n in shape):
        raise ValueError(f"a parameter of shape {list(shape)}: expected 1 to 5 positive whole numbers")


def named(tree: WeightTree, prefix: str = "") -> Iterator[Parameter]:
    """The parameters of a tree of weights, each with its dotted path as name."""
    for key, item in tree.items():
        if not key.isidentifier():
            raise ValueError(f"weight {prefix + key!r}: a name is letters, digits and _, not starting with a digit")
        if isinstance(item, Parameter):
            yield replace(item, name=prefix + key)
        elif isinstance(item, Mapping):
            yield from named(item, f"{prefix}{key}.")
        else:
            raise ValueError(
                f"weight {prefix + key!r} is {type(item).__name__}, expected matrix(), gain(), bias() or a dict"
            )


class Weights:
    """The values of a block's parameters by attribute: w.attention.wq."""

    def __init__(self, values: Mapping[str, Value], prefix: str = "") -> None:
        self._values, self._prefix = values, prefix

    def __getattr__(self, name: str) -> Value | Weights:
        path = self._prefix + name
        if path in self._values:
            return self._values[path]
        if any(key.startswith(path + ".") for key in self._values):
            return Weights(self._values, path + ".")
        known = ", ".join(key.removeprefix(self._prefix) for key in self._values if key.startswith(self._prefix))
        raise AttributeError(f"no weight {path!r}; this block has {known or 'none'}")
