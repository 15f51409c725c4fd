"""Tensors in safetensors files: which lies where. Writer and reader both compute the header from the same table.

A file is the length of its header (8 bytes, little-endian), the header (JSON, padded with spaces), and the tensors
without gaps. Wider elements come first, so that each tensor is aligned for a memory map.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

SHARD_BYTES = 2 << 30  # a file is closed before it grows past this; one larger tensor has a file of its own
STEMS = {"weights": "weights", "arrays": "optimizer", "baked": "baked"}  # the files of each part of a checkpoint
OPTIONAL = {"baked"}  # parts that a record names only where there are tensors of them

CODES = {
    "float64": "F64",
    "int64": "I64",
    "uint64": "U64",
    "float32": "F32",
    "int32": "I32",
    "uint32": "U32",
    "float16": "F16",
    "int16": "I16",
    "uint16": "U16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
DTYPES = {code: np.dtype(name).newbyteorder("<") for name, code in CODES.items()}


@dataclass(frozen=True)
class Kind:
    """What a tensor is, apart from its values. `code`: safetensors' name of the dtype."""

    code: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        itemsize: int = DTYPES[self.code].itemsize
        return itemsize * math.prod(self.shape)

    def __str__(self) -> str:
        return f"{DTYPES[self.code].name} {list(self.shape)}"


def kind_of(array: Array) -> Kind:
    return Kind(CODES[array.dtype.name], array.shape)


def header(kinds: Mapping[str, Kind]) -> bytes:
    """All that comes before the values of the first tensor."""
    entries = {
        name: {"dtype": kinds[name].code, "shape": list(kinds[name].shape), "data_offsets": [begin, end]}
        for name, begin, end in _spans(kinds)
    }
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def offsets(kinds: Mapping[str, Kind]) -> dict[str, int]:
    """Where in the file each tensor begins."""
    first = len(header(kinds))
    return {name: first + begin for name, begin, _ in _spans(kinds)}


def _spans(kinds: Mapping[str, Kind]) -> Iterator[tuple[str, int, int]]:
    end = 0
    for name, kind in kinds.items():
        begin, end = end, end + kind.nbytes
        yield name, begin, end


def check_arrays(part: str, arrays: Mapping[str, Array]) -> None:
    """Raises ValueError unless each can be written as it lies in memory."""
    for name, array in arrays.items():
        if not _is_name(name):
            raise ValueError(f"{part}: a tensor is named {name!r}; expected a text, neither empty nor '__metadata__'")
        if not isinstance(array, np.ndarray) or array.dtype.name not in CODES or not array.dtype.isnative:
            what = f"{array.dtype}" if isinstance(array, np.ndarray) else f"of type {type(array).__name__}"
            raise ValueError(f"{part}: {name} is {what}; expected an array of one of {', '.join(CODES)}")
        if not array.flags.c_contiguous:
            raise ValueError(f"{part}: {name} is not contiguous; hand over np.ascontiguousarray of it")


def _is_name(name: object) -> bool:
    try:
        return isinstance(name, str) and name.encode() not in (b"", b"__metadata__")
    except UnicodeEncodeError:  # half of a surrogate pair
        return False


def split(part: str, arrays: Mapping[str, Array], shard_bytes: int) -> dict[str, dict[str, Array]]:
    """Files by name, each with its tensors in order: weights.safetensors, or weights-00001-of-00003.safetensors, ..."""
    shards: list[dict[str, Array]] = []
    left = 0
    for name, array in sorted(arrays.items(), key=lambda item: -item[1].itemsize):
        if not shards or array.nbytes > left:
            shards.append({})
            left = shard_bytes
        shards[-1][name] = array
        left -= array.nbytes
    return dict(zip(_file_names(part, len(shards)), shards, strict=True))


def _file_names(part: str, count: int) -> list[str]:
    stem = STEMS[part]
    if count == 1:
        return [f"{stem}.safetensors"]
    return [f"{stem}-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]


def flat(array: Array) -> npt.NDArray[np.uint8]:
    """The bytes of a contiguous array, not copied."""
    return array.reshape(-1).view(np.uint8)
