"""When two graphs are the same, so that layers share programs."""

from __future__ import annotations

from anetrain.graph import BlockGraph, Value


def signature(graph: BlockGraph) -> object:
    """Equal for graphs that compute the same from parameters of the same names, and are cut in the same places."""
    numbers: dict[Value, int] = {}

    def reference(value: Value) -> object:
        if value.data is not None:
            return value.type, value.inline, value.data.tobytes()
        return numbers.setdefault(value, len(numbers))

    sources = [(reference(value), value.name, value.type) for value in graph.inputs]
    parameters = [(reference(value), known) for value, known in graph.parameters.items()]
    nodes = []
    for node in graph.nodes:
        operands = tuple(map(reference, node.operands))
        results = tuple(map(reference, node.outputs))
        nodes.append(
            (node.op, operands, tuple(node.tensors), tuple(node.parameters.items()), results, graph.stage_of[node])
        )
    outputs = [(reference(value), value.name) for value in graph.outputs]
    return tuple(sources), tuple(parameters), tuple(nodes), tuple(outputs)
