"""Cuts a differentiated graph into segments: runs of device nodes that become one program each, and the host's turns.

Every node has a depth. Even depths are turns of the host, odd ones of the device; a node comes as early as its operands
allow, and a change of place costs one step. Backward starts after all of forward. Device nodes of one depth are one
segment, or several where the granularity says so:

    fused     as much as possible in one program
    stage     a program ends where the block said g.stage()
    linear    besides, every linear layer is a program of its own: the last resort
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from anetrain.autodiff import Derived
from anetrain.graph import Node, Value, on_device, place
from anetrain.lower.plan import Granularity


@dataclass(eq=False)
class Segment:
    """Device nodes that run as one program. `late`: in backward."""

    depth: int
    late: bool
    nodes: list[Node] = field(default_factory=list)
    recomputed: list[Node] = field(default_factory=list)  # nodes of forward that run again here, before `nodes`
    outputs: list[Value] = field(default_factory=list)  # what others read of it

    @property
    def all_nodes(self) -> list[Node]:
        return [*self.recomputed, *self.nodes]

    def operands(self) -> list[Value]:
        """What it reads but does not compute, constants and weights included, each once, in order of use."""
        made = {output for node in self.all_nodes for output in node.outputs}
        found = dict.fromkeys(value for node in self.all_nodes for value in node.operands)
        return [value for value in found if value not in made]


@dataclass
class Cut:
    derived: Derived
    depth: dict[Node, int]
    late: set[Value]  # values that depend on a gradient
    segments: list[Segment]  # in the order in which they run
    segment_of: dict[Node, Segment]

    def is_late(self, node: Node) -> bool:
        return node.outputs[0] in self.late

    def crossing(self) -> list[Value]:
        """Device values that do not depend on a gradient and that backward needs: on the device, or on the host."""
        needed: dict[Value, None] = {}
        for node in self.derived.graph.nodes:
            read_late = self.is_late(node) or (is_op(node, "to_host") and node not in self.derived.forward_nodes)
            if read_late:
                needed.update(dict.fromkeys(value for value in node.operands if is_forward_device(self, value)))
        return list(needed)


def is_op(node: Node, name: str) -> bool:
    return node.op.name == name


def is_weight(value: Value) -> bool:
    return value.producer is not None and is_op(value.producer, "staged")


def is_sent(value: Value) -> bool:
    return value.producer is not None and is_op(value.producer, "to_device")


def is_forward_device(cut: Cut, value: Value) -> bool:
    """A device value of forward, weights and constants apart."""
    return on_device(value) and value not in cut.late and not is_weight(value)


def runs_on_device(node: Node) -> bool:
    return place(node) == "device" and not is_op(node, "staged")


def cut(derived: Derived, granularity: Granularity) -> Cut:
    late = gradient_values(derived)
    depths = _Depths(derived, late, granularity)
    groups: dict[tuple[int, object], Segment] = {}
    segment_of: dict[Node, Segment] = {}
    for node in derived.graph.nodes:
        is_late = node.outputs[0] in late
        if not runs_on_device(node) or (not is_late and node not in derived.forward_nodes):
            continue  # what derivatives made of forward values alone is computed wherever it is needed
        key = (depths.of[node], depths.group(node))
        if key not in groups:
            groups[key] = Segment(depths.of[node], is_late)
        groups[key].nodes.append(node)
        segment_of[node] = groups[key]
    segments = sorted(groups.values(), key=lambda segment: segment.depth)
    return Cut(derived, depths.of, late, segments, segment_of)


def gradient_values(derived: Derived) -> set[Value]:
    """Values that depend on a seed, or on the gradient that a loss brings."""
    sources = set(derived.seeds.values())
    for node in derived.graph.nodes:
        if is_op(node, "cross_entropy"):
            sources.update(node.outputs[1:])
    late = set(sources)
    for node in derived.graph.nodes:
        if any(operand in late for operand in node.operands):
            late.update(node.outputs)
    return late


class _Depths:
    def __init__(self, derived: Derived, late: set[Value], granularity: Granularity) -> None:
        self.late, self.granularity = late, granularity
        self.stage_of = derived.graph.stage_of
        self.of: dict[Node, int] = {}
        forward = [node for node in derived.graph.nodes if node.outputs[0] not in late]
        self._walk(forward, start=0)
        end = max((self.of[node] for node in forward), default=0)
        self._walk([node for node in derived.graph.nodes if node.outputs[0] in late], start=end + 2 - end % 2)

    def group(self, node: Node) -> object:
        """Neighbouring device nodes are one program only if they are of one group."""
        if self.granularity == "fused":
            return 0
        if self.granularity == "linear" and is_op(node, "dense"):
            return node
        return self.stage_of[node]

    def _walk(self, nodes: Iterable[Node], start: int) -> None:
        for node in nodes:
            is_late = node.outputs[0] in self.late
            earliest = start + (1 if runs_on_device(node) else 0)
            operands = [value for value in node.operands if value.producer in self.of and not is_weight(value)]
            self.of[node] = max((earliest, *(self._after(node, value, is_late) for value in operands)))

    def _after(self, node: Node, operand: Value, is_late: bool) -> int:
        producer = operand.producer
        assert producer is not None
        if is_late and operand not in self.late:
            return 0  # forward is over by then
        depth = self.of[producer]
        if runs_on_device(node) != runs_on_device(producer):
            return depth + 1
        if runs_on_device(node) and self.group(node) != self.group(producer):
            return depth + 2
        return depth
