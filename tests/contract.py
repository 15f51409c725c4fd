"""What the tests of the device contract share: values on surfaces, failures with their words,
scripts in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.ane_abi import ROOT, Device, Failure, Surface
from tests.programs import subtract

ENGINE_DOMAIN = "com.apple.appleneuralengine"
COMPILER_DOMAIN = "com.apple.appleneuralengine.compiler"
TOO_SMALL = "ANEProgramProcessRequestDirect() Failed with status=0x1d : statusType=0x9 : Program Inference error"
BYTES = 64  # a port of [1, 1, 1, 32] halves


def filled(device: Device, value: float, columns: int = 32) -> Surface:
    surface = device.surface(2 * columns)
    surface.write(np.full((1, columns), value, np.float32))
    return surface


def values(surface: Surface) -> set[float]:
    return set(surface.read(1, surface.size // 2).ravel().tolist())


def fails(status: int, *words: str) -> pytest.RaisesExc[Failure]:
    """The call fails with this status, and the detail has these words in it."""

    def matches(failure: Failure) -> bool:
        assert failure.recorded_status == failure.status
        assert failure.detail
        return failure.status == status and all(word in failure.detail for word in words)

    return pytest.raises(Failure, check=matches)


def bound(device: Device, first: float = 5, second: float = 3):
    """x - W on filled surfaces: the request, and its three surfaces."""
    program = device.compile(subtract(), label="difference")
    x, w, z = filled(device, first), filled(device, second), device.surface(BYTES)
    return program.request({"x": x, "W": w}, {"z": z}), x, w, z


def run_script(backend: tuple[Path, int], body: str) -> str:
    """Runs `body` in a process of its own, with `lib` and `dev` open; what it prints."""
    header = f"""
import os, sys
from pathlib import Path
import numpy as np
from tests import ane_abi as abi
from tests.ane_abi import Failure, Library
from tests.programs import subtract
from tests.contract import bound, values, filled
lib = Library(Path({str(backend[0])!r}), {backend[1]})
"""
    script = [sys.executable, "-c", header + body]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
