"""anetrain.checkpoint: processes killed anywhere, full disks, no rights: there is always a checkpoint that loads."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from anetrain import files
from anetrain.checkpoint import CheckpointError, Store, find, load
from tests import checkpoints as small

ROOT = Path(__file__).resolve().parent.parent


def child(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.checkpoint_children", *arguments]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    seen: dict[str, Any] = json.loads(ran.stdout)
    return seen


def test_killed_at_random_moments(tmp_path: Path) -> None:
    seen = child("kill", str(tmp_path), "60")
    assert seen["killed"] == 60
    assert seen["during"] >= 10  # in the middle of a save
    assert seen["last"] >= 3


def test_ended_at_every_third_line() -> None:
    with small.memory_folder() as folder:
        seen = child("lines", str(folder))
    assert seen["lines"] > 150
    assert seen["left_over"] > 20
    assert seen["last"] > 5


def test_files_must_not_grow(tmp_path: Path) -> None:
    seen = child("limit", str(tmp_path))
    assert len(seen["errors"]) > 5
    for error in seen["errors"]:
        assert error.startswith(
            f"{tmp_path}: step-00000001 was not saved: File too large. Raise the limit of file sizes"
        )
        assert error.endswith("earlier checkpoints are as they were")


def test_without_the_right_to_write() -> None:
    with tempfile.TemporaryDirectory() as outside:  # of the folder of tests, which nobody else may enter
        Path(outside).chmod(0o755)
        folder = Path(outside) / "run"
        seen = child("rights", str(folder))
        folder.chmod(0o755)
    assert seen["errors"] == [
        f"{folder}: step-00000001 was not saved: Permission denied. Make the folder writable, or save to another one. "
        "It takes 0.0 MB and more; earlier checkpoints are as they were",
        f"{folder}: cannot be written to: Permission denied. Make the folder writable, or save to another one.",
        f"{folder}/deeper: cannot be written to: Permission denied. Make the folder writable, or save to another one.",
    ]


class FullDisk:
    """Takes so many bytes, and then no more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free = 1 << 40
        real = files.new_file

        @contextmanager
        def new_file(path: Path) -> Iterator[Any]:
            with real(path) as file:
                yield self._File(self, file)

        monkeypatch.setattr(files, "new_file", new_file)
        monkeypatch.setattr(os, "fsync", lambda descriptor: None)

    class _File:
        def __init__(self, disk: FullDisk, file: BinaryIO) -> None:
            self.disk, self.file = disk, file

        def write(self, data: bytes | memoryview) -> int:
            content = bytes(data)
            self.file.write(content[: self.disk.free])
            self.disk.free -= len(content)
            if self.disk.free < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return len(content)


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it is full: nothing is left of the attempt, and with some space the next one succeeds."""
    disk = FullDisk(monkeypatch)
    with Store(tmp_path) as store:
        size = store.save(small.state(1)).bytes
        for free in range(0, size, 41):
            disk.free = free
            sentence = r"step-00000002 was not saved: No space left on device\. Free some space, or save to another"
            with pytest.raises(CheckpointError, match=sentence):
                store.save(small.state(2))
            assert small.names(tmp_path) == ["step-00000001"]
        small.check(load(find(tmp_path)), small.state(1))
        disk.free = 1 << 40
        small.check(load(store.save(small.state(2)).path), small.state(2))


@pytest.mark.parametrize("name", ["sync", "sync_folder"])
def test_a_sync_that_fails_is_no_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def broken(_: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with Store(tmp_path) as store:
        store.save(small.state(1))
        monkeypatch.setattr(files, name, broken)
        with pytest.raises(CheckpointError, match="step-00000002 was not saved: Input/output error"):
            store.save(small.state(2))
    assert small.names(tmp_path) == ["step-00000001"]


def test_an_old_checkpoint_that_cannot_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new one is there all the same, and the sentence says so."""
    remove = shutil.rmtree

    def broken(path: Path, **options: Any) -> None:
        if path.name.endswith(".old"):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        remove(path, **options)

    with Store(tmp_path, keep=1) as store:
        store.save(small.state(1))
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "rmtree", broken)
            with pytest.raises(
                CheckpointError, match=r"step-00000001: .* could not be removed \(step-00000002 is saved\)"
            ):
                store.save(small.state(2))
        small.check(load(find(tmp_path)), small.state(2))
    Store(tmp_path, step=2).close()  # sweeps
    assert small.names(tmp_path) == ["step-00000002"]


def test_a_name_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(CheckpointError, match="run: cannot be written to: File exists"):
        Store(tmp_path / "run")
    assert (tmp_path / "run").read_text() == "mine"
