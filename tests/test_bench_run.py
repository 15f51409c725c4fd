"""Running benches: whatever becomes of a case is a result, and the others are measured all the same."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from anetrain import device
from anetrain.bench import Bench, Case
from anetrain.bench.latency import FLOOR, Latency
from anetrain.bench.run import Run, Settings
from anetrain.device import Device
from anetrain.errors import DeviceUnavailable
from anetrain.isolate import Inline, Outcome, Runner, Worker
from anetrain.results import Check, Measurement, Results, Timing
from tests.bench_children import Budgets, Slow, Spoilt, Troubles

QUICK = {"least_samples": 3, "least_s": 0.0, "most_s": 0.5, "most_warm_up": 5}


UNLIMITED = {"live_budget": 2**32 - 1, "compile_budget": 2**32 - 1}


def run_of(runner: Runner, **options: Any) -> Run:
    """In this process other tests have compiled, too."""
    budgets = {} if isinstance(runner, Worker) else UNLIMITED
    return Run(
        Settings({"kind": "emulator:m4", **budgets, **options}, "small", meter=QUICK), runner, command="anetrain bench"
    )


def measured(run: Run, bench: Bench) -> dict[str, Measurement]:
    return {case.name: run.measure(bench, case) for case in bench.cases("small")}


def test_crashes_hangs_mistakes_refusals_and_wrong_values_are_results() -> None:
    with Worker() as worker:
        run = run_of(worker)
        made = measured(run, Troubles())
    assert {name: one.status for name, one in made.items()} == {
        "fine": "measured",
        "crash": "crashed",
        "hang": "timed out",
        "mistake": "failed",
        "refused": "refused",
        "misused": "failed",
        "wrong": "wrong",
        "fine again": "measured",
    }
    assert made["crash"].reason == "its process was killed by signal 11 (SIGSEGV); it said last: in ."
    assert made["hang"].reason == "no answer within 1 s"
    assert made["mistake"].reason == "KeyError: 'which'; it said last: which one?"
    assert "rule border-width" in made["refused"].reason
    assert "com.apple.appleneuralengine" in made["refused"].reason
    assert "nbytes" in made["misused"].reason
    assert made["wrong"].reason.startswith("an error of 0.5 against numpy; at most 0.001")
    assert {one.timing is None for name, one in made.items() if not name.startswith("fine")} == {True}
    assert made["crash"].parameters == {"scale": "small"}
    assert tuple(made.values()) == run.results.measurements
    assert not run.results.complete
    run.finish()
    assert run.results.complete
    Results.model_validate_json(run.results.model_dump_json(by_alias=True))


def test_a_process_is_kept_for_the_next_case_and_replaced_after_a_crash() -> None:
    with Worker() as worker:
        made = measured(run_of(worker), Troubles())
    assert made["fine"].observed["pid"] != made["fine again"].observed["pid"]
    with Worker() as worker:
        run = run_of(worker)
        fine = next(case for case in Troubles().cases("small") if case.name == "fine")
        first, second = (run.measure(Troubles(), fine) for _ in range(2))
    assert first.observed["pid"] == second.observed["pid"]


def test_a_full_budget_takes_a_new_process() -> None:
    with Worker() as worker:
        made = measured(run_of(worker), Budgets())
    assert made["first"].observed["pid"] != made["second"].observed["pid"]
    assert made["too many"].status == "failed"  # not the device's refusal
    assert "100" in made["too many"].reason


def test_a_device_that_is_gone_takes_a_new_process() -> None:
    with Worker() as worker:
        made = measured(run_of(worker, watchdog_s=0.2), Spoilt())
    assert [one.status for one in made.values()] == ["failed", "measured", "measured"]
    assert made["fine"].observed["pid"] == made["fine again"].observed["pid"]


@pytest.mark.parametrize("rules", [{}, {"accumulator-overflow": 0.5}])
def test_a_rule_that_changes_values_is_found(rules: dict[str, float]) -> None:
    """The engine's overflow, brought down to sums that occur."""
    made = measured(run_of(Inline(), executor="audit", rules=rules), Latency())
    assert {one.status for name, one in made.items() if name != FLOOR} == {"wrong" if rules else "measured"}
    assert made[FLOOR].status == "measured"


def test_findings_from_times_are_not_drawn_from_an_emulator() -> None:
    class Engine(Inline):
        def run(self, function: str, arguments: Any, *, timeout_s: float) -> Outcome:
            outcome = super().run(
                function, {**arguments, "device": {"kind": "emulator", **UNLIMITED}}, timeout_s=timeout_s
            )
            if function.endswith(":describe"):
                outcome.value.update(kind="ane", name="ane", facts={})
            return outcome

    values, times = "How many are right?", "How many have times?"
    for runner, expected in ((Inline(), [values]), (Engine(), [values, times])):
        run = run_of(runner)
        for _ in range(2):  # findings of the second take the place of the first one's
            run.measure(Troubles(), Troubles().cases("small")[0])
        assert [found.question for found in run.results.findings] == expected
        assert {found.basis for found in run.results.findings} == {("fine", "fine")}


def test_auto_is_decided_once_and_nothing_waits_for_a_watchdog() -> None:
    asked: list[dict[str, Any]] = []

    class Watched(Inline):
        def run(self, function: str, arguments: Any, *, timeout_s: float) -> Outcome:
            asked.append(arguments["device"])
            return super().run(function, arguments, timeout_s=timeout_s)

    run = run_of(Watched(), kind="auto")
    run.measure(Troubles(), Troubles().cases("small")[0])
    assert [(one["kind"], one["watchdog_s"]) for one in asked] == [("auto", None), (run.results.device.kind, None)]


def test_no_device_is_an_error() -> None:
    with pytest.raises(DeviceUnavailable, match="there is no profile 'm9'"):
        Run(Settings({"kind": "emulator:m9"}), Inline(), command="anetrain bench")


def test_an_interrupted_case_is_kept_once() -> None:
    run = run_of(Inline())
    quick, endless, _ = Slow().cases("small")
    run.measure(Slow(), quick)
    for case in (quick, endless):
        run.interrupted(Slow(), case)
    assert [(one.case, one.status) for one in run.results.measurements] == [
        ("quick", "measured"),
        ("endless", "interrupted"),
    ]


def test_a_device_is_opened_once_per_process(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def counted(kind: str, **options: Any) -> Device:
        opened.append(kind)
        return device.open(kind, **options)

    monkeypatch.setattr("anetrain.session.device", SimpleNamespace(open=counted))
    run = run_of(Inline(), kind="emulator:m2max")
    for _ in range(3):
        run.measure(Troubles(), Troubles().cases("small")[0])
    assert opened == ["emulator:m2max"]


def test_wrong_values_are_not_even_timed() -> None:
    def clock() -> Timing:
        raise AssertionError("timed")

    wrong = Check(against="numpy", largest_error=0.5, allowed=0.1, elements=1)
    made = Troubles().timed(Case("a case", {"size": 3}), wrong, clock, flops=4)
    assert (made.status, made.parameters, made.flops) == ("wrong", {"size": 3}, 4)
    with pytest.raises(AssertionError, match="timed"):
        Troubles().timed(Case("a case"), wrong.model_copy(update={"allowed": 1.0}), clock)
