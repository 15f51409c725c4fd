"""What can go wrong with a device.

Every exception is an ``ANEError``. It carries what the hardware, real or emulated, said (``domain``, ``code``,
``text``) beside what that means (``detail``) and where it was (``rule``, ``line``, ``column``, ``label``).
"""

from __future__ import annotations

from enum import IntEnum

__all__ = [
    "ANEError",
    "ArgumentError",
    "BudgetError",
    "CompileError",
    "DeviceUnavailable",
    "EvalError",
    "Status",
    "SurfaceError",
    "UnloadError",
]


class Status(IntEnum):
    """``ane_status`` of csrc/device/ane.h."""

    OK = 0
    COMPILE_FAILED = 1
    EVAL_FAILED = 2
    BUDGET_EXCEEDED = 3
    SURFACE_ERROR = 4
    UNAVAILABLE = 5
    BAD_ARGUMENT = 6
    UNLOAD_FAILED = 7


class ANEError(Exception):
    """A device failed, or was asked for something it cannot do."""

    status: Status = Status.UNAVAILABLE

    def __init__(
        self,
        detail: str,
        *,
        code: int = 0,
        domain: str = "",
        text: str = "",
        rule: str = "",
        line: int = 0,
        column: int = 0,
        label: str = "",
    ) -> None:
        self.detail = detail
        """What was wrong and where, what was found and expected, what to do."""
        self.code = code
        """NSError code, or the one the hardware would give; 0 where there is none."""
        self.domain = domain
        """NSError domain, e.g. ``com.apple.appleneuralengine.compiler``."""
        self.text = text
        """The hardware's own words."""
        self.rule = rule
        """The profile rule that was broken."""
        self.line = line
        """1-based place in the MIL text; 0 where there is none."""
        self.column = column
        self.label = label
        """The program's label."""
        super().__init__(self._message())

    def _message(self) -> str:
        prefix = f"{self.label}: " if self.label else ""
        rule = f"rule {self.rule}" if self.rule else ""
        hardware = f"{self.text} ({self.domain}, code {self.code})" if self.text else ""
        suffix = "; ".join(part for part in (rule, hardware) if part)
        return prefix + self.detail + (f" [{suffix}]" if suffix else "")

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles whole: worker processes send errors home."""
        record = (self.code, self.domain, self.text, self.detail, self.rule, self.line, self.column, self.label)
        return from_record, (int(self.status), *record)


class CompileError(ANEError):
    """The program was refused: its text, its blobs, a limit of the compiler, or at load."""

    status = Status.COMPILE_FAILED


class EvalError(ANEError):
    """The engine, or its emulation, reported a failed evaluation. Outputs are unreadable until written again."""

    status = Status.EVAL_FAILED


class UnloadError(ANEError):
    """The engine did not give a program's place back. The program is gone all the same: do not unload it again."""

    status = Status.UNLOAD_FAILED


class BudgetError(ANEError):
    """Live programs or compiles of this process would pass their budget; nothing was tried."""

    status = Status.BUDGET_EXCEEDED


class SurfaceError(ANEError):
    """A surface is too small, locked, not locked, or holds what a failed evaluation left."""

    status = Status.SURFACE_ERROR


class DeviceUnavailable(ANEError):  # noqa: N818 (the name of the state, as users say it)
    """No such device here, poisoned by a time-out, or used in a forked child."""

    status = Status.UNAVAILABLE


class ArgumentError(ANEError, ValueError):
    """A mistake of the caller: an unknown name, a wrong shape or option, an unloaded program."""

    status = Status.BAD_ARGUMENT


_CLASSES: dict[int, type[ANEError]] = {
    cls.status: cls
    for cls in (CompileError, EvalError, BudgetError, SurfaceError, DeviceUnavailable, ArgumentError, UnloadError)
}


def from_record(
    status: int, code: int, domain: str, text: str, detail: str, rule: str, line: int, column: int, label: str
) -> ANEError:
    """The exception for an ``ane_error``."""
    cls = _CLASSES[status]
    return cls(detail, code=code, domain=domain, text=text, rule=rule, line=line, column=column, label=label)
