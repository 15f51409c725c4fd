"""Files and folders that are whole or not there: written under a temporary name beside the target, synced, renamed.

with files.replacing(path, overwrite=False) as file:
    file.write(...)  # whatever goes wrong here, nothing has changed at `path`
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

if sys.platform == "darwin":
    import fcntl

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def replacing(path: Path, *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` when the block ends without an exception."""
    _check_target(path, overwrite)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; expected the name of a file")
    temporary = _beside(path, "tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            sync(file.fileno())
        _check_target(path, overwrite)
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and (error.filename == str(temporary) or error.errno in FULL):
            error.filename = str(path)  # the system names the temporary file, or for a full disk none
        raise
    sync_folder(path.parent)


@contextmanager
def replacing_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A new, empty folder that takes the place of `path` when the block ends without an exception.

    What is put there must be synced by who writes it (`new_file`). An old folder is moved away first and deleted last.
    """
    empty = path.is_dir() and not any(path.iterdir())
    _check_target(path, overwrite or empty)
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{path} is a file; expected the name of a folder")
    temporary, old = _beside(path, "tmp"), _beside(path, "old")
    temporary.mkdir()
    try:
        yield temporary
        sync_folder(temporary)
        _check_target(path, overwrite or empty)
        if path.exists() and not empty:
            path.rename(old)
            try:
                temporary.rename(path)
            except BaseException:
                old.rename(path)
                raise
        else:
            temporary.rename(path)  # an empty folder gives way, one that was filled meanwhile does not
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(path.parent)
    if old.exists():
        shutil.rmtree(old)


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file that is not there yet, durable when the block ends."""
    with path.open("xb") as file:
        yield file
        file.flush()
        sync(file.fileno())


def cache_folder(environment: Mapping[str, str], platform: str = sys.platform) -> Path | None:
    """Where what can be made again is kept for a user; None where nobody can say. The folder need not be there."""
    given = environment.get("XDG_CACHE_HOME", "")
    if given and Path(given).is_absolute():  # others are to be ignored, says its specification
        return Path(given) / "anetrain"
    try:
        home = Path(environment.get("HOME") or Path.home())
    except RuntimeError:
        return None
    return home / ("Library/Caches" if platform == "darwin" else ".cache") / "anetrain"


def copy(source: Path, target: Path) -> None:
    """A new file with the same bytes, durable."""
    with source.open("rb") as old, new_file(target) as new:
        shutil.copyfileobj(old, new)


def sync(descriptor: int) -> None:
    """To the medium: on macOS fsync alone stops at the drive's cache."""
    if sys.platform == "darwin":
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def sync_folder(path: Path) -> None:
    """Makes the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _beside(path: Path, suffix: str) -> Path:
    return path.parent / f".{path.name}.{secrets.token_hex(4)}.{suffix}"


def _check_target(path: Path, overwrite: bool) -> None:
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {path.parent}; create it first")
    if not overwrite and (path.exists() or path.is_symlink()):
        raise FileExistsError(f"{path} exists; choose another name, or allow to overwrite it")
