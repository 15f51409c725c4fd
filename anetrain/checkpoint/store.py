"""A folder of checkpoints: step-00001200, step-00001300, ... of one run, written by one process at a time.

The one step that makes a checkpoint is the rename of its finished folder. There are no pointers that could disagree
with it: the last checkpoint is the one with the highest name, the best the one whose record has the lowest validation
loss.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import fcntl
import os
import platform
import re
import secrets
import shutil
import socket
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np

from anetrain import device, files
from anetrain.checkpoint import record as records
from anetrain.checkpoint.errors import CheckpointError
from anetrain.checkpoint.record import Files, Record, Stored, check_plain
from anetrain.checkpoint.tensors import SHARD_BYTES, STEMS, Array, check_arrays, kind_of, split
from anetrain.checkpoint.writing import BUFFER_BYTES, Saved, Saving
from anetrain.spec import ModelSpec

LOCK = ".lock"
# A second checkpoint of the same step is step-00001200-2. Names with a dot are of one that is being made or removed.
_NAME = re.compile(r"step-(\d{8,})(?:-(\d+))?")
_LEFT_OVER = re.compile(r"\.step-\d{8,}(-\d+)?\.[0-9a-f]{8}\.(tmp|old)")


@dataclass(frozen=True)
class State:
    """What a checkpoint is made of. `weights` and `arrays` are the caller's own, not copies; `arrays` are all others
    that training goes on from, such as the optimizer's means. `values` and `config` hold what JSON can: None, bool,
    int, finite float, str, list and dict. `tokenizer`: its hash. `baked`: some of the weights, as they were when the
    programs in place were made, where those are not made of the newest. They do not change until the save has ended."""

    step: int
    spec: ModelSpec
    weights: Mapping[str, Array]
    arrays: Mapping[str, Array] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    validation_loss: float | None = None
    tokenizer: str | None = None
    device: str = ""
    profile: str = ""
    baked: Mapping[str, Array] = field(default_factory=dict)


# ---------------------------------------------------------------- finding


def checkpoints(folder: str | os.PathLike[str]) -> list[Path]:
    """Those of a folder, the last one last. Whether they can be loaded is for `load` to say."""
    folder = Path(folder)
    try:
        found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    except OSError as error:
        raise CheckpointError(folder, f"cannot be listed: {error.strerror}") from error
    return sorted(found, key=_order)


def _order(path: Path) -> tuple[int, int]:
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise ValueError(f"{path.name!r} is no name of a checkpoint, such as 'step-00001200'")
    return int(match[1]), int(match[2] or 1)


def find(path: str | os.PathLike[str], which: Literal["last", "best"] = "last") -> Path:
    """The checkpoint at this path, or the last or best one of a folder of them."""
    path = Path(path)
    if not path.is_dir():
        raise CheckpointError(path, "there is no such folder; expected a checkpoint or a folder of checkpoints")
    if (path / records.NAME).exists():
        return path
    found = checkpoints(path)
    if not found:
        raise CheckpointError(path, f"there is neither a {records.NAME} in it nor a folder such as step-00001200")
    if which == "last":
        return found[-1]
    best = _best({item: records.read(item) for item in found})
    if best is None:
        raise CheckpointError(path, "none of its checkpoints has a validation loss; choose the last one")
    return best


def _best(found: Mapping[Path, Record]) -> Path | None:
    """Of equal ones the last."""
    losses = [(record.validation_loss, path) for path, record in found.items() if record.validation_loss is not None]
    lowest = min((loss for loss, _ in losses), default=None)
    return next((path for loss, path in reversed(losses) if loss == lowest), None)


# ---------------------------------------------------------------- writing


class Store:
    """The one writer of a folder of checkpoints; `with Store(folder) as store`, or `close()` it.

    step           where training begins or goes on. Later checkpoints in the folder are refused: they would be taken
                   for what this run has made
    keep           how many of the last checkpoints stay; the best one always does; None: all
    passing        one that is not among them, and goes when the next one is complete: see `save_in_background`
    shard_bytes    tensor files larger than this are split
    buffer_bytes   what copies for a save in the background may take
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        step: int = 0,
        keep: int | None = 3,
        passing: Path | None = None,
        shard_bytes: int = SHARD_BYTES,
        buffer_bytes: int = BUFFER_BYTES,
    ) -> None:
        if keep is not None and (not isinstance(keep, int) or keep < 1):
            raise ValueError(f"keep is {keep!r}; expected how many checkpoints stay, at least 1, or None for all")
        if shard_bytes < 1 or buffer_bytes < 0:
            raise ValueError(f"shard_bytes is {shard_bytes} and buffer_bytes {buffer_bytes}; expected sizes")
        self.folder, self.keep, self.passing = Path(folder), keep, passing
        self.shard_bytes, self.buffer_bytes = shard_bytes, buffer_bytes
        self._saving: Saving | None = None
        self._unlock = weakref.finalize(self, os.close, _lock(self.folder))
        try:
            self._check_step(step)
            self._sweep()
        except BaseException:
            self._unlock()
            raise

    def save(self, state: State) -> Saved:
        """Returns when the checkpoint is complete and durable. The arrays must not change until then."""
        return self.save_in_background(state).wait()

    def save_in_background(self, state: State, *, passing: bool = False) -> Saving:
        """Returns at once, or when the save before this one is finished, whose error it raises unless `wait()` has.
        A passing one is not counted by `keep`, and goes when the next one is complete, unless it is the best.

        Call `release()` of the result before the arrays change, and `wait()` for its end."""
        if not self._unlock.alive:
            raise ValueError(f"the store of {self.folder} is closed")
        self._finish_saving()
        _check_state(state)
        self._check_step(state.step)
        save = _Save(self, state, passing)
        lasting = frozenset(save.parts["baked"])
        self._saving = Saving(save.plan, save.temporary, save.finish, save.abandon, self.buffer_bytes, lasting)
        return self._saving

    def close(self) -> None:
        """Waits for what is being saved, and lets others write."""
        try:
            self._finish_saving()
        finally:
            self._unlock()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _finish_saving(self) -> None:
        saving, self._saving = self._saving, None
        if saving is not None and not saving.was_reported:
            saving.wait()

    def _check_step(self, step: int) -> None:
        last = checkpoints(self.folder)[-1:]
        if last and _order(last[0])[0] > step:
            raise CheckpointError(
                self.folder,
                f"{last[0].name} is later than step {step}: resume from it, choose another folder, or move away "
                "what is later",
            )

    def _sweep(self) -> None:
        """What killed processes left: no one else writes while the lock is held."""
        for path in self.folder.iterdir():
            if _LEFT_OVER.fullmatch(path.name):
                _remove(path, "is left of a process that was killed, and could not be removed")


class _Save:
    """The steps around the tensors of one checkpoint."""

    def __init__(self, store: Store, state: State, passing: bool) -> None:
        self.begin = time.perf_counter()
        self.store, self.step, self.passing = store, state.step, passing
        self.target = self._free_name()
        self.temporary = _beside(self.target, "tmp")
        self.record = _record(state)
        self.parts = {part: split(part, getattr(state, part), store.shard_bytes) for part in STEMS}
        self.plan = {file: tensors for part in self.parts.values() for file, tensors in part.items()}
        self.bytes = sum(array.nbytes for tensors in self.plan.values() for array in tensors.values())
        try:
            self.temporary.mkdir()
        except OSError as error:
            raise self.failure(error) from error

    def _free_name(self) -> Path:
        same_step = [order for path in checkpoints(self.store.folder) if (order := _order(path))[0] == self.step]
        count = max((number for _, number in same_step), default=0) + 1
        return self.store.folder / (f"step-{self.step:08}" + (f"-{count}" if count > 1 else ""))

    def finish(self, written: Mapping[str, dict[str, Stored]]) -> Saved:
        tables: dict[str, Files] = {part: {file: written[file] for file in self.parts[part]} for part in STEMS}
        with files.new_file(self.temporary / records.NAME) as file:
            file.write(records.text(replace(self.record, files=tables)).encode())
        size = sum(path.stat().st_size for path in self.temporary.iterdir())
        files.sync_folder(self.temporary)
        self.temporary.rename(self.target)
        files.sync_folder(self.store.folder)
        self._rotate()
        return Saved(self.target, size, time.perf_counter() - self.begin)

    def _rotate(self) -> None:
        """Folders that hold no whole record are left alone: they may be someone's, or damaged and worth a look."""
        before, self.store.passing = self.store.passing, self.target if self.passing else None
        if self.store.keep is None and before is None:
            return
        found = {}
        for path in checkpoints(self.store.folder):
            with contextlib.suppress(CheckpointError):
                found[path] = records.read(path)
        lasting = [path for path in found if path not in (before, self.store.passing)]
        old = [] if self.store.keep is None else lasting[: -self.store.keep]
        for path in [path for path in found if path in old or path == before]:
            if path != _best(found):
                _remove(path, f"is an old checkpoint that could not be removed ({self.target.name} is saved)")

    def abandon(self, error: BaseException) -> BaseException:
        shutil.rmtree(self.temporary, ignore_errors=True)  # else the next Store does it
        if not isinstance(error, OSError):
            return error
        failure = self.failure(error)
        failure.__cause__ = error
        return failure

    def failure(self, error: OSError) -> CheckpointError:
        saved = f"{self.target.name} is saved" if self.target.exists() else f"{self.target.name} was not saved"
        return CheckpointError(
            self.store.folder,
            f"{saved}: {error.strerror or error}. {_ADVICE.get(error.errno or 0, '')}"
            f"It takes {self.bytes / 1e6:.1f} MB and more; earlier checkpoints are as they were",
        )


_NO_SPACE = "Free some space, or save to another folder. "
_NO_RIGHT = "Make the folder writable, or save to another one. "
_ADVICE = {
    errno.ENOSPC: _NO_SPACE,
    errno.EDQUOT: _NO_SPACE,
    errno.EFBIG: "Raise the limit of file sizes (ulimit -f). ",
    errno.EACCES: _NO_RIGHT,
    errno.EPERM: _NO_RIGHT,
    errno.EROFS: _NO_RIGHT,
}


def _check_state(state: State) -> None:
    if not isinstance(state.step, int) or isinstance(state.step, bool) or state.step < 0:
        raise ValueError(f"step is {state.step!r}; expected a whole number, 0 or more")
    for part in STEMS:
        check_arrays(part, getattr(state, part))
    for name, array in state.baked.items():
        if name not in state.weights or kind_of(state.weights[name]) != kind_of(array):
            raise ValueError(f"baked: {name} is {kind_of(array)}, which none of the weights of this name is")
    check_plain("values", dict(state.values))
    check_plain("config", dict(state.config))
    for name in ("device", "profile"):
        if not isinstance(getattr(state, name), str):
            raise ValueError(f"{name} is {getattr(state, name)!r}; expected its name")
    if state.tokenizer is not None and not isinstance(state.tokenizer, str):
        raise ValueError(f"tokenizer is {state.tokenizer!r}; expected its hash as a text, or None")
    if state.validation_loss is not None:
        check_plain("validation_loss", float(state.validation_loss))


def _record(state: State) -> Record:
    return Record(
        step=state.step,
        spec=state.spec,
        config=copy.deepcopy(dict(state.config)),
        values=copy.deepcopy(dict(state.values)),
        validation_loss=None if state.validation_loss is None else float(state.validation_loss),
        tokenizer=state.tokenizer,
        device=state.device,
        profile=state.profile,
        versions={
            "anetrain": device.version(),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "system": f"{platform.system()} {platform.machine()}",
        },
    )


def _lock(folder: Path) -> int:
    """A descriptor that holds the lock of the folder. The system frees it when the process ends, however it does."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.sync_folder(folder.parent)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise CheckpointError(folder, f"cannot be written to: {error.strerror}. {_NO_RIGHT}".rstrip()) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
    except BlockingIOError as error:
        owner = os.pread(descriptor, 200, 0).decode(errors="replace") or "a process"
        os.close(descriptor)
        raise CheckpointError(folder, f"{owner} saves here; wait for its end, or choose another folder") from error
    except OSError as error:
        os.close(descriptor)
        raise CheckpointError(folder / LOCK, f"cannot be locked: {error.strerror}. Choose another folder") from error
    return descriptor


def _beside(path: Path, suffix: str) -> Path:
    return path.parent / f".{path.name}.{secrets.token_hex(4)}.{suffix}"


def _remove(path: Path, otherwise: str) -> None:
    """The name goes first, so that no half of a checkpoint ever has one."""
    try:
        old = path if path.name.startswith(".") else _beside(path, "old")
        path.rename(old)
        shutil.rmtree(old)
    except OSError as error:
        raise CheckpointError(path, f"{otherwise}: {error.strerror}") from error
