"""Activations: element by element, most of them tables on a chip."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from anetrain.mil.derivatives import Backward, Gradient, spread_along, sum_over
from anetrain.mil.ops.base import Op, along_channels, direct, e5rt, mismatch, one_of, one_type, parameter, tensor
from anetrain.mil.ops.functions import Unary, erf
from anetrain.mil.types import Array, TensorType

if TYPE_CHECKING:
    from anetrain.mil.graph import Value


STEEP = 2.0**15


def _where_unchanged(backward: Backward) -> Value:
    """The gradient where the op let x through as it was."""
    g = backward.graph
    return g.select(g.equal(backward.output, backward.operand("x")), backward.gradient, 0.0)


def _leaky(backward: Backward) -> Value:
    g, u = backward.graph, backward.gradient
    return g.select(g.greater_equal(backward.operand("x"), 0.0), u, u * backward.parameter("alpha"))


class Relu(Unary):
    name = "relu"
    derivative_note = "At 0 it is 0; between 0 and 2^-15 it rises to 1."
    evidence = direct("relu of several sources")

    @staticmethod
    def meaning(x: Array) -> Array:
        return np.maximum(x, 0.0)

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        # 1 above 2^-15, 0 at and below 0, without a comparison: where 2^15 x overflows, relu(1 - inf) is 0
        g = backward.graph
        closed = g.relu(1.0 - backward.output * STEEP)
        return {"x": backward.gradient * (1.0 - closed)}


class Relu6(Unary):
    name = "relu6"
    derivative_note = "At 0 and 6 it is 1."

    @staticmethod
    def meaning(x: Array) -> Array:
        return np.clip(x, 0.0, 6.0)

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        return {"x": _where_unchanged(backward)}


def _sigmoid(x: Array) -> Array:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


class Sigmoid(Unary):
    name = "sigmoid"
    evidence = direct("sigmoid of several sources")
    limits = ("A table of 33 knots on chips: error up to 3.4e-3 (ANE_FACTS 6).",)

    @staticmethod
    def meaning(x: Array) -> Array:
        return _sigmoid(x)

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        u, y = backward.gradient, backward.output
        return {"x": u * y * (1.0 - y)}


class Tanh(Unary):
    name = "tanh"
    evidence = direct("tanh of several sources")
    limits = ("A table of 33 knots on chips: error up to 1.7e-3 (ANE_FACTS 6).",)

    @staticmethod
    def meaning(x: Array) -> Array:
        return np.tanh(x)

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        u, y = backward.gradient, backward.output
        return {"x": u * (1.0 - y * y)}


class Softplus(Unary):
    name = "softplus"

    @staticmethod
    def meaning(x: Array) -> Array:
        return np.logaddexp(x, 0.0)

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        return {"x": backward.gradient * backward.graph.sigmoid(backward.operand("x"))}


class Softsign(Unary):
    name = "softsign"

    @staticmethod
    def meaning(x: Array) -> Array:
        return np.asarray(x / (1.0 + np.abs(x)))

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        spread = backward.graph.abs(backward.operand("x")) + 1.0
        return {"x": backward.gradient / spread / spread}


class Silu(Unary):
    name = "silu"
    evidence = direct("OM, LM variants, FG")
    limits = ("silu(0) = -0.001259 on chips (ANE_FACTS 6).",)

    @staticmethod
    def meaning(x: Array) -> Array:
        return x * _sigmoid(x)

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        s = backward.graph.sigmoid(backward.operand("x"))
        return {"x": backward.gradient * (s + backward.output * (1.0 - s))}


_GELU_MODES = ("EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION")


class Gelu(Unary):
    name = "gelu"
    args = (tensor("x"), parameter("mode", "string", "EXACT", required=True))
    limits = (
        "Without mode the compiler refuses it (C7); composed of tanh it is safe.",
        "Error up to 5.9e-3 on chips, gelu(0) = -0.000543 (ANE_FACTS 6).",
    )

    @staticmethod
    def infer(x: TensorType, mode: str) -> TensorType:
        one_of("mode", mode, _GELU_MODES)
        return x

    @staticmethod
    def meaning(x: Array, mode: str) -> Array:
        if mode == "EXACT":
            return np.asarray(0.5 * x * (1.0 + erf(x / math.sqrt(2.0))))
        if mode == "TANH_APPROXIMATION":
            return np.asarray(0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3))))
        return x * _sigmoid(1.702 * x)

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        g, x, mode = backward.graph, backward.operand("x"), backward.parameter("mode")
        if mode == "EXACT":
            bell = g.exp(x * x * -0.5) * (1.0 / math.sqrt(2.0 * math.pi))
            slope = (g.erf(x * math.sqrt(0.5)) + 1.0) * 0.5 + x * bell
        elif mode == "TANH_APPROXIMATION":
            x = g.clip(x, alpha=-10.0, beta=10.0)  # beyond, the slope is 0 or 1 and the cubes overflow
            c, square = math.sqrt(2.0 / math.pi), x * x
            t = g.tanh(x * (square * (0.044715 * c) + c))
            slope = (t + 1.0) * 0.5 + x * (1.0 - t * t) * (square * (3 * 0.044715 * c) + c) * 0.5
        else:
            s = g.sigmoid(x * 1.702)
            slope = s + backward.output * (1.0 - s) * 1.702
        return {"x": backward.gradient * slope}


class WithAlpha(Unary):
    args = (tensor("x"), parameter("alpha", "fp", required=True))


class Elu(WithAlpha):
    name = "elu"
    derivative_note = "At 0 it is 1."

    @staticmethod
    def meaning(x: Array, alpha: float) -> Array:
        return np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0.0)))

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        g, x, u = backward.graph, backward.operand("x"), backward.gradient
        falling = g.exp(g.minimum(x, 0.0)) * backward.parameter("alpha")
        return {"x": g.select(g.greater_equal(x, 0.0), u, u * falling)}


class LeakyRelu(WithAlpha):
    name = "leaky_relu"
    derivative_note = "At 0 it is 1."

    @staticmethod
    def meaning(x: Array, alpha: float) -> Array:
        return np.where(x >= 0, x, alpha * x)

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        return {"x": _leaky(backward)}


class Threshold(WithAlpha):
    name = "threshold"
    derivative_note = "At alpha it is 1."

    @staticmethod
    def meaning(x: Array, alpha: float) -> Array:
        return np.maximum(x, alpha)

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        return {"x": _where_unchanged(backward)}


class ThresholdedRelu(WithAlpha):
    name = "thresholded_relu"
    derivative_note = "At alpha, where it jumps, it is 1."

    @staticmethod
    def meaning(x: Array, alpha: float) -> Array:
        return np.where(x >= alpha, x, 0.0)

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        g, x = backward.graph, backward.operand("x")
        return {"x": g.select(g.greater_equal(x, backward.parameter("alpha")), backward.gradient, 0.0)}


class WithAlphaBeta(Unary):
    args = (tensor("x"), parameter("alpha", "fp", required=True), parameter("beta", "fp", required=True))


class SigmoidHard(WithAlphaBeta):
    name = "sigmoid_hard"
    derivative_note = "At both bends it is 0."

    @staticmethod
    def meaning(x: Array, alpha: float, beta: float) -> Array:
        return np.clip(alpha * x + beta, 0.0, 1.0)

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        g, y = backward.graph, backward.output
        inside = g.select(g.less(y, 1.0), backward.gradient * backward.parameter("alpha"), 0.0)
        return {"x": g.select(g.greater(y, 0.0), inside, 0.0)}


class ScaledTanh(WithAlphaBeta):
    name = "scaled_tanh"

    @staticmethod
    def meaning(x: Array, alpha: float, beta: float) -> Array:
        return np.asarray(alpha * np.tanh(beta * x))

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        alpha, beta = backward.parameter("alpha"), backward.parameter("beta")
        t = backward.graph.tanh(backward.operand("x") * beta)
        return {"x": backward.gradient * (1.0 - t * t) * (alpha * beta)}


class ClampedRelu(WithAlphaBeta):
    name = "clamped_relu"
    derivative_note = "At 0 it is 1, at beta 0."

    @staticmethod
    def meaning(x: Array, alpha: float, beta: float) -> Array:
        return np.minimum(np.where(x >= 0, x, alpha * x), beta)

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        g, below = backward.graph, backward.graph.less(backward.output, backward.parameter("beta"))
        return {"x": g.select(below, _leaky(backward), 0.0)}


class LinearActivation(WithAlphaBeta):
    name = "linear_activation"

    @staticmethod
    def meaning(x: Array, alpha: float, beta: float) -> Array:
        return np.asarray(alpha * x + beta)

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        return {"x": backward.gradient * backward.parameter("alpha")}


class Clip(WithAlphaBeta):
    name = "clip"
    derivative_note = "At alpha and beta it is 1."

    @staticmethod
    def infer(x: TensorType, alpha: float, beta: float) -> TensorType:
        if alpha > beta:
            mismatch("alpha", f"is {alpha}, above beta = {beta}")
        return x

    @staticmethod
    def meaning(x: Array, alpha: float, beta: float) -> Array:
        return np.clip(x, alpha, beta)

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        return {"x": _where_unchanged(backward)}


class Prelu(Op):
    name = "prelu"
    derivative_note = "At 0 it is 1."
    args = (tensor("x"), tensor("alpha", "const tensor"))
    shape_rule = "The type of x [N, C, ...]; alpha is [C]."
    evidence = e5rt()

    @staticmethod
    def infer(x: TensorType, alpha: TensorType) -> TensorType:
        one_type(x, alpha=alpha)
        if x.rank < 3:
            mismatch("x", f"has rank {x.rank}, expected 3 or more: [N, C, ...]")
        if alpha.shape != (x.shape[1],):
            mismatch("alpha", f"has shape {list(alpha.shape)}, expected [{x.shape[1]}], the channels of x")
        return x

    @staticmethod
    def meaning(x: Array, alpha: Array) -> Array:
        return np.where(x >= 0, x, along_channels(alpha, x.ndim) * x)

    @staticmethod
    def derivative(backward: Backward) -> dict[str, Gradient]:
        g, x, u = backward.graph, backward.operand("x"), backward.gradient
        rising = g.greater_equal(x, 0.0)
        others = [axis for axis in range(len(x.shape)) if axis != 1]

        def of_x() -> Value:
            return g.select(rising, u, u * spread_along(g, backward.operand("alpha"), x.shape, (1,)))

        def of_alpha() -> Value:
            return sum_over(g, g.select(rising, 0.0, u * x), others, keep_dims=False)

        return backward.gradients(x=of_x, alpha=of_alpha)
