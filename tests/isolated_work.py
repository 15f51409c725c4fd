"""What tests/test_isolate.py has done in other processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

from anetrain.errors import BudgetError, CompileError

_calls = 0


def doubled(number: int) -> dict[str, Any]:
    global _calls
    _calls += 1
    print("said on standard output")
    return {"twice": 2 * number, "calls": _calls, "pid": os.getpid()}


def killed() -> None:
    os.write(2, b"last words\n")
    os.kill(os.getpid(), signal.SIGSEGV)


def gone(code: int) -> None:
    os._exit(code)


def with_a_child() -> int:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid


def asleep() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def refused(budget: bool) -> None:
    if budget:
        raise BudgetError("100 compiles are all")
    raise CompileError("no such thing", domain="d", code=3, text="t", rule="some-rule")


def failed() -> None:
    raise KeyError("which")


def not_plain() -> object:
    return object()
