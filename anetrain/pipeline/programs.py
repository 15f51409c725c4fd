"""The programs of a plan on a device: compiled once, used by every layer that is built alike.

    compiled = CompiledPlan(device, plan)
    layers = [Layer(compiled, ...), Layer(compiled, ...)]

A plan whose weights are baked into programs needs them here, and serves one layer; after an update `bake` compiles
anew what has changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TypeAlias

from anetrain.device import Device, Port, Program, Surface
from anetrain.lower.plan import Plan, ProgramSpec, SurfaceSpec, dispatched
from anetrain.mil.types import Array
from anetrain.pipeline.baking import Baking, Fingerprint
from anetrain.pipeline.check import check_plan
from anetrain.pipeline.errors import PlanError

# By index of the program: of the weights that are to be baked into it.
Changes: TypeAlias = dict[int, tuple[Fingerprint, ...]]


class CompiledPlan:
    """`weights`: masters by parameter name, for plans that bake them. `backward`: False leaves out the programs that
    only backward runs. `name`: of the block, for errors: "LlamaBlock forward 0". `like`: the same plan, compiled for
    another layer. Programs without weights are shared with it, so it is to be unloaded last."""

    def __init__(
        self,
        device: Device,
        plan: Plan,
        weights: Mapping[str, Array] | None = None,
        *,
        backward: bool = True,
        name: str = "",
        like: CompiledPlan | None = None,
    ) -> None:
        self.device, self.name = device, name
        self.plan: Plan = plan
        self.has_backward: bool = backward
        if like is None:
            check_plan(plan)
        elif like.plan is not plan or like.has_backward < backward:
            raise PlanError(f"{name}: `like` is of another plan, or lacks its backward")
        self.programs: dict[int, Program] = {}  # by the index in the plan
        self.item_bytes: dict[str, int] = {}  # bytes of an element, by surface
        self.compiles = 0  # so far; programs without weights, of equal text and blobs, are compiled once
        self._baking: Baking = like._baking if like else Baking(plan)
        self._distinct: dict[object, Program] = {}
        self._baked: Changes = {}
        used = used_programs(plan, backward)
        self.baked_programs = [index for index in used if plan.programs[index].constants]
        """Those that an update makes old."""
        for index in self.baked_programs:
            self._baking.check(plan.programs[index], weights or {})
        try:
            for index in used:
                if index not in self.baked_programs:
                    self._take(index, like.programs[index] if like else self._shared(plan.programs[index]))
            self.bake(weights or {}, self.changed(weights or {}))
        except BaseException:
            self.unload()
            raise

    @property
    def baked_names(self) -> list[str]:
        """Of the parameters that programs bake in."""
        specs = [self.plan.programs[index] for index in self.baked_programs]
        baked = {place.parameter for spec in specs for place in spec.constants.values()}
        return [known.name for value, known in self.plan.derived.graph.parameters.items() if value in baked]

    def changed(self, weights: Mapping[str, Array]) -> Changes:
        """The programs into which other weights than these are baked."""
        specs = [self.plan.programs[index] for index in self.baked_programs]
        found = zip(self.baked_programs, self._baking.fingerprints(specs, weights), strict=True)
        return {index: prints for index, prints in found if self._baked.get(index) != prints}

    def bake(self, weights: Mapping[str, Array], changes: Changes) -> None:
        """Compiles anew what `changed` found. One program after the other, and the old one goes before the new one
        comes: its place may be needed. Should it fail, `changed` says what is left to do."""
        for index, prints in changes.items():
            self._baked.pop(index, None)
            self.programs.pop(index, None)
            if index in self._distinct:
                self._distinct.pop(index).unload()
            self._distinct[index] = self._baked_program(index, weights)
            self._take(index, self._distinct[index])
            self._baked[index] = prints

    def built(self, weights: Mapping[str, Array], changes: Changes) -> dict[int, Program]:
        """What `bake` would compile, loaded beside the old programs. May run in another thread: one for all layers of a
        plan. Should it fail, nothing of it is left."""
        built: dict[int, Program] = {}
        try:
            for index in changes:
                built[index] = self._baked_program(index, weights)
        except BaseException:
            for program in built.values():
                program.unload()
            raise
        return built

    def install(self, built: Mapping[int, Program], changes: Changes) -> None:
        """What was built takes the place of what there was, which is unloaded."""
        old = [self._distinct.pop(index) for index in built if index in self._distinct]
        for index, program in built.items():
            self._distinct[index] = program
            self._take(index, program)
            self._baked[index] = changes[index]
        for program in old:
            program.unload()

    def unload(self) -> None:
        """Gives the engine's places back. Layers of this plan cannot run afterwards."""
        self.programs.clear()
        self._baked.clear()
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

    def _baked_program(self, index: int, weights: Mapping[str, Array]) -> Program:
        spec = self.plan.programs[index]
        return self._compile(spec, {**spec.program.blobs, **self._baking.blobs(spec, weights)})

    def _shared(self, spec: ProgramSpec) -> Program:
        """Programs without weights, of equal text and blobs, are one."""
        key = (spec.program.text, tuple(sorted(spec.program.blobs.items())))
        if key not in self._distinct:
            self._distinct[key] = self._compile(spec, spec.program.blobs)
        return self._distinct[key]

    def _compile(self, spec: ProgramSpec, blobs: Mapping[str, bytes | bytearray]) -> Program:
        label = f"{self.name} {spec.label}".lstrip()
        program = self.device.compile(spec.program.text, blobs, label=label)
        self.compiles += 1
        return program

    def _take(self, index: int, program: Program) -> None:
        spec = self.plan.programs[index]
        for ports, bound in ((program.inputs, spec.inputs), (program.outputs, spec.outputs)):
            for port in ports:
                self._note(port, self.plan.surfaces[bound[port.name]], spec.label)
        self.programs[index] = program

    def _note(self, port: Port, spec: SurfaceSpec, label: str) -> None:
        """An element's size, and that the device lays surfaces out as the plan does."""
        item = port.bytes // (spec.channels * spec.width)
        expected = (spec.width * item, spec.width * item)
        if (port.row_stride, port.plane_stride) != expected or self.item_bytes.setdefault(spec.name, item) != item:
            raise PlanError(
                f"{label}: the device wants {port.name} with strides {port.row_stride}, {port.plane_stride} bytes, "
                f"{port.bytes} in all; expected {spec.channels} rows of {spec.width} close together"
            )


def used_programs(plan: Plan, backward: bool) -> list[int]:
    """Each once, in the order in which they run first."""
    return list(dict.fromkeys(dispatched(plan.steps(backward=backward))))
