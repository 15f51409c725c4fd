"""Runs probes: every experiment in another process, the verdict from whatever became of them.

with Worker() as worker:
    run = Run(Settings({"kind": "emulator:m4"}), worker, command="anetrain probe tile")
    verdict = run.probe(probe, keep)  # `run.results` holds what there is, also after a KeyboardInterrupt
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from anetrain import device
from anetrain.bench.base import Lab, Scale
from anetrain.errors import DeviceUnavailable
from anetrain.isolate import Outcome, Runner
from anetrain.probe import catalogue
from anetrain.probe.base import Probe, Trial
from anetrain.results import (
    Device,
    Experiment,
    Refusal,
    Results,
    Verdict,
    anonymous,
    device_of,
    provenance,
    this_machine,
)

OPEN_S = 300.0  # for a device to open: a real one has a self-test, which may compile
OUTPUT_CHARACTERS = 300  # of what a process said last, in a reason
UNLIMITED = 2**32 - 1
OBSERVATIONS = ("CompileError", "EvalError", "UnloadError")  # what an engine refuses; other errors are ours

EMULATOR_OPTIONS = ("executor", "profile", "rules")


@dataclass(frozen=True)
class Settings:
    """What experiments have in common. Plain data: it travels to the process that makes them."""

    device: Mapping[str, Any] = field(default_factory=lambda: {"kind": "auto"})
    """Arguments of `anetrain.device.open`. Unless told otherwise, the emulator is opened with the engine's arithmetic,
    and any device without a watchdog, as the process that hangs is ended."""
    scale: Scale = "full"
    seed: int = 0


class Run:
    """`results` holds at any time what there is."""

    def __init__(self, settings: Settings, runner: Runner, *, command: str) -> None:
        """Opens the device: where there is none, DeviceUnavailable."""
        self._runner = runner
        self._made_here = 0  # experiments in the runner's present process
        arguments = {"watchdog_s": None, **settings.device}
        if arguments["kind"] != "ane":
            arguments.setdefault("executor", "audit")
        found = self._found_device(arguments)
        if found.kind == "ane":
            if arguments.get("rules"):
                raise ValueError("rules are switches of the emulator, and the device is a real one")
            arguments = {name: value for name, value in arguments.items() if name not in EMULATOR_OPTIONS}
        if arguments["kind"] == "auto":  # decided once: no emulator may go on in the place of an engine that is gone
            arguments["kind"] = found.kind
        self._settings = replace(settings, device=arguments)
        self.results = Results(
            provenance=provenance(command, seed=settings.seed, scale=settings.scale),
            machine=this_machine(),
            device=found,
            complete=False,
        )

    def probe(self, probe: Probe, seen: Callable[[Experiment], None] = lambda experiment: None) -> Verdict:
        """`seen` is told of every experiment. After a KeyboardInterrupt, which is raised again, `results` has the
        verdict of the experiments that were made."""
        lacking = probe.lacks(self.results.device)
        if lacking:
            return self._keep(probe.verdict((), "unknown", lacking))
        made: list[Experiment] = []
        trials = list(probe.trials(self._settings.scale))
        try:
            while trials:
                for trial in trials:
                    made.append(_interrupted(trial))  # what stays when it is
                    made[-1] = self._experiment(probe, trial)
                    seen(made[-1])
                trials = list(probe.follow_up(self._settings.scale, made))
        finally:
            verdict = self._keep(probe.judge(made))
        return verdict

    def finish(self) -> None:
        self.results = self.results.model_copy(update={"complete": True})

    def _found_device(self, arguments: Mapping[str, Any]) -> Device:
        outcome = self._runner.run(f"{__name__}:describe", {"device": dict(arguments)}, timeout_s=OPEN_S)
        if outcome.status != "done":
            raise DeviceUnavailable(outcome.reason)
        return Device.model_validate_json(json.dumps(outcome.value))

    def _experiment(self, probe: Probe, trial: Trial) -> Experiment:
        if trial.alone:
            self._renew()
        outcome = self._outcome(probe, trial)
        if outcome.over_budget and self._made_here:
            self._renew()
            outcome = self._outcome(probe, trial)
        self._made_here = 0 if outcome.status in ("crashed", "timed out") else self._made_here + 1
        if trial.alone:
            self._renew()
        return _experiment(trial, outcome)

    def _outcome(self, probe: Probe, trial: Trial) -> Outcome:
        arguments = dict(self._settings.device)
        if trial.lifts_budgets:
            arguments |= {"live_budget": UNLIMITED, "compile_budget": UNLIMITED}
        work = {
            "device": arguments,
            "probe": catalogue.place_of(probe),
            "trial": {"name": trial.name, "parameters": dict(trial.parameters), "alone": trial.alone},
            "seed": self._settings.seed,
        }
        return self._runner.run(f"{__name__}:experiment", work, timeout_s=trial.timeout_s)

    def _renew(self) -> None:
        self._runner.renew()
        self._made_here = 0

    def _keep(self, verdict: Verdict) -> Verdict:
        self.results = self.results.model_copy(update={"verdicts": (*self.results.verdicts, verdict)})
        return verdict


def _interrupted(trial: Trial) -> Experiment:
    return Experiment(name=trial.name, parameters=dict(trial.parameters), status="interrupted", reason="by the user")


def _experiment(trial: Trial, outcome: Outcome) -> Experiment:
    refusal = Refusal(**outcome.refusal) if outcome.refusal else None
    ours = refusal is not None and refusal.error not in OBSERVATIONS
    reason = outcome.reason
    if outcome.status in ("crashed", "timed out") and outcome.output.strip():
        reason += f"; it said last: {outcome.output.strip()[-OUTPUT_CHARACTERS:]}"
    return Experiment(
        name=trial.name,
        parameters=dict(trial.parameters),
        status="failed" if ours else outcome.status,
        reason=anonymous(reason),
        observed=outcome.value if outcome.status == "done" else {},
        refusal=refusal,
        seconds=outcome.seconds,
    )


# ---------------------------------------------------------------- in the process that tries


def describe(*, device: Mapping[str, Any]) -> dict[str, Any]:
    return device_of(_opened(json.dumps(device)).facts).model_dump(mode="json")


def experiment(*, device: Mapping[str, Any], probe: str, trial: Mapping[str, Any], seed: int) -> dict[str, Any]:
    made = Trial(**trial)
    opened = _open(json.dumps(device)) if made.alone else _opened(json.dumps(device))
    return catalogue.load(probe).experiment(Lab(opened, seed=seed), made)


def _open(arguments: str) -> device.Device:
    return device.open(**json.loads(arguments))


_opened = functools.cache(_open)  # once per process: a self-test may come with it
