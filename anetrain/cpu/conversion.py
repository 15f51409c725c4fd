"""float32 to float16 and back, with any strides up to two dimensions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

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

# Values [R, T] of any strides, the place of the first element, the distance between rows there; both in elements.
HalfBlock: TypeAlias = tuple[Floats, int, int]
PIECE = 1 << 15  # elements of a block that are converted at a time
LINES = 64  # of the memory that is read, in a piece that is transposed: they fill cache lines where they go


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

    The arrays of `blocks` are read when they are moved.
    """

    def __init__(self, blocks: Sequence[HalfBlock]) -> None:
        self._sources = [values for values, _, _ in blocks]  # kept alive
        self._end = max([_end_of(block) for block in blocks], default=0)
        pieces = [piece for block in blocks for piece in _pieces(*block)]
        self._moves = ffi.new("AnecpuHalfMove[]", len(pieces))
        for move, piece in zip(self._moves, pieces, strict=True):
            _describe(move, *piece)

    def __call__(self, target: Halves) -> None:
        """Into a contiguous buffer."""
        _check_target(target, self._end)
        lib.anecpu_halves_from_floats_many(self._moves, len(self._moves), pointer(target))


class HalfTarget:
    """A buffer that is there at times: `with target.bound(buffer):` copies into it can be made."""

    def __init__(self) -> None:
        self.cell = ffi.new("uint16_t *[1]")
        self.end = 0  # what is copied reaches to here

    @contextmanager
    def bound(self, buffer: Halves) -> Iterator[None]:
        _check_target(buffer, self.end)
        self.cell[0] = pointer(buffer)
        try:
            yield
        finally:
            self.cell[0] = ffi.NULL

    @property
    def is_bound(self) -> bool:
        return bool(self.cell[0])


class HalfCopies:
    """Blocks of one contiguous array that go to places of buffers, as in HalfMoves, in the pass that changes the array:
    `adamw` makes them of each stretch as soon as that is updated.

    Stretches are cut where no block's piece reads on both sides.
    """

    def __init__(self, values: Floats, blocks: Sequence[tuple[HalfTarget, HalfBlock]]) -> None:
        checked("values", values, np.float32)
        if not values.flags.c_contiguous:
            raise ValueError(f"values has strides {values.strides} bytes; it must be contiguous")
        self.values, self.targets = values, list(dict.fromkeys(target for target, _ in blocks))
        pieces: list[tuple[int, int, HalfTarget, HalfBlock]] = []  # the elements that each reads, from and to
        for target, block in blocks:
            target.end = max(target.end, _end_of(block))
            for piece in _pieces(*block):
                if piece[0].size:
                    pieces.append((*self._read_by(piece[0]), target, piece))
        pieces.sort(key=lambda piece: piece[0])
        self.copies = ffi.new("AnecpuHalfCopy[]", len(pieces))
        for copy, (_, _, target, piece) in zip(self.copies, pieces, strict=True):
            _describe(copy.move, *piece)
            copy.target = target.cell
        ends = self._stretches([(begin, end) for begin, end, _, _ in pieces])
        self.stretches = ffi.new("AnecpuCopiedStretch[]", ends)

    def _read_by(self, block: Floats) -> tuple[int, int]:
        begin = (block.ctypes.data - self.values.ctypes.data) // self.values.itemsize
        end = begin + 1 + sum((n - 1) * s for n, s in zip(block.shape, element_strides(block), strict=True))
        if not 0 <= begin < end <= self.values.size:
            raise ValueError(f"a block {list(block.shape)} is no part of the values {list(self.values.shape)}")
        return begin, end

    def _stretches(self, read: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """(end, end of the copies): what pieces read, where they overlap all of it, and what is between."""
        found: list[tuple[int, int]] = []

        def pass_over(begin: int, end: int, copies: int) -> None:
            found.extend((min(first + PIECE, end), copies) for first in range(begin, end, PIECE))

        done, position = 0, 0
        while position < len(read):
            first, (begin, end) = position, read[position]
            while position < len(read) and (position == first or read[position][0] < end):
                end = max(end, read[position][1])
                position += 1
            pass_over(done, begin, first)
            found.append((end, position))
            done = end
        pass_over(done, self.values.size, len(read))
        return found


def _end_of(block: HalfBlock) -> int:
    """Behind the last element in the buffer."""
    values, begin, row_stride = block
    checked("values", values, np.float32)
    rows, columns = values.shape
    if begin < 0 or (row_stride < columns and rows > 1):
        raise ValueError(f"a block {rows} x {columns} at {begin} with rows {row_stride} apart overlaps itself")
    return begin + (rows - 1) * row_stride + columns if values.size else 0


def _pieces(values: Floats, begin: int, row_stride: int) -> Iterator[HalfBlock]:
    rows, columns = values.shape
    if rows > 1 and element_strides(values)[0] == 1:  # transposed: cut between the lines of the source
        for column in range(0, columns, LINES):
            yield values[:, column : column + LINES], begin + column, row_stride
        return
    step = max(1, PIECE // max(columns, 1))
    for row in range(0, rows, step):
        yield values[row : row + step], begin + row * row_stride, row_stride


def _describe(move: Any, values: Floats, begin: int, row_stride: int) -> None:
    move.source = pointer(values)
    move.source_row_stride, move.source_column_stride = element_strides(values)
    move.target_begin, move.target_row_stride = begin, row_stride
    move.rows, move.columns = values.shape


def _check_target(target: Halves, end: int) -> None:
    checked("target", target, np.float16)
    if not target.flags.c_contiguous or not target.flags.writeable or target.size < end:
        raise ValueError(f"target has {target.size} elements, expected a contiguous buffer of at least {end}")


def fp16_version() -> str:
    """Which implementation this CPU runs: avx512, f16c, neon or scalar. All give the same bits."""
    return str(ffi.string(lib.anecpu_fp16_selected()).decode())
