"""From a differentiated graph to a plan: cut, choose what is kept, find places, write programs, order the steps."""

from __future__ import annotations

import dataclasses

from anetrain.autodiff import Derived
from anetrain.graph import Node, Value
from anetrain.lower.cut import Cut, Segment, cut, is_op, is_sent
from anetrain.lower.emit import emit
from anetrain.lower.plan import (
    Accumulate,
    Compute,
    Dispatch,
    Granularity,
    Layout,
    Plan,
    ProgramSpec,
    Receive,
    Region,
    Send,
    Step,
)
from anetrain.lower.report import report
from anetrain.lower.surfaces import Outputs, Surfaces, assign
from anetrain.lower.taps import choose_saved
from anetrain.mil.text import MODEL_PATH, write

LAYOUTS: tuple[Layout, ...] = ("stacked", "separate", "packed", "baked")
GRANULARITIES: tuple[Granularity, ...] = ("fused", "stage", "linear")


def lower(
    derived: Derived,
    layout: Layout = "stacked",
    granularity: Granularity = "fused",
    *,
    outputs: Outputs = "one",
    dialect: str = "B",
    save_probabilities_up_to: int = 512,
) -> Plan:
    """How a device runs a differentiated graph.

    layout                     how weights reach a program (weights.py)
    granularity                how much is one program (cut.py)
    outputs                    "one" surface for all that a program leaves, stacked on channels, or "several"
    dialect                    of MIL: dev.facts["dialect"]
    save_probabilities_up_to   longer rows of attention are computed again in backward instead of kept (taps.py)
    """
    for name, value, allowed in (("layout", layout, LAYOUTS), ("granularity", granularity, GRANULARITIES)):
        if value not in allowed:
            raise ValueError(f"{name} is {value!r}, expected one of {', '.join(map(repr, allowed))}")
    pieces = cut(derived, granularity)
    saved = choose_saved(pieces, save_probabilities_up_to)
    surfaces = assign(pieces, saved, layout, outputs)
    programs = [_program(number, segment, surfaces, derived, dialect) for number, segment in enumerate(pieces.segments)]
    forward, backward = _Order(pieces, surfaces).steps()
    return Plan(
        derived,
        layout,
        granularity,
        surfaces.specs,
        list({id(place): place for place in surfaces.weight_places.values()}.values()),
        programs,
        forward,
        backward,
        saved_bytes=sum(_bytes(surfaces.region_of[value]) for value in saved),
        recomputed=[_described(node.outputs[0]) for segment in pieces.segments for node in segment.recomputed],
        saved=[_described(value) for node in derived.graph.nodes for value in node.outputs if value in saved],
    )


def _described(value: Value) -> str:
    assert value.producer is not None
    return f"{value.producer.op.name} {list(value.shape)}"


def _bytes(region: Region) -> int:
    return region.rows * region.columns * 2


def _program(number: int, segment: Segment, surfaces: Surfaces, derived: Derived, dialect: str) -> ProgramSpec:
    emitted = emit(segment, surfaces, derived.graph.precision)
    program = write(emitted.graph, dialect)
    paths = {f"{MODEL_PATH}weights/{name}.bin": place for name, place in emitted.constants.items()}
    program = dataclasses.replace(program, blobs={k: v for k, v in program.blobs.items() if k not in paths})
    label = f"{'backward' if segment.late else 'forward'} {number}"
    return ProgramSpec(label, program, emitted.inputs, emitted.outputs, report(emitted.graph), paths)


class _Order:
    """The steps: turn by turn; what is received is received right after its program, or when it is needed."""

    def __init__(self, cut: Cut, surfaces: Surfaces) -> None:
        self.cut, self.surfaces = cut, surfaces
        self.derived = cut.derived
        self.forward: list[Step] = []
        self.backward: list[Step] = []

    def steps(self) -> tuple[list[Step], list[Step]]:
        turns: dict[tuple[bool, int], list[Node]] = {}
        segments = {(segment.late, segment.depth): [] for segment in self.cut.segments}  # type: ignore[var-annotated]
        for number, segment in enumerate(self.cut.segments):
            segments[segment.late, segment.depth].append(number)
        for node in self.derived.graph.nodes:
            if self._is_host_step(node):
                key = self._turn(node)
                turns.setdefault(key, []).append(node)
        for late, steps in ((False, self.forward), (True, self.backward)):
            depths = {key[1] for key in [*turns, *segments] if key[0] == late}
            for depth in sorted(depths):
                steps += [Dispatch(number) for number in segments.get((late, depth), ())]
                steps += [self._host_step(node) for node in turns.get((late, depth), ())]
        self.backward += [Accumulate(record) for record in self.derived.records]
        return self.forward, self.backward

    def _is_host_step(self, node: Node) -> bool:
        if is_op(node, "to_device"):
            return node.outputs[0] in self.surfaces.region_of
        return node in self.cut.depth and not is_op(node, "staged") and getattr(node.op, "place", "device") == "host"

    def _turn(self, node: Node) -> tuple[bool, int]:
        """(in backward?, depth)."""
        late = self.cut.is_late(node)
        if late or node in self.derived.forward_nodes or not is_op(node, "to_host"):
            return late, self.cut.depth[node]
        # A forward value for a weight gradient: kept until then, or computed again by a program of backward.
        makers = [
            segment.depth for segment in self.cut.segments if node.operands[0] in segment.outputs and segment.late
        ]
        return True, makers[0] + 1 if makers else 0

    def _host_step(self, node: Node) -> Step:
        value = node.outputs[0]
        if is_sent(value):
            return Send(node.operands[0], self.surfaces.region_of[value])
        if is_op(node, "to_host"):
            return Receive(value, self._region(node.operands[0]), node.parameters["paired_head"])
        return Compute(node)

    def _region(self, value: Value) -> Region:
        return self.surfaces.region_of[value]
