"""The derivative rule of every op against float64 differences of its meaning; what the rules emit; what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import given as drawn
from hypothesis import strategies as st

from anetrain.mil import Graph, Value
from anetrain.mil.meaning import evaluate, rounded_parameters, widened
from anetrain.mil.ops import OPS
from tests.gradients import directions, slope, sweep
from tests.op_cases import Case, cases

DIFFERENTIABLE = sorted(name for name, op in OPS.items() if op.has_derivative())
NOT_DIFFERENTIABLE = {
    "affine", "ceil", "const", "constexpr_affine_dequantize", "constexpr_blockwise_shift_scale", "constexpr_cast",
    "constexpr_lut_to_dense", "constexpr_sparse_to_dense", "dequantize", "equal", "floor", "floor_div", "greater",
    "greater_equal", "less", "less_equal", "logical_not", "max_pool", "not_equal", "quantize", "reduce_argmax", "round",
    "sign", "topk",
}  # fmt: skip
STATISTICS = {("batch_norm", "mean"), ("batch_norm", "variance")}
# Linear but for kinks: a short step has no error of its own and seldom meets a kink.
KINKED = {
    "abs", "clamped_relu", "clip", "leaky_relu", "maximum", "minimum", "prelu", "reduce_l1_norm", "reduce_max",
    "reduce_min", "relu", "relu6", "select", "sigmoid_hard", "threshold", "thresholded_relu",
}  # fmt: skip

few = settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)


# ---------------------------------------------------------------- one op


class Differentiated:
    """One op with the gradients of all its floating operands, constants included. Values lie off zero and off each
    other, where kinks are."""

    def __init__(self, case: Case, kind: str = "fp32") -> None:
        self.case, self.kind = case, kind
        self.random = np.random.default_rng(len(str(case.arguments)))
        self.graph = Graph()
        self.feeds: dict[str, np.ndarray] = {}
        self.arguments = {name: self.off_kinks(given) for name, given in case.arguments.items()}
        floats = {name: kind for name, given in self.arguments.items() if is_float(given)}
        outputs = Case(case.op, self.arguments, floats, case.constants).apply(self.graph, self.feed)
        self.node = self.graph.nodes[-1]
        self.sources = self.find_sources()
        self.forward_count = len(self.graph.nodes)
        self.seeds: dict[int, np.ndarray] = {}
        upstream = {}
        for i, output in enumerate(outputs):
            if i == 0 or self.random.random() < 0.7:
                self.seeds[i] = self.random.normal(size=output.shape).astype(np.float16)
                upstream[output] = self.seed(f"u{i}", self.seeds[i], output)
        self.before = len(self.graph.nodes)
        found = sweep(self.graph, upstream, list(self.sources.values()))
        self.derived = self.graph.nodes[self.before :]
        self.gradients = {name: found[value] for name, value in self.sources.items() if value in found}

    def off_kinks(self, given: Any) -> Any:
        if isinstance(given, list):
            return [self.off_kinks(item) for item in given]
        if not is_float(given):
            return given
        lattice = np.round(np.clip(given.astype(np.float64), -9, 9) * 8) / 8
        return (lattice + self.random.uniform(0.02, 0.1, given.shape)).astype(np.float16)

    def feed(self, name: str, array: np.ndarray, kind: str) -> Value:
        self.feeds[name] = array
        return self.graph.input(name, array.shape, self.kind if is_float(array) else kind)

    def seed(self, name: str, array: np.ndarray, output: Value) -> Value:
        self.feeds[name] = array.reshape(output.shape or (1,))
        value = self.graph.input(name, output.shape or (1,), output.dtype)
        return value if output.shape else self.graph.reduce_sum(value)

    def find_sources(self) -> dict[str, Value]:
        """The floating operands by name; of several, with their number."""
        named: dict[str, Value] = {}
        for name, given in self.node.tensors.items():
            if isinstance(given, tuple):
                named |= {f"{name}{i}": value for i, value in enumerate(given)}
            elif given is not None and (self.case.op, name) not in STATISTICS:
                named[name] = given
        return {name: value for name, value in named.items() if value.dtype in ("fp16", "fp32")}

    def loss(self, name: str, array: np.ndarray) -> float:
        """The meaning with one operand replaced, times the seeds."""
        operands: dict[str, Any] = {}
        for arg, given in self.node.tensors.items():
            value = self.arguments.get(arg)
            if isinstance(given, tuple):
                operands[arg] = [array if f"{arg}{i}" == name else widened(item) for i, item in enumerate(value)]
            else:
                operands[arg] = None if value is None else array if arg == name else widened(value)
        results = self.node.op.meaning(**operands, **rounded_parameters(self.node))
        results = results if isinstance(results, tuple) else (results,)
        return sum(float(np.sum(results[i] * seed)) for i, seed in self.seeds.items())

    def evaluated(self) -> dict[str, np.ndarray]:
        for name, value in self.gradients.items():
            self.graph.output(f"d_{name}", value * 1.0)  # an input may not be an output
        return evaluate(self.graph, self.feeds, rounded=False)

    def operand(self, name: str) -> np.ndarray:
        data = self.sources[name].data
        return widened(self.feeds[name] if data is None else data)


def is_float(given: Any) -> bool:
    return isinstance(given, np.ndarray) and given.dtype.kind == "f"


def usable(case: Case) -> bool:
    """Casts between floating types, constant padding: what else there is, is refused (tested below)."""
    if case.op == "cast":
        return str(case.arguments["dtype"]).startswith("fp")
    return case.op != "pad" or case.arguments["mode"] == "constant"


@pytest.mark.parametrize("name", DIFFERENTIABLE)
@few
@drawn(st.data())
def test_rule_is_the_derivative_of_the_meaning(name: str, data: st.DataObject) -> None:
    case = data.draw(cases(name).filter(usable))
    check_against_differences(Differentiated(case))


def check_against_differences(op: Differentiated) -> None:
    found = op.evaluated()
    step = 1e-6 if op.case.op in KINKED else 2e-4
    assert found, "no gradient at all"
    for name in op.sources:
        at = op.operand(name)
        gradient = found.get(f"d_{name}", np.zeros(at.shape))
        for direction in directions(at.shape, op.random):
            true = slope(lambda array, name=name: op.loss(name, array), at, direction, step)
            size = np.sqrt(np.sum((gradient * direction) ** 2) + np.mean(gradient**2) * np.sum(direction**2))
            rounding = 4e-16 * abs(op.loss(name, at)) / step
            assert abs(np.sum(gradient * direction) - true) <= 1e-6 * (size + abs(true)) + rounding + 1e-9, name
