"""Functions of one operand, element by element. Activations have a file of their own."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from anetrain.mil.derivatives import Backward, Gradient
from anetrain.mil.ops.base import (
    Arg,
    Op,
    direct,
    e5rt,
    parameter,
    tensor,
)
from anetrain.mil.types import Array, TensorType

erf = np.vectorize(math.erf, otypes=[np.float64])


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

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        return {"x": backward.gradient * backward.operand("x") * 2.0}


class Sqrt(Unary):
    name = "sqrt"
    derivative_note = "x must be positive."
    evidence = direct("ORI")

    @staticmethod
    def meaning(x: Array) -> Array:
        return np.asarray(np.sqrt(x))

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        return {"x": backward.gradient / backward.output * 0.5}


class WithEpsilon(Unary):
    args = (tensor("x"), parameter("epsilon", "fp", required=True))


class Rsqrt(WithEpsilon):
    name = "rsqrt"
    limits = ("Without epsilon the compiler refuses it (C8); pow(x, -0.5) avoids the question.",)

    @staticmethod
    def meaning(x: Array, epsilon: float) -> Array:
        return np.asarray(1.0 / np.sqrt(x + epsilon))

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        u, y = backward.gradient, backward.output
        return {"x": u * y * y * y * -0.5}


class Inverse(WithEpsilon):
    name = "inverse"

    @staticmethod
    def meaning(x: Array, epsilon: float) -> Array:
        return np.asarray(1.0 / (x + epsilon))

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        u, y = backward.gradient, backward.output
        return {"x": u * y * y * -1.0}


class Log(WithEpsilon):
    name = "log"

    @staticmethod
    def meaning(x: Array, epsilon: float) -> Array:
        return np.asarray(np.log(x + epsilon))

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        return {"x": backward.gradient / (backward.operand("x") + backward.parameter("epsilon"))}


class Abs(Unary):
    name = "abs"
    derivative_note = "At 0 it is 0."

    @staticmethod
    def meaning(x: Array) -> Array:
        return np.abs(x)

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        return {"x": backward.gradient * backward.graph.sign(backward.operand("x"))}


class Sign(Unary):
    name = "sign"
    no_derivative = "it is constant between its steps"

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

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        return {"x": backward.gradient * backward.output}


class Exp2(Unary):
    name = "exp2"

    @staticmethod
    def meaning(x: Array) -> Array:
        return np.exp2(x)

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        return {"x": backward.gradient * math.log(2.0) * backward.output}


class Floor(Unary):
    name = "floor"
    no_derivative = "it is constant between its steps"

    @staticmethod
    def meaning(x: Array) -> Array:
        return np.floor(x)


class Ceil(Unary):
    name = "ceil"
    no_derivative = "it is constant between its steps"

    @staticmethod
    def meaning(x: Array) -> Array:
        return np.ceil(x)


class Round(Unary):
    name = "round"
    no_derivative = "it is constant between its steps"
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

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        return {"x": backward.gradient * backward.graph.cos(backward.operand("x"))}


class Cos(Unary):
    name = "cos"
    limits = ("Needs M3 or newer.",)

    @staticmethod
    def meaning(x: Array) -> Array:
        return np.cos(x)

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        return {"x": backward.gradient * backward.graph.sin(backward.operand("x")) * -1.0}


class Atan(Unary):
    name = "atan"

    @staticmethod
    def meaning(x: Array) -> Array:
        return np.arctan(x)

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        # u / (1 + x^2) over scale^2 = max(|x|, 1)^2, so that no square overflows
        u, x, g = backward.gradient, backward.operand("x"), backward.graph
        scale = g.maximum(g.abs(x), 1.0)
        sine, cosine = x / scale, 1.0 / scale
        return {"x": u * cosine * cosine / (sine * sine + cosine * cosine)}


class Erf(Unary):
    name = "erf"

    @staticmethod
    def meaning(x: Array) -> Array:
        return np.asarray(erf(x))

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        x = backward.operand("x")
        return {"x": backward.gradient * backward.graph.exp(-(x * x)) * (2.0 / math.sqrt(math.pi))}
