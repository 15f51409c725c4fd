"""Extras: norms, final norm and classifier on the device, in both pipelines. Gradients and losses are those without
them, norms add no dispatch, chunks of the vocabulary fit the chip, and the tables of docs/pipeline.md are counted."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from anetrain import assembly
from anetrain.blocks import Classifier, LlamaBlock, Qwen3Block, qwen3_spec
from anetrain.compaction import Compaction, CompactPipeline
from anetrain.config import check as checked_config
from anetrain.lower import LAYOUTS, Layout
from anetrain.lower.check import limit_on_device
from anetrain.lower.plan import Compute, Step
from anetrain.mil.types import Array
from anetrain.model import Model
from anetrain.optim import AdamW
from anetrain.pipeline import Pipeline, make_pipeline
from anetrain.pipeline.extras import EXTRAS, Extras, chosen, classifier_on_device
from anetrain.pipeline.places import places
from scripts import extras_docs
from tests import curve_task as task
from tests.emulated import EmulatedModel, assert_near, copied, distance, random_tokens
from tests.small_models import SPEC, batch, model_of, step
from tests.support import emulator, need
from tests.test_proof_models import MODELS
from tests.transformers_models import their_gradients, their_model, their_step

CHOICES: list[Extras] = ["none", *EXTRAS, "all"]
PIPELINES: list[Layout] = ["stacked", "baked"]  # the dynamic one and the static one
QWEN = replace(
    qwen3_spec(dim=48, hidden=72, layers=2, heads=4, kv_heads=2, head_dim=16, vocab=61, seq=20), batch=2, tied=False
)
FAMILIES = {"llama": (SPEC, [LlamaBlock(), LlamaBlock()]), "qwen3": (QWEN, [Qwen3Block(), Qwen3Block()])}


def family(name: str, **options: Any) -> Pipeline:
    spec, blocks = FAMILIES[name]
    return model_of(spec, blocks, **options)


# ---------------------------------------------------------------- what is where


def host_ops(steps: list[Step]) -> set[str]:
    return {step.node.op.name for step in steps if isinstance(step, Compute)}


@pytest.mark.parametrize("layout", PIPELINES)
@pytest.mark.parametrize("extras", CHOICES)
@pytest.mark.parametrize("name", FAMILIES)
def test_places_are_what_the_pipeline_does(name: str, extras: Extras, layout: Layout) -> None:
    pipeline = family(name, extras=extras, layout=layout)
    found = places(pipeline.model, pipeline.device, layout=layout, extras=extras)
    before = pipeline.device.counters().evaluations
    step(pipeline, *batch(), loss_scale=2.0**10)
    assert pipeline.device.counters().evaluations - before == found.forward + found.backward
    layers, end = pipeline.stack.layers[1:-1], pipeline.stack.layers[-1]
    assert found.forward == sum(layer_dispatches(layer, "forward") for layer in pipeline.stack.layers)
    on = chosen(extras)
    for layer in layers:
        plan = layer.compiled.plan
        assert (layer_dispatches(layer, "forward"), layer_dispatches(layer, "backward")) == (2, 2), "a norm adds one"
        assert host_ops(plan.forward) == {"host_add"} | (set() if "norms" in on else {"host_rms_norm"})
    on_host = host_ops(end.compiled.plan.forward)
    assert ("host_rms_norm" in on_host) is ("final_norm" not in on)
    assert ("host_dense" in on_host) is ("classifier" not in on)
    assert found.of == {
        "embedding": "host",
        "norms of the layers": "device" if "norms" in on else "host",
        "attention, feed-forward": "device",
        "residual sums": "host",
        "final norm": "device" if "final_norm" in on else "host",
        "logits": "device" if "classifier" in on else "host",
        "loss, gradient of the logits": "host",
        "gradient of the final norm's output": "host",
    }


def layer_dispatches(layer: Any, direction: str) -> int:
    return sum(type(step).__name__ == "Dispatch" for step in getattr(layer.compiled.plan, direction))


def test_the_tables_in_docs_are_what_plans_say() -> None:
    assert extras_docs.PAGE.read_text(encoding="utf-8") == extras_docs.page(), "run python scripts/extras_docs.py"


# ---------------------------------------------------------------- gradients


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_without_rounding_are_those_without_extras(name: str, layout: Layout) -> None:
    """Of every parameter; gains are not 1, sequences are padded."""
    ids, targets = batch()
    plain = family(name, fp32=True, layout=layout)
    loss, expected = step(plain, ids, targets), copied(plain.gradients)
    for extras in CHOICES[1:]:
        pipeline = family(name, fp32=True, layout=layout, extras=extras)
        assert step(pipeline, ids, targets) == pytest.approx(loss, rel=1e-6)
        assert_near(pipeline.gradients, expected, 2e-5, what=str(extras))
        assert pipeline.evaluate(ids, targets).mean == pytest.approx(loss, rel=1e-6)


@pytest.mark.parametrize("extras", CHOICES[1:])
@pytest.mark.parametrize("name", FAMILIES)
def test_each_switch_against_transformers(name: str, extras: Extras) -> None:
    """With all at once, more shapes, layouts: test_proof_models."""
    for package in ("torch", "transformers"):
        need(importlib.util.find_spec(package), f"{package} is not installed")
    s = replace(MODELS[f"{name}, 2"], batch=2)
    ids, targets = random_tokens(s)
    exact = EmulatedModel(s, emulator(fp32=True), extras=extras)
    judge = their_model(s, exact.parameters)
    _, their_loss = their_step(judge, s, ids, targets)
    expected = their_gradients(judge, s, exact.parameters)
    assert exact.step(ids, targets) == pytest.approx(their_loss, rel=1e-5)
    assert_near(exact.gradients, expected, 2e-5, what="fp32")
    rounded = EmulatedModel(s, emulator(), extras=extras, loss_scale=2.0**10)
    assert rounded.step(ids, targets) == pytest.approx(their_loss, rel=1e-3)
    assert_near(rounded.gradients, expected, 1.5e-2, what="fp16")


@pytest.mark.parametrize("chip", ["m1", "m4"])
def test_in_the_arithmetic_of_a_chip_extras_lose_little(chip: str) -> None:
    """The audit executor, at a large loss scale: nothing overflows or is lost; the error is that of its tables."""
    s = replace(SPEC, seq=32)
    ids, targets = random_tokens(s)
    exact = EmulatedModel(s, emulator(fp32=True))
    exact.step(ids, targets)
    worst = {}
    for extras in ("none", "all"):
        model = EmulatedModel(s, emulator(chip, executor="audit"), extras=extras, loss_scale=2.0**13)
        model.step(ids, targets)
        worst[extras] = max(distance(model.gradients[name], exact.gradients[name])[0] for name in exact.gradients)
    assert worst["all"] <= 1.3 * worst["none"] <= 0.05, worst


# ---------------------------------------------------------------- training

UPDATES = 50


def curve(layout: Layout, extras: Extras) -> Array:
    model = Model(task.SPEC)
    pipeline = make_pipeline(emulator("m4"), model, task.first_weights(), layout=layout, extras=extras)
    optimizer = AdamW(model.parameters, pipeline.weights, pipeline.gradients, betas=task.BETAS, clip=task.CLIP)
    losses = []
    for update, (ids, targets) in enumerate(islice(task.batches(), UPDATES)):
        losses.append(pipeline.micro_step(ids, targets))
        assert optimizer.step(task.rate(update), count=1).finite
        pipeline.stage()
    return np.array(losses)


@pytest.mark.parametrize("layout", PIPELINES)
def test_the_loss_of_fifty_updates_is_that_without_extras(layout: Layout) -> None:
    plain = curve(layout, "none")
    assert plain[-5:].mean() < 0.8 * plain[0], "the model learns"
    for extras in CHOICES[1:]:
        found = curve(layout, extras)
        assert (found != plain).any(), f"{extras} changes not a bit"
        np.testing.assert_allclose(found, plain, rtol=1e-3, err_msg=str(extras))


# ---------------------------------------------------------------- the classifier's chunks


@pytest.mark.parametrize("cap", [1, 7, 64, 100, 16_384, 65_536])
def test_chunks_are_few_and_about_equally_long(cap: int) -> None:
    for vocab in (1, 2, cap - 1, cap, cap + 1, 2 * cap + 1, 10 * cap - 1, 32_000, 151_936, 151_937):
        if not 0 < vocab < 5000 * cap:
            continue
        chunks = Classifier("device", chunk_rows=cap).chunks(vocab)
        assert [begin for begin, _ in chunks] == [0, *(end for _, end in chunks[:-1])]
        assert chunks[-1][1] == vocab
        sizes = [end - begin for begin, end in chunks]
        assert max(sizes) <= cap
        assert len(chunks) == -(-vocab // cap), "as few as there can be"
        assert len(set(sizes[:-1])) <= 1
        assert max(sizes) - min(sizes) <= 64 * len(sizes)
    assert len(Classifier("device", 16_384).chunks(32_000)) == 2
    assert len(Classifier("device", 16_384).chunks(151_936)) == 10
    assert len(Classifier("device", 65_536 - 1024).chunks(151_936)) == 3


@pytest.mark.parametrize(("vocab", "count"), [(95, 1), (96, 1), (97, 2), (193, 3)])
@pytest.mark.parametrize("tied", [False, True])
def test_vocabularies_at_the_caps(tied: bool, vocab: int, count: int) -> None:
    """A chip with axes of 96 takes the chunks, and computes what the host does; so in both pipelines."""
    spec = replace(SPEC, vocab=vocab, tied=tied, seq=32)
    ids, targets = batch(spec)
    plain = model_of(spec, fp32=True)
    loss, expected = step(plain, ids, targets), copied(plain.gradients)
    for layout in PIPELINES:
        device = emulator("m4", rules={"axis-limit": 96, "contraction-limit": 96}, fp32=True)
        pipeline = model_of(spec, device=device, fp32=True, layout=layout, extras="all")
        staged = pipeline.stack.layers[-1].compiled.plan.derived.graph
        tables = [node for node in staged.nodes if node.op.name == "dense"]
        assert len(tables) == count
        assert step(pipeline, ids, targets) == pytest.approx(loss, rel=1e-6)
        assert_near(pipeline.gradients, expected, 2e-5, what=layout)


@pytest.mark.parametrize(("vocab", "axis", "chunks"), [(500, 176, 3), (900, 512, 2)])
def test_more_rows_than_a_surface_has_channels_are_a_program_for_each_chunk(vocab: int, axis: int, chunks: int) -> None:
    spec = replace(SPEC, vocab=vocab)
    device = emulator("m4", rules={"axis-limit": axis, "channel-limit": 500})
    pipeline = model_of(spec, device=device, extras="all")
    assert pipeline.choices["layers.0"].plan.granularity == "fused"
    assert pipeline.choices["classifier"].plan.granularity == "stage"
    assert "channel-limit" in pipeline.choices["classifier"].explain()
    assert pipeline.choices["classifier"].dispatches == chunks + 1, "the norm is in the program of the first chunk"
    ids, targets = batch(spec)
    expected = model_of(spec)
    assert step(pipeline, ids, targets, 2.0**10) == pytest.approx(step(expected, ids, targets, 2.0**10), rel=1e-3)
    assert_near(pipeline.gradients, expected.gradients, 2e-2, 0.9998)  # the chip's table of sigmoid is in it


def test_chunks_beside_the_activations_are_shorter() -> None:
    """The layout "packed" has rows of the vocabulary on the width, behind the tokens."""
    device = emulator("m4", rules={"axis-limit": 256})
    for layout, rows in (("stacked", 256), ("separate", 256), ("baked", 256), ("packed", 256 - 64 - 64)):
        assert classifier_on_device(Classifier(), device, layout, replace(SPEC, seq=32)).chunk_rows == rows  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"no row of the classifier fits beside 192 tokens .* smaller batch"):
        classifier_on_device(Classifier(), device, "packed", replace(SPEC, seq=32, batch=6))
    mine = Classifier("device", chunk_rows=9)
    assert classifier_on_device(mine, device, "stacked", SPEC) is mine


@pytest.mark.parametrize(("chip", "rows"), [("Apple M1", 16_384), ("Apple M4 Pro", 65_536), ("Apple M99", 16_384)])
def test_the_axes_of_a_real_chip_are_those_of_its_profile(chip: str, rows: int) -> None:
    device: Any = SimpleNamespace(facts={"kind": "ane", "chip": chip})
    assert limit_on_device(device, "axis-limit", 16_384) == rows


# ---------------------------------------------------------------- together with others


def test_a_vocabulary_of_the_ids_that_occur_in_chunks() -> None:
    """Training and evaluation of the compact model on the device are those on the host."""
    spec = replace(SPEC, vocab=300, tied=True)
    words = np.random.default_rng(0).choice(300, 131, replace=False)
    ids, targets = (words[given % 131] for given in batch(spec, ignored=False))
    found = {}
    for extras in ("none", "all"):
        compaction = Compaction.of(np.unique(words).astype(np.uint16), 300)
        device = emulator("m4", rules={"axis-limit": 96, "contraction-limit": 96}, fp32=True)
        pipeline = CompactPipeline(device, Model(spec), compaction, precision="fp32", extras=extras)
        loss = pipeline.micro_step(ids, targets)
        found[extras] = {
            "loss": np.array(loss), "full": np.array(pipeline.evaluate(ids, targets).mean), **copied(pipeline.gradients)
        }  # fmt: skip
    assert_near(found["all"], found["none"], 2e-5)
    assert found["all"]["full"] > found["all"]["loss"]


def test_what_a_config_says_is_what_runs(tmp_path: Path) -> None:
    sizes = {"dim": 16, "hidden": 24, "layers": 1, "heads": 2, "kv_heads": 1, "head_dim": 8, "vocab": 2048, "seq": 9}
    for kind in ("dynamic", "static"):
        for extras in ("none", "classifier", ["norms", "final_norm"], "all"):
            config = checked_config({"model": sizes, "pipeline": {"kind": kind, "extras": extras}})
            trainer = assembly.make_trainer(config, assembly.find_model(config), emulator())
            graphs = [layer.compiled.plan.derived.graph for layer in trainer.pipeline.stack.layers]
            ops = [{node.op.name for node in graph.nodes} for graph in graphs]
            on = chosen(extras)  # type: ignore[arg-type]
            assert ("host_rms_norm" not in ops[1]) is ("norms" in on)
            assert ("host_rms_norm" not in ops[2]) is ("final_norm" in on)
            assert ("dense" in ops[2]) is ("classifier" in on)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("clasifier", r"'clasifier' is no extra \(did you mean 'classifier'\?\); expected 'none', 'all' or some of"),
        (["norms", "al"], r"'al' is no extra \(did you mean 'all'\?\)"),
        (None, "None is no extra"),
        ([3], "3 is no extra"),
    ],
)
def test_an_unknown_extra_is_refused(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        chosen(given)
    with pytest.raises(ValueError, match=f"pipeline.extras: {message}"):
        checked_config({"model": {"preset": "tiny-llama"}, "pipeline": {"extras": given}})
    assert chosen("norms") == chosen(["norms"]) == {"norms"}
    assert chosen("all") == set(EXTRAS)
    assert chosen("none") == chosen([]) == set()
