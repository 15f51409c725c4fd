"""What a program's compressed weight means, read from the bytes of its blob files.

Second opinion: it knows the format (ANE_FACTS 4.1 to 4.4) and shares no code with what writes it (anetrain/mil).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

FP16, INT8, UINT4 = 1, 4, 11  # type codes
RECORD_AT, RECORD_BYTES, MARK = 64, 64, 0xDEADBEEF


def elements(file: bytes) -> npt.NDArray[np.int8] | npt.NDArray[np.uint8] | npt.NDArray[np.float16]:
    """The only tensor of a file, flat. The first of two 4-bit elements is in the low half of their byte."""
    mark, code, size, start, unused_bits = struct.unpack_from("<IIQQQ", file, RECORD_AT)
    payload = file[start : start + size]
    if mark != MARK or start != RECORD_AT + RECORD_BYTES or len(payload) != size:
        raise ValueError(f"mark {mark:#x}, {size} bytes at {start} of {len(file)}: not a blob file of one tensor")
    if code == FP16:
        return np.frombuffer(payload, "<f2")
    if code == INT8:
        return np.frombuffer(payload, np.int8)
    if code == UINT4:
        both = np.frombuffer(payload, np.uint8)
        return np.stack([both % 16, both // 16], axis=1).reshape(-1)[: 2 * size - unused_bits // 4]
    raise ValueError(f"type code {code}: expected {FP16}, {INT8} or {UINT4}")


def payload_bytes(files: Mapping[str, bytes]) -> int:
    """What the weight takes: payloads without headers."""
    return sum(int(struct.unpack_from("<Q", file, RECORD_AT + 8)[0]) for file in files.values())


def plain(files: Mapping[str, bytes], outputs: int, inputs: int) -> Floats:
    return _numbers(files["weight"]).reshape(outputs, inputs)


def scaled(files: Mapping[str, bytes], outputs: int, inputs: int) -> Floats:
    """(data - offset) * scale, where scale and offset are of one block of a row each; no offset: 0."""
    data = _numbers(files["data"]).reshape(outputs, -1)
    scales = _numbers(files["scale"]).reshape(outputs, -1)  # [out, blocks]
    offsets = _numbers(files["offset"]).reshape(scales.shape) if "offset" in files else np.zeros(scales.shape)
    block = inputs // scales.shape[1]
    weight = np.empty((outputs, inputs))
    for column in range(inputs):
        of_block = column // block
        weight[:, column] = (data[:, column] - offsets[:, of_block]) * scales[:, of_block]
    return weight


def looked_up(files: Mapping[str, bytes], outputs: int, inputs: int) -> Floats:
    indices = elements(files["indices"]).astype(np.int64)
    return _numbers(files["lut"])[indices].reshape(outputs, inputs)


def _numbers(file: bytes) -> Floats:
    return elements(file).astype(np.float64)
