"""Where the time of a step goes: what is slow shows in its part and nowhere else, and the parts cover the step."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from anetrain import cpu, device
from anetrain.account import Account
from anetrain.mil.types import Array
from anetrain.model import PRESETS, Model
from anetrain.pipeline import Pipeline
from anetrain.pipeline.lane import Lane
from tests.small_models import batch, model_of
from tests.support import emulator

SLOW_S = 0.05


class Clock:
    """Stands still, but for what is told to be slow: at its n-th call since `arm`."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.calls = 0
        self.slow_call = -1

    def __call__(self) -> float:
        return self.now_s

    def arm(self, call: int) -> None:
        self.calls, self.slow_call = 0, call

    def slow(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            if self.calls == self.slow_call:
                self.now_s += SLOW_S
            self.calls += 1
            return work(*arguments, **named)

        return run


def slow_requests(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    bind = device.Request.__init__

    def bound(self: device.Request, native: Any) -> None:
        bind(self, native)
        self.run = clock.slow(native.run)

    monkeypatch.setattr(device.Request, "__init__", bound)


# What is slow, which of its calls in a micro-step (of 2 layers, each with 2 programs in forward and 2 in backward), and
# the part that has to have it.
CASES = {
    "forward device, first": ("request", 0, "forward_device"),
    "forward device, last": ("request", 3, "forward_device"),
    "backward device, first": ("request", 4, "backward_device"),
    "backward device, last": ("request", 7, "backward_device"),
    "forward send": ("write", 0, "forward_conversion"),
    "backward send": ("write", -1, "backward_conversion"),
    "forward receive": ("read", 0, "forward_conversion"),
    "backward receive": ("read", -1, "backward_conversion"),
    "norm": ("rms_norm", 0, "forward_norms"),
    "classifier": ("matmul", 0, "forward_classifier"),
    "classifier's derivative": ("matmul", 1, "backward_classifier"),
    "loss": ("cross_entropy", 0, "forward_host"),
    "norm's derivative": ("rms_norm_backward", 0, "backward_norms"),
    "finiteness": ("largest", 0, "backward_host"),
    "weight gradients": ("embedding_scatter", 0, "weight_gradients"),
    "tokens": ("tokens", 0, "data"),
    "staging": ("stage", 0, "restaging"),
    "clearing": ("clear", 0, "update"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_slow_shows_in_its_part_alone(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    what, call, part = CASES[case]
    clock = Clock()
    account = Account(clock)
    if what == "request":
        slow_requests(clock, monkeypatch)
    elif what in ("read", "write"):
        monkeypatch.setattr(device.Surface, what, clock.slow(getattr(device.Surface, what)))
    elif what == "stage":
        monkeypatch.setattr("anetrain.pipeline.weights.Staging.stage", clock.slow(lambda self, copied: None))
    elif hasattr(cpu, what):
        monkeypatch.setattr(cpu, what, clock.slow(getattr(cpu, what)))
    pipeline = model_of(account=account)
    ids, targets = batch()
    if what == "clear":
        pipeline.gradients = {"slow": Slow(clock)}  # type: ignore[dict-item]

    def run() -> dict[str, float]:
        account.start()
        given = Tokens(ids, clock) if what == "tokens" else ids
        pipeline.micro_step(given, targets)
        pipeline.clear_gradients()
        pipeline.stage()
        return account.stop().parts

    def slow_in_micro_step(call: int) -> dict[str, float]:
        clock.arm(call)
        parts = run()
        assert clock.calls > call, "the case is never reached"
        return parts

    assert not any(slow_in_micro_step(-1).values())
    if call < 0:  # the last one
        clock.arm(-1)
        pipeline.micro_step(ids, targets)
        call += clock.calls
    parts = slow_in_micro_step(call)
    assert {name: seconds for name, seconds in parts.items() if seconds} == {part: pytest.approx(SLOW_S)}


class Tokens:
    """What takes time to become an array."""

    def __init__(self, ids: Array, clock: Clock) -> None:
        self.array = clock.slow(lambda *_: ids)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        found: Array = self.array()
        return found


class Slow:
    """A gradient that takes time to clear."""

    def __init__(self, clock: Clock) -> None:
        self.fill = clock.slow(lambda value: None)


def test_waiting_for_the_lane_is_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last task takes its time when everything else is done."""
    clock = Clock()
    waited_for, last = threading.Event(), threading.Event()
    scatter, wait, result = cpu.embedding_scatter, Lane.wait, Future.result

    def slow(*arguments: Any) -> Array:
        assert waited_for.wait(10)
        clock.now_s += SLOW_S
        return scatter(*arguments)

    def waiting(self: Lane, unfinished: int = 0) -> None:
        if unfinished == 0:
            last.set()
        wait(self, unfinished)

    def resulting(self: Future[object], timeout: float | None = None) -> object:
        if last.is_set():
            waited_for.set()
        return result(self, timeout)

    monkeypatch.setattr(cpu, "embedding_scatter", slow)
    monkeypatch.setattr(Lane, "wait", waiting)
    monkeypatch.setattr(Future, "result", resulting)
    account = Account(clock)
    pipeline = model_of(account=account, overlap=True)
    account.start()
    pipeline.micro_step(*batch())
    assert {name: seconds for name, seconds in account.stop().parts.items() if seconds} == {"waiting": SLOW_S}


def test_a_step_that_fails_leaves_no_part_open(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    account = Account(clock)
    pipeline = model_of(account=account)
    account.start()
    pipeline.device.inject_fault("evaluate", after=5)
    with pytest.raises(Exception, match="injected"):
        pipeline.micro_step(*batch())
    clock.now_s += SLOW_S
    spent = account.stop()
    assert not any(spent.parts.values())
    assert spent.covered == 0.0


def test_the_parts_cover_a_real_micro_step() -> None:
    spec = replace(PRESETS["stories15m"], layers=2)
    pipeline = Pipeline(emulator("m4"), Model(spec), seed=0)
    ids = np.random.default_rng(0).integers(0, spec.vocab, (1, spec.seq))
    best = 0.0
    for _ in range(3):
        pipeline.account.start()
        pipeline.micro_step(ids, np.roll(ids, -1))
        spent = pipeline.account.stop()
        best = max(best, spent.covered)
        assert spent.parts["forward_device"] > 0.0 < spent.parts["weight_gradients"]
    assert 0.95 <= best <= 1.0 + 1e-9
