"""Benches whose cases crash, hang, fail, are refused or compute wrong values: for the tests of the run."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from anetrain.bench import Bench, Bound, Case, Lab, Scale, compare
from anetrain.mil import Graph
from anetrain.results import Finding, Measurement

BEGUN = "ANETRAIN_TEST_BEGUN"  # in the environment: the file that appears when the endless case has begun


class Troubles(Bench):
    name = "troubles"
    question = "Does everything work?"
    columns = ("pid", "ms")

    def cases(self, scale: Scale) -> Sequence[Case]:
        names = ("fine", "crash", "hang", "mistake", "refused", "misused", "wrong", "fine again")
        return [Case(name, {"scale": scale}, timeout_s=0.5) for name in names]

    def measure(self, lab: Lab, case: Case) -> Measurement:
        width, factor = 32, 2.0
        if case.name == "crash":
            print(f"in {os.getcwd()}", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGSEGV)
        elif case.name == "hang":
            time.sleep(600)
        elif case.name == "mistake":
            print("which one?")
            raise KeyError("which")
        elif case.name == "misused":
            lab.device.surface(-1)
        elif case.name == "refused":
            width = 33
        elif case.name == "wrong":
            factor = 3.0
        graph = Graph()
        graph.output("y", graph.input("a_x", (1, 4, 1, width)) * factor)
        x = lab.random().standard_normal((1, 4, 1, width)).astype(np.float16)
        bound = Bound.of(lab.device, graph, {"a_x": x}, case.name)
        bound.request.run()
        check = compare(bound.read("y"), x * 2.0, allowed=0.001, against="numpy")
        return self.timed(case, check, lambda: lab.meter.time(bound.request.run), observed={"pid": os.getpid()})

    def findings(self, measured: Sequence[Measurement]) -> Sequence[Finding]:
        """One from values, one from times."""
        right = [one.case for one in measured if one.timing is not None]
        return [
            Finding(
                bench=self.name,
                question="How many are right?" if values else "How many have times?",
                answer=f"{len(right)}.",
                basis=tuple(right),
                from_times=not values,
            )
            for values in (True, False)
        ]


class Budgets(Troubles):
    """Each case compiles more than half of what a process may."""

    name = "budgets"

    def cases(self, scale: Scale) -> Sequence[Case]:
        return [Case("first"), Case("second"), Case("too many")]

    def measure(self, lab: Lab, case: Case) -> Measurement:
        graph = Graph()
        graph.output("y", graph.input("a_x", (1, 4, 1, 32)) * 2.0)
        for _ in range(110 if case.name == "too many" else 60):
            lab.device.compile(graph.program("B")).unload()
        return super().measure(lab, case)


class Spoilt(Troubles):
    """The first case leaves a device that answers no more."""

    name = "spoilt"

    def cases(self, scale: Scale) -> Sequence[Case]:
        return [Case("stalls"), Case("fine"), Case("fine again")]

    def measure(self, lab: Lab, case: Case) -> Measurement:
        if case.name == "stalls":
            lab.device.inject_fault("stall", seconds=2.0)
        return super().measure(lab, case)


class Slow(Troubles):
    """Never ends its second case."""

    name = "slow"

    def cases(self, scale: Scale) -> Sequence[Case]:
        return [Case("quick"), Case("endless", timeout_s=600.0), Case("never")]

    def measure(self, lab: Lab, case: Case) -> Measurement:
        if case.name == "endless":
            Path(os.environ[BEGUN]).touch()
            time.sleep(600)
        return super().measure(lab, case)
