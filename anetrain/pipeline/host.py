"""What executes the host's ops: a table from the op's name to a function that binds its arrays, once, to a callable."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

from anetrain import cpu
from anetrain.cpu.products import bound_matmul
from anetrain.graph import Node, Record, Value
from anetrain.mil.types import Array
from anetrain.pipeline.errors import PlanError

Work = Callable[[], object]


@dataclass(frozen=True)
class Operands:
    """A node's arrays. `wanted`: the values that somebody reads; a result nobody reads is not computed."""

    node: Node
    array: Callable[[Value], Array]
    wanted: Collection[Value]

    def __getitem__(self, name: str) -> Array:
        value = self.node.tensors[name]
        assert isinstance(value, Value)
        return self.array(value)

    def matrix(self, name: str) -> Array:
        """An operand [1, C, 1, T] as [C, T]."""
        return self[name][0, :, 0, :]

    def parameter(self, name: str) -> Any:
        return self.node.parameters[name]

    def result(self, index: int) -> Array | None:
        value = self.node.outputs[index]
        return self.array(value) if value in self.wanted else None

    def matrix_result(self, index: int) -> Array | None:
        array = self.result(index)
        return None if array is None else array[0, :, 0, :]

    def vector_result(self, index: int) -> Array | None:
        array = self.result(index)
        return None if array is None else array.reshape(-1)


def bind(node: Node, array: Callable[[Value], Array], wanted: Collection[Value]) -> Work:
    """The work of one node on arrays that stay where they are."""
    if node.op.name not in _BINDERS:
        raise PlanError(
            f"the host cannot compute {node.op.name!r} ({node.outputs[0].name}); it has {', '.join(_BINDERS)}"
        )
    return _BINDERS[node.op.name](Operands(node, array, wanted))


def bind_record(record: Record, gradient: Array, array: Callable[[Value], Array]) -> Callable[[float], object]:
    """Adds alpha times a record to the gradient of its parameter."""
    target = gradient[record.begin : record.end]
    a = record.matrix(array(record.a))
    b = None if record.b is None else array(record.b)
    if record.kind == "scatter":
        assert b is not None
        return lambda alpha: cpu.embedding_scatter(b, a, gradient, alpha)
    if record.kind == "gemm":
        assert b is not None
        _, multiply = bound_matmul(a, record.matrix(b).T, target)
        return lambda alpha: multiply(alpha, 1.0)
    flat = target.reshape(-1)
    if b is None:
        return lambda alpha: cpu.row_sum(a, flat, alpha)
    factors = record.matrix(b)
    return lambda alpha: cpu.row_dot(a, factors, flat, alpha)


def _add(op: Operands) -> Work:
    return partial(cpu.add, op["x"], op["y"], op.parameter("alpha"), out=op.result(0))


def _scale(op: Operands) -> Work:
    return partial(cpu.scale, op["x"], op.parameter("alpha"), out=op.result(0))


def _rms_norm(op: Operands) -> Work:
    return partial(
        cpu.rms_norm,
        *(op.matrix("x"), op["gain"], op.parameter("eps")),
        out=op.matrix_result(0),
        rrms=op.vector_result(1),
    )


def _rms_norm_backward(op: Operands) -> Work:
    operands = (op.matrix("dy"), op.matrix("x"), op["gain"], op["rrms"].reshape(-1))
    dgain = op.vector_result(1)
    return _from_zero(partial(cpu.rms_norm_backward, *operands, dx=op.matrix_result(0), dgain=dgain), dgain)


def _layer_norm(op: Operands) -> Work:
    return partial(
        cpu.layer_norm,
        *(op.matrix("x"), op["gain"], op["bias"], op.parameter("eps")),
        out=op.matrix_result(0),
        mean=op.vector_result(1),
        rstd=op.vector_result(2),
    )


def _layer_norm_backward(op: Operands) -> Work:
    operands = (op.matrix("dy"), op.matrix("x"), op["gain"], op["mean"].reshape(-1), op["rstd"].reshape(-1))
    dgain, dbias = op.vector_result(1), op.vector_result(2)
    work = partial(cpu.layer_norm_backward, *operands, dx=op.matrix_result(0), dgain=dgain, dbias=dbias)
    return _from_zero(work, dgain, dbias)


def _from_zero(work: Work, *sums: Array | None) -> Work:
    """Work that adds to these arrays, made to fill them."""
    wanted = [array for array in sums if array is not None]

    def run() -> None:
        for array in wanted:
            array.fill(0.0)
        work()

    return run


def _embedding(op: Operands) -> Work:
    return partial(cpu.embedding, op["table"], op["ids"], out=op.matrix_result(0))


def _dense(op: Operands) -> Work:
    weight = op["weight"][op.parameter("begin") : op.parameter("end")]
    return partial(
        cpu.matmul, weight.T if op.parameter("transpose") else weight, op.matrix("x"), out=op.matrix_result(0)
    )


def _cross_entropy(op: Operands) -> Work:
    chunks = op.node.tensors["logits"]
    assert isinstance(chunks, tuple)
    logits = [op.array(chunk)[0, :, 0, :] for chunk in chunks]
    gradients = [op.matrix_result(1 + index) for index in range(len(chunks))]
    targets, scale, loss = op["targets"], op["scale"], op.result(0)
    dlogits = [array for array in gradients if array is not None] or None
    if dlogits is not None and len(dlogits) != len(chunks):
        raise PlanError("cross_entropy: some gradients of logits are used and some are not")

    def run() -> None:
        found, _ = cpu.cross_entropy(logits, targets, scale.item(), dlogits)
        if loss is not None:
            loss[0] = found

    return run


_BINDERS: dict[str, Callable[[Operands], Work]] = {
    "host_add": _add,
    "host_scale": _scale,
    "host_rms_norm": _rms_norm,
    "host_rms_norm_backward": _rms_norm_backward,
    "host_layer_norm": _layer_norm,
    "host_layer_norm_backward": _layer_norm_backward,
    "embedding": _embedding,
    "host_dense": _dense,
    "cross_entropy": _cross_entropy,
}
