"""What a differentiated graph computes, in numpy on the host alone: the judge of every lowering.

result = run(derived, {"x": x, "d_y": dy}, parameters)
result.outputs["y"], result.gradients["x"], result.parameters["attention.wq"]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from anetrain.autodiff import Derived
from anetrain.graph import Value, accumulate
from anetrain.mil.meaning import compute, widened
from anetrain.mil.types import Array


@dataclass
class Result:
    outputs: dict[str, Array]
    gradients: dict[str, Array]  # of inputs
    parameters: dict[str, Array]  # gradients of parameters, by name


def run(
    derived: Derived, inputs: Mapping[str, Array], parameters: Mapping[str, Array], *, rounded: bool = False
) -> Result:
    """`inputs` with the seeds, by name. In float64; `rounded`: every result is rounded to its own type."""
    graph = derived.graph
    sources: dict[Value, Array] = {}
    for value in graph.inputs:
        sources[value] = _float64(inputs, value.name, value.shape)
    for value, known in graph.parameters.items():
        sources[value] = _float64(parameters, known.name, value.shape)
    values = compute(graph, sources, rounded=rounded, exact=not rounded)

    def array(value: Value) -> Any:
        return widened(value.data) if value.data is not None else values[value]

    gradients = {known.name: np.zeros(known.shape) for known in graph.parameters.values()}
    for record in derived.records:
        target = gradients[graph.parameters[record.parameter].name]
        accumulate(record, target, array(record.a), None if record.b is None else array(record.b))
    return Result(
        {value.name: array(value) for value in derived.outputs},
        {value.name: array(gradient) for value, gradient in derived.gradients.items()},
        gradients,
    )


def _float64(arrays: Mapping[str, Array], name: str, shape: tuple[int, ...]) -> Array:
    if name not in arrays:
        raise ValueError(f"no array for {name!r}; found {', '.join(sorted(arrays)) or 'none'}")
    array = widened(np.asarray(arrays[name]))
    if array.shape != shape:
        raise ValueError(f"{name!r} has shape {list(array.shape)}, expected {list(shape)}")
    return array
