"""Weights in fewer bits: what is written means what it should, read by hand and by the op table."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from anetrain.bench import decoding, quantised
from anetrain.bench.quant import APPROACHES, graph_of

OUT, IN = 32, 64
WEIGHT = quantised.uneven_rows(np.random.default_rng(7), OUT, IN)


def file_of(code: int, payload: bytes, unused_bits: int = 0) -> bytes:
    """A blob file of one tensor, by hand: header, record, payload (ANE_FACTS 4.1)."""
    record = struct.pack("<IIQQQ32x", 0xDEADBEEF, code, len(payload), 128, unused_bits)
    return struct.pack("<II56x", 1, 2) + record + payload


def test_rows_differ_in_size_and_keep_the_size_of_values() -> None:
    weight = quantised.uneven_rows(np.random.default_rng(0), 512, 512)
    rows = np.sqrt(np.mean(weight**2, axis=1) * 512)
    assert rows.max() / rows.min() > 2
    assert np.mean(weight**2) * 512 == pytest.approx(1, rel=0.01)


def test_int8_is_within_half_a_step_of_its_row() -> None:
    data, scales = quantised.int8_per_channel(WEIGHT)
    assert (data.dtype, scales.dtype, data.min() >= -127) == (np.int8, np.float16, True)
    assert np.all(np.abs(data).max(axis=1) == 127)
    off = np.abs(data * scales[:, None].astype(np.float64) - WEIGHT)
    assert np.all(off <= 0.5 * scales[:, None] + 127 * scales[:, None] * 2.0**-11)


@pytest.mark.parametrize("block", [32, IN])
def test_uint4_is_within_a_step_of_its_block(block: int) -> None:
    data, scales, zeros = quantised.uint4_affine(WEIGHT, block)
    assert data.shape == WEIGHT.shape
    assert scales.shape == zeros.shape == (OUT, IN // block)
    assert (data.min(), data.max()) == (0, 15)
    steps, places = (np.repeat(part.astype(np.float64), block, axis=1) for part in (scales, zeros))
    assert np.all(np.abs((data - places) * steps - WEIGHT) <= 1.01 * steps)  # half for it, half for the zero point


def test_a_block_on_one_side_of_zero_still_holds_zero() -> None:
    data, scales, zeros = quantised.uint4_affine(np.full((1, 32), 3.0, np.float32), 32)
    assert (data.tolist(), zeros.tolist()) == ([[15] * 32], [[0]])
    assert scales[0, 0] == pytest.approx(3 / 15, rel=1e-3)


def test_a_palette_has_the_nearest_value() -> None:
    indices, values = quantised.palette(WEIGHT)
    assert np.all(np.diff(values) > 0)
    nearest = np.abs(WEIGHT[..., None] - values.astype(np.float64)).argmin(axis=-1)
    assert np.mean(indices == nearest) > 0.999  # the rest lies on a border
    assert np.bincount(indices.reshape(-1), minlength=16).min() > 0.3 * OUT * IN / 16


# ---------------------------------------------------------------- reading


def test_bytes_are_read_as_the_format_says() -> None:
    assert decoding.elements(file_of(1, np.array([1.5, -2], "<f2").tobytes())).tolist() == [1.5, -2]
    assert decoding.elements(file_of(4, bytes([1, 255]))).tolist() == [1, -1]
    assert decoding.elements(file_of(11, bytes([0x21, 0x43]))).tolist() == [1, 2, 3, 4]
    assert decoding.elements(file_of(11, bytes([0x21, 0x03]), unused_bits=4)).tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "file",
    [
        file_of(7, b"ab"),
        file_of(4, b"ab")[:-1],
        file_of(4, b"ab").replace(b"\xef\xbe\xad\xde", b"\xde\xad\xbe\xef"),
    ],
)
def test_what_is_no_blob_file_is_refused(file: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a blob file|type code 7"):
        decoding.elements(file)


def test_scales_and_offsets_belong_to_blocks_of_rows() -> None:
    files = {
        "data": file_of(11, bytes([0x21, 0x43, 0x65, 0x87])),  # [[1, 2, 3, 4], [5, 6, 7, 8]]
        "scale": file_of(1, np.array([1, 10, 100, 1000], "<f2").tobytes()),
        "offset": file_of(11, bytes([0x10, 0x32])),  # [[0, 1], [2, 3]]
    }
    expected = [[1, 2, 20, 30], [300, 400, 4000, 5000]]
    assert decoding.scaled(files, 2, 4).tolist() == expected
    assert decoding.payload_bytes(files) == 4 + 8 + 2


def test_indices_are_looked_up() -> None:
    values = np.arange(16) * 0.5 - 4
    files = {"indices": file_of(11, bytes([0x10, 0xFE])), "lut": file_of(1, values.astype("<f2").tobytes())}
    assert decoding.looked_up(files, 2, 2).tolist() == [[-4, -3.5], [3, 3.5]]


@pytest.mark.parametrize("name", APPROACHES)
def test_what_is_stored_is_read_back(name: str) -> None:
    """By this reader, and by the meaning that the op table gives the program's constants."""
    approach = APPROACHES[name]
    graph = graph_of(approach, WEIGHT, 32)
    files = {path.rsplit("/", 1)[-1].removesuffix(".bin"): data for path, data in graph.program().blobs.items()}
    found = approach.decode(files, OUT, IN)
    weight = graph.nodes[-1].tensors["weight"]
    assert weight is not None
    assert not isinstance(weight, tuple)
    node = weight.producer
    if node is not None and node.op.name == "add":
        node = graph.nodes[-3]
    if node is None:
        assert weight.data is not None
        meaning = weight.data
    else:
        operands = {key: None if value is None else value.data for key, value in node.tensors.items()}
        meaning = node.op.meaning(**operands, **node.parameters)
    np.testing.assert_allclose(found, meaning[:, :, 0, 0], rtol=1e-6)
    error = np.sqrt(np.mean((found - WEIGHT) ** 2) / np.mean(WEIGHT**2))
    assert 0.1 * approach.coarse < error < approach.coarse
