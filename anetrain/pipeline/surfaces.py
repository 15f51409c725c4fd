"""Surfaces and host buffers: which a layer owns, which layers share, and how host arrays lie on surfaces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from anetrain.cpu import half_split_order
from anetrain.device import Surface
from anetrain.graph import Value
from anetrain.lower.plan import Plan, Region
from anetrain.mil.types import Array, dtype
from anetrain.pipeline.programs import CompiledPlan
from anetrain.pipeline.rows import row_runs


def host_dtype(value: Value) -> np.dtype[Any]:
    return dtype(value.dtype).numpy


def host_array(value: Value) -> Array:
    return np.zeros(value.shape, host_dtype(value))


class SurfacePool:
    """Scratch that layers of one plan share: at any time only one of them runs.

    Nothing is shared between plans, so what one of them leaves in the padding of a surface, zero, stays there.
    """

    def __init__(self) -> None:
        self._plans: dict[int, Plan] = {}  # kept alive: their addresses are keys
        self._surfaces: dict[tuple[int, str], Surface] = {}
        self._arrays: dict[tuple[int, Value], Array] = {}

    def surface(self, compiled: CompiledPlan, name: str) -> Surface:
        key = (self._key(compiled.plan), name)
        if key not in self._surfaces:
            self._surfaces[key] = compiled.surface(name)
        return self._surfaces[key]

    def array(self, plan: Plan, value: Value) -> Array:
        key = (self._key(plan), value)
        if key not in self._arrays:
            self._arrays[key] = host_array(value)
        return self._arrays[key]

    def _key(self, plan: Plan) -> int:
        return id(self._plans.setdefault(id(plan), plan))


@dataclass(frozen=True)
class PlacedSurface:
    """A surface whose rows are `width` elements of `item_bytes` bytes."""

    surface: Surface
    width: int
    item_bytes: int

    def offset(self, region: Region) -> int:
        """The first element of a region."""
        return region.channel * self.width + region.column

    def bytes(self, region: Region) -> int:
        return region.rows * region.columns * self.item_bytes

    def writer(self, region: Region, array: Array) -> Callable[[], None]:
        """Writes all of a host array into a region."""
        rows = array.reshape(region.rows, region.columns)
        return partial(self.surface.write, rows, offset=self.offset(region), row_stride=self.width)

    def readers(self, region: Region, array: Array, paired_head: int) -> list[Callable[[], object]]:
        """Read a region into a host array; where paired_head is set, the array's rows go into stored order."""
        if paired_head and array.shape[-1] != region.columns:
            return self._readers_of_other_rows(region, array, paired_head)
        rows = array.reshape(region.rows, region.columns)
        parts = [(position, rows[stored]) for position, stored in row_runs(0, region.rows, paired_head)]
        return [self._reader(region, position, part) for position, part in parts]

    def _readers_of_other_rows(self, region: Region, array: Array, paired_head: int) -> list[Callable[[], object]]:
        """The rows of the region are not those of the array (tokens of several sequences stand on the width)."""
        staged = np.empty((region.rows, region.columns), np.float32)
        rows = array.reshape(-1, array.shape[-1])
        place = np.argsort(half_split_order(len(rows), paired_head))  # stored row i stands in staged row place[i]
        reorder = partial(np.take, staged.reshape(rows.shape), place, axis=0, out=rows, mode="clip")  # clip: no buffer
        return [self._reader(region, 0, staged), reorder]

    def _reader(self, region: Region, row: int, part: Array) -> Callable[[], object]:
        offset = self.offset(region) + row * self.width
        return partial(self.surface.read, *part.shape, offset=offset, row_stride=self.width, out=part)
