"""float32 to float16 and back, with any strides up to two dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from anetrain._cpu import ffi, lib
from anetrain.cpu._arrays import (
    Array,
    Floats,
    Halves,
    Ids,
    checked,
    checked_ids,
    element_strides,
    matrix,
    output,
    pointer,
)


def to_half(values: Floats, out: Halves | None = None, *, row_order: Ids | None = None) -> Halves:
    """float32 to float16. Contiguous arrays may have any number of dimensions, others at most two.

    With `row_order`, out[row_order[r]] = values[r] for values [R, T], whose rows and those of `out` are contiguous.
    """
    if row_order is not None:
        return _convert_rows(values, np.float32, out, np.float16, row_order, lib.anecpu_halves_from_floats_rows)
    return _convert(values, np.float32, out, np.float16, lib.anecpu_halves_from_floats_2d)


def to_float(values: Halves, out: Floats | None = None, *, row_order: Ids | None = None) -> Floats:
    """float16 to float32. Contiguous arrays may have any number of dimensions, others at most two.

    With `row_order`, out[row_order[r]] = values[r] for values [R, T], whose rows and those of `out` are contiguous.
    """
    if row_order is not None:
        return _convert_rows(values, np.float16, out, np.float32, row_order, lib.anecpu_floats_from_halves_rows)
    return _convert(values, np.float16, out, np.float32, lib.anecpu_floats_from_halves_2d)


def _convert(
    values: Array, source_dtype: npt.DTypeLike, out: Array | None, target_dtype: npt.DTypeLike, convert: Any
) -> Array:
    checked("values", values, source_dtype)
    target = output(out, values.shape, target_dtype, values)
    if values.flags.c_contiguous and target.flags.c_contiguous:
        convert(pointer(values), values.size, 1, pointer(target), values.size, 1, 1, values.size)
        return target
    if values.ndim > 2:
        raise ValueError(
            f"values has {values.ndim} dimensions with strides {values.strides}, out {target.strides}; "
            "beyond two dimensions both must be contiguous: convert slice by slice, or reshape"
        )
    rows, columns = (1, *values.shape) if values.ndim == 1 else values.shape
    source_strides, target_strides = ([0, *element_strides(a)][-2:] for a in (values, target))
    convert(pointer(values), *source_strides, pointer(target), *target_strides, rows, columns)
    return target


def _convert_rows(
    values: Array, source_dtype: npt.DTypeLike, out: Array | None, target_dtype: npt.DTypeLike, order: Ids, convert: Any
) -> Array:
    checked("values", values, source_dtype)
    values_at = matrix("values", values)
    target = output(out, values.shape, target_dtype, values)
    rows = values.shape[0]
    order_at = checked_ids("row_order", order, rows, rows)
    counts = np.bincount(order, minlength=rows)
    if (counts > 1).any():
        raise ValueError(f"row_order has {counts.argmax()} more than once; expected each of 0 to {rows - 1} once")
    convert(*values_at, *matrix("out", target), order_at, *values.shape)
    return target


# --- Row orders for rotary embedding. Weights whose pairs are interleaved (rows 2i and 2i + 1 of a head turn together)
# are used in half-split order (rows i and i + D/2), which needs no access across the width. ---


def half_split_order(rows: int, head_dim: int) -> Ids:
    """The interleaved row that stands at each half-split place: 2i in a head's first half, 2i + 1 in its second.

    cpu.to_float(dw, out=master_gradient, row_order=half_split_order(...)) brings half-split rows home.
    """
    if head_dim < 2 or head_dim % 2 or rows < 0 or rows % head_dim:
        raise ValueError(f"{rows} rows in heads of {head_dim}; expected whole heads of an even number of rows")
    order: Ids = np.arange(rows, dtype=np.int32).reshape(-1, head_dim // 2, 2).swapaxes(1, 2).reshape(-1)
    return order


def interleaved_order(rows: int, head_dim: int) -> Ids:
    """The inverse of `half_split_order`: the half-split place of each interleaved row.

    cpu.to_half(master, out=staged, row_order=interleaved_order(...)) stages interleaved rows half-split.
    """
    order = np.empty(rows, np.int32)
    order[half_split_order(rows, head_dim)] = np.arange(rows, dtype=np.int32)
    return order


class HalfMoves:
    """Blocks of float32 arrays that go, as float16, to places of one buffer: described once, moved often, in pieces
    that all threads share.

    `blocks`: (values [R, T] of any strides, the place of the first element, the distance between rows there), places
    in elements. The arrays are read when they are moved.
    """

    PIECE = 1 << 15  # elements
    LINES = 64  # of the memory that is read, in a piece that is transposed: they fill cache lines where they go

    def __init__(self, blocks: Sequence[tuple[Floats, int, int]]) -> None:
        self._sources = [values for values, _, _ in blocks]  # kept alive
        pieces = []
        self._end = 0
        for values, begin, row_stride in blocks:
            checked("values", values, np.float32)
            rows, columns = values.shape
            if begin < 0 or (row_stride < columns and rows > 1):
                raise ValueError(f"a block {rows} x {columns} at {begin} with rows {row_stride} apart overlaps itself")
            self._end = max(self._end, begin + (rows - 1) * row_stride + columns if values.size else 0)
            if rows > 1 and element_strides(values)[0] == 1:  # transposed: cut between the lines of the source
                for column in range(0, columns, self.LINES):
                    pieces.append((values[:, column : column + self.LINES], begin + column, row_stride))
                continue
            step = max(1, self.PIECE // max(columns, 1))
            for row in range(0, rows, step):
                pieces.append((values[row : row + step], begin + row * row_stride, row_stride))
        self._moves = ffi.new("AnecpuHalfMove[]", len(pieces))
        for move, (values, begin, row_stride) in zip(self._moves, pieces, strict=True):
            move.source = pointer(values)
            move.source_row_stride, move.source_column_stride = element_strides(values)
            move.target_begin, move.target_row_stride = begin, row_stride
            move.rows, move.columns = values.shape

    def __call__(self, target: Halves) -> None:
        """Into a contiguous buffer."""
        checked("target", target, np.float16)
        if not target.flags.c_contiguous or not target.flags.writeable or target.size < self._end:
            raise ValueError(f"target has {target.size} elements, expected a contiguous buffer of at least {self._end}")
        lib.anecpu_halves_from_floats_many(self._moves, len(self._moves), pointer(target))


def fp16_version() -> str:
    """Which implementation this CPU runs: avx512, f16c, neon or scalar. All give the same bits."""
    return str(ffi.string(lib.anecpu_fp16_selected()).decode())
