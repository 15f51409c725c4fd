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
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from anetrain import device
from anetrain.bench import catalogue
from anetrain.bench.base import Bench, Case, Lab, Scale
from anetrain.errors import DeviceUnavailable
from anetrain.isolate import Outcome, Runner
from anetrain.results import Device, Measurement, Meter, Results, device_of, provenance, this_machine

_Model = TypeVar("_Model", bound=BaseModel)

OPEN_S = 300.0  # for a device to open: a real one has a self-test, which may compile
OUTPUT_CHARACTERS = 1000  # of what a process said last, in a reason


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
        self._measured_here = 0  # cases in the worker's present process
        found = self._found_device(settings)
        # "auto" is decided once: when an engine is gone after a crash, no emulator may go on in its place.
        self._settings = replace(settings, device={**settings.device, "kind": _settled(settings, found)})
        self.results = Results(
            provenance=provenance(command, seed=settings.seed, scale=settings.scale),
            machine=this_machine(),
            device=found,
            complete=False,
        )

    def measure(self, bench: Bench, case: Case) -> Measurement:
        outcome = self._outcome(bench, case)
        if outcome.over_budget and self._measured_here:
            self._renew()
            outcome = self._outcome(bench, case)
        if outcome.status in ("crashed", "timed out"):
            self._measured_here = 0
        else:
            self._measured_here += 1
        measurement = _measurement(bench, case, outcome)
        self._keep(bench, measurement)
        return measurement

    def interrupted(self, bench: Bench, case: Case) -> None:
        """The case that was being measured when the user had enough."""
        self._keep(bench, _unmeasured(bench, case, "interrupted", "the run was interrupted while it was measured"))

    def finish(self) -> None:
        self.results = self.results.model_copy(update={"complete": True})

    def _found_device(self, settings: Settings) -> Device:
        outcome = self._runner.run(f"{__name__}:describe", {"device": dict(settings.device)}, timeout_s=OPEN_S)
        if outcome.status != "done":
            raise DeviceUnavailable(_reason(outcome))
        return _read(Device, outcome.value)

    def _outcome(self, bench: Bench, case: Case) -> Outcome:
        settings = self._settings
        arguments = {
            "device": dict(settings.device),
            "bench": bench.name,
            "case": case.name,
            "scale": settings.scale,
            "seed": settings.seed,
            "meter": dict(settings.meter),
        }
        return self._runner.run(
            f"{__name__}:measure", arguments, timeout_s=case.timeout_s + Meter(**settings.meter).most_s
        )

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


def _settled(settings: Settings, found: Device) -> str:
    kind = str(settings.device["kind"])
    return found.kind if kind == "auto" else kind


def _measurement(bench: Bench, case: Case, outcome: Outcome) -> Measurement:
    if outcome.status == "done":
        return _read(Measurement, outcome.value)
    return _unmeasured(bench, case, outcome.status, _reason(outcome))


def _unmeasured(bench: Bench, case: Case, status: Any, reason: str) -> Measurement:
    return Measurement(bench=bench.name, case=case.name, parameters=dict(case.parameters), status=status, reason=reason)


def _reason(outcome: Outcome) -> str:
    """What happened and, where a process died, what it said last. No name of a folder of this machine."""
    said = outcome.output[-OUTPUT_CHARACTERS:].strip() if outcome.status != "refused" else ""
    reason = f"{outcome.reason}; it said last: {said}" if said else outcome.reason
    for folder, name in ((Path.cwd(), "."), (Path(__file__).parents[2], "."), (Path.home(), "~")):
        if folder != folder.parent:
            reason = reason.replace(str(folder), name)
    return reason


def _read(kind: type[_Model], value: Any) -> _Model:
    """From plain data; strict models take lists for tuples only from JSON."""
    return kind.model_validate_json(json.dumps(value))


# ---------------------------------------------------------------- in the process that measures


def describe(*, device: Mapping[str, Any]) -> dict[str, Any]:
    return device_of(_opened(json.dumps(device)).facts).model_dump(mode="json")


def measure(
    *, device: Mapping[str, Any], bench: str, case: str, scale: Scale, seed: int, meter: Mapping[str, Any]
) -> dict[str, Any]:
    made = catalogue.bench(bench)
    (chosen,) = (one for one in made.cases(scale) if one.name == case)
    lab = Lab(_opened(json.dumps(device)), Meter(**meter), seed)
    return made.measure(lab, chosen).model_dump(mode="json")


@functools.cache
def _opened(arguments: str) -> device.Device:
    """Once per process."""
    return device.open(**json.loads(arguments))
