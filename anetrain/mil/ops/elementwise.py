"""Ops that work element by element: two operands, comparisons, types, choice. Functions of one operand and
activations have files of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from anetrain.mil.derivatives import Backward, Gradient, unbroadcast
from anetrain.mil.ops.base import (
    Op,
    broadcast,
    direct,
    disputed,
    e5rt,
    one_of,
    one_type,
    parameter,
    tensor,
)
from anetrain.mil.types import Array, TensorType
from anetrain.mil.types import dtype as data_type

if TYPE_CHECKING:
    from anetrain.mil.graph import Value


# ---------------------------------------------------------------- two operands


class Binary(Op):
    args = (tensor("x"), tensor("y"))
    shape_rule = "x and y broadcast against each other; both have one element type, which the result has too."

    @staticmethod
    def infer(x: TensorType, y: TensorType) -> TensorType:
        one_type(x, y=y)
        return TensorType(x.dtype, broadcast("y", x.shape, y.shape))


class Add(Binary):
    name = "add"
    evidence = direct("MAD, ORI, ESP, LM")

    @staticmethod
    def meaning(x: Array, y: Array) -> Array:
        return x + y

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        return backward.gradients(x=lambda: backward.gradient, y=lambda: backward.gradient)


class Sub(Binary):
    name = "sub"
    evidence = direct("MAD, ORI, ESP, LM")

    @staticmethod
    def meaning(x: Array, y: Array) -> Array:
        return x - y

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        def of_y() -> Value:
            return -unbroadcast(backward.graph, backward.gradient, backward.operand("y").shape)

        return backward.gradients(x=lambda: backward.gradient, y=of_y)


class Mul(Binary):
    name = "mul"
    evidence = direct("MAD, ORI, ESP, LM")
    limits = (
        "mul(reduced value, 0.0) does not compile (C22): use a tensor.",
        "Broadcasting on the batch axis is unreliable in programs of many ops on M3 Max (C52).",
    )

    @staticmethod
    def meaning(x: Array, y: Array) -> Array:
        return x * y

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        u, x, y = backward.gradient, backward.operand("x"), backward.operand("y")
        return backward.gradients(x=lambda: u * y, y=lambda: u * x)


class RealDiv(Binary):
    name = "real_div"
    evidence = direct("AT")

    @staticmethod
    def meaning(x: Array, y: Array) -> Array:
        return x / y

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        u, y, quotient = backward.gradient, backward.operand("y"), backward.output
        share = u / y
        return backward.gradients(x=lambda: share, y=lambda: -(share * quotient))


class FloorDiv(Binary):
    name = "floor_div"
    no_derivative = "it is constant between its steps"
    evidence = e5rt()

    @staticmethod
    def meaning(x: Array, y: Array) -> Array:
        return np.floor(x / y)


class Maximum(Binary):
    name = "maximum"
    derivative_note = "Where x and y are equal the gradient goes to x."
    evidence = e5rt()

    @staticmethod
    def meaning(x: Array, y: Array) -> Array:
        return np.maximum(x, y)

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        u, g, x, y = backward.gradient, backward.graph, backward.operand("x"), backward.operand("y")
        first = g.greater_equal(x, y)
        return backward.gradients(x=lambda: g.select(first, u, 0.0), y=lambda: g.select(first, 0.0, u))


class Minimum(Binary):
    name = "minimum"
    derivative_note = "Where x and y are equal the gradient goes to x."
    evidence = e5rt()

    @staticmethod
    def meaning(x: Array, y: Array) -> Array:
        return np.minimum(x, y)

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        u, g, x, y = backward.gradient, backward.graph, backward.operand("x"), backward.operand("y")
        first = g.less_equal(x, y)
        return backward.gradients(x=lambda: g.select(first, u, 0.0), y=lambda: g.select(first, 0.0, u))


class Pow(Binary):
    name = "pow"
    derivative_note = "The gradient of y takes the logarithm of x, which must be positive, and has no direct evidence."
    evidence = direct("MAD, ORI, ESP, LM")
    limits = ("pow(x, -0.5) is the proven reciprocal square root.",)

    @staticmethod
    def meaning(x: Array, y: Array) -> Array:
        return np.asarray(np.power(x, y))

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        u, x, y = backward.gradient, backward.operand("x"), backward.operand("y")
        return backward.gradients(
            x=lambda: _slope_of_power(backward, u, x, y),
            y=lambda: u * backward.output * backward.graph.log(x, epsilon=0.0),
        )


def _slope_of_power(backward: Backward, u: Value, x: Value, y: Value) -> Value | None:
    """u * y * x^(y - 1). The usual exponents from the output, step by step: no power of x that the result has not."""
    g, output = backward.graph, backward.output
    if y.data is None:
        return u * y * g.pow(x, y - 1.0)
    exponents = np.unique(y.data)
    if exponents.size > 1:
        return u * g.pow(x, g.constant(y.data - 1.0, dtype=y.dtype)) * y
    exponent = float(exponents[0])
    special: dict[float, Callable[[], Value | None]] = {
        0.0: lambda: None,
        1.0: lambda: u,
        2.0: lambda: u * x * 2.0,
        3.0: lambda: u * x * x * 3.0,
        0.5: lambda: u / output * 0.5,
        -0.5: lambda: u * output * output * output * -0.5,
        -1.0: lambda: u * output * output * -1.0,
    }
    return special.get(exponent, lambda: u * g.pow(x, exponent - 1.0) * exponent)()


class Comparison(Op):
    args = (tensor("x"), tensor("y"))
    shape_rule = "x and y broadcast against each other; the result is bool, only usable inside the program."
    no_derivative = "its result is bool"
    evidence = e5rt()

    @staticmethod
    def infer(x: TensorType, y: TensorType) -> TensorType:
        one_type(x, y=y)
        return TensorType("bool", broadcast("y", x.shape, y.shape))


class Equal(Comparison):
    name = "equal"

    @staticmethod
    def meaning(x: Array, y: Array) -> Array:
        return np.asarray(x == y)


class NotEqual(Comparison):
    name = "not_equal"

    @staticmethod
    def meaning(x: Array, y: Array) -> Array:
        return np.asarray(x != y)


class Less(Comparison):
    name = "less"

    @staticmethod
    def meaning(x: Array, y: Array) -> Array:
        return x < y


class LessEqual(Comparison):
    name = "less_equal"

    @staticmethod
    def meaning(x: Array, y: Array) -> Array:
        return x <= y


class Greater(Comparison):
    name = "greater"

    @staticmethod
    def meaning(x: Array, y: Array) -> Array:
        return x > y


class GreaterEqual(Comparison):
    name = "greater_equal"

    @staticmethod
    def meaning(x: Array, y: Array) -> Array:
        return x >= y


# ---------------------------------------------------------------- bool, types, choice


class LogicalNot(Op):
    name = "logical_not"
    no_derivative = "its result is bool"
    args = (tensor("x", "bool tensor"),)
    shape_rule = "The shape of x, bool."
    evidence = e5rt()
    limits = ("and, or, xor do not exist on the engine: combine masks arithmetically.",)

    @staticmethod
    def infer(x: TensorType) -> TensorType:
        return x

    @staticmethod
    def meaning(x: Array) -> Array:
        return np.asarray(np.logical_not(x))


_CAST_TYPES = ("fp16", "fp32", "int8", "uint8", "int32", "bool")


class Cast(Op):
    name = "cast"
    derivative_note = "Only between floating-point types."
    args = (tensor("x", "any tensor"), parameter("dtype", "string", required=True))
    shape_rule = "The shape of x in the type `dtype` names."
    evidence = direct("M3 and newer; e5rt everywhere")
    limits = ("Not on M1 and M2 through the direct path (C17): keep I/O in fp16 there.",)

    @staticmethod
    def infer(x: TensorType, dtype: str) -> TensorType:
        one_of("dtype", dtype, _CAST_TYPES)
        return TensorType(dtype, x.shape)

    @staticmethod
    def meaning(x: Array, dtype: str) -> Array:
        if dtype == "bool":
            return np.asarray(x != 0)
        return np.asarray(x, dtype=np.float64) if dtype.startswith("fp") else np.trunc(x).astype(dtype)

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        x, kind = backward.operand("x"), backward.output.dtype
        if not (data_type(x.dtype).is_float and data_type(kind).is_float):
            backward.refuse(f"from {x.dtype} to {kind} it is not continuous")
        u = backward.gradient
        return {"x": u if x.dtype == kind else backward.graph.cast(u, x.dtype)}


class Identity(Op):
    name = "identity"
    args = (tensor("x"),)
    shape_rule = "The type of x."
    evidence = disputed("direct ORI emits it as an alias, AF lists it among the ops that do nothing")
    limits = ("Prefer no alias op.",)

    @staticmethod
    def infer(x: TensorType) -> TensorType:
        return x

    @staticmethod
    def meaning(x: Array) -> Array:
        return x

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        return {"x": backward.gradient}


class Select(Op):
    name = "select"
    args = (tensor("cond", "bool tensor"), tensor("a"), tensor("b"))
    shape_rule = "cond, a and b broadcast against each other; a and b have one element type, which the result has."
    evidence = e5rt()

    @staticmethod
    def infer(cond: TensorType, a: TensorType, b: TensorType) -> TensorType:
        one_type(a, b=b)
        return TensorType(a.dtype, broadcast("cond", cond.shape, broadcast("b", a.shape, b.shape)))

    @staticmethod
    def meaning(cond: Array, a: Array, b: Array) -> Array:
        return np.where(cond, a, b)

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        u, g, cond = backward.gradient, backward.graph, backward.operand("cond")
        return backward.gradients(a=lambda: g.select(cond, u, 0.0), b=lambda: g.select(cond, 0.0, u))
