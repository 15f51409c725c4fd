"""Checkpoints as they are read: all of the record at once, tensors when they are asked for, and none unverified.

checkpoint = load(find("runs/stories"))
checkpoint.check_spec(model.spec)
checkpoint.weights.read_into(pipeline.weights)    # one pass over the file, checksums on the way
checkpoint.arrays["mean.embedding"]               # a read-only memory map, verified when it is first taken
"""

from __future__ import annotations

import mmap
import os
import weakref
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from anetrain.checkpoint import record as records
from anetrain.checkpoint.errors import CheckpointError
from anetrain.checkpoint.record import DAMAGED, Files, Record, Stored
from anetrain.checkpoint.store import checkpoints
from anetrain.checkpoint.tensors import DTYPES, Array, flat, header, offsets
from anetrain.spec import ModelSpec

READ_BYTES = 4 << 20  # read, and summed while it is in the cache, at a time
THREADS = min(4, os.cpu_count() or 1)

Bytes = npt.NDArray[np.uint8]


def load(folder: str | os.PathLike[str], *, weights_only: bool = False) -> Checkpoint:
    """Validates everything but the values of tensors, which are verified when they are taken. `weights_only`: the files
    of all other tensors need not be there."""
    folder = Path(folder)
    try:
        record = records.read(folder)
        parts = ("weights",) if weights_only else tuple(record.files)
        tensors = {part: Tensors(folder, record.files[part]) for part in parts}
    except CheckpointError as error:
        raise CheckpointError(error.path, f"{error.detail}. {_others(folder)}") from error
    return Checkpoint(folder, record, tensors)


def _others(folder: Path) -> str:
    """What can be done instead."""
    beside = checkpoints(folder.parent) if folder.parent.is_dir() else []
    others = [path.name for path in beside if path.name != folder.name]
    return f"Beside it there are {', '.join(others)}" if others else "There are no others beside it"


class Checkpoint:
    """`weights`, `arrays` and `baked` are Tensors. The other fields are as they were in the State that was saved."""

    def __init__(self, path: Path, record: Record, tensors: Mapping[str, Tensors]) -> None:
        self.path = path
        self.step, self.spec, self.config, self.values = record.step, record.spec, record.config, record.values
        self.validation_loss, self.tokenizer = record.validation_loss, record.tokenizer
        self.device, self.profile, self.versions = record.device, record.profile, record.versions
        self.weights = tensors["weights"]
        self._tensors = tensors

    @property
    def arrays(self) -> Tensors:
        return self._part("arrays")

    @property
    def baked(self) -> Tensors:
        """None, unless the programs in place were not made of the newest weights."""
        return self._part("baked")

    def _part(self, name: str) -> Tensors:
        if name not in self._tensors:
            raise ValueError(f"{self.path} was loaded with weights_only; load it whole to have its other arrays")
        return self._tensors[name]

    def verify(self) -> None:
        """Reads every tensor that is not verified yet, and compares its checksum."""
        for tensors in self._tensors.values():
            tensors.verify()

    def check_spec(self, spec: ModelSpec, ignore: Collection[str] = ()) -> None:
        """Raises CheckpointError unless the model has this spec; `ignore`: fields that may differ, such as "batch"."""
        for item in fields(ModelSpec):
            found, expected = getattr(self.spec, item.name), getattr(spec, item.name)
            if item.name not in ignore and found != expected:
                raise CheckpointError(
                    self.path,
                    f"{item.name} of the spec is {found!r}, and {expected!r} in the model: "
                    "make the model with the checkpoint's spec, or choose a checkpoint of this model",
                )

    def check_tokenizer(self, hash_: str | None) -> None:
        """Raises CheckpointError unless the model was trained with ids of this tokenizer."""
        if self.tokenizer != hash_:
            raise CheckpointError(
                self.path,
                f"tokenizer is {self.tokenizer}, and that of the data is {hash_}: ids mean other words; use the "
                "tokenizer that the model was trained with",
            )


@dataclass(frozen=True)
class _Place:
    file: _File
    offset: int
    stored: Stored


class Tensors(Mapping[str, Array]):
    """Read-only arrays by name, memory-mapped: each is verified when it is first taken."""

    def __init__(self, folder: Path, files: Files) -> None:
        self._folder = folder
        self._places: dict[str, _Place] = {}
        self._verified: set[str] = set()
        for name, tensors in files.items():
            file = _File(folder / name, tensors)
            begins = offsets({tensor: stored.kind for tensor, stored in tensors.items()})
            self._places |= {tensor: _Place(file, begins[tensor], stored) for tensor, stored in tensors.items()}

    def __getitem__(self, name: str) -> Array:
        place = self._places[name]
        self._verify(name, place)
        kind = place.stored.kind
        array: Array = np.ndarray(kind.shape, DTYPES[kind.code], place.file.mapped, place.offset)
        return array

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._places[name].stored.kind.shape

    def verify(self) -> None:
        _in_threads(partial(self._verify, name, place) for name, place in self._places.items())

    def read_into(self, arrays: Mapping[str, Array]) -> None:
        """Fills arrays of the same names, shapes and dtypes: nothing is changed unless they are. After any other error
        some of the arrays are changed, and no use is to be made of them."""
        missing, unknown = self._places.keys() - arrays.keys(), arrays.keys() - self._places.keys()
        if missing or unknown:
            raise CheckpointError(
                self._folder,
                f"its tensors are not those of the model: {_listed(missing)} only in the checkpoint, "
                f"{_listed(unknown)} only in the model",
            )
        for name, place in self._places.items():
            _check_target(self._folder, name, place, arrays[name])
        _in_threads(partial(self._read, name, place, arrays[name]) for name, place in self._places.items())

    def _read(self, name: str, place: _Place, array: Array) -> None:
        target = flat(array)
        crc32 = 0
        for begin in range(0, target.size, READ_BYTES):
            piece = target[begin : begin + READ_BYTES]
            place.file.read(piece, place.offset + begin)
            crc32 = zlib.crc32(piece.data, crc32)
        self._compare(name, place, crc32)

    def _verify(self, name: str, place: _Place) -> None:
        """By reading, not through the map: a bad disk is then an error, and not the end of the process."""
        if name in self._verified:
            return
        left, crc32 = place.stored.kind.nbytes, 0
        buffer = np.empty(min(left, READ_BYTES), np.uint8)
        end = place.offset + left
        for begin in range(place.offset, end, READ_BYTES):
            piece = buffer[: end - begin]
            place.file.read(piece, begin)
            crc32 = zlib.crc32(piece.data, crc32)
        self._compare(name, place, crc32)
        self._verified.add(name)

    def _compare(self, name: str, place: _Place, crc32: int) -> None:
        if crc32 != place.stored.crc32:
            raise CheckpointError(
                place.file.path,
                f"{name}: the checksum of its values is {crc32:08x}, and {place.stored.crc32:08x} was saved. "
                f"{DAMAGED}. {_others(self._folder)}",
            )


class _File:
    """A tensor file that is as long, and begins, as the record says. It is open for as long as it is used."""

    def __init__(self, path: Path, tensors: Mapping[str, Stored]) -> None:
        self.path = path
        kinds = {name: stored.kind for name, stored in tensors.items()}
        expected = header(kinds)
        size = len(expected) + sum(kind.nbytes for kind in kinds.values())
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            weakref.finalize(self, os.close, self._descriptor)
            found_size = os.fstat(self._descriptor).st_size
        except FileNotFoundError as error:
            raise CheckpointError(path, f"is missing; {records.NAME} names it. Copy the whole folder") from error
        except OSError as error:
            raise CheckpointError(path, f"cannot be read: {error.strerror}") from error
        if found_size != size:
            raise CheckpointError(path, f"has {found_size} bytes, expected {size}. {DAMAGED}")
        found = np.empty(len(expected), np.uint8)
        self.read(found, 0)
        if found.tobytes() != expected:
            at = int(np.argmax(found != np.frombuffer(expected, np.uint8)))
            raise CheckpointError(path, f"its header differs from {records.NAME} at byte {at}. {DAMAGED}")
        self.mapped = self._map(size)

    def _map(self, size: int) -> mmap.mmap:
        try:
            return mmap.mmap(self._descriptor, size, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise CheckpointError(self.path, f"cannot be mapped into memory: {error}") from error

    def read(self, target: Bytes, offset: int) -> None:
        """Fills `target`."""
        view = target.data
        while view:
            try:
                count = os.preadv(self._descriptor, [view], offset)
            except OSError as error:
                raise CheckpointError(self.path, f"cannot be read at byte {offset}: {error.strerror}") from error
            if count == 0:
                raise CheckpointError(self.path, f"ends at byte {offset}; it was cut off while it was open. {DAMAGED}")
            view, offset = view[count:], offset + count


def _check_target(folder: Path, name: str, place: _Place, array: Array) -> None:
    kind = place.stored.kind
    if array.dtype != DTYPES[kind.code] or array.shape != kind.shape:
        found = f"{array.dtype} {list(array.shape)}"
        raise CheckpointError(folder, f"{name} is {kind} in the checkpoint, and {found} in the model")
    if not (array.flags.c_contiguous and array.flags.writeable):
        raise ValueError(f"{name} is no array to read into: it must be contiguous and writeable")


def _listed(names: Collection[str]) -> str:
    shown = sorted(names)[:5]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return (", ".join(shown) or "none") + more


def _in_threads(tasks: Iterable[Callable[[], None]]) -> None:
    """Reading and summing both let other threads run. The first error, in the order of tasks, is raised."""
    with ThreadPoolExecutor(THREADS, "checkpoint") as pool:
        results: list[Any] = [pool.submit(task) for task in tasks]
        try:
            for result in results:
                result.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
