"""Libraries with the interface of ane.h: the emulator, and the real device's code over a fake framework."""

from __future__ import annotations

import functools
import gc
import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import anetrain
import anetrain.device
from tests import ane_abi
from tests.ane_abi import ROOT, Library
from tests.support import need

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder for each test: what one remembers is no concern of the next, nor of whoever runs them."""
    folder = tmp_path_factory.getbasetemp() / "cache" / str(next(_numbers))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def emulator_path() -> Path:
    suffix = "dylib" if sys.platform == "darwin" else "so"
    return Path(anetrain.__file__).parent / "lib" / f"libanetrain.{suffix}"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fake-ane", type=Path, help="use this build of the fake framework (scripts/build_fake_ane.py)")


@pytest.fixture(scope="session")
def fake_ane_path(request: pytest.FixtureRequest) -> Path:
    """csrc/device/apple over csrc/tests/fake_ane, built when it is asked for."""
    if built := request.config.getoption("--fake-ane"):
        return built.resolve()
    need(sys.platform == "linux", "the fake framework is built on Linux only")
    need(shutil.which("clang-19"), "clang-19")
    need(Path("/usr/include/GNUstep").is_dir(), "libgnustep-base-dev")
    build = [sys.executable, str(ROOT / "scripts" / "build_fake_ane.py")]
    return Path(subprocess.run(build, check=True, capture_output=True, text=True).stdout.split()[-1])


@pytest.fixture
def fake_environment(fake_ane_path: Path, tmp_path: Path) -> dict[str, str]:
    """Of a process in which the fake build of the native library takes the place of the ordinary one."""
    libraries = tmp_path / "lib"
    libraries.mkdir()
    for found in fake_ane_path.parent.glob("*.so*"):
        (libraries / found.name).symlink_to(found)
    (libraries / "libanetrain.so").symlink_to(fake_ane_path)
    return {**os.environ, "LD_LIBRARY_PATH": str(libraries), "PYTHONPATH": str(ROOT)}


@pytest.fixture(params=["emulator", "apple"])
def backend(request: pytest.FixtureRequest) -> tuple[Path, int]:
    """(library, kind) for each back end."""
    if request.param == "emulator":
        return request.getfixturevalue("emulator_path"), ane_abi.EMULATOR
    return request.getfixturevalue("fake_ane_path"), ane_abi.REAL


@pytest.fixture
def library(backend: tuple[Path, int]) -> Iterator[Library]:
    """Both back ends in turn. Afterwards nothing of theirs may be left alive."""
    gc.collect()  # programs of earlier tests that only garbage still holds count for the process, too
    library = Library(*backend)
    before = _alive(library)  # programs that fixtures of other tests keep count, too
    yield library
    library.release_all()
    left = {name: count - before[name] for name, count in _alive(library).items()}
    assert not any(left.values()), f"left alive: {left}"


def _alive(library: Library) -> dict[str, int]:
    counters = library.open().counters()
    library.release_all()
    return {name: counters[name] for name in ("live_programs", "live_surfaces", "live_requests", "backend_objects")}


@pytest.fixture
def device(library: Library) -> ane_abi.Device:
    return library.open()


@pytest.fixture
def without_budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """For commands, which open devices themselves: a test process compiles more than an engine would let it."""
    opened = functools.partial(anetrain.device.open, live_budget=2**32 - 1, compile_budget=2**32 - 1)
    monkeypatch.setattr(anetrain.device, "open", opened)


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests are many, and disks slow: nobody cuts the power here."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A small one, for `anetrain train`."""
    from tests.runs import CONFIG  # most tests train nothing

    path = tmp_path / "small.yaml"
    path.write_text(CONFIG)
    return path
