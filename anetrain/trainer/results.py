"""What a Trainer gives back: of a group of micro-steps, of an evaluation, of a run, and its state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from anetrain.cpu._arrays import Floats


@dataclass(frozen=True)
class StepResult:
    """One accumulation group.

    applied      False: the group was dropped, for `reason`; nothing but the loss scale has changed
    update       how many updates the weights have had
    loss         the mean over the tokens that count; NaN where the group was dropped before its end
    norm         of the gradient, before clipping; NaN likewise
    loss_scale   that of this group
    replays      how often the device failed and the group was run again
    parts        where the seconds went, by anetrain.account.PARTS
    """

    applied: bool
    reason: str
    update: int
    loss: float
    lr: float
    norm: float
    clipped: bool
    loss_scale: float
    micro_steps: int
    tokens: int
    replays: int
    seconds: float
    parts: dict[str, float]


@dataclass(frozen=True)
class Evaluation:
    """`loss`: the mean over all tokens that count."""

    loss: float
    tokens: int


@dataclass(frozen=True)
class FitResult:
    """`last`: of the last group; `validation`: the last one."""

    updates: int
    dropped: int
    last: StepResult | None
    validation: Evaluation | None


@dataclass(frozen=True)
class TrainerState:
    """All that training needs besides the weights. Arrays are the optimizer's own, not copies; values are JSON's."""

    arrays: dict[str, Floats] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
