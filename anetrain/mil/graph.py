"""The builder: a graph of typed values, checked as it grows.

    g = Graph()
    x = g.input("a_x", (1, 768, 1, 256))
    w = g.constant(weights, name="w1")              # [2048, 768]
    h = g.matmul(w, g.reshape(x, (1, 768, 256)))
    g.output("y", g.reshape(h * 0.5, (1, 2048, 1, 256)))
    program = g.program(dialect="B")                # text and blobs

Every op of the table is a method of Graph (methods.py, generated). A wrong shape is an error on the line that made it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np

from anetrain.mil.methods import OpMethods
from anetrain.mil.ops import Arg, MismatchError, Op, find_op
from anetrain.mil.types import Array, TensorType, dtype

if TYPE_CHECKING:
    from anetrain.mil.text import Program

INLINE_LIMIT = 32  # elements of a constant that are written into the text; larger ones go to a blob
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_RESERVED = frozenset({"program", "func", "dict", "tensor", "true", "false", "const", "BLOBFILE", "main"})
_NUMPY_DTYPES = {"float64": "fp16", "float32": "fp16", "float16": "fp16", "int64": "int32"}

Operand: TypeAlias = Union["Value", Array, float, int, bool, Sequence[Any]]


class BuildError(ValueError):
    """A program that cannot be: the text names the op, the argument and all shapes."""


@dataclass(eq=False)
class Value:
    """One tensor of the graph: an input, a constant, or a result of `producer`."""

    graph: Graph
    name: str
    type: TensorType
    producer: Node | None = None
    data: Array | None = None  # plain constants
    inline: bool = False  # plain constants: written into the text, not into a blob
    named: bool = True  # by the user: the name stays

    @property
    def shape(self) -> tuple[int, ...]:
        return self.type.shape

    @property
    def dtype(self) -> str:
        return self.type.dtype

    @property
    def is_constant(self) -> bool:
        """Known when the program is compiled."""
        return self.data is not None or (self.producer is not None and self.producer.op.folded)

    def __repr__(self) -> str:
        return f"Value({self.name}: {self.type})"

    def __add__(self, other: Operand) -> Value:
        return self.graph.add(self, other)

    def __radd__(self, other: Operand) -> Value:
        return self.graph.add(other, self)

    def __sub__(self, other: Operand) -> Value:
        return self.graph.sub(self, other)

    def __rsub__(self, other: Operand) -> Value:
        return self.graph.sub(other, self)

    def __mul__(self, other: Operand) -> Value:
        return self.graph.mul(self, other)

    def __rmul__(self, other: Operand) -> Value:
        return self.graph.mul(other, self)

    def __truediv__(self, other: Operand) -> Value:
        return self.graph.real_div(self, other)

    def __rtruediv__(self, other: Operand) -> Value:
        return self.graph.real_div(other, self)

    def __neg__(self) -> Value:
        return self.graph.mul(self, -1.0)

    __array_ufunc__ = None  # numpy arrays on the left leave the operator to us


@dataclass(eq=False)
class Node:
    """One op with its arguments by name: values (one, several, or none) and parameters as Python values."""

    op: type[Op]
    tensors: dict[str, Value | tuple[Value, ...] | None]
    parameters: dict[str, Any]
    outputs: tuple[Value, ...] = field(default=())

    @property
    def operands(self) -> list[Value]:
        flat: list[Value] = []
        for value in self.tensors.values():
            if isinstance(value, tuple):
                flat.extend(value)
            elif value is not None:
                flat.append(value)
        return flat


class Graph(OpMethods):
    def __init__(self) -> None:
        self.inputs: list[Value] = []
        self.outputs: list[Value] = []
        self.nodes: list[Node] = []  # in the order they were made, which is a topological order
        self._by_name: dict[str, Value] = {}
        self._counters: dict[str, int] = {}

    # ------------------------------------------------------------ values

    def input(self, name: str, shape: Sequence[int], dtype: str = "fp16") -> Value:
        value = Value(self, self._claim(name), TensorType(_dtype_name(dtype), _shape(name, shape)))
        self._by_name[name] = value
        self.inputs.append(value)
        return value

    def constant(
        self, array: Operand, name: str | None = None, dtype: str | None = None, inline: bool | None = None
    ) -> Value:
        """Floating point becomes fp16 unless `dtype` says else. Large arrays go to the blob weights/<name>.bin."""
        kind = _dtype_name(dtype or _natural_dtype(np.asarray(array)))
        data = _exact_array(np.asarray(array), kind, name or "constant")
        if inline is None:
            inline = data.size <= INLINE_LIMIT and kind in ("fp16", "fp32", "int32", "uint32", "int8", "uint8", "bool")
        if not inline and kind == "bool":
            raise BuildError(f"constant {name or ''}: bool has no blob form; write it inline")
        label = self._fresh("const") if name is None else self._claim(name)
        value = Value(self, label, TensorType(kind, data.shape), data=data, inline=inline, named=name is not None)
        self._by_name[label] = value
        return value

    def output(self, name: str, value: Value) -> Value:
        """Declares `value` an output under `name`."""
        self._own(value, "output")
        if value.name != name:
            if value in self.outputs or value in self.inputs or value.data is not None:
                what = "an output" if value in self.outputs else "a constant" if value.data is not None else "an input"
                raise BuildError(
                    f"output {name!r}: the value is already {what} named {value.name!r}, and one value has one name; "
                    f"make a second one, for example g.mul(value, 1.0)"
                )
            other = self._by_name.get(name)
            if other is not None and not other.named:
                self._rename(other, self._fresh(other.name.rstrip("0123456789_") or "value"))
            self._claim(name)
            self._rename(value, name)
        elif value in self.outputs:
            raise BuildError(f"output {name!r} is declared twice")
        value.named = True
        self.outputs.append(value)
        return value

    # ------------------------------------------------------------ ops

    def apply(self, op_name: str, **arguments: Any) -> tuple[Value, ...]:
        """Adds one op of the table; the methods call this."""
        op = self._find_op(op_name)
        unknown = set(arguments) - {arg.name for arg in op.args}
        if unknown:
            raise BuildError(f"[{op_name}] has no argument {', '.join(map(repr, sorted(unknown)))}")
        leader = self._leading_dtype(op, arguments)
        tensors: dict[str, Value | tuple[Value, ...] | None] = {}
        parameters: dict[str, Any] = {}
        for arg in op.args:
            given = arguments.get(arg.name)
            if given is None:
                given = arg.default
            if given is None and arg.required:
                raise BuildError(f"[{op_name}] the argument {arg.name!r} is missing")
            if arg.is_tensor:
                tensors[arg.name] = self._operand(op, arg, given, leader)
            else:
                parameters[arg.name] = _parameter(op_name, arg, given)
        node = Node(op, tensors, parameters)
        node.outputs = tuple(
            Value(self, self._fresh(op_name), type_, producer=node, named=False) for type_ in _infer(node)
        )
        for output in node.outputs:
            self._by_name[output.name] = output
        self.nodes.append(node)
        return node.outputs

    def _find_op(self, name: str) -> type[Op]:
        return find_op(name)

    def _leading_dtype(self, op: type[Op], arguments: dict[str, Any]) -> str:
        """The type that numbers and arrays among the operands take."""
        for given in arguments.values():
            for item in given if isinstance(given, tuple | list) else (given,):
                if isinstance(item, Value) and dtype(item.dtype).is_float:
                    return item.dtype
        return "fp16"

    def _operand(self, op: type[Op], arg: Arg, given: Any, leader: str) -> Value | tuple[Value, ...] | None:
        if given is None:
            return None
        if arg.kind == "tensors":
            if isinstance(given, Value) or not isinstance(given, Sequence):
                raise BuildError(f"[{op.name}] {arg.name} takes several values, found {given!r}")
            return tuple(self._tensor(op, arg, item, leader) for item in given)
        return self._tensor(op, arg, given, leader)

    def _tensor(self, op: type[Op], arg: Arg, given: Operand, leader: str) -> Value:
        where = f"[{op.name}] {arg.name}"
        if not isinstance(given, Value):
            array = np.asarray(given)
            if array.dtype.kind in "OSU":
                raise BuildError(f"{where} takes a tensor, found {given!r}")
            natural = _natural_dtype(array)
            given = self.constant(given, dtype=leader if arg.kind in ("tensor", "tensors", "const tensor") else natural)
        self._own(given, where)
        wanted = arg.kind.removeprefix("const ")
        kind = dtype(given.dtype)
        fits = {
            "tensor": kind.is_float,
            "tensors": kind.is_float,
            "bool tensor": kind.name == "bool",
            "int tensor": kind.is_integer,
            "any tensor": True,
        }
        if not fits[wanted]:
            raise BuildError(f"{where} is {given.type}, expected {'fp16 or fp32' if wanted == 'tensor' else wanted}")
        if arg.kind.startswith("const") and not given.is_constant:
            raise BuildError(f"{where} must be a constant, {given.name} is computed")
        return given

    # ------------------------------------------------------------ names

    def _own(self, value: Value, where: str) -> None:
        if not isinstance(value, Value):
            raise BuildError(f"{where}: expected a value of the graph, found {value!r}")
        if value.graph is not self:
            raise BuildError(f"{where}: {value.name} belongs to another graph")

    def _claim(self, name: str) -> str:
        if not _IDENTIFIER.match(name) or name in _RESERVED:
            raise BuildError(f"{name!r} is not a name: letters, digits and _, not a word of MIL")
        if name in self._by_name:
            raise BuildError(f"the name {name!r} is taken by {self._by_name[name].type}")
        return name

    def _fresh(self, stem: str) -> str:
        while True:
            count = self._counters.get(stem, 0)
            self._counters[stem] = count + 1
            name = f"{stem}_{count}"
            if name not in self._by_name:
                return name

    def _rename(self, value: Value, name: str) -> None:
        del self._by_name[value.name]
        value.name = name
        self._by_name[name] = value

    def name_taken(self, name: str) -> bool:
        return name in self._by_name

    # ------------------------------------------------------------ result

    def program(self, dialect: str = "B", *, single_blob: bool = False, spelling: str | None = None) -> Program:
        """The MIL text and its blobs; see text.write."""
        from anetrain.mil.text import write

        return write(self, dialect, single_blob=single_blob, spelling=spelling)


def _infer(node: Node) -> tuple[TensorType, ...]:
    def type_of(value: Value | tuple[Value, ...] | None) -> Any:
        if isinstance(value, tuple):
            return [item.type for item in value]
        return None if value is None else value.type

    types = {name: type_of(value) for name, value in node.tensors.items()}
    try:
        result = node.op.infer(**types, **node.parameters)
    except MismatchError as error:
        operands = ", ".join(
            f"{name} {'(' + ', '.join(map(str, type_)) + ')' if isinstance(type_, list) else type_}"
            for name, type_ in types.items()
            if type_ is not None
        )
        raise BuildError(f"[{node.op.name}] {error.argument} {error.what}; operands: {operands}") from None
    return result if isinstance(result, tuple) else (result,)


def _dtype_name(name: str) -> str:
    return dtype(name).name


def _shape(name: str, shape: Sequence[int]) -> tuple[int, ...]:
    if not 1 <= len(shape) <= 5 or any(int(n) != n or n < 1 for n in shape):
        raise BuildError(f"input {name!r}: shape {list(shape)} is not 1 to 5 positive sizes")
    return tuple(int(n) for n in shape)


def _natural_dtype(array: Array) -> str:
    name = str(array.dtype.name)
    return _NUMPY_DTYPES.get(name, name)


def _exact_array(array: Array, kind: str, name: str) -> Array:
    """The array in the numpy type of `kind`; an error where a value would be lost."""
    target = dtype(kind)
    if target.is_float:
        with np.errstate(over="ignore"):
            data = np.ascontiguousarray(array, dtype=target.numpy).reshape(array.shape)
        if not np.isfinite(data).all():
            raise BuildError(f"{name}: a value is not finite in {kind}; masks use -65504 or -1e4")
        return data
    if target.is_integer:
        low, high = target.integer_range
        if array.size and (array.min() < low or array.max() > high or np.any(array != np.trunc(array))):
            raise BuildError(f"{name}: a value is not an integer from {low} to {high} ({kind})")
    return np.ascontiguousarray(array, dtype=target.numpy).reshape(array.shape)


def _parameter(op_name: str, arg: Arg, given: Any) -> Any:
    """Plain Python values: bool, int, float, str, or a tuple of them."""
    if given is None:
        return None
    where = f"[{op_name}] {arg.name}"
    if arg.kind == "string":
        if not isinstance(given, str):
            raise BuildError(f"{where} is {given!r}, expected a string")
        return given
    array = np.asarray(given)
    if array.ndim != (1 if arg.kind.endswith("[]") else 0):
        raise BuildError(f"{where} is {given!r}, expected {'a list' if arg.kind.endswith('[]') else 'one number'}")
    element = arg.kind.removesuffix("[]")
    if element == "bool":
        if array.dtype != np.bool_:
            raise BuildError(f"{where} is {given!r}, expected bool")
    elif element in ("int32", "uint32"):
        if array.dtype.kind not in "iu":
            raise BuildError(f"{where} is {given!r}, expected {arg.kind}")
        array = _exact_array(array, element, where)
    elif array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        raise BuildError(f"{where} is {given!r}, expected a finite number")
    elif element != "scale":
        array = array.astype(np.float64)
    return tuple(array.tolist()) if array.ndim else array.item()
