"""The derivative rules of the ops against float64 differences of their meanings, alone and in random programs; and
which ops and forms refuse."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import given as drawn
from hypothesis import strategies as st

from anetrain.mil import Graph, Value
from anetrain.mil.derivatives import Backward, NoDerivativeError
from anetrain.mil.meaning import evaluate
from anetrain.mil.ops import OPS
from tests import random_graphs
from tests.gradients import Differentiated, directions, slope, sweep, usable
from tests.op_cases import Case, cases

DIFFERENTIABLE = sorted(name for name, op in OPS.items() if op.has_derivative())
NOT_DIFFERENTIABLE = {
    "affine": "scattered", "ceil": "constant between", "const": "depends on nothing", "dequantize": "operand is an int",
    "equal": "bool", "floor": "constant between", "floor_div": "constant between", "greater": "bool",
    "greater_equal": "bool", "less": "bool", "less_equal": "bool", "logical_not": "bool", "max_pool": "scattered",
    "not_equal": "bool", "quantize": "result is an int", "reduce_argmax": "index", "round": "constant between",
    "sign": "constant between", "topk": "scattered", "constexpr_affine_dequantize": "folds",
    "constexpr_blockwise_shift_scale": "folds", "constexpr_cast": "folds", "constexpr_lut_to_dense": "folds",
    "constexpr_sparse_to_dense": "folds",
}  # fmt: skip
# Linear but for kinks: a short step has no error of its own and seldom meets a kink.
KINKED = {
    "abs", "clamped_relu", "clip", "leaky_relu", "maximum", "minimum", "prelu", "reduce_l1_norm", "reduce_max",
    "reduce_min", "relu", "relu6", "select", "sigmoid_hard", "threshold", "thresholded_relu",
}  # fmt: skip

few = settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)


# ---------------------------------------------------------------- one op


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


@pytest.mark.parametrize("name", DIFFERENTIABLE)
@few
@drawn(st.data())
def test_rule_is_the_derivative_of_the_meaning(name: str, data: st.DataObject) -> None:
    check_against_differences(Differentiated(data.draw(cases(name).filter(usable))))


EXPONENTS: list[Any] = [-1.0, -0.5, 0.0, 0.5, 1.0, 1.75, 2.0, 3.0, [-1.0, 0.5, 2.0]]


@pytest.mark.parametrize("exponent", EXPONENTS, ids=str)
def test_powers_with_a_constant_exponent(exponent: Any) -> None:
    x = np.random.default_rng(1).uniform(0.2, 3.0, (4, 3)).astype(np.float16)
    case = Case("pow", {"x": x, "y": np.array(exponent, np.float16)}, constants=frozenset({"y"}))
    if exponent == 0.0:
        assert not Differentiated(case, only=("x",)).gradients, "x^0 does not depend on x"
    else:
        check_against_differences(Differentiated(case))


def arrays(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    random = np.random.default_rng(2)
    return [random.normal(size=shape).astype(np.float16) for shape in shapes]


def convolution(constants: tuple[str, ...], **options: Any) -> Case:
    x, weight = arrays((1, 4, 5, 6), (6, 2, 3, 2))
    return Case("conv", {"x": x, "weight": weight, "groups": 2, **options}, constants=frozenset(constants))


FORMS = {
    "conv, const weight": convolution(("weight",), dilations=(1, 2), pad_type="custom", pad=(2, 0, 1, 2)),
    "conv, computed weight": convolution((), dilations=(1, 2), pad_type="custom", pad=(2, 0, 1, 2)),
    "conv, strides": convolution(("weight",), strides=(2, 3), pad_type="same"),
    "conv, strides, computed weight": convolution((), strides=(2, 3), pad_type="custom", pad=(0, 3, 3, 0)),
    "conv, one line": Case(
        "conv",
        dict(zip(("x", "weight"), arrays((1, 4, 2, 9), (4, 1, 1, 4)), strict=True))
        | {"groups": 4, "pad_type": "custom", "pad": (0, 0, 3, 0)},
    ),
    "conv, more padding than window": convolution(("weight",), pad_type="custom", pad=(3, 4, 0, 3)),
    "concat": Case("concat", {"values": arrays((2, 1, 3), (2, 3, 3), (2, 2, 3)), "axis": 1, "interleave": False}),
    "concat, interleaved": Case("concat", {"values": arrays((2, 4), (2, 4), (2, 4)), "axis": -1, "interleave": True}),
    "even window": Case("local_response_norm", {"x": arrays((1, 7, 3))[0], "size": 4, "alpha": 0.5, "beta": 0.75}),
    "no axes": Case("reduce_mean", {"x": arrays((3, 4))[0], "axes": None, "keep_dims": False}),
    "long rows": Case("layer_norm", {"x": arrays((3, 70))[0], "axes": (-1,), "epsilon": 0.125}),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_that_are_seldom_drawn(form: str) -> None:
    check_against_differences(Differentiated(FORMS[form]))


def test_an_operand_taken_twice_gets_both_contributions() -> None:
    g = Graph()
    x, u = g.input("x", (3, 4), "fp32"), g.input("u", (3, 4), "fp32")
    found = sweep(g, {g.concat([x * x, x / x], axis=0): g.concat([u, u], axis=0)}, [x])[x]
    g.output("dx", found)
    array = np.arange(1.0, 13.0).reshape(3, 4)
    gradient = evaluate(g, {"x": array, "u": np.full((3, 4), 3.0)}, rounded=False)["dx"]
    np.testing.assert_allclose(gradient, 6.0 * array, rtol=1e-12)


@pytest.mark.parametrize("name", ["reduce_max", "reduce_min"])
def test_equal_extremes_share_the_gradient(name: str) -> None:
    g = Graph()
    x, u = g.input("x", (1, 4, 1, 32)), g.input("u", (1, 1, 1, 32))
    sign = 1.0 if name == "reduce_max" else -1.0
    g.output("dx", sweep(g, {getattr(g, name)(x, axes=[1], keep_dims=True): u}, [x])[x])
    array = sign * np.array([3.0, 1.0, 3.0, -60000.0]).reshape(1, 4, 1, 1) * np.ones((1, 4, 1, 32))
    gradient = evaluate(g, {"x": array, "u": np.full((1, 1, 1, 32), 5.0)})["dx"]
    np.testing.assert_array_equal(gradient[0, :, 0, 0], [2.5, 0.0, 2.5, 0.0])


# ---------------------------------------------------------------- refusals


def test_every_op_has_a_derivative_or_a_reason() -> None:
    assert sorted(OPS) == sorted([*DIFFERENTIABLE, *NOT_DIFFERENTIABLE])
    for name, reason in NOT_DIFFERENTIABLE.items():
        assert reason in OPS[name].no_derivative
    assert not [name for name in DIFFERENTIABLE if OPS[name].no_derivative], "a reason although there is a rule"


@pytest.mark.parametrize("name", ["topk", "floor", "max_pool", "sign", "affine"])
@few
@drawn(st.data())
def test_ops_without_a_derivative_say_so_by_name(name: str, data: st.DataObject) -> None:
    with pytest.raises(NoDerivativeError, match=rf"\[{name}\] has no derivative: .*{NOT_DIFFERENTIABLE[name]}"):
        Differentiated(data.draw(cases(name)))


def refused(g: Graph, output: Value, wanted: Value) -> str:
    assert output.producer is not None
    with pytest.raises(NoDerivativeError) as caught:
        output.producer.op.derivative(Backward(g, output.producer, (output,), frozenset({wanted})))
    return str(caught.value)


def test_forms_without_a_derivative_are_refused_by_name() -> None:
    g = Graph()
    x = g.input("x", (1, 4, 8, 32))
    mean, ones = g.constant(np.zeros(4)), g.constant(np.ones(4))
    assert "[cast] has no derivative: from fp16 to int32" in refused(g, g.cast(x, "int32"), x)
    assert "[pad] has no derivative: mode reflect" in refused(g, g.pad(x, (1, 1), mode="reflect"), x)
    assert "[batch_norm] has no derivative: mean and variance" in refused(g, g.batch_norm(x, mean, ones), mean)


# ---------------------------------------------------------------- random programs


class WideGraph(Graph):
    """All of it in fp32, so that float64 differences see no rounded constants."""

    def input(self, name: str, shape: Any, dtype: str = "fp32") -> Value:
        return super().input(name, shape, dtype)

    def constant(self, array: Any, name: str | None = None, dtype: str | None = None, inline: Any = None) -> Value:
        if dtype is None and np.asarray(array).dtype.kind == "f":
            dtype = "fp32"
        return super().constant(array, name, dtype, inline)


class SmoothGraph(random_graphs.RandomGraph):
    """Without steps, and with inputs that are not whole numbers."""

    def add_input(self, name: str) -> None:
        shape = (1, self.between(1, 6), 1, self.between(1, 8))
        self.inputs[name] = self.random.normal(size=shape)
        self.keep(self.graph.input(name, shape))

    def whole_operand(self, x: random_graphs.Known) -> Value:
        return self.graph.tanh(x.value)

    def make_unary(self) -> bool:
        name = self.choose(["relu", "sigmoid", "tanh", "silu", "softplus", "erf", "atan", "sin", "softsign", "gelu"])
        return self.keep(getattr(self.graph, name)(self.pick().value))

    def make_rare(self) -> bool:
        x = self.pick()
        if self.chance(0.5):
            return self.keep(self.graph.tile(x.value, [1] * (len(x.shape) - 1) + [2]))
        return self.keep(self.graph.reverse(x.value, axes=[self.between(0, len(x.shape) - 1)]))


def slopes(program: SmoothGraph, seeds: dict[str, np.ndarray], step: float) -> dict[str, list[float]]:
    """Of the sum of the outputs times the seeds, in fixed directions of each input."""
    random = np.random.default_rng(5)

    def loss(name: str, array: np.ndarray) -> float:
        outputs = evaluate(program.graph, program.inputs | {name: array}, rounded=False)
        return sum(float(np.sum(outputs[output] * seed)) for output, seed in seeds.items())

    return {
        name: [
            slope(lambda moved, name=name: loss(name, moved), array, random.normal(size=array.shape), step)
            for _ in range(2)
        ]
        for name, array in program.inputs.items()
    }


def test_random_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random_graphs, "Graph", WideGraph)
    outcomes: Counter[str] = Counter()
    for seed in range(120):
        program = SmoothGraph(seed, operations=12)
        g = program.graph
        random = np.random.default_rng(seed)
        seeds = {output.name: random.normal(size=output.shape) for output in g.outputs}
        true, check = slopes(program, seeds, 1e-4), slopes(program, seeds, 0.5e-4)
        upstream = {output: g.input(f"u_{output.name}", output.shape) for output in g.outputs}
        found = sweep(g, upstream, [value for value in g.inputs if value.name in program.inputs])
        g.outputs.clear()
        for value in g.inputs:
            if value.name in program.inputs and value in found:
                g.output(f"d_{value.name}", found[value] * 1.0)
        feeds = program.inputs | {f"u_{name}": array for name, array in seeds.items()}
        gradients = evaluate(g, feeds, rounded=False)
        random = np.random.default_rng(5)
        for name, array in program.inputs.items():
            gradient = gradients.get(f"d_{name}", np.zeros(array.shape))
            for slope_, again in zip(true[name], check[name], strict=True):
                direction = random.normal(size=array.shape)
                size = np.linalg.norm(gradient * direction) + 1e-3
                if not np.isfinite(size) or abs(slope_ - again) > 1e-7 * size:
                    outcomes["kink"] += 1
                    continue
                assert abs(np.sum(gradient * direction) - slope_) <= 1e-6 * size, f"program {seed}, {name}"
                outcomes["compared"] += 1
    assert outcomes["compared"] > 3 * outcomes["kink"], outcomes
