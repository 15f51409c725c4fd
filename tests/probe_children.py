"""Probes whose experiments crash, hang, fail and are refused: for the tests of the run."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anetrain.bench.base import Lab, Scale
from anetrain.mil import Graph
from anetrain.probe import Probe, Trial
from anetrain.probe.judging import combined, evidence, worked
from anetrain.results import Device, Experiment, Verdict

BEGUN = "ANETRAIN_TEST_BEGUN"  # in the environment: the file that appears when the endless experiment has begun


class Troubles(Probe):
    name = "troubles"
    question = "Does everything work?"
    hypothesis = "everything works"
    source = "nobody"

    def trials(self, scale: Scale) -> Sequence[Trial]:
        return [
            Trial("fine", {"number": 3}),
            Trial("crash"),
            Trial("hang", timeout_s=1.0),
            Trial("mistake"),
            Trial("refused"),
            Trial("fine again", alone=True),
        ]

    def experiment(self, lab: Lab, trial: Trial) -> dict[str, Any]:
        if trial.name == "crash":
            print(f"in {os.getcwd()}", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGSEGV)
        if trial.name == "hang":
            time.sleep(600)
        if trial.name == "mistake":
            raise KeyError("which")
        if trial.name == "refused":
            graph = Graph()
            graph.output("y", graph.input("a_x", (1, 4, 1, 33)) * 2.0)
            lab.device.compile(graph.program("B"))
        return {"values": "right", "pid": os.getpid(), **trial.parameters}

    def judge(self, experiments: Sequence[Experiment]) -> Verdict:
        return self.verdict(experiments, combined(map(worked, experiments)), evidence(experiments))


class Budgets(Troubles):
    """Each experiment compiles more than half of what a process may."""

    name = "budgets"

    def trials(self, scale: Scale) -> Sequence[Trial]:
        return [Trial("first"), Trial("second"), Trial("too many"), Trial("many", lifts_budgets=True)]

    def experiment(self, lab: Lab, trial: Trial) -> dict[str, Any]:
        graph = Graph()
        graph.output("y", graph.input("a_x", (1, 4, 1, 32)) * 2.0)
        for _ in range(110 if "many" in trial.name else 60):
            lab.device.compile(graph.program("B")).unload()
        return {"values": "right", "pid": os.getpid()}


class Bisection(Troubles):
    """Finds 6 between 0 and 16."""

    name = "bisection"

    def trials(self, scale: Scale) -> Sequence[Trial]:
        return [Trial(str(size), {"size": size}) for size in (0, 16)]

    def follow_up(self, scale: Scale, experiments: Sequence[Experiment]) -> Sequence[Trial]:
        low = max(int(made.name) for made in experiments if worked(made) == "yes")
        high = min(int(made.name) for made in experiments if worked(made) == "no")
        middle = (low + high) // 2
        return [Trial(str(middle), {"size": middle})] if high - low > 1 else []

    def experiment(self, lab: Lab, trial: Trial) -> dict[str, Any]:
        return {"values": "right" if int(str(trial.parameters["size"])) <= 6 else "zero"}


class Slow(Troubles):
    """Never ends its second experiment."""

    name = "slow"

    def trials(self, scale: Scale) -> Sequence[Trial]:
        return [Trial("quick"), Trial("endless", timeout_s=600.0), Trial("never")]

    def experiment(self, lab: Lab, trial: Trial) -> dict[str, Any]:
        if trial.name == "endless":
            Path(os.environ[BEGUN]).touch()
            time.sleep(600)
        return {"values": "right"}


class Lacking(Troubles):
    name = "lacking"

    def lacks(self, device: Device) -> str:
        return f"a device of the kind {device.kind} has nothing of the sort"


class Alone(Troubles):
    """The third experiment wants a process of its own."""

    name = "alone"

    def trials(self, scale: Scale) -> Sequence[Trial]:
        return [Trial(name, alone=name == "c") for name in "abcd"]
