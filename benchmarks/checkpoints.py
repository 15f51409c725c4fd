"""Speed of saving and loading a checkpoint against plain sequential writes and reads of as many bytes.

Files are read from the disk where the system lets us drop them from its cache (Linux), else from the cache.

Example:
    python benchmarks/checkpoints.py --check
"""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from anetrain import files  # noqa: E402
from anetrain.checkpoint import State, Store, find, load  # noqa: E402
from anetrain.model import PRESETS  # noqa: E402
from benchmarks._harness import Deferred, Pair, Rows, Timed, main  # noqa: E402

rows = Rows("benchmarks.checkpoints")

Arrays = dict[str, npt.NDArray[np.float32]]

AT_LEAST = 0.6
MATRICES, SHAPE = 21, (2048, 768)  # 132 MB of weights, and twice as much of the optimizer's


def weights_and_means() -> tuple[Arrays, Arrays]:
    random = np.random.default_rng(1)
    weights = {f"w{i}": random.standard_normal(SHAPE, np.float32) for i in range(MATRICES)}
    means = {f"{kind}.{name}": array.copy() for kind in ("mean", "square") for name, array in weights.items()}
    return weights, means


def folder_on_disk() -> tempfile.TemporaryDirectory[str]:
    """Not among the system's temporary files, which may lie in memory. It goes when it is no longer used."""
    place = ROOT / "build"
    place.mkdir(exist_ok=True)
    return tempfile.TemporaryDirectory(dir=place)


def forget(path: Path) -> None:
    if hasattr(os, "posix_fadvise"):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def save() -> Timed:
    folder = folder_on_disk()
    store = Store(folder.name, keep=1)
    weights, means = weights_and_means()
    steps = itertools.count()

    def call() -> None:
        saved = store.save(State(next(steps), PRESETS["stories15m"], weights, means))
        assert saved.path.parent == Path(folder.name)

    return call


def plain_write() -> Timed:
    folder = folder_on_disk()
    weights, means = weights_and_means()
    numbers = itertools.count()

    def call() -> None:
        number = next(numbers)
        with files.new_file(Path(folder.name, str(number))) as file:
            for array in [*weights.values(), *means.values()]:
                file.write(array.data)
        Path(folder.name, str(number - 1)).unlink(missing_ok=True)  # as a store that keeps one

    return call


def load_from_disk() -> Timed:
    folder = folder_on_disk()
    weights, means = weights_and_means()
    with Store(folder.name) as store:
        store.save(State(0, PRESETS["stories15m"], weights, means))

    def call() -> None:
        path = find(folder.name)
        for file in path.iterdir():
            forget(file)
        checkpoint = load(path)
        checkpoint.weights.read_into(weights)
        checkpoint.arrays.read_into(means)

    return call


def plain_read() -> Timed:
    folder = folder_on_disk()
    weights, means = weights_and_means()
    with files.new_file(Path(folder.name, "plain")) as file:
        for array in [*weights.values(), *means.values()]:
            file.write(array.data)

    def call() -> None:
        path = Path(folder.name, "plain")
        forget(path)
        with path.open("rb", buffering=0) as file:
            for array in [*weights.values(), *means.values()]:
                file.readinto(array.data)

    return call


MEGABYTES = 3 * MATRICES * SHAPE[0] * SHAPE[1] * 4 // 1_000_000


@rows.add(f"save, {MEGABYTES} MB", peer="plain write and sync", at_least=AT_LEAST)
def saving() -> Pair:
    return Deferred(save), Deferred(plain_write)


@rows.add(f"load and verify, {MEGABYTES} MB", peer="plain read", at_least=AT_LEAST)
def loading() -> Pair:
    return Deferred(load_from_disk), Deferred(plain_read)


if __name__ == "__main__":
    sys.exit(main(rows, __doc__, ROOT / "build" / "benchmarks" / "checkpoints.json"))
