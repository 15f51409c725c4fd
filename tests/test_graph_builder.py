"""The builder of blocks: where values live and how they move, parameters, constants, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from anetrain.blocks import Block, build
from anetrain.cpu import half_split_order
from anetrain.graph import BlockGraph, BuildError, Parameter, Value, bias, gain, matrix, on_device, place
from anetrain.graph.parameters import named
from anetrain.spec import ModelSpec
from tests.block_graphs import differentiated, nodes_of, spec

X = (1, 6, 1, 5)
Use = Callable[[BlockGraph, Value, Any], Any]


def with_x(**options: Any) -> tuple[BlockGraph, Value]:
    g = BlockGraph(spec(), **options)
    return g, g.activation("x", 6)


# ---------------------------------------------------------------- places


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("host_add", lambda g, x: x + x),
        ("host_add", lambda g, x: x - x),
        ("host_add", lambda g, x: x + np.ones(X)),
        ("host_add", lambda g, x: x + g.constant(np.ones(X))),
        ("host_add", lambda g, x: 1.0 - x),
        ("host_add", lambda g, x: x + np.ones((1, 6, 1, 1))),
        ("host_add", lambda g, x: x + g.relu(x)),
        ("host_add", lambda g, x: g.relu(x) + x),
        ("host_add", lambda g, x: g.residual(g.relu(x), g.tanh(x))),
        ("host_scale", lambda g, x: x * 2.0),
        ("host_scale", lambda g, x: 2 * x),
        ("host_scale", lambda g, x: x * np.float32(2.0)),
        ("host_scale", lambda g, x: x / 2.0),
        ("host_scale", lambda g, x: -x),
        ("host_rms_norm", lambda g, x: g.rms_norm(x, g.parameter(Parameter((6,), "ones", name="g")))),
    ],
)
def test_sums_norms_and_scalings_of_host_values_stay_on_the_host(name: str, use: Any) -> None:
    g, x = with_x()
    y = use(g, x)
    assert y.dtype == "fp32"
    assert not on_device(y)
    assert y.producer.op.name == name
    assert place(y.producer) == "host"
    assert not nodes_of(g, "to_device") or any(node.op.name in ("relu", "tanh") for node in g.nodes)


@pytest.mark.parametrize(
    "use",
    [
        lambda g, x: x * x,
        lambda g, x: g.relu(x),
        lambda g, x: g.relu(x) + g.tanh(x),
        lambda g, x: g.relu(x) * 2.0,
        lambda g, x: 1.0 / g.exp(x),
        lambda g, x: x * g.constant(np.ones(X), dtype="fp32"),
        lambda g, x: g.concat((x, x), axis=1),
        lambda g, x: g.linear(x, g.parameter(Parameter((9, 6), name="w"))),
        lambda g, x: x * g.parameter(Parameter((6,), name="v")),
    ],
)
def test_everything_else_is_on_the_device(use: Any) -> None:
    g, x = with_x()
    y = use(g, x)
    assert on_device(y)
    assert place(y.producer) == "device"
    assert len(nodes_of(g, "to_device")) == 1, "a value goes there once"


def test_norms_go_where_the_graph_says() -> None:
    for norms, expected in (("host", "fp32"), ("device", "fp16")):
        g, x = with_x(norms=norms)
        w = g.weights({"gain": gain(6), "bias": bias(6)})
        assert g.rms_norm(x, w.gain).dtype == g.layer_norm(x, w.gain, w.bias).dtype == expected
        assert on_device(g.rms_norm(g.relu(x), w.gain)), "a device value is normed where it is"
        assert on_device(g.rms_norm(x, g.parameter(Parameter((5,), name="v")), axis=3))


def test_a_value_goes_each_way_once_and_never_back() -> None:
    g, x = with_x()
    sent = g.to_device(x)
    assert g.to_device(x) is sent
    assert g.to_device(sent) is sent
    assert g.to_host(sent) is x, "what was sent is still here, in fp32"
    y = g.relu(x)
    came = g.to_host(y)
    assert g.to_host(y) is came
    assert g.to_host(came) is came
    assert g.to_device(came) is y, "what came from there is still there"
    assert g.add(came, x) is not None
    assert g.silu(came) is not None
    assert len(nodes_of(g, "to_device")) == len(nodes_of(g, "to_host")) == 1


def test_parameters_are_staged_once_in_fp16_and_used_raw_on_the_host() -> None:
    g, x = with_x()
    w = g.weights({"w": matrix(6, 6)}).w
    g.linear(g.linear(x, w), w)
    g.host_linear(x, w)
    g.matmul(w, w)
    (staged,) = nodes_of(g, "staged")
    assert staged.outputs[0].dtype == "fp16"
    assert staged.parameters == {"begin": 0, "end": 6, "paired_head": 0}
    assert g.staged(w) is staged.outputs[0]
    assert g.staged(w, 0, 3) is not staged.outputs[0]
    assert g.staged(w, 0, 3).shape == (3, 6)
    assert nodes_of(g, "host_dense")[0].tensors["weight"] is w


def test_stages_are_counted_per_node() -> None:
    g, x = with_x()
    first = g.relu(x)
    g.stage()
    second = g.tanh(first)
    assert g.stage_of[first.producer] == 0
    assert g.stage_of[second.producer] == 1


@pytest.mark.parametrize(("precision", "expected"), [("fp16", float(np.float16(0.1))), ("fp32", 0.1)])
def test_constants_are_rounded_to_fp16_unless_the_graph_is_fp32(precision: str, expected: float) -> None:
    def forward(g: BlockGraph) -> None:
        x = g.activation("x", 6)
        g.output("y", g.to_host(g.mul(g.to_device(x), np.full(X, 0.1))))

    case = differentiated(forward, precision=precision)
    np.testing.assert_allclose(case.result.outputs["y"], case.inputs["x"] * expected, rtol=1e-12)
    np.testing.assert_allclose(case.result.gradients["x"], case.inputs["d_y"] * expected, rtol=1e-12)


# ---------------------------------------------------------------- parameters


def test_weights_are_reached_by_their_path() -> None:
    g, _ = with_x()
    w = g.weights({"norm": gain(6), "ffn": {"w1": matrix(9, 6), "deep": {"b": bias(9)}}})
    assert [known.name for known in g.parameters.values()] == ["norm", "ffn.w1", "ffn.deep.b"]
    assert g.parameters[w.ffn.w1].shape == (9, 6)
    assert g.parameters[w.ffn.deep.b].shape == (9,)
    with pytest.raises(AttributeError, match=r"no weight 'ffn\.w2'; this block has w1, deep\.b"):
        _ = w.ffn.w2
    with pytest.raises(AttributeError, match=r"no weight 'gain'; this block has norm, ffn\.w1, ffn\.deep\.b"):
        _ = w.gain
    assert not hasattr(w, "attention")


def test_first_values() -> None:
    random = np.random.default_rng(0)
    w = matrix(400, 100).initial(random)
    assert w.dtype == np.float32
    assert abs(w.std() - 0.1) < 2e-3, "1 / sqrt(fan-in), the columns (PITFALLS B6)"
    assert abs(matrix(400, 100, deviation=0.02).initial(random).std() - 0.02) < 4e-4
    assert (gain(3).initial(random) == 1).all()
    assert (bias(3).initial(random) == 0).all()
    assert matrix(2, 3).decay
    assert not gain(2).decay
    assert not bias(2).decay
    assert matrix(2, 3).size == 6


def test_half_split_order_puts_each_pair_half_a_head_apart() -> None:
    order = half_split_order(12, 6)
    assert order.tolist() == [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]
    stored = np.arange(12).reshape(2, 3, 2)  # head, pair, side
    np.testing.assert_array_equal(stored.ravel()[order].reshape(2, 2, 3), stored.transpose(0, 2, 1))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: matrix(6, 4, paired_head=4), r"6 rows in heads of 4"),
        (lambda: matrix(6, 4, paired_head=3), r"6 rows in heads of 3.*even"),
        (lambda: matrix(0, 4), r"\[0, 4\].*positive"),
        (lambda: matrix(4, 0), r"\[4, 0\].*positive"),
        (lambda: matrix(4, 2.5), r"\[4, 2\.5\].*whole"),
        (lambda: gain(-1), r"\[-1\].*positive"),
        (lambda: Parameter((1, 1, 1, 1, 1, 1)), r"1 to 5"),
        (lambda: list(named({"a": {"b c": gain(2)}})), r"weight 'a\.b c': a name is"),
        (lambda: list(named({"a": {"b": np.ones(3)}})), r"weight 'a\.b' is ndarray, expected matrix\(\)"),
    ],
)
def test_bad_parameters_are_refused_where_they_are_made(make: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        make()


# ---------------------------------------------------------------- what the builder refuses

TREE = {"w": matrix(9, 6), "g": gain(6), "five": gain(5), "pairs": matrix(8, 6, paired_head=4)}

REFUSED: dict[str, tuple[Use, str]] = {
    "linear, channels": (
        lambda g, x, w: g.linear(g.linear(x, w.w), w.w),
        r"\[dense\] weight takes 6 channels, x has 9.*x fp16 \[1, 9, 1, 5\], weight fp16 \[9, 6\]",
    ),
    "linear, form of x": (
        lambda g, x, w: g.linear(g.reshape(x, (1, 6, 5, 1)), w.w),
        r"\[dense\] x has shape \[1, 6, 5, 1\], expected \[1, 6, 1, T\]",
    ),
    "linear, rank of x": (lambda g, x, w: g.linear(g.reshape(x, (6, 5)), w.w), r"\[dense\] x has rank 2"),
    "linear, a vector": (lambda g, x, w: g.linear(x, w.g), r"\[dense\] weight has rank 1.*weight fp16 \[6\]"),
    "host_linear, channels": (
        lambda g, x, w: g.host_linear(g.host_linear(x, w.w), w.w),
        r"\[host_dense\] weight takes 6 channels, x has 9",
    ),
    "host_linear, a vector": (lambda g, x, w: g.host_linear(x, w.g), r"\[host_dense\] weight has rank 1"),
    "host_linear, computed": (
        lambda g, x, w: g.host_linear(x, g.tanh(w.w)),
        r"\[host_linear\] weight is tanh_0, which is computed",
    ),
    "embedding, computed": (
        lambda g, x, w: g.embedding(g.staged(w.w), np.arange(5)),
        r"\[embedding\] table is staged_0, which is computed",
    ),
    "embedding, a vector": (
        lambda g, x, w: g.embedding(w.g, np.arange(5)),
        r"\[embedding\] table has shape \[6\], expected \[V, C\]",
    ),
    "embedding, ids": (
        lambda g, x, w: g.embedding(w.w, x),
        r"\[embedding\] ids is fp32 \[1, 6, 1, 5\], expected int tensor",
    ),
    "embedding, form of ids": (
        lambda g, x, w: g.embedding(w.w, np.zeros((1, 5), np.int32)),
        r"\[embedding\] ids has shape \[1, 5\], expected \[T\]",
    ),
    "host sum": (
        lambda g, x, w: g.residual(x, g.host_linear(x, w.w)),
        r"\[host_add\] y has shape \[1, 9, 1, 5\], x has \[1, 6, 1, 5\]",
    ),
    "host sum with a vector": (lambda g, x, w: x + w.g, r"\[host_add\] y has shape \[6\].*g\.shift adds a vector"),
    "device sum": (lambda g, x, w: g.relu(x) + g.linear(x, w.w), r"\[add\] y shapes \[1, 6, 1, 5\] and \[1, 9, 1, 5\]"),
    "host sum with an array": (lambda g, x, w: x + np.ones(4), r"\[host_add\] y has shape \[4\], x has"),
    "no tensor": (lambda g, x, w: g.scale(x, gain(6)), r"\[scale\] vector takes a tensor, found Parameter\(shape=\(6,"),
    "scale": (lambda g, x, w: g.scale(x, w.five), r"\[scale\] vector has shape \[5\], expected \[6\], axis 1"),
    "shift, axis": (lambda g, x, w: g.shift(x, w.g, axis=4), r"\[shift\] axis 4 is outside"),
    "rms_norm": (lambda g, x, w: g.rms_norm(x, w.five), r"\[host_rms_norm\] gain has shape \[5\], expected \[6\]"),
    "rms_norm, form": (
        lambda g, x, w: g.rms_norm(g.to_host(g.reshape(x, (6, 5))), w.five),
        r"\[host_rms_norm\] x has shape \[6, 5\], expected \[1, C, 1, T\]",
    ),
    "layer_norm": (lambda g, x, w: g.layer_norm(x, w.g, w.five), r"\[host_layer_norm\] bias has shape \[5\]"),
    "layer_norm, form": (
        lambda g, x, w: g.layer_norm(g.to_host(g.reshape(x, (1, 6, 5, 1))), w.g, w.g),
        r"\[host_layer_norm\] x has shape \[1, 6, 5, 1\]",
    ),
    "targets": (
        lambda g, x, w: g.cross_entropy(x, np.arange(4), np.ones(1)),
        r"\[cross_entropy\] targets has shape \[4\], expected \[5\]",
    ),
    "scale of the loss": (
        lambda g, x, w: g.cross_entropy(x, np.arange(5), np.ones(2)),
        r"\[cross_entropy\] scale has shape \[2\], expected \[1\]",
    ),
    "no logits": (
        lambda g, x, w: g.cross_entropy([], np.arange(5), np.ones(1)),
        r"\[cross_entropy\] logits has no chunk",
    ),
    "form of logits": (
        lambda g, x, w: g.cross_entropy(g.to_host(g.reshape(x, (1, 6, 5, 1))), np.arange(5), np.ones(1)),
        r"\[cross_entropy\] logits has shape \[1, 6, 5, 1\]",
    ),
    "rows": (lambda g, x, w: g.staged(w.w, 4, 10), r"\[staged\] begin rows 4 to 10 do not lie in fp32 \[9, 6\]"),
    "no rows": (lambda g, x, w: g.staged(w.w, 4, 4), r"\[staged\] begin rows 4 to 4"),
    "rows that cut a head": (
        lambda g, x, w: g.staged(w.pairs, 2, 6),
        r"\[staged\] begin rows 2 to 6 cut a head of 4 rows",
    ),
    "staged, no parameter": (lambda g, x, w: g.staged(x), r"\[staged\] x is not a parameter"),
    "fp32 on the device": (lambda g, x, w: g.cast(g.relu(x), "fp32"), r"\[cast\] makes fp32 on the device.*to_host"),
    "too large for fp16": (lambda g, x, w: g.mul(g.relu(x), 1e6), r"not finite in fp16"),
    "not a number": (lambda g, x, w: x * float("nan"), r"\[host_scale\] alpha is nan"),
    "a name twice": (lambda g, x, w: g.activation("x", 6), r"the name 'x' is taken"),
    "a parameter twice": (lambda g, x, w: g.weights({"w": matrix(9, 6)}), r"the name 'p_w' is taken"),
    "no argument of the op": (
        lambda g, x, w: g.apply("dense", x=x, weight=w.w, bias=w.g),
        r"\[dense\] has no argument 'bias'",
    ),
    "argument missing": (lambda g, x, w: g.apply("dense", x=x), r"\[dense\] the argument 'weight' is missing"),
    "an input as output": (lambda g, x, w: g.output("y", x), r"already an input named 'x'"),
    "a name of an output twice": (
        lambda g, x, w: [g.output("y", x * 2.0), g.output("y", x * 3.0)],
        r"the name 'y' is taken",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_mistakes_are_refused_on_the_line_that_made_them(name: str) -> None:
    use, expected = REFUSED[name]
    g, x = with_x()
    with pytest.raises(BuildError, match=expected):
        use(g, x, g.weights(TREE))


FOREIGN: dict[str, Use] = {
    "host op": lambda g, x, other: g.residual(x, other),
    "device op": lambda g, x, other: g.relu(other),
    "several": lambda g, x, other: g.concat((g.relu(x), other), axis=1),
    "to_device": lambda g, x, other: g.to_device(other),
    "to_host": lambda g, x, other: g.to_host(other.graph.relu(other)),
    "output": lambda g, x, other: g.output("y", other * 2.0),
    "embedding": lambda g, x, other: g.embedding(other, np.arange(5)),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_value_of_another_graph_is_refused(name: str) -> None:
    g, x = with_x()
    _, other = with_x()
    with pytest.raises(BuildError, match="belongs to another graph"):
        FOREIGN[name](g, x, other)


# ---------------------------------------------------------------- blocks and specs


class Wrong(Block):
    def __init__(self, forward: Use) -> None:
        self.use = forward

    def weights(self, s: ModelSpec) -> dict[str, Parameter]:
        return {"w": matrix(s.dim, s.dim)}

    def forward(self, g: BlockGraph, x: Value, w: Any) -> Value:
        return self.use(g, x, w)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("use", "error", "expected"),
    [
        (lambda g, x, w: x, ValueError, "Wrong.forward returns its input"),
        (lambda g, x, w: g.to_host(g.to_device(x)), ValueError, "Wrong.forward returns its input"),
        (lambda g, x, w: None, ValueError, "Wrong.forward returns None, expected a value"),
        (lambda g, x, w: with_x()[1] * 2.0, BuildError, "another graph"),
        (lambda g, x, w: g.linear(x, w.weight), AttributeError, "no weight 'weight'; this block has w"),
    ],
)
def test_wrong_blocks_are_refused(use: Use, error: type[Exception], expected: str) -> None:
    with pytest.raises(error, match=expected):
        build(Wrong(use), spec())


def test_a_block_without_its_two_functions_says_which() -> None:
    with pytest.raises(TypeError, match="Block defines no weights"):
        Block().weights(spec())
    g, x = with_x()
    with pytest.raises(TypeError, match="Block defines no forward"):
        Block().forward(g, x, None)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        *(
            (name, 0, f"{name} is 0, expected a positive")
            for name in ("dim", "hidden", "layers", "vocab", "seq", "batch")
        ),
        ("dim", 64.0, r"dim is 64\.0, expected a positive whole number"),
        ("batch", True, "batch is True"),
        ("heads", -2, "heads is -2"),
        ("kv_heads", 4, "heads is 2, expected a multiple of kv_heads, 4"),
        ("head_dim", 5, "head_dim is 5; RoPE needs an even one"),
        ("rope", "spiral", "rope is 'spiral', expected 'interleaved', 'half' or 'none'"),
        ("norm_eps", 0.0, r"norm_eps is 0\.0, expected a positive number"),
        ("norm_eps", float("nan"), "norm_eps is nan"),
        ("rope_base", -1.0, r"rope_base is -1\.0"),
        ("residual_scale", float("inf"), "residual_scale is inf"),
        ("residual_scale", "1", "residual_scale is '1'"),
    ],
)
def test_bad_specs_name_the_field_and_what_it_should_be(field: str, value: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        spec(**{field: value})


def test_what_a_spec_derives() -> None:
    s = spec(batch=3)
    assert s.tokens == 15
    assert s.paired_head == 4
    assert spec(rope="half").paired_head == spec(rope="none").paired_head == 0
    assert spec(rope="none", head_dim=5).head_dim == 5
