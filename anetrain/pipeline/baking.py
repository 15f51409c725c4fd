"""Weights that are constants of programs: the blob files that hold them, and how it is known that they have changed.

A blob file is one tensor. Its bytes are written in place, straight from the fp32 masters, and are needed only while a
program is compiled: layers that share a plan take turns with the same files.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import TypeAlias

import numpy as np

from anetrain.cpu import half_split_order
from anetrain.lower.plan import Plan, ProgramSpec, WeightPlace
from anetrain.mil.blobs import read_record, write_blob
from anetrain.mil.types import Array, dtype
from anetrain.pipeline.errors import PlanError
from anetrain.pipeline.rows import matrix_blocks, mover

Fingerprint: TypeAlias = tuple[int, int]


class Baking:
    """For all layers of a plan."""

    def __init__(self, plan: Plan) -> None:
        self._names = {value: known.name for value, known in plan.derived.graph.parameters.items()}
        self._precision = plan.derived.graph.precision
        self._files: dict[tuple[str, WeightPlace], tuple[bytearray, Array]] = {}  # and their payloads, as bytes

    def check(self, spec: ProgramSpec, weights: Mapping[str, Array]) -> None:
        for place in spec.constants.values():
            name, expected = self._names[place.parameter], place.parameter.shape
            if name not in weights:
                raise PlanError(f"{spec.label}: no weights for {name!r}, which is baked into the program")
            if weights[name].shape != expected:
                found = list(weights[name].shape)
                raise PlanError(f"{spec.label}: {name} has shape {found}, expected {list(expected)}")

    def fingerprints(self, specs: Iterable[ProgramSpec], weights: Mapping[str, Array]) -> list[tuple[Fingerprint, ...]]:
        """For each program, of the weights that it bakes in."""
        names = [tuple(self._names[place.parameter] for place in spec.constants.values()) for spec in specs]
        known = {name: fingerprint(weights[name]) for name in dict.fromkeys(sum(names, ()))}
        return [tuple(known[name] for name in of_program) for of_program in names]

    def blobs(self, spec: ProgramSpec, weights: Mapping[str, Array]) -> dict[str, bytearray]:
        """Files by path. The next call overwrites them."""
        files = {}
        for path, place in spec.constants.items():
            file, payload = self._file(path, place)
            self._write(place, weights[self._names[place.parameter]], payload)
            files[path] = file
        return files

    def _file(self, path: str, place: WeightPlace) -> tuple[bytearray, Array]:
        if (path, place) not in self._files:
            zeros = write_blob(np.zeros(place.shape, dtype(self._precision).numpy), self._precision)
            file = bytearray(zeros)
            payload = np.frombuffer(file, np.uint8)[read_record(zeros).payload_offset :]
            self._files[path, place] = file, payload
        return self._files[path, place]

    def _write(self, place: WeightPlace, master: Array, payload: Array) -> None:
        if master.ndim == 1:
            rows = master[half_split_order(len(master), place.paired_head)] if place.paired_head else master
            blocks = [(rows[None, place.begin : place.end], 0, place.end - place.begin)]
        else:
            rows_each = master[place.begin : place.end].size // master.shape[-1]
            blocks = matrix_blocks(place, master, 0, rows_each if place.transpose else master.shape[-1])
        mover(dtype(self._precision).bits // 8, blocks)(payload)


def fingerprint(array: Array) -> Fingerprint:
    """Of other content it is another one, but for a chance of 2^-64 or so."""
    return zlib.crc32(array.data), int(array.reshape(-1).view(np.uint32).sum(dtype=np.uint64))
