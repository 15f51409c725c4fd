"""What a derivative rule is given, and the steps that many rules share.

The rules stand in the classes of the ops, beside `meaning`. A rule adds ops to the graph of the forward pass and gives
the gradient of each operand that is wanted, in the operand's shape and type:

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        return {"x": backward.graph.mul(backward.gradient, backward.output)} if backward.wants("x") else {}

Where the forward op has direct evidence its rule keeps to ops that have it, so that a strict device takes the backward
program of whatever it takes forward; and it reuses the output of the forward op where it can.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from anetrain.mil.ops.base import Gradient as Gradient
from anetrain.mil.ops.base import NoDerivativeError as NoDerivativeError
from anetrain.mil.ops.base import axes_of
from anetrain.mil.types import Shape

if TYPE_CHECKING:
    from anetrain.mil.graph import Graph, Node, Value

LONGEST_REDUCE_SUM = 64  # terms: the engine's reduce_sum accumulates in fp16 (ANE_FACTS C69)
LONGEST_PRODUCT = 16_384  # elements of an axis that every chip takes (ANE_FACTS C11)


@dataclass(frozen=True)
class Backward:
    """One step of a reverse sweep. `upstream` has the gradient of each output of `node`, None where there is none (a
    rule is called with at least one); `wanted` are the operands whose gradients are needed, at least one too."""

    graph: Graph
    node: Node
    upstream: tuple[Value | None, ...]
    wanted: frozenset[Value]

    def wants(self, name: str) -> bool:
        given = self.node.tensors[name]
        return any(item in self.wanted for item in (given if isinstance(given, tuple) else (given,)))

    def operand(self, name: str) -> Value:
        given = self.node.tensors[name]
        if given is None or isinstance(given, tuple):
            raise TypeError(f"[{self.node.op.name}] {name} is not one tensor: {given!r}")
        return given

    def operands(self, name: str) -> tuple[Value, ...]:
        given = self.node.tensors[name]
        if not isinstance(given, tuple):
            raise TypeError(f"[{self.node.op.name}] {name} is not several tensors: {given!r}")
        return given

    def parameter(self, name: str) -> Any:
        return self.node.parameters[name]

    @property
    def output(self) -> Value:
        """The result of the forward op, which has one."""
        (output,) = self.node.outputs
        return output

    @property
    def gradient(self) -> Value:
        """The gradient of the op's only output."""
        (gradient,) = self.upstream
        if gradient is None:
            raise TypeError(f"[{self.node.op.name}] the derivative was asked for without a gradient of the output")
        return gradient

    def gradients(self, **rules: Callable[[], Value | None]) -> dict[str, Gradient]:
        """Of the operands that are wanted, each summed over the axes along which its operand was stretched."""
        found: dict[str, Gradient] = {}
        for name, rule in rules.items():
            gradient = rule() if self.wants(name) else None
            if gradient is not None:
                found[name] = unbroadcast(self.graph, gradient, self.operand(name).shape)
        return found

    def refuse(self, why: str) -> NoReturn:
        """For the forms of an op that its rule does not cover."""
        raise NoDerivativeError(self.node.op.name, why)


# ---------------------------------------------------------------- sums


def sum_over(graph: Graph, value: Value, axes: Sequence[int], keep_dims: bool = True) -> Value:
    """The sum along `axes`: reduce_sum for short ones, a product with ones, which accumulates wide, for long ones.
    Axes that do not touch are summed one after the other."""
    shape = value.shape
    gone = axes_of(axes, len(shape))
    kept = tuple(1 if axis in gone else extent for axis, extent in enumerate(shape))
    for run in _runs(shape, gone):
        value = _sum_run(graph, value, run)
    final = kept if keep_dims else tuple(extent for axis, extent in enumerate(shape) if axis not in gone)
    return reshaped(graph, value, final)


def _runs(shape: Shape, axes: Sequence[int]) -> list[list[int]]:
    """Neighbouring axes together, the last first; axes of one element join or separate nothing."""
    runs: list[list[int]] = []
    terms = 0  # of the run that the next axis would join; 0: it joins none
    for axis in reversed(range(len(shape))):
        if shape[axis] == 1:
            continue
        if axis not in axes:
            terms = 0
        elif 0 < terms * shape[axis] <= LONGEST_PRODUCT:
            runs[-1].insert(0, axis)
            terms *= shape[axis]
        else:
            runs.append([axis])
            terms = shape[axis]
    return runs


def _sum_run(graph: Graph, value: Value, run: list[int]) -> Value:
    shape = value.shape
    terms = math.prod(shape[axis] for axis in run)
    kept = tuple(1 if axis in run else extent for axis, extent in enumerate(shape))
    if terms <= LONGEST_REDUCE_SUM:
        return graph.reduce_sum(value, axes=run, keep_dims=True)
    before, after = math.prod(shape[: run[0]]), math.prod(shape[run[-1] + 1 :])
    if after == 1:  # [..., terms] times [terms, 1]
        matrix = shape if len(shape) > 1 and shape[-1] == terms else (1,) * (len(shape) - 2) + (before, terms)
        total = graph.matmul(reshaped(graph, value, matrix), _ones(graph, (terms, 1), len(matrix), value))
    else:  # [1, terms] times [..., terms, after]
        matrix = shape if shape[-2:] == (terms, after) else (1,) * (len(shape) - 3) + (before, terms, after)
        total = graph.matmul(_ones(graph, (1, terms), len(matrix), value), reshaped(graph, value, matrix))
    return reshaped(graph, total, kept)


def _ones(graph: Graph, matrix: Shape, rank: int, like: Value) -> Value:
    return graph.constant(np.ones((1,) * (rank - 2) + matrix), dtype=like.dtype)


def unbroadcast(graph: Graph, gradient: Value, shape: Shape) -> Value:
    """The gradient of an operand of `shape` that was stretched to the gradient's shape: the sum of its copies."""
    missing = len(gradient.shape) - len(shape)
    aligned = (1,) * missing + tuple(shape)
    stretched = [axis for axis, extent in enumerate(aligned) if extent == 1 and gradient.shape[axis] != 1]
    return reshaped(graph, sum_over(graph, gradient, stretched) if stretched else gradient, shape)


# ---------------------------------------------------------------- shapes and constants


def reshaped(graph: Graph, value: Value, shape: Sequence[int]) -> Value:
    """Nothing where the shape is right already. reshape makes no scalars, a sum over axes of one element does."""
    if value.shape == tuple(shape):
        return value
    return graph.reshape(value, tuple(shape)) if shape else graph.reduce_sum(value, keep_dims=False)


def keep_axes(graph: Graph, reduced: Value, shape: Shape, axes: Sequence[int] | None) -> Value:
    """A reduction of a tensor of `shape` with its axes back as 1, whether it kept them or not."""
    gone = axes_of(axes, len(shape))
    return reshaped(graph, reduced, tuple(1 if axis in gone else extent for axis, extent in enumerate(shape)))


def expand(graph: Graph, value: Value, shape: Shape, scale: float = 1.0) -> Value:
    """scale * value, stretched to `shape` of the same rank."""
    copies = tuple(new if old != new else 1 for old, new in zip(value.shape, shape, strict=True))
    if math.prod(copies) == 1:
        return value if scale == 1.0 else graph.mul(value, scale)
    return graph.mul(value, graph.constant(np.full(copies, scale), dtype=value.dtype))


def spread_along(graph: Graph, vector: Value, shape: Shape, axes: Sequence[int]) -> Value:
    """A vector of `axes`, in order, laid along these axes of a tensor of `shape`; the others become 1."""
    target = tuple(extent if axis in axes else 1 for axis, extent in enumerate(shape))
    if vector.data is not None:
        return graph.constant(vector.data.reshape(target), dtype=vector.dtype)
    return reshaped(graph, vector, target)


def pad_with_zeros(graph: Graph, value: Value, sides: Sequence[tuple[int, int]]) -> Value:
    """`sides`: how many zeros before and after, per axis. By concat, which has direct evidence, unlike pad."""
    for axis, (before, after) in enumerate(sides):
        shape = value.shape
        parts = [
            zeros_like(graph, (*shape[:axis], count, *shape[axis + 1 :]), value) if count else None
            for count in (before, after)
        ]
        joined = [part for part in (parts[0], value, parts[1]) if part is not None]
        value = graph.concat(joined, axis=axis) if len(joined) > 1 else value
    return value


def join_padded(graph: Graph, parts: Sequence[Value]) -> list[Value]:
    """Values with the same sum. Slices of one value bring gradients that are a piece among zeros each: pieces that lie
    side by side become one concat, instead of sums of concats."""
    pieces: dict[int, list[tuple[int, Value, Value]]] = {}
    others = []
    for part in parts:
        found = _piece_among_zeros(part)
        if found is None:
            others.append(part)
        else:
            axis, begin, piece = found
            pieces.setdefault(axis, []).append((begin, piece, part))
    for axis, found_pieces in pieces.items():
        found_pieces.sort(key=lambda item: item[0])
        ends = [begin + piece.shape[axis] for begin, piece, _ in found_pieces]
        apart = all(end <= begin for end, (begin, _, _) in zip(ends, found_pieces[1:], strict=False))
        if len(found_pieces) == 1 or not apart:
            others += [part for _, _, part in found_pieces]
            continue
        shape, row = parts[0].shape, []
        for start, (begin, piece, _) in zip([0, *ends], found_pieces, strict=False):
            row += [*_zeros_along(graph, shape, axis, begin - start, piece), piece]
        row += _zeros_along(graph, shape, axis, shape[axis] - ends[-1], row[-1])
        others.append(graph.concat(row, axis=axis))
    return others


def _piece_among_zeros(value: Value) -> tuple[int, int, Value] | None:
    """(axis, where it begins, the piece) of what pad_with_zeros made along one axis."""
    node = value.producer
    if node is None or node.op.name != "concat" or node.parameters["interleave"]:
        return None
    items = node.tensors["values"]
    assert isinstance(items, tuple)
    filled = [i for i, item in enumerate(items) if item.data is None or item.data.any()]
    if len(filled) != 1 or len(items) == 1:
        return None
    axis = node.parameters["axis"] % len(value.shape)
    return axis, sum(item.shape[axis] for item in items[: filled[0]]), items[filled[0]]


def _zeros_along(graph: Graph, shape: Shape, axis: int, count: int, like: Value) -> list[Value]:
    return [zeros_like(graph, (*shape[:axis], count, *shape[axis + 1 :]), like)] if count else []


def slice_axis(graph: Graph, value: Value, axis: int, begin: int, size: int, stride: int = 1) -> Value:
    """`size` elements of one axis."""
    rank, extent = len(value.shape), value.shape[axis]
    if size == extent:
        return value
    begins = [begin if i == axis else 0 for i in range(rank)]
    if stride == 1:
        return graph.slice_by_size(value, begins, [size if i == axis else n for i, n in enumerate(value.shape)])
    ends = [begin + (size - 1) * stride + 1 if i == axis else n for i, n in enumerate(value.shape)]
    return graph.slice_by_index(value, begins, ends, stride=[stride if i == axis else 1 for i in range(rank)])


def turn(graph: Graph, value: Value, axes: Sequence[int]) -> Value:
    """The axes in opposite order, by slice_by_index, which has direct evidence, unlike reverse."""
    turned = [axis in axes for axis in range(len(value.shape))]
    return graph.slice_by_index(
        value,
        begin=[extent - 1 if back else 0 for extent, back in zip(value.shape, turned, strict=True)],
        end=[0 if back else extent for extent, back in zip(value.shape, turned, strict=True)],
        stride=[-1 if back else 1 for back in turned],
        end_mask=turned,
    )


def spaced(graph: Graph, value: Value, axis: int, stride: int) -> Value:
    """stride - 1 zeros between the elements of one axis."""
    shape = value.shape
    if stride == 1 or shape[axis] == 1:
        return value
    apart = graph.reshape(value, (math.prod(shape[:axis]), shape[axis], 1, math.prod(shape[axis + 1 :])))
    filled = pad_with_zeros(graph, apart, [(0, 0), (0, 0), (0, stride - 1), (0, 0)])
    joined = graph.reshape(filled, (*shape[:axis], shape[axis] * stride, *shape[axis + 1 :]))
    return slice_axis(graph, joined, axis, 0, (shape[axis] - 1) * stride + 1)


def mean_over(graph: Graph, value: Value, axes: Sequence[int]) -> Value:
    """Along `axes`, which stay as 1."""
    terms = math.prod(value.shape[axis] for axis in axes_of(axes, len(value.shape)))
    return sum_over(graph, value, axes) * (1.0 / terms)


def zeros_like(graph: Graph, shape: Shape, like: Value) -> Value:
    return graph.constant(np.zeros(shape), dtype=like.dtype)
