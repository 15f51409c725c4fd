"""What a Trainer gives back: of a group of micro-steps, of an evaluation, of a run, and its state."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from anetrain.cpu._arrays import Floats


@dataclass(frozen=True)
class StepResult:
    """One accumulation group.

    update       how many updates the weights have had
    loss_scale   that of this group
    applied      False: the group was dropped, for `reason`; nothing but the loss scale has changed
    loss         the mean over the tokens that count; NaN where the group was dropped before its end
    norm         of the gradient, before clipping; NaN where the group was dropped
    replays      how often the device failed and the group was run again
    parts        where the seconds went, by anetrain.account.PARTS
    """

    update: int
    lr: float
    loss_scale: float
    micro_steps: int
    tokens: int
    applied: bool = False
    reason: str = ""
    loss: float = math.nan
    norm: float = math.nan
    clipped: bool = False
    replays: int = 0
    seconds: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)


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
