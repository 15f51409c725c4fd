"""Runs benches: each case in another process, and what became of it kept at once.

    with Worker() as worker:
        run = Run(settings, worker, command="anetrain bench peak")
        for case in bench.cases(settings.scale):
            run.measure(bench, case)  # `run.results` holds what there is

A case that is refused, crashes, hangs or fails is a result, with its reason; the others are measured all the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from anetrain.bench.base import Bench, Case, Lab, Scale
from anetrain.isolate import Runner, place_of, resolve
from anetrain.results import Measurement, Meter, Results, Status, provenance, this_machine
from anetrain.session import Session, opened, reason_of, status_of


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
        self._settings = settings
        self._session = Session(settings.device, runner)
        self.results = Results(
            provenance=provenance(command, seed=settings.seed, scale=settings.scale),
            machine=this_machine(),
            device=self._session.device,
            complete=False,
        )

    def measure(self, bench: Bench, case: Case) -> Measurement:
        meter = dict(self._settings.meter)
        work = {
            "bench": place_of(bench),
            "case": {"name": case.name, "parameters": dict(case.parameters)},
            "seed": self._settings.seed,
            "meter": meter,
        }
        outcome = self._session.run(f"{__name__}:measure", work, timeout_s=case.timeout_s + Meter(**meter).most_s)
        status = status_of(outcome)
        if status == "done":  # strict models take lists for tuples only from JSON
            measurement = Measurement.model_validate_json(json.dumps(outcome.value))
        else:
            measurement = _unmeasured(bench, case, status, reason_of(outcome))
        self._keep(bench, measurement)
        return measurement

    def interrupted(self, bench: Bench, case: Case) -> None:
        """The case that was being measured when the user had enough."""
        if (bench.name, case.name) not in {(one.bench, one.case) for one in self.results.measurements}:
            self._keep(bench, _unmeasured(bench, case, "interrupted", "the run was interrupted while it was measured"))

    def finish(self) -> None:
        self.results = self.results.model_copy(update={"complete": True})

    def _keep(self, bench: Bench, measurement: Measurement) -> None:
        """Findings are computed again: each case may change them."""
        measurements = (*self.results.measurements, measurement)
        of_bench = [other for other in measurements if other.bench == bench.name]
        others = tuple(finding for finding in self.results.findings if finding.bench != bench.name)
        real = self.results.device.kind == "ane"
        findings = others + tuple(found for found in bench.findings(of_bench) if real or not found.from_times)
        self.results = self.results.model_copy(update={"measurements": measurements, "findings": findings})


def _unmeasured(bench: Bench, case: Case, status: Status, reason: str) -> Measurement:
    return Measurement(bench=bench.name, case=case.name, parameters=dict(case.parameters), status=status, reason=reason)


# ---------------------------------------------------------------- in the process that measures


def measure(
    *, device: Mapping[str, Any], bench: str, case: Mapping[str, Any], seed: int, meter: Mapping[str, Any]
) -> dict[str, Any]:
    lab = Lab(opened(device), Meter(**meter), seed)
    made: Bench = resolve(bench)()
    return made.measure(lab, Case(**case)).model_dump(mode="json")
