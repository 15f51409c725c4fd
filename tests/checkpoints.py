"""Small checkpoints for tests. All values follow from the step, so that a mixture of two steps is noticed."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pytest

from anetrain import files
from anetrain.checkpoint import Checkpoint, State, writing
from anetrain.model import PRESETS

SPEC = PRESETS["tiny-llama"]
PIECE = 1000  # bytes
LATE_S = 20.0


def weights(step: int) -> dict[str, npt.NDArray[Any]]:
    rng = np.random.default_rng(step)
    return {name: rng.standard_normal(shape, np.float32) for name, shape in (("embedding", (8, 4)), ("norm", (4,)))}


def arrays(step: int) -> dict[str, npt.NDArray[Any]]:
    rng = np.random.default_rng([step, 1])
    means = {f"mean.{name}": rng.standard_normal(array.shape, np.float32) for name, array in weights(0).items()}
    return means | {"order": rng.integers(0, 99, 5)}


def state(step: int, **changes: Any) -> State:
    values: dict[str, Any] = {
        "optimizer": {"updates": step},
        "scale": 65536.0,
        "draws": [step, 2**80 + step],
        "none": None,
    }
    fields: dict[str, Any] = {
        "weights": weights(step),
        "arrays": arrays(step),
        "values": values,
        "config": {"lr": 3e-4, "data": "stories"},
        "tokenizer": "1f2e",
        "device": "emulator",
        "profile": "m4",
        "baked": {} if "weights" in changes else {"embedding": weights(step + 100)["embedding"]},
    }
    return State(step, SPEC, **fields | changes)


def check(checkpoint: Checkpoint, expected: State) -> None:
    """Every field, and every tensor bit for bit."""
    for name in ("step", "spec", "values", "config", "validation_loss", "tokenizer", "device", "profile"):
        assert getattr(checkpoint, name) == getattr(expected, name), name
    for part in ("weights", "arrays", "baked"):
        loaded, saved = getattr(checkpoint, part), getattr(expected, part)
        assert set(loaded) == set(saved)
        for name, array in saved.items():
            same_bits(loaded[name], array)


def same_bits(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> None:
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert found.tobytes() == expected.tobytes()


@contextmanager
def memory_folder() -> Iterator[Path]:
    """In memory where that is possible, for files that are written thousands of times."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def names(folder: Path) -> list[str]:
    """What is in a folder, the lock aside."""
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


class SlowDisk:
    """Takes as many pieces of tensors as it is let."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.allowed = threading.Semaphore(0)
        self.taken = 0
        real = files.new_file

        @contextmanager
        def new_file(path: Path) -> Iterator[Any]:
            with real(path) as file:
                yield self._Slow(self, file)

        monkeypatch.setattr(files, "new_file", new_file)
        monkeypatch.setattr(writing, "PIECE_BYTES", PIECE)

    def let(self, pieces: int) -> None:
        self.allowed.release(pieces)

    class _Slow:
        def __init__(self, disk: SlowDisk, file: BinaryIO) -> None:
            self.disk, self.file = disk, file

        def write(self, data: bytes | memoryview) -> int:
            if isinstance(data, memoryview):
                assert self.disk.allowed.acquire(timeout=LATE_S)
                self.disk.taken += 1
            return self.file.write(data)

        def fileno(self) -> int:
            return self.file.fileno()
