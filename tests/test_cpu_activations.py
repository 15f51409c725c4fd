"""anetrain.cpu's SiLU and GELU: values against float64, derivatives against differences and PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from anetrain import cpu
from tests.cpu_arrays import SHAPES, Doubles, Floats, close, floats, padded, pytorch, refused, same_bits

Forward = Callable[..., Floats]


def exact_silu(x: Doubles) -> Doubles:
    return x / (1.0 + np.exp(-x))


def exact_gelu_tanh(x: Doubles) -> Doubles:
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def exact_gelu(x: Doubles) -> Doubles:
    return np.asarray(0.5 * x * np.vectorize(math.erfc, [float])(-x / math.sqrt(2.0)))


# forward, backward, the function in float64
FUNCTIONS: dict[str, tuple[Forward, Forward, Callable[[Doubles], Doubles]]] = {
    "silu": (cpu.silu, cpu.silu_backward, exact_silu),
    "gelu tanh": (cpu.gelu, cpu.gelu_backward, exact_gelu_tanh),
    "gelu exact": (
        lambda x, out=None: cpu.gelu(x, "exact", out),
        lambda dy, x, out=None: cpu.gelu_backward(dy, x, "exact", out),
        exact_gelu,
    ),
}
each_function = pytest.mark.parametrize("name", FUNCTIONS)


@each_function
@pytest.mark.parametrize("shape", SHAPES)
def test_values(name: str, shape: tuple[int, int]) -> None:
    forward, _, exact = FUNCTIONS[name]
    x = 3 * floats(*shape)
    out = np.full_like(x, np.nan)
    assert forward(x, out=out) is out
    close(out, exact(x.astype(np.float64)), 1e-6)
    np.testing.assert_array_equal(forward(x), out)


@each_function
def test_relative_error(name: str) -> None:
    """Small results are as exact as large ones."""
    forward, _, exact = FUNCTIONS[name]
    x = np.linspace(-9.0, 9.0, 30001, dtype=np.float32)
    if name == "gelu tanh":
        x = x[x > -5.0]  # further down, this float64 formula itself has lost its digits
    expected = exact(x.astype(np.float64))
    assert (np.abs(forward(x) - expected) <= 4e-6 * np.abs(expected)).all()


@each_function
@pytest.mark.parametrize("shape", [(7, 5), (1, 1), (33, 67), (9, 5000)])
def test_derivatives_are_differences(name: str, shape: tuple[int, int]) -> None:
    _, backward, exact = FUNCTIONS[name]
    x, dy, step = 3 * floats(*shape), floats(*shape, seed=1), 1e-5
    out = np.full_like(x, np.nan)
    assert backward(dy, x, out=out) is out
    slope = (exact(x + np.float64(step)) - exact(x - np.float64(step))) / (2 * step)
    close(out, dy * slope, 1e-6)
    np.testing.assert_array_equal(backward(dy, x), out)


@each_function
def test_derivatives_are_pytorchs(name: str) -> None:
    torch = pytorch()
    functional = torch.nn.functional
    oracle: Any = {
        "silu": functional.silu,
        "gelu tanh": lambda x: functional.gelu(x, approximate="tanh"),
        "gelu exact": functional.gelu,
    }[name]
    x = np.linspace(-40.0, 40.0, 40001, dtype=np.float32)
    at = torch.tensor(x.astype(np.float64), requires_grad=True)
    oracle(at).sum().backward()
    slope = FUNCTIONS[name][1](np.ones_like(x), x)
    assert np.abs(slope - at.grad.numpy()).max() <= 5e-7


@each_function
def test_limits(name: str) -> None:
    forward, backward, _ = FUNCTIONS[name]
    x = np.array([-np.inf, -1e30, -200.0, 0.0, 200.0, 1e30, np.inf, np.nan], np.float32)
    y, slope = forward(x), backward(np.full_like(x, 2.0), x)
    np.testing.assert_array_equal(y[:4], np.zeros(4))
    np.testing.assert_array_equal(y[4:7], x[4:7])
    np.testing.assert_allclose(slope[:7], [0, 0, 0, 1, 2, 2, 2], rtol=1e-6, atol=1e-30)
    assert np.isnan([y[7], slope[7]]).all()


@each_function
def test_layouts(name: str) -> None:
    forward, backward, _ = FUNCTIONS[name]
    x, dy = floats(33, 67), floats(33, 67, seed=1)
    y, dx = forward(x), backward(dy, x)
    result = padded(x, 5)
    np.testing.assert_array_equal(forward(padded(x), out=result), y)
    wide = result.base
    assert isinstance(wide, np.ndarray)
    assert np.isnan(wide[:, 67:]).all()
    np.testing.assert_array_equal(backward(padded(dy), padded(x, 1), out=padded(x, 2)), dx)
    np.testing.assert_array_equal(forward(x.reshape(3, 11, 67)), y.reshape(3, 11, 67))
    np.testing.assert_array_equal(backward(dy.ravel(), x.ravel()), dx.ravel())
    for target in (0, 1):
        arrays = padded(dy), padded(x)
        np.testing.assert_array_equal(backward(*arrays, out=arrays[target]), dx)
    np.testing.assert_array_equal(forward(x, out=x), y)
    assert forward(np.empty((5, 0), np.float32)).shape == (5, 0)


@each_function
def test_threads_do_not_matter(name: str) -> None:
    forward, backward, _ = FUNCTIONS[name]
    x, dy = floats(171, 301), floats(171, 301, seed=1)
    same_bits(lambda: [forward(x), forward(padded(x)), backward(dy, x)])


@each_function
def test_mistakes(name: str) -> None:
    forward, backward, _ = FUNCTIONS[name]
    x = floats(6, 4)
    refused(lambda: forward(x.astype(np.float64)), "x", "float64", error=TypeError)
    refused(lambda: forward([1.0]), "x", "list", error=TypeError)
    refused(lambda: forward(x.T), "x", "rows must be contiguous")
    refused(lambda: forward(x[0, ::2]), "in one")
    refused(lambda: forward(x, out=x[:, :3]), "out", "(6, 3)")
    refused(lambda: forward(x[:, 1:], out=x[:, :3]), "out", "exact place")
    refused(lambda: backward(x[:, :3], x), "dy", "(6, 3)", "(6, 4)")


def test_unknown_mode() -> None:
    x = floats(6, 4)
    refused(lambda: cpu.gelu(x, "erf"), "'erf'", "tanh, exact")  # type: ignore[arg-type]
    refused(lambda: cpu.gelu_backward(x, x, "erf"), "'erf'", "tanh, exact")  # type: ignore[arg-type]
