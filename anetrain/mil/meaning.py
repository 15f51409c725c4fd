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
    known: dict[Value, Array] = {}
    for value in graph.inputs:
        given = np.asarray(inputs[value.name])
        if given.shape != value.shape:
            raise ValueError(f"input {value.name!r} has shape {list(given.shape)}, expected {list(value.shape)}")
        known[value] = round_to(given, value.dtype) if rounded else widened(given)

    def array_of(value: Value | tuple[Value, ...] | None) -> Any:
        if isinstance(value, tuple):
            return [array_of(item) for item in value]
        if value is None:
            return None
        return widened(value.data) if value.data is not None else known[value]

    for node in graph.nodes:
        operands = {name: array_of(value) for name, value in node.tensors.items()}
        with np.errstate(all="ignore"):  # inf and NaN are results here, not mistakes
            result = node.op.meaning(**operands, **rounded_parameters(node))
        results = result if isinstance(result, tuple) else (result,)
        for value, array in zip(node.outputs, results, strict=True):
            known[value] = round_to(array, value.dtype) if rounded else array
    return {value.name: array_of(value) for value in graph.outputs}


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
