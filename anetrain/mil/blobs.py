"""Weight blob files: the MILBlob storage format, version 2 (ANE_FACTS 4.1), little-endian.

A file is a header of 64 bytes, then for each tensor a record of 64 bytes, on a multiple of 64, and its payload right
after. MIL text refers to the place of the record. Sub-byte elements are packed from the lowest bit up.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from anetrain.mil.types import DTYPE_OF_BLOB_CODE, Array, DType, TensorType, dtype, element_count

ALIGNMENT = 64
VERSION = 2
SENTINEL = 0xDEADBEEF
FILE_HEADER = struct.Struct("<II56x")  # count, version
RECORD = struct.Struct("<IIQQQ32x")  # sentinel, type code, payload bytes, payload place, unused bits


class BlobError(ValueError):
    """A blob file that does not hold what it should."""


@dataclass(frozen=True)
class Record:
    offset: int  # what MIL text has
    dtype: DType
    payload_bytes: int
    payload_offset: int
    padding_bits: int

    @property
    def element_count(self) -> int:
        return (self.payload_bytes * 8 - self.padding_bits) // self.dtype.bits


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a file: where, what stands there, what should."""

    offset: int
    what: str
    found: object
    expected: object

    def __str__(self) -> str:
        return f"at byte {self.offset}: {self.what} is {self.found}, expected {self.expected}"


# ---------------------------------------------------------------- packing


def pack(array: Array, kind: str) -> bytes:
    """The payload of a tensor."""
    target = dtype(kind)
    if target.blob_code is None:
        raise BlobError(f"{kind} has no blob form")
    if target.is_sub_byte:
        low, high = target.integer_range
        values = np.asarray(array).reshape(-1)
        if values.size and (values.min() < low or values.max() > high):
            raise BlobError(f"{kind} holds {low} to {high}, found {values.min()} to {values.max()}")
        bits = np.unpackbits(values.astype(np.int8).view(np.uint8)[:, None], axis=1, bitorder="little")
        return np.packbits(bits[:, : target.bits].reshape(-1), bitorder="little").tobytes()
    converted = np.ascontiguousarray(array, dtype=target.numpy)
    return converted.astype(target.numpy.newbyteorder("<"), copy=False).tobytes()


def unpack(payload: bytes, kind: str, count: int) -> Array:
    """`count` elements of a payload, flat."""
    target = dtype(kind)
    if len(payload) * 8 < count * target.bits:
        raise BlobError(f"{count} elements of {kind} need {-(-count * target.bits // 8)} bytes, found {len(payload)}")
    if not target.is_sub_byte:
        stored = np.frombuffer(payload, dtype=target.numpy.newbyteorder("<"), count=count)
        return stored.astype(target.numpy)
    bits = np.unpackbits(np.frombuffer(payload, np.uint8), count=count * target.bits, bitorder="little")
    weights = 1 << np.arange(target.bits, dtype=np.int64)
    values = bits.reshape(count, target.bits) @ weights
    if target.integer_range[0] < 0:
        values = np.where(values >= 1 << (target.bits - 1), values - (1 << target.bits), values)
    return values.astype(target.numpy)


# ---------------------------------------------------------------- writing


def write_blobs(tensors: Sequence[tuple[Array, str]]) -> tuple[bytes, list[int]]:
    """A file of these (array, element type) pairs, and the offset of each for BLOBFILE."""
    data = bytearray(FILE_HEADER.pack(len(tensors), VERSION))
    offsets = []
    for array, kind in tensors:
        data.extend(bytes(-len(data) % ALIGNMENT))
        payload = pack(array, kind)
        padding_bits = len(payload) * 8 - np.asarray(array).size * dtype(kind).bits
        offsets.append(len(data))
        data += RECORD.pack(SENTINEL, dtype(kind).blob_code, len(payload), len(data) + RECORD.size, padding_bits)
        data += payload
    return bytes(data), offsets


def write_blob(array: Array, kind: str = "fp16") -> bytes:
    """A file of one tensor; its offset is 64."""
    return write_blobs([(array, kind)])[0]


# ---------------------------------------------------------------- reading


def read_record(data: bytes, offset: int = ALIGNMENT) -> Record:
    """The record at `offset`, checked against the file."""
    if offset < 0 or offset + RECORD.size > len(data):
        raise BlobError(f"no record at {offset}: the file has {len(data)} bytes")
    sentinel, code, payload_bytes, payload_offset, padding_bits = RECORD.unpack_from(data, offset)
    if sentinel != SENTINEL:
        raise BlobError(f"no record at {offset}: found 0x{sentinel:08x}, expected the mark 0x{SENTINEL:08x}")
    if code not in DTYPE_OF_BLOB_CODE:
        raise BlobError(f"record at {offset}: type code {code}, expected 1 to {max(DTYPE_OF_BLOB_CODE)}")
    if payload_offset + payload_bytes > len(data):
        raise BlobError(
            f"record at {offset}: {payload_bytes} bytes at {payload_offset} pass the end of the file at {len(data)}"
        )
    if padding_bits > payload_bytes * 8:
        raise BlobError(f"record at {offset}: {padding_bits} unused bits in {payload_bytes} bytes")
    return Record(offset, DTYPE_OF_BLOB_CODE[code], payload_bytes, payload_offset, padding_bits)


def read_blob(
    data: bytes,
    offset: int = ALIGNMENT,
    shape: Sequence[int] | None = None,
    kind: str | None = None,
    legacy: bool = False,
) -> Array:
    """The tensor whose record is at `offset`; `shape` and `kind` are compared when given, and name the tensor that is
    meant in the malformed files of earlier trainers, which `legacy` accepts."""
    record = read_record(data, offset) if not legacy else _legacy_record(data, offset, shape, kind)
    count = record.element_count if shape is None else element_count(tuple(shape))
    if count != record.element_count:
        raise BlobError(f"record at {offset}: {record.element_count} elements, expected {count}")
    if kind is not None and kind != record.dtype.name:
        raise BlobError(f"record at {offset}: type {record.dtype.name}, expected {kind}")
    payload = data[record.payload_offset : record.payload_offset + record.payload_bytes]
    flat = unpack(payload, record.dtype.name, count)
    return flat if shape is None else flat.reshape(tuple(shape))


def _legacy_record(data: bytes, offset: int, shape: Sequence[int] | None, kind: str | None) -> Record:
    """ANE_FACTS 4.2: only the mark is trusted. Earlier trainers left size and place 0 or filled them with other
    numbers, kept the fp16 code for int8, left out the file header, or referred to the payload, which is 64 bytes past
    the record."""
    if shape is None or kind is None:
        raise BlobError("a legacy file does not say what it holds: give shape and kind")
    for place in (offset, offset - RECORD.size):
        if place >= 0 and data[place : place + 4] == struct.pack("<I", SENTINEL):
            break
    else:
        raise BlobError(f"no record at {offset} nor {RECORD.size} bytes before it")
    bits = element_count(tuple(shape)) * dtype(kind).bits
    payload_bytes = -(-bits // 8)
    payload_offset = place + RECORD.size
    if payload_offset + payload_bytes > len(data):
        raise BlobError(f"{payload_bytes} bytes at {payload_offset} pass the end of the file at {len(data)}")
    return Record(place, dtype(kind), payload_bytes, payload_offset, payload_bytes * 8 - bits)


def read_records(data: bytes) -> list[Record]:
    """All records of a well-formed file, in order."""
    if len(data) < FILE_HEADER.size:
        raise BlobError(f"{len(data)} bytes are fewer than the header of {FILE_HEADER.size}")
    count, version = FILE_HEADER.unpack_from(data)
    if version != VERSION:
        raise BlobError(f"version {version}, expected {VERSION}")
    records, offset = [], FILE_HEADER.size
    for _ in range(count):
        record = read_record(data, offset)
        records.append(record)
        end = record.payload_offset + record.payload_bytes
        offset = end + -end % ALIGNMENT
    return records


# ---------------------------------------------------------------- checking


def check_blob(data: bytes, references: Mapping[int, TensorType]) -> list[Problem]:
    """Everything that is wrong with a file whose tensors a program refers to at these offsets (ANE_FACTS 4.6)."""
    if len(data) < FILE_HEADER.size:
        return [Problem(0, "the length", f"{len(data)} bytes", f"at least {FILE_HEADER.size}")]
    count, version = FILE_HEADER.unpack_from(data)
    problems = []
    if version != VERSION:
        problems.append(Problem(4, "the version", version, VERSION))
    if count < max(len(references), 1):
        problems.append(Problem(0, "the number of tensors", count, f"at least {max(len(references), 1)}"))
    for offset, expected in sorted(references.items()):
        problems += _check_tensor(data, offset, expected)
    return problems


def _check_tensor(data: bytes, offset: int, expected: TensorType) -> list[Problem]:
    if offset % ALIGNMENT or offset < FILE_HEADER.size:
        return [Problem(offset, "the place of the record", offset, f"a multiple of {ALIGNMENT}, 64 or more")]
    if offset + RECORD.size > len(data):
        return [Problem(offset, "the record", f"cut off at {len(data)}", f"{RECORD.size} bytes")]
    sentinel, code, payload_bytes, payload_offset, padding_bits = RECORD.unpack_from(data, offset)
    if sentinel != SENTINEL:
        return [Problem(offset, "the mark", f"0x{sentinel:08x}", f"0x{SENTINEL:08x}")]
    kind = dtype(expected.dtype)
    bits = expected.element_count * kind.bits
    wanted_bytes = -(-bits // 8)
    fields = [
        (4, "the type code", code, kind.blob_code),
        (8, "the payload size", payload_bytes, wanted_bytes),
        (16, "the payload place", payload_offset, offset + RECORD.size),
        (24, "the number of unused bits", padding_bits, wanted_bytes * 8 - bits),
    ]
    problems = [Problem(offset + at, what, found, want) for at, what, found, want in fields if found != want]
    if payload_offset + payload_bytes > len(data):
        end = payload_offset + payload_bytes
        problems.append(Problem(offset + 16, "the end of the payload", end, f"at most {len(data)}, the file's length"))
    elif kind.name == "fp16" and payload_bytes == wanted_bytes:
        values = unpack(data[payload_offset : payload_offset + payload_bytes], "fp16", expected.element_count)
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            place = payload_offset + 2 * int(bad[0])
            problems.append(Problem(place, f"element {bad[0]}", float(values[bad[0]]), "a finite number"))
    return problems
