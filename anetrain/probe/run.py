"""Runs probes: every experiment in another process, the verdict from whatever became of them.

with Worker() as worker:
    run = Run(Settings({"kind": "emulator:m4"}), worker, command="anetrain probe tile")
    verdict = run.probe(probe, keep)  # `run.results` holds what there is, also after a KeyboardInterrupt
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from anetrain.bench.base import Lab, Scale
from anetrain.isolate import Outcome, Runner, place_of, resolve
from anetrain.probe.base import Probe, Trial
from anetrain.results import Experiment, Refusal, Results, Verdict, provenance, this_machine
from anetrain.session import Session, opened, reason_of, status_of

UNLIMITED = 2**32 - 1
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
        arguments = dict(settings.device)
        if arguments["kind"] != "ane":
            arguments.setdefault("executor", "audit")
        self._settings = settings
        self._session = Session(arguments, runner)
        if self._session.device.kind == "ane":
            if arguments.get("rules"):
                raise ValueError("rules are switches of the emulator, and the device is a real one")
            for name in EMULATOR_OPTIONS:
                self._session.arguments.pop(name, None)
        self.results = Results(
            provenance=provenance(command, seed=settings.seed, scale=settings.scale),
            machine=this_machine(),
            device=self._session.device,
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

    def _experiment(self, probe: Probe, trial: Trial) -> Experiment:
        if trial.alone:
            self._session.renew()
        budgets = {"live_budget": UNLIMITED, "compile_budget": UNLIMITED} if trial.lifts_budgets else {}
        work = {
            "probe": place_of(probe),
            "trial": {"name": trial.name, "parameters": dict(trial.parameters), "alone": trial.alone},
            "seed": self._settings.seed,
        }
        outcome = self._session.run(f"{__name__}:experiment", work, timeout_s=trial.timeout_s, **budgets)
        if trial.alone:
            self._session.renew()
        return _experiment(trial, outcome)

    def _keep(self, verdict: Verdict) -> Verdict:
        self.results = self.results.model_copy(update={"verdicts": (*self.results.verdicts, verdict)})
        return verdict


def _interrupted(trial: Trial) -> Experiment:
    return Experiment(name=trial.name, parameters=dict(trial.parameters), status="interrupted", reason="by the user")


def _experiment(trial: Trial, outcome: Outcome) -> Experiment:
    return Experiment(
        name=trial.name,
        parameters=dict(trial.parameters),
        status=status_of(outcome),
        reason=reason_of(outcome),
        observed=outcome.value if outcome.status == "done" else {},
        refusal=Refusal(**outcome.refusal) if outcome.refusal else None,
        seconds=outcome.seconds,
    )


# ---------------------------------------------------------------- in the process that tries


def experiment(*, device: Mapping[str, Any], probe: str, trial: Mapping[str, Any], seed: int) -> dict[str, Any]:
    made, asked = Trial(**trial), resolve(probe)()
    observed: dict[str, Any] = asked.experiment(Lab(opened(device, anew=made.alone), seed=seed), made)
    return observed
