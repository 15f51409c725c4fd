"""Probes of calls that training never makes: the verdict is the profile's rule, and turning the rule turns it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from anetrain import device, raw
from anetrain.isolate import Inline, Runner, Worker, place_of
from anetrain.probe import Probe, catalogue
from anetrain.probe.api import Api, api_of, changes, unexpected
from anetrain.probe.requests import QUALITIES, PerformanceStats, ProcedureIndex, QualityOfService
from anetrain.probe.run import Run, Settings
from anetrain.probe.ways import Chaining, RealTime, SharedEvents
from anetrain.probe.weighted import OF_FIRST
from anetrain.probe.weights import WeightPatch, WeightReload, WeightsBuffer
from anetrain.results import Experiment, Refusal, Verdict
from tests.support import emulator

UNLIMITED = 2**32 - 1
HARMLESS: tuple[Probe, ...] = (
    Api(),
    WeightReload(),
    WeightPatch(),
    WeightsBuffer(),
    ProcedureIndex(),
    QualityOfService(),
    PerformanceStats(),
    RealTime(),
    Chaining(),
)
Rules = Mapping[str, bool | float]


def run_of(probe: Probe, profile: str, rules: Rules | None = None, runner: Runner | None = None) -> tuple[Run, Verdict]:
    opened: dict[str, Any] = {"live_budget": UNLIMITED, "compile_budget": UNLIMITED, "rules": dict(rules or {})}
    settings = Settings({"kind": f"emulator:{profile}", **opened}, "small")
    run = Run(settings, runner or Inline(), command="anetrain probe")
    return run, run.probe(probe)


def verdict_of(probe: Probe, profile: str = "m4", rules: Rules | None = None, runner: Runner | None = None) -> Verdict:
    return run_of(probe, profile, rules, runner)[1]


@pytest.mark.parametrize("probe", HARMLESS, ids=lambda probe: probe.name)
@pytest.mark.parametrize("profile", [name for name in device.profiles() if name != "exact"])
def test_every_hypothesis_holds_on_every_chip(probe: Probe, profile: str) -> None:
    """They are what was published of chips, and the profiles have it from the same sources."""
    verdict = verdict_of(probe, profile)
    assert verdict.answer == "yes", verdict.sentence
    assert len(verdict.features) <= 1
    assert catalogue.PROBES[probe.name] == place_of(probe)


@pytest.mark.parametrize("probe", HARMLESS[1:], ids=lambda probe: probe.name)
def test_the_rule_decides(probe: Probe) -> None:
    (rule,) = probe.rules
    turned = verdict_of(probe, rules={rule: False})
    assert turned.answer == "no", turned.sentence
    kept = verdict_of(probe)
    for feature, answer in kept.features.items():  # what it means for the matrix turns with it, but for these
        if probe.name not in ("weight-patch", "real-time", "procedure-index", "qos"):
            assert {answer, turned.features[feature]} == {"yes", "no"}, feature
    assert verdict_of(probe, rules={other: False for other in _raw_rules() if other != rule}).answer == "yes"


def _raw_rules() -> list[str]:
    return [name for name, known in device.rule_table().items() if known["stage"] == "raw"]


def test_every_rule_of_such_calls_has_a_probe() -> None:
    probed = {rule for probe in (*HARMLESS, SharedEvents()) for rule in probe.rules}
    assert probed == set(_raw_rules())


@pytest.mark.parametrize(
    ("setting", "answer", "said"),
    [
        (1, "yes", "It crashes: one signal event: crashed (its process was killed by signal 11 (SIGSEGV))"),
        (2, "yes", "It never returns: one signal event: timed out (no answer within"),
        (False, "no", "It works: one signal event: right"),
    ],
)
def test_a_crash_and_a_hang_are_verdicts(
    setting: bool | float, answer: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anetrain.probe.ways.HANGS_S", {"small": 3.0})
    with Worker() as worker:
        verdict = verdict_of(SharedEvents(), rules={"shared-events": setting}, runner=worker)
    assert (verdict.answer, verdict.sentence[: len(said)]) == (answer, said)


def test_right_values_of_each_quality_are_told_apart_from_others() -> None:
    verdict = verdict_of(QualityOfService(), rules={"qos-range": False})
    (made,) = verdict.experiments
    assert set(made.observed["refused"]) == {str(quality) for quality in QUALITIES} - {"9", "17", "21", "25", "33"}
    assert "right are 9, 17, 21, 25, 33" in verdict.sentence
    assert "median_ms" not in made.observed  # no engine, no times


# ---------------------------------------------------------------- verdicts from what was seen


def made(name: str, status: str = "done", refusal: Refusal | None = None, **observed: Any) -> Experiment:
    return Experiment(name=name, status=status, observed=observed, refusal=refusal, reason="")  # type: ignore[arg-type]


REFUSED = Refusal(domain="d", code=15, text="no", detail="no", rule="", error="EvalError")


@pytest.mark.parametrize(
    ("probe", "experiments", "answer"),
    [
        (WeightReload(), [made(WeightReload.trial, values="wrong")], "unknown"),
        (WeightReload(), [made(WeightReload.trial, values=OF_FIRST)], "yes"),
        (WeightReload(), [], "unknown"),
        (WeightPatch(), [made(WeightPatch.trial, "refused", REFUSED)], "no"),
        (WeightPatch(), [made(WeightPatch.trial, values=OF_FIRST)], "no"),
        (WeightPatch(), [made(WeightPatch.trial, "crashed")], "no"),
        (WeightsBuffer(), [made(WeightsBuffer.trial, values="zero")], "unknown"),
        (WeightsBuffer(), [made(WeightsBuffer.trial, "interrupted")], "unknown"),
        (ProcedureIndex(), [made("0", values="right")], "unknown"),
        (ProcedureIndex(), [made("1", values="right"), made("2", values="zero")], "no"),
        (ProcedureIndex(), [made("1", values="right"), made("2", "interrupted")], "unknown"),
        (PerformanceStats(), [made(PerformanceStats.OBJECT, values="right", hardware_ns=None)], "unknown"),
        (PerformanceStats(), [made(PerformanceStats.OBJECT, values="right", hardware_ns=7)], "no"),
        (RealTime(), [made(path, values="right") for path in raw.PATHS[:-1]], "unknown"),
        (RealTime(), [made(path, values="zero" if path == "direct" else "right") for path in raw.PATHS], "partly"),
        (RealTime(), [made(path, values="right", real_time_granted=path == "real_time") for path in raw.PATHS], "no"),
        (Chaining(), [made(Chaining.ALONE, values="zero"), made(Chaining.CHAINED, "refused", REFUSED)], "unknown"),
        (Chaining(), [made(Chaining.ALONE, values="right"), made(Chaining.CHAINED, values="zero")], "yes"),
        (SharedEvents(), [made(SharedEvents.EVENT, "failed")], "unknown"),
        (SharedEvents(), [], "unknown"),
        (Api(), [], "unknown"),
    ],
)
def test_verdicts(probe: Probe, experiments: Sequence[Experiment], answer: str) -> None:
    verdict = probe.judge(experiments)
    assert verdict.answer == answer, verdict.sentence


@pytest.mark.parametrize(
    ("median_ms", "answer", "said"),
    [
        ({"0": 0.1, "21": 0.1, "33": 0.11}, "yes", "none is faster (0.100 ms)"),
        ({"0": 0.1, "21": 0.1, "33": 0.05}, "partly", "faster than the others (0.100 ms) are 33 (0.050 ms)"),
    ],
)
def test_speed_is_a_matter_of_medians(median_ms: dict[str, float], answer: str, said: str) -> None:
    seen = made("0 to 63", values="right", wrong={}, refused={}, median_ms=median_ms)
    verdict = QualityOfService().judge([seen])
    assert (verdict.answer, said in verdict.sentence) == (answer, True), verdict.sentence


def test_the_time_of_the_engine_is_told() -> None:
    verdict = verdict_of(PerformanceStats(), rules={"no-performance-stats": False})
    assert verdict.sentence.startswith("It tells (")
    assert " ns" in verdict.sentence


# ---------------------------------------------------------------- the framework


def api() -> dict[str, Any]:
    return copy.deepcopy(raw.api(emulator("m4")))


def test_what_a_framework_lacks_is_named() -> None:
    changed = api()
    assert list(unexpected(changed)) == []
    changed["classes"]["_ANEDeviceInfo"]["found"] = False
    methods = changed["classes"]["_ANERequest"]["class_methods"]
    selector, encoding = next(iter(methods.items()))
    methods[selector] = "v@:"
    assert sorted(unexpected(changed)) == [
        f"+[_ANERequest {selector}] is v@:, expected {encoding}",
        "no class _ANEDeviceInfo",
    ]
    verdict = Api().judge([made("the framework", api=changed, differences=list(unexpected(changed)))])
    assert verdict.answer == "no"
    assert "no class _ANEDeviceInfo" in verdict.sentence


def test_a_dump_is_compared_with_an_older_one() -> None:
    run, _ = run_of(Api(), "m4")
    before = api_of(run.results)
    assert before is not None
    after = api()
    assert list(changes(before, after)) == []
    after["classes"]["_ANEDeviceInfo"]["found"] = False
    after["classes"]["_ANENew"] = {"found": True, "class_methods": {}, "instance_methods": {}, "expected": {}}
    methods = after["classes"]["_ANERequest"]["instance_methods"]
    methods["fresh"] = "v@:"
    assert list(changes(before, after)) == [
        "class _ANEDeviceInfo is gone",
        "class _ANENew is new",
        "-[_ANERequest fresh] is new: v@:",
    ]
    back = [line for line in changes(after, before) if "fresh" in line]
    assert back == ["-[_ANERequest fresh] is gone"]
    other, _ = run_of(Chaining(), "m4")
    assert api_of(other.results) is None
