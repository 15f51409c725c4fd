"""Running probes: what crashes, hangs, fails or is refused is an observation, and Ctrl-C keeps what was found."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from anetrain import results
from anetrain.errors import DeviceUnavailable
from anetrain.isolate import Inline, Runner, Worker
from anetrain.probe.run import Run, Settings
from anetrain.results import Experiment, Verdict
from tests.probe_children import BEGUN, Alone, Bisection, Budgets, Lacking, Slow, Troubles

ROOT = Path(__file__).parent.parent
M4 = {"kind": "emulator:m4", "live_budget": 2**32 - 1, "compile_budget": 2**32 - 1}


def run_of(runner: Runner, device: dict[str, Any] | None = None) -> Run:
    return Run(Settings(device or M4, "small"), runner, command="anetrain probe")


def by_name(verdict: Verdict) -> dict[str, Experiment]:
    return {made.name: made for made in verdict.experiments}


def test_crashes_hangs_mistakes_and_refusals_are_observations() -> None:
    with Worker() as worker:
        verdict = run_of(worker).probe(Troubles())
    made = by_name(verdict)
    assert {name: one.status for name, one in made.items()} == {
        "fine": "done",
        "crash": "crashed",
        "hang": "timed out",
        "mistake": "failed",
        "refused": "refused",
        "fine again": "done",
    }
    assert made["fine"].parameters == {"number": 3}
    assert made["fine"].observed["number"] == 3
    assert made["crash"].reason == "its process was killed by signal 11 (SIGSEGV); it said last: in ."
    assert made["hang"].reason == "no answer within 1 s"
    assert made["mistake"].reason == "KeyError: 'which'"
    refusal = made["refused"].refusal
    assert refusal is not None
    assert (refusal.error, refusal.rule, refusal.code) == ("CompileError", "border-width", 1)
    assert verdict.answer == "partly"
    assert "crashed (its process was killed by signal 11" in verdict.sentence


def test_an_experiment_of_its_own_gets_its_own_process() -> None:
    with Worker() as worker:
        a, b, c, d = (made.observed["pid"] for made in run_of(worker).probe(Alone()).experiments)
    assert a == b
    assert len({b, c, d}) == 3


def test_a_full_budget_takes_a_new_process() -> None:
    with Worker() as worker:
        made = by_name(run_of(worker, {"kind": "emulator:exact"}).probe(Budgets()))
    assert made["first"].observed["pid"] != made["second"].observed["pid"]
    assert (made["too many"].status, made["many"].status) == ("failed", "done")
    refusal = made["too many"].refusal
    assert refusal is not None
    assert refusal.error == "BudgetError"


def test_experiments_may_follow_from_others() -> None:
    verdict = run_of(Inline()).probe(Bisection())
    assert [made.name for made in verdict.experiments] == ["0", "16", "8", "4", "6", "7"]


def test_what_is_lacking_is_said() -> None:
    verdict = run_of(Inline()).probe(Lacking())
    assert (verdict.answer, verdict.experiments) == ("unknown", ())
    assert verdict.sentence == "a device of the kind emulator has nothing of the sort"


def test_auto_is_decided_once() -> None:
    """And what the emulator alone takes does not go to a real one."""
    asked: list[dict[str, Any]] = []

    class Engine(Inline):
        def run(self, function: str, arguments: Any, *, timeout_s: float) -> Any:
            asked.append(arguments["device"])
            outcome = super().run(function, {**arguments, "device": M4}, timeout_s=timeout_s)
            if function.endswith(":describe"):
                outcome.value.update(kind="ane", name="ane", facts={})
            return outcome

    run_of(Engine(), {"kind": "auto"}).probe(Bisection())
    assert asked[0] == {"kind": "auto", "executor": "audit", "watchdog_s": None}
    assert asked[1] == {"kind": "ane", "watchdog_s": None}
    with pytest.raises(ValueError, match="switches of the emulator"):
        run_of(Engine(), {"kind": "auto", "rules": {"concat": True}})


def test_no_device_is_an_error() -> None:
    with pytest.raises(DeviceUnavailable, match="there is no profile 'm9'"):
        run_of(Inline(), {"kind": "emulator:m9"})


def test_an_interrupt_keeps_what_was_seen() -> None:
    class Impatient(Inline):
        def run(self, function: str, arguments: Any, *, timeout_s: float) -> Any:
            if function.endswith(":experiment") and arguments["trial"]["name"] == "endless":
                raise KeyboardInterrupt
            return super().run(function, arguments, timeout_s=timeout_s)

    made = run_of(Impatient())
    with pytest.raises(KeyboardInterrupt):
        made.probe(Slow())
    (verdict,) = made.results.verdicts
    assert {name: one.status for name, one in by_name(verdict).items()} == {"quick": "done", "endless": "interrupted"}
    assert not made.results.complete


SCRIPT = """
import sys
from anetrain.cli import main
from anetrain.probe import catalogue
catalogue.PROBES = {"troubles": "tests.probe_children:Bisection", "slow": "tests.probe_children:Slow"}
sys.exit(main(["probe", "all", "--device", "emulator:m4", "--scale", "small", "--out", sys.argv[1]]))
"""


def test_ctrl_c_keeps_what_was_seen(tmp_path: Path) -> None:
    """By a signal, as a terminal sends it."""
    path, begun = tmp_path / "found.json", tmp_path / "begun"
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), BEGUN: str(begun)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(begun)
    process.send_signal(signal.SIGINT)
    printed, complaints = process.communicate(timeout=60)
    assert process.returncode == 130
    assert complaints == "anetrain probe: interrupted\n"
    head, first, second, last = printed.splitlines()
    assert head.startswith("emulated ANE (emulator:m4)")
    assert first.startswith("bisection: Does everything work? PARTLY.")
    assert second == "slow: Does everything work? UNKNOWN. quick: right; endless: interrupted"
    assert last == f"results: {path} (incomplete)"
    found = results.read(path)
    assert not found.complete
    assert [verdict.probe for verdict in found.verdicts] == ["bisection", "slow"]


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
