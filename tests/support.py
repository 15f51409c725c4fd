"""What tests of several contracts share."""

from __future__ import annotations

import os

import pytest


def need(condition: object, reason: str) -> None:
    """Skips the test when a tool is missing; with ANETRAIN_REQUIRE_ALL=1 (CI) that is a failure."""
    if condition:
        return
    if os.environ.get("ANETRAIN_REQUIRE_ALL") == "1":
        pytest.fail(f"needed here: {reason}", pytrace=False)
    pytest.skip(reason)
