"""The native sources build for arm64 Linux; NEON gives the bits of the reference in csrc/tests/test_fp16.cpp."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from scripts.check_neon import missing_tools
from tests.support import need

ROOT = Path(__file__).resolve().parent.parent


def test_neon_under_an_emulated_cpu() -> None:
    missing = missing_tools()
    need(not missing, f"tools of scripts/check_neon.py: {', '.join(missing)}")
    run = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "check_neon.py")], capture_output=True, text=True, timeout=900
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    assert "ok   fp16.every_half" in run.stdout
    assert " 0 failed" in run.stdout
