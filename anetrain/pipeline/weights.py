"""Staging: fp32 masters become fp16 on the weight surfaces of a layer, when somebody asks for it, and only then."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from anetrain.cpu import HalfMoves, half_split_order
from anetrain.graph import Value
from anetrain.lower.plan import WeightPlace
from anetrain.mil.types import Array
from anetrain.pipeline.rows import row_runs
from anetrain.pipeline.surfaces import PlacedSurface

# Values, the place of the first element on the surface, the distance between rows there.
Block: TypeAlias = tuple[Array, int, int]


class Staging:
    """All writes of a layer's weights, bound once to their masters and surfaces. Padding stays zero."""

    def __init__(
        self,
        places: Iterable[WeightPlace],
        surfaces: Mapping[str, PlacedSurface],
        master_of: Callable[[Value], Array],
    ) -> None:
        self._gathers: list[Callable[[], object]] = []
        found: dict[PlacedSurface, list[Block]] = {}
        self.bytes = 0  # of one staging
        for place in places:
            assert place.region is not None
            surface, master = surfaces[place.region.surface], master_of(place.parameter)
            blocks = found.setdefault(surface, [])
            blocks += self._vector(place, surface, master) if master.ndim == 1 else _matrix(place, surface, master)
            self.bytes += surface.bytes(place.region)
        self._moves = [(surface, _mover(surface, blocks)) for surface, blocks in found.items()]

    def stage(self) -> None:
        for gather in self._gathers:
            gather()
        for surface, move in self._moves:
            with surface.surface.lock(write=True) as view:
                move(view)

    def _vector(self, place: WeightPlace, surface: PlacedSurface, master: Array) -> list[Block]:
        """Row by row, through a small buffer, whose last row ends with zeros."""
        assert place.region is not None
        buffer = np.zeros((place.region.rows, place.region.columns), np.float32)
        elements = buffer.reshape(-1)[: place.end - place.begin]
        order: npt.NDArray[np.signedinteger[Any]] = np.arange(len(master))
        if place.paired_head:
            order = half_split_order(len(master), place.paired_head)
        # clip: otherwise take makes a buffer of its own
        self._gathers.append(partial(np.take, master, order[place.begin : place.end], out=elements, mode="clip"))
        return [(buffer, surface.offset(place.region), surface.width)]


def _matrix(place: WeightPlace, surface: PlacedSurface, master: Array) -> list[Block]:
    assert place.region is not None
    first, rows_each = surface.offset(place.region), math.prod(master.shape[1:-1])
    blocks: list[Block] = []
    for position, stored in row_runs(place.begin, place.end, place.paired_head):
        rows = master[stored].reshape(-1, master.shape[-1])  # a view: the masters change in place
        offset = first + position * rows_each * (1 if place.transpose else surface.width)
        blocks.append((rows.T if place.transpose else rows, offset, surface.width))
    return blocks


def _mover(surface: PlacedSurface, blocks: list[Block]) -> Callable[[Array], None]:
    """Writes the blocks into the bytes of a surface, whose elements are fp16, or fp32 in the emulator's fp32 mode."""
    if surface.item_bytes == 2:
        moves = HalfMoves(blocks)
        return lambda view: moves(view.view(np.float16))

    def copy(view: Array) -> None:
        elements = view.view(np.float32)
        for values, begin, row_stride in blocks:
            rows, columns = values.shape
            strides = (row_stride * elements.itemsize, elements.itemsize)
            np.lib.stride_tricks.as_strided(elements[begin:], (rows, columns), strides)[:] = values

    return copy
