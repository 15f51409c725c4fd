"""Stacks of 1x1 convolutions, the engine's best work: the program, what it must compute, what it costs.

A 1x1 convolution keeps positions apart, so numpy computes a few of them and need not compute all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from anetrain.bench.base import Bound, Lab, compare
from anetrain.mil import Graph
from anetrain.results import Check, Scalar

HALF = np.dtype(np.float16).itemsize
ROUNDING = 2.0**-11  # of a result to fp16, as a share of it
CAUTION = 4.0
POSITIONS = 8  # that numpy computes

Matrix = npt.NDArray[np.float16]


@dataclass(frozen=True)
class Stack:
    """`layers` convolutions one after the other, each from `channels` to as many, on `spatial` positions."""

    channels: int
    layers: int
    spatial: int

    @classmethod
    def of(cls, parameters: Mapping[str, Scalar]) -> Stack:
        """Of a case, or of what was measured."""
        return cls(*(int(parameters[name] or 0) for name in ("channels", "layers", "spatial")))

    @property
    def parameters(self) -> dict[str, Scalar]:
        return {"channels": self.channels, "layers": self.layers, "spatial": self.spatial}

    @property
    def name(self) -> str:
        """As in the published tables: 32x512ch sp64."""
        layers = "" if self.layers == 1 else f"{self.layers}x"
        return f"{layers}{self.channels}ch sp{self.spatial}"

    @property
    def flops(self) -> int:
        return 2 * self.layers * self.channels**2 * self.spatial

    @property
    def weight_bytes(self) -> int:
        return HALF * self.layers * self.channels**2

    @property
    def activation_bytes(self) -> int:
        """Input and output; what is between the layers need not leave the engine."""
        return 2 * HALF * self.channels * self.spatial

    @property
    def counts(self) -> dict[str, Any]:
        """For a measurement."""
        return {
            "flops": self.flops,
            "bytes_moved": self.weight_bytes + self.activation_bytes,
            "weight_bytes": self.weight_bytes,
            "activation_bytes": self.activation_bytes,
        }

    @property
    def allowed(self) -> float:
        """As a share of the largest value. Each layer rounds products, sums and results to fp16, which gives its result
        an error of about one rounding. The layers after it are random matrices: they treat that error as they treat the
        values, and errors of different layers add up like the steps of a random walk. A wrong layer gives about 1."""
        return CAUTION * math.sqrt(self.layers) * ROUNDING

    def weights(self, random: np.random.Generator) -> list[Matrix]:
        """Of each layer, [out, in]. A variance of 1 / channels keeps values about as large as they come in."""
        scale = 1.0 / math.sqrt(self.channels)
        shape = (self.channels, self.channels)
        return [(random.standard_normal(shape, np.float32) * scale).astype(np.float16) for _ in range(self.layers)]

    def input(self, random: np.random.Generator) -> Matrix:
        return random.standard_normal((self.channels, self.spatial), np.float32).astype(np.float16)

    def graph(self, weights: Sequence[Matrix]) -> Graph:
        graph = Graph()
        value = graph.input("a_x", (1, self.channels, 1, self.spatial))
        for layer, matrix in enumerate(weights):
            value = graph.conv(x=value, weight=graph.constant(matrix[:, :, None, None], name=f"w{layer:03}"))
        graph.output("y", value)
        return graph

    def bound(self, lab: Lab, label: str) -> tuple[Bound, Check]:
        """The program, evaluated once, and whether it computed what it should."""
        random = lab.random()
        weights, x = self.weights(random), self.input(random)
        bound = Bound.of(lab.device, self.graph(weights), {"a_x": x}, label, single_blob=True)
        bound.request.run()
        places = np.linspace(0, self.spatial - 1, POSITIONS).astype(int)
        found = bound.read("y")[0, :, 0, places].T  # [C, places]
        return bound, compare(found, after(weights, x[:, places]), allowed=self.allowed, against="numpy in float64")


def after(weights: Sequence[Matrix], x: Matrix) -> npt.NDArray[np.float64]:
    """What the layers make of these columns, without a rounding. [C, places] -> [C, places]"""
    value = x.astype(np.float64)
    for matrix in weights:
        value = matrix.astype(np.float64) @ value
    return value
