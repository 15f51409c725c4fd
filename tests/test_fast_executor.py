"""`fast` gives what `reference` gives: bit for bit on elementwise and layout operations, within one rounding after a
product; whatever is fused, whichever surfaces are shared, on any number of threads, however often it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anetrain import cpu
from anetrain.device import Device, Program, Surface
from anetrain.mil.graph import Graph, Value
from tests.random_graphs import RandomGraph
from tests.support import emulator

Arrays = dict[str, np.ndarray[Any, Any]]
CHIP_TABLES = {"sigmoid-table": True, "tanh-table": True, "silu-table": True, "gelu-table": True, "exp-overflow": True}
RULES: dict[str, dict[str, bool | int | float]] = {"exact": {}, "tables": dict(CHIP_TABLES)}

random_programs = settings(
    derandomize=True, deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module", params=list(RULES))
def pair(request: pytest.FixtureRequest) -> tuple[Device, Device]:
    """A fast and a reference device with the same rules."""
    rules = RULES[request.param]
    return tuple(emulator("exact", executor=name, allow_unproven=True, rules=rules) for name in ("fast", "reference"))  # type: ignore[return-value]


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    yield cpu.set_threads
    cpu.set_threads(None)


def halves(rng: np.random.Generator, *shape: int) -> np.ndarray[Any, Any]:
    return rng.standard_normal(shape).astype(np.float16)


def assert_equal(found: Arrays, expected: Arrays) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def built(build: Callable[[Graph], None]) -> Any:
    graph = Graph()
    build(graph)
    return graph.program()


# ---------------------------------------------------------------- random programs


@random_programs
@given(seed=st.integers(0, 2**32 - 1), operations=st.integers(5, 40))
def test_random_programs_give_equal_bits(pair: tuple[Device, Device], seed: int, operations: int) -> None:
    fast, reference = pair
    made = RandomGraph(seed, operations)
    text = made.graph.program()
    with fast.compile(text) as found, reference.compile(text) as expected:
        assert_equal(found.run(made.inputs), expected.run(made.inputs))


@settings(random_programs, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), operations=st.integers(5, 40))
def test_without_rounding(seed: int, operations: int) -> None:
    """fp32 mode: the same programs with nothing rounded."""
    made = RandomGraph(seed, operations)
    text = made.graph.program()
    outputs = []
    for executor in ("fast", "reference"):
        device = emulator("exact", executor=executor, allow_unproven=True, fp32=True)
        with device, device.compile(text) as program:
            outputs.append(program.run(made.inputs))
    assert_equal(*outputs)


@settings(random_programs, max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), operations=st.integers(10, 40))
def test_threads_and_repetition_change_nothing(
    pair: tuple[Device, Device], threads: Callable[[int], None], seed: int, operations: int
) -> None:
    made = RandomGraph(seed, operations)
    text = made.graph.program()
    threads(1)
    with pair[0].compile(text) as program:
        expected = program.run(made.inputs)
    for count in (2, 3):
        threads(count)
        with pair[0].compile(text) as program:
            for _ in range(2):
                assert_equal(program.run(made.inputs), expected)


def test_programs_of_thousands_of_operations(pair: tuple[Device, Device]) -> None:
    """All read the same input and every hundredth value is read again at the end: far more than fits into one unit."""

    def build(g: Graph) -> None:
        x = y = g.input("x", (1, 8, 1, 32))
        kept = []
        for i in range(4000):
            y = y - x if i % 3 == 0 else g.relu(y + x)
            if i % 100 == 0:
                kept.append(g.reshape(y, (8, 32)))
        for value in kept:
            y = y + g.reshape(value, (1, 8, 1, 32))
        g.output("y", y)

    inputs = {"x": halves(np.random.default_rng(4), 1, 8, 1, 32) / np.float16(64)}
    with pair[0].compile(built(build)) as found, pair[1].compile(built(build)) as expected:
        assert_equal(found.run(inputs), expected.run(inputs))


# ---------------------------------------------------------------- products of real numbers


def assert_close_product(found: Any, a: Any, b: Any) -> None:
    """|err| <= 2^-11 |y| + 1e-6 (|a| |b|) + half of the smallest fp16."""
    exact = a.astype(np.float64) @ b.astype(np.float64)
    bound = 2.0**-11 * np.abs(exact) + 1e-6 * (np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64)) + 2.0**-25
    assert (np.abs(found.astype(np.float64) - exact) <= bound).all()


@settings(random_programs, max_examples=40)
@given(
    sizes=st.tuples(*[st.integers(1, 70)] * 3),
    batch=st.integers(1, 5),
    flags=st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans()),
    seed=st.integers(0, 2**16),
)
def test_matmul_flags_and_explicit_transposes(
    pair: tuple[Device, Device], sizes: tuple[int, int, int], batch: int, flags: tuple[bool, ...], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    m, n, k = sizes
    transpose_x, transpose_y, shared, turned = flags
    a, b = halves(rng, 1 if shared else batch, m, k), halves(rng, batch, k, n)

    def build(g: Graph) -> None:
        x = g.constant(a.transpose(0, 2, 1) if transpose_x else a)
        flat = g.reshape(g.slice_by_size(g.input("b", padded.shape), (0, 0, 0, 0), (1, 1, 1, b.size)), b.shape)
        y = g.transpose(flat, (0, 2, 1)) if transpose_y else flat
        c = g.matmul(x, y, transpose_x=transpose_x, transpose_y=transpose_y)
        if turned:
            c = g.transpose(c, (0, 2, 1))
        filler = g.constant(np.zeros((1, 1, 1, -c.type.element_count % 32 or 32), np.float16))
        g.output("c", g.concat([g.reshape(c, (1, 1, 1, c.type.element_count)), filler], axis=3))

    padded = np.zeros((1, 1, 1, (b.size + 31) // 32 * 32), np.float16)
    padded[..., : b.size] = b.reshape(-1)
    with pair[0].compile(built(build)) as program:
        c = program.run({"b": padded})["c"].reshape(-1)[: batch * m * n]
    shape = (batch, n, m) if turned else (batch, m, n)
    c = c.reshape(shape)
    assert_close_product(c.transpose(0, 2, 1) if turned else c, np.broadcast_to(a, (batch, m, k)), b)


# ---------------------------------------------------------------- programs of a transformer

HEADS, HEAD_DIM, SEQUENCE = 4, 16, 64


def rotary(g: Graph, x: Value, cos: Value, sin: Value) -> Value:
    first, second = g.split(x, num_splits=2, axis=2)
    return g.concat([first * cos - second * sin, second * cos + first * sin], axis=2)


def attention(g: Graph, ratio: int = 1) -> None:
    """Causal attention with rotary positions and `ratio` query heads per key head, saved taps among its outputs."""
    rng = np.random.default_rng(1)
    kv_heads = HEADS // ratio
    x = g.input("a_qkv", (1, (HEADS + 2 * kv_heads) * HEAD_DIM, 1, SEQUENCE))
    wide = g.reshape(x, (1, HEADS + 2 * kv_heads, HEAD_DIM, SEQUENCE))
    q, k, v = g.split(wide, split_sizes=[HEADS, kv_heads, kv_heads], axis=1)
    angle = rng.uniform(0, 6, (1, 1, HEAD_DIM // 2, SEQUENCE))
    cos, sin = g.constant(np.cos(angle).astype(np.float16)), g.constant(np.sin(angle).astype(np.float16))
    q, k = rotary(g, q, cos, sin) * 0.25, rotary(g, k, cos, sin)
    q = g.reshape(g.transpose(q, (0, 1, 3, 2)), (1, kv_heads, ratio * SEQUENCE, HEAD_DIM))
    mask = np.triu(np.full((SEQUENCE, SEQUENCE), -1e4, np.float16), 1)
    scores = g.matmul(q, k) + g.constant(np.tile(mask, (ratio, 1)))
    p = g.softmax(scores, axis=-1)
    o = g.matmul(p, v, transpose_y=True)
    o = g.transpose(g.reshape(o, (1, HEADS, SEQUENCE, HEAD_DIM)), (0, 1, 3, 2))
    g.output("p", g.reshape(p, (1, HEADS * SEQUENCE, 1, SEQUENCE)))
    g.output("y", g.reshape(o, (1, HEADS * HEAD_DIM, 1, SEQUENCE)))
    g.output("z_taps", g.reshape(g.concat([k, v], axis=1), (1, 2 * kv_heads * HEAD_DIM, 1, SEQUENCE)))


def attention_backward(g: Graph) -> None:
    heads = (1, HEADS, HEAD_DIM, SEQUENCE)
    q, k, v, do = (g.reshape(g.input(n, (1, HEADS * HEAD_DIM, 1, SEQUENCE)), heads) for n in ("q", "k", "v", "t_do"))
    p = g.reshape(g.input("p", (1, HEADS * SEQUENCE, 1, SEQUENCE)), (1, HEADS, SEQUENCE, SEQUENCE))
    dv = g.matmul(do, p)
    dp = g.matmul(do, v, transpose_x=True)
    total = g.matmul(p * dp, g.constant(np.ones((SEQUENCE, 1), np.float16)))
    ds = p * (dp - total)
    dq = g.matmul(k, ds, transpose_y=True)
    dk = g.matmul(q, ds)
    out = g.concat([dq, dk, dv], axis=1)
    g.output("dx", g.reshape(out, (1, 3 * HEADS * HEAD_DIM, 1, SEQUENCE)))


def feed_forward_backward(g: Graph) -> None:
    """Stacked weights, SiLU backward, transposed products of the same weight."""
    dim, hidden, width = 64, 96, 32
    a = g.input("a_stacked", (1, dim + 2 * hidden, 1, width))
    w = g.reshape(g.input("b_weights", (1, 3 * hidden, 1, dim)), (3 * hidden, dim))
    dy, h1, h3 = g.split(g.reshape(a, (dim + 2 * hidden, width)), split_sizes=[dim, hidden, hidden], axis=0)
    w1, w2t, w3 = g.split(w, split_sizes=[hidden, hidden, hidden], axis=0)
    dh = g.matmul(w2t, dy)
    sig = g.sigmoid(h1)
    dh1 = dh * h3 * (sig * (h1 * (1.0 - sig) + 1.0))
    dh3 = dh * (h1 * sig)
    dx = g.matmul(w1, dh1, transpose_x=True) + g.matmul(w3, dh3, transpose_x=True)
    g.output("y", g.reshape(g.concat([dx, dh1, dh3], axis=0), (1, dim + 2 * hidden, 1, width)))


@pytest.mark.parametrize(
    "build",
    [attention, lambda g: attention(g, ratio=2), attention_backward, feed_forward_backward],
    ids=["attention", "grouped-query", "attention-backward", "feed-forward-backward"],
)
def test_transformer_programs(pair: tuple[Device, Device], build: Callable[[Graph], None]) -> None:
    """Chains of products: an fp16 ulp after one product grows through the next, so the bound is wider than an ulp."""
    rng = np.random.default_rng(0)
    text = built(build)
    outputs: list[Arrays] = []
    for device in pair:
        with device.compile(text) as program:
            if not outputs:
                arrays = {port.name: halves(rng, *port.shape) / np.float16(4) for port in program.inputs}
            outputs.append(program.run(arrays))
    for name, expected in outputs[1].items():
        scale = float(np.abs(expected.astype(np.float32)).max())
        np.testing.assert_allclose(outputs[0][name], expected, rtol=0, atol=2.0**-9 * scale, err_msg=name)
        different = np.mean(outputs[0][name] != expected)
        assert different < 0.05, f"{name}: {different:.1%} of the elements differ"


@pytest.mark.parametrize("masked", [False, True])
def test_attention_as_one_operation(pair: tuple[Device, Device], masked: bool) -> None:
    rng = np.random.default_rng(0)
    mask = np.triu(np.full((SEQUENCE, SEQUENCE), -1e4, np.float16), 1)

    def build(g: Graph) -> None:
        shape = (1, HEADS, SEQUENCE, HEAD_DIM)
        q, k, v = (g.reshape(g.input(n, (1, HEADS * SEQUENCE // 2, 1, 2 * HEAD_DIM)), shape) for n in "qkv")
        y = g.scaled_dot_product_attention(q, k, v, attn_mask=g.constant(mask) if masked else None)
        g.output("y", g.reshape(y, (1, HEADS * SEQUENCE // 2, 1, 2 * HEAD_DIM)))

    text = built(build)
    outputs: list[Arrays] = []
    for device in pair:
        with device.compile(text) as program:
            if not outputs:
                arrays = {port.name: halves(rng, *port.shape) for port in program.inputs}
            outputs.append(program.run(arrays))
    np.testing.assert_allclose(outputs[0]["y"], outputs[1]["y"], rtol=2.0**-10, atol=1e-4)


# ---------------------------------------------------------------- surfaces


def bound(device: Device, program: Program, arrays: Arrays) -> tuple[dict[str, Surface], dict[str, Surface]]:
    inputs = {port.name: device.surface_for(port) for port in program.inputs}
    outputs = {port.name: device.surface_for(port) for port in program.outputs}
    for name, array in arrays.items():
        inputs[name].write(array)
    return inputs, outputs


def linear(g: Graph) -> None:
    w = g.reshape(g.input("b_w", (1, 64, 1, 32)), (64, 32))
    x = g.reshape(g.input("a_x", (1, 32, 1, 32)), (32, 32))
    g.output("y", g.reshape(g.matmul(w, x), (1, 64, 1, 32)))


def test_a_changed_weight_surface_is_seen() -> None:
    rng = np.random.default_rng(0)
    device = emulator("exact")
    program = device.compile(built(linear))
    x, w = rng.integers(-4, 5, (32, 32)).astype(np.float32), rng.integers(-4, 5, (64, 32)).astype(np.float32)
    inputs, outputs = bound(device, program, {"a_x": x, "b_w": w})
    request = program.request(inputs, outputs)
    for change in range(3):
        w[change] += 1
        inputs["b_w"].write(w)
        request.run()
        np.testing.assert_array_equal(outputs["y"].read(64, 32), w @ x)
    with inputs["b_w"].lock(write=True) as view:
        view[:] = 0
    request.run()
    np.testing.assert_array_equal(outputs["y"].read(64, 32), np.zeros((64, 32)))


def test_one_surface_under_programs_that_read_different_parts() -> None:
    """The image of a surface serves whoever reads it, and is made only as far as somebody does."""
    rng = np.random.default_rng(0)
    device = emulator("exact")
    rows, width = 2048, 32  # four blocks of the image
    w = rng.integers(-4, 5, (rows, width)).astype(np.float32)
    x = rng.integers(-4, 5, (width, 32)).astype(np.float32)
    parts = ((0, 16), (rows - 16, 16), (0, rows))
    surface = device.surface(2 * w.size)
    requests, outputs = [], []
    for begin, size in parts:

        def build(g: Graph, begin: int = begin, size: int = size) -> None:
            part = g.slice_by_size(g.input("b_w", (1, rows, 1, width)), (0, begin, 0, 0), (1, size, 1, width))
            y = g.matmul(g.reshape(part, (size, width)), g.constant(x.astype(np.float16)))
            g.output("y", g.reshape(y, (1, size, 1, 32)))

        program = device.compile(built(build))
        outputs.append(device.surface_for(program.outputs[0]))
        requests.append(program.request({"b_w": surface}, {"y": outputs[-1]}))
    for _ in range(3):
        w = np.roll(w, 1, axis=0)
        surface.write(w)
        for request, output, (begin, size) in zip(requests, outputs, parts, strict=True):
            request.run()
            np.testing.assert_array_equal(output.read(size, 32), w[begin : begin + size] @ x)


def test_input_and_output_may_be_one_surface() -> None:
    """Every element is read before the surface is written, also where the program turns things round."""
    rng = np.random.default_rng(0)
    x = halves(rng, 64, 64).astype(np.float32)

    def turn(g: Graph) -> None:
        square = g.reshape(g.input("x", (1, 64, 1, 64)), (64, 64))
        g.output("y", g.reshape(g.transpose(square, (1, 0)) + g.reverse(square, axes=[0]), (1, 64, 1, 64)))

    device = emulator("exact", allow_unproven=True)
    program = device.compile(built(turn))
    inputs, _ = bound(device, program, {"x": x})
    request = program.request(inputs, {"y": inputs["x"]})
    for _ in range(3):
        x = (x.T + x[::-1]).astype(np.float16).astype(np.float32)
        request.run()
        np.testing.assert_array_equal(inputs["x"].read(64, 64), x)


def test_outputs_that_are_also_intermediates_and_equal_outputs(pair: tuple[Device, Device]) -> None:
    def build(g: Graph) -> None:
        x = g.input("x", (1, 32, 1, 32))
        a = g.relu(x)
        b = g.concat([a, a * 2.0], axis=1)
        g.output("y_a", a)
        g.output("y_b", b)
        g.output("y_c", g.slice_by_size(b, (0, 16, 0, 0), (1, 32, 1, 32)))
        g.output("y_d", g.softmax(b, axis=1))
        g.output("y_e", g.reshape(a, (1, 16, 1, 64)))

    arrays = {"x": halves(np.random.default_rng(0), 1, 32, 1, 32)}
    text = built(build)
    with pair[0].compile(text) as found, pair[1].compile(text) as expected:
        assert_equal(found.run(arrays), expected.run(arrays))


def test_who_reads_a_product_before_its_rounded_copy_is_made(pair: tuple[Device, Device]) -> None:
    """The sums read what the product left, the second product its rounded copy. Both sums and what the first product
    takes are written to one output: merged, they would wait for each other."""

    def build(g: Graph) -> None:
        x = g.input("x", (1, 24, 1, 64))
        factors = g.mul(g.silu(x), 0.5)
        means = g.constant((np.triu(np.ones((16, 16))) / 16).astype(np.float16))
        product = g.matmul(g.reshape(factors, (1, 24, 4, 16)), means, transpose_y=True)
        sums = g.reshape(g.reduce_sum(product, axes=(2,), keep_dims=True), (1, 6, 1, 64))
        square = g.constant(halves(np.random.default_rng(1), 24, 24))
        second = g.matmul(square, g.reshape(product, (1, 24, 64)), transpose_x=True)
        g.output("y", g.concat((factors, sums, g.reshape(second, (1, 24, 1, 64))), axis=1))

    arrays = {"x": halves(np.random.default_rng(0), 1, 24, 1, 64)}
    text = built(build)
    with pair[0].compile(text) as found, pair[1].compile(text) as expected:
        np.testing.assert_allclose(found.run(arrays)["y"], expected.run(arrays)["y"], rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_surfaces_of_eight_bit_integers(pair: tuple[Device, Device], dtype: str) -> None:
    def build(g: Graph) -> None:
        x = g.input("x", (1, 4, 1, 64), dtype)
        y = g.dequantize(x, np.float16(0.5))
        g.output("wide", y)
        g.output("narrow", g.quantize(y * 0.75, np.float16(0.25), dtype))

    values = np.arange(256).astype(dtype).reshape(1, 4, 1, 64)
    fast, reference = pair
    with fast.compile(built(build)) as found, reference.compile(built(build)) as expected:
        assert_equal(found.run({"x": values}), expected.run({"x": values}))


def test_a_request_run_again_gives_the_same_bits() -> None:
    rng = np.random.default_rng(0)
    device = emulator("exact", allow_unproven=True)
    program = device.compile(built(attention))
    arrays = {port.name: halves(rng, *port.shape) for port in program.inputs}
    first = program.run(arrays)
    for _ in range(3):
        assert_equal(program.run(arrays), first)


def test_width_slices_saturate_where_the_chip_does() -> None:
    rules: dict[str, bool | int | float] = {"width-slice-saturation": 4094}
    x = np.linspace(-8000, 8000, 64, dtype=np.float32).astype(np.float16).reshape(1, 1, 1, 64)

    def build(g: Graph) -> None:
        value = g.input("x", x.shape)
        g.output("y", g.mul(g.slice_by_size(value, (0, 0, 0, 32), (1, 1, 1, 32)), 1.0))

    outputs = []
    for executor in ("fast", "reference"):
        with emulator("exact", executor=executor, rules=rules) as device:
            outputs.append(device.compile(built(build)).run({"x": x}))
    assert_equal(*outputs)
    assert np.isinf(outputs[0]["y"]).any()
