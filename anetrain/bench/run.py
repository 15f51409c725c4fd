"""Runs benches: each case in another process, and what became of it kept at once.

    with Worker() as worker:
        run = Run(settings, worker, command="anetrain bench peak")
        for case in bench.cases(settings.scale):
            run.measure(bench, case)  # `run.results` holds what there is

A case that is refused, crashes, hangs or fails is a result, with its reason; the others are measured all the same.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from pydantic import BaseModel

from anetrain import device
from anetrain.bench import catalogue
from anetrain.bench.base import Bench, Case, Lab, Scale
from anetrain.errors import DeviceUnavailable
from anetrain.isolate import Outcome, Runner
from anetrain.results import Device, Measurement, Meter, Results, Status, anonymous, device_of, provenance, this_machine

_Model = TypeVar("_Model", bound=BaseModel)

OPEN_S = 300.0  # for a device to open: a real one has a self-test, which may compile
OUTPUT_CHARACTERS = 1000  # of what a process said last, in a reason
REFUSALS = ("CompileError", "EvalError", "UnloadError", "BudgetError")


@dataclass(frozen=True)
class Settings:
    """What cases have in common. Plain data: it travels to the process that measures."""

    device: Mapping[str, Any] = field(default_factory=lambda: {"kind": "auto"})
    """Arguments of `anetrain.device.open`."""
    scale: Scale = "full"
    seed: int = 0
    meter: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `Meter`."""


class Run:
    """`results` holds at any time what there is."""

    def __init__(self, settings: Settings, runner: Runner, *, command: str) -> None:
        """Opens the device: where there is none, DeviceUnavailable."""
        self._runner = runner
        self._measured_here = 0  # cases in the runner's present process
        arguments = {"watchdog_s": None, **settings.device}  # a process that hangs is ended
        found = self._found_device(arguments)
        if arguments["kind"] == "auto":  # decided once: no emulator may go on in the place of an engine that is gone
            arguments["kind"] = found.kind
        self._settings = replace(settings, device=arguments)
        self.results = Results(
            provenance=provenance(command, seed=settings.seed, scale=settings.scale),
            machine=this_machine(),
            device=found,
            complete=False,
        )

    def measure(self, bench: Bench, case: Case) -> Measurement:
        outcome = self._outcome(bench, case)
        if self._measured_here and (outcome.over_budget or _device_is_gone(outcome)):
            self._renew()
            outcome = self._outcome(bench, case)
        self._measured_here = 0 if outcome.status in ("crashed", "timed out") else self._measured_here + 1
        measurement = _measurement(bench, case, outcome)
        self._keep(bench, measurement)
        return measurement

    def interrupted(self, bench: Bench, case: Case) -> None:
        """The case that was being measured when the user had enough."""
        if (bench.name, case.name) not in {(one.bench, one.case) for one in self.results.measurements}:
            self._keep(bench, _unmeasured(bench, case, "interrupted", "the run was interrupted while it was measured"))

    def finish(self) -> None:
        self.results = self.results.model_copy(update={"complete": True})

    def _found_device(self, arguments: Mapping[str, Any]) -> Device:
        outcome = self._runner.run(f"{__name__}:describe", {"device": dict(arguments)}, timeout_s=OPEN_S)
        if outcome.status != "done":
            raise DeviceUnavailable(outcome.reason)
        return _read(Device, outcome.value)

    def _outcome(self, bench: Bench, case: Case) -> Outcome:
        settings = self._settings
        work = {
            "device": dict(settings.device),
            "bench": catalogue.place_of(bench),
            "case": {"name": case.name, "parameters": dict(case.parameters)},
            "seed": settings.seed,
            "meter": dict(settings.meter),
        }
        timeout_s = case.timeout_s + Meter(**settings.meter).most_s
        return self._runner.run(f"{__name__}:measure", work, timeout_s=timeout_s)

    def _renew(self) -> None:
        self._runner.renew()
        self._measured_here = 0

    def _keep(self, bench: Bench, measurement: Measurement) -> None:
        """Findings are computed again: each case may change them."""
        measurements = (*self.results.measurements, measurement)
        of_bench = [other for other in measurements if other.bench == bench.name]
        others = tuple(finding for finding in self.results.findings if finding.bench != bench.name)
        real = self.results.device.kind == "ane"
        findings = others + tuple(found for found in bench.findings(of_bench) if real or not found.from_times)
        self.results = self.results.model_copy(update={"measurements": measurements, "findings": findings})


def _device_is_gone(outcome: Outcome) -> bool:
    """To this process. A case before may have spoilt it."""
    return outcome.refusal is not None and outcome.refusal["error"] == "DeviceUnavailable"


def _measurement(bench: Bench, case: Case, outcome: Outcome) -> Measurement:
    if outcome.status == "done":
        return _read(Measurement, outcome.value)
    return _unmeasured(bench, case, _status(outcome), _reason(outcome))


def _unmeasured(bench: Bench, case: Case, status: Status, reason: str) -> Measurement:
    return Measurement(bench=bench.name, case=case.name, parameters=dict(case.parameters), status=status, reason=reason)


def _status(outcome: Outcome) -> Status:
    """An error of ours in driving the device is not the device's refusal."""
    if outcome.refusal is not None and outcome.refusal["error"] not in REFUSALS:
        return "failed"
    assert outcome.status != "done"
    return outcome.status


def _reason(outcome: Outcome) -> str:
    """What happened and, where a process died, what it said last."""
    said = outcome.output.strip()[-OUTPUT_CHARACTERS:] if outcome.status in ("crashed", "timed out") else ""
    return anonymous(f"{outcome.reason}; it said last: {said}" if said else outcome.reason)


def _read(kind: type[_Model], value: Any) -> _Model:
    """From plain data; strict models take lists for tuples only from JSON."""
    return kind.model_validate_json(json.dumps(value))


# ---------------------------------------------------------------- in the process that measures


def describe(*, device: Mapping[str, Any]) -> dict[str, Any]:
    return device_of(_opened(json.dumps(device)).facts).model_dump(mode="json")


def measure(
    *, device: Mapping[str, Any], bench: str, case: Mapping[str, Any], seed: int, meter: Mapping[str, Any]
) -> dict[str, Any]:
    lab = Lab(_opened(json.dumps(device)), Meter(**meter), seed)
    return catalogue.load(bench).measure(lab, Case(**case)).model_dump(mode="json")


@functools.cache
def _opened(arguments: str) -> device.Device:
    """Once per process: a self-test may come with it."""
    return device.open(**json.loads(arguments))
