"""What derivative rules put into a program: only ops with direct evidence for ops that have it, no long reduce_sum,
nothing that nobody wanted; numbers that hold in fp16; programs that an emulated ANE takes and computes."""

from __future__ import annotations

from functools import cache
from itertools import combinations

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import given as drawn
from hypothesis import strategies as st

from anetrain import device
from anetrain.mil import Graph, Value
from anetrain.mil.derivatives import sum_over
from anetrain.mil.graph import Node
from anetrain.mil.meaning import evaluate
from anetrain.mil.ops import OPS
from tests.gradients import Differentiated, sweep, usable
from tests.op_cases import UNARY_RANGES, cases
from tests.support import emulator

DIFFERENTIABLE = sorted(name for name, op in OPS.items() if op.has_derivative())
DIRECT = [name for name in DIFFERENTIABLE if OPS[name].evidence.level == "direct"]


def few(examples: int) -> settings:
    return settings(
        max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
    )


# ---------------------------------------------------------------- which ops


def has_no_direct_rule(op: Differentiated) -> bool:
    """The exception, documented in docs/ops.md: a computed exponent needs a logarithm."""
    return op.case.op == "pow" and not op.case.is_constant("y")


@pytest.mark.parametrize("name", DIRECT)
@few(25)
@drawn(st.data())
def test_direct_ops_have_direct_derivatives(name: str, data: st.DataObject) -> None:
    op = Differentiated(data.draw(cases(name).filter(usable)))
    unproven = {node.op.name for node in op.derived if node.op.evidence.level != "direct"}
    assert not unproven or has_no_direct_rule(op)


@pytest.mark.parametrize("computed", [False, True])
def test_one_by_one_convolutions_stay_direct(computed: bool) -> None:
    g = Graph()
    x, u = g.input("x", (1, 48, 1, 64)), g.input("u", (1, 96, 1, 64))
    weight = g.input("w", (96, 48, 1, 1)) if computed else g.constant(np.ones((96, 48, 1, 1)), name="w")
    before = len(g.nodes) + 1
    found = sweep(g, {g.conv(x, weight): u}, [x, weight])
    emitted = [node.op.name for node in g.nodes[before:]]
    assert found[x].shape == x.shape
    assert found[weight].shape == weight.shape
    assert set(emitted) <= {"conv", "matmul", "reshape"}


def ancestors(values: list[Value]) -> set[Node]:
    """All nodes that the values need."""
    found: set[Node] = set()
    while values:
        node = values.pop().producer
        if node is not None and node not in found:
            found.add(node)
            values.extend(node.operands)
    return found


@pytest.mark.parametrize("name", DIFFERENTIABLE)
@few(4)
@drawn(st.data())
def test_nothing_is_emitted_that_no_wanted_gradient_needs(name: str, data: st.DataObject) -> None:
    case = data.draw(cases(name).filter(usable))
    for source in Differentiated(case).sources:
        op = Differentiated(case, only=(source,))
        assert set(op.gradients) <= {source}
        assert set(op.derived) <= ancestors(list(op.gradients.values()))


# ---------------------------------------------------------------- sums

SHAPES = [(100,), (64,), (100, 3), (1, 100, 1, 32), (2, 70, 1, 32), (4, 20, 5, 3, 2), (3, 65, 30), (70, 1, 1, 1, 3)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sums_over_any_axes(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(-5, 6, shape).astype(np.float64)
    for count in range(1, len(shape) + 1):
        for axes in combinations(range(len(shape)), count):
            for keep_dims in (True, False):
                g = Graph()
                g.output("y", sum_over(g, g.input("x", shape), axes, keep_dims) * 1.0)
                found = evaluate(g, {"x": array}, rounded=False)["y"]
                np.testing.assert_array_equal(found, array.sum(axes, keepdims=keep_dims))
                assert longest_reduce_sum(g.nodes) <= 64
                assert max(len(value.shape) for node in g.nodes for value in node.outputs) <= 5


def longest_reduce_sum(nodes: list[Node]) -> int:
    sums = [node for node in nodes if node.op.name in ("reduce_sum", "reduce_mean")]
    return max((n.operands[0].type.element_count // n.outputs[0].type.element_count for n in sums), default=0)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_a_long_softmax_sums_by_matmul(axis: int) -> None:
    g = Graph()
    x = g.input("x", (65, 65, 65, 65)[: axis % 4 + 1] + (1, 1, 1)[axis % 4 :])
    found = sweep(g, {g.softmax(x, axis=axis): g.input("u", x.shape)}, [x])[x]
    assert found.type == x.type
    assert "matmul" in [node.op.name for node in g.nodes]
    assert longest_reduce_sum(g.nodes) == 0


def test_a_channel_sum_is_a_reshape_and_a_matmul() -> None:
    g = Graph()
    sum_over(g, g.input("x", (1, 768, 1, 256)), (1,))
    assert [node.op.name for node in g.nodes] == ["reshape", "matmul"]  # [1, 1, 1, 256] needs no reshape back
    assert g.nodes[1].operands[0].shape == (1, 1, 1, 768)


def test_a_sum_of_more_elements_than_an_axis_may_have_is_several() -> None:
    g = Graph()
    total = sum_over(g, g.input("x", (1, 96, 1, 256)), (0, 1, 2, 3), keep_dims=False)
    assert max(max(value.shape) for node in g.nodes for value in node.outputs if value is not total) <= 16_384


# ---------------------------------------------------------------- fp16

UNARY = {name: bounds for name, bounds in UNARY_RANGES.items() if OPS[name].has_derivative()} | {
    "gelu": (-8.0, 65000.0)
}
# 1 - y and the like are no better than y, and a product of two table values no better than its rounding.
ROUNDED_BEFORE = {"cos", "erf", "gelu", "sigmoid", "silu", "sin", "tanh"}


GELU = [("gelu", {"mode": mode}) for mode in ("EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION")]


@pytest.mark.parametrize(("name", "parameters"), [*((name, {}) for name in UNARY if name != "gelu"), *GELU])
def test_unary_rules_hold_over_the_whole_of_fp16(name: str, parameters: dict[str, str]) -> None:
    """Rounded to fp16 after each op, against the same rule without roundings: nothing overflows or vanishes on the way
    where the result would not."""
    low, high = UNARY[name]
    powers = np.concatenate([np.geomspace(2.0**-13, 65000.0, 300), [0.75, 1.5, 3.0]])
    array = np.concatenate([powers[powers < high], -powers[-powers > low]]).astype(np.float16)
    g = Graph()
    x, u = g.input("x", array.shape), g.input("u", array.shape)
    g.output("dx", sweep(g, {getattr(g, name)(x, **parameters): u}, [x])[x] * 1.0)
    scale = 64.0 if np.abs(UNARY[name]).max() < 65000 else 1.0
    feeds = {"x": array, "u": np.full(array.shape, scale)}
    true, found = (evaluate(g, feeds, rounded=rounded)["dx"] for rounded in (False, True))
    possible = np.abs(true) < 65504
    allowed = 5e-3 * np.abs(true) + (2e-3 if name in ROUNDED_BEFORE else 2.0**-18) * scale
    np.testing.assert_array_less(np.abs(found - true)[possible], allowed[possible])


def test_powers_of_small_and_large_numbers() -> None:
    array = np.geomspace(2e-5, 60000.0, 200).astype(np.float16)
    g = Graph()
    x = g.input("x", array.shape)
    u = g.input("u", array.shape)
    g.output("dx", sweep(g, {g.pow(x, -0.5): u}, [x])[x])
    feeds = {"x": array, "u": array.astype(np.float64)}  # the gradient shrinks with x, as in a norm
    true, found = (evaluate(g, feeds, rounded=rounded)["dx"] for rounded in (False, True))
    np.testing.assert_allclose(found, true, rtol=5e-3)


def test_the_mask_of_relu_is_exact() -> None:
    array = np.array([-65504, -1, -6e-8, -0.0, 0.0, 2.0**-15, 1e-3, 1.9, 2.0, 65504], np.float16)
    g = Graph()
    x, u = g.input("x", array.shape), g.input("u", array.shape)
    g.output("dx", sweep(g, {g.relu(x): u}, [x])[x])
    found = evaluate(g, {"x": array, "u": np.full(array.shape, 7.0)})["dx"]
    np.testing.assert_array_equal(found, [0, 0, 0, 0, 0, 7, 7, 7, 7, 7])


# ---------------------------------------------------------------- on an emulated ANE

WIDTH = 32  # of border tensors: a multiple of this


class Bordered(Differentiated):
    """Between borders that a device takes: rows [1, 1, 1, W], cut and reshaped."""

    def feed(self, name: str, array: np.ndarray, kind: str) -> Value:
        g = self.graph
        port = f"a{len(self.feeds):02}_{name}"
        self.feeds[port] = np.zeros((1, 1, 1, -(-array.size // WIDTH) * WIDTH), np.float16)
        self.feeds[port][0, 0, 0, : array.size] = array.reshape(-1)
        row = g.input(port, self.feeds[port].shape)
        value = g.reshape(g.slice_by_size(row, (0, 0, 0, 0), (1, 1, 1, array.size)), array.shape or (1,))
        return g.greater(value, 0.5) if kind == "bool" else value

    def seed(self, name: str, array: np.ndarray, output: Value) -> Value:
        value = self.feed(name, array, "fp16")
        value = value if output.shape else self.graph.reduce_sum(value)
        return value if output.dtype == "fp16" else self.graph.cast(value, output.dtype)

    def finish(self) -> None:
        g = self.graph
        for name, value in self.gradients.items():
            count = value.type.element_count
            row = g.reshape(value * 1.0, (1, 1, 1, count))
            if count % WIDTH:
                row = g.concat([row, g.constant(np.zeros((1, 1, 1, -count % WIDTH)))], axis=3)
            g.output(f"d_{name}", row)


@cache
def open_device(fp32: bool) -> device.Device:
    return emulator("exact", fp32=fp32, allow_unproven=True)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
@few(3)
@drawn(st.data())
def test_derived_programs_run_on_the_emulator(name: str, data: st.DataObject) -> None:
    op = Bordered(data.draw(cases(name).filter(usable)), kind="fp16")
    op.finish()
    if not op.graph.outputs:
        return  # a window that never leaves the padding
    for fp32 in (True, False):
        expected = evaluate(op.graph, op.feeds, rounded=not fp32)
        with open_device(fp32).compile(op.graph.program(), label=name) as program:
            found = program.run(op.feeds)
        for output, true in expected.items():
            largest = np.abs(true[np.isfinite(true)]).max(initial=1.0)
            tolerance = (1e-3 if fp32 else 1e-2) * largest
            np.testing.assert_allclose(np.asarray(found[output], np.float64), true, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", [name for name in DIRECT if name not in ("cast", "pow")])
@few(4)
@drawn(st.data())
def test_a_strict_chip_takes_the_derivatives_of_direct_ops(name: str, data: st.DataObject) -> None:
    op = Bordered(data.draw(cases(name).filter(usable)), kind="fp16")
    op.finish()
    if has_no_direct_rule(op):
        return
    with strict_chip().compile(op.graph.program(), label=name) as program:
        assert set(program.run(op.feeds)) == {f"d_{source}" for source in op.gradients}


@cache
def strict_chip() -> device.Device:
    return emulator("m4")


@pytest.mark.parametrize("executor", ["fast", "audit"])
def test_masks_meet_no_infinity_on_a_chip(executor: str) -> None:
    g = Graph()
    x, u, v = g.input("a_x", (1, 4, 1, WIDTH)), g.input("b_u", (1, 4, 1, WIDTH)), g.input("c_v", (1, 1, 1, WIDTH))
    g.output("of_relu", sweep(g, {g.relu(x): u}, [x])[x])
    g.output("of_max", sweep(g, {g.reduce_max(x, axes=[1], keep_dims=True): v}, [x])[x])
    columns = np.array([[60000, -60000, 3, -3], [65504, 65504, -65504, 0], [-1, 0, -65504, 2.0**-14]], np.float16)
    array = np.zeros((1, 4, 1, WIDTH), np.float16)
    array[0, :, 0, :3] = columns.T
    feeds = {"a_x": array, "b_u": np.full(array.shape, 7.0), "c_v": np.full((1, 1, 1, WIDTH), 6.0)}
    with emulator("m4", executor=executor) as chip, chip.compile(g.program(), label="masks") as program:
        found = program.run(feeds)
    np.testing.assert_array_equal(found["of_relu"][0, :, 0, :3].T, 7.0 * (columns > 0))
    np.testing.assert_array_equal(found["of_max"][0, :, 0, :3].T, [[6, 0, 0, 0], [3, 3, 0, 0], [0, 0, 0, 6]])
