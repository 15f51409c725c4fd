"""Parameters as a device sees them: rows in its order, as few strided runs as there can be, in its elements."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from anetrain.cpu import HalfBlock, HalfMoves
from anetrain.lower.plan import WeightPlace
from anetrain.mil.types import Array


def row_runs(begin: int, end: int, paired_head: int) -> Iterator[tuple[int, slice]]:
    """(position, rows): the staged rows from begin + position on are these rows of the stored parameter.

    Together the runs are half_split_order[begin:end] where paired_head is set, else the rows begin to end as they are.
    """
    if not paired_head:
        yield 0, slice(begin, end)
        return
    half = paired_head // 2
    first = begin
    while first < end:
        head, within = divmod(first, paired_head)
        side, pair = divmod(within, half)
        count = min(end - first, half - pair)
        start = head * paired_head + 2 * pair + side
        yield first - begin, slice(start, start + 2 * count - 1, 2)
        first += count


def matrix_blocks(place: WeightPlace, master: Array, first: int, width: int) -> list[HalfBlock]:
    """A parameter of two axes or more, to where its first element is `first` and rows are `width` apart."""
    rows_each = math.prod(master.shape[1:-1])
    blocks: list[HalfBlock] = []
    for position, stored in row_runs(place.begin, place.end, place.paired_head):
        rows = master[stored].reshape(-1, master.shape[-1])  # a view: the masters change in place
        offset = first + position * rows_each * (1 if place.transpose else width)
        blocks.append((rows.T if place.transpose else rows, offset, width))
    return blocks


def mover(item_bytes: int, blocks: list[HalfBlock]) -> Callable[[Array], None]:
    """Writes the blocks into bytes that hold fp16 elements, or fp32 ones in the emulator's fp32 mode."""
    if item_bytes == 2:
        moves = HalfMoves(blocks)
        return lambda view: moves(view.view(np.float16))

    def copy(view: Array) -> None:
        elements = view.view(np.float32)
        for values, begin, row_stride in blocks:
            rows, columns = values.shape
            strides = (row_stride * elements.itemsize, elements.itemsize)
            np.lib.stride_tricks.as_strided(elements[begin:], (rows, columns), strides)[:] = values

    return copy
