"""Host ops and device ops of blocks: gradients against PyTorch and float64 differences, records of every kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from anetrain import reference
from anetrain.cpu import half_split_order
from anetrain.graph import BlockGraph, Parameter, Value, accumulate, bias, gain, matrix
from anetrain.graph.composed_ops import ComposedOp
from anetrain.graph.device_ops import BLOCK_OPS
from anetrain.mil import Graph
from anetrain.mil.meaning import evaluate
from tests.block_graphs import Case, checked, differentiated, kinds, spec
from tests.support import need

try:
    import torch
    from torch.nn import functional
except ImportError:
    torch = None

IDS = np.array([2, 0, 2, 6, 2], np.int32)  # one row three times
TARGETS = np.array([3, -1, 6, 0, 3], np.int32)
X = (1, 6, 1, 5)


def ids(g: BlockGraph, name: str = "ids") -> Value:
    return g.input(name, (5,), "int32")


# ---------------------------------------------------------------- one op at a time

Forward = Callable[[BlockGraph, Value, Any], Value]
Truth = Callable[[Any, Any], Any]  # x [C, T] and the parameters, as tensors of torch

OPS: dict[str, tuple[dict[str, Parameter], Forward, Truth]] = {
    "rms_norm": (
        {"g": gain(6)},
        lambda g, x, w: g.rms_norm(x, w.g, 1e-3),
        lambda x, w: functional.rms_norm(x.T, (6,), w["g"], 1e-3).T,
    ),
    "rms_norm on the device": (
        {"g": gain(6)},
        lambda g, x, w: g.rms_norm(g.to_device(x), w.g, 1e-3),
        lambda x, w: functional.rms_norm(x.T, (6,), w["g"], 1e-3).T,
    ),
    "rms_norm with 1 + gain": (
        {"g": gain(6)},
        lambda g, x, w: g.rms_norm(x, w.g + 1.0, 1e-3),
        lambda x, w: functional.rms_norm(x.T, (6,), w["g"] + 1.0, 1e-3).T,
    ),
    "layer_norm": (
        {"g": gain(6), "b": bias(6)},
        lambda g, x, w: g.layer_norm(x, w.g, w.b, 1e-3),
        lambda x, w: functional.layer_norm(x.T, (6,), w["g"], w["b"], 1e-3).T,
    ),
    "layer_norm on the device": (
        {"g": gain(6), "b": bias(6)},
        lambda g, x, w: g.layer_norm(g.to_device(x), w.g, w.b, 1e-3),
        lambda x, w: functional.layer_norm(x.T, (6,), w["g"], w["b"], 1e-3).T,
    ),
    "swap_halves": (
        {},
        lambda g, x, w: g.apply("swap_halves", x=g.tanh(x), axis=1)[0],
        lambda x, w: torch.tanh(x).roll(3, 0),
    ),
    "linear": (
        {"w": matrix(9, 6), "b": bias(9)},
        lambda g, x, w: g.linear(x, w.w, w.b),
        lambda x, w: functional.linear(x.T, w["w"], w["b"]).T,
    ),
    "dense, transposed": (
        {"w": matrix(6, 9)},
        lambda g, x, w: g.apply("dense", x=x, weight=w.w, transpose=True)[0],
        lambda x, w: w["w"].T @ x,
    ),
    "dense of a computed weight": (
        {"w": matrix(9, 6)},
        lambda g, x, w: g.linear(x, g.tanh(w.w)),
        lambda x, w: torch.tanh(w["w"]) @ x,
    ),
    "host_linear": (
        {"w": matrix(7, 6)},
        lambda g, x, w: g.host_linear(x, w.w),
        lambda x, w: w["w"] @ x,
    ),
    "scale": ({"v": gain(6)}, lambda g, x, w: g.scale(x, w.v), lambda x, w: x * w["v"][:, None]),
    "scale of the columns": ({"v": gain(5)}, lambda g, x, w: g.scale(x, w.v, axis=-1), lambda x, w: x * w["v"]),
    "scale by a computed vector": (
        {"v": gain(6)},
        lambda g, x, w: g.scale(x, g.exp(w.v * 0.5)),
        lambda x, w: x * torch.exp(w["v"] * 0.5)[:, None],
    ),
    "shift": ({"v": bias(6)}, lambda g, x, w: g.shift(x, w.v), lambda x, w: x + w["v"][:, None]),
    "shift by a computed vector": (
        {"v": bias(5)},
        lambda g, x, w: g.shift(x, g.tanh(w.v), axis=3),
        lambda x, w: x + torch.tanh(w["v"]),
    ),
    "vector times x": ({"v": gain(6)}, lambda g, x, w: w.v * g.tanh(x), lambda x, w: w["v"][:, None] * torch.tanh(x)),
    "vector plus x": ({"v": bias(6)}, lambda g, x, w: w.v + g.tanh(x), lambda x, w: w["v"][:, None] + torch.tanh(x)),
    "x minus vector": ({"v": bias(6)}, lambda g, x, w: g.tanh(x) - w.v, lambda x, w: torch.tanh(x) - w["v"][:, None]),
    "vector minus x": ({"v": bias(6)}, lambda g, x, w: w.v - g.tanh(x), lambda x, w: w["v"][:, None] - torch.tanh(x)),
    "host_add": ({}, lambda g, x, w: g.residual(x, x * 3.0, -0.7), lambda x, w: x - 0.7 * 3.0 * x),
    "host differences": ({}, lambda g, x, w: x / 4.0 - g.to_host(g.tanh(x)), lambda x, w: x / 4.0 - torch.tanh(x)),
    "learned positions": (
        {"p": Parameter((1, 6, 1, 5), deviation=1.0)},
        lambda g, x, w: x + w.p,
        lambda x, w: x + w["p"][0, :, 0],
    ),
    "gelu": ({}, lambda g, x, w: g.gelu(x), lambda x, w: functional.gelu(x, approximate="tanh")),
    "parameter by reshape": (
        {"v": gain(6)},
        lambda g, x, w: g.mul(x, g.reshape(w.v, (1, 6, 1, 1))),
        lambda x, w: x * w["v"][:, None],
    ),
    "parameter by matmul": (
        {"m": matrix(6, 9)},
        lambda g, x, w: g.reshape(g.matmul(w.m, g.reshape(x, (6, 5)), transpose_x=True), (1, 9, 1, 5)),
        lambda x, w: w["m"].T @ x,
    ),
}


@pytest.mark.parametrize("name", OPS)
def test_gradients_are_those_of_torch_and_of_differences(name: str) -> None:
    tree, forward, truth = OPS[name]

    def build(g: BlockGraph) -> None:
        x = g.activation("x", 6)
        g.output("y", g.to_host(forward(g, x, g.weights(tree))))

    case = checked(build)
    need(torch is not None, "PyTorch")
    x, seed = (torch.tensor(case.inputs[key][0, :, 0], requires_grad=key == "x") for key in ("x", "d_y"))
    parameters = {key: torch.tensor(array, requires_grad=True) for key, array in case.parameters.items()}
    y = truth(x, parameters)
    y.backward(seed)
    # Constants in the program are fp32, as the device's are: 1e-6 is theirs.
    np.testing.assert_allclose(case.result.outputs["y"][0, :, 0], y.detach().numpy(), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(case.result.gradients["x"][0, :, 0], x.grad.numpy(), rtol=1e-6, atol=1e-7)
    for key, tensor in parameters.items():
        np.testing.assert_allclose(case.result.parameters[key], tensor.grad.numpy(), rtol=1e-6, atol=1e-7, err_msg=key)


def test_rms_norm_does_not_put_the_gain_before_the_correction() -> None:
    """With dy along x the wrong formula (PITFALLS B1) is off by more than itself."""
    random = np.random.default_rng(0)
    x = random.normal(size=X)
    case = differentiated(
        lambda g: g.output("y", g.rms_norm(g.activation("x", 6), g.parameter(GAIN))), arrays={"x": x, "d_y": x}
    )
    case.check()
    w = case.parameters["gain"][:, None]
    r = 1.0 / np.sqrt(np.mean(x[0, :, 0] ** 2, axis=0) + 1e-5)
    c = r**2 / 6 * np.sum(x[0, :, 0] ** 2 * w, axis=0)
    np.testing.assert_allclose(case.result.gradients["x"][0, :, 0], r * (w * x[0, :, 0] - x[0, :, 0] * c), rtol=1e-9)


GAIN = Parameter((6,), "ones", name="gain")


@pytest.mark.parametrize("magnitude", [0.005, 0.02, 1.0, 12.0, 300.0, 2000.0])
def test_norms_on_the_device_are_exact_at_any_magnitude(magnitude: float) -> None:
    random = np.random.default_rng(3)
    x = magnitude * random.choice([-1.0, 1.0], size=X) * random.uniform(0.5, 1.0, size=X)

    def build(g: BlockGraph) -> None:
        g.output("y", g.to_host(g.rms_norm(g.activation("x", 6), g.parameter(GAIN), 1e-5)))

    host, device = (differentiated(build, norms=norms, arrays={"x": x}).result for norms in ("host", "device"))
    for found, expected in ((device.outputs["y"], host.outputs["y"]), (device.gradients["x"], host.gradients["x"])):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    np.testing.assert_allclose(device.parameters["gain"], host.parameters["gain"], rtol=1e-6, atol=1e-9)


COMPOSED = [
    ("normalise", {"eps": 1e-5, "axis": 1, "centred": False}),
    ("normalise", {"eps": 1e-5, "axis": 1, "centred": True}),
    ("normalise", {"eps": 1e-5, "axis": 2, "centred": False}),
    ("swap_halves", {"axis": 1}),
    ("split", {"num_splits": None, "split_sizes": (1, 5, 2), "axis": 1}),
    ("split", {"num_splits": 5, "split_sizes": None, "axis": -1}),
    ("reduce_sum", {"axes": (1, -1), "keep_dims": True}),  # apart, and short
    ("reduce_sum", {"axes": None, "keep_dims": True}),  # 240 terms
    ("reduce_mean", {"axes": None, "keep_dims": True}),
    ("reduce_mean", {"axes": (2,), "keep_dims": False}),
]


@pytest.mark.parametrize("magnitude", [0.005, 0.02, 1.0, 12.0, 300.0, 2000.0])
@pytest.mark.parametrize(("name", "given"), COMPOSED)
def test_what_a_composed_op_is_written_out_as_is_what_it_means(
    name: str, given: dict[str, Any], magnitude: float
) -> None:
    op = BLOCK_OPS[name]
    assert issubclass(op, ComposedOp)
    g = Graph()
    x = magnitude * np.random.default_rng(2).normal(size=(1, 8, 6, 5))
    written = op.compose(g, g.input("x", x.shape, "fp32"), **given)
    for i, value in enumerate(written):
        g.output(f"y{i}", value)
    expected = op.meaning(x, **given)
    expected = expected if isinstance(expected, tuple) else (expected,)
    found = evaluate(g, {"x": x}, rounded=False)
    # Constants in the text are fp32; rows of equal elements get 2^-20 of their largest element's square.
    for i, truth in enumerate(expected):
        np.testing.assert_allclose(found[f"y{i}"], truth, rtol=1e-5, atol=1e-6 * np.abs(truth).max())


# ---------------------------------------------------------------- both ends of a model


def test_embedding_adds_what_repeated_ids_have() -> None:
    case = checked(
        lambda g: g.output("y", g.embedding(g.weights({"e": matrix(7, 6)}).e, ids(g))), arrays={"ids": IDS}
    )  # fmt: skip
    assert kinds(case, "e") == ["scatter"]
    dy = case.inputs["d_y"][0, :, 0]
    np.testing.assert_allclose(case.result.parameters["e"][2], dy[:, [0, 2, 4]].sum(axis=1))
    assert not case.result.parameters["e"][[1, 3, 4, 5]].any()


@pytest.mark.parametrize("chunks", [(7,), (3, 4), (2, 2, 3)])
def test_cross_entropy_in_chunks_against_torch(chunks: tuple[int, ...]) -> None:
    tree = {f"w{i}": matrix(rows, 6) for i, rows in enumerate(chunks)}

    def build(g: BlockGraph) -> None:
        x, w = g.activation("x", 6), g.weights(tree)
        logits = [g.host_linear(x, getattr(w, name)) for name in tree]
        g.output("loss", g.cross_entropy(logits, ids(g, "targets"), g.input("scale", (1,), "fp32")))

    scale = np.array([13.0])
    case = checked(build, arrays={"targets": TARGETS, "scale": scale})
    need(torch is not None, "PyTorch")
    x = torch.tensor(case.inputs["x"][0, :, 0], requires_grad=True)
    w = torch.tensor(np.concatenate([case.parameters[name] for name in tree]), requires_grad=True)
    loss = functional.cross_entropy((w @ x).T, torch.tensor(TARGETS, dtype=torch.long), ignore_index=-1)
    (loss * 13.0).backward()
    np.testing.assert_allclose(case.result.outputs["loss"], [loss.item()], rtol=1e-12)
    np.testing.assert_allclose(case.result.gradients["x"][0, :, 0], x.grad.numpy(), rtol=1e-9, atol=1e-12)
    found = np.concatenate([case.result.parameters[name] for name in tree])
    np.testing.assert_allclose(found, w.grad.numpy(), rtol=1e-9, atol=1e-12)
    assert set(case.result.gradients) == {"x"}, "scale weighs the gradient, it has none"


def test_a_large_loss_is_not_clamped_and_no_valid_target_is_no_loss() -> None:
    def build(g: BlockGraph) -> None:
        g.output("loss", g.cross_entropy(g.activation("x", 6), ids(g, "targets"), g.input("scale", (1,), "fp32")))

    x = np.zeros(X)
    x[0, 1] = 40.0  # targets are class 0 (PITFALLS B14)
    given = {"x": x, "scale": np.ones(1)}
    far = differentiated(build, arrays={**given, "targets": np.zeros(5, np.int32)})
    np.testing.assert_allclose(far.result.outputs["loss"], [40.0], rtol=1e-12)
    none = differentiated(build, arrays={**given, "targets": np.full(5, -1, np.int32)})
    assert none.result.outputs["loss"] == 0.0
    assert not none.result.gradients["x"].any()


@pytest.mark.parametrize("place", ["host", "device"])
def test_a_tied_embedding_has_the_sum_of_both_gradients(place: str) -> None:
    def build(g: BlockGraph) -> None:
        table = g.weights({"table": matrix(7, 6)}).table
        x = g.embedding(table, ids(g))
        h = g.residual(x, g.tanh(x))
        logits = g.host_linear(h, table) if place == "host" else g.to_host(g.linear(h, table))
        g.output("loss", g.cross_entropy(logits, ids(g, "targets"), g.input("scale", (1,), "fp32")))

    case = checked(build, arrays={"ids": IDS, "targets": TARGETS, "scale": np.array([3.0])})
    assert sorted(kinds(case, "table")) == ["gemm", "scatter"]


# ---------------------------------------------------------------- records


def one_weight(parameter: Parameter, forward: Forward, channels: int = 6, **options: Any) -> Case:
    def build(g: BlockGraph) -> None:
        x = g.activation("x", channels)
        g.output("y", g.to_host(forward(g, x, g.weights({"p": parameter}).p)))

    return checked(build, **options)


@pytest.mark.parametrize(
    ("parameter", "forward", "expected"),
    [
        (matrix(9, 6), lambda g, x, p: g.linear(x, p), "gemm"),
        (matrix(6, 9), lambda g, x, p: g.apply("dense", x=x, weight=p, transpose=True)[0], "gemm"),
        (matrix(9, 6), lambda g, x, p: g.host_linear(x, p), "gemm"),
        (bias(6), lambda g, x, p: g.shift(x, p), "rowsum"),
        (gain(6), lambda g, x, p: g.scale(x, p), "rowdot"),
        (gain(6), lambda g, x, p: g.rms_norm(x, p), "rowsum"),
        (matrix(6, 5), lambda g, x, p: g.mul(x, g.reshape(p, X)), "rowsum"),
    ],
)
def test_each_use_of_a_parameter_makes_one_record(parameter: Parameter, forward: Forward, expected: str) -> None:
    case = one_weight(parameter, forward)
    assert kinds(case, "p") == [expected]
    (record,) = case.derived.records
    assert (record.begin, record.end) == (0, parameter.shape[0])
    assert all(value.dtype == "fp32" for value in (record.a, record.b) if value is not None), "operands are on the host"
    assert kinds(one_weight(parameter, lambda g, x, p: forward(g, x, p) * 2.0), "p") == [expected]


@pytest.mark.parametrize("name", ["scale", "shift"])
@pytest.mark.parametrize("pairs", [0, 4])
def test_a_vector_shared_by_heads_gets_the_sum_over_heads(name: str, pairs: int) -> None:
    """[head_dim] on [1, heads, head_dim, T]: rows fold over the heads."""

    def forward(g: BlockGraph, x: Value, p: Value) -> Value:
        heads = g.reshape(x, (1, 3, 4, 5))
        return g.reshape(g.apply(name, x=heads, vector=p, axis=2)[0], (1, 12, 1, 5))

    case = one_weight(gain(4, paired_head=pairs), forward, channels=12)
    dy, x = (case.inputs[key].reshape(3, 4, 5) for key in ("d_y", "x"))
    products = (dy * x if name == "scale" else dy).sum(axis=(0, 2))  # by the place that the device sees
    order = half_split_order(4, 4) if pairs else np.arange(4)
    np.testing.assert_allclose(case.result.parameters["p"][order], products)


@pytest.mark.parametrize("pairs", [0, 4])
def test_rows_of_a_parameter_are_staged_apart(pairs: int) -> None:
    def forward(g: BlockGraph, x: Value, p: Value) -> Value:
        parts = [g.linear(x, g.staged(p, begin, end)) for begin, end in ((8, 12), (0, 8))]
        return g.concat(parts, axis=1)

    case = one_weight(matrix(16, 6, paired_head=pairs), forward)
    assert sorted((record.begin, record.end) for record in case.derived.records) == [(0, 8), (8, 12)]
    assert not case.result.parameters["p"][12:].any()
    assert case.result.parameters["p"][:12].all()


@pytest.mark.parametrize("parameter", [matrix(8, 6, paired_head=4), matrix(8, 6, paired_head=8)])
def test_rows_in_pairs_are_seen_half_split_and_their_gradient_in_stored_order(parameter: Parameter) -> None:
    case = one_weight(parameter, lambda g, x, p: g.linear(x, p))
    w, x, dy = case.parameters["p"], case.inputs["x"][0, :, 0], case.inputs["d_y"][0, :, 0]
    head = parameter.paired_head
    order = [base + i for base in range(0, 8, head) for i in (*range(0, head, 2), *range(1, head, 2))]
    np.testing.assert_allclose(case.result.outputs["y"][0, :, 0], w[order] @ x)
    np.testing.assert_allclose(case.result.parameters["p"][order], dy @ x.T)


def paired_vector(g: BlockGraph, x: Value, p: Value) -> Value:
    return g.mul(x, g.reshape(p, (1, 8, 1, 1)))


def paired_matrix(g: BlockGraph, x: Value, p: Value) -> Value:
    return g.reshape(g.matmul(p, g.reshape(x, (8, 5))), (*X[:1], 8, 1, 5))


@pytest.mark.parametrize(
    ("parameter", "forward"),
    [(gain(8, paired_head=4), paired_vector), (matrix(8, 8, paired_head=4), paired_matrix)],
)
def test_pairs_used_by_ops_of_mil_come_home_too(parameter: Parameter, forward: Forward) -> None:
    one_weight(parameter, forward, channels=8)


def test_a_parameter_of_many_uses_has_the_sum_of_their_gradients() -> None:
    """On both sides, raw, in rows, and through a vector that was computed from it."""

    def forward(g: BlockGraph, x: Value, p: Value) -> Value:
        first_column = g.reshape(g.slice_by_size(p, (0, 0), (6, 1)), (6,))
        h = g.rms_norm(g.host_linear(g.linear(x, p), p), first_column)
        raw = g.reshape(g.matmul(p, g.reshape(h, (6, 5))), X)
        return g.residual(raw, g.concat((g.linear(h, g.staged(p, 0, 3)), g.linear(x, g.staged(p, 3, 6))), axis=1))

    case = one_weight(matrix(6, 6), forward)
    assert sorted(kinds(case, "p")) == ["gemm", "gemm", "gemm", "gemm", "rowsum"]


@pytest.mark.parametrize("kind", ["gemm", "rowsum", "rowdot", "scatter"])
def test_accumulate_adds_alpha_times(kind: str) -> None:
    """Records add to what is there: their meaning, for references."""
    forwards: dict[str, tuple[Parameter, Forward]] = {
        "gemm": (matrix(9, 6), lambda g, x, p: g.linear(x, p)),
        "rowsum": (bias(6), lambda g, x, p: g.shift(x, p)),
        "rowdot": (gain(6), lambda g, x, p: g.scale(x, p)),
        "scatter": (matrix(7, 6), lambda g, x, p: g.residual(x, g.embedding(p, g.constant(IDS)))),
    }
    case = one_weight(*forwards[kind])
    (record,) = case.derived.records
    random = np.random.default_rng(1)
    a = random.normal(size=record.a.shape)
    b = None if record.b is None else IDS if kind == "scatter" else random.normal(size=record.b.shape)
    zero, once = np.zeros(record.parameter.shape), random.normal(size=record.parameter.shape)
    before = once.copy()
    accumulate(record, zero, a, b)
    accumulate(record, once, a, b, 0.25)
    assert np.abs(zero).max() > 0
    np.testing.assert_allclose(once, before + 0.25 * zero)


# ---------------------------------------------------------------- the reference


def test_the_reference_asks_for_what_is_missing_or_misshapen() -> None:
    case = one_weight(matrix(9, 6), lambda g, x, p: g.linear(x, p))
    with pytest.raises(ValueError, match=r"'d_y'.*found x"):
        reference.run(case.derived, {"x": case.inputs["x"]}, case.parameters)
    with pytest.raises(ValueError, match=r"'p' has shape \[6, 9\], expected \[9, 6\]"):
        reference.run(case.derived, case.inputs, {"p": case.parameters["p"].T})


def test_the_reference_rounds_to_the_types_when_asked() -> None:
    case = one_weight(matrix(9, 6), lambda g, x, p: g.linear(x, p))
    rounded = reference.run(case.derived, case.inputs, case.parameters, rounded=True).outputs["y"]
    w, x = (array.astype(np.float16).astype(np.float64) for array in (case.parameters["p"], case.inputs["x"][0, :, 0]))
    np.testing.assert_array_equal(rounded[0, :, 0], (w @ x).astype(np.float16))
    assert not np.array_equal(rounded, case.result.outputs["y"])


def test_another_spec_is_used_for_the_tokens() -> None:
    case = one_weight(gain(6), lambda g, x, p: g.rms_norm(x, p), s=spec(batch=3, seq=4))
    assert case.result.outputs["y"].shape == (1, 6, 1, 12)
