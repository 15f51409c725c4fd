"""What a graph computes, in numpy: the meaning of each op, one after the other. For tests and for judging devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from anetrain.mil.graph import Graph, Node, Value
from anetrain.mil.types import Array, dtype


def evaluate(graph: Graph, inputs: Mapping[str, Array], *, rounded: bool = True) -> dict[str, Array]:
    """The outputs by name, in float64 (integer and bool results as they are). `rounded`: each fp16 or fp32 result is
    rounded to its type before the next op sees it, as a device does, and so are the inputs; otherwise nothing is."""
    missing = {value.name for value in graph.inputs} ^ set(inputs)
    if missing:
        raise ValueError(f"inputs do not match the graph's: {', '.join(sorted(missing))}")
    given = {value: np.asarray(inputs[value.name]) for value in graph.inputs}
    given = {value: round_to(array, value.dtype) if rounded else widened(array) for value, array in given.items()}
    known = compute(graph, given, rounded=rounded)
    return {value.name: known[value] if value.data is None else widened(value.data) for value in graph.outputs}


def compute(
    graph: Graph, sources: Mapping[Value, Array], *, rounded: bool = True, exact: bool = False
) -> dict[Value, Array]:
    """All values of a graph but its constants; see `evaluate`. `exact`: scalars are taken as they were given, not as a
    text in fp16 would have them."""
    known: dict[Value, Array] = {}
    for value, array in sources.items():
        given = np.asarray(array)
        if given.shape != value.shape:
            raise ValueError(f"input {value.name!r} has shape {list(given.shape)}, expected {list(value.shape)}")
        known[value] = given

    def array_of(value: Value | tuple[Value, ...] | None) -> Any:
        if isinstance(value, tuple):
            return [array_of(item) for item in value]
        if value is None:
            return None
        return widened(value.data) if value.data is not None else known[value]

    for node in graph.nodes:
        operands = {name: array_of(value) for name, value in node.tensors.items()}
        with np.errstate(all="ignore"):  # inf and NaN are results here, not mistakes
            result = node.op.meaning(**operands, **(node.parameters if exact else rounded_parameters(node)))
        results = result if isinstance(result, tuple) else (result,)
        for value, array in zip(node.outputs, results, strict=True):
            known[value] = round_to(array, value.dtype) if rounded else array
    return known


def rounded_parameters(node: Node) -> dict[str, Any]:
    """Scalars of the data's type are rounded to it, as the text has them."""
    kinds = {arg.name: arg.kind for arg in node.op.args}
    return {
        name: float(round_to(np.asarray(given), node.operands[0].dtype)) if kinds[name] == "fp" else given
        for name, given in node.parameters.items()
    }


def widened(array: Array) -> Array:
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def round_to(array: Array, kind: str) -> Array:
    """Floating point rounded to `kind` and held in float64; other types as they are."""
    if not dtype(kind).is_float:
        return np.asarray(array)
    with np.errstate(over="ignore"):
        return np.asarray(np.asarray(array).astype(dtype(kind).numpy), dtype=np.float64)
