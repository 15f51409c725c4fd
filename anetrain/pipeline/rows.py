"""Rows of a parameter in the order in which a device sees them: as few strided runs as there can be."""

from __future__ import annotations

from collections.abc import Iterator


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
