"""Work in another process: values come back, and crashes, hangs and refusals are outcomes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anetrain.isolate import Inline, Outcome, Runner, Worker

WORK = "tests.isolated_work"


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    with Worker() as worker:
        yield worker


def run(runner: Runner, name: str, timeout_s: float = 60, **arguments: Any) -> Outcome:
    return runner.run(f"{WORK}:{name}", arguments, timeout_s=timeout_s)


def test_values_come_back_and_a_process_is_kept(worker: Worker) -> None:
    first, second = run(worker, "doubled", number=3), run(worker, "doubled", number=4)
    assert (first.status, first.value["twice"], second.value["twice"]) == ("done", 6, 8)
    assert [first.value["calls"], second.value["calls"]] == [1, 2]
    assert first.value["pid"] == second.value["pid"] != os.getpid()
    assert "said on standard output" in first.output
    assert "said on standard output" in second.output
    assert run(worker, "failed").output == ""  # what was printed before belongs to other work
    assert first.seconds > 0
    worker.renew()
    assert run(worker, "doubled", number=1).value["calls"] == 1


def test_a_crash_is_an_outcome_and_the_next_work_is_done(worker: Worker) -> None:
    outcome = run(worker, "killed")
    assert (outcome.status, outcome.value) == ("crashed", None)
    assert outcome.reason == "its process was killed by signal 11 (SIGSEGV)"
    assert "last words" in outcome.output
    assert run(worker, "gone", code=3).reason == "its process ended with exit code 3"
    assert run(worker, "doubled", number=1).value["calls"] == 1


def test_a_hang_is_an_outcome_and_its_process_is_gone(worker: Worker) -> None:
    pid = run(worker, "doubled", number=1).value["pid"]
    outcome = run(worker, "asleep", timeout_s=0.5)
    assert (outcome.status, outcome.reason) == ("timed out", "no answer within 0.5 s")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert run(worker, "doubled", number=1).status == "done"


def test_what_a_process_has_begun_goes_with_it(worker: Worker) -> None:
    grandchild = run(worker, "with_a_child").value
    worker.renew()
    deadline = time.monotonic() + 10
    while _is_running(grandchild) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _is_running(grandchild)


def _is_running(pid: int) -> bool:
    """A zombie that nobody waits for is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("runner", [Inline, Worker])
def test_refusals_and_mistakes_are_told_apart(runner: type[Inline] | type[Worker]) -> None:
    made = runner()
    refused = run(made, "refused", budget=False)
    assert refused.status == "refused"
    said = {"domain": "d", "code": 3, "text": "t", "detail": "no such thing", "rule": "some-rule"}
    assert refused.refusal == {"error": "CompileError", **said}
    assert not refused.over_budget
    assert run(made, "refused", budget=True).over_budget
    assert (run(made, "failed").status, run(made, "failed").reason) == ("failed", "KeyError: 'which'")
    made.renew()


def test_what_is_not_plain_data_is_a_failure_of_the_work(worker: Worker) -> None:
    assert run(worker, "not_plain").status == "failed"
    assert run(worker, "doubled", number=1).status == "done"


def test_nothing_is_left_of_a_process_after_an_interrupt(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = run(worker, "doubled", number=1).value["pid"]

    def interrupt(timeout_s: float) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(worker, "_answer", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(worker, "asleep")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
