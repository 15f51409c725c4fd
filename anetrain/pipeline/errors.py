"""What a pipeline can refuse or report, besides the errors of the device."""

from __future__ import annotations

from collections.abc import Sequence


class PlanError(ValueError):
    """A plan, or an array bound to it, that does not fit."""


class NonFiniteError(ArithmeticError):
    """A backward whose results are not finite. Gradients of parameters are as they were before it.

    `where`: in which layer, or in what else. `values`: which ones, by name.
    """

    def __init__(self, where: str, values: Sequence[str]) -> None:
        self.where, self.values = where, tuple(values)
        super().__init__(
            f"{where}: not finite: {', '.join(values)}; nothing was added to the gradients. "
            "Drop this group of micro-steps and go on with half the loss scale"
        )
