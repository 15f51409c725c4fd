"""The programs of a plan on a device: compiled once, used by every layer that is built alike.

    compiled = CompiledPlan(device, plan)
    layers = [Layer(compiled, ...), Layer(compiled, ...)]

A plan whose weights are baked into programs needs them here, and serves one layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

import numpy as np

from anetrain.cpu import half_split_order
from anetrain.device import Device, Port, Program, Surface
from anetrain.lower.plan import Dispatch, Plan, ProgramSpec, SurfaceSpec, WeightPlace
from anetrain.mil.blobs import write_blob
from anetrain.mil.types import Array
from anetrain.pipeline.check import check_plan
from anetrain.pipeline.errors import PlanError


class CompiledPlan:
    """`weights`: masters by parameter name, for plans that bake them. `backward`: False leaves out the programs that
    only backward runs. `name`: of the block, for errors: "LlamaBlock forward 0"."""

    def __init__(
        self,
        device: Device,
        plan: Plan,
        weights: Mapping[str, Array] | None = None,
        *,
        backward: bool = True,
        name: str = "",
    ) -> None:
        check_plan(plan)
        self.device, self.plan, self.has_backward, self.name = device, plan, backward, name
        self.programs: dict[int, Program] = {}  # by the index in the plan
        self.item_bytes: dict[str, int] = {}  # bytes of an element, by surface
        self.compiles = 0  # programs of equal text and blobs are compiled once
        self._distinct: dict[tuple[str, tuple[tuple[str, bytes], ...]], Program] = {}
        steps = plan.forward + (plan.backward if backward else [])
        try:
            for index in dict.fromkeys(step.program for step in steps if isinstance(step, Dispatch)):
                self._compile(index, plan.programs[index], weights or {})
        except BaseException:
            self.unload()
            raise

    def unload(self) -> None:
        """Gives the engine's places back. Layers of this plan cannot run afterwards."""
        self.programs.clear()
        while self._distinct:  # a program whose unload fails is gone all the same; called again, the others go, too
            self._distinct.popitem()[1].unload()

    def __enter__(self) -> CompiledPlan:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unload()

    def surface(self, name: str) -> Surface:
        """A new zeroed surface."""
        spec = self.plan.surfaces[name]
        return self.device.surface(spec.channels * spec.width * self.item_bytes[name])

    def _compile(self, index: int, spec: ProgramSpec, weights: Mapping[str, Array]) -> None:
        blobs = {**spec.program.blobs, **self._baked(spec, weights)}
        key = (spec.program.text, tuple(sorted(blobs.items())))
        if key not in self._distinct:
            label = f"{self.name} {spec.label}".lstrip()
            self._distinct[key] = self.device.compile(spec.program.text, blobs, label=label)
            self.compiles += 1
        program = self.programs[index] = self._distinct[key]
        for ports, bound in ((program.inputs, spec.inputs), (program.outputs, spec.outputs)):
            for port in ports:
                self._note(port, self.plan.surfaces[bound[port.name]], spec.label)

    def _baked(self, spec: ProgramSpec, weights: Mapping[str, Array]) -> dict[str, bytes]:
        blobs = {}
        for path, place in spec.constants.items():
            name = self.plan.derived.graph.parameters[place.parameter].name
            if name not in weights:
                raise PlanError(f"{spec.label}: no weights for {name!r}, which is baked into the program")
            if weights[name].shape != place.parameter.shape:
                expected = list(place.parameter.shape)
                raise PlanError(f"{spec.label}: {name} has shape {list(weights[name].shape)}, expected {expected}")
            blobs[path] = write_blob(constant_of(place, weights[name]), self.plan.derived.graph.precision)
        return blobs

    def _note(self, port: Port, spec: SurfaceSpec, label: str) -> None:
        """An element's size, and that the device lays surfaces out as the plan does."""
        item = port.bytes // (spec.channels * spec.width)
        expected = (spec.width * item, spec.width * item)
        if (port.row_stride, port.plane_stride) != expected or self.item_bytes.setdefault(spec.name, item) != item:
            raise PlanError(
                f"{label}: the device wants {port.name} with strides {port.row_stride}, {port.plane_stride} bytes, "
                f"{port.bytes} in all; expected {spec.channels} rows of {spec.width} close together"
            )


def constant_of(place: WeightPlace, master: Array) -> Array:
    """A parameter as it is baked into a program."""
    rows = master
    if place.paired_head:
        rows = master[half_split_order(len(master), place.paired_head)]
    rows = rows[place.begin : place.end]
    return np.ascontiguousarray(rows.T if place.transpose else rows).reshape(place.shape)
