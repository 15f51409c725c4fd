"""What a program takes and does, read off its MIL graph before anything compiles it."""

from __future__ import annotations

import math

from anetrain.lower.plan import ProgramReport
from anetrain.mil.graph import Graph, Node, Value
from anetrain.mil.text import live_nodes
from anetrain.mil.types import dtype

VIEWS = frozenset({"reshape", "slice_by_size", "squeeze", "expand_dims"})  # taken to cost no memory


def report(graph: Graph) -> ProgramReport:
    nodes = live_nodes(graph)
    inputs = {value.name: value.shape for value in graph.inputs}
    outputs = {value.name: value.shape for value in graph.outputs}
    constants = {value for node in nodes for value in node.operands if value.data is not None}
    return ProgramReport(
        inputs,
        outputs,
        sum(map(_bytes, graph.inputs)),
        sum(map(_bytes, graph.outputs)),
        sum(map(_bytes, constants)),
        sum(map(_flops, nodes)),
        len(nodes),
        _working_set(nodes, {*graph.inputs, *graph.outputs}),
    )


def _bytes(value: Value) -> int:
    return math.prod(value.shape) * dtype(value.dtype).bits // 8


def _flops(node: Node) -> int:
    """As the device counts: multiplications and additions of products; otherwise one for each element of the largest
    operand or result; none for moving."""
    size = math.prod(node.outputs[0].shape)
    if node.op.name == "matmul":
        x = node.operands[0].shape
        return 2 * size * (x[-2] if node.parameters["transpose_x"] else x[-1])
    if node.op.name == "conv":
        return 2 * size * math.prod(node.operands[1].shape[1:])
    if node.op.name in VIEWS or node.op.name in ("concat", "transpose"):
        return 0
    return max([size, *(math.prod(operand.shape) for operand in node.operands)])


def _working_set(nodes: list[Node], borders: set[Value]) -> int:
    """The most bytes alive at one time: borders always, other values from where they are made to their last reader."""
    last_use: dict[Value, int] = {}
    for position, node in reversed(list(enumerate(nodes))):
        is_view = node.op.name in VIEWS
        end = max(last_use.get(value, position) for value in node.outputs) if is_view else position  # of what it shows
        for value in node.operands:
            last_use[value] = max(end, last_use.get(value, 0))
    total = sum(map(_bytes, borders))
    alive: dict[Value, int] = {}
    peak = total
    for position, node in enumerate(nodes):
        if node.op.name not in VIEWS:
            alive.update({value: last_use.get(value, position) for value in node.outputs if value not in borders})
        peak = max(peak, total + sum(map(_bytes, alive)))
        alive = {value: end for value, end in alive.items() if end > position}
    return peak
