"""Writes tensors to files in a thread, from the caller's own arrays, while the caller does not change them.

Forward and backward only read weights and moments; nothing but the update changes them. So a whole accumulation group
goes on while its arrays are being written, and only what is not on its way to the disk before the update is copied.
"""

from __future__ import annotations

import os
import sys
import threading
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from anetrain import files
from anetrain.checkpoint.record import Files, Stored
from anetrain.checkpoint.tensors import Array, flat, header, kind_of

PIECE_BYTES = 8 << 20  # written, and copied, at a time
LARGE_BYTES = 1 << 20  # worth a write of its own
BUFFER_BYTES = 512 << 20  # that copies may take, at most

Bytes = npt.NDArray[np.uint8]
Plan = Mapping[str, Mapping[str, Array]]  # tensors by file


@dataclass(frozen=True)
class Saved:
    path: Path
    bytes: int
    seconds: float


class Saving:
    """A checkpoint on its way to the disk. Until `release()` has returned, the arrays must not be changed."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        finish: Callable[[Files], Saved],
        abandon: Callable[[BaseException], BaseException],
        buffer_bytes: int = BUFFER_BYTES,
        lasting: Collection[str] = (),
    ) -> None:
        """Both are called in the thread: `finish` when all tensors are written, `abandon` when that or `finish` itself
        has failed. It tidies up, and returns the error for `wait()` to raise. `lasting`: the files, last in the plan,
        whose arrays nobody changes."""
        self._buffer_bytes = buffer_bytes
        changing = [array for name, arrays in plan.items() if name not in lasting for array in arrays.values()]
        self._changing = sum(map(_piece_count, changing))  # pieces, from the front
        tensors = [array for arrays in plan.values() for array in arrays.values()]
        self._pieces: list[Bytes | None] = [piece for array in tensors for piece in _pieces(array)]
        self._taken = self._written = 0  # pieces, from the front
        self._state = threading.Condition()
        self._is_released = False
        self._outcome: Saved | BaseException | None = None
        self.was_reported = False
        """The outcome, by `wait()`."""
        work = partial(self._attempt, plan, folder, finish, abandon)  # nothing of it is kept longer than the thread
        self._thread = threading.Thread(target=self._run, args=(work,), name="checkpoint")
        self._thread.start()

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def wait(self) -> Saved:
        """Returns when the checkpoint is complete and durable; raises what went wrong."""
        self._thread.join()
        self.was_reported = True
        if isinstance(self._outcome, Saved):
            return self._outcome
        raise self._outcome or RuntimeError("the thread that saves has vanished")

    def release(self) -> None:
        """Returns when the arrays may be changed. What is left is copied from its end, as far as the buffer and memory
        go, while the thread writes from its beginning; what does not fit is waited for. Once is enough: then it does
        nothing."""
        if self._is_released:
            return
        first_copied = self._copy_from_end()
        with self._state:
            self._state.wait_for(lambda: self._written >= first_copied or self._outcome is not None)
        self._is_released = True

    def _copy_from_end(self) -> int:
        """The number of the first piece that is copied; those before it are written as they are in the arrays."""
        number, left = self._changing, self._buffer_bytes
        while number:
            piece = self._pieces[number - 1]
            if piece is None or piece.nbytes > left:
                break
            try:
                copy = piece.copy()
            except MemoryError:
                break
            with self._state:
                if self._taken >= number:  # by the thread, meanwhile
                    break
                self._pieces[number - 1] = copy
            number, left = number - 1, left - copy.nbytes
        return number

    # ---------------------------------------------------------------- in the thread

    def _run(self, work: Callable[[], Saved | BaseException]) -> None:
        try:
            outcome = work()
        except BaseException as error:  # of tidying up
            outcome = error
        with self._state:
            self._outcome = outcome
            self._pieces = [None] * len(self._pieces)
            self._state.notify_all()

    def _attempt(
        self,
        plan: Plan,
        folder: Path,
        finish: Callable[[Files], Saved],
        abandon: Callable[[BaseException], BaseException],
    ) -> Saved | BaseException:
        try:
            return finish({name: self._write_file(folder / name, tensors) for name, tensors in plan.items()})
        except BaseException as error:
            return abandon(error)

    def _write_file(self, path: Path, tensors: Mapping[str, Array]) -> dict[str, Stored]:
        stored = {}
        with files.new_file(path) as file:
            file.write(header({tensor: kind_of(array) for tensor, array in tensors.items()}))
            for tensor, array in tensors.items():
                crc32 = 0
                for _ in range(_piece_count(array)):
                    piece = self._take()
                    crc32 = zlib.crc32(piece.data, crc32)
                    file.write(piece.data)
                    if piece.nbytes >= LARGE_BYTES:
                        _start_writing(file.fileno())
                    self._put_down()
                stored[tensor] = Stored(kind_of(array), crc32)
        return stored

    def _take(self) -> Bytes:
        with self._state:
            piece = self._pieces[self._taken]
            self._pieces[self._taken] = None  # the memory of a copy is free as soon as it is written
            self._taken += 1
        assert piece is not None
        return piece

    def _put_down(self) -> None:
        with self._state:
            self._written += 1
            self._state.notify_all()


def _start_writing(descriptor: int) -> None:
    """Else Linux waits for the sync, and fills memory with what nobody is going to read."""
    if sys.platform == "linux":
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def _piece_count(array: Array) -> int:
    return -(-array.nbytes // PIECE_BYTES)


def _pieces(array: Array) -> list[Bytes]:
    data = flat(array)
    return [data[begin : begin + PIECE_BYTES] for begin in range(0, data.size, PIECE_BYTES)]
