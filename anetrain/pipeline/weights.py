"""Staging: fp32 masters become fp16 on the weight surfaces of a layer, when somebody asks for it, and only then."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from anetrain.cpu import half_split_order
from anetrain.graph import Value
from anetrain.lower.plan import WeightPlace
from anetrain.mil.types import Array
from anetrain.pipeline.rows import Block, matrix_blocks, mover
from anetrain.pipeline.surfaces import PlacedSurface


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
            if master.ndim == 1:
                blocks += self._vector(place, surface, master)
            else:
                blocks += matrix_blocks(place, master, surface.offset(place.region), surface.width)
            self.bytes += surface.bytes(place.region)
        self._moves = [(surface, mover(surface.item_bytes, blocks)) for surface, blocks in found.items()]

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
