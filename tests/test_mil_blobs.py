"""Weight blob files: byte for byte what coremltools writes, read by its reader; every check catches its mutation."""

from __future__ import annotations

import contextlib
import importlib.util
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from anetrain.mil.blobs import (
    BlobError,
    check_blob,
    pack,
    read_blob,
    read_record,
    read_records,
    unpack,
    write_blob,
    write_blobs,
)
from anetrain.mil.types import DTYPES, TensorType
from tests.support import need

BLOB_TYPES = [name for name, dtype in DTYPES.items() if dtype.blob_code is not None]
COREMLTOOLS_NAMES = {"fp32": "float"}  # its methods are write_float_data, write_uint4_data ...
COREMLTOOLS_TYPES = [name for name in BLOB_TYPES if not name.startswith(("bf16", "fp8"))]


def storage() -> Any:
    need(importlib.util.find_spec("coremltools"), "coremltools is not installed")
    import coremltools.libmilstoragepython as module

    return module


def values_of(name: str, count: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    dtype = DTYPES[name]
    if dtype.is_float:
        return generator.standard_normal(count).astype(dtype.numpy)
    if not dtype.is_integer:  # bf16, fp8: held as bits
        return generator.integers(0, 2**dtype.bits, count).astype(dtype.numpy)
    low, high = dtype.integer_range
    return generator.integers(low, high, count, endpoint=True).astype(dtype.numpy)


@st.composite
def tensors(draw: st.DrawFn) -> tuple[np.ndarray, str]:
    name = draw(st.sampled_from(BLOB_TYPES))
    dtype = DTYPES[name]
    shape = draw(hnp.array_shapes(max_dims=4, max_side=7))
    if dtype.is_float:
        elements: Any = st.floats(width=dtype.bits, allow_nan=False)  # type: ignore[call-overload]
    elif dtype.is_integer:
        elements = st.integers(*dtype.integer_range)
    else:
        elements = st.integers(0, 2**dtype.bits - 1)
    return draw(hnp.arrays(dtype.numpy, shape, elements=elements)), name


# ---------------------------------------------------------------- against coremltools


def coremltools_file(path: Path, arrays: list[tuple[np.ndarray, str]]) -> tuple[bytes, list[int]]:
    writer = storage()._BlobStorageWriter(str(path), True)
    offsets = []
    for values, name in arrays:
        method = f"write_{COREMLTOOLS_NAMES.get(name, name)}_data"
        offsets.append(getattr(writer, method)(values.view(np.uint16) if name == "fp16" else values))
    del writer  # the last reference: it writes the header now
    return path.read_bytes(), offsets


@pytest.mark.parametrize("name", COREMLTOOLS_TYPES)
@pytest.mark.parametrize("count", [1, 5, 64, 77])
def test_bytes_equal_coremltools(name: str, count: int, tmp_path: Path) -> None:
    values = values_of(name, count)
    expected, offsets = coremltools_file(tmp_path / "blob.bin", [(values, name)])
    assert offsets == [64]
    assert write_blob(values, name) == expected


@pytest.mark.parametrize("name", COREMLTOOLS_TYPES)
def test_coremltools_reads_ours(name: str, tmp_path: Path) -> None:
    module = storage()
    first, second = values_of("fp16", 33), values_of(name, 21)
    data, offsets = write_blobs([(first, "fp16"), (second, name)])
    path = tmp_path / "blob.bin"
    path.write_bytes(data)
    reader = module._BlobStorageReader(str(path))
    assert np.array_equal(np.asarray(reader.read_fp16_data(offsets[0])).view(np.float16), first)
    back = np.asarray(getattr(reader, f"read_{COREMLTOOLS_NAMES.get(name, name)}_data")(offsets[1]))
    assert np.array_equal(back.view(np.float16) if name == "fp16" else back, second)


def test_many_tensors_equal_coremltools(tmp_path: Path) -> None:
    arrays = [(values_of(name, 10 + i, i), name) for i, name in enumerate(COREMLTOOLS_TYPES)]
    assert write_blobs(arrays) == coremltools_file(tmp_path / "blob.bin", arrays)


# ---------------------------------------------------------------- round trips


@given(tensors())
def test_round_trip(tensor: tuple[np.ndarray, str]) -> None:
    array, name = tensor
    data = write_blob(array, name)
    back = read_blob(data, shape=array.shape, kind=name)
    assert back.dtype == DTYPES[name].numpy
    assert back.tobytes() == array.tobytes()
    if not DTYPES[name].is_float or np.isfinite(array).all():
        assert check_blob(data, {64: TensorType(name, array.shape)}) == []


@given(st.lists(tensors(), min_size=1, max_size=5))
def test_round_trip_of_many(given_tensors: list[tuple[np.ndarray, str]]) -> None:
    data, offsets = write_blobs(given_tensors)
    records = read_records(data)
    assert [record.offset for record in records] == offsets
    assert [record.dtype.name for record in records] == [name for _, name in given_tensors]
    for (array, _), offset in zip(given_tensors, offsets, strict=True):
        assert offset % 64 == 0
        assert read_blob(data, offset, array.shape).tobytes() == array.tobytes()


def test_sub_byte_order_is_lowest_bits_first() -> None:
    assert pack(np.array([1, 2, 15]), "uint4") == bytes([0x21, 0x0F])
    assert pack(np.array([-1, -8]), "int4") == bytes([0x8F])
    assert pack(np.array([1, 0, 0, 1, 0, 0, 0, 0, 1]), "uint1") == bytes([0b1001, 1])
    assert unpack(bytes([0x8F]), "int4", 2).tolist() == [-1, -8]


def test_layout_of_the_simplest_file() -> None:
    data = write_blob(np.array([1.0, -2.0]), "fp16")
    assert data[:8] == struct.pack("<II", 1, 2)
    assert data[64:96] == struct.pack("<IIQQQ", 0xDEADBEEF, 1, 4, 128, 0)
    assert data[128:] == bytes([0x00, 0x3C, 0x00, 0xC0])
    assert len(data) == 132


def test_values_outside_the_type_are_refused() -> None:
    with pytest.raises(BlobError, match="uint4 holds 0 to 15, found 3 to 16"):
        pack(np.array([3, 16]), "uint4")
    with pytest.raises(BlobError, match="bool has no blob form"):
        pack(np.array([True]), "bool")


# ---------------------------------------------------------------- what is wrong with a file

GOOD = write_blob(np.arange(8), "fp16")
GOOD_TYPE = TensorType("fp16", (2, 4))
HALF_INF = bytes([0x00, 0x7C])


def patched(offset: int, new: bytes) -> bytes:
    return GOOD[:offset] + new + GOOD[offset + len(new) :]


# name -> (file, offset that MIL gives, place of the problem, what it says)
MUTATIONS: dict[str, tuple[bytes, int, int, str]] = {
    "empty": (b"", 64, 0, "the length is 0 bytes, expected at least 64"),
    "version": (patched(4, b"\x01"), 64, 4, "the version is 1, expected 2"),
    "count": (patched(0, b"\x00"), 64, 0, "the number of tensors is 0, expected at least 1"),
    "alignment": (GOOD, 65, 65, "the place of the record is 65, expected a multiple of 64"),
    "inside the header": (GOOD, 0, 0, "the place of the record is 0"),
    "record cut off": (GOOD[:100], 64, 64, "the record is cut off at 100, expected 64 bytes"),
    "mark": (patched(64, b"\xee"), 64, 64, "the mark is 0xdeadbeee, expected 0xdeadbeef"),
    "type": (patched(68, b"\x04"), 64, 68, "the type code is 4, expected 1"),
    "size": (patched(72, b"\x0f"), 64, 72, "the payload size is 15, expected 16"),
    "place": (patched(80, b"\x40"), 64, 80, "the payload place is 64, expected 128"),
    "unused bits": (patched(88, b"\x04"), 64, 88, "the number of unused bits is 4, expected 0"),
    "payload cut off": (GOOD[:-1], 64, 80, "the end of the payload is 144, expected at most 143"),
    "inf": (patched(128 + 6, HALF_INF), 64, 134, "element 3 is inf, expected a finite number"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_every_check_catches_its_mutation(name: str) -> None:
    data, offset, place, text = MUTATIONS[name]
    assert check_blob(GOOD, {64: GOOD_TYPE}) == []
    problems = check_blob(data, {offset: GOOD_TYPE})
    assert any(problem.offset == place and text in str(problem) for problem in problems), problems


def test_reading_reports_the_place() -> None:
    with pytest.raises(BlobError, match="no record at 128: found 0x"):
        read_record(write_blob(np.zeros(64), "fp16"), 128)
    with pytest.raises(BlobError, match="record at 64: 8 elements, expected 9"):
        read_blob(GOOD, shape=(9,))
    with pytest.raises(BlobError, match="record at 64: type fp16, expected int8"):
        read_blob(GOOD, shape=(8,), kind="int8")
    with pytest.raises(BlobError, match="pass the end of the file"):
        read_blob(GOOD[:-1])


@given(st.binary(max_size=300), st.integers(-10, 400))
def test_any_bytes_give_an_error_or_a_tensor(data: bytes, offset: int) -> None:
    for start in (b"", GOOD[:96]):
        file = start + data
        check_blob(file, {max(offset, 0): GOOD_TYPE})
        for read in (lambda f: read_blob(f, offset), read_records):  # type: ignore[misc]
            with contextlib.suppress(BlobError):
                read(file)


# ---------------------------------------------------------------- files of earlier trainers

FLOATS = np.arange(8, dtype=np.float16)
BYTES = np.arange(-4, 4, dtype=np.int8)


def mark(code: int = 1, size: int = 0, place: int = 0) -> bytes:
    return struct.pack("<IIQQQ32x", 0xDEADBEEF, code, size, place, 0)


LEGACY: dict[str, tuple[bytes, int, np.ndarray, str]] = {
    "size field with a stray bit, place 0": (GOOD[:64] + mark(size=0x00100000) + FLOATS.tobytes(), 64, FLOATS, "fp16"),
    "int8 under the fp16 code": (GOOD[:64] + mark(size=0x00080000) + BYTES.tobytes(), 64, BYTES, "int8"),
    "no file header": (mark(size=0x00080000) + BYTES.tobytes(), 0, BYTES, "int8"),
    "offset of the payload": (GOOD, 128, FLOATS, "fp16"),
}


@pytest.mark.parametrize("name", LEGACY)
def test_legacy_files_need_the_flag(name: str) -> None:
    data, offset, expected, kind = LEGACY[name]
    with pytest.raises(BlobError):
        read_blob(data, offset, expected.shape, kind)
    assert np.array_equal(read_blob(data, offset, expected.shape, kind, legacy=True), expected)


def test_legacy_files_do_not_say_what_they_hold() -> None:
    refusals: list[Callable[[], object]] = [
        lambda: read_blob(GOOD, legacy=True),
        lambda: read_blob(GOOD, 32, (8,), "fp16", legacy=True),
        lambda: read_blob(GOOD, 64, (9,), "fp16", legacy=True),
    ]
    for refusal in refusals:
        with pytest.raises(BlobError):
            refusal()
