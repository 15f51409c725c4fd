"""One block on a device: its surfaces, requests and host buffers, and the steps of forward and backward on them.

    layer = Layer(compiled, parameters, gradients, pool)
    layer.stage()                          # weights to the device: after every update, and only then
    y = layer.forward({"x": x})["y"]
    dx = layer.backward({"y": dy})["x"]    # and gradients += alpha * what the records say

Everything is bound when the layer is built; a step allocates nothing. Arrays that come back are the layer's own: the
next call overwrites them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Literal

import numpy as np

from anetrain import cpu
from anetrain.account import PartName
from anetrain.device import Program, Request
from anetrain.graph import Value
from anetrain.lower.cut import gradient_values
from anetrain.lower.plan import Accumulate, Compute, Dispatch, Receive, Send, Step
from anetrain.mil.types import Array
from anetrain.pipeline import host
from anetrain.pipeline.check import values_read
from anetrain.pipeline.errors import NonFiniteError, PlanError
from anetrain.pipeline.lane import Lane
from anetrain.pipeline.programs import Changes, CompiledPlan
from anetrain.pipeline.surfaces import PlacedSurface, SurfacePool, host_array, host_dtype
from anetrain.pipeline.weights import Staging

Kind = Literal["send", "receive", "dispatch", "norm", "classify", "compute"]
Phase = Literal["forward", "backward"]
PART_OF: dict[tuple[Phase, Kind], PartName] = {
    ("forward", "send"): "forward_conversion",
    ("forward", "receive"): "forward_conversion",
    ("forward", "dispatch"): "forward_device",
    ("forward", "norm"): "forward_norms",
    ("forward", "classify"): "forward_classifier",
    ("forward", "compute"): "forward_host",
    ("backward", "send"): "backward_conversion",
    ("backward", "receive"): "backward_conversion",
    ("backward", "dispatch"): "backward_device",
    ("backward", "norm"): "backward_norms",
    ("backward", "classify"): "backward_classifier",
    ("backward", "compute"): "backward_host",
}

KIND_OF: dict[str, Kind] = {  # by the name of a host op; of others it is "compute"
    **dict.fromkeys(("host_rms_norm", "host_rms_norm_backward"), "norm"),
    **dict.fromkeys(("host_layer_norm", "host_layer_norm_backward"), "norm"),
    "host_dense": "classify",
}


@dataclass
class Traffic:
    """What went over the border, in bytes of the device's elements, since it was last set to zero."""

    sent_bytes: int = 0
    received_bytes: int = 0
    dispatches: int = 0
    staged_bytes: int = 0

    def add(self, other: Traffic) -> None:
        self.sent_bytes += other.sent_bytes
        self.received_bytes += other.received_bytes
        self.dispatches += other.dispatches
        self.staged_bytes += other.staged_bytes

    def clear(self) -> None:
        self.sent_bytes = self.received_bytes = self.dispatches = self.staged_bytes = 0


@dataclass(frozen=True)
class BoundStep:
    """A step with all it works on. `bytes`: what it moves over the border."""

    kind: Kind
    run: Callable[[], object]
    bytes: int = 0


@dataclass(frozen=True)
class Stretch:
    """Steps one behind the other whose time goes to the same part of the account."""

    part: PartName
    steps: tuple[BoundStep, ...]


class Layer:
    """`gradients`: None for a layer that only runs forward. `arrays`: where inputs lie ("x", and "d_y" for the gradient
    of the output "y"), `gradient_arrays`: where gradients of inputs go; both for neighbours that share them with this
    layer. What is left out the layer has of its own. `lane`: where sums of weight gradients are computed, and whose
    account is kept; by default in line."""

    def __init__(
        self,
        compiled: CompiledPlan,
        parameters: Mapping[str, Array],
        gradients: Mapping[str, Array] | None,
        shared: SurfacePool,
        *,
        name: str = "layer",
        lane: Lane | None = None,
        arrays: Mapping[str, Array] | None = None,
        gradient_arrays: Mapping[str, Array] | None = None,
    ) -> None:
        if gradients is not None and not compiled.has_backward:
            raise PlanError(f"{name}: the plan was compiled without backward, so it takes no gradients")
        self.name, self.compiled, self.trains = name, compiled, gradients is not None
        self.lane = lane or Lane(overlaps=False)
        self._account = self.lane.account
        self.traffic = Traffic()
        self.largest_received = 0.0  # the largest magnitude of a gradient from the device: how near fp16's end is
        plan = compiled.plan
        self._derived = derived = plan.derived
        self._shared, self._is_staged = shared, not plan.weights
        self._values: dict[Value, Array] = {}
        self._bind_parameters(parameters, gradients)
        self._bind_inputs(arrays or {}, gradient_arrays or {})
        steps = plan.forward + (plan.backward if self.trains else [])
        self._wanted = {value for step in steps for value in values_read(step)}
        self._wanted.update(derived.outputs, derived.gradients.values() if self.trains else ())
        self._own = self._values_to_own()
        self._share_logits(steps)
        self.surfaces = {surface: self._place(surface) for surface in compiled.item_bytes}
        used = [place for place in plan.weights if place.region and place.region.surface in self.surfaces]
        self.staging = Staging(used, self.surfaces, self._values.__getitem__)
        self._requests: dict[int, Request] = {}
        self._forward = stretches("forward", self._bound(plan.forward))
        self._backward = stretches("backward", self._bound(plan.backward) if self.trains else [])
        self._sums = self._bound_records(plan.backward) if self.trains else []
        self.outputs = {value.name: self._array(value) for value in derived.outputs}
        self.input_gradients = self._bound_gradients(gradient_arrays or {}) if self.trains else {}
        received = [step.value for step in plan.backward if isinstance(step, Receive)]
        self._received = [value for value in received if value in self._values] if self.trains else []
        self._scaled = gradient_values(derived).intersection(self._received)

    # ------------------------------------------------------------ the step

    def stage(self, copied: bool = False) -> None:
        """The weights, as they are now, to the device. `copied`: those that an update has copied are there."""
        with self._account.part("restaging"):
            self.staging.stage(copied)
        self.traffic.staged_bytes += self.staging.bytes
        self._is_staged = True

    def unstage(self) -> None:
        """Nothing runs until the weights were staged again."""
        self._is_staged = False

    def changed(self) -> Changes:
        """The programs into which other weights are baked than there are now."""
        return self.compiled.changed(self._parameters)

    def bake(self, changes: Changes) -> None:
        """Compiles anew what `changed` found. Should it fail, the layer is not staged, and this is to be repeated."""
        with self._account.part("compiling"):
            self._is_staged = False
            for index in changes:
                self._requests.pop(index, None)  # they hold the old programs
            self.compiled.bake(self._parameters, changes)
            for index in self.compiled.baked_programs:  # one that failed may have left out others than these
                self._request(index)

    def baked_weights(self) -> dict[str, Array]:
        """Those that programs bake in, by name; copies."""
        return {name: self._parameters[name].copy() for name in self.compiled.baked_names}

    def install(self, built: Mapping[int, Program], changes: Changes) -> None:
        """Programs that `compiled.built` made, in the place of the old ones."""
        with self._account.part("restaging"):
            for index in built:
                self._requests.pop(index, None)
            self.compiled.install(built, changes)
            for index in built:
                self._request(index)

    def forward(self, inputs: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Inputs that lie in the arrays of this layer already need not be given."""
        if not self._is_staged:
            raise PlanError(f"{self.name}: its weights are not on the device; call stage() first")
        for name, array in (inputs or {}).items():
            self._enter(self.inputs, name, array)
        self._run(self._forward)
        return self.outputs

    def backward(self, seeds: Mapping[str, Array] | None = None, alpha: float = 1.0) -> dict[str, Array]:
        """Gradients of outputs in, by the name of the output; gradients of inputs out.

        Last of all, when the device is done and what came from it is finite, the lane gets the task to add alpha times
        each record to the gradient of its parameter. If anything fails before, an EvalError or a NonFiniteError is
        raised and gradients of parameters are as they were.
        """
        if not self.trains:
            raise PlanError(f"{self.name} was built without gradients: it only runs forward")
        for name, array in (seeds or {}).items():
            self._enter(self.seeds, name, array)
        self._run(self._backward)
        with self._account.part("backward_host"):
            for source, target in self._copies:
                np.copyto(target, source)
            self._look_at_received()
        self.lane.submit(partial(self._add_records, alpha))
        return self.input_gradients

    def _add_records(self, alpha: float) -> None:
        for add in self._sums:
            add(alpha)

    def _look_at_received(self) -> None:
        """Activations among it, which weight gradients need, are not of the loss scale's making."""
        sizes = {value: cpu.largest(self._values[value]) for value in self._received}
        bad = [value.name for value, size in sizes.items() if not math.isfinite(size)]
        if bad:
            raise NonFiniteError(f"{self.name}: backward", bad)
        gradients = (size for value, size in sizes.items() if value in self._scaled)
        self.largest_received = max(self.largest_received, *gradients, 0.0)

    def _run(self, stretches: Iterable[Stretch]) -> None:
        traffic = self.traffic
        for stretch in stretches:
            with self._account.part(stretch.part):
                for step in stretch.steps:
                    step.run()
                    if step.kind == "send":
                        traffic.sent_bytes += step.bytes
                    elif step.kind == "receive":
                        traffic.received_bytes += step.bytes
                    elif step.kind == "dispatch":
                        traffic.dispatches += 1

    def _enter(self, arrays: Mapping[str, Array], name: str, given: Array) -> None:
        if name not in arrays:
            raise PlanError(f"{self.name} takes no {name!r}; it has {', '.join(arrays) or 'none'}")
        own = arrays[name]
        if given.shape != own.shape or given.dtype != own.dtype:
            raise PlanError(
                f"{self.name}: {name} is {given.dtype} {list(given.shape)}, expected {own.dtype} {list(own.shape)}"
            )
        if given is not own:
            np.copyto(own, given)

    # ------------------------------------------------------------ binding

    def _bind_parameters(self, parameters: Mapping[str, Array], gradients: Mapping[str, Array] | None) -> None:
        self._parameters = parameters
        self._gradients: dict[Value, Array] = {}
        for value, known in self._derived.graph.parameters.items():
            self._values[value] = self._fitting("parameter", parameters, known.name, value)
            if gradients is not None:
                self._gradients[value] = self._fitting("gradient of", gradients, known.name, value)

    def _bind_inputs(self, arrays: Mapping[str, Array], gradient_arrays: Mapping[str, Array]) -> None:
        derived = self._derived
        sources = {value.name: value for value in derived.graph.inputs}
        seeds = {value.name: output.name for output, value in derived.seeds.items()}
        self._refuse_unknown(arrays, sources)
        self._refuse_unknown(gradient_arrays, [value.name for value in derived.gradients])
        self.inputs: dict[str, Array] = {}
        self.seeds: dict[str, Array] = {}  # by the name of the output
        for name, value in sources.items():
            if name in seeds and not self.trains:
                continue
            array = self._fitting("array of", arrays, name, value) if name in arrays else host_array(value)
            self._values[value] = array
            if name in seeds:
                self.seeds[seeds[name]] = array
            else:
                self.inputs[name] = array
        for value, gradient in derived.gradients.items():
            if value.name in gradient_arrays and gradient not in self._values:
                self._values[gradient] = self._fitting("gradient array of", gradient_arrays, value.name, gradient)

    def _bound_gradients(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """A gradient that is a seed unchanged, or that of two inputs, is copied to where it is wanted."""
        found: dict[str, Array] = {}
        self._copies: list[tuple[Array, Array]] = []
        for value, gradient in self._derived.gradients.items():
            source = self._array(gradient)
            found[value.name] = arrays.get(value.name, source)
            if found[value.name] is not source:
                self._copies.append((source, found[value.name]))
        return found

    def _refuse_unknown(self, arrays: Mapping[str, Array], known: Iterable[str]) -> None:
        known = list(known)
        for name in arrays:
            if name not in known:
                raise PlanError(f"{self.name} has no input {name!r}; found {', '.join(known) or 'none'}")

    def _fitting(self, what: str, arrays: Mapping[str, Array], name: str, value: Value) -> Array:
        if name not in arrays:
            raise PlanError(f"{self.name}: no {what} {name!r}; found {', '.join(arrays) or 'none'}")
        array, expected = arrays[name], host_dtype(value)
        if array.shape != value.shape or array.dtype != expected or not array.flags.c_contiguous:
            order = "" if array.flags.c_contiguous else ", not contiguous"
            raise PlanError(
                f"{self.name}: {what} {name} is {array.dtype} {list(array.shape)}{order}, expected contiguous "
                f"{expected} {list(value.shape)}"
            )
        return array

    def _values_to_own(self) -> set[Value]:
        """What outlives the turn of this layer: what forward makes and backward reads, and what others get to see."""
        own = {*self._derived.outputs, *self._derived.gradients.values()}
        if self.trains:
            own.update(value for step in self.compiled.plan.backward for value in values_read(step))
            own.difference_update(_made(self.compiled.plan.backward) - set(self._derived.gradients.values()))
        return own

    def _share_logits(self, steps: Iterable[Step]) -> None:
        """The largest array of a model: logits that nobody else reads become their own gradient."""
        steps = list(steps)
        for node in (step.node for step in steps if isinstance(step, Compute)):
            if node.op.name != "cross_entropy":
                continue
            readers = [value for step in steps for value in values_read(step)]
            for value, gradient in zip(node.tensors["logits"], node.outputs[1:], strict=True):  # type: ignore[arg-type]
                if readers.count(value) == 1 and value not in self._derived.outputs and gradient in self._wanted:
                    self._own.add(gradient)
                    self._values[value] = self._array(gradient)

    def _array(self, value: Value) -> Array:
        if value not in self._values:
            if value.data is not None:
                self._values[value] = np.ascontiguousarray(value.data, host_dtype(value))
            elif value in self._own:
                self._values[value] = host_array(value)
            else:
                self._values[value] = self._shared.array(self.compiled.plan, value)
        return self._values[value]

    def _place(self, name: str) -> PlacedSurface:
        spec = self.compiled.plan.surfaces[name]
        own = spec.weights or (spec.kept and self.trains)
        surface = self.compiled.surface(name) if own else self._shared.surface(self.compiled, name)
        return PlacedSurface(surface, spec.width, self.compiled.item_bytes[name])

    def _bound(self, steps: Iterable[Step]) -> list[BoundStep]:
        bound: list[BoundStep] = []
        for step in steps:
            if isinstance(step, Dispatch):
                bound.append(BoundStep("dispatch", self._dispatch(step.program)))
            elif isinstance(step, Compute):
                kind = KIND_OF.get(step.node.op.name, "compute")
                bound.append(BoundStep(kind, host.bind(step.node, self._array, self._wanted)))
            elif isinstance(step, Send):
                placed = self.surfaces[step.region.surface]
                write = placed.writer(step.region, self._array(step.value))
                bound.append(BoundStep("send", write, placed.bytes(step.region)))
            elif isinstance(step, Receive) and step.value in self._wanted:
                placed = self.surfaces[step.region.surface]
                reads = placed.readers(step.region, self._array(step.value), step.paired_head)
                bound.append(BoundStep("receive", reads[0], placed.bytes(step.region)))
                bound += [BoundStep("receive", read) for read in reads[1:]]
        return bound

    def _bound_records(self, steps: Iterable[Step]) -> list[Callable[[float], object]]:
        records = [step.record for step in steps if isinstance(step, Accumulate)]
        return [host.bind_record(record, self._gradients[record.parameter], self._array) for record in records]

    def _dispatch(self, index: int) -> Callable[[], object]:
        """Baking replaces programs, and with them their requests."""
        run = self._request(index).run
        return (lambda: self._requests[index].run()) if self.compiled.plan.programs[index].constants else run

    def _request(self, index: int) -> Request:
        """One for each program, however often it is dispatched."""
        if index not in self._requests:
            spec = self.compiled.plan.programs[index]
            self._requests[index] = self.compiled.programs[index].request(
                {port: self.surfaces[name].surface for port, name in spec.inputs.items()},
                {port: self.surfaces[name].surface for port, name in spec.outputs.items()},
            )
        return self._requests[index]


def stretches(phase: Phase, steps: Iterable[BoundStep]) -> list[Stretch]:
    return [Stretch(part, tuple(group)) for part, group in groupby(steps, lambda step: PART_OF[phase, step.kind])]


def _made(steps: Iterable[Step]) -> set[Value]:
    """The host values that these steps make."""
    made: set[Value] = set()
    for step in steps:
        if isinstance(step, Receive):
            made.add(step.value)
        elif isinstance(step, Compute):
            made.update(step.node.outputs)
    return made
