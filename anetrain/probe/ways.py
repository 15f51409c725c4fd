"""Other ways to the engine than one evaluation after the other: paths, chains, shared events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from anetrain import raw
from anetrain.bench.base import Lab, Scale
from anetrain.probe import features
from anetrain.probe.base import Probe, Trial
from anetrain.probe.judging import evidence, named, opposite, worked
from anetrain.probe.samples import Sample
from anetrain.probe.weighted import Ports, inputs_of, loaded, observed, source, two_weights
from anetrain.results import Answer, Experiment, Verdict

REAL_TIME = "real_time"
HANGS_S = {"full": 45.0, "small": 10.0}  # the watchdog of an evaluation is 30 s


class RealTime(Probe):
    name = "real-time"
    question = "Do all five ways to the engine compute the same, and is real time denied?"
    hypothesis = "all five give right values; beginRealTimeTask says NO, as it wants an entitlement"
    source = "probes of M3 Max and M4 Max (C79)"
    rules = ("real-time-denied",)

    def trials(self, scale: Scale) -> Sequence[Trial]:
        return [Trial(path, {"path": path}) for path in raw.PATHS]

    def experiment(self, lab: Lab, trial: Trial) -> dict[str, Any]:
        with loaded(lab, trial.name) as (program, ports, expected):
            request = raw.request(program, ports.inputs, ports.outputs)
            result = raw.evaluate(request, path=str(trial.parameters["path"]))
            return {**ports.values(expected), "real_time_granted": result.real_time_granted}

    def judge(self, experiments: Sequence[Experiment]) -> Verdict:
        ran = {made.name: worked(made) for made in experiments}
        real_time = named(experiments, REAL_TIME)
        granted = real_time is not None and bool(real_time.observed.get("real_time_granted"))
        if not ran or "unknown" in ran.values() or set(ran) != set(raw.PATHS):
            answer: Answer = "unknown"
        elif granted:
            answer = "no"
        else:
            answer = "yes" if set(ran.values()) == {"yes"} else "partly"
        said = {
            "yes": "All compute the same, and real time is not granted",
            "no": "Real time is granted",
            "partly": "Real time is not granted, and not every way works",
            "unknown": "Not every way was tried",
        }[answer]
        feature = {features.REAL_TIME: ran.get(REAL_TIME, "unknown")}
        return self.verdict(experiments, answer, f"{said}: {evidence(experiments)}", feature)


class Chaining(Probe):
    name = "chaining"
    question = "Are chains of requests out of reach?"
    hypothesis = "a chain cannot be prepared for programs from MIL text: error 15"
    source = "probes of M5, M3 Max and M5 Max (C58)"
    rules = ("chaining-unavailable",)
    ALONE, CHAINED = "two evaluations", "a chain of two"

    def trials(self, scale: Scale) -> Sequence[Trial]:
        return [Trial(self.ALONE), Trial(self.CHAINED, alone=True)]

    def experiment(self, lab: Lab, trial: Trial) -> dict[str, Any]:
        """y = x * w * w: one program twice, since the framework's chains are of one model; what is between is a surface
        of both requests."""
        device, random = lab.device, lab.random()
        weights = np.asarray(np.sign(two_weights(random)[0]), np.float16)
        (x,) = inputs_of(random, 1)
        with device.compile(source(device, weights), label=trial.name) as program:
            ports, last = Ports(device, program), Ports(device, program)
            last.write(x)  # and marks its output; its own input is not read
            ports.write(2 * x)
            requests = [
                raw.request(program, ports.inputs, ports.outputs),
                raw.request(program, ports.outputs, last.outputs),
            ]
            if trial.name == self.CHAINED:
                raw.chain(requests)
            else:
                for request in requests:
                    raw.evaluate(request)
            between = {"y": 2 * x * weights}
            expected = Sample({"a_x": x}, {"y": 2 * x}, {"those of one program": between})
            return observed(last.outputs[0], program.outputs[0], expected)

    def judge(self, experiments: Sequence[Experiment]) -> Verdict:
        chained = worked(named(experiments, self.CHAINED))
        if worked(named(experiments, self.ALONE)) != "yes":
            chained = "unknown"  # what fails without a chain says nothing of chains
        answer = opposite(chained)
        said = {"yes": "They are", "no": "They run", "unknown": "It was not seen"}.get(answer, answer)
        return self.verdict(experiments, answer, f"{said}: {evidence(experiments)}", {features.CHAINING: chained})


class SharedEvents(Probe):
    name = "shared-events"
    question = "Does an evaluation with a shared event crash or hang?"
    hypothesis = "a request with shared events crashes the process, or never returns"
    source = "probes of M5 Max (a crash) and M3 Max (a hang) (C59)"
    rules = ("shared-events",)
    EVENT = "one signal event"

    def trials(self, scale: Scale) -> Sequence[Trial]:
        return [Trial(self.EVENT, timeout_s=HANGS_S[scale], alone=True)]

    def experiment(self, lab: Lab, trial: Trial) -> dict[str, Any]:
        with loaded(lab, trial.name) as (program, ports, expected):
            raw.evaluate(raw.request(program, ports.inputs, ports.outputs, shared_events=1))
            return ports.values(expected)

    def judge(self, experiments: Sequence[Experiment]) -> Verdict:
        made = named(experiments, self.EVENT)
        ran = worked(made)
        answer = opposite(ran)
        how = {"crashed": "It crashes", "timed out": "It never returns", "refused": "It is refused"}
        said = how.get(made.status, "It works") if made is not None and ran != "unknown" else "It was not seen"
        return self.verdict(experiments, answer, f"{said}: {evidence(experiments)}", {features.SHARED_EVENTS: ran})
