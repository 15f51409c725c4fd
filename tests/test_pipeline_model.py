"""Whole models of any blocks: gradients, shared programs, padding, failures, the loss falling."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from anetrain import reference
from anetrain.autodiff import differentiate
from anetrain.blocks import (
    Block,
    Classifier,
    Embedding,
    GeluFFN,
    LlamaBlock,
    build,
    build_embedding,
    build_loss,
    matrix,
)
from anetrain.errors import CompileError
from anetrain.graph import BlockGraph, Parameter, Value
from anetrain.lower import LAYOUTS, Layout, lower
from anetrain.lower.plan import Receive, Send
from anetrain.mil.types import Array
from anetrain.model import Model
from anetrain.pipeline import CompiledPlan, PlanError, Stack
from anetrain.spec import ModelSpec
from tests.ane_abi import ROOT
from tests.small_models import SPEC, batch, copied, model_of, step
from tests.support import emulator


def reference_loss(model: Model, parameters: dict[str, Array], ids: Array, targets: Array) -> float:
    """The chain of the blocks' forward functions in float64, on sequences as long as they are."""
    x: Array = np.zeros(0)
    for prefix, block in model.parts:
        if isinstance(block, Embedding):
            graph = build_embedding(model.spec)
        elif isinstance(block, Classifier):
            graph = build_loss(block, model.spec, precision="fp32")
        else:
            graph = build(block, model.spec, precision="fp32")
        derived = differentiate(graph)
        own = {known.name: parameters[prefix + known.name] for known in graph.parameters.values()}
        given = {"ids": ids.ravel(), "targets": targets.ravel(), "scale": np.ones(1), "x": x}
        inputs = {v.name: given.get(v.name, np.zeros(v.shape)) for v in graph.inputs}
        outputs = reference.run(derived, inputs, own).outputs
        x = outputs.get("y", outputs.get("loss"))  # type: ignore[assignment]
    return float(x[0])


CHUNKED = Classifier("device", chunk_rows=25)


@pytest.mark.parametrize(
    ("tied", "classifier", "layout"),
    [(True, None, "stacked"), (False, None, "separate"), (True, CHUNKED, "stacked"), (False, CHUNKED, "baked")],
)
def test_gradients_are_differences_of_the_loss(tied: bool, classifier: Classifier | None, layout: Layout) -> None:
    """Of sequences that are padded on the device and are not in the reference."""
    spec = replace(SPEC, tied=tied)
    blocks = [LlamaBlock(), GeluFFN(), LlamaBlock()]  # plans that share no scratch
    pipeline = model_of(spec, blocks, classifier, layout=layout, fp32=True)
    model = pipeline.model
    ids, targets = batch(spec)
    loss = step(pipeline, ids, targets)
    wide = {name: array.astype(np.float64) for name, array in pipeline.weights.items()}
    assert abs(loss - reference_loss(model, wide, ids, targets)) < 1e-5
    assert ("classifier" in wide) is not tied
    rng = np.random.default_rng(6)
    for name in wide:
        direction = rng.standard_normal(wide[name].shape)
        small = 1e-5 * direction
        ahead, behind = ({**wide, name: wide[name] + sign * small} for sign in (1, -1))
        expected = (reference_loss(model, ahead, ids, targets) - reference_loss(model, behind, ids, targets)) / 2e-5
        found = float(np.sum(pipeline.gradients[name] * direction))
        scale = float(np.linalg.norm(pipeline.gradients[name]))  # a random direction may be almost orthogonal
        assert abs(found - expected) < 1e-4 * max(scale, abs(expected)), name


def test_equal_blocks_share_programs_and_scratch_and_neighbours_share_arrays() -> None:
    device = emulator()
    before = device.counters().compiles
    model = model_of(device=device)
    embedding, first, second, head = model.stack.layers
    assert first.compiled is second.compiled
    assert device.counters().compiles - before == first.compiled.compiles == 4
    for left, right in ((embedding, first), (first, second), (second, head)):
        assert right.inputs["x"] is left.outputs["y"]
        assert right.input_gradients["x"] is left.seeds["y"]
    step(model, *batch())
    first.traffic.clear()
    step(model, *batch())
    assert first.traffic.staged_bytes == 0
    assert first.traffic.dispatches == 4


class Small(Block):
    """Blocks that differ in one thing each."""

    def __init__(self, constant: float = 0.5, axis: int = 1, residual: float = 1.0, cut: bool = False) -> None:
        self.constant, self.axis, self.residual, self.cut = constant, axis, residual, cut

    def weights(self, s: ModelSpec) -> dict[str, Parameter]:
        return {"w": matrix(s.dim, s.dim)}

    def forward(self, g: BlockGraph, x: Value, w: Any) -> Value:
        h = g.softmax(g.linear(x, w.w), axis=self.axis) * self.constant
        if self.cut:
            g.stage()
        return g.residual(x, g.linear(h, w.w), self.residual)


@pytest.mark.parametrize("other", [{"constant": 0.25}, {"axis": 3}, {"residual": 0.5}, {"cut": True}])
def test_blocks_that_differ_do_not_share(other: dict[str, Any]) -> None:
    model = model_of(blocks=[Small(), Small(**other), Small()], granularity="stage")
    first, second, third = (layer.compiled for layer in model.stack.layers[1:-1])
    assert first is third is not second
    alive = model.device.counters().live_programs
    model.unload()
    assert model.device.counters().live_programs == alive - first.compiles - second.compiles


def test_the_gradient_of_the_logits_takes_their_place() -> None:
    head = model_of().stack.layers[-1]
    (node,) = (n for n in head.compiled.plan.derived.graph.nodes if n.op.name == "cross_entropy")
    (logits,) = node.operands[:1]
    assert head._array(logits) is head._array(node.outputs[1])


def test_a_stack_without_ends() -> None:
    """Inputs and seeds of the user's own; the gradient of one block is its seed unchanged."""
    device = emulator(fp32=True)
    rng = np.random.default_rng(9)
    parts = []
    for number, block in enumerate((Small(), Aside())):
        derived = differentiate(build(block, SPEC, precision="fp32"))
        weights = {"w": rng.standard_normal((SPEC.dim, SPEC.dim), dtype=np.float32)}
        compiled = CompiledPlan(device, lower(derived))
        parts.append((f"block {number}", compiled, weights, {"w": np.zeros_like(weights["w"])}))
    x, dy = (rng.standard_normal((1, SPEC.dim, 1, SPEC.tokens), dtype=np.float32) for _ in range(2))
    stack = Stack(parts)
    stack.stage()
    y = stack.forward({"x": x})["y"]
    dx = stack.backward({"y": dy})["x"]
    middle = reference.run(parts[0][1].plan.derived, {"x": x, "d_y": dy}, parts[0][2]).outputs["y"]
    results = [
        reference.run(part[1].plan.derived, {"x": given, "d_y": dy}, part[2])
        for part, given in zip(parts, (x, middle), strict=True)
    ]
    assert np.allclose(results[1].gradients["x"], dy), "the case is another one"
    for found, expected in (
        (y, results[1].outputs["y"]),
        (dx, results[0].gradients["x"]),
        *((parts[i][3]["w"], results[i].parameters["w"]) for i in (0, 1)),
    ):
        assert np.linalg.norm(found - expected) < 1e-5 * np.linalg.norm(expected)
    assert stack.traffic.dispatches == sum(len(part[1].programs) for part in parts)


class Aside(Block):
    """x + w x, whose second part takes x for a constant."""

    def weights(self, s: ModelSpec) -> dict[str, Parameter]:
        return {"w": matrix(s.dim, s.dim)}

    def forward(self, g: BlockGraph, x: Value, w: Any) -> Value:
        return x + g.linear(g.detached(x), w.w)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_cross_the_border_once_each_way(layout: Layout) -> None:
    model = model_of(layout=layout)
    layer = model.stack.layers[1]
    layer.traffic.clear()
    step(model, *batch())
    steps = [*layer.compiled.plan.forward, *layer.compiled.plan.backward]
    for kind, counted in ((Send, layer.traffic.sent_bytes), (Receive, layer.traffic.received_bytes)):
        values = [step.value for step in steps if isinstance(step, kind)]
        assert len(set(values)) == len(values)
        assert counted == 2 * sum(np.prod(value.shape) for value in values)
    # No forward value of the device goes back to it: what backward reads of it lies where forward left it.
    made = {step.value for step in steps if isinstance(step, Receive)}
    sent_back = [
        step.value.name for step in layer.compiled.plan.backward if isinstance(step, Send) and step.value in made
    ]
    assert not sent_back


def test_accumulated_gradients_are_weighted_sums() -> None:
    model = model_of()
    one, two = batch(seed=7), batch(seed=8)
    parts = []
    for each in (one, two):
        step(model, *each)
        parts.append(copied(model.gradients))
    model.clear_gradients()
    model.micro_step(*one, weight=0.25)
    model.micro_step(*two, weight=0.75)
    for name, gradient in model.gradients.items():
        expected = 0.25 * parts[0][name] + 0.75 * parts[1][name]
        assert np.allclose(gradient, expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max()), name


def test_refused_programs_are_tried_smaller(caplog: pytest.LogCaptureFixture) -> None:
    whole = model_of()
    device = emulator()
    device.inject_fault("compile", after=1)
    with caplog.at_level(logging.WARNING, "anetrain"):
        model = model_of(device=device)
    assert model.stack.layers[1].compiled.plan.granularity == "stage"
    assert "not taken: fused" in caplog.text
    assert [choice.plan.granularity for choice in model.choices.values()] == ["fused", "stage", "fused"]
    assert abs(step(model, *batch()) - step(whole, *batch())) < 1e-2
    device = emulator()
    device.inject_fault("compile", after=7)
    gc.collect()  # programs that only garbage holds
    alive = device.counters().live_programs
    with pytest.raises(CompileError, match=r"linear: LlamaBlock .*: an injected fault"):
        model_of(blocks=[GeluFFN(), LlamaBlock()], device=device, granularity="linear")
    assert device.counters().live_programs == alive


def test_what_is_no_model_is_refused() -> None:
    device = emulator()
    with pytest.raises(TypeError, match=r"layer 1 is .*Classifier.*, expected a Block"):
        Model(SPEC, [LlamaBlock(), Classifier()])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"3 blocks for the 2 layers"):
        Model(SPEC, [LlamaBlock()] * 3)
    model = model_of(device=device)
    ids, targets = batch()
    with pytest.raises(PlanError, match=r"ids is int64 \[2, 19\], expected whole numbers \[2, 20\]"):
        step(model, ids[:, 1:], targets)
    with pytest.raises(PlanError, match="targets is float64"):
        step(model, ids, targets.astype(float))
    with pytest.raises(ValueError, match="61"):
        step(model, np.full_like(ids, 61), targets)


def test_the_documentation_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    device = emulator("m4")
    monkeypatch.setattr("anetrain.device.open", lambda kind: device)
    text = (ROOT / "docs" / "pipeline.md").read_text()
    code = "".join(block.split("```")[0] for block in text.split("```python\n")[1:])
    ids = np.random.default_rng(10).integers(0, 512, (1, 64))
    names: dict[str, Any] = {"ids": ids, "targets": np.roll(ids, -1)}
    exec(code, names)
    assert names["evaluated"].mean < names["loss"]
    assert names["evaluated"].count == ids.size
    assert 0.0 < names["spent"].parts["forward_device"] < names["spent"].seconds


@pytest.mark.parametrize("options", [["--device", "emulator:m4"], ["--device", "emulator:m1", "--layout", "baked"]])
def test_the_example_learns(options: list[str]) -> None:
    run = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "custom_block.py"), *options],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert run.returncode == 0, run.stderr
    first, last = (float(word) for word in run.stdout.splitlines()[-1].split(";")[0].split()[1::2])
    assert last < 0.5 * first, run.stdout
    assert "emulator was asked for" in run.stdout
