"""Staging: fp32 masters become fp16 on the weight surfaces of a layer, when somebody asks for it, and only then."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from anetrain.cpu import half_split_order
from anetrain.graph import Value
from anetrain.lower.plan import WeightPlace
from anetrain.mil.types import Array
from anetrain.pipeline.rows import row_runs
from anetrain.pipeline.surfaces import PlacedSurface


class Staging:
    """All writes of a layer's weights, bound once to their masters and surfaces. Padding stays zero."""

    def __init__(
        self,
        places: Iterable[WeightPlace],
        surfaces: Mapping[str, PlacedSurface],
        master_of: Callable[[Value], Array],
    ) -> None:
        self._writes: list[Callable[[], None]] = []
        self.bytes = 0  # of one staging
        for place in places:
            assert place.region is not None
            surface, master = surfaces[place.region.surface], master_of(place.parameter)
            self._writes += _vector(place, surface, master) if master.ndim == 1 else _matrix(place, surface, master)
            self.bytes += surface.bytes(place.region)

    def stage(self) -> None:
        for write in self._writes:
            write()


def _matrix(place: WeightPlace, surface: PlacedSurface, master: Array) -> list[Callable[[], None]]:
    assert place.region is not None
    first, rows_each = surface.offset(place.region), math.prod(master.shape[1:-1])
    writes: list[Callable[[], None]] = []
    for position, stored in row_runs(place.begin, place.end, place.paired_head):
        rows = master[stored].reshape(-1, master.shape[-1])  # a view: the masters change in place
        offset = first + position * rows_each * (1 if place.transpose else surface.width)
        part = rows.T if place.transpose else rows
        writes.append(partial(surface.surface.write, part, offset=offset, row_stride=surface.width))
    return writes


def _vector(place: WeightPlace, surface: PlacedSurface, master: Array) -> list[Callable[[], None]]:
    """Row by row through a small buffer, whose last row ends with zeros."""
    assert place.region is not None
    buffer = np.zeros((place.region.rows, place.region.columns), np.float32)
    elements = buffer.reshape(-1)[: place.end - place.begin]
    order: npt.NDArray[np.signedinteger[Any]] = np.arange(len(master))
    if place.paired_head:
        order = half_split_order(len(master), place.paired_head)
    return [
        partial(np.take, master, order[place.begin : place.end], out=elements, mode="clip"),  # clip: no buffer
        surface.writer(place.region, buffer),
    ]
