"""Blocks and their derived backward, run in float64 by anetrain.reference: what tests of blocks share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from anetrain import reference
from anetrain.autodiff import Derived, differentiate
from anetrain.blocks import Block, ModelSpec, build
from anetrain.graph import BlockGraph, Parameter, Place
from anetrain.mil.meaning import compute

TOLERANCE = 1e-9  # relative, of float64 against float64


def spec(**changes: Any) -> ModelSpec:
    """Odd and small, so that no two sizes are confused."""
    sizes = {"dim": 60, "hidden": 171, "layers": 2, "heads": 6, "kv_heads": 3, "head_dim": 8, "vocab": 97, "seq": 32}
    return ModelSpec(**{**sizes, **changes})


def random_parameters(graph: BlockGraph, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {known.name: random_parameter(known, random) for known in graph.parameters.values()}


def random_parameter(known: Parameter, random: np.random.Generator) -> np.ndarray:
    """Gains from U(0.2, 3): with gains of 1 a wrong gradient of a norm looks right."""
    if known.init == "ones":
        return random.uniform(0.2, 3.0, known.shape)
    deviation = 0.5 if known.init == "zeros" else known.deviation
    return random.standard_normal(known.shape) * deviation


@dataclass
class Run:
    derived: Derived
    inputs: dict[str, np.ndarray]  # "x" and its seed "d_y"
    parameters: dict[str, np.ndarray]
    result: reference.Result
    forward: BlockGraph  # the same without its backward

    def output(self) -> np.ndarray:
        """What the inputs and parameters, as they are now, give: quicker than to run backward too."""
        graph = self.forward
        sources = {value: self.inputs[value.name] for value in graph.inputs}
        sources |= {value: self.parameters[known.name] for value, known in graph.parameters.items()}
        return np.asarray(compute(graph, sources, rounded=False, exact=True)[graph.outputs[0]])


def run_block(block: Block, s: ModelSpec, norms: Place = "host", seed: int = 0) -> Run:
    derived = differentiate(build(block, s, norms=norms, precision="fp32"))
    random = np.random.default_rng(seed + 1)
    inputs = {value.name: random.standard_normal(value.shape) for value in derived.graph.inputs}
    parameters = random_parameters(derived.graph, seed)
    forward = build(block, s, norms=norms, precision="fp32")
    return Run(derived, inputs, parameters, reference.run(derived, inputs, parameters), forward)


def assert_close(found: np.ndarray, expected: np.ndarray, what: str, tolerance: float = TOLERANCE) -> None:
    """The largest error, relative to the largest element."""
    assert found.shape == expected.shape, f"{what}: shape {found.shape}, expected {expected.shape}"
    scale = np.abs(expected).max()
    assert scale > 0, f"{what}: nothing to compare"
    error = np.abs(found - expected).max() / scale
    assert error <= tolerance, f"{what}: relative error {error:.2e}, at most {tolerance:.0e}"
