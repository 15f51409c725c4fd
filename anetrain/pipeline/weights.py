"""Staging: fp32 masters become fp16 on the weight surfaces of a layer, when somebody asks for it, and only then.

Matrices in fp16 may also be staged by who updates them, stretch by stretch while they are in the cache: WeightCopies.
What these leave is staged behind the update.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from anetrain.cpu import HalfBlock, HalfCopies, HalfTarget, half_split_order
from anetrain.graph import Value
from anetrain.lower.plan import WeightPlace
from anetrain.mil.types import Array
from anetrain.pipeline.rows import matrix_blocks, mover
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
        found: dict[PlacedSurface, list[HalfBlock]] = {}
        left: dict[PlacedSurface, list[HalfBlock]] = {}
        self.copied: list[tuple[Array, PlacedSurface, HalfBlock]] = []
        """(master, surface, block) of what an update may copy."""
        self.bytes = 0  # of one staging
        for place in places:
            assert place.region is not None
            surface, master = surfaces[place.region.surface], master_of(place.parameter)
            if master.ndim == 1:
                blocks = self._vector(place, surface, master)
            else:
                blocks = matrix_blocks(place, master, surface.offset(place.region), surface.width)
            found.setdefault(surface, []).extend(blocks)
            if master.ndim > 1 and surface.item_bytes == 2:
                self.copied += [(master, surface, block) for block in blocks]
            else:
                left.setdefault(surface, []).extend(blocks)
            self.bytes += surface.bytes(place.region)
        self._all, self._left = _movers(found), _movers(left)

    def stage(self, copied: bool = False) -> None:
        """`copied`: what copies have left."""
        for gather in self._gathers:
            gather()
        for surface, move in self._left if copied else self._all:
            with surface.surface.lock(write=True) as view:
                move(view)

    def _vector(self, place: WeightPlace, surface: PlacedSurface, master: Array) -> list[HalfBlock]:
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


class WeightCopies:
    """`with copies as made:` locks the surfaces and gives what an update is to copy of each weight it changes.

    `begin` is called before anything is written: from then on surfaces hold neither the old weights nor the new ones.
    """

    def __init__(self, stagings: Iterable[Staging], begin: Callable[[], object]) -> None:
        self._begin = begin
        self._targets: dict[PlacedSurface, HalfTarget] = {}
        blocks: dict[int, list[tuple[HalfTarget, HalfBlock]]] = {}  # by the identity of the master
        masters: dict[int, Array] = {}
        for staging in stagings:
            for master, surface, block in staging.copied:
                target = self._targets.setdefault(surface, HalfTarget())
                masters[id(master)] = master
                blocks.setdefault(id(master), []).append((target, block))
        self._copies = [HalfCopies(master, blocks[key]) for key, master in masters.items()]
        self._locks = ExitStack()
        self.made = False
        """Whether the last update under these was not cut short."""

    def __enter__(self) -> Sequence[HalfCopies]:
        self._begin()
        self.made = False
        with ExitStack() as locks:  # undone, should one of them fail
            for surface, target in self._targets.items():
                view = locks.enter_context(surface.surface.lock(write=True))
                locks.enter_context(target.bound(view.view(np.float16)))
            self._locks = locks.pop_all()
        return self._copies

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._locks.close()
        self.made = kind is None


def _movers(found: Mapping[PlacedSurface, list[HalfBlock]]) -> list[tuple[PlacedSurface, Callable[[Array], None]]]:
    return [(surface, mover(surface.item_bytes, blocks)) for surface, blocks in found.items()]
