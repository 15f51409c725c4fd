"""safetensors files in fp32, bf16 and fp16: tensors read one at a time through a memory map, written one at a time.

The package safetensors judges every file that is read. Its own readers know no bf16 without PyTorch, and its writer
wants all tensors at once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from anetrain import cpu, files
from anetrain.formats import tensors
from anetrain.formats.tensors import PIECE, Floats, FormatError, Shapes

Dtype = Literal["fp32", "bf16", "fp16"]

WIDTHS: dict[Dtype, int] = {"fp32": 4, "bf16": 2, "fp16": 2}  # in bytes
_CODES: dict[Dtype, str] = {"fp32": "F32", "bf16": "BF16", "fp16": "F16"}
_STORED = {"F32": "<f4", "BF16": "<u2", "F16": "<f2"}
_NAMES: dict[str, Dtype] = {code: name for name, code in _CODES.items()}


class SafetensorsFile:
    """`shapes` by name, `stored(name)` as it is in the file, `read(name)` in fp32."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._data = tensors.mapped(path)
        self._entries = _entries(path, self._data)
        self.shapes: Shapes = {name: tuple(entry["shape"]) for name, entry in self._entries.items()}
        for name, entry in self._entries.items():
            if entry["dtype"] not in _STORED:
                raise FormatError(path, f"{name} is {entry['dtype']}, expected {', '.join(_STORED)}")

    @property
    def dtypes(self) -> set[Dtype]:
        return {_NAMES[entry["dtype"]] for entry in self._entries.values()}

    def stored(self, name: str) -> npt.NDArray[Any]:
        """bf16 as 16-bit words."""
        entry = self._entries[name]
        begin, end = entry["data_offsets"]
        return self._data[begin:end].view(_STORED[entry["dtype"]]).reshape(self.shapes[name])

    def read(self, name: str) -> Floats:
        stored = self.stored(name)
        array = _from_bf16(stored) if stored.dtype == np.uint16 else stored.astype(np.float32)
        tensors.check_finite(array, lambda detail: FormatError(self.path, f"{name} {detail}; the file is damaged"))
        return array


def _entries(path: Path, data: tensors.Bytes) -> dict[str, dict[str, Any]]:
    """The header, with offsets from the beginning of the file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np"):  # dtypes, shapes, offsets without gaps or overlaps, the length
            pass
    except SafetensorError as error:
        raise FormatError(path, f"is no whole safetensors file: {error}") from error
    length = int.from_bytes(data[:8].tobytes(), "little")
    header = json.loads(data[8 : 8 + length].tobytes())
    header.pop("__metadata__", None)
    return {
        name: {**entry, "data_offsets": [8 + length + offset for offset in entry["data_offsets"]]}
        for name, entry in header.items()
    }


def write(path: Path, shapes: Shapes, dtype: Dtype, read: Callable[[str], Floats]) -> None:
    """A new file of these tensors, each read when its turn comes. The one who calls renames."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}  # transformers demands it
    begin = 0
    for name, shape in shapes.items():
        end = begin + WIDTHS[dtype] * math.prod(shape)
        header[name] = {"dtype": _CODES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with files.new_file(path) as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for name in shapes:
            flat = read(name).reshape(-1)
            for first in range(0, flat.size, PIECE):
                file.write(_narrowed(name, flat[first : first + PIECE], dtype).data)


def _from_bf16(stored: npt.NDArray[np.uint16]) -> Floats:
    wide = np.empty(stored.shape, np.uint32)
    np.left_shift(stored, 16, out=wide, dtype=np.uint32)
    return wide.view(np.float32)


def _narrowed(name: str, values: Floats, dtype: Dtype) -> npt.NDArray[Any]:
    """Rounded to the nearest, ties to even. Finite values that would become infinite are refused."""
    if dtype == "fp32":
        return values.astype("<f4", copy=False)
    narrow: npt.NDArray[Any]
    if dtype == "fp16":
        narrow = cpu.to_half(values)
        overflows = np.isinf(narrow)
    else:
        bits = values.view(np.uint32)
        narrow = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
        overflows = (narrow & 0x7FFF) == 0x7F80
    if overflows.any():
        raise ValueError(f"{name} holds {values[overflows.argmax()]}, which {dtype} cannot hold; save as fp32")
    return narrow
