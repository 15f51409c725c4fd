"""The text of programs: both dialects, exact numbers, the same bytes every time, names, and errors at build time."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anetrain.mil import BuildError, Graph, Program
from anetrain.mil.text import hex_float
from scripts import make_golden_mil, op_docs, op_methods


def small_graph() -> Graph:
    g = Graph()
    x = g.input("a_x", (1, 64, 1, 32))
    w = g.constant(np.arange(64 * 64).reshape(64, 64) / 4096, name="w1")
    h = g.matmul(w, g.reshape(x, (1, 64, 32)))
    g.output("y", g.reshape(g.softmax(h * 0.5, axis=-1), (1, 64, 1, 32)))
    return g


@pytest.mark.parametrize("name", make_golden_mil.programs())
def test_golden(name: str) -> None:
    golden = make_golden_mil.FOLDER / f"{name}.mil"
    assert make_golden_mil.programs()[name].text == golden.read_text(encoding="utf-8")


def test_generated_files_are_current() -> None:
    assert op_methods.TARGET.read_text(encoding="utf-8") == op_methods.generate()
    assert op_docs.TARGET.read_text(encoding="utf-8") == op_docs.generate()


def test_same_graph_same_bytes() -> None:
    first, second = small_graph().program(), small_graph().program()
    assert first == second
    assert first.text == small_graph().program().text


@pytest.mark.parametrize(
    ("dialect", "header", "function", "scalar"),
    [
        ("A", "program(1.0)", "func main<ios16>(", "tensor<fp16, []>(0x1p-1)"),
        ("B", "program(1.3)", "func main<ios18>(", "fp16(0x1p-1)"),
    ],
)
def test_dialects(dialect: str, header: str, function: str, scalar: str) -> None:
    text = small_graph().program(dialect).text
    assert text.startswith(header + "\n[buildInfo = dict<")
    assert function in text
    assert f"val = {scalar}" in text
    assert ("string(" in text) == (dialect == "B")


def test_newer_ops_are_refused_in_the_old_dialect() -> None:
    g = Graph()
    q = g.input("q", (1, 64, 32, 64))
    g.output("y", g.scaled_dot_product_attention(q, q, q))
    g.program("B")
    with pytest.raises(BuildError, match=r"scaled_dot_product_attention\] exists from ios18 on, dialect A is ios16"):
        g.program("A")


def test_ports_keep_their_names_and_order() -> None:
    g = Graph()
    b, a = g.input("b_w", (1, 8, 1, 32)), g.input("a_x", (1, 8, 1, 32))
    g.output("second", a - b)
    g.output("first", a + b)
    program = g.program()
    assert list(program.inputs) == ["b_w", "a_x"]
    assert list(program.outputs) == ["second", "first"]
    assert "-> (second, first);" in program.text


def test_dead_ops_are_not_written() -> None:
    g = small_graph()
    g.exp(g.inputs[0])
    assert "exp(" not in g.program().text


def test_a_constant_is_written_once() -> None:
    g = Graph()
    x = g.input("x", (1, 8, 1, 32))
    g.output("y", (x * 0.5 + 0.5) * 0.5)
    assert g.program().text.count("(0x1p-1)") == 1


def test_blobs_one_file_per_tensor_or_one_for_all() -> None:
    g = Graph()
    x = g.input("x", (1, 64, 1, 32))
    big = np.ones((1, 64, 1, 32))
    g.output("y", x * g.constant(big, name="u") + g.constant(2 * big, name="v"))
    assert list(g.program().blobs) == ["@model_path/weights/u.bin", "@model_path/weights/v.bin"]
    together = g.program(single_blob=True)
    assert list(together.blobs) == ["@model_path/weights/weights.bin"]
    assert re.findall(r"uint64\((\d+)\)", together.text) == ["64", str(128 + 64 * 32 * 2)]


@pytest.mark.parametrize("spelling", ["call", "attributes"])
def test_constexpr_spellings(spelling: str) -> None:
    g = Graph()
    x = g.input("x", (1, 64, 1, 32))
    weight = g.constexpr_affine_dequantize(
        g.constant(np.ones((64, 64, 1, 1), np.int8), name="q"), np.int8(0), 0.125, axis=0
    )
    g.output("y", g.conv(x, weight))
    text = g.program(spelling=spelling).text
    if spelling == "call":
        assert "constexpr_affine_dequantize(quantized_data = q, " in text
    else:
        assert "constexpr_affine_dequantize()[quantized_data = tensor<int8, [64, 64, 1, 1]>(BLOBFILE(" in text
        assert "zero_point = int8(0), scale = fp16(0x1p-3), axis = int32(0), name = string(" in text


# ---------------------------------------------------------------- numbers


@given(st.floats(width=16, allow_nan=False, allow_infinity=False))
def test_hex_floats_are_exact(value: float) -> None:
    text = hex_float(value, "fp16")
    back = float.fromhex(text)
    assert back == value
    assert math.copysign(1, back) == math.copysign(1, value)
    assert re.fullmatch(r"-?0x[01](\.[0-9a-f]*[1-9a-f])?p[+-]\d+", text)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0x0p+0"), (0.5, "0x1p-1"), (-65504, "-0x1.ffcp+15"), (1 / 768, "0x1.554p-10"), (6e-8, "0x1p-24")],
)
def test_known_hex_floats(value: float, text: str) -> None:
    assert hex_float(value, "fp16") == text


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 70000.0])
def test_not_finite_is_refused(value: float) -> None:
    g = Graph()
    x = g.input("x", (1, 8, 1, 32))
    with pytest.raises(BuildError, match="not finite in fp16"):
        g.add(x, value)


# ---------------------------------------------------------------- errors where they are made


def test_shape_errors_name_op_argument_and_shapes() -> None:
    g = Graph()
    x, y = g.input("x", (1, 8, 64)), g.input("y", (1, 32, 8))
    expected = (
        r"\[matmul\] y inner dimensions differ: 64 of x, 32 of y; operands: x fp16 \[1, 8, 64\], y fp16 \[1, 32, 8\]"
    )
    with pytest.raises(BuildError, match=expected):
        g.matmul(x, y)
    with pytest.raises(BuildError, match=r"\[add\] y shapes \[1, 8, 64\] and \[1, 32, 8\] do not broadcast"):
        _ = x + y
    with pytest.raises(BuildError, match=r"\[softmax\] axis 3 is outside \[-3, 2\] for rank 3"):
        g.softmax(x, axis=3)
    with pytest.raises(BuildError, match=r"\[reshape\] shape \[3, 5\] does not hold the 512 elements"):
        g.reshape(x, (3, 5))


def test_argument_errors() -> None:
    g, other = Graph(), Graph()
    x = g.input("x", (1, 8, 1, 32))
    foreign = other.input("z", (1, 8, 1, 32))
    mistakes = {
        r"\[rsqrt\] the argument 'epsilon' is missing": lambda: g.apply("rsqrt", x=x),
        r"\[relu\] has no argument 'alpha'": lambda: g.apply("relu", x=x, alpha=1.0),
        r"unknown op 'gather'": lambda: g.apply("gather", x=x),
        r"\[linear\] weight must be a constant, x is computed": lambda: g.linear(g.reshape(x, (8, 32)), x),
        r"\[add\] y: z belongs to another graph": lambda: x + foreign,
        r"\[logical_not\] x is fp16 \[1, 8, 1, 32\], expected bool tensor": lambda: g.logical_not(x),
        r"\[softmax\] axis is 0.5, expected int32": lambda: g.apply("softmax", x=x, axis=0.5),
        r"\[add\] y is fp32, the first operand is fp16": lambda: x + g.input("f", (1, 8, 1, 32), "fp32"),
        r"the name 'x' is taken": lambda: g.input("x", (1, 8, 1, 32)),
        r"'2x' is not a name": lambda: g.input("2x", (1, 8, 1, 32)),
        r"'func' is not a name": lambda: g.input("func", (1, 8, 1, 32)),
        r"the value is already an input named 'x'": lambda: g.output("y", x),
        r"300 .*is not an integer from -128|a value is not an integer": lambda: g.constant([300], dtype="int8"),
    }
    for message, mistake in mistakes.items():
        with pytest.raises(ValueError, match=message):
            mistake()


def test_an_output_takes_its_name_from_the_user() -> None:
    g = Graph()
    x = g.input("x", (1, 8, 1, 32))
    first = g.relu(x)  # gets the name relu_0
    g.output("relu_0", g.exp(first))  # which the user wants for another
    text = g.program().text
    assert "relu_0 = exp(x = relu_1)" in text
    assert "relu_1 = relu(x = x)" in text


def test_a_program_needs_an_output_and_a_known_dialect() -> None:
    g = Graph()
    x = g.input("x", (1, 8, 1, 32))
    with pytest.raises(BuildError, match="no output"):
        g.program()
    g.output("y", g.relu(x))
    with pytest.raises(BuildError, match="unknown dialect 'C'"):
        g.program("C")
    assert isinstance(g.program("A"), Program)
