"""anetrain.events and anetrain.account: who hears what, what a file keeps of it, and where the time goes."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import pytest

from anetrain import events
from anetrain.account import PARTS, Account
from anetrain.events import Event, Events, JsonLines, Overflow, Step, Update, from_record, read_json_lines, to_record
from tests.cpu_arrays import refused

STEP = Step(micro_step=3, loss=2.5, tokens=256, seconds=0.5)
SAMPLES = {"str": "a", "int": 3, "float": 0.5, "bool": True, "dict[str, float]": {"update": 0.25}}
SAMPLES["dict[str, float | int | str]"] = {"loss": 0.5, "updates": 3, "device": "emulator"}


def every_event() -> list[Event]:
    return [kind(**{item.name: SAMPLES[str(item.type)] for item in fields(kind)}) for kind in events.KINDS.values()]


# ---------------------------------------------------------------- the stream


def test_listeners_hear_everything_in_order() -> None:
    stream, heard = Events(), []
    stream.add(lambda event: heard.append(("first", event.kind)))
    stream.emit(STEP)
    stream.add(lambda event: heard.append(("second", event.kind)))
    stream.emit(Overflow(1, "layers.0", 2, 512.0, 0.5))
    assert heard == [("first", "step"), ("first", "overflow"), ("second", "overflow")]


def test_removed_listeners_hear_no_more() -> None:
    stream, heard = Events(), []
    stream.add(heard.append)
    stream.remove(heard.append)
    stream.emit(STEP)
    assert heard == []
    refused(lambda: stream.remove(heard.append), "does not listen")


def failing(event: Event) -> None:
    raise RuntimeError(f"no room for {event.kind}")


def test_a_failing_listener_is_reported_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    stream, heard = Events(), []
    stream.add(failing)
    stream.add(heard.append)
    with caplog.at_level(logging.ERROR):
        stream.emit(STEP)
        stream.emit(STEP)
    assert heard == [STEP, STEP]
    assert [(failure.listener, failure.event, str(failure.error)) for failure in stream.failures] == [
        (failing, STEP, "no room for step")
    ]
    assert len(caplog.records) == 1
    assert "failing" in caplog.text
    assert "no room for step" in caplog.text


def test_a_required_listener_ends_the_run_after_the_others_heard() -> None:
    stream, heard = Events(), []
    stream.add(failing, required=True)
    stream.add(heard.append)
    for count in (1, 2):
        with pytest.raises(RuntimeError, match="no room for step"):
            stream.emit(STEP)
        assert len(heard) == len(stream.failures) == count


def test_interrupts_pass() -> None:
    def interrupted(event: Event) -> None:
        raise KeyboardInterrupt

    stream = Events()
    stream.add(interrupted)
    with pytest.raises(KeyboardInterrupt):
        stream.emit(STEP)


def test_listeners_may_come_and_go_while_they_hear() -> None:
    stream, heard = Events(), []

    def once(event: Event) -> None:
        stream.remove(once)
        stream.add(heard.append)

    stream.add(once)
    stream.emit(STEP)
    assert heard == []
    stream.emit(STEP)
    assert heard == [STEP]
    assert stream.failures == []


def test_kinds_have_names_of_their_own() -> None:
    assert {"compile", "step", "update", "validation", "checkpoint", "restart", "report", "overflow"} <= set(
        events.KINDS
    )
    with pytest.raises(TypeError, match="'step'"):

        class Other(Event, kind="step"):
            pass


# ---------------------------------------------------------------- JSON


def test_every_event_survives_json() -> None:
    for event in every_event():
        assert from_record(json.loads(json.dumps(to_record(event), allow_nan=False))) == event
        assert all(item.default is MISSING for item in fields(event) if item.name not in {"parts"})


def test_what_comes_again_is_forgotten(tmp_path: Path) -> None:
    """Behind the last micro-step that is known, whatever follows it, and half a line."""
    path = tmp_path / "events.jsonl"
    journal = JsonLines(path, clock=lambda: 1.0)
    for number in (1, 2, 3):
        journal(Step(number, 2.5, 64, 0.5))
        journal(events.Validation(10 + number, 2.0, 64, 0.5, False))
    journal.close()
    lines = path.read_text().splitlines(keepends=True)
    for known, validated, left in ((9, 99, 6), (3, 13, 6), (3, 12, 5), (2, 12, 4), (2, 11, 3), (1, 11, 2), (0, 99, 0)):
        path.write_text("".join(lines) + '{"time": 1.0, "kind": "val')
        events.forget_after(path, known, validated)
        assert path.read_text() == "".join(lines[:left]), (known, validated)
    path.write_text('{"type": "step", "step": 4, "loss": 1.0}\n{"type": "batch", "batch": 9}\n')
    events.forget_after(path, 4, 0)
    assert len(path.read_text().splitlines()) == 2
    events.forget_after(path, 3, 0)
    assert path.read_text() == ""


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_diverged_run_can_be_read(loss: float, tmp_path: Path) -> None:
    listener = JsonLines(tmp_path / "run.jsonl", clock=lambda: 12.5)
    listener(Step(1, loss, 256, 0.5))
    listener.close()
    ((seconds, event),) = read_json_lines(tmp_path / "run.jsonl")
    assert seconds == 12.5
    assert isinstance(event, Step)
    assert event.loss == loss or (math.isnan(event.loss) and math.isnan(loss))


def test_lines_are_there_at_once_and_old_ones_stay(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    for run in range(2):
        listener = JsonLines(path, clock=lambda: 1.0)
        for event in every_event():
            listener(event)
        assert len(path.read_text().splitlines()) == (run + 1) * len(every_event())
        listener.close()
    assert [event for _, event in read_json_lines(path)] == every_event() * 2
    first = json.loads(path.read_text().splitlines()[0])
    assert list(first)[:2] == ["time", "kind"]


def test_half_a_line(tmp_path: Path) -> None:
    """It is no event yet for readers, and gone when the run goes on."""
    path = tmp_path / "run.jsonl"
    line = json.dumps({"time": 1.0} | to_record(STEP)) + "\n"
    path.write_text(line + line[:20])
    assert list(read_json_lines(path)) == [(1.0, STEP)]
    listener = JsonLines(path, clock=lambda: 2.0)
    listener(STEP)
    listener.close()
    assert list(read_json_lines(path)) == [(1.0, STEP), (2.0, STEP)]


def test_lines_that_are_no_events(tmp_path: Path) -> None:
    good = json.dumps({"time": 1.0} | to_record(STEP))
    for bad, word in (
        ('{"time": 1.0, "kind": "stop"}', "'stop'"),
        ('{"time": 1.0, "kind": "step", "loss": 1}', "micro_step"),
        ('{"time": 1.0, "kind": "overflow", "update": 1, "where": "x", "infinite": 1, "loss_scale": 2, "a": 1}', "'a'"),
        ('{"kind": "step"}', "time"),
        ("[1, 2]", "line 2"),
        (good[:30], "line 2"),
    ):
        path = tmp_path / "run.jsonl"
        path.write_text(good + "\n" + bad + "\n")
        refused(lambda path=path: list(read_json_lines(path)), "run.jsonl, line 2", word)


# ---------------------------------------------------------------- the account


@dataclass
class Clock:
    """Stands still but for `sleep`."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def spent(body: Callable[[Account, Clock], object]) -> Any:
    clock = Clock()
    account = Account(clock)
    account.start()
    body(account, clock)
    return account.stop()


def one_update(account: Account, clock: Clock, slow: str = "") -> None:
    """A part inside another, one that comes twice, one by begin and end; 50 ms more in the slow one."""

    def work(name: str, seconds: float) -> None:
        clock.sleep(seconds + (0.05 if name == slow else 0.0))

    for _ in range(2):
        with account.part("forward_host"):
            work("forward_host", 0.1)
            with account.part("forward_conversion"):
                work("forward_conversion", 0.02)
                with account.part("forward_device"):
                    work("forward_device", 0.3)
            work("forward_host", 0.01)
    account.begin("weight_gradients")
    work("weight_gradients", 0.4)
    account.begin("waiting")
    work("waiting", 0.03)
    account.end()
    account.end()
    with account.part("update"):
        work("update", 0.2)


EXPECTED = {
    "forward_host": 0.22,
    "forward_conversion": 0.04,
    "forward_device": 0.6,
    "weight_gradients": 0.4,
    "waiting": 0.03,
    "update": 0.2,
}


def test_nested_parts_are_taken_out() -> None:
    result = spent(one_update)
    assert set(result.parts) == set(PARTS)
    assert result.parts == pytest.approx({**dict.fromkeys(PARTS, 0.0), **EXPECTED})
    assert result.seconds == pytest.approx(sum(EXPECTED.values()))
    assert result.covered == pytest.approx(1.0)


@pytest.mark.parametrize("slow", list(EXPECTED))
def test_a_sleep_moves_its_part_alone(slow: str) -> None:
    usual, delayed = spent(one_update), spent(lambda account, clock: one_update(account, clock, slow))
    moved = {name: seconds for name in PARTS if (seconds := delayed.parts[name] - usual.parts[name]) > 1e-9}
    times = {"forward_host": 4, "forward_conversion": 2, "forward_device": 2}.get(slow, 1)
    assert moved == pytest.approx({slow: 0.05 * times})


def test_what_no_part_measures_is_in_none() -> None:
    def body(account: Account, clock: Clock) -> None:
        clock.sleep(0.25)
        with account.part("data"):
            clock.sleep(0.5)
        clock.sleep(0.25)

    result = spent(body)
    assert (result.seconds, result.covered, sum(result.parts.values())) == (1.0, 0.5, 0.5)


def test_an_error_closes_its_parts() -> None:
    def body(account: Account, clock: Clock) -> None:
        def fail() -> None:
            with account.part("update"), account.part("restaging"):
                clock.sleep(0.5)
                raise ValueError("inside")

        with pytest.raises(ValueError, match="inside"):
            fail()
        with account.part("data"):
            clock.sleep(0.5)

    result = spent(body)
    assert (result.parts["restaging"], result.parts["update"], result.parts["data"]) == (0.5, 0.0, 0.5)


def test_start_begins_from_zero() -> None:
    clock = Clock()
    account = Account(clock)
    with account.part("data"):  # of nobody's account
        clock.sleep(1.0)
    account.start()
    account.begin("update")  # left open by an error
    clock.sleep(1.0)
    account.start()
    with account.part("waiting"):
        clock.sleep(0.5)
    result = account.stop()
    assert result.seconds == 0.5
    assert {name: seconds for name, seconds in result.parts.items() if seconds} == {"waiting": 0.5}


def test_mistakes() -> None:
    account = Account(Clock())
    with pytest.raises(RuntimeError, match="not started"):
        account.stop()
    account.start()
    account.begin("update")
    with pytest.raises(RuntimeError, match="update"):
        account.stop()
    refused(lambda: account.part("other"), "'other'", "forward_device")  # type: ignore[arg-type]


def test_an_update_event_takes_an_account() -> None:
    parts = spent(one_update).parts
    update = Update(1, 2.0, 1e-3, 0.5, False, 2, 512, 65536.0, 1.5, parts)
    assert from_record(to_record(update)) == update
