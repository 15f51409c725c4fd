"""Files are whole or not there: after failures, a full disk, and SIGKILL at any moment."""

from __future__ import annotations

import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from anetrain import files

ROOT = Path(__file__).parent.parent


def put(path: Path, content: bytes, **options: Any) -> None:
    with files.replacing(path, **options) as file:
        file.write(content)


def put_folder(path: Path, content: bytes, **options: Any) -> None:
    with files.replacing_folder(path, **options) as new, files.new_file(new / "a") as file:
        file.write(content)


def test_a_new_file_and_its_replacement(tmp_path: Path) -> None:
    path = tmp_path / "a"
    put(path, b"one")
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()
    with pytest.raises(FileExistsError, match="exists"):
        put(path, b"two")
    assert path.read_bytes() == b"one"
    put(path, b"two", overwrite=True)
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def umask() -> int:
    import os

    value = os.umask(0)
    os.umask(value)
    return value


def test_the_order_is_write_sync_rename_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    sync, sync_folder, replace = files.sync, files.sync_folder, Path.replace

    def spy(name: str, function: Any) -> Any:
        return lambda *args: (calls.append(name), function(*args))[1]

    monkeypatch.setattr(files, "sync", spy("sync", sync))
    monkeypatch.setattr(files, "sync_folder", spy("sync folder", sync_folder))
    monkeypatch.setattr(Path, "replace", spy("rename", replace))
    put(tmp_path / "a", b"content")
    assert calls == ["sync", "rename", "sync folder"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_failure_changes_nothing(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    write, target = (put, path) if kind == "file" else (put_folder, path / "a")
    write(path, b"one")
    make = files.replacing if kind == "file" else files.replacing_folder
    with pytest.raises(KeyboardInterrupt), make(path, overwrite=True):
        raise KeyboardInterrupt
    assert target.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_appears_meanwhile_is_not_overwritten(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    make = files.replacing if kind == "file" else files.replacing_folder
    with pytest.raises(FileExistsError, match="exists"), make(path):
        path.write_bytes(b"theirs")
    assert path.read_bytes() == b"theirs"
    assert list(tmp_path.iterdir()) == [path]


def test_folders(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.mkdir()
    put_folder(path, b"one")  # an empty folder is no loss
    with pytest.raises(FileExistsError, match="exists"):
        put_folder(path, b"two")
    put_folder(path, b"two", overwrite=True)
    assert (path / "a").read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(IsADirectoryError, match="is a folder"):
        put(path, b"three", overwrite=True)
    with pytest.raises(NotADirectoryError, match="is a file"):
        put_folder(path / "a", b"three", overwrite=True)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        put(tmp_path / "b" / "c", b"three")


def test_the_old_folder_comes_back_if_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    put_folder(path, b"one")
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.suffix == ".tmp":
            raise OSError("no")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="no"):
        put_folder(path, b"two", overwrite=True)
    assert (path / "a").read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


@contextmanager
def largest_file(limit: int) -> Iterator[None]:
    """As a full disk: writes past the limit fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_full_disk(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    write, target = (put, path) if kind == "file" else (put_folder, path / "a")
    write(path, b"one")
    with largest_file(5000), pytest.raises(OSError, match="File too large") as caught:
        write(path, bytes(10_000), overwrite=True)
    if kind == "file":
        assert caught.value.filename == str(path)
    assert target.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


WRITER = """
import sys
from pathlib import Path
from anetrain import files
for number in range(10_000):
    with files.replacing(Path(sys.argv[1]), overwrite=True) as file:
        for piece in range(100):
            file.write(bytes([number % 251]) * 1000)
    if number == 0:
        print("begun", flush=True)
"""


def test_sigkill_at_any_moment(tmp_path: Path) -> None:
    """The file is always whole: 100 000 equal bytes."""
    path, moments = tmp_path / "a", random.Random(3)
    for _ in range(8):
        process = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, cwd=ROOT)
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        time.sleep(moments.random() * 0.03)
        process.kill()
        process.wait()
        process.stdout.close()
        content = path.read_bytes()
        assert len(content) == 100_000
        assert len(set(content)) == 1
