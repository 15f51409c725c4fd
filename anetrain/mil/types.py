"""Element types and tensor types of MIL, the same names in text, blobs and numpy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class DType:
    """One element type. Types that numpy lacks are held in the next one that can: sub-byte integers one byte an
    element, bf16 and fp8 as their bits."""

    name: str
    bits: int  # in a blob
    numpy: np.dtype[Any]
    blob_code: int | None  # ANE_FACTS 4.1; None: never in a blob

    @property
    def is_float(self) -> bool:
        return self.name in ("fp16", "fp32")

    @property
    def is_integer(self) -> bool:
        return self.name.startswith(("int", "uint"))

    @property
    def is_sub_byte(self) -> bool:
        return self.is_integer and self.bits < 8

    @property
    def integer_range(self) -> tuple[int, int]:
        if self.name.startswith("uint"):
            return 0, 2**self.bits - 1
        return -(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1


_BLOB_CODES = {
    "fp16": 1, "fp32": 2, "uint8": 3, "int8": 4, "bf16": 5, "int16": 6, "uint16": 7, "int4": 8, "uint1": 9,
    "uint2": 10, "uint4": 11, "uint3": 12, "uint6": 13, "int32": 14, "uint32": 15, "fp8e4m3fn": 16, "fp8e5m2": 17,
}  # fmt: skip
_NUMPY_NAMES = {
    "fp16": "float16", "fp32": "float32", "bf16": "uint16", "fp8e4m3fn": "uint8", "fp8e5m2": "uint8", "bool": "bool",
    "int4": "int8", "uint1": "uint8", "uint2": "uint8", "uint3": "uint8", "uint4": "uint8", "uint6": "uint8",
    "string": "str",
}  # fmt: skip
_ODD_BITS = {"fp16": 16, "fp32": 32, "bf16": 16, "fp8e4m3fn": 8, "fp8e5m2": 8, "bool": 8, "string": 0}


def _make_dtypes() -> dict[str, DType]:
    names = [*_BLOB_CODES, "int64", "uint64", "bool", "string"]
    table = {}
    for name in names:
        bits = _ODD_BITS[name] if name in _ODD_BITS else int(name.removeprefix("u").removeprefix("int"))
        table[name] = DType(name, bits, np.dtype(_NUMPY_NAMES.get(name, name)), _BLOB_CODES.get(name))
    return table


DTYPES = _make_dtypes()
DTYPE_OF_BLOB_CODE = {dtype.blob_code: dtype for dtype in DTYPES.values() if dtype.blob_code is not None}


def dtype(name: str) -> DType:
    try:
        return DTYPES[name]
    except KeyError:
        raise ValueError(f"unknown element type {name!r}; MIL has {', '.join(DTYPES)}") from None


def element_count(shape: Shape) -> int:
    return math.prod(shape)


@dataclass(frozen=True)
class TensorType:
    """`fp16 [1, 768, 1, 256]`; the shape () is a scalar."""

    dtype: str
    shape: Shape = ()

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def element_count(self) -> int:
        return element_count(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype} [{', '.join(map(str, self.shape))}]"
