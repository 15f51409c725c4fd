"""Backward of whole graphs: gradients against float64 differences, what is left in the graph, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from anetrain import reference
from anetrain.autodiff import AutodiffError, Derived, differentiate
from anetrain.blocks import Classifier, Embedding, GeluFFN, LlamaBlock
from anetrain.graph import BlockGraph, BuildError, Parameter, Value, gain, matrix, on_device, place
from anetrain.mil.meaning import compute
from anetrain.mil.ops import OPS
from anetrain.mil.ops.base import e5rt
from tests.block_graphs import RandomBlock, checked, differentiated, graph_of, kinds, nodes_of, spec

X = (1, 6, 1, 5)
V = Parameter((6,), "ones", name="v")
SEEDS = range(24)


def on_x(forward: Any) -> Any:
    """A graph of one input and one output."""
    return lambda g: g.output("y", g.to_host(forward(g, g.activation("x", 6))))


# ---------------------------------------------------------------- whole graphs


@pytest.mark.parametrize("seed", SEEDS)
def test_random_graphs(seed: int) -> None:
    norms = ("host", "device")[seed % 2]
    case = checked(RandomBlock(seed, 12), seed=seed, norms=norms)
    sources = {value: case.inputs[value.name] for value in case.plain.inputs}
    sources |= {value: case.parameters[known.name] for value, known in case.plain.parameters.items()}
    values = compute(case.plain, sources, rounded=False, exact=True)
    for output in case.plain.outputs:
        np.testing.assert_array_equal(case.result.outputs[output.name], values[output], "forward is what it was")
    assert_tidy(case.derived)


def test_random_graphs_have_everything_in_them() -> None:
    found: set[str] = set()
    for seed in SEEDS:
        found |= {node.op.name for node in graph_of(RandomBlock(seed, 12)).nodes}
    assert found >= {
        *("relu", "sigmoid", "tanh", "silu", "exp", "sqrt", "pow", "real_div", "add", "sub", "mul", "softmax"),
        *("reduce_sum", "reduce_mean", "reduce_max", "concat", "slice_by_size", "slice_by_index", "reshape"),
        *("transpose", "matmul", "dense", "scale", "shift", "staged", "to_device", "to_host"),
        *("host_add", "host_scale", "host_rms_norm", "host_layer_norm"),
    }


def assert_tidy(derived: Derived) -> None:
    """Nothing dead, nothing twice, everything before its use, everything where it belongs."""
    graph = derived.graph
    known = {*graph.inputs, *graph.parameters}
    keys = []
    for node in graph.nodes:
        assert all(value in known or value.data is not None for value in node.operands), (
            f"{node.op.name} comes too early"
        )
        known.update(node.outputs)
        if not any(output in graph.outputs for output in node.outputs):
            keys.append((node.op.name, tuple(map(content, node.operands)), tuple(node.parameters.items())))
        if place(node) == "host":
            moving = node.op.name in ("to_host", "staged")
            assert moving or not any(on_device(value) for value in node.operands), f"{node.op.name} reads the device"
        else:
            assert all(on_device(v) or v.data is not None or node.op.name == "staged" for v in node.operands)
    assert len(keys) == len(set(keys)), "equal nodes are one"
    for name in ("to_device", "to_host"):
        moved = [(node.operands[0], *node.parameters.values()) for node in nodes_of(graph, name)]
        assert len(moved) == len(set(moved)), "a value goes each way once"
    used = {value for node in graph.nodes for value in node.operands} | set(derived.results)
    assert all(any(output in used for output in node.outputs) for node in graph.nodes), "every node is needed"
    assert derived.forward_nodes <= set(graph.nodes)


def content(value: Value) -> object:
    return value if value.data is None else (value.type, value.data.tobytes())


@pytest.mark.parametrize("norms", ["host", "device"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_model_of_two_layers(norms: str, tied: bool) -> None:
    """Grouped queries, RoPE in pairs, two sequences, a residual scale, an ignored target; the classifier in chunks."""
    s = spec(batch=2, seq=3, layers=2, tied=tied, residual_scale=0.6)
    random = np.random.default_rng(5)
    arrays = {"ids": random.integers(0, 7, 6), "targets": np.array([1, 4, -1, 0, 6, 6]), "scale": np.array([50.0])}

    def build(g: BlockGraph) -> None:
        layers = [LlamaBlock(), LlamaBlock(ffn=GeluFFN())]
        classifier = Classifier("device", chunk_rows=4)
        tree = {f"layer{i}": layer.weights(s) for i, layer in enumerate(layers)}
        w: Any = g.weights({**Embedding().weights(s), **tree, **classifier.weights(s)})
        x = Embedding().forward(g, g.input("ids", (6,), "int32"), w)
        for i, layer in enumerate(layers):
            x = layer.forward(g, x, getattr(w, f"layer{i}"))
        targets, scale = g.input("targets", (6,), "int32"), g.input("scale", (1,), "fp32")
        g.output("loss", classifier.loss(g, x, w, targets, scale))

    case = checked(build, s, arrays=arrays, norms=norms)
    assert_tidy(case.derived)
    assert case.derived.seeds == {}, "a loss brings its own gradient"
    assert case.derived.gradients == {}, "no input has one"
    expected = ["gemm", "gemm", "scatter"] if tied else ["scatter"]
    assert sorted(kinds(case, "embedding")) == expected


def test_several_outputs_each_with_a_seed_one_of_them_used_by_another() -> None:
    def build(g: BlockGraph) -> None:
        x, z = g.activation("x", 6), g.activation("z", 6)
        first = g.output("first", g.to_host(g.silu(x)))
        g.output("second", g.residual(first, g.tanh(g.mul(first, z))))
        g.output("third", g.rms_norm(z, g.weights({"g": gain(6)}).g))

    case = checked(build)
    assert {value.name for value in case.derived.seeds.values()} == {"d_first", "d_second", "d_third"}
    assert {value.name for value in case.derived.gradients} == {"x", "z"}


def test_two_losses_and_a_value_beside_them() -> None:
    def build(g: BlockGraph) -> None:
        x, scale = g.activation("x", 6), g.input("scale", (1,), "fp32")
        near = g.output("near", g.cross_entropy(x, np.array([1, 2, 3, 4, 5]), scale))
        far = g.output("far", g.cross_entropy(g.to_host(g.tanh(x)), np.array([5, 4, -1, 2, 1]), scale))
        assert near.shape == far.shape == (1,)
        g.output("y", x * 0.3)

    case = checked(build, arrays={"scale": np.array([7.0])})
    assert [value.name for value in case.derived.seeds.values()] == ["d_y"]


# ---------------------------------------------------------------- which gradients


def three_inputs(g: BlockGraph) -> None:
    a, b, c = (g.activation(name, 6) for name in "abc")
    w: Any = g.weights({"used": matrix(6, 6), "idle": matrix(6, 6)})
    g.relu(c)
    g.linear(c, w.idle)
    g.output("y", g.residual(a, g.linear(g.silu(b), w.used)))


def test_what_no_output_depends_on_has_no_gradient_and_no_node() -> None:
    case = differentiated(three_inputs)
    graph = case.derived.graph
    assert_tidy(case.derived)
    assert {value.name for value in case.derived.gradients} == {"a", "b"}
    assert not nodes_of(graph, "relu")
    assert not [node for node in graph.nodes if any(value.name in ("c", "p_idle") for value in node.operands)]
    assert [graph.parameters[record.parameter].name for record in case.derived.records] == ["used"]
    assert not case.result.parameters["idle"].any()


def test_only_the_gradients_that_were_asked_for_are_derived() -> None:
    g = graph_of(three_inputs)
    derived = differentiate(g, wrt=[g.inputs[0]])
    assert [value.name for value in derived.gradients] == ["a"]
    assert len(nodes_of(g, "dense")) == 1, "dx of the linear is for b, which nobody asked for"
    assert [record.kind for record in derived.records] == ["gemm"], "parameters always have one"
    assert derived.gradients[g.inputs[0]] is derived.seeds[g.outputs[0]], "of a residual: the seed itself"


def test_ids_targets_and_the_scale_of_a_loss_have_no_gradient() -> None:
    def build(g: BlockGraph) -> None:
        table = g.weights({"t": matrix(7, 6)}).t
        ids, scale = g.input("ids", (5,), "int32"), g.input("scale", (1,), "fp32")
        g.output("loss", g.cross_entropy(g.embedding(table, ids), ids, scale))

    derived = differentiate(graph_of(build))
    assert derived.gradients == {}
    assert [record.kind for record in derived.records] == ["scatter"]


def test_detached_stops_gradients_there_and_nowhere_else() -> None:
    def build(g: BlockGraph) -> None:
        x, z = g.activation("x", 6), g.activation("z", 6)
        factor = g.detached(g.tanh(x))
        g.output("y", g.to_host(g.add(g.mul(factor, g.silu(x)), g.detached(z))))

    case = differentiated(build)
    assert "z" not in case.result.gradients
    assert not any(
        node.op.name == "tanh" and node not in case.derived.forward_nodes for node in case.derived.graph.nodes
    )
    x, dy = case.inputs["x"], case.inputs["d_y"]
    sigmoid = 1.0 / (1.0 + np.exp(-x))
    np.testing.assert_allclose(case.result.gradients["x"], dy * np.tanh(x) * sigmoid * (1.0 + x * (1.0 - sigmoid)))
    np.testing.assert_allclose(case.result.outputs["y"], np.tanh(x) * x * sigmoid + case.inputs["z"])


def test_a_detached_parameter_has_no_record() -> None:
    def build(g: BlockGraph) -> None:
        w = g.weights({"w": matrix(6, 6)}).w
        g.output("y", g.to_host(g.linear(g.activation("x", 6), g.detached(w))))

    assert not differentiate(graph_of(build)).records


# ---------------------------------------------------------------- what is left in the graph


def test_equal_expressions_become_one_node() -> None:
    def forward(g: BlockGraph, x: Value) -> Value:
        first = g.mul(g.silu(x), np.full(X, 0.25))
        second = g.mul(g.silu(x), np.full(X, 0.25))
        return g.add(first, g.mul(second, second))

    case = checked(on_x(forward))
    assert len(nodes_of(case.plain, "silu")) == 2
    assert len(nodes_of(case.derived.graph, "silu")) == 1
    weights = {id(v) for node in case.derived.graph.nodes for v in node.operands if v.data is not None and v.shape == X}
    assert len(weights) == 1, "equal constants are one, too"


@pytest.mark.parametrize(
    "forward",
    [
        lambda g, x: g.mul(g.softmax(x, axis=1), g.softmax(x, axis=3)),
        lambda g, x: g.mul(g.reduce_sum(x, axes=(1,), keep_dims=True), g.reduce_sum(x, axes=(3,), keep_dims=True)),
        lambda g, x: g.residual(g.residual(x, x, 0.5), g.residual(x, x, 0.25), 3.0),
        lambda g, x: g.residual(x * 2.0, g.mul(g.host_scale(x, 3.0), x)),
        lambda g, x: g.mul(g.mul(x, np.full(X, 0.25)), g.mul(x, np.full(X, 0.5))),
        lambda g, x: g.mul(g.scale(x, g.parameter(V), axis=1), g.add(g.to_device(x), 0.5)),
        lambda g, x: g.concat([g.slice_by_size(x, (0, at, 0, 0), (1, 3, 1, 5)) for at in (0, 3)], axis=1),
    ],
)
def test_what_differs_in_a_parameter_or_a_constant_stays_apart(forward: Any) -> None:
    assert_tidy(checked(on_x(forward)).derived)


def test_rows_in_pairs_and_as_they_are_are_two_values() -> None:
    """The same upstream gradient is read in two orders."""

    def build(g: BlockGraph) -> None:
        x = g.activation("x", 6)
        w: Any = g.weights({"paired": matrix(8, 6, paired_head=4), "plain": matrix(8, 6)})
        g.output("y", g.to_host(g.add(g.linear(x, w.paired), g.linear(x, w.plain))))

    case = checked(build)
    a = {case.derived.graph.parameters[record.parameter].name: record.a for record in case.derived.records}
    assert a["paired"] is not a["plain"]
    assert a["plain"].name == "d_y", "the seed never left"
    assert [node.parameters["paired_head"] for node in nodes_of(case.derived.graph, "to_host")].count(4) == 1


def test_outputs_that_are_equal_keep_their_names() -> None:
    def build(g: BlockGraph) -> None:
        x = g.activation("x", 6)
        inner = g.residual(x, g.relu(x))
        g.output("first", g.residual(x, g.relu(x)))
        g.output("second", g.residual(x, g.relu(x)))
        g.output("third", g.to_host(g.tanh(inner)))

    case = checked(build)
    assert list(case.result.outputs) == ["first", "second", "third"]
    np.testing.assert_array_equal(case.result.outputs["first"], case.result.outputs["second"])
    assert len([node for node in nodes_of(case.derived.graph, "relu") if node in case.derived.forward_nodes]) == 1


def test_backward_reuses_what_forward_moved() -> None:
    """x and the seed go to the device once, the result of forward is not computed again."""

    def build(g: BlockGraph) -> None:
        x = g.activation("x", 6)
        w: Any = g.weights({"w": matrix(6, 6)})
        h = g.tanh(g.linear(x, w.w))
        g.output("y", g.residual(g.to_host(g.mul(h, h)), g.linear(g.silu(x), w.w)))

    case = checked(build)
    graph = case.derived.graph
    assert len(nodes_of(graph, "tanh")) == len(nodes_of(graph, "staged")) == 1
    assert sorted(node.operands[0].name for node in nodes_of(graph, "to_device")) == ["d_y", "x"]
    assert not [node for node in nodes_of(graph, "to_host") if node.operands[0].producer.op.name == "to_device"]


def test_gradients_of_the_residual_stream_are_summed_in_fp32() -> None:
    """PITFALLS B15: what the layers add to the stream, and to its gradient, is added on the host."""

    def build(g: BlockGraph) -> None:
        x = g.activation("x", 6)
        w: Any = g.weights({"a": matrix(6, 6), "b": matrix(6, 6)})
        for weight in (w.a, w.b):
            x = g.residual(x, g.tanh(g.linear(x, weight)))
        g.output("y", x)

    case = checked(build)
    graph = case.derived.graph
    assert not [node for node in nodes_of(graph, "add") if node in case.derived.forward_nodes]
    assert len(nodes_of(graph, "host_add")) == 4, "two forward, two backward"
    gradient = case.derived.gradients[graph.inputs[0]]
    assert gradient.dtype == "fp32"
    assert gradient.producer.op.name == "host_add"
    assert all(not on_device(value) for value in gradient.producer.operands)


def test_gradients_of_a_device_value_are_summed_on_the_device() -> None:
    def forward(g: BlockGraph, x: Value) -> Value:
        h = g.tanh(x)
        return g.mul(g.silu(h), g.exp(h))

    graph = checked(on_x(forward)).derived.graph
    assert not nodes_of(graph, "host_add")
    assert len(nodes_of(graph, "to_host")) == 2, "y and dx"


def test_derivatives_belong_to_the_stage_of_their_op() -> None:
    def build(g: BlockGraph) -> None:
        x = g.activation("x", 6)
        h = g.silu(g.linear(x, g.weights({"w": matrix(6, 6)}).w))
        g.stage()
        h = g.softmax(h, axis=1)
        g.stage()
        g.output("y", g.to_host(g.exp(h)))

    derived = differentiate(graph_of(build))
    stages = derived.graph.stage_of
    backward = [stages[node] for node in derived.graph.nodes if node not in derived.forward_nodes]
    assert set(backward) == {0, 1, 2}
    assert backward == sorted(backward, reverse=True)
    assert [stages[node] for node in nodes_of(derived.graph, "dense")] == [0, 0]


# ---------------------------------------------------------------- what cannot be derived


@pytest.mark.parametrize(
    ("name", "forward"),
    [
        ("topk", lambda g, x: g.topk(x, k=2, axis=1)[0]),
        ("floor", lambda g, x: g.floor(x)),
        ("sign", lambda g, x: g.mul(g.sign(x), x)),
        ("round", lambda g, x: g.add(g.round(x), x)),
    ],
)
def test_an_op_without_derivative_is_named(name: str, forward: Any) -> None:
    g = graph_of(on_x(forward))
    with pytest.raises(AutodiffError, match=rf"\[{name}\] has no derivative: .+; it makes {name}_0, fp16 \[.*detached"):
        differentiate(g)


def test_an_op_without_derivative_does_no_harm_where_no_gradient_flows() -> None:
    case = checked(on_x(lambda g, x: g.mul(x, g.detached(g.sign(x)))))
    np.testing.assert_array_equal(case.result.gradients["x"], case.inputs["d_y"] * np.sign(case.inputs["x"]))


def test_an_index_has_no_gradient_and_is_no_output() -> None:
    def build(g: BlockGraph) -> None:
        g.output("y", g.reduce_argmax(g.activation("x", 6), axis=1))

    with pytest.raises(AutodiffError, match=r"output 'y' is int32 .*it has no gradient"):
        differentiate(graph_of(build))


def test_a_backward_that_needs_an_unproven_op_names_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OPS["sigmoid"], "evidence", e5rt())
    build = on_x(lambda g, x: g.silu(x))
    with pytest.raises(AutodiffError, match=r"derivative of silu \(silu_0\) needs sigmoid.*\(e5rt\).*allow_unproven"):
        differentiate(graph_of(build))
    assert differentiate(graph_of(build), allow_unproven=True).gradients


def test_so_does_one_whose_forward_is_unproven_already() -> None:
    build = on_x(lambda g, x: g.sin(x))
    with pytest.raises(AutodiffError, match=r"derivative of sin \(sin_0\) needs cos"):
        differentiate(graph_of(build))
    derived = differentiate(graph_of(build), allow_unproven=True)
    x, dy = np.full(X, 0.3), np.full(X, 2.0)
    result = reference.run(derived, {"x": x, "d_y": dy}, {})
    np.testing.assert_allclose(result.gradients["x"], 2.0 * np.cos(0.3) * np.ones(X))


def test_a_loss_is_an_output_and_nothing_else() -> None:
    def loss(g: BlockGraph) -> Value:
        return g.cross_entropy(g.activation("x", 6), np.arange(5), g.input("scale", (1,), "fp32"))

    def both(g: BlockGraph) -> None:
        value = g.output("loss", loss(g))
        g.output("twice", g.host_scale(value, 2.0))

    for build in (lambda g: g.output("y", g.host_scale(loss(g), 2.0)), both):
        with pytest.raises(AutodiffError, match=r"\[cross_entropy\].*`scale` weighs it"):
            differentiate(graph_of(build))


def test_pairs_must_lie_where_rows_are() -> None:
    def forward(g: BlockGraph, x: Value) -> Value:
        v = g.weights({"v": gain(6, paired_head=2)}).v
        return g.reshape(g.scale(g.transpose(x, (0, 2, 3, 1)), v, axis=3), X)

    with pytest.raises(AutodiffError, match=r"\[scale\].*RoPE pairs, and axis 3 of \[1, 1, 5, 6\]"):
        differentiate(graph_of(on_x(forward)))


def test_a_graph_needs_an_output_on_the_host() -> None:
    with pytest.raises(AutodiffError, match=r"no output: declare one with g\.output"):
        differentiate(graph_of(lambda g: g.relu(g.activation("x", 6))))
    with pytest.raises(AutodiffError, match=r"output 'y' is fp16 \[1, 6, 1, 5\] on the device; end with g\.to_host"):
        differentiate(graph_of(lambda g: g.output("y", g.relu(g.activation("x", 6)))))


def test_wrt_are_inputs_of_the_graph() -> None:
    def build(g: BlockGraph) -> None:
        g.output("y", g.embedding(g.weights({"t": matrix(7, 6)}).t, g.input("ids", (5,), "int32")))

    g, other = graph_of(build), graph_of(on_x(lambda g, x: g.relu(x)))
    for value in (g.inputs[0], g.outputs[0], other.inputs[0]):
        with pytest.raises(AutodiffError, match=rf"wrt: .*{value.name}.* is not a floating-point input"):
            differentiate(g, wrt=[value])


def test_the_name_of_a_seed_may_not_be_taken() -> None:
    def build(g: BlockGraph) -> None:
        g.activation("d_y", 6)
        g.output("y", g.activation("x", 6) * 2.0)

    with pytest.raises(BuildError, match="'d_y' is taken"):
        differentiate(graph_of(build))
