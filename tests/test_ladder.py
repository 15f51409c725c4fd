"""The ladder: a device that refuses programs gets smaller ones, says why, and the choice is remembered."""

from __future__ import annotations

import gc
import json
import logging
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from anetrain import device
from anetrain.autodiff import Derived, differentiate
from anetrain.blocks import LlamaBlock, build
from anetrain.device import Device, Finding
from anetrain.errors import BudgetError, CompileError, UnloadError
from anetrain.lower import GRANULARITIES, lower, plan_report
from anetrain.lower.check import check_on_device, check_plan, profile_of_chip
from anetrain.lower.ladder import Choice, KnownRefusalError, _descent, choose, memory_key
from anetrain.lower.memory import LadderMemory
from anetrain.lower.plan import Granularity, Plan
from anetrain.mil.types import Array
from anetrain.pipeline import CompiledPlan, Layer, SurfacePool
from anetrain.spec import ModelSpec
from tests.support import emulator

SPEC = ModelSpec(dim=64, hidden=171, layers=1, heads=4, kv_heads=2, head_dim=16, vocab=11, seq=32)
PROGRAMS = {"fused": 4, "stage": 8, "linear": 24}
STAGE_ONLY = {"blobfile-weights": 4}  # constants of the fused attention are 5
LINEAR_ONLY = {"channel-limit": 400}  # the taps of the fused FFN are 406 channels


@cache
def block() -> Derived:
    return differentiate(build(LlamaBlock(), SPEC))


class Attempts:
    """Compiles plans, and notes at each attempt what was tried and how many programs were alive."""

    def __init__(self, dev: Device) -> None:
        self.dev = dev
        self.rungs: list[Granularity] = []
        self.alive_before: list[int] = []
        gc.collect()  # programs count for the process: what only garbage holds must not go meanwhile
        self.first_alive = dev.counters().live_programs

    def __call__(self, plan: Plan) -> CompiledPlan:
        self.rungs.append(plan.granularity)
        self.alive_before.append(self.dev.counters().live_programs - self.first_alive)
        return CompiledPlan(self.dev, plan)

    @property
    def alive(self) -> int:
        return self.dev.counters().live_programs - self.first_alive


@pytest.fixture
def opened() -> Iterator[list[Choice[CompiledPlan]]]:
    """Choices whose programs are unloaded after the test."""
    choices: list[Choice[CompiledPlan]] = []
    yield choices
    for choice in choices:
        choice.compiled.unload()


def climb(
    dev: Device, opened: list[Choice[CompiledPlan]], memory: LadderMemory | None = None, **options: Any
) -> tuple[Choice[CompiledPlan], Attempts]:
    attempts = Attempts(dev)
    choice = choose(block(), dev, attempts, memory=memory, **options)
    opened.append(choice)
    return choice, attempts


def refuse(dev: Device, *rungs: Granularity) -> None:
    """Lets the first program of each of these rungs fail, tried one after the other."""
    for attempt in range(len(rungs)):
        dev.inject_fault("compile", after=attempt)


# ---------------------------------------------------------------- steps down


def test_fused_where_the_device_takes_it(opened: list[Choice[CompiledPlan]]) -> None:
    choice, attempts = climb(emulator("m4"), opened)
    assert attempts.rungs == ["fused"]
    assert (choice.plan.granularity, choice.descents) == ("fused", ())
    assert choice.explain() == "4 dispatches, fused"
    assert attempts.alive == PROGRAMS["fused"]


@pytest.mark.parametrize("after", range(PROGRAMS["fused"]))
def test_per_stage_whichever_program_fails(after: int, opened: list[Choice[CompiledPlan]]) -> None:
    dev = emulator("m4")
    dev.inject_fault("compile", after=after)
    choice, attempts = climb(dev, opened)
    assert attempts.rungs == ["fused", "stage"]
    assert attempts.alive_before == [0, 0]
    assert attempts.alive == len(choice.plan.programs) == PROGRAMS["stage"]
    (descent,) = choice.descents
    label = ("forward 0", "forward 1", "backward 2", "backward 3")[after]
    assert (descent.rung, descent.label) == ("fused", label)
    assert choice.explain().startswith(f"8 dispatches, per stage, instead of 4: fused: {label}: ")


@pytest.mark.parametrize("after", range(PROGRAMS["stage"]))
def test_per_linear_whichever_program_fails(after: int, opened: list[Choice[CompiledPlan]]) -> None:
    dev = emulator("m4")
    dev.inject_fault("compile")
    dev.inject_fault("compile", after=1 + after)
    choice, attempts = climb(dev, opened)
    assert attempts.rungs == ["fused", "stage", "linear"]
    assert attempts.alive_before == [0, 0, 0]
    assert [descent.rung for descent in choice.descents] == ["fused", "stage"]
    assert len(choice.plan.programs) == PROGRAMS["linear"]


@pytest.mark.parametrize("after", range(0, PROGRAMS["linear"] - 4, 5))
def test_the_last_error_lists_all(after: int) -> None:
    dev = emulator("m4")
    for attempt in (0, 1, 2 + after):
        dev.inject_fault("compile", after=attempt)
    attempts = Attempts(dev)
    with pytest.raises(CompileError) as refused:
        choose(block(), dev, attempts)
    assert attempts.rungs == list(GRANULARITIES)
    assert attempts.alive == 0
    for rung in GRANULARITIES:
        assert re.search(rf"{rung}: (for|back)ward \d+: ", refused.value.detail)
    assert refused.value.domain  # the hardware's own words are still there
    assert refused.value.code


@pytest.mark.parametrize(
    ("rules", "layout", "left"),
    [(STAGE_ONLY, "stacked", ["fused"]), (LINEAR_ONLY, "stacked", ["fused", "stage"])],
    ids=["stage", "linear"],
)
def test_limits_of_a_profile(
    rules: dict[str, int], layout: Any, left: list[str], opened: list[Choice[CompiledPlan]]
) -> None:
    """What is known not to pass is not compiled; each extra dispatch has a rule, a value and a limit."""
    dev = emulator("m4", rules=rules)
    choice, attempts = climb(dev, opened, layout=layout)
    assert attempts.rungs == [choice.plan.granularity]
    assert dev.counters().failed_compiles == 0
    assert [descent.rung for descent in choice.descents] == left
    ((rule, limit),) = rules.items()
    for descent in choice.descents:
        assert descent.rule == rule
        assert str(limit) in descent.limit
        (number,) = re.findall(r"\d+", descent.value.split(": ")[1])[:1]
        assert int(number) > limit
        assert f"{descent.label}: rule {rule}: {descent.value}, expected {descent.limit}" in choice.explain()


def test_the_device_has_the_last_word() -> None:
    dev = emulator("m4", rules={"channel-limit": 100})
    attempts = Attempts(dev)
    with pytest.raises(CompileError, match="in no form") as refused:
        choose(block(), dev, attempts)
    assert attempts.rungs == ["linear"]
    assert dev.counters().failed_compiles == 1
    assert refused.value.rule == "channel-limit"
    for rung in GRANULARITIES:
        assert f"{rung}: " in refused.value.detail


def test_what_cannot_be_evaluated_is_no_choice(opened: list[Choice[CompiledPlan]]) -> None:
    """The fused backward of several outputs would compile, and fail whenever it runs."""
    plan = lower(block(), outputs="several")
    most = max(len(spec.outputs) for spec in plan.programs)
    choice, _ = climb(emulator("m4", rules={"output-count": most - 1}), opened, outputs="several")
    assert choice.descents[0].rule == "output-count"


def test_a_refusal_without_a_rule_is_told_in_words() -> None:
    """A program that is wrong for every profile: no rule, value or limit stands for it."""
    unlike = Finding("m4", "", "compile", False, "", "", "", "line 3: nothing to run", "", "", 3, 1)
    assert str(_descent("fused", KnownRefusalError("forward 0", unlike))) == (
        "fused: forward 0: profile m4: line 3: nothing to run"
    )


def test_other_errors_are_no_reason_to_step_down() -> None:
    live = emulator().counters().live_programs
    dev = emulator("m4", live_budget=live + 2)
    attempts = Attempts(dev)
    with pytest.raises(BudgetError):
        choose(block(), dev, attempts)
    assert (attempts.rungs, attempts.alive) == (["fused"], 0)
    for error in (MemoryError(), UnloadError("stuck")):
        tried = []

        def fail(plan: Plan, error: Exception = error, tried: list[Plan] = tried) -> CompiledPlan:
            tried.append(plan)
            raise error

        with pytest.raises(type(error)):
            choose(block(), emulator("m4"), fail)
        assert len(tried) == 1


def test_without_backward(opened: list[Choice[CompiledPlan]]) -> None:
    """What stands against a program that is never compiled is no reason to step down."""
    programs = plan_report(lower(block()))["programs"]
    forward, backward = (_most_channels(programs[part]) for part in (slice(0, 2), slice(2, 4)))
    assert forward < backward
    dev = emulator("m4", rules={"channel-limit": forward})
    choice = choose(block(), dev, lambda plan: CompiledPlan(dev, plan, backward=False), backward=False)
    opened.append(choice)
    assert choice.explain() == "2 dispatches, fused"
    trained, _ = climb(dev, opened)
    assert trained.plan.granularity != "fused"


def _most_channels(programs: list[dict[str, Any]]) -> int:
    return max(
        port["shape"][1] for known in programs for side in ("inputs", "outputs") for port in known[side].values()
    )


def test_descents_are_logged(opened: list[Choice[CompiledPlan]], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="anetrain.lower"):
        choice, _ = climb(emulator("m4", rules=STAGE_ONLY), opened, name="layers.0")
    warning, result = caplog.records
    assert (warning.levelname, result.levelname) == ("WARNING", "INFO")
    assert warning.getMessage() == f"layers.0: not taken: {choice.descents[0]}"
    assert result.getMessage() == f"layers.0: {choice.explain()}"


def test_advice_is_no_reason_to_step_down(opened: list[Choice[CompiledPlan]]) -> None:
    dev = emulator("m1")
    choice, attempts = climb(dev, opened, layout="packed")
    assert attempts.rungs == ["fused"]
    assert any(finding.advice for _, finding in check_on_device(choice.plan, dev))


def test_the_dialect_of_the_device(opened: list[Choice[CompiledPlan]]) -> None:
    choice, _ = climb(emulator("m1"), opened)
    assert choice.plan.granularity == "fused"
    assert all(spec.program.dialect == "A" for spec in choice.plan.programs)


# ---------------------------------------------------------------- what is computed


def test_gradients_are_the_same_on_every_rung(opened: list[Choice[CompiledPlan]]) -> None:
    found = []
    for left in range(3):
        dev = emulator("exact")
        refuse(dev, *GRANULARITIES[:left])
        choice, _ = climb(dev, opened)
        assert choice.plan.granularity == GRANULARITIES[left]
        found.append(_train(choice.compiled))
    for name, expected in found[0].items():
        assert np.abs(expected).max() > 0
        for other in found[1:]:
            np.testing.assert_allclose(other[name], expected, rtol=0, atol=2e-3 * np.abs(expected).max(), err_msg=name)


def _train(compiled: CompiledPlan) -> dict[str, Array]:
    rng = np.random.default_rng(5)
    parameters: dict[str, Array] = {}
    for known in block().graph.parameters.values():
        gains = rng.uniform(0.2, 3.0, known.shape).astype(np.float32)
        parameters[known.name] = gains if known.init == "ones" else known.initial(rng)
    gradients = {name: np.zeros_like(array) for name, array in parameters.items()}
    layer = Layer(compiled, parameters, gradients, SurfacePool())
    layer.stage()
    x, dy = (rng.standard_normal((1, SPEC.dim, 1, SPEC.tokens), dtype=np.float32) for _ in range(2))
    y = layer.forward({"x": x})["y"].copy()
    return {"y": y, "x": layer.backward({"y": dy})["x"].copy(), **gradients}


# ---------------------------------------------------------------- memory


def test_memory_is_used_and_survives(tmp_path: Path, opened: list[Choice[CompiledPlan]]) -> None:
    path = tmp_path / "new" / "ladder.json"
    dev = emulator("m4")
    refuse(dev, "fused")
    first, _ = climb(dev, opened, LadderMemory(path))
    written, inode = path.read_bytes(), path.stat().st_ino
    second, attempts = climb(emulator("m4"), opened, LadderMemory(path))
    assert attempts.rungs == ["stage"]
    assert second.explain() == first.explain()
    assert (path.read_bytes(), path.stat().st_ino) == (written, inode)  # nothing new: the file is left alone
    assert [file.name for file in path.parent.iterdir()] == ["ladder.json"]


def test_a_remembered_rung_may_fail(tmp_path: Path, opened: list[Choice[CompiledPlan]]) -> None:
    memory = LadderMemory(tmp_path / "ladder.json")
    dev = emulator("m4")
    refuse(dev, "fused")
    climb(dev, opened, memory)
    dev = emulator("m4")
    refuse(dev, "stage")
    choice, attempts = climb(dev, opened, memory)
    assert attempts.rungs == ["stage", "linear"]
    assert [descent.rung for descent in choice.descents] == ["fused", "stage"]  # one remembered, one found now
    dev = emulator("m4")
    refuse(dev, "linear")
    choice, attempts = climb(dev, opened, memory)
    assert attempts.rungs == ["linear", "fused"]  # a memory never makes a run fail
    assert choice.descents == ()
    _, attempts = climb(emulator("m4"), opened, memory)
    assert attempts.rungs == ["fused"]


def test_a_memory_is_of_one_device_and_one_block(tmp_path: Path, opened: list[Choice[CompiledPlan]]) -> None:
    memory = LadderMemory(tmp_path / "ladder.json")
    dev = emulator("m4")
    refuse(dev, "fused")
    climb(dev, opened, memory)
    for other in (emulator("m4pro"), emulator("m4", rules={"channel-limit": 60_000})):
        _, attempts = climb(other, opened, memory)
        assert attempts.rungs == ["fused"]
    _, attempts = climb(emulator("m4"), opened, memory, layout="separate")
    assert attempts.rungs == ["fused"]
    _, attempts = climb(emulator("m4"), opened, memory)
    assert attempts.rungs == ["stage"]


def test_keys_tell_systems_apart() -> None:
    plan = lower(block())
    facts = {"kind": "ane", "chip": "Apple M4", "os_build": "25A1"}
    keys = {
        memory_key(SimpleNamespace(facts={**facts, **change}), plan.programs)  # type: ignore[arg-type]
        for change in ({}, {"os_build": "25B2"}, {"chip": "Apple M5"})
    }
    assert len(keys) == 3
    assert any(key.startswith("ane Apple M4 25A1 ") for key in keys)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut off"),
        pytest.param(b"[1]", id="list"),
        pytest.param(b'"text"', id="text"),
        pytest.param(b"\xff\xfe", id="bytes"),
        pytest.param(b'{"learning_rate": 1}', id="of something else"),
        pytest.param(b'{"format": "anetrain ladder memory", "version": 9}', id="newer"),
    ],
)
def test_an_unreadable_memory_is_reported_and_kept(
    content: bytes, tmp_path: Path, opened: list[Choice[CompiledPlan]], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "ladder.json"
    path.write_bytes(content)
    dev = emulator("m4", rules={"channel-limit": 100})
    with pytest.raises(CompileError):
        choose(block(), dev, Attempts(dev), memory=LadderMemory(path))
    assert path.read_bytes() == content  # nothing was learnt, so nothing is written
    caplog.clear()
    climb(emulator("m4", rules=STAGE_ONLY), opened, LadderMemory(path))
    assert any(str(path) in record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert (tmp_path / "ladder.json.unreadable").read_bytes() == content
    _, attempts = climb(emulator("m4", rules=STAGE_ONLY), opened, LadderMemory(path))
    assert attempts.rungs == ["stage"]


@pytest.mark.parametrize("change", [{"rung": "tiny"}, {"descents": 3}, {"descents": [{}]}], ids=str)
def test_a_damaged_entry_is_reported(
    change: dict[str, Any], tmp_path: Path, opened: list[Choice[CompiledPlan]], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "ladder.json"
    climb(emulator("m4"), opened, LadderMemory(path))
    content = json.loads(path.read_text())
    for entry in content["rungs"].values():
        entry.update(change)
    path.write_text(json.dumps(content))
    _, attempts = climb(emulator("m4"), opened, LadderMemory(path))
    assert attempts.rungs == ["fused"]
    assert "damaged" in caplog.text
    assert json.loads(path.read_text()) != content


def test_a_memory_that_cannot_be_written_is_reported(
    tmp_path: Path, opened: list[Choice[CompiledPlan]], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    choice, _ = climb(emulator("m4"), opened, LadderMemory(tmp_path / "file" / "ladder.json"))
    assert choice.plan.granularity == "fused"
    assert "cannot be remembered" in caplog.text
    assert (tmp_path / "file").read_text() == "in the way"


# ---------------------------------------------------------------- what is known beforehand


def test_chips_have_profiles() -> None:
    for profile in device.profiles():
        if profile != "exact":
            assert profile_of_chip(device.open("emulator", profile).facts["chip"]) == profile
    assert profile_of_chip("Apple M9 Super") == ""


def test_a_real_chip_is_checked_by_its_profile() -> None:
    plan = lower(block(), dialect="B")
    found = check_on_device(plan, SimpleNamespace(facts={"kind": "ane", "chip": "Apple M1"}))  # type: ignore[arg-type]
    assert {finding.rule for _, finding in found if not finding.advice} == {"new-dialect"}
    assert check_on_device(plan, SimpleNamespace(facts={"kind": "ane"})) == []  # type: ignore[arg-type]


def test_the_check_knows_switched_rules() -> None:
    plan = lower(block(), dialect="B")
    assert any(not finding.advice for _, finding in check_on_device(plan, emulator("m1")))
    assert not any(
        not finding.advice for _, finding in check_on_device(plan, emulator("m1", rules={"new-dialect": False}))
    )


def test_baked_plans_are_checked_whole() -> None:
    """Weights come when the program is compiled; until then zeros stand for them."""
    plan = lower(block(), "baked")
    assert check_plan(plan, "m4") == []
    found = check_plan(plan, "m4", rules={"blobfile-weights": 3})
    assert {finding.rule for _, finding in found} == {"blobfile-weights"}


def test_a_lower_first_rung_is_asked_for_and_not_remembered(opened: list[Choice[CompiledPlan]], tmp_path: Path) -> None:
    memory = LadderMemory(tmp_path / "ladder.json")
    choice, attempts = climb(emulator(), opened, memory, first="stage")
    assert attempts.rungs == ["stage"]
    assert choice.explain() == "8 dispatches, per stage, instead of 4: asked for"
    _, attempts = climb(emulator(), opened, memory)
    assert attempts.rungs == ["fused"]
