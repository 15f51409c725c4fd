"""What the CPU computes in fp32: residual stream, norms, embedding, classifier, loss, and the way to the device.

`meaning` is the mathematics in numpy; anetrain.pipeline runs these ops with anetrain.cpu.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from anetrain.cpu import half_split_order
from anetrain.graph.device_ops import BlockOp, Dense
from anetrain.graph.records import Record
from anetrain.mil.ops.base import mismatch, one_type, parameter, rank_between, tensor
from anetrain.mil.types import Array, TensorType

if TYPE_CHECKING:
    from anetrain.mil.derivatives import Backward


class HostOp(BlockOp):
    place: ClassVar[str] = "host"


# ---------------------------------------------------------------- to the device and back


class ToDevice(HostOp):
    name = "to_device"
    args = (tensor("x"),)

    @staticmethod
    def infer(x: TensorType) -> TensorType:
        return TensorType("fp16", x.shape)

    @staticmethod
    def meaning(x: Array) -> Array:
        return x

    @staticmethod
    def derivative(backward: Backward) -> Mapping[str, Any]:
        graph: Any = backward.graph
        return {"x": graph.to_host(backward.gradient)}


class ToHost(HostOp):
    """paired_head: rows come half-split from the device and are put back into the stored order."""

    name = "to_host"
    args = (tensor("x"), parameter("paired_head", "int32", 0))

    @staticmethod
    def infer(x: TensorType, paired_head: int) -> TensorType:
        return TensorType("fp32", x.shape)

    @staticmethod
    def meaning(x: Array, paired_head: int) -> Array:
        if not paired_head:
            return x
        rows = x.reshape(-1, x.shape[-1])
        stored = np.empty_like(rows)
        stored[half_split_order(len(rows), paired_head)] = rows
        return stored.reshape(x.shape)

    @staticmethod
    def derivative(backward: Backward) -> Mapping[str, Any]:
        graph: Any = backward.graph
        if backward.parameter("paired_head"):
            backward.refuse("rows in stored order are gradients already")
        return {"x": graph.to_device(backward.gradient)}


# ---------------------------------------------------------------- the residual stream


class HostAdd(HostOp):
    name = "host_add"
    args = (tensor("x"), tensor("y"), parameter("alpha", "fp", 1.0))
    shape_rule = "x + alpha * y"

    @staticmethod
    def infer(x: TensorType, y: TensorType, alpha: float) -> TensorType:
        one_type(x, y=y)
        if x.shape != y.shape:
            hint = "; g.shift adds a vector" if y.rank == 1 else ""
            mismatch("y", f"has shape {list(y.shape)}, x has {list(x.shape)}; on the host both are alike{hint}")
        return x

    @staticmethod
    def meaning(x: Array, y: Array, alpha: float) -> Array:
        return x + alpha * y

    @staticmethod
    def derivative(backward: Backward) -> Mapping[str, Any]:
        graph: Any = backward.graph
        upstream = backward.gradient
        return {"x": upstream, "y": graph.host_scale(upstream, backward.parameter("alpha"))}


class HostScale(HostOp):
    name = "host_scale"
    args = (tensor("x"), parameter("alpha", "fp", required=True))

    @staticmethod
    def infer(x: TensorType, alpha: float) -> TensorType:
        return x

    @staticmethod
    def meaning(x: Array, alpha: float) -> Array:
        return x * alpha

    @staticmethod
    def derivative(backward: Backward) -> Mapping[str, Any]:
        graph: Any = backward.graph
        return {"x": graph.host_scale(backward.gradient, backward.parameter("alpha"))}


# ---------------------------------------------------------------- norms: over channels, for each token


def _channel_first(name: str, x: TensorType) -> None:
    if x.rank != 4 or x.shape[0] != 1 or x.shape[2] != 1:
        mismatch(name, f"has shape {list(x.shape)}, expected [1, C, 1, T]")


def _vector_fits(x: TensorType, **vectors: TensorType) -> None:
    _channel_first("x", x)
    for name, vector in vectors.items():
        if vector.shape != (x.shape[1],):
            mismatch(name, f"has shape {list(vector.shape)}, expected [{x.shape[1]}], the channels of x")


def _per_token(x: TensorType) -> TensorType:
    return TensorType("fp32", (1, 1, 1, x.shape[3]))


def _column(vector: Array) -> Array:
    """[C] -> [1, C, 1, 1]"""
    return vector.reshape(1, -1, 1, 1)


class HostRmsNorm(HostOp):
    """Results: y, and for each token 1 / rms."""

    name = "host_rms_norm"
    several_results = True
    args = (tensor("x"), tensor("gain"), parameter("eps", "fp", required=True))
    shape_rule = "x [1, C, 1, T], gain [C] -> [1, C, 1, T], [1, 1, 1, T]"

    @staticmethod
    def infer(x: TensorType, gain: TensorType, eps: float) -> tuple[TensorType, ...]:
        _vector_fits(x, gain=gain)
        return x, _per_token(x)

    @staticmethod
    def meaning(x: Array, gain: Array, eps: float) -> tuple[Array, Array]:
        rrms = 1.0 / np.sqrt(np.mean(x * x, axis=1, keepdims=True) + eps)
        return x * rrms * _column(gain), rrms

    @staticmethod
    def derivative(backward: Backward) -> Mapping[str, Any]:
        graph: Any = backward.graph
        x, gain = (backward.operand(name) for name in ("x", "gain"))
        dx, dgain = graph.apply(
            "host_rms_norm_backward", dy=backward.upstream[0], x=x, gain=gain, rrms=backward.node.outputs[1]
        )
        return {"x": dx, "gain": dgain}


class HostRmsNormBackward(HostOp):
    """Results: dx, and the gradient of the gain."""

    name = "host_rms_norm_backward"
    several_results = True
    args = (tensor("dy"), tensor("x"), tensor("gain"), tensor("rrms"))

    @staticmethod
    def infer(dy: TensorType, x: TensorType, gain: TensorType, rrms: TensorType) -> tuple[TensorType, ...]:
        return x, gain

    @staticmethod
    def meaning(dy: Array, x: Array, gain: Array, rrms: Array) -> tuple[Array, Array]:
        weighted = dy * _column(gain)
        dx = rrms * (weighted - x * rrms**2 * np.mean(weighted * x, axis=1, keepdims=True))
        return dx, np.sum(dy * x * rrms, axis=(0, 2, 3))


class HostLayerNorm(HostOp):
    """Results: y, and for each token the mean and 1 / deviation."""

    name = "host_layer_norm"
    several_results = True
    args = (tensor("x"), tensor("gain"), tensor("bias"), parameter("eps", "fp", required=True))
    shape_rule = "x [1, C, 1, T], gain [C], bias [C] -> [1, C, 1, T], [1, 1, 1, T], [1, 1, 1, T]"

    @staticmethod
    def infer(x: TensorType, gain: TensorType, bias: TensorType, eps: float) -> tuple[TensorType, ...]:
        _vector_fits(x, gain=gain, bias=bias)
        return x, _per_token(x), _per_token(x)

    @staticmethod
    def meaning(x: Array, gain: Array, bias: Array, eps: float) -> tuple[Array, ...]:
        mean = np.mean(x, axis=1, keepdims=True)
        rstd = 1.0 / np.sqrt(np.mean((x - mean) ** 2, axis=1, keepdims=True) + eps)
        return (x - mean) * rstd * _column(gain) + _column(bias), mean, rstd

    @staticmethod
    def derivative(backward: Backward) -> Mapping[str, Any]:
        graph: Any = backward.graph
        x, gain = (backward.operand(name) for name in ("x", "gain"))
        _, mean, rstd = backward.node.outputs
        dx, dgain, dbias = graph.apply(
            "host_layer_norm_backward", dy=backward.upstream[0], x=x, gain=gain, mean=mean, rstd=rstd
        )
        return {"x": dx, "gain": dgain, "bias": dbias}


class HostLayerNormBackward(HostOp):
    """Results: dx, and the gradients of gain and bias."""

    name = "host_layer_norm_backward"
    several_results = True
    args = (tensor("dy"), tensor("x"), tensor("gain"), tensor("mean"), tensor("rstd"))

    @staticmethod
    def infer(
        dy: TensorType, x: TensorType, gain: TensorType, mean: TensorType, rstd: TensorType
    ) -> tuple[TensorType, ...]:
        return x, gain, gain

    @staticmethod
    def meaning(dy: Array, x: Array, gain: Array, mean: Array, rstd: Array) -> tuple[Array, ...]:
        normal = (x - mean) * rstd
        weighted = dy * _column(gain)
        centred = weighted - np.mean(weighted, axis=1, keepdims=True)
        dx = rstd * (centred - normal * np.mean(weighted * normal, axis=1, keepdims=True))
        return dx, np.sum(dy * normal, axis=(0, 2, 3)), np.sum(dy, axis=(0, 2, 3))


# ---------------------------------------------------------------- both ends of a model


class Embedding(HostOp):
    name = "embedding"
    args = (tensor("table"), tensor("ids", "int tensor"))
    shape_rule = "table [V, C], ids [T] -> [1, C, 1, T]"

    @staticmethod
    def infer(table: TensorType, ids: TensorType) -> TensorType:
        if table.rank != 2:
            mismatch("table", f"has shape {list(table.shape)}, expected [V, C]")
        if ids.rank != 1:
            mismatch("ids", f"has shape {list(ids.shape)}, expected [T]")
        return TensorType("fp32", (1, table.shape[1], 1, ids.shape[0]))

    @staticmethod
    def meaning(table: Array, ids: Array) -> Array:
        return np.asarray(table[ids].T[None, :, None, :])

    @staticmethod
    def derivative(backward: Backward) -> Mapping[str, Any]:
        graph: Any = backward.graph
        table, ids = (backward.operand(name) for name in ("table", "ids"))
        graph.records.append(Record("scatter", table, backward.gradient, ids, end=table.shape[0], rows_axis=1))
        return {}


class HostDense(HostOp):
    """A linear layer in fp32, on rows begin:end of the parameter itself: the classifier."""

    name = "host_dense"
    args = (
        tensor("x"),
        tensor("weight"),
        parameter("transpose", "bool", False),
        parameter("begin", "int32", 0),
        parameter("end", "int32", required=True),
    )
    shape_rule = "x [1, K, 1, T], weight [N, K] -> [1, end - begin, 1, T]; transpose: the way back"

    @staticmethod
    def infer(x: TensorType, weight: TensorType, transpose: bool, begin: int, end: int) -> TensorType:
        _channel_first("x", x)
        rank_between("weight", weight, 2, 2)
        if not 0 <= begin < end <= weight.shape[0]:
            mismatch("begin", f"rows {begin} to {end} do not lie in {weight}")
        sides = (end - begin, weight.shape[1])
        out_channels, in_channels = sides[::-1] if transpose else sides
        if x.shape[1] != in_channels:
            mismatch("weight", f"takes {in_channels} channels, x has {x.shape[1]}")
        return TensorType("fp32", (1, out_channels, 1, x.shape[3]))

    @staticmethod
    def meaning(x: Array, weight: Array, transpose: bool, begin: int, end: int) -> Array:
        return Dense.meaning(x, weight[begin:end], transpose)

    @staticmethod
    def derivative(backward: Backward) -> Mapping[str, Any]:
        graph: Any = backward.graph
        x, weight = (backward.operand(name) for name in ("x", "weight"))
        transpose, begin, end = (backward.parameter(name) for name in ("transpose", "begin", "end"))
        upstream = backward.gradient
        if backward.wants("weight"):
            a, b = (x, upstream) if transpose else (upstream, x)
            graph.records.append(Record("gemm", weight, a, b, begin, end, rows_axis=1))
        if not backward.wants("x"):
            return {}
        rows = {"begin": begin, "end": end}
        return {"x": graph.apply("host_dense", x=upstream, weight=weight, transpose=not transpose, **rows)[0]}


class CrossEntropy(HostOp):
    """Mean of -log softmax(logits)[target] over the tokens whose target is not -1.

    Results: the loss, and already here the gradient of scale * loss, since both come from one pass over the logits.
    The logits may come in several row chunks; so do their gradients.
    """

    name = "cross_entropy"
    several_results = True
    args = (tensor("logits", "tensors"), tensor("targets", "int tensor"), tensor("scale"))
    shape_rule = "logits: several [1, Vi, 1, T]; targets [T]; scale [1] -> [1], and for each of the logits its type"

    @staticmethod
    def infer(logits: Sequence[TensorType], targets: TensorType, scale: TensorType) -> tuple[TensorType, ...]:
        if not logits:
            mismatch("logits", "has no chunk")
        for chunk in logits:
            _channel_first("logits", chunk)
            if targets.shape != (chunk.shape[3],):
                mismatch("targets", f"has shape {list(targets.shape)}, expected [{chunk.shape[3]}], one for each token")
        if scale.shape != (1,):
            mismatch("scale", f"has shape {list(scale.shape)}, expected [1]")
        return TensorType("fp32", (1,)), *logits

    @staticmethod
    def meaning(logits: Sequence[Array], targets: Array, scale: Array) -> tuple[Array, ...]:
        rows = np.concatenate([chunk[0, :, 0, :] for chunk in logits])  # [V, T]
        valid = targets >= 0
        count = max(int(valid.sum()), 1)
        shifted = rows - rows.max(axis=0)
        log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=0))
        tokens = np.nonzero(valid)[0]
        loss = -log_probabilities[targets[tokens], tokens].sum() / count
        gradient = np.exp(log_probabilities)
        gradient[targets[tokens], tokens] -= 1.0
        gradient *= np.where(valid, np.asarray(scale).item() / count, 0.0)
        ends = np.cumsum([chunk.shape[1] for chunk in logits])
        chunks = np.split(gradient, ends[:-1])
        return np.array([loss]), *(chunk[None, :, None, :] for chunk in chunks)

    @staticmethod
    def derivative(backward: Backward) -> Mapping[str, Any]:
        loss, *gradients = backward.node.outputs
        if backward.upstream[0] is not loss:  # autodiff's mark of a loss that is an output
            backward.refuse("its loss is for an output, not for other ops; `scale` weighs it")
        return {"logits": gradients}
