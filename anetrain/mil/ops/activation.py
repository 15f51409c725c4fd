"""Activations: element by element, most of them tables on a chip."""

from __future__ import annotations

import math

import numpy as np

from anetrain.mil.ops.base import Op, along_channels, direct, e5rt, mismatch, one_of, one_type, parameter, tensor
from anetrain.mil.ops.elementwise import Unary, erf
from anetrain.mil.types import Array, TensorType


class Relu(Unary):
    name = "relu"
    evidence = direct("relu of several sources")

    @staticmethod
    def meaning(x: Array) -> Array:
        return np.maximum(x, 0.0)


class Relu6(Unary):
    name = "relu6"

    @staticmethod
    def meaning(x: Array) -> Array:
        return np.clip(x, 0.0, 6.0)


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


class Tanh(Unary):
    name = "tanh"
    evidence = direct("tanh of several sources")
    limits = ("A table of 33 knots on chips: error up to 1.7e-3 (ANE_FACTS 6).",)

    @staticmethod
    def meaning(x: Array) -> Array:
        return np.tanh(x)


class Softplus(Unary):
    name = "softplus"

    @staticmethod
    def meaning(x: Array) -> Array:
        return np.logaddexp(x, 0.0)


class Softsign(Unary):
    name = "softsign"

    @staticmethod
    def meaning(x: Array) -> Array:
        return np.asarray(x / (1.0 + np.abs(x)))


class Silu(Unary):
    name = "silu"
    evidence = direct("OM, LM variants, FG")
    limits = ("silu(0) = -0.001259 on chips (ANE_FACTS 6).",)

    @staticmethod
    def meaning(x: Array) -> Array:
        return x * _sigmoid(x)


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


class WithAlpha(Unary):
    args = (tensor("x"), parameter("alpha", "fp", required=True))


class Elu(WithAlpha):
    name = "elu"

    @staticmethod
    def meaning(x: Array, alpha: float) -> Array:
        return np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


class LeakyRelu(WithAlpha):
    name = "leaky_relu"

    @staticmethod
    def meaning(x: Array, alpha: float) -> Array:
        return np.where(x >= 0, x, alpha * x)


class Threshold(WithAlpha):
    name = "threshold"

    @staticmethod
    def meaning(x: Array, alpha: float) -> Array:
        return np.maximum(x, alpha)


class ThresholdedRelu(WithAlpha):
    name = "thresholded_relu"

    @staticmethod
    def meaning(x: Array, alpha: float) -> Array:
        return np.where(x >= alpha, x, 0.0)


class WithAlphaBeta(Unary):
    args = (tensor("x"), parameter("alpha", "fp", required=True), parameter("beta", "fp", required=True))


class SigmoidHard(WithAlphaBeta):
    name = "sigmoid_hard"

    @staticmethod
    def meaning(x: Array, alpha: float, beta: float) -> Array:
        return np.clip(alpha * x + beta, 0.0, 1.0)


class ScaledTanh(WithAlphaBeta):
    name = "scaled_tanh"

    @staticmethod
    def meaning(x: Array, alpha: float, beta: float) -> Array:
        return np.asarray(alpha * np.tanh(beta * x))


class ClampedRelu(WithAlphaBeta):
    name = "clamped_relu"

    @staticmethod
    def meaning(x: Array, alpha: float, beta: float) -> Array:
        return np.minimum(np.where(x >= 0, x, alpha * x), beta)


class LinearActivation(WithAlphaBeta):
    name = "linear_activation"

    @staticmethod
    def meaning(x: Array, alpha: float, beta: float) -> Array:
        return np.asarray(alpha * x + beta)


class Clip(WithAlphaBeta):
    name = "clip"

    @staticmethod
    def infer(x: TensorType, alpha: float, beta: float) -> TensorType:
        if alpha > beta:
            mismatch("alpha", f"is {alpha}, above beta = {beta}")
        return x

    @staticmethod
    def meaning(x: Array, alpha: float, beta: float) -> Array:
        return np.clip(x, alpha, beta)


class Prelu(Op):
    name = "prelu"
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
