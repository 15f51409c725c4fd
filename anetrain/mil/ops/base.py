"""What every op is: one class that holds all the project knows of it.

A family file (elementwise.py, linear.py ...) defines the classes; defining one registers it. The builder, the writer,
the checker, the numpy meaning, docs/ops.md and the tests all read the same class, so a new op is written once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeAlias, Union

from anetrain.mil.types import Array, Shape, TensorType

if TYPE_CHECKING:
    from anetrain.mil.derivatives import Backward
    from anetrain.mil.graph import Value

# Of one operand: a sequence for the kind "tensors", None where nothing flows.
Gradient: TypeAlias = Union["Value", Sequence["Value | None"], None]

# Kinds of arguments. Tensors are values of the graph; the others are parameters, known when the program is compiled.
TENSOR_KINDS = {
    "tensor": "fp16 or fp32, computed or constant",
    "bool tensor": "bool, computed or constant",
    "int tensor": "an integer type, computed or constant",
    "any tensor": "any element type, computed or constant",
    "tensors": "several of fp16 or fp32, written (a, b, ...)",
    "const tensor": "constant, fp16 or fp32",
    "const int tensor": "constant, an integer type",
}
PARAMETER_KINDS = {
    "bool": "bool",
    "int32": "int32",
    "uint32": "uint32",
    "int32[]": "1-D int32",
    "bool[]": "1-D bool",
    "string": "string",
    "fp": "a scalar of the type of the data",
    "fp32": "fp32 scalar",
    "scale": "an int32 or fp32 scalar",
}


@dataclass(frozen=True)
class Arg:
    """`required`: the MIL text must have it. `default`: what the builder writes when the caller says nothing; a default
    of None on an argument that is not required leaves it out of the text."""

    name: str
    kind: str
    required: bool = True
    default: Any = None

    @property
    def is_tensor(self) -> bool:
        return self.kind in TENSOR_KINDS

    @property
    def is_const(self) -> bool:
        return not self.is_tensor or self.kind.startswith("const")


def tensor(name: str, kind: str = "tensor", required: bool = True) -> Arg:
    return Arg(name, kind, required)


def parameter(name: str, kind: str, default: Any = None, required: bool = False) -> Arg:
    return Arg(name, kind, required, default)


@dataclass(frozen=True)
class Evidence:
    """Who ran it: `direct` through _ANEInMemoryModel, `e5rt` through the Espresso run time only, `disputed` when
    sources that ran it disagree."""

    level: str
    source: str


def direct(source: str) -> Evidence:
    return Evidence("direct", f"ANE_FACTS 3.3: direct {source}")


def e5rt(source: str = "AF") -> Evidence:
    return Evidence("e5rt", f"ANE_FACTS 3.3: e5rt {source}")


def disputed(source: str) -> Evidence:
    return Evidence("disputed", f"ANE_FACTS 3.3: {source}")


class MismatchError(ValueError):
    """Raised by `infer`: what is wrong with one argument. The builder adds the op and the types of all arguments."""

    def __init__(self, argument: str, what: str) -> None:
        super().__init__(what)
        self.argument = argument
        self.what = what


def mismatch(argument: str, what: str) -> NoReturn:
    raise MismatchError(argument, what)


class NoDerivativeError(ValueError):
    """A backward pass meets an op, or a form of one, that has no derivative."""

    def __init__(self, op_name: str, why: str) -> None:
        super().__init__(f"[{op_name}] has no derivative: {why}")
        self.op_name = op_name
        self.why = why


OPS: dict[str, type[Op]] = {}


class Op:
    """Base of all ops. `infer` and `meaning` take the arguments by the names in `args`: `infer` gets a TensorType for
    each tensor, `meaning` a float64 (or integer, bool) array; parameters come as Python values, absent ones as None.
    `meaning` is the true value: rounding is the caller's business. `derivative` adds the gradients of the operands to
    the graph (derivatives.py); an op without one says why in `no_derivative`."""

    name: ClassVar[str] = ""
    args: ClassVar[tuple[Arg, ...]] = ()
    evidence: ClassVar[Evidence]
    shape_rule: ClassVar[str]
    limits: ClassVar[tuple[str, ...]] = ()
    opset: ClassVar[str] = "ios16"  # the first opset that has this form
    several_results: ClassVar[bool] = False  # the method gives a tuple
    folded: ClassVar[bool] = False  # constexpr_*: the compiler turns it into a constant
    spelling: ClassVar[str] = "call"  # of a constexpr_*: "call" or "attributes"
    no_derivative: ClassVar[str] = ""  # why there is none
    table: ClassVar[dict[str, type[Op]]] = OPS  # where a class enters itself
    derivative_note: ClassVar[str] = ""  # choices at ties and kinks, forms that it does not cover

    @staticmethod
    def infer(*args: Any, **kwargs: Any) -> TensorType | tuple[TensorType, ...]:
        raise TypeError("an op defines its own infer")

    @staticmethod
    def meaning(*args: Any, **kwargs: Any) -> Any:
        raise TypeError("an op defines its own meaning")

    @staticmethod
    def derivative(backward: Backward) -> Mapping[str, Gradient]:
        """The gradients of the operands in `backward.wanted`, by the names of the arguments."""
        op = backward.node.op
        raise NoDerivativeError(op.name, op.no_derivative)

    @classmethod
    def has_derivative(cls) -> bool:
        return cls.derivative is not Op.derivative

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            return  # a family base
        if cls.name in cls.table:
            raise TypeError(f"two classes define the op {cls.name!r}")
        for arg in cls.args:
            if arg.kind not in TENSOR_KINDS and arg.kind not in PARAMETER_KINDS:
                raise TypeError(f"{cls.name}: argument {arg.name!r} has the unknown kind {arg.kind!r}")
        cls.table[cls.name] = cls

    @classmethod
    def arg(cls, name: str) -> Arg:
        return next(arg for arg in cls.args if arg.name == name)


def find_op(name: str) -> type[Op]:
    try:
        return OPS[name]
    except KeyError:
        raise ValueError(f"unknown op {name!r}; docs/ops.md lists the {len(OPS)} that are known") from None


# ---------------------------------------------------------------- helpers of shape rules


def one_type(first: TensorType, **others: TensorType | None) -> None:
    """All tensors of an op have the element type of the first."""
    for name, other in others.items():
        if other is not None and other.dtype != first.dtype:
            mismatch(name, f"is {other.dtype}, the first operand is {first.dtype}; cast one of them")


def axis_of(axis: int, rank: int, argument: str = "axis") -> int:
    if not -rank <= axis < rank:
        mismatch(argument, f"{axis} is outside [-{rank}, {rank - 1}] for rank {rank}")
    return axis % rank


def axes_of(axes: Sequence[int] | None, rank: int, argument: str = "axes") -> tuple[int, ...]:
    """Positive, in order; None means all."""
    if axes is None:
        return tuple(range(rank))
    positive = tuple(axis_of(axis, rank, argument) for axis in axes)
    if len(set(positive)) != len(positive):
        mismatch(argument, f"{list(axes)} names an axis twice")
    return positive


def length_is(argument: str, values: Sequence[Any], length: int) -> None:
    if len(values) != length:
        mismatch(argument, f"has {len(values)} elements, expected {length}")


def one_of(argument: str, value: str, allowed: Iterable[str]) -> None:
    if value not in tuple(allowed):
        mismatch(argument, f"is {value!r}, expected one of {', '.join(map(repr, allowed))}")


def rank_between(argument: str, value: TensorType, low: int, high: int) -> None:
    if not low <= value.rank <= high:
        mismatch(argument, f"has rank {value.rank}, expected {low if low == high else f'{low} to {high}'}")


def broadcast(argument: str, first: Shape, second: Shape) -> Shape:
    """numpy's rule: aligned at the last axis, 1 stretches."""
    rank = max(len(first), len(second))
    a = (1,) * (rank - len(first)) + first
    b = (1,) * (rank - len(second)) + second
    for m, n in zip(a, b, strict=True):
        if m != n and 1 not in (m, n):
            mismatch(argument, f"shapes {list(first)} and {list(second)} do not broadcast: {m} against {n}")
    return tuple(n if m == 1 else m for m, n in zip(a, b, strict=True))


def along_channels(vector: Array, rank: int) -> Array:
    """[C] -> [1, C, 1, ...]"""
    return vector.reshape((1, -1) + (1,) * (rank - 2))
