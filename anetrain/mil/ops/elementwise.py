"""Ops that work element by element: two operands, one operand, three. Activations have a file of their own."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from anetrain.mil.ops.base import (
    Arg,
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

erf = np.vectorize(math.erf, otypes=[np.float64])

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


class Sub(Binary):
    name = "sub"
    evidence = direct("MAD, ORI, ESP, LM")

    @staticmethod
    def meaning(x: Array, y: Array) -> Array:
        return x - y


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


class RealDiv(Binary):
    name = "real_div"
    evidence = direct("AT")

    @staticmethod
    def meaning(x: Array, y: Array) -> Array:
        return x / y


class FloorDiv(Binary):
    name = "floor_div"
    evidence = e5rt()

    @staticmethod
    def meaning(x: Array, y: Array) -> Array:
        return np.floor(x / y)


class Maximum(Binary):
    name = "maximum"
    evidence = e5rt()

    @staticmethod
    def meaning(x: Array, y: Array) -> Array:
        return np.maximum(x, y)


class Minimum(Binary):
    name = "minimum"
    evidence = e5rt()

    @staticmethod
    def meaning(x: Array, y: Array) -> Array:
        return np.minimum(x, y)


class Pow(Binary):
    name = "pow"
    evidence = direct("MAD, ORI, ESP, LM")
    limits = ("pow(x, -0.5) is the proven reciprocal square root.",)

    @staticmethod
    def meaning(x: Array, y: Array) -> Array:
        return np.asarray(np.power(x, y))


class Comparison(Op):
    args = (tensor("x"), tensor("y"))
    shape_rule = "x and y broadcast against each other; the result is bool, only usable inside the program."
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


# ---------------------------------------------------------------- one operand


class Unary(Op):
    args: ClassVar[tuple[Arg, ...]] = (tensor("x"),)
    shape_rule = "The shape and element type of x."
    evidence = e5rt()

    @staticmethod
    def infer(x: TensorType, *args: Any, **parameters: Any) -> TensorType:
        return x


class Square(Unary):
    name = "square"
    limits = ("Fused with a non-linearity it fails when (W mod 128) > 64 (C23): mul(x, x) is safe.",)

    @staticmethod
    def meaning(x: Array) -> Array:
        return x * x


class Sqrt(Unary):
    name = "sqrt"
    evidence = direct("ORI")

    @staticmethod
    def meaning(x: Array) -> Array:
        return np.asarray(np.sqrt(x))


class WithEpsilon(Unary):
    args = (tensor("x"), parameter("epsilon", "fp", required=True))


class Rsqrt(WithEpsilon):
    name = "rsqrt"
    limits = ("Without epsilon the compiler refuses it (C8); pow(x, -0.5) avoids the question.",)

    @staticmethod
    def meaning(x: Array, epsilon: float) -> Array:
        return np.asarray(1.0 / np.sqrt(x + epsilon))


class Inverse(WithEpsilon):
    name = "inverse"

    @staticmethod
    def meaning(x: Array, epsilon: float) -> Array:
        return np.asarray(1.0 / (x + epsilon))


class Log(WithEpsilon):
    name = "log"

    @staticmethod
    def meaning(x: Array, epsilon: float) -> Array:
        return np.asarray(np.log(x + epsilon))


class Abs(Unary):
    name = "abs"

    @staticmethod
    def meaning(x: Array) -> Array:
        return np.abs(x)


class Sign(Unary):
    name = "sign"

    @staticmethod
    def meaning(x: Array) -> Array:
        return np.sign(x)


class Exp(Unary):
    name = "exp"
    evidence = direct("ORI")
    limits = ("Overflows fp16 above 11.094 (C72).",)

    @staticmethod
    def meaning(x: Array) -> Array:
        return np.exp(x)


class Exp2(Unary):
    name = "exp2"

    @staticmethod
    def meaning(x: Array) -> Array:
        return np.exp2(x)


class Floor(Unary):
    name = "floor"

    @staticmethod
    def meaning(x: Array) -> Array:
        return np.floor(x)


class Ceil(Unary):
    name = "ceil"

    @staticmethod
    def meaning(x: Array) -> Array:
        return np.ceil(x)


class Round(Unary):
    name = "round"
    limits = ("Wrong for |x| >= 1024 on chips (C73).",)

    @staticmethod
    def meaning(x: Array) -> Array:
        return np.round(x)  # ties to even


class Sin(Unary):
    name = "sin"
    limits = ("Needs M3 or newer.",)

    @staticmethod
    def meaning(x: Array) -> Array:
        return np.sin(x)


class Cos(Unary):
    name = "cos"
    limits = ("Needs M3 or newer.",)

    @staticmethod
    def meaning(x: Array) -> Array:
        return np.cos(x)


class Atan(Unary):
    name = "atan"

    @staticmethod
    def meaning(x: Array) -> Array:
        return np.arctan(x)


class Erf(Unary):
    name = "erf"

    @staticmethod
    def meaning(x: Array) -> Array:
        return np.asarray(erf(x))


# ---------------------------------------------------------------- bool, types, choice


class LogicalNot(Op):
    name = "logical_not"
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
