"""The builder of blocks: MIL ops on the device, a few ops on the host, parameters, and where programs may be cut.

    g = BlockGraph(spec)
    x = g.activation("x", 768)                        # the residual stream: fp32 [1, 768, 1, tokens], on the host
    w = g.weights({"norm": gain(768), "w1": matrix(2048, 768), "w2": matrix(768, 2048)})
    h = g.rms_norm(x, w.norm)                         # on the host
    y = g.linear(g.silu(g.linear(h, w.w1)), w.w2)     # on the device; values move by themselves
    g.output("y", x + y)                              # the sum is on the host again

Where a value lives is its type: fp32 on the host, fp16 on the device. Sums, norms and scalings of host values stay on
the host; every other op takes its operands to the device. A parameter is used as it is: the device sees its fp16 copy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, Literal

import numpy as np

from anetrain.graph import composed_ops  # noqa: F401  its ops enter BLOCK_OPS
from anetrain.graph.device_ops import BLOCK_OPS
from anetrain.graph.host_ops import HostOp
from anetrain.graph.parameters import Parameter, Weights, WeightTree, named
from anetrain.graph.records import Record
from anetrain.mil.graph import BuildError, Graph, Node, Operand, Value
from anetrain.mil.ops import Arg, Op, find_op
from anetrain.mil.types import TensorType, dtype
from anetrain.spec import ModelSpec

Place = Literal["host", "device"]
Precision = Literal["fp16", "fp32"]


class BlockGraph(Graph):
    """`spec`: the sizes blocks may ask for. `norms`: where norms of host values are computed. `precision` "fp32" keeps
    constants in fp32 and lets the lowering write fp32 programs: for checks of the mathematics on an emulator that does
    not round."""

    def __init__(self, spec: ModelSpec, *, norms: Place = "host", precision: Precision = "fp16") -> None:
        super().__init__()
        self.spec = spec
        self.norms: Place = norms
        self.precision: Precision = precision
        self.parameters: dict[Value, Parameter] = {}
        self.records: list[Record] = []  # weight gradients, entered by derivatives
        self.stage_of: dict[Node, int] = {}
        self.current_stage = 0
        self._moved: dict[tuple[Value, str, tuple[int, ...]], Value] = {}

    # ------------------------------------------------------------ sources

    def activation(self, name: str, channels: int) -> Value:
        """An input on the host, fp32 [1, channels, 1, tokens]."""
        return self.input(name, (1, channels, 1, self.spec.tokens), "fp32")

    def weights(self, tree: WeightTree) -> Weights:
        """Enters all parameters of a block's tree and gives them by attribute."""
        return Weights({item.name: self.parameter(item) for item in named(tree)})

    def parameter(self, item: Parameter) -> Value:
        label = self._claim("p_" + item.name.replace(".", "_"))
        value = Value(self, label, TensorType("fp32", item.shape))
        self._by_name[label] = value
        self.parameters[value] = item
        return value

    def constant(
        self, array: Operand, name: str | None = None, dtype: str | None = None, inline: bool | None = None
    ) -> Value:
        value = super().constant(array, name, dtype, inline)
        if self.precision == "fp32" and value.dtype == "fp16":
            value.data = np.asarray(array, np.float64)  # as given: a lowering rounds it to fp32
        return value

    def stage(self) -> None:
        """Here a program may end, where a device does not take the whole as one."""
        self.current_stage += 1

    # ------------------------------------------------------------ places

    def to_device(self, value: Value) -> Value:
        if on_device(value) or value.data is not None:
            return value
        if value in self.parameters:
            return self.staged(value)
        if _is(value, "to_host") and not value.producer.parameters["paired_head"]:  # type: ignore[union-attr]
            return _operand(value)
        return self._once("to_device", value)

    def to_host(self, value: Value, paired_head: int = 0) -> Value:
        if not on_device(value):
            return value
        if _is(value, "to_device") and not paired_head:
            return _operand(value)  # what was sent there is still here, and more precise
        return self._once("to_host", value, paired_head=paired_head)

    def staged(self, parameter: Value, begin: int = 0, end: int | None = None) -> Value:
        """The fp16 copy of a parameter, or of some of its rows."""
        if parameter not in self.parameters:
            raise BuildError(f"[staged] {parameter.name} is not a parameter")
        known = self.parameters[parameter]
        end = known.shape[0] if end is None else end
        return self._once("staged", parameter, begin=begin, end=end, paired_head=known.paired_head)

    def _once(self, op_name: str, value: Value, **parameters: int) -> Value:
        """A value goes each way once, however often it is used, so that its gradients are added before they go back."""
        key = (value, op_name, tuple(parameters.values()))
        if key not in self._moved:
            operand = "master" if op_name == "staged" else "x"
            self._moved[key] = self.apply(op_name, **{operand: value}, **parameters)[0]
        return self._moved[key]

    # ------------------------------------------------------------ on the host, or where the operands are

    def add(self, x: Operand, y: Operand) -> Value:
        if self._any_host(x, y):
            return self.residual(x, y)
        if (pair := self._with_vector(x, y)) is not None:
            return self.apply("shift", x=pair[0], vector=pair[1], axis=1)[0]
        return super().add(x, y)

    def sub(self, x: Operand, y: Operand) -> Value:
        if self._any_host(x, y):
            return self.residual(x, y, -1.0)
        if (pair := self._with_vector(x, y)) is not None:
            less = self.shift(self.mul(pair[0], -1.0), pair[1])  # the vector minus x
            return less if pair[1] is x else self.mul(less, -1.0)
        return super().sub(x, y)

    def mul(self, x: Operand, y: Operand) -> Value:
        for value, factor in ((x, y), (y, x)):
            if isinstance(value, Value) and self._is_host(value) and isinstance(factor, Real):
                return self.host_scale(value, float(factor))
        if (pair := self._with_vector(x, y)) is not None:
            return self.apply("scale", x=pair[0], vector=pair[1], axis=1)[0]
        return super().mul(x, y)

    def real_div(self, x: Operand, y: Operand) -> Value:
        if isinstance(x, Value) and self._is_host(x) and isinstance(y, Real) and y != 0:
            return self.host_scale(x, 1.0 / float(y))
        return super().real_div(x, y)

    def residual(self, x: Operand, y: Operand, alpha: float = 1.0) -> Value:
        """x + alpha * y in fp32 on the host."""
        return self.apply("host_add", x=self._stretched(x, y), y=self._stretched(y, x), alpha=alpha)[0]

    def host_scale(self, x: Value, alpha: float) -> Value:
        return x if alpha == 1.0 else self.apply("host_scale", x=x, alpha=alpha)[0]

    def rms_norm(self, x: Value, gain: Value, eps: float = 1e-5, axis: int = 1) -> Value:
        """x / sqrt(mean of x^2 over the axis + eps) * gain. On the host for host values, unless norms="device"."""
        if self._is_host(x) and self.norms == "host" and axis == 1:
            return self.apply("host_rms_norm", x=x, gain=gain, eps=eps)[0]
        return self.scale(self.apply("normalise", x=x, eps=eps, axis=axis)[0], gain, axis)

    def layer_norm(self, x: Value, gain: Value, bias: Value, eps: float = 1e-5) -> Value:  # type: ignore[override]
        """(x - mean) / sqrt(variance + eps) * gain + bias over the channels, for each token."""
        if self._is_host(x) and self.norms == "host":
            return self.apply("host_layer_norm", x=x, gain=gain, bias=bias, eps=eps)[0]
        normal = self.apply("normalise", x=x, eps=eps, centred=True)[0]
        return self.shift(self.scale(normal, gain), bias)

    # ------------------------------------------------------------ on the device

    def linear(  # type: ignore[override]
        self, x: Operand, weight: Value, bias: Value | None = None, *, host_backward: bool = False
    ) -> Value:
        """weight [N, K] times x [1, K, 1, T], plus bias [N]. `host_backward`: backward is the host's, in fp32."""
        y = self.apply("dense", x=x, weight=weight, host_backward=host_backward)[0]
        return y if bias is None else self.shift(y, bias)

    def scale(self, x: Operand, vector: Value, axis: int = 1) -> Value:
        """Each index of an axis times its own factor."""
        return self.apply("scale", x=x, vector=vector, axis=axis)[0]

    def shift(self, x: Operand, vector: Value, axis: int = 1) -> Value:
        """Each index of an axis plus its own summand."""
        return self.apply("shift", x=x, vector=vector, axis=axis)[0]

    def detached(self, x: Value) -> Value:
        """The value, a constant to derivatives."""
        return self.apply("detached", x=x)[0]

    def gelu(self, x: Operand, mode: str = "TANH_APPROXIMATION") -> Value:
        """GELU of tanh, which is proven on the engine; mode "EXACT" is MIL's own op, which is not."""
        if mode != "TANH_APPROXIMATION":
            return super().gelu(x, mode)
        x = self.apply("mul", x=x, y=1.0)[0] if not isinstance(x, Value) else self.to_device(x)
        inner = self.mul(self.add(self.mul(self.mul(self.mul(x, x), 0.044715), x), x), math.sqrt(2.0 / math.pi))
        return self.mul(self.mul(self.add(self.tanh(inner), 1.0), x), 0.5)

    def swap_halves(self, x: Operand, axis: int) -> Value:
        """The two halves of an axis change places, as RoPE wants it."""
        return self.apply("swap_halves", x=x, axis=axis)[0]

    # ------------------------------------------------------------ both ends of a model

    def embedding(self, table: Value, ids: Value) -> Value:
        """table [V, C] at ids [T]: fp32 [1, C, 1, T] on the host."""
        return self.apply("embedding", table=self._stored("[embedding] table", table), ids=ids)[0]

    def host_linear(self, x: Value, weight: Value, *, transpose: bool = False) -> Value:
        """weight [N, K] times x [1, K, 1, T] in fp32 on the host; transposed, [N, K] times x [1, N, 1, T]. Of a staged
        weight it takes the rows that were staged, unrounded."""
        begin, end = 0, weight.shape[0]
        if _is(weight, "staged"):
            begin, end, paired_head = (weight.producer.parameters[key] for key in ("begin", "end", "paired_head"))  # type: ignore[union-attr]
            if paired_head:
                raise BuildError("[host_linear] weight has RoPE pairs, whose rows the host has in another order")
            weight = _operand(weight)
        stored = self._stored("[host_linear] weight", weight)
        return self.apply("host_dense", x=x, weight=stored, transpose=transpose, begin=begin, end=end)[0]

    def cross_entropy(self, logits: Value | Sequence[Value], targets: Value, scale: Value) -> Value:
        """The mean loss [1]; its gradient is that of scale * loss."""
        chunks = (logits,) if isinstance(logits, Value) else tuple(logits)
        return self.apply("cross_entropy", logits=chunks, targets=targets, scale=scale)[0]

    # ------------------------------------------------------------ how operands reach an op

    def apply(self, op_name: str, **arguments: Any) -> tuple[Value, ...]:
        outputs = super().apply(op_name, **arguments)
        assert outputs[0].producer is not None
        if place(outputs[0].producer) == "device" and outputs[0].dtype == "fp32":
            raise BuildError(f"[{op_name}] makes fp32 on the device, where blocks have fp16; g.to_host(x) makes fp32")
        self.stage_of[outputs[0].producer] = self.current_stage
        return outputs

    def _find_op(self, name: str) -> type[Op]:
        return BLOCK_OPS.get(name) or find_op(name)

    def _leading_dtype(self, op: type[Op], arguments: dict[str, Any]) -> str:
        return "fp32" if issubclass(op, HostOp) else "fp16"

    def _tensor(self, op: type[Op], arg: Arg, given: Operand, leader: str) -> Value:
        """Takes an operand to the place of the op."""
        if isinstance(given, Value) and given.graph is self and op.name not in ("to_device", "to_host", "staged"):
            if given.data is not None:
                given = self._constant_for(given, leader)
            elif issubclass(op, HostOp):
                given = self.to_host(given)
            elif self._is_host(given) or given in self.parameters:
                given = self.to_device(given)
        return super()._tensor(op, arg, given, leader)

    def _constant_for(self, value: Value, leader: str) -> Value:
        if value.data is None or value.dtype == leader or not dtype(value.dtype).is_float:
            return value
        return self.constant(value.data, dtype=leader)

    def _stored(self, where: str, value: Value) -> Value:
        self._own(value, where)
        if value not in self.parameters and value.data is None:
            raise BuildError(f"{where} is {value.name}, which is computed; expected a parameter or a constant")
        return value

    def _stretched(self, given: Operand, other: Operand) -> Operand:
        """Numbers, arrays and constants in the shape of the value beside them, where numpy would stretch them."""
        data = given.data if isinstance(given, Value) else np.asarray(given)
        if data is None or not isinstance(other, Value):
            return given
        try:
            return np.broadcast_to(data, other.shape)
        except ValueError:
            return given

    def _is_host(self, value: Value) -> bool:
        return value.data is None and value.dtype == "fp32" and value not in self.parameters

    def _any_host(self, *operands: Operand) -> bool:
        return any(isinstance(item, Value) and self._is_host(item) for item in operands)

    def _with_vector(self, x: Operand, y: Operand) -> tuple[Value, Value] | None:
        """(activation, vector) where one operand is a vector, stored or computed, with an element for each channel."""
        for value, vector in ((x, y), (y, x)):
            if not isinstance(value, Value) or not isinstance(vector, Value) or vector.data is not None:
                continue
            if len(value.shape) == 4 and vector.shape == (value.shape[1],):
                return value, vector
        return None


def on_device(value: Value) -> bool:
    """fp32 and whole numbers live on the host; so do constants, which go wherever they are needed."""
    return value.dtype == "fp16" and value.data is None


def place(node: Node) -> Place:
    return "host" if issubclass(node.op, HostOp) else "device"


def _is(value: Value, op_name: str) -> bool:
    return value.producer is not None and value.producer.op.name == op_name


def _operand(value: Value) -> Value:
    assert value.producer is not None
    return value.producer.operands[0]
