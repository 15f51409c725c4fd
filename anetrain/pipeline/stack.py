"""Layers one behind the other. Neighbours share arrays: what one puts out, the next takes in, and nothing is copied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from anetrain.mil.types import Array
from anetrain.pipeline.errors import PlanError
from anetrain.pipeline.lane import Lane
from anetrain.pipeline.layer import Layer, Traffic
from anetrain.pipeline.programs import CompiledPlan
from anetrain.pipeline.surfaces import SurfacePool

# Name, programs, parameters, their gradients.
Part: TypeAlias = tuple[str, CompiledPlan, Mapping[str, Array], Mapping[str, Array] | None]


class Stack:
    """`parts`: what each layer is made of. All but the last put out "y", which the next takes in as "x"; other inputs
    ("ids", "targets") are given to `forward`. `lane`: where weight gradients are computed.

    While the weight gradients of one layer are computed, the next layer may run, but not the one after it: so layers
    take turns with two sets of scratch, and with three arrays for the gradients between them.
    """

    def __init__(self, parts: Sequence[Part], lane: Lane | None = None) -> None:
        if not parts:
            raise PlanError("a stack of no layers")
        self.lane = lane or Lane(overlaps=False)
        pools = [SurfacePool() for _ in range(2 if self.lane.overlaps else 1)]
        turns = 3 if self.lane.overlaps else 2  # backward of a layer reads one of them and writes the next
        self.layers: list[Layer] = []
        between: dict[tuple[int, tuple[int, ...]], Array] = {}
        for name, compiled, parameters, gradients in parts:
            arrays, gradient_arrays = {}, {}
            if self.layers:
                arrays["x"] = self._output_of(self.layers[-1])
            if gradients is not None and len(self.layers) < len(parts) - 1:
                shape = next(value.shape for value in compiled.plan.derived.outputs if value.name == "y")
                turn = (len(self.layers) % turns, shape)
                arrays["d_y"] = between.setdefault(turn, np.zeros(shape, np.float32))
            if gradients is not None and self.layers:
                gradient_arrays["x"] = self.layers[-1].seeds["y"]
            pool = pools[len(self.layers) % len(pools)]
            self.layers.append(
                Layer(
                    *(compiled, parameters, gradients, pool),
                    name=name,
                    lane=self.lane,
                    arrays=arrays,
                    gradient_arrays=gradient_arrays,
                )
            )

    @property
    def outputs(self) -> dict[str, Array]:
        return self.layers[-1].outputs

    def stage(self, copied: bool = False) -> None:
        for layer in self.layers:
            layer.stage(copied)

    def forward(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Every input goes to the layers that have one of its name, "x" to the first alone."""
        for position, layer in enumerate(self.layers):
            own = {name: inputs[name] for name in layer.inputs if name in inputs and (name != "x" or position == 0)}
            layer.forward(own)
        return self.outputs

    def backward(self, seeds: Mapping[str, Array] | None = None, alpha: float = 1.0) -> dict[str, Array]:
        """Gradients of the first layer's inputs. After an error the layers behind the failed one have added to their
        gradients already: the whole accumulation group is to be dropped."""
        for layer in reversed(self.layers):
            self.lane.wait(unfinished=1)
            layer.backward(seeds if layer is self.layers[-1] else None, alpha)
        self.lane.wait()
        return self.layers[0].input_gradients

    @property
    def traffic(self) -> Traffic:
        """The sum over all layers."""
        total = Traffic()
        for layer in self.layers:
            total.add(layer.traffic)
        return total

    def _output_of(self, layer: Layer) -> Array:
        if "y" not in layer.outputs:
            raise PlanError(f"{layer.name} puts out {', '.join(layer.outputs)}; the next layer wants y")
        return layer.outputs["y"]
