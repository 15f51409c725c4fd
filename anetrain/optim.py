"""Optimizers: AdamW in one pass over memory, and plain SGD; groups, clipping, and refusal of what is not finite.

    optimizer = AdamW(model.parameters, weights, gradients, weight_decay=0.1, clip=1.0)
    result = optimizer.step(lr=schedule(update), count=10)   # gradients are sums over 10 micro-steps
    if not result.finite: ...                                # nothing has changed, the gradients are dropped

Weights and gradients are changed where they are. After a step, taken or refused, the gradients are zero.
"""

from __future__ import annotations

import difflib
import fnmatch
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from anetrain import cpu
from anetrain.cpu._arrays import Floats
from anetrain.graph import Parameter

# What is to be copied of the new weights; there while the update runs.
Copies: TypeAlias = AbstractContextManager[Sequence[cpu.HalfCopies]]
EMBEDDING = "embedding"  # the name of a model's table, tied to its classifier or not
# Squares of the gradient are kept in fp32: past this norm one might be infinite there, and would stay so for good.
LARGEST_NORM = float(np.sqrt(np.finfo(np.float32).max))


@dataclass(frozen=True)
class Group:
    """Parameters whose names match a pattern: "layers.*.attention.*", or several of them.

    `lr_factor` multiplies the learning rate; `decay` replaces the optimizer's weight decay for all parameters of the
    group, gains and biases included. The first group that matches a parameter has it.
    """

    patterns: str | Sequence[str]
    lr_factor: float = 1.0
    decay: float | None = None

    def __post_init__(self) -> None:
        if not self.names:
            raise ValueError("patterns of a group are empty; expected names such as 'layers.*.ffn.w1'")
        _check_not_negative("lr_factor", self.lr_factor)
        if self.decay is not None:
            _check_not_negative("decay", self.decay)

    @property
    def names(self) -> tuple[str, ...]:
        return (self.patterns,) if isinstance(self.patterns, str) else tuple(self.patterns)

    def matches(self, name: str) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.names)


@dataclass(frozen=True)
class Setting:
    """What one parameter has from its group and from the optimizer."""

    lr_factor: float
    decay: float


@dataclass(frozen=True)
class StepResult:
    """`norm`: of the averaged gradient, before it was clipped. Not `finite`: the step was refused. `copied`: the copies
    that were given were made."""

    norm: float
    clipped: bool
    finite: bool
    copied: bool = False


@dataclass(frozen=True)
class OptimizerState:
    """What a checkpoint keeps. The arrays are the optimizer's own, not copies."""

    arrays: dict[str, Floats] = field(default_factory=dict)
    integers: dict[str, int] = field(default_factory=dict)


class Optimizer(ABC):
    """`parameters`, `weights`, `gradients`: by the same names.

    weight_decay      of matrices; gains and biases have none (Parameter.decay), nor has the embedding, whose rows would
                      decay for words that never come, unless `decay_embedding`
    clip              the largest norm of the whole gradient; None: not clipped
    groups            what differs from that, by patterns of names
    """

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        weights: Mapping[str, Floats],
        gradients: Mapping[str, Floats],
        *,
        groups: Iterable[Group] = (),
        weight_decay: float = 0.0,
        decay_embedding: bool = False,
        clip: float | None = None,
    ) -> None:
        _check_arrays("weights", parameters, weights)
        _check_arrays("gradients", parameters, gradients)
        _check_apart(
            {
                f"{what} {name}": arrays[name]
                for what, arrays in (("weight", weights), ("gradient", gradients))
                for name in parameters
            }
        )
        _check_not_negative("weight_decay", weight_decay)
        if clip is not None and not 0.0 < clip < math.inf:
            raise ValueError(f"clip is {clip}; expected a positive number, or None for no clipping")
        self.clip = clip
        self.updates = 0
        """How many steps were taken; refused ones do not count."""
        self._gradients = [gradients[name] for name in parameters]
        self.settings = _settings(parameters, tuple(groups), weight_decay, decay_embedding)
        """By the name of the parameter."""

    @property
    def takes_copies(self) -> bool:
        """Whether `step` makes copies of the new weights."""
        return False

    def step(self, lr: float, count: int, scale: float = 1.0, *, copies: Copies | None = None) -> StepResult:
        """One update from gradients that are sums over `count` micro-steps, times `scale`.

        They are divided by both, so that the last group of an epoch may be shorter than others. A norm that is not
        finite, or too large for the squares to be kept, changes nothing but the gradients, which are dropped.

        `copies`, where it `takes_copies`, are entered for the update alone, and made in its pass over memory.
        """
        if copies is not None and not self.takes_copies:
            raise ValueError(f"{type(self).__name__} makes no copies of weights: see takes_copies")
        _check_not_negative("lr", lr)
        if not isinstance(count, int) or count < 1:
            raise ValueError(f"count is {count!r}; expected how many micro-steps were accumulated, at least 1")
        if not 0.0 < scale < math.inf:
            raise ValueError(f"scale is {scale}; expected a positive number")
        norm = math.sqrt(cpu.sum_of_squares(self._gradients)) / (count * scale)
        clipped = self.clip is not None and norm > self.clip
        used = self.clip if self.clip is not None and clipped else norm
        if not (math.isfinite(norm) and used <= LARGEST_NORM):
            self.clear_gradients()
            return StepResult(norm, clipped=False, finite=False)
        self.updates += 1
        factor = used / norm / (count * scale) if clipped else 1.0 / (count * scale)
        if copies is None:
            self._update(lr, factor)
        else:
            with copies as made:
                self._update(lr, factor, made)
        return StepResult(norm, clipped, finite=True, copied=copies is not None)

    def clear_gradients(self) -> None:
        for gradient in self._gradients:
            gradient.fill(0.0)

    @abstractmethod
    def _update(self, lr: float, factor: float, copies: Sequence[cpu.HalfCopies] = ()) -> None:
        """Update number self.updates, from the gradients times `factor`; leaves zeros in them. There are `copies` only
        for an optimizer that takes them."""

    def state(self) -> OptimizerState:
        return OptimizerState(self._state_arrays(), {"updates": self.updates})

    def load_state(self, state: OptimizerState) -> None:
        """Takes in what `state` gave. Everything is checked first: a state that does not fit changes nothing."""
        own = self._state_arrays()
        _check_names("state", own, state.arrays)
        _check_names("state", {"updates": 0}, state.integers)
        for name, array in state.arrays.items():
            _check_array(name, array, own[name].shape)
            self._check_values(name, array)
        updates = state.integers["updates"]
        if not isinstance(updates, int) or updates < 0:
            raise ValueError(f"updates is {updates!r}; expected a whole number of updates, 0 or more")
        for name, array in state.arrays.items():
            np.copyto(own[name], array)
        self.updates = updates

    def _state_arrays(self) -> dict[str, Floats]:
        return {}

    def _check_values(self, name: str, array: Floats) -> None:
        if not math.isfinite(cpu.sum_of_squares([np.ascontiguousarray(array)])):
            raise ValueError(f"{name} holds values that are not finite; the state is damaged")


class AdamW(Optimizer):
    """Decoupled weight decay. Its state is two running means of each parameter, `mean.NAME` and `square.NAME`."""

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        weights: Mapping[str, Floats],
        gradients: Mapping[str, Floats],
        *,
        groups: Iterable[Group] = (),
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.1,
        decay_embedding: bool = False,
        clip: float | None = 1.0,
    ) -> None:
        super().__init__(
            parameters,
            weights,
            gradients,
            groups=groups,
            weight_decay=weight_decay,
            decay_embedding=decay_embedding,
            clip=clip,
        )
        if len(betas) != 2 or not all(0.0 <= beta < 1.0 for beta in betas):
            raise ValueError(f"betas is {betas}; expected two numbers, at least 0 and below 1")
        if not 0.0 < eps < math.inf:
            raise ValueError(f"eps is {eps}; expected a positive number")
        self.betas, self.eps = betas, eps
        mean, square = (cpu.zeros_by_name({name: item.shape for name, item in parameters.items()}) for _ in range(2))
        self._tensors = {
            name: cpu.AdamWTensor(
                weights[name],
                gradients[name],
                mean[name],
                square[name],
                self.settings[name].lr_factor,
                self.settings[name].decay,
            )
            for name in parameters
        }

    @property
    def takes_copies(self) -> bool:
        """Not where a class made of this one changes weights in its own way."""
        return type(self)._update is AdamW._update and type(self).step is Optimizer.step

    def _update(self, lr: float, factor: float, copies: Sequence[cpu.HalfCopies] = ()) -> None:
        cpu.adamw(
            list(self._tensors.values()),
            self.updates,
            lr=lr,
            betas=self.betas,
            eps=self.eps,
            factor=factor,
            clear=True,
            copies=copies,
        )

    def _state_arrays(self) -> dict[str, Floats]:
        means = {f"mean.{name}": tensor.mean for name, tensor in self._tensors.items()}
        return means | {f"square.{name}": tensor.square for name, tensor in self._tensors.items()}

    def _check_values(self, name: str, array: Floats) -> None:
        super()._check_values(name, array)
        if name.startswith("square.") and array.min() < 0.0:
            raise ValueError(f"{name} holds {array.min()}, and squares are never negative; the state is damaged")


class SGD(Optimizer):
    """Weights move by lr times the gradient, and decay. There is no momentum."""

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        weights: Mapping[str, Floats],
        gradients: Mapping[str, Floats],
        *,
        groups: Iterable[Group] = (),
        weight_decay: float = 0.0,
        decay_embedding: bool = False,
        clip: float | None = None,
    ) -> None:
        super().__init__(
            parameters,
            weights,
            gradients,
            groups=groups,
            weight_decay=weight_decay,
            decay_embedding=decay_embedding,
            clip=clip,
        )
        self._tensors = [(self.settings[name], weights[name], gradients[name]) for name in parameters]

    def _update(self, lr: float, factor: float, copies: Sequence[cpu.HalfCopies] = ()) -> None:
        for setting, weight, gradient in self._tensors:
            rate = lr * setting.lr_factor
            if setting.decay:
                cpu.scale(weight, 1.0 - rate * setting.decay, out=weight)
            cpu.add(weight, gradient, -rate * factor, out=weight)
        self.clear_gradients()


def _settings(
    parameters: Mapping[str, Parameter], groups: tuple[Group, ...], weight_decay: float, decay_embedding: bool
) -> dict[str, Setting]:
    for pattern in (pattern for group in groups for pattern in group.names):
        if not fnmatch.filter(parameters, pattern):
            near = difflib.get_close_matches(pattern, parameters, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(parameters)}"
            raise ValueError(f"groups: no parameter matches {pattern!r}{hint}")
    settings = {}
    for name, parameter in parameters.items():
        decay = weight_decay if parameter.decay and (decay_embedding or name != EMBEDDING) else 0.0
        group = next((group for group in groups if group.matches(name)), None)
        if group is not None and group.decay is not None:
            decay = group.decay
        settings[name] = Setting(group.lr_factor if group else 1.0, decay)
    return settings


def _check_arrays(what: str, parameters: Mapping[str, Parameter], arrays: Mapping[str, Floats]) -> None:
    _check_names(what, parameters, arrays)
    for name, parameter in parameters.items():
        array = arrays[name]
        _check_array(f"{what}: {name}", array, parameter.shape)
        if not (array.flags.c_contiguous and array.flags.writeable):
            raise ValueError(f"{what}: {name} must be contiguous and writeable, for it is changed in place")


def _check_apart(arrays: Mapping[str, Floats]) -> None:
    """Two names for one memory would be updated twice."""
    places = sorted((array.ctypes.data, array.nbytes, name) for name, array in arrays.items())
    for (begin, length, name), (next_begin, _, next_name) in itertools.pairwise(places):
        if begin + length > next_begin:
            raise ValueError(f"{name} and {next_name} share memory; give shared tensors one name")


def _check_names(what: str, expected: Iterable[str], found: Iterable[str]) -> None:
    missing = [name for name in expected if name not in set(found)]
    unknown = [name for name in found if name not in set(expected)]
    if missing or unknown:
        raise ValueError(f"{what}: missing {', '.join(missing) or 'none'}; unknown {', '.join(unknown) or 'none'}")


def _check_array(name: str, array: Floats, shape: tuple[int, ...]) -> None:
    if array.dtype != np.float32 or array.shape != shape:
        raise ValueError(f"{name} is {array.dtype} {list(array.shape)}; expected float32 {list(shape)}")


def _check_not_negative(name: str, value: float) -> None:
    if not 0.0 <= value < math.inf:
        raise ValueError(f"{name} is {value}; expected a finite number, 0 or more")
