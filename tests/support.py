"""What tests of several contracts share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from anetrain.device import Device


def need(condition: object, reason: str) -> None:
    """Skips the test when a tool is missing; with ANETRAIN_REQUIRE_ALL=1 (CI) that is a failure."""
    if condition:
        return
    if os.environ.get("ANETRAIN_REQUIRE_ALL") == "1":
        pytest.fail(f"needed here: {reason}", pytrace=False)
    pytest.skip(reason)


def emulator(profile: str = "exact", **options: Any) -> Device:
    """An emulated device without budgets: one test process compiles more programs than an engine would let it."""
    from anetrain import device

    unlimited = 2**32 - 1
    return device.open("emulator", profile, **{"live_budget": unlimited, "compile_budget": unlimited, **options})
