"""The static checker: what stands against a program under a chip's profile, before anything is compiled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from anetrain import _arguments as arguments
from anetrain import _device
from anetrain.errors import ArgumentError


@dataclass(frozen=True)
class Finding:
    """One thing that a device refuses, or (``advice``) takes although it often goes wrong."""

    profile: str
    rule: str
    """A name of ``rule_table()``, or ``"sorted-names"``; ``""`` where the text or a blob is wrong for every profile."""
    stage: str
    """Where the device would say so: ``"compile"``, ``"load"``, ``"evaluate"``; ``"numerics"``: values change."""
    advice: bool
    subject: str
    """What it is about: ``"input 'x'"``, ``"conv 'y'"``, ``"the program"``."""
    value: str
    """What was found."""
    limit: str
    """What the rule allows."""
    detail: str
    """All of it as a sentence, with place and what to do: that of the compile error, which adds the profile."""
    summary: str
    """What the rule says, and (``source``) who found it."""
    source: str
    line: int
    """1-based place in the text; 0 where there is none."""
    column: int

    def __str__(self) -> str:
        kind = "advice, " if self.advice else ""
        rule = f", rule {self.rule}" if self.rule else ""
        return f"{kind}profile {self.profile}{rule}: {self.detail}"


def check(
    text: str | bytes | arguments.ProgramSource,
    blobs: Mapping[str, Any] | None = None,
    *,
    profile: str,
    allow_unproven: bool = False,
    fp32: bool = False,
    rules: Mapping[str, bool | int | float] | None = None,
) -> list[Finding]:
    """All that stands against a program on an emulated chip, in the order in which a device would find it.

    Takes what ``Device.compile`` takes, and the options of ``open``. No device is opened, nothing is compiled, counted
    or run. The rules are the emulator's own: a program is refused by ``compile`` if and only if a finding of stage
    compile or load is no advice. One of stage evaluate means that every evaluation would fail.
    """
    mil, files = arguments.program(text, blobs)
    name = arguments.text("profile", profile)
    if not name:
        raise ArgumentError("the profile has no name: give one of profiles(), or the path of a .profile file")
    switches = arguments.switches(rules or {})
    return [Finding(name, **found) for found in _device.check(mil, files, name, fp32, allow_unproven, switches)]
