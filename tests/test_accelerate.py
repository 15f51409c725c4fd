"""Over a shim, the Accelerate branch of csrc/cpu gives what the portable one gives (scripts/check_accelerate.py), and
the check can fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import check_accelerate
from tests.support import need

HEADER = check_accelerate.STUBS / "Accelerate" / "Accelerate.h"
WORK = check_accelerate.ROOT / "build" / "accelerate"


@pytest.fixture(autouse=True)
def tools() -> None:
    missing = check_accelerate.missing_tools()
    need(not missing, "for the Accelerate check: " + ", ".join(missing))


def changed(path: Path, text: str, replacement: str, target: Path) -> Path:
    before = path.read_text()
    assert text in before
    target.write_text(before.replace(text, replacement))
    return target


@pytest.fixture
def work() -> Path:
    WORK.mkdir(parents=True, exist_ok=True)
    return WORK


def test_both_builds_agree_and_every_call_is_made(work: Path) -> None:
    assert check_accelerate.check(work) == []


def test_a_shim_that_computes_something_else_is_noticed(work: Path, tmp_path: Path) -> None:
    shim = changed(
        check_accelerate.SHIM, "a[i * a_step] - b[i * b_step]", "b[i * b_step] - a[i * a_step]", tmp_path / "s.c"
    )
    wrong = check_accelerate.check(work, shim=shim)
    assert [line.split()[0] for line in wrong] == ["layer_norm", "layer_norm_backward"]


def test_a_call_that_is_declared_only_is_noticed(work: Path, tmp_path: Path) -> None:
    header = changed(HEADER, "void vDSP_vclr", "void vDSP_vabs(const float *a);\nvoid vDSP_vclr", tmp_path / "h.h")
    assert check_accelerate.check(work, header=header) == [
        "calls declared but not in the shim: vDSP_vabs",
        "calls never made: vDSP_vabs",
    ]


def test_a_call_that_is_in_the_shim_only_is_noticed(work: Path, tmp_path: Path) -> None:
    header = changed(HEADER, "void vvrsqrtf", "// ", tmp_path / "h.h")
    assert check_accelerate.check(work, header=header) == ["calls in the shim but not declared: vvrsqrtf"]
