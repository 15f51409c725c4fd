"""Checks of a plan before anything is compiled: what is wrong in it would otherwise be silently wrong numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable

from anetrain.graph import Value
from anetrain.lower.plan import (
    Accumulate,
    Compute,
    Dispatch,
    Plan,
    Receive,
    Region,
    Send,
    Step,
    SurfaceSpec,
    WeightPlace,
)
from anetrain.pipeline.errors import PlanError


def check_plan(plan: Plan) -> None:
    for spec in plan.surfaces.values():
        if spec.width % 32:
            raise PlanError(f"surface {spec.name}: the width is {spec.width}, expected a multiple of 32")
    for place in plan.weights:
        _check_place(plan, place)
    for index in range(len(plan.programs)):
        _check_program(plan, index)
    graph = plan.derived.graph
    known = {*graph.inputs, *graph.parameters}
    for step in (*plan.forward, *plan.backward):
        _check_step(plan, step, known)
    missing = [value.name for value in plan.derived.results if value.data is None and value not in known]
    if missing:
        raise PlanError(f"no step makes {', '.join(missing)}")
    _check_kept(plan)


def values_read(step: Step) -> list[Value]:
    """The host values a step needs."""
    if isinstance(step, Send):
        return [step.value]
    if isinstance(step, Compute):
        return step.node.operands
    if isinstance(step, Accumulate):
        return [value for value in (step.record.a, step.record.b) if value is not None]
    return []


def surface_of(plan: Plan, region: Region, what: str) -> SurfaceSpec:
    if region.surface not in plan.surfaces:
        raise PlanError(f"{what}: no surface {region.surface!r}; found {', '.join(plan.surfaces)}")
    spec = plan.surfaces[region.surface]
    inside = region.channel >= 0 and region.column >= 0 and region.rows > 0 and region.columns > 0
    if not inside or region.channel + region.rows > spec.channels or region.column + region.columns > spec.width:
        raise PlanError(
            f"{what}: {region.rows} x {region.columns} at ({region.channel}, {region.column}) do not fit surface "
            f"{spec.name}, {spec.channels} x {spec.width}"
        )
    return spec


def staged_shape(place: WeightPlace) -> tuple[int, ...]:
    """What is staged of the parameter, before it is transposed."""
    return (place.end - place.begin, *place.parameter.shape[1:])


def _check_place(plan: Plan, place: WeightPlace) -> None:
    what = f"weight {plan.derived.graph.parameters[place.parameter].name}"
    shape = staged_shape(place)
    if not 0 <= place.begin < place.end <= place.parameter.shape[0]:
        raise PlanError(f"{what}: rows {place.begin} to {place.end} of {place.parameter.shape[0]}")
    if place.region is None:
        if math.prod(place.shape) != math.prod(shape):
            raise PlanError(f"{what}: {list(shape)} do not fill a constant {list(place.shape)}")
        return
    spec = surface_of(plan, place.region, what)
    if not spec.weights:
        raise PlanError(f"{what} lies on surface {spec.name}, which is not one of weights")
    region = (place.region.rows, place.region.columns)
    if len(shape) == 1:
        if not math.prod(region) - place.region.columns < shape[0] <= math.prod(region):
            raise PlanError(f"{what}: {shape[0]} elements do not fill a region of {region[0]} x {region[1]}")
        return
    sides = (math.prod(shape[:-1]), shape[-1])
    if (sides[::-1] if place.transpose else sides) != region or (len(shape) > 2 and place.paired_head):
        raise PlanError(
            f"{what}: {list(shape)}{' transposed' if place.transpose else ''} does not fill a region of "
            f"{region[0]} x {region[1]}"
        )


def _check_program(plan: Plan, index: int) -> None:
    spec = plan.programs[index]
    for side, ports, bound in (
        ("input", spec.program.inputs, spec.inputs),
        ("output", spec.program.outputs, spec.outputs),
    ):
        if set(ports) != set(bound):
            raise PlanError(f"{spec.label}: {side}s {sorted(bound)} are bound, the program has {sorted(ports)}")
        for port, name in bound.items():
            shape = ports[port].shape
            whole = Region(name, 0, shape[1], shape[3]) if len(shape) == 4 else Region(name, 0, 0, 0)
            surface = surface_of(plan, whole, f"{spec.label}: {side} {port}")
            if shape != (1, surface.channels, 1, surface.width):
                raise PlanError(
                    f"{spec.label}: {side} {port} is {list(shape)}, surface {name} is "
                    f"{[1, surface.channels, 1, surface.width]}"
                )
    for place in spec.constants.values():
        _check_place(plan, place)


def _check_step(plan: Plan, step: Step, known: set[Value]) -> None:
    what = type(step).__name__
    for value in values_read(step):
        if value not in known and value.data is None:
            raise PlanError(f"{what} reads {value.name} before any step makes it")
    if isinstance(step, Dispatch) and not 0 <= step.program < len(plan.programs):
        raise PlanError(f"Dispatch of program {step.program}, there are {len(plan.programs)}")
    if isinstance(step, Send | Receive):
        surface_of(plan, step.region, f"{what} {step.value.name}")
        rows, columns = step.region.rows, step.region.columns
        if math.prod(step.value.shape) != rows * columns:
            raise PlanError(f"{what} {step.value.name}: {step.value.type} in a region of {rows} x {columns}")
    made: Iterable[Value] = ()
    if isinstance(step, Receive):
        made = (step.value,)
    elif isinstance(step, Compute):
        made = step.node.outputs
    for value in made:
        if value in known:
            raise PlanError(f"{what} makes {value.name} a second time")
        known.add(value)


def _check_kept(plan: Plan) -> None:
    """Backward may read of forward's surfaces only those that no other layer writes: they must be kept."""
    left: dict[str, set[int]] = {}  # channels as forward left them, of surfaces that layers share
    for step in plan.forward:
        for name, channels in _written(plan, step).items():
            if not plan.surfaces[name].kept and not plan.surfaces[name].weights:
                left.setdefault(name, set()).update(channels)
    for step in plan.backward:
        for name, channels in _read(plan, step).items():
            if left.get(name, set()).intersection(channels):
                raise PlanError(f"backward reads surface {name} as forward left it, but it is not kept")
        for name, channels in _written(plan, step).items():
            left.get(name, set()).difference_update(channels)


def _written(plan: Plan, step: Step) -> dict[str, range]:
    """Channels by surface."""
    if isinstance(step, Send):
        return {step.region.surface: range(step.region.channel, step.region.channel + step.region.rows)}
    if isinstance(step, Dispatch):
        return {name: range(plan.surfaces[name].channels) for name in plan.programs[step.program].outputs.values()}
    return {}


def _read(plan: Plan, step: Step) -> dict[str, range]:
    if isinstance(step, Receive):
        return {step.region.surface: range(step.region.channel, step.region.channel + step.region.rows)}
    if isinstance(step, Dispatch):
        return {name: range(plan.surfaces[name].channels) for name in plan.programs[step.program].inputs.values()}
    return {}
