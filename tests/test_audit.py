"""The audit executor against what was measured on engines (ANE_FACTS 6), profile by profile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from anetrain.mil import Graph, Value
from tests.support import emulator

Switches = Mapping[str, bool | int | float]
INFINITY = float("inf")


def run(
    graph: Graph, arrays: Mapping[str, Any], profile: str, rules: Switches | None = None, executor: str = "audit"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The outputs, and the counters of the run."""
    with (
        emulator(profile, executor=executor, rules=rules, allow_unproven=True) as engine,
        engine.compile(graph.program(engine.facts["dialect"])) as program,
    ):
        outputs = program.run(arrays)
        return outputs, program.report["counters"]


def column(values: Any, width: int = 32) -> np.ndarray[Any, Any]:
    """values [K] as the first column of [1, K, 1, width]; the others are 0."""
    flat = np.asarray(values, np.float16)
    array = np.zeros((1, flat.size, 1, width), np.float16)
    array[0, :, 0, 0] = flat
    return array


def dot(a: Any, b: Any, profile: str, rules: Switches | None = None, kind: str = "matmul") -> float:
    """sum a[i] b[i] by a matmul of run-time operands, or by a 1x1 conv with constant weights."""
    a = np.asarray(a, np.float16)
    b = np.broadcast_to(np.asarray(b, np.float16), a.shape)
    k = a.size
    g = Graph()
    x = g.input("x", (1, k, 1, 32))
    if kind == "conv":
        weight = np.zeros((32, k, 1, 1), np.float16)
        weight[0, :, 0, 0] = a
        y = g.conv(x, g.constant(weight))
        arrays = {"x": column(b)}
    else:
        w = g.input("w", (1, k, 1, 32))
        flat = (1, 1, k, 32)
        y = g.matmul(g.reshape(w, flat), g.reshape(x, flat), transpose_x=True)
        arrays = {"w": column(a), "x": column(b)}
    g.output("y", g.reshape(y, (1, 32, 1, 32)))
    return float(run(g, arrays, profile, rules)[0]["y"][0, 0, 0, 0])


def elementwise(build: Any, *arrays: Any, profile: str = "m4", rules: Switches | None = None) -> list[float]:
    """build(graph, inputs...) on rows of 32."""
    g = Graph()
    inputs: list[Value] = []
    fed = {}
    for i, array in enumerate(arrays):
        row = np.zeros((1, 1, 1, 32), np.float16)
        row[0, 0, 0, : len(array)] = array
        name = f"x{i}"
        inputs.append(g.input(name, row.shape))
        fed[name] = row
    g.output("y", build(g, *inputs))
    result: list[float] = run(g, fed, profile, rules)[0]["y"][0, 0, 0, : len(arrays[0])].tolist()
    return result


# ---------------------------------------------------------------- sums of products


@pytest.mark.parametrize("profile", ["m1", "m3ultra", "m4", "m5"])
@pytest.mark.parametrize("count", [4096, 16384])
def test_ones_sum_exactly(profile: str, count: int) -> None:
    assert dot(np.ones(count), 1, profile) == count


@pytest.mark.parametrize("kind", ["matmul", "conv"])
@pytest.mark.parametrize("profile", ["m1", "m2", "m4", "m5"])
def test_results_from_2_to_the_15_are_infinite(profile: str, kind: str) -> None:
    assert dot([16384, 16368], 1, profile, kind=kind) == 32752
    assert dot([16384, 16384], 1, profile, kind=kind) == INFINITY
    assert dot([-16384, -16384], 1, profile, kind=kind) == -INFINITY
    off = {"accumulator-overflow": False, "interior-partial-overflow": False}
    assert dot([16384, 16384], 1, profile, off, kind=kind) == 32768


def test_the_overflow_acts_on_the_rounded_result() -> None:
    """The measured threshold is about 32,759: 32,760 is halfway between 32,752 and 32,768, and the latter is even."""
    assert dot([16384, 16368, 7], 1, "m4") == 32752
    assert dot([16384, 16368, 8], 1, "m4") == INFINITY


def test_a_single_product_reaches_65504() -> None:
    """A convolution of one tap acts like an elementwise operation."""
    assert dot([256], 255, "m4", kind="conv") == 65280
    assert dot([256], 255, "m4") == INFINITY


def test_an_interior_partial_sum_past_2_to_the_15() -> None:
    """Zero on the M3 Ultra, unknown elsewhere; both ways can be switched."""
    a = [20000, 20000, -20000]
    off = {"interior-partial-overflow": False}
    assert dot(a, 1, "m3ultra") == 0
    assert dot(a, 1, "m3ultra", off) == 20000
    assert dot(a, 1, "m3ultra", {"interior-partial-overflow": 1}) == INFINITY
    assert dot([-v for v in a], 1, "m3ultra", {"interior-partial-overflow": 1}) == -INFINITY


def test_products_are_rounded_to_fp16() -> None:
    """(1 + 2^-10)^2 is 1 + 2^-9 + 2^-20, whose last bit fp16 has no room for."""
    a = np.r_[np.full(16, 1 + 2**-10), -16]
    b = np.r_[np.full(16, 1 + 2**-10), 1 + 2**-9]
    assert dot(a, b, "m4") == 0
    assert dot(a, b, "m4", {"product-rounding": False}) == 16 * 2**-20


@pytest.mark.parametrize(("profile", "kept"), [("m1", False), ("m3ultra", False), ("m5", True)])
def test_products_below_the_smallest_normal(profile: str, kept: bool) -> None:
    """They vanish on M1 and M3 Ultra (elementwise operations keep them) and survive on M5."""
    assert dot(np.full(64, 2.0**-8), 2**-7, profile) == (2**-9 if kept else 0)
    assert dot(np.full(64, 2.0**-7), 2**-7, profile) == 2**-8, "the smallest normal stays"
    assert elementwise(lambda g, x, y: g.mul(x, y), [2.0**-8], [2.0**-7], profile=profile) == [2**-15]


def test_tile_of_four() -> None:
    """4096 + 1024 ones: M1 adds four products in fp16 before it adds wide, and loses three ones beside the 4096."""
    a = np.r_[4096, np.ones(1024)]
    assert dot(a, 1, "m1") == 5116
    assert dot(a, 1, "m3ultra") == 5120
    assert dot(a, 1, "m1", {"tile-of-four": False}) == 5120


@pytest.mark.parametrize(("profile", "expected"), [("m1", 2048), ("m3ultra", 2050), ("m5", 2050)])
def test_ties_of_a_sum(profile: str, expected: float) -> None:
    assert dot([2048, 0, 0, 0, 1], 1, profile) == expected
    assert dot([-2048, 0, 0, 0, -1], 1, profile) == -expected


def test_ties_up_moves_nothing_but_ties() -> None:
    off = {"ties-up": False}
    for value in (1 + 2**-11 + 2**-12, 1 + 2**-12, 2**-15 + 2**-26, 3 * 2**-25, 1000.2):
        parts = [np.float16(value), np.float16(value - float(np.float16(value)))]
        exact = float(parts[0]) + float(parts[1])
        nearest = float(np.float16(exact))
        tie = abs(exact - nearest) == abs(exact - float(np.nextafter(np.float16(exact), np.float16(np.inf))))
        assert dot(parts, 1, "m5", off) == nearest
        if not tie:
            assert dot(parts, 1, "m5") == nearest


def int8_dot(value: int, count: int, rules: Switches | None = None) -> float:
    g = Graph()
    x = g.input("x", (1, count, 1, 32))
    data = np.full((32, count, 1, 1), value, np.int8)
    weight = g.apply(
        "constexpr_affine_dequantize",
        quantized_data=g.constant(data),
        zero_point=g.constant(np.int8(0)),
        scale=g.constant(np.float16(1)),
        axis=0,
    )[0]
    g.output("y", g.conv(x, weight))
    fed = np.ones((1, count, 1, 32), np.float16)
    return float(run(g, {"x": fed}, "m4", rules)[0]["y"][0, 0, 0, 0])


def test_int8_weights_overflow_near_30000() -> None:
    assert int8_dot(100, 298) == 29792  # 29,800 to the 16 between fp16 values there
    assert int8_dot(100, 301) == INFINITY
    assert int8_dot(100, 301, {"int8-weight-overflow": False}) == 30096


# ---------------------------------------------------------------- reductions


def reduced(op: str, count: int, profile: str = "m4", rules: Switches | None = None) -> float:
    g = Graph()
    x = g.input("x", (1, count, 1, 32))
    g.output("y", g.apply(op, x=x, axes=[1], keep_dims=True)[0])
    return float(run(g, {"x": np.ones((1, count, 1, 32), np.float16)}, profile, rules)[0]["y"][0, 0, 0, 0])


def test_reduce_sum_is_narrow() -> None:
    assert reduced("reduce_sum", 2048) == 2048
    assert reduced("reduce_sum", 2049) == 2050
    assert reduced("reduce_sum", 4098, rules={"narrow-reduce-sum": False}) == 4096, "rounded once, ties to even"
    assert reduced("reduce_sum", 3000) == 2048 + 2 * (3000 - 2048), "every step past 2048 is a tie that goes up"


def test_reduce_mean_inherits() -> None:
    assert reduced("reduce_mean", 2048) == 1
    assert reduced("reduce_mean", 8192) != 1
    assert reduced("reduce_mean", 8192, rules={"narrow-reduce-sum": False}) == 1


# ---------------------------------------------------------------- special values


def test_nan_is_read_as_infinity() -> None:
    assert elementwise(lambda g, x: g.mul(x, 1.0), [np.nan, 2]) == [INFINITY, 2]
    assert elementwise(lambda g, x: g.mul(x, 1.0), [np.nan], rules={"nan-reads-as-inf": False}) == [0]
    assert dot([np.nan, 1], 1, "m4") == INFINITY


def test_invalid_operations_give_zero() -> None:
    inf = np.inf
    off = {"invalid-gives-zero": False}
    assert elementwise(lambda g, x, y: g.sub(x, y), [inf, 3], [inf, 1]) == [0, 2]
    assert elementwise(lambda g, x, y: g.mul(x, y), [0, 2], [inf, inf]) == [0, INFINITY]
    assert elementwise(lambda g, x: g.sqrt(x), [-1, 4]) == [0, 2]
    assert dot([inf, 5], [0, 1], "m4") == 5, "only the product is 0"
    assert dot([inf, -inf], 1, "m4") == 0
    assert np.isnan(elementwise(lambda g, x, y: g.sub(x, y), [inf], [inf], rules=off)[0])
    assert np.isnan(elementwise(lambda g, x: g.sqrt(x), [-1], rules=off)[0])
    assert np.isnan(dot([inf, 5], [0, 1], "m4", off))


# ---------------------------------------------------------------- counters, and agreement with the reference


def test_counters() -> None:
    g = Graph()
    a, b = g.input("a", (1, 32, 1, 32)), g.input("b", (1, 32, 1, 32))
    flat = (1, 1, 32, 32)
    y = g.matmul(g.reshape(a, flat), g.reshape(b, flat))
    g.output("y", g.reshape(y, (1, 32, 1, 32)))
    left = np.zeros((32, 32), np.float16)
    right = np.zeros((32, 32), np.float16)
    left[0, :3] = [2**-8, 2**-8, 0]  # two products below 2^-14 in row 0, and one that is 0 exactly
    left[1, 3:5] = 200
    right[:3, 0] = 2**-8
    right[3:5, 1] = 200  # 40000 + 40000 in row 1
    shape = (1, 32, 1, 32)
    _, counters = run(g, {"a": left.reshape(shape), "b": right.reshape(shape)}, "m1")
    assert counters["products"] == 32**3
    assert counters["flushed_products"] == 2
    assert counters["overflowed_sums"] == 1
    assert counters["infinite_values"] >= 1
    assert [node["flushed_products"] for node in counters["nodes"]] == [2]


@pytest.mark.parametrize(("m", "k", "n"), [(32, 32, 32), (33, 70, 96), (5, 257, 160)])
def test_without_rules_it_is_the_reference(m: int, k: int, n: int) -> None:
    """In the exact profile only the width of the sum differs: within one unit of fp16."""
    generator = np.random.default_rng(m * k * n)
    a = generator.standard_normal((1, m, 1, k)).astype(np.float16)
    b = generator.standard_normal((1, k, 1, n)).astype(np.float16)
    g = Graph()
    y = g.matmul(g.reshape(g.input("a", a.shape), (1, 1, m, k)), g.reshape(g.input("b", b.shape), (1, 1, k, n)))
    g.output("y", g.reshape(y, (1, m, 1, n)))
    free = {"border-width": False}
    audit = run(g, {"a": a, "b": b}, "exact", free)[0]["y"].astype(np.float64)
    reference = run(g, {"a": a, "b": b}, "exact", free, executor="reference")[0]["y"].astype(np.float64)
    assert np.all(np.abs(audit - reference) <= np.spacing(np.abs(reference).astype(np.float16)).astype(np.float64))
