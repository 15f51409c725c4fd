"""A device in another process: found once, opened once there, and asked again in a new process where one is spoilt.

    with Worker() as worker:
        session = Session({"kind": "auto"}, worker)
        outcome = session.run("anetrain.bench.run:measure", {"bench": ...}, timeout_s=60)

The function gets `device`, too, and opens it with `opened`. What runs of benches and of probes have in common.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any, Literal

from anetrain import device
from anetrain.errors import DeviceUnavailable
from anetrain.isolate import Outcome, Runner
from anetrain.results import Device, anonymous, device_of

OPEN_S = 300.0  # for a device to open: a real one has a self-test, which may compile
OUTPUT_CHARACTERS = 500  # of what a process said last, in a reason
REFUSALS = ("CompileError", "EvalError", "UnloadError")  # what an engine refuses; other errors are ours

Status = Literal["done", "refused", "failed", "crashed", "timed out"]


class Session:
    def __init__(self, arguments: Mapping[str, Any], runner: Runner) -> None:
        """`arguments` of anetrain.device.open; unless told otherwise without a watchdog, as a process that hangs is
        ended. Where there is no such device, DeviceUnavailable."""
        self._runner = runner
        self._done_here = 0  # pieces of work in the runner's present process
        self.arguments: dict[str, Any] = {"watchdog_s": None, **arguments}
        outcome = runner.run(f"{__name__}:describe", {"device": dict(self.arguments)}, timeout_s=OPEN_S)
        if outcome.status != "done":
            raise DeviceUnavailable(outcome.reason)
        self.device = Device.model_validate_json(json.dumps(outcome.value))
        if self.arguments["kind"] == "auto":  # no emulator may go on in the place of an engine that is gone
            self.arguments["kind"] = self.device.kind

    def run(self, function: str, work: Mapping[str, Any], *, timeout_s: float, **changed: Any) -> Outcome:
        """`changed` are arguments of the device for this work alone."""
        given = {**work, "device": {**self.arguments, **changed}}
        outcome = self._runner.run(function, given, timeout_s=timeout_s)
        if self._done_here and _needs_a_new_process(outcome):
            self.renew()
            outcome = self._runner.run(function, given, timeout_s=timeout_s)
        self._done_here = 0 if outcome.status in ("crashed", "timed out") else self._done_here + 1
        return outcome

    def renew(self) -> None:
        """What comes next gets a new process."""
        self._runner.renew()
        self._done_here = 0


def _needs_a_new_process(outcome: Outcome) -> bool:
    """What was done before has used a budget up, or has spoilt the device."""
    gone = outcome.refusal is not None and outcome.refusal["error"] == DeviceUnavailable.__name__
    return outcome.over_budget or gone


def status_of(outcome: Outcome) -> Status:
    """Driving the device wrongly is a failure of ours, and not the device's refusal."""
    ours = outcome.refusal is not None and outcome.refusal["error"] not in REFUSALS
    return "failed" if ours else outcome.status


def reason_of(outcome: Outcome) -> str:
    """What happened and, unless a device refused, what was printed last."""
    said = outcome.output.strip()[-OUTPUT_CHARACTERS:] if outcome.status != "refused" else ""
    return anonymous(f"{outcome.reason}; it said last: {said}" if said else outcome.reason)


# ---------------------------------------------------------------- in the process


def describe(*, device: Mapping[str, Any]) -> dict[str, Any]:
    return device_of(opened(device).facts).model_dump(mode="json")


def opened(arguments: Mapping[str, Any], *, anew: bool = False) -> device.Device:
    """Once per process, as a self-test may come with it, unless it must be another one (`anew`)."""
    key = json.dumps(arguments)
    return _open(key) if anew else _opened(key)


def _open(arguments: str) -> device.Device:
    return device.open(**json.loads(arguments))


_opened = functools.cache(_open)
