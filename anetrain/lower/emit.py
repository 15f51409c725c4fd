"""Writes a segment as a MIL graph: its ports, the weights as the layout has them, its nodes, its outputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from anetrain.graph import Value
from anetrain.graph.builder import Precision
from anetrain.graph.composed_ops import ComposedOp
from anetrain.lower.cut import Segment, is_weight
from anetrain.lower.plan import Region, SurfaceSpec, WeightPlace
from anetrain.lower.surfaces import Surfaces
from anetrain.lower.weights import baked_place
from anetrain.mil.graph import Graph, Operand
from anetrain.mil.graph import Value as MilValue
from anetrain.mil.ops import OPS


@dataclass
class Emitted:
    graph: Graph
    inputs: dict[str, str]  # port -> surface
    outputs: dict[str, str]
    constants: dict[str, WeightPlace] = field(default_factory=dict)  # name of the constant -> the weight it holds


def emit(segment: Segment, surfaces: Surfaces, precision: Precision) -> Emitted:
    return _Emitter(segment, surfaces, precision).run()


class _ProgramGraph(Graph):
    """Equal constants are one: chips count them (ANE_FACTS C14)."""

    def __init__(self) -> None:
        super().__init__()
        self._shared: dict[object, MilValue] = {}

    def constant(
        self, array: Operand, name: str | None = None, dtype: str | None = None, inline: bool | None = None
    ) -> MilValue:
        value = super().constant(array, name, dtype, inline)
        assert value.data is not None
        if name is not None:
            return value
        known = self._shared.setdefault((value.type, value.inline, value.data.tobytes()), value)
        if known is not value:
            del self._by_name[value.name]
        return known


class _Emitter:
    def __init__(self, segment: Segment, surfaces: Surfaces, precision: Precision) -> None:
        self.segment, self.surfaces, self.precision = segment, surfaces, precision
        self.graph = _ProgramGraph()
        self.ports: dict[str, MilValue] = {}  # by surface
        self.known: dict[Value, MilValue] = {}
        self.matrices: dict[Value, MilValue] = {}
        self.baked: dict[str, MilValue] = {}
        self.result = Emitted(self.graph, {}, {})

    def run(self) -> Emitted:
        self._declare_inputs()
        for node in self.segment.all_nodes:
            if node.op.name in OPS or issubclass(node.op, ComposedOp):
                operands = {name: self._operand(value) for name, value in node.tensors.items() if value is not None}
                if issubclass(node.op, ComposedOp):
                    outputs = node.op.compose(self.graph, **operands, **node.parameters)
                else:
                    outputs = self.graph.apply(node.op.name, **operands, **node.parameters)
            else:
                outputs = (getattr(self, f"_{node.op.name}")(node, **node.parameters),)
            self.known.update(zip(node.outputs, outputs, strict=True))
        self._declare_outputs()
        return self.result

    # ------------------------------------------------------------ ports

    def _declare_inputs(self) -> None:
        """Names sort as they are declared: activations first, then weights."""
        regions = [self._region(value) for value in self.segment.operands()]
        names = dict.fromkeys(region.surface for region in regions if region is not None)
        specs = sorted((self.surfaces.specs[name] for name in names), key=lambda spec: spec.weights)
        for number, spec in enumerate(specs):
            port = f"{'b' if spec.weights else 'a'}{number:02}_{spec.name}"
            self.ports[spec.name] = self.graph.input(port, (1, spec.channels, 1, spec.width), self.precision)
            self.result.inputs[port] = spec.name

    def _region(self, value: Value) -> Region | None:
        if is_weight(value):
            place = self.surfaces.weight_places.get(value)
            return place.region if place else None
        return self.surfaces.region_of.get(value)

    def _declare_outputs(self) -> None:
        by_surface: dict[str, list[Value]] = {}
        for value in self.segment.outputs:
            by_surface.setdefault(self.surfaces.region_of[value].surface, []).append(value)
        for surface, values in by_surface.items():
            port = f"y_{surface}"
            self.graph.output(port, self._surface_content(self.surfaces.specs[surface], values))
            self.result.outputs[port] = surface

    def _surface_content(self, spec: SurfaceSpec, values: list[Value]) -> MilValue:
        """The values one below the other, zeros on their right."""
        parts = []
        for value in values:
            region = self.surfaces.region_of[value]
            parts.append(self._reshaped(self.known[value], (1, region.rows, 1, region.columns)))
        content = parts[0] if len(parts) == 1 else self.graph.concat(parts, axis=1)
        if missing := spec.width - content.shape[3]:
            zeros = self._constant(np.zeros((1, spec.channels, 1, missing)))
            content = self.graph.concat((content, zeros), axis=3)
        if content.producer is None:  # an input may not be an output
            content = self.graph.mul(content, 1.0)
        return content

    # ------------------------------------------------------------ operands

    def _operand(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(self._operand, value))
        if value not in self.known:
            self.known[value] = self._source(value)
        return self.known[value]

    def _source(self, value: Value) -> MilValue:
        if value.data is not None:
            dtype = self.precision if value.dtype == "fp16" else value.dtype
            return self.graph.constant(value.data, dtype=dtype, inline=value.inline)
        if is_weight(value):
            return self._staged_tensor(value)
        return self._reshaped(self._cropped(self.surfaces.region_of[value]), value.shape)

    def _cropped(self, region: Region) -> MilValue:
        port = self.ports[region.surface]
        size = (1, region.rows, 1, region.columns)
        if size == port.shape:
            return port
        return self.graph.slice_by_size(port, begin=(0, region.channel, 0, region.column), size=size)

    def _reshaped(self, value: MilValue, shape: tuple[int, ...]) -> MilValue:
        return value if value.shape == shape else self.graph.reshape(value, shape)

    def _constant(self, array: Any) -> MilValue:
        return self.graph.constant(array, dtype=self.precision)

    def _baked(self, value: Value, shape: tuple[int, ...], transpose: bool = False) -> MilValue:
        """A constant whose content comes later, from the weights."""
        assert value.producer is not None
        begin, end = value.producer.parameters["begin"], value.producer.parameters["end"]
        sides = "x".join(map(str, shape))
        name = f"{value.producer.operands[0].name}_{begin}_{end}_{sides}{'_t' if transpose else ''}"
        if name not in self.baked:
            zeros = np.zeros(shape, np.float16)
            self.baked[name] = self.graph.constant(zeros, name=name, dtype=self.precision, inline=False)
            self.result.constants[name] = baked_place(value, transpose=transpose, shape=shape)
        return self.baked[name]

    # ------------------------------------------------------------ what MIL has no op for

    def _staged_tensor(self, value: Value) -> MilValue:
        """A weight in its own shape."""
        place = self.surfaces.weight_places.get(value)
        if place is None:
            return self._baked(value, value.shape)
        assert place.region is not None
        stored = self._cropped(place.region)
        if len(value.shape) > 1:
            matrix = self._reshaped(stored, (place.region.rows, place.region.columns))
            return self._reshaped(self.graph.transpose(matrix, (1, 0)) if place.transpose else matrix, value.shape)
        flat = self._reshaped(stored, (1, place.region.rows * place.region.columns, 1, 1))
        length = value.shape[0]
        if flat.shape[1] > length:
            flat = self.graph.slice_by_size(flat, begin=(0, 0, 0, 0), size=(1, length, 1, 1))
        return self._reshaped(flat, (length,))

    def _dense(self, node: Any, transpose: bool, host_backward: bool) -> MilValue:
        """Where its backward runs makes no difference here."""
        x, weight = self._operand(node.tensors["x"]), node.tensors["weight"]
        rows, columns = weight.shape
        out_channels = columns if transpose else rows
        tokens = x.shape[3]
        if is_weight(weight) and weight not in self.surfaces.weight_places:
            kernel = (out_channels, x.shape[1], 1, 1)
            return self.graph.conv(x, self._baked(weight, kernel, transpose))
        matrix, stored_transposed = self._matrix(weight)
        y = self.graph.matmul(
            matrix, self._reshaped(x, (1, x.shape[1], tokens)), transpose_x=transpose != stored_transposed
        )
        return self._reshaped(y, (1, out_channels, 1, tokens))

    def _matrix(self, weight: Value) -> tuple[MilValue, bool]:
        """[1, rows, columns] as it lies, and whether it lies transposed."""
        if not is_weight(weight):
            return self._reshaped(self._operand(weight), (1, *weight.shape)), False
        place = self.surfaces.weight_places[weight]
        assert place.region is not None
        if weight not in self.matrices:
            shape = (1, place.region.rows, place.region.columns)
            self.matrices[weight] = self._reshaped(self._cropped(place.region), shape)
        return self.matrices[weight], place.transpose

    def _vector(self, value: Value, rank: int, axis: int) -> MilValue:
        shape = tuple(value.shape[0] if i == axis % rank else 1 for i in range(rank))
        return self._reshaped(self._staged_tensor(value) if is_weight(value) else self._operand(value), shape)

    def _scale(self, node: Any, axis: int) -> MilValue:
        x = self._operand(node.tensors["x"])
        return self.graph.mul(x, self._vector(node.tensors["vector"], len(x.shape), axis))

    def _shift(self, node: Any, axis: int) -> MilValue:
        x = self._operand(node.tensors["x"])
        return self.graph.add(x, self._vector(node.tensors["vector"], len(x.shape), axis))

    def _detached(self, node: Any) -> MilValue:
        value: MilValue = self._operand(node.tensors["x"])
        return value
