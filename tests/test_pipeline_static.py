"""Weights baked into programs: what is compiled anew, in which order, within which limits, what a failure leaves."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from anetrain.autodiff import Derived
from anetrain.blocks import Classifier
from anetrain.device import Device, Program
from anetrain.errors import BudgetError, CompileError, UnloadError
from anetrain.lower import ladder
from anetrain.lower.plan import Plan
from anetrain.model import Model
from anetrain.pipeline import Pipeline, PlanError, StaticPipeline, make_pipeline
from tests.compile_trace import LLAMA_PROGRAMS, Trace, traced
from tests.small_models import SPEC, batch, copied, model_of, step
from tests.support import emulator


def static(**options: Any) -> StaticPipeline:
    pipeline = model_of(layout="baked", **options)
    assert isinstance(pipeline, StaticPipeline)
    return pipeline


def update(pipeline: Pipeline, rate: float = 0.02) -> None:
    """A step of gradient descent, which the device does not know of yet."""
    step(pipeline, *batch())
    for name, weight in pipeline.weights.items():
        weight -= np.float32(rate) * pipeline.gradients[name]


@pytest.fixture(autouse=True)
def _garbage_holds_no_programs() -> None:
    gc.collect()


@pytest.fixture
def trace(monkeypatch: pytest.MonkeyPatch) -> Trace:
    return traced(monkeypatch)


# ---------------------------------------------------------------- what is compiled


def test_an_update_replaces_each_program_in_its_place(trace: Trace) -> None:
    alive = emulator().counters().live_programs
    device = emulator(live_budget=alive + 8)  # not one more than the model has
    pipeline = static(device=device)
    assert trace == [("compile", label) for label in LLAMA_PROGRAMS * 2]
    update(pipeline)
    trace.clear()
    before = device.counters()
    pipeline.stage()
    assert trace == [(what, label) for label in LLAMA_PROGRAMS * 2 for what in ("unload", "compile")]
    after = device.counters()
    assert after == replace(before, compiles=before.compiles + 8, loads=before.loads + 8, unloads=before.unloads + 8), (
        "programs, requests or surfaces are left over"
    )
    assert after.live_programs == alive + 8
    assert pipeline.compiles == 16


def test_what_has_not_changed_is_not_compiled(trace: Trace) -> None:
    pipeline = static()
    trace.clear()
    pipeline.stage()
    for name in ("embedding", "final_norm", "layers.0.attention_norm"):  # of host ops
        pipeline.weights[name] *= 1.5
    pipeline.stage()
    assert trace == []
    pipeline.weights["layers.1.ffn.w2"].flat[7] += 1e-3
    pipeline.stage()
    assert [label for what, label in trace if what == "compile"] == [LLAMA_PROGRAMS[1], LLAMA_PROGRAMS[2]]
    swapped = pipeline.weights["layers.0.ffn.w1"]
    swapped[[0, 1]] = swapped[[1, 0]]  # a sum would be the same
    trace.clear()
    pipeline.stage()
    assert len(trace) == 4


def test_programs_without_weights_are_compiled_once_for_all_layers(trace: Trace) -> None:
    pipeline = static(granularity="linear")
    first, second = (layer.compiled for layer in pipeline.stack.layers[1:3])
    alone = [index for index in first.programs if index not in first.baked_programs]
    assert alone, "the case is another one"
    assert all(first.programs[index] is second.programs[index] for index in alone)
    baked = len(first.baked_programs)
    assert len(trace) == 2 * baked + len({id(first.programs[index]) for index in alone})
    budget = pipeline.budget()
    assert (budget.compiles, budget.places) == (2 * baked, len(trace))
    trace.clear()
    update(pipeline)
    pipeline.stage()
    assert len(trace) == 2 * 2 * baked


def test_baked_weights_follow_the_parameters() -> None:
    losses = []
    for layout in ("stacked", "baked"):
        model = model_of(layout=layout)
        for _ in range(2):
            update(model)
            model.stage()
        losses.append([model.evaluate(*batch()).mean, step(model, *batch())])
    assert np.allclose(losses[0], losses[1], rtol=2e-3)
    first = model_of().evaluate(*batch()).mean
    assert losses[0][0] < first - 0.02  # the updates did arrive


def test_a_pipeline_of_another_kind_is_named() -> None:
    with pytest.raises(PlanError, match="layout is 'baked', and Pipeline has stacked, separate, packed"):
        Pipeline(emulator(), Model(SPEC), layout="baked")
    with pytest.raises(PlanError, match="layout is 'packed', and StaticPipeline has baked"):
        StaticPipeline(emulator(), Model(SPEC), layout="packed")
    assert type(make_pipeline(emulator(), Model(SPEC), layout="packed")) is Pipeline


def test_a_pipeline_that_does_not_train(trace: Trace) -> None:
    pipeline = static(trains=False)
    assert [label for _, label in trace] == LLAMA_PROGRAMS[:2] * 2
    before = pipeline.evaluate(*batch()).mean
    pipeline.weights["layers.0.ffn.w2"][:] *= 3
    pipeline.stage()
    assert pipeline.budget().compiles == 4
    assert pipeline.evaluate(*batch()).mean != before


# ---------------------------------------------------------------- budgets


def limited(compiles: int, places: int = 2**30) -> Device:
    """So many compiles and places beyond what this process has used up before."""
    used = emulator().counters()
    return emulator(compile_budget=used.compiles + compiles, live_budget=used.live_programs + places)


def test_what_an_update_takes_and_what_is_left() -> None:
    pipeline = static(device=limited(20, 9))
    budget = pipeline.budget()
    assert (budget.compiles, budget.compiles_left, budget.places, budget.places_left) == (8, 12, 8, 9)
    assert budget.updates_left == 1
    assert pipeline.can_stage()
    update(pipeline)
    assert pipeline.can_stage()
    pipeline.stage()
    assert pipeline.can_stage(), "nothing has changed since"
    update(pipeline)
    assert (pipeline.budget().compiles_left, pipeline.can_stage()) == (4, False)
    before = copied(pipeline.weights), pipeline.compiles
    with pytest.raises(BudgetError, match="the new weights take 8 compiles, and this process has 4 left of"):
        pipeline.stage()
    assert pipeline.compiles == before[1]
    for name, weight in pipeline.weights.items():
        assert np.array_equal(weight, before[0][name]), name
    with pytest.raises(PlanError, match="not on the device"):  # old programs beside new norms
        pipeline.evaluate(*batch())


def test_what_has_changed_decides() -> None:
    pipeline = static(device=limited(10))
    assert not pipeline.budget().updates_left
    assert pipeline.can_stage()
    pipeline.weights["layers.0.attention.wo"] += 0.25
    assert pipeline.can_stage()
    pipeline.stage()
    assert pipeline.budget().compiles_left == 0


@pytest.mark.parametrize(("compiles", "places"), [(7, 100), (100, 7)])
def test_a_model_whose_update_is_beyond_the_budget_is_refused(compiles: int, places: int, trace: Trace) -> None:
    """Of the process; or of what earlier tests have left of it, and then the message is another."""
    device = limited(compiles, places)
    used = device.counters()
    left = f"this process has {compiles} compiles and {places} places left"
    if used.compile_budget < 8 or used.live_budget < 8:
        left = f"budget of a process is {used.compile_budget} compiles and {used.live_budget} loaded"
    with pytest.raises(BudgetError, match=f"takes 8 compiles and 8 loaded programs, and .*{left}"):
        static(device=device)
    assert trace == []
    assert emulator().counters().live_programs == used.live_programs


def test_qwen3_at_full_size_is_refused_before_anything_is_made(trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model.preset("qwen3-0.6b", seq=32)
    monkeypatch.setattr(Model, "initial", lambda *_: pytest.fail("weights were made: 2.4 GB"))
    with pytest.raises(BudgetError) as refused:
        StaticPipeline(emulator("m4", compile_budget=100, live_budget=100), model, trains=True)
    assert "one update of this model takes 112 compiles and 112 loaded programs" in refused.value.detail
    assert "100 compiles and 100 loaded programs. Use the dynamic pipeline" in refused.value.detail
    assert trace == []


# ---------------------------------------------------------------- what fails


@pytest.mark.parametrize("fault", ["compile", "load", "unload"])
def test_a_failure_anywhere_in_an_update(fault: str, trace: Trace) -> None:
    """Nothing runs until the rest was compiled, and then all is as without the failure."""
    judge = static()
    update(judge)
    judge.stage()
    expected = step(judge, *batch()), copied(judge.gradients)
    for failing in range(8):
        pipeline = static()
        update(pipeline)
        alive = pipeline.device.counters().live_programs
        weights = copied(pipeline.weights)
        pipeline.device.inject_fault(fault, after=failing)
        with pytest.raises(UnloadError if fault == "unload" else CompileError, match=r"LlamaBlock.*injected"):
            pipeline.stage()
        for run in (pipeline.micro_step, pipeline.evaluate):
            with pytest.raises(PlanError, match="not on the device"):
                run(*batch())
        for name, weight in pipeline.weights.items():
            assert np.array_equal(weight, weights[name]), name
        assert not any(gradient.any() for gradient in pipeline.gradients.values())
        assert pipeline.device.counters().live_programs == alive - 1
        trace.clear()
        pipeline.stage()
        assert sum(what == "compile" for what, _ in trace) == 8 - failing
        assert pipeline.device.counters().live_programs == alive
        assert step(pipeline, *batch()) == expected[0]
        for name, gradient in pipeline.gradients.items():
            assert np.array_equal(gradient, expected[1][name]), name
        pipeline.unload()


def test_a_failure_anywhere_in_the_beginning() -> None:
    """In the first layer of a kind smaller programs are tried; in later ones the plan is settled."""
    alive = emulator().counters().live_programs
    for failing in range(8):
        device = emulator()
        device.inject_fault("compile", after=failing)
        if failing < 4:
            pipeline = static(device=device)
            assert pipeline.stack.layers[1].compiled.plan.granularity == "stage"
            step(pipeline, *batch())
            pipeline.unload()
        else:
            with pytest.raises(CompileError, match=rf"{LLAMA_PROGRAMS[failing - 4]}: an injected fault"):
                static(device=device)
        assert device.counters().live_programs == alive


def test_a_device_that_refuses_a_program_at_the_update(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time: the message stays, and no compiles are spent on what is compiled already."""
    pipeline = static()
    update(pipeline)
    compile = Device.compile

    def refusing(self: Device, text: Any, blobs: Any = None, label: str = "") -> Program:
        if label == LLAMA_PROGRAMS[2]:
            text = "program(1.0)"
        return compile(self, text, blobs, label)

    monkeypatch.setattr(Device, "compile", refusing)
    compiles = []
    for _ in range(3):
        before = pipeline.compiles
        with pytest.raises(CompileError, match=r"^LlamaBlock backward 2: .*InvalidMILProgram"):
            pipeline.stage()
        compiles.append(pipeline.compiles - before)
    assert compiles == [3, 1, 1]


def test_a_profile_that_refuses_one_program() -> None:
    """Smaller ones are trained, updates included; where there are none, the message has all that was tried."""
    pipelines = [static(device=emulator("m4", rules={"blobfile-weights": most})) for most in (9, 8)]
    whole, smaller = (pipeline.choices["layers.0"] for pipeline in pipelines)
    assert (whole.plan.granularity, smaller.plan.granularity) == ("fused", "stage")
    assert "fused: forward 0: rule blobfile-weights: " in smaller.explain()
    for _ in range(2):
        for pipeline in pipelines:
            update(pipeline)
            pipeline.stage()
    losses = [pipeline.evaluate(*batch()).mean for pipeline in pipelines]
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)
    for pipeline in pipelines:
        pipeline.unload()
    alive = emulator().counters().live_programs
    with pytest.raises(CompileError, match=r"in no form: fused: .*stage: .*blobfile-weights.*expected at most 1"):
        static(device=emulator("m4", rules={"blobfile-weights": 1}))
    assert emulator().counters().live_programs == alive


def test_weights_that_change_between_two_tries() -> None:
    """What the first try compiled is old by then."""
    pipeline = static()
    update(pipeline)
    pipeline.device.inject_fault("compile", after=5)
    with pytest.raises(CompileError):
        pipeline.stage()
    for weight in pipeline.weights.values():
        weight *= np.float32(1.25)
    pipeline.stage()
    fresh = make_pipeline(emulator(), pipeline.model, copied(pipeline.weights), layout="baked")
    assert step(pipeline, *batch()) == step(fresh, *batch())


def test_weights_that_are_loaded_are_never_stale() -> None:
    """A checkpoint is read into the weights after the programs were made of the first ones."""
    saved = static()
    update(saved)
    resumed = static()
    for name, weight in resumed.weights.items():
        np.copyto(weight, saved.weights[name])
    resumed.stage()
    saved.stage()
    assert step(resumed, *batch()) == step(saved, *batch())
    for name, gradient in resumed.gradients.items():
        assert np.array_equal(gradient, saved.gradients[name]), name


def test_two_hundred_updates_keep_nothing() -> None:
    spec = replace(SPEC, dim=16, hidden=24, heads=2, kv_heads=1, vocab=19, seq=9)
    pipeline = static(spec=spec, classifier=Classifier("device", chunk_rows=10))
    given = batch(spec)
    step(pipeline, *given)
    first = pipeline.device.counters()
    programs = pipeline.budget().compiles
    for _ in range(200 // programs + 1):
        for weight in pipeline.weights.values():
            weight *= np.float32(1.01)
        pipeline.stage()
        step(pipeline, *given)
    last = pipeline.device.counters()
    names = ("live_programs", "live_surfaces", "live_requests", "surface_bytes", "backend_objects")
    assert [getattr(last, name) for name in names] == [getattr(first, name) for name in names]
    assert last.compiles - first.compiles >= 200


def test_each_part_is_lowered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What tells the size of an update is also what is compiled."""
    asked: list[object] = []

    def lower(derived: Derived, *arguments: Any, **options: Any) -> Plan:
        asked.append(derived)
        return real(derived, *arguments, **options)

    real = ladder.lower
    monkeypatch.setattr(ladder, "lower", lower)
    pipeline = static()
    assert len(asked) == len({id(derived) for derived in asked}) == len(pipeline.choices)
