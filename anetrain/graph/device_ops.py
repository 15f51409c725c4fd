"""Device ops of blocks that MIL has no single op for. The lowering writes them out, as the weight layout wants them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from anetrain.cpu import half_split_order
from anetrain.graph.records import Record
from anetrain.mil.derivatives import reshaped, sum_over
from anetrain.mil.ops.base import Evidence, Op, axis_of, mismatch, parameter, rank_between, tensor
from anetrain.mil.types import Array, TensorType

if TYPE_CHECKING:
    from anetrain.mil.derivatives import Backward

BLOCK_OPS: dict[str, type[Op]] = {}


class BlockOp(Op):
    """An op of blocks. `place` tells who computes it."""

    table = BLOCK_OPS
    place: ClassVar[str] = "device"
    evidence = Evidence("direct", "written out in ops of its own")
    shape_rule = ""


class Staged(BlockOp):
    """Rows begin:end of a parameter, in fp16, in the order in which the device sees them."""

    name = "staged"
    args = (
        tensor("master"),
        parameter("begin", "int32", 0),
        parameter("end", "int32", required=True),
        parameter("paired_head", "int32", 0),
    )

    @staticmethod
    def infer(master: TensorType, begin: int, end: int, paired_head: int) -> TensorType:
        if not 0 <= begin < end <= master.shape[0]:
            mismatch("begin", f"rows {begin} to {end} do not lie in {master}")
        if paired_head and (begin % paired_head or end % paired_head):
            mismatch("begin", f"rows {begin} to {end} cut a head of {paired_head} rows; stage whole heads")
        return TensorType("fp16", (end - begin, *master.shape[1:]))

    @staticmethod
    def meaning(master: Array, begin: int, end: int, paired_head: int) -> Array:
        rows = master[half_split_order(len(master), paired_head)] if paired_head else master
        return rows[begin:end]

    @staticmethod
    def derivative(backward: Backward) -> Mapping[str, Any]:
        """For weights that are used in some other way than below: the gradient is a tensor, and it is added."""
        graph: Any = backward.graph
        upstream = backward.gradient
        if backward.parameter("paired_head"):
            upstream = reshaped(graph, upstream, (upstream.shape[0], math.prod(upstream.shape[1:])))
        record(backward, backward.output, "rowsum", upstream, None, rows_axis=len(upstream.shape) - 1)
        return {}


def record(backward: Backward, weight: Any, kind: Any, a: Any, b: Any, rows_axis: int) -> None:
    """Enters a record for the parameter behind a staged weight; operands come to the host in the stored row order."""
    graph: Any = backward.graph
    node = weight.producer
    pairs = node.parameters["paired_head"]
    on_rows = kind != "gemm"  # b of a gemm has columns of W as rows
    graph.records.append(
        Record(
            kind,
            node.tensors["master"],
            graph.to_host(a, paired_head=pairs),
            None if b is None else graph.to_host(b, paired_head=pairs if on_rows else 0),
            node.parameters["begin"],
            node.parameters["end"],
            rows_axis,
        )
    )


def is_staged(weight: Any) -> bool:
    return weight.producer is not None and weight.producer.op is Staged


class Dense(BlockOp):
    """A linear layer without bias, channel first. `host_backward`: its gradients are computed on the host, in fp32."""

    name = "dense"
    args = (
        tensor("x"),
        tensor("weight"),
        parameter("transpose", "bool", False),
        parameter("host_backward", "bool", False),
    )
    shape_rule = "x [1, K, 1, T], weight [N, K] -> [1, N, 1, T]; transpose: x [1, N, 1, T] -> [1, K, 1, T]"

    @staticmethod
    def infer(x: TensorType, weight: TensorType, transpose: bool, host_backward: bool) -> TensorType:
        rank_between("x", x, 4, 4)
        rank_between("weight", weight, 2, 2)
        out_channels, in_channels = weight.shape[::-1] if transpose else weight.shape
        if x.shape[0] != 1 or x.shape[2] != 1:
            mismatch("x", f"has shape {list(x.shape)}, expected [1, {in_channels}, 1, T]")
        if x.shape[1] != in_channels:
            mismatch("weight", f"takes {in_channels} channels, x has {x.shape[1]}")
        return TensorType(x.dtype, (1, out_channels, 1, x.shape[3]))

    @staticmethod
    def meaning(x: Array, weight: Array, transpose: bool, host_backward: bool = False) -> Array:
        product = np.matmul(weight.T if transpose else weight, x[0, :, 0, :])
        return np.asarray(product[None, :, None, :])

    @staticmethod
    def derivative(backward: Backward) -> Mapping[str, Any]:
        graph: Any = backward.graph
        x, weight = (backward.operand(name) for name in ("x", "weight"))
        transpose, on_host = backward.parameter("transpose"), backward.parameter("host_backward")
        upstream = backward.gradient
        gradients = {}
        if backward.wants("x") and on_host:
            gradients["x"] = graph.host_linear(upstream, weight, transpose=not transpose)
        elif backward.wants("x"):
            gradients["x"] = graph.apply("dense", x=upstream, weight=weight, transpose=not transpose)[0]
        if backward.wants("weight"):
            a, b = (x, upstream) if transpose else (upstream, x)
            if is_staged(weight):
                record(backward, weight, "gemm", a, b, rows_axis=1)
            else:  # a weight that was computed: its gradient is a tensor of the device
                a, b = (graph.reshape(v, (v.shape[1], v.shape[3])) for v in (a, b))
                gradients["weight"] = graph.matmul(a, b, transpose_y=True)
        return gradients


def _stretched(vector: Array, rank: int, axis: int) -> Array:
    """[n] -> [1, .., n, .., 1]"""
    return vector.reshape([-1 if i == axis % rank else 1 for i in range(rank)])


class VectorOp(BlockOp):
    """An activation and one number per index of an axis."""

    args = (tensor("x"), tensor("vector"), parameter("axis", "int32", 1))
    shape_rule = "The type of x; the vector is as long as the axis."

    @staticmethod
    def infer(x: TensorType, vector: TensorType, axis: int) -> TensorType:
        axis = axis_of(axis, x.rank)
        if vector.shape != (x.shape[axis],):
            mismatch("vector", f"has shape {list(vector.shape)}, expected [{x.shape[axis]}], axis {axis} of x")
        return x


def _record_vector(backward: Backward, kind: Any, axis: int, factor: Any = None) -> None:
    vector: Any = backward.operand("vector")
    upstream = backward.gradient
    after = upstream.shape[axis + 1 :]
    if vector.producer.parameters["paired_head"] and (not after or math.prod(after[:-1]) != 1):
        backward.refuse(f"its vector has RoPE pairs, and axis {axis} of {list(upstream.shape)} is not that of the rows")
    record(backward, vector, kind, upstream, factor, axis)


def _sum_onto(graph: Any, value: Any, axis: int) -> Any:
    """The sum over all axes but one: the gradient of a vector that was computed."""
    return sum_over(graph, value, [other for other in range(len(value.shape)) if other != axis], keep_dims=False)


class Scale(VectorOp):
    name = "scale"

    @staticmethod
    def meaning(x: Array, vector: Array, axis: int) -> Array:
        return x * _stretched(vector, x.ndim, axis)

    @staticmethod
    def derivative(backward: Backward) -> Mapping[str, Any]:
        graph: Any = backward.graph
        x, vector = (backward.operand(name) for name in ("x", "vector"))
        axis = axis_of(backward.parameter("axis"), len(x.shape))
        upstream = backward.gradient
        gradients = {}
        if backward.wants("x"):
            gradients["x"] = graph.apply("scale", x=upstream, vector=vector, axis=axis)[0]
        if backward.wants("vector"):
            if is_staged(vector):
                _record_vector(backward, "rowdot", axis, x)
            else:
                gradients["vector"] = _sum_onto(graph, graph.mul(upstream, x), axis)
        return gradients


class Shift(VectorOp):
    name = "shift"

    @staticmethod
    def meaning(x: Array, vector: Array, axis: int) -> Array:
        return x + _stretched(vector, x.ndim, axis)

    @staticmethod
    def derivative(backward: Backward) -> Mapping[str, Any]:
        upstream = backward.gradient
        axis = axis_of(backward.parameter("axis"), len(upstream.shape))
        gradients = {"x": upstream}
        if backward.wants("vector"):
            if is_staged(backward.operand("vector")):
                _record_vector(backward, "rowsum", axis)
            else:
                gradients["vector"] = _sum_onto(backward.graph, upstream, axis)
        return gradients


class Detached(BlockOp):
    """The value, taken as a constant by derivatives: for factors whose choice cannot change the result."""

    name = "detached"
    args = (tensor("x"),)

    @staticmethod
    def infer(x: TensorType) -> TensorType:
        return x

    @staticmethod
    def meaning(x: Array) -> Array:
        return x

    @staticmethod
    def derivative(backward: Backward) -> Mapping[str, Any]:
        return {}
