"""anetrain.cpu's RMSNorm and LayerNorm: values against float64, gradients against differences and PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from anetrain import cpu
from tests.cpu_arrays import (
    SHAPES,
    Doubles,
    Floats,
    close,
    difference_gradient,
    floats,
    gains,
    padded,
    pytorch,
    refused,
    same_bits,
)

EPS = 1e-5
Array = npt.NDArray[Any]


def exact_rms_norm(x: Array, gain: Array) -> Doubles:
    x = x.astype(np.float64)
    return gain.astype(np.float64)[:, None] * x / np.sqrt((x * x).mean(0) + EPS)


def exact_layer_norm(x: Array, gain: Array, bias: Array) -> Doubles:
    centred = x.astype(np.float64) - x.astype(np.float64).mean(0)
    normed = centred / np.sqrt((centred**2).mean(0) + EPS)
    return gain.astype(np.float64)[:, None] * normed + bias.astype(np.float64)[:, None]


def inputs(channels: int, tokens: int) -> tuple[Floats, Floats, Floats, Floats]:
    """dy, x with a mean and a scale of its own in each token, gain, bias."""
    x = floats(channels, tokens) * (1.0 + np.arange(tokens, dtype=np.float32) % 5) + 0.5
    return floats(channels, tokens, seed=1), x, gains(channels), floats(channels, seed=2)


def rms_gradients(dy: Floats, x: Floats, gain: Floats, alpha: float = 1.0) -> tuple[Floats, Floats]:
    rrms, dx, dgain = np.empty(x.shape[1], np.float32), np.full_like(x, np.nan), np.zeros_like(gain)
    cpu.rms_norm(x, gain, EPS, rrms=rrms)
    cpu.rms_norm_backward(dy, x, gain, rrms, dx, dgain, alpha)
    return dx, dgain


def layer_gradients(
    dy: Floats, x: Floats, gain: Floats, bias: Floats, alpha: float = 1.0
) -> tuple[Floats, Floats, Floats]:
    mean, rstd = np.empty((2, x.shape[1]), np.float32)
    dx, dgain, dbias = np.full_like(x, np.nan), np.zeros_like(gain), np.zeros_like(gain)
    cpu.layer_norm(x, gain, bias, EPS, mean=mean, rstd=rstd)
    cpu.layer_norm_backward(dy, x, gain, mean, rstd, dx, dgain, dbias, alpha)
    return dx, dgain, dbias


# --- Forward ---


@pytest.mark.parametrize("shape", SHAPES)
def test_rms_norm(shape: tuple[int, int]) -> None:
    _, x, gain, _ = inputs(*shape)
    rrms = np.full(shape[1], np.nan, np.float32)
    out = np.full_like(x, np.nan)
    assert cpu.rms_norm(x, gain, EPS, out=out, rrms=rrms) is out
    close(out, exact_rms_norm(x, gain))
    close(rrms, 1 / np.sqrt((x.astype(np.float64) ** 2).mean(0) + EPS))
    np.testing.assert_array_equal(cpu.rms_norm(x, gain, EPS), out)


@pytest.mark.parametrize("shape", SHAPES)
def test_layer_norm(shape: tuple[int, int]) -> None:
    _, x, gain, bias = inputs(*shape)
    mean, rstd = np.full((2, shape[1]), np.nan, np.float32)
    out = np.full_like(x, np.nan)
    assert cpu.layer_norm(x, gain, bias, EPS, out=out, mean=mean, rstd=rstd) is out
    close(out, exact_layer_norm(x, gain, bias))
    close(mean, x.mean(0, dtype=np.float64))
    close(rstd, 1 / np.sqrt(x.var(0, dtype=np.float64) + EPS))
    np.testing.assert_array_equal(cpu.layer_norm(x, gain, bias, EPS), out)


def test_layer_norm_of_a_large_mean() -> None:
    """The variance of 1000 +- 1 is not lost in the squares."""
    x = floats(768, 32) + 1000.0
    close(cpu.layer_norm(x, gains(768), gains(768), EPS), exact_layer_norm(x, gains(768), gains(768)), 3e-4)


def test_eps_counts() -> None:
    x = np.full((4, 3), 1e-3, np.float32)
    found = cpu.rms_norm(x, np.full(4, 2.0, np.float32), 1e-2)
    np.testing.assert_allclose(found, 2e-3 / np.sqrt(1e-6 + 1e-2), rtol=1e-6)


# --- Backward ---


@pytest.mark.parametrize("shape", [(7, 5), (5, 1), (33, 3)])
def test_rms_norm_gradients_are_differences(shape: tuple[int, int]) -> None:
    dy, x, gain, _ = inputs(*shape)
    dx, dgain = rms_gradients(dy, x, gain)
    close(dx, difference_gradient(lambda x: float((dy * exact_rms_norm(x, gain)).sum()), x), 3e-6)
    close(dgain, difference_gradient(lambda gain: float((dy * exact_rms_norm(x, gain)).sum()), gain), 3e-6)


@pytest.mark.parametrize("gradient", ["aligned", "constant gain"])
def test_rms_norm_correction_has_no_gain(gradient: str) -> None:
    """Where the correction weighs most, a gain too many shows most: dy along x, or a constant gain."""
    dy, x, gain, _ = inputs(33, 3)
    if gradient == "aligned":
        dy = x.copy()
    else:
        gain[:] = 2.0
    dx, _ = rms_gradients(dy, x, gain)
    close(dx, difference_gradient(lambda x: float((dy * exact_rms_norm(x, gain)).sum()), x), 3e-6)


@pytest.mark.parametrize("shape", [(7, 5), (5, 2), (33, 3)])
def test_layer_norm_gradients_are_differences(shape: tuple[int, int]) -> None:
    dy, x, gain, bias = inputs(*shape)
    dx, dgain, dbias = layer_gradients(dy, x, gain, bias)
    close(dx, difference_gradient(lambda x: float((dy * exact_layer_norm(x, gain, bias)).sum()), x), 5e-6)
    close(dgain, difference_gradient(lambda gain: float((dy * exact_layer_norm(x, gain, bias)).sum()), gain), 3e-6)
    close(dbias, dy.sum(1, dtype=np.float64), 3e-6)


@pytest.mark.parametrize("shape", [(171, 130), (768, 256), (3, 1025)])
def test_gradients_are_pytorchs(shape: tuple[int, int]) -> None:
    torch = pytorch()
    dy, x, gain, bias = inputs(*shape)
    for norm, found in (("rms", rms_gradients(dy, x, gain)), ("layer", layer_gradients(dy, x, gain, bias))):
        tensors = [torch.tensor(a.astype(np.float64), requires_grad=True) for a in (x.T.copy(), gain, bias)]
        if norm == "rms":
            y = torch.nn.functional.rms_norm(tensors[0], (shape[0],), tensors[1], EPS)
        else:
            y = torch.nn.functional.layer_norm(tensors[0], (shape[0],), *tensors[1:], EPS)
        (y * torch.tensor(dy.T.astype(np.float64))).sum().backward()
        close(found[0], tensors[0].grad.numpy().T, 5e-6)
        for gradient, tensor in zip(found[1:], tensors[1:], strict=False):
            close(gradient, tensor.grad.numpy(), 5e-6)


def test_gradients_add_to_what_is_there() -> None:
    dy, x, gain, bias = inputs(33, 67)
    mean, rstd = np.empty((2, 67), np.float32)
    cpu.layer_norm(x, gain, bias, EPS, mean=mean, rstd=rstd)
    _, dgain, dbias = layer_gradients(dy, x, gain, bias)
    sums = floats(2, 33, seed=5)
    before = sums.astype(np.float64)
    cpu.layer_norm_backward(dy, x, gain, mean, rstd, dgain=sums[0], dbias=sums[1], alpha=0.25)
    close(sums[0], before[0] + 0.25 * dgain)
    close(sums[1], before[1] + 0.25 * dbias)
    _, dgain = rms_gradients(dy, x, gain)
    cpu.rms_norm(x, gain, EPS, rrms=rstd)
    sums = before.astype(np.float32)
    cpu.rms_norm_backward(dy, x, gain, rstd, dgain=sums[0], alpha=-2.0)
    close(sums[0], before[0] - 2.0 * dgain)


def test_parts_are_those_of_the_whole() -> None:
    dy, x, gain, bias = inputs(33, 67)
    rrms, mean, rstd = np.empty((3, 67), np.float32)
    cpu.rms_norm(x, gain, EPS, rrms=rrms)
    cpu.layer_norm(x, gain, bias, EPS, mean=mean, rstd=rstd)
    backward: list[tuple[Callable[..., None], Any, list[str]]] = [
        (
            lambda **parts: cpu.rms_norm_backward(dy, x, gain, rrms, **parts),
            rms_gradients(dy, x, gain),
            ["dx", "dgain"],
        ),
        (
            lambda **parts: cpu.layer_norm_backward(dy, x, gain, mean, rstd, **parts),
            layer_gradients(dy, x, gain, bias),
            ["dx", "dgain", "dbias"],
        ),
    ]
    for compute, whole, names in backward:
        for name, expected in zip(names, whole, strict=True):
            part = np.zeros_like(expected)
            compute(**{name: part})
            np.testing.assert_array_equal(part, expected)


# --- Layouts, threads, mistakes ---


def test_padded_rows_and_results_in_place() -> None:
    dy, x, gain, bias = inputs(33, 67)
    rrms, mean, rstd = np.empty((3, 67), np.float32)
    y, z = cpu.rms_norm(x, gain, EPS, rrms=rrms), cpu.layer_norm(x, gain, bias, EPS, mean=mean, rstd=rstd)
    dx, dz = rms_gradients(dy, x, gain)[0], layer_gradients(dy, x, gain, bias)[0]
    for function, parameters, expected in ((cpu.rms_norm, (gain,), y), (cpu.layer_norm, (gain, bias), z)):
        result = padded(x, 5)
        np.testing.assert_array_equal(function(padded(x), *parameters, EPS, out=result), expected)
        wide = result.base
        assert isinstance(wide, np.ndarray)
        assert np.isnan(wide[:, 67:]).all()
        same = padded(x)
        np.testing.assert_array_equal(function(same, *parameters, EPS, out=same), expected)
    for target in ("dy", "x", "own"):
        for is_rms in (True, False):
            arrays = {"dy": padded(dy), "x": padded(x, 4), "own": padded(x, 1)}
            dgain = np.zeros_like(gain)
            if is_rms:
                cpu.rms_norm_backward(arrays["dy"], arrays["x"], gain, rrms, arrays[target], dgain)
                np.testing.assert_array_equal(dgain, rms_gradients(dy, x, gain)[1])
            else:
                cpu.layer_norm_backward(arrays["dy"], arrays["x"], gain, mean, rstd, arrays[target], dgain)
                np.testing.assert_array_equal(dgain, layer_gradients(dy, x, gain, bias)[1])
            np.testing.assert_array_equal(arrays[target], dx if is_rms else dz)


@pytest.mark.parametrize("shape", [(96, 67), (768, 256), (5, 5000)])
def test_threads_do_not_matter(shape: tuple[int, int]) -> None:
    dy, x, gain, bias = inputs(*shape)
    same_bits(lambda: [cpu.rms_norm(x, gain, EPS), *rms_gradients(dy, x, gain)])
    same_bits(lambda: [cpu.layer_norm(x, gain, bias, EPS), *layer_gradients(dy, x, gain, bias)])


def test_no_tokens() -> None:
    x, gain = np.empty((5, 0), np.float32), gains(5)
    assert cpu.rms_norm(x, gain, EPS).shape == (5, 0)
    dx, dgain, dbias = layer_gradients(x, x, gain, gain)
    assert dx.shape == (5, 0)
    np.testing.assert_array_equal([dgain, dbias], np.zeros((2, 5)))


def test_non_finite_values_show() -> None:
    dy, x, gain, _ = inputs(33, 67)
    x[4, 3] = np.nan
    y = cpu.rms_norm(x, gain, EPS)
    assert np.isnan(y[:, 3]).all()
    assert np.isfinite(np.delete(y, 3, 1)).all()
    assert np.isnan(rms_gradients(dy, x, gain)[0][:, 3]).all()


def test_mistakes() -> None:
    dy, x, gain, bias = inputs(6, 4)
    rrms, dx = np.ones(4, np.float32), np.empty_like(x)
    refused(lambda: cpu.rms_norm(x.astype(np.float64), gain, EPS), "x", "float64", error=TypeError)  # type: ignore[arg-type]
    refused(lambda: cpu.rms_norm(x[0], gain, EPS), "x", "(4,)", "[channels, tokens]")
    refused(lambda: cpu.rms_norm(x[:0], gain[:0], EPS), "x", "(0, 4)")
    refused(lambda: cpu.rms_norm(x, gain[:5], EPS), "gain", "(5,)", "(6,)")
    refused(lambda: cpu.rms_norm(x, np.ones(12, np.float32)[::2], EPS), "gain", "contiguous")
    refused(lambda: cpu.rms_norm(x, gain, -1.0), "eps", "-1.0")
    refused(lambda: cpu.rms_norm(x, gain, float("nan")), "eps", "nan")
    refused(lambda: cpu.rms_norm(np.ones((4, 6), np.float32).T, gain, EPS), "x", "rows must be contiguous")
    refused(lambda: cpu.rms_norm(x[::-1], gain, EPS), "x", "rows must be contiguous")
    refused(lambda: cpu.rms_norm(x, gain, EPS, out=dx[:, :3]), "out", "(6, 3)", "(6, 4)")
    refused(lambda: cpu.rms_norm(x, gain, EPS, rrms=rrms[:3]), "rrms", "(3,)", "(4,)")
    refused(lambda: cpu.rms_norm(x, gain, EPS, rrms=x[0]), "rrms", "overlaps")
    wide = np.ones((6, 5), np.float32)
    refused(lambda: cpu.rms_norm(wide[:, :4], gain, EPS, out=wide[:, 1:]), "out", "exact place")
    refused(lambda: cpu.rms_norm_backward(dy, x, gain, rrms), "nothing to compute", "dx", "dgain")
    refused(lambda: cpu.rms_norm_backward(dy[:, :3], x, gain, rrms, dx), "dy", "(6, 3)", "(6, 4)")
    refused(lambda: cpu.rms_norm_backward(dy, x, gain, rrms, dgain=gain), "dgain", "overlaps")
    refused(lambda: cpu.rms_norm_backward(dy, x, gain, rrms, dx, dgain=dx[0]), "dgain", "(4,)", "(6,)")
    read_only = np.ones(6, np.float32)
    read_only.flags.writeable = False
    refused(lambda: cpu.rms_norm_backward(dy, x, gain, rrms, dgain=read_only), "dgain", "read-only")
    refused(lambda: cpu.layer_norm(x, gain, bias[:2], EPS), "bias", "(2,)", "(6,)")
    refused(lambda: cpu.layer_norm(x, gain, bias, EPS, mean=rrms, rstd=rrms), "rstd", "overlaps")
    refused(lambda: cpu.layer_norm_backward(dy, x, gain, rrms, rrms[:2], dx), "rstd", "(2,)", "(4,)")
