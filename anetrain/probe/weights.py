"""Can the weights of a compiled program be changed? Three ways that were tried."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from anetrain import raw
from anetrain.bench.base import Lab, Scale
from anetrain.probe import features
from anetrain.probe.base import Probe, Trial
from anetrain.probe.judging import evidence, named, opposite
from anetrain.probe.weighted import OF_FIRST, Ports, inputs_of, sample, source, two_weights
from anetrain.results import Answer, Experiment, Verdict


class _Change(Probe):
    """One experiment, which ends with values of the first weights or of the second."""

    trial: ClassVar[str]
    feature: ClassVar[str]
    holds_when: ClassVar[Answer] = "no"
    """The hypothesis: do the second weights count?"""
    said: ClassVar[tuple[str, str]]
    """That they do, that they do not."""

    def trials(self, scale: Scale) -> Sequence[Trial]:
        return [Trial(self.trial, alone=True)]

    def changed(self, experiments: Sequence[Experiment]) -> Answer:
        """Did the second weights count?"""
        made = named(experiments, self.trial)
        if made is None or made.status in ("failed", "interrupted", "skipped"):
            return "unknown"
        if made.status != "done":
            return "no"
        values = made.observed.get("values")
        return "yes" if values == "right" else "no" if values == OF_FIRST else "unknown"

    def judge(self, experiments: Sequence[Experiment]) -> Verdict:
        changed = self.changed(experiments)
        answer = changed if self.holds_when == "yes" else opposite(changed)
        said = dict(zip(("yes", "no"), self.said, strict=True)).get(changed, "It was not seen")
        return self.verdict(experiments, answer, f"{said}: {evidence(experiments)}", {self.feature: changed})


class WeightReload(_Change):
    name = "weight-reload"
    question = "Does a program keep its weights when its files are rewritten and it is loaded again?"
    hypothesis = "a program that is loaded again computes with the weights it was compiled with, whatever its files say"
    source = "probes of M4, M5, M3 Ultra and M5 Max (C3); one project says otherwise of the M4 Max"
    rules = ("weights-frozen",)
    trial = "files rewritten, loaded again"
    feature = features.WEIGHT_RELOAD
    said = ("New weights count after a reload", "The old weights stay")

    def experiment(self, lab: Lab, trial: Trial) -> dict[str, Any]:
        return _reloaded(lab, kind="rewrite_files")


class WeightPatch(_Change):
    name = "weight-patch"
    question = "Does the same text with new weights load without being told to compile?"
    hypothesis = "the load compiles by itself what was not compiled before, and new weights count"
    source = "two projects that load patched programs; what is known of the service behind the framework (1.15)"
    rules = ("load-compiles",)
    trial = "same text, new weights, loaded"
    feature = features.WEIGHT_PATCH
    holds_when = "yes"
    said = ("It loads, and the new weights count", "It does not load, or the old weights count")

    def experiment(self, lab: Lab, trial: Trial) -> dict[str, Any]:
        return _reloaded(lab, kind="new_identity")


class WeightsBuffer(_Change):
    name = "weights-buffer"
    question = "Is the weights buffer of a request ignored?"
    hypothesis = "the weights buffer is taken and not read"
    source = "probes of M4, M5 and M3 Ultra (C4)"
    rules = ("weights-buffer-ignored",)
    trial = "second weights in the buffer"
    feature = features.WEIGHTS_BUFFER
    said = ("The buffer counts", "The program's weights count")

    def experiment(self, lab: Lab, trial: Trial) -> dict[str, Any]:
        device, random = lab.device, lab.random()
        first, second = two_weights(random)
        (x,) = inputs_of(random, 1)
        with device.compile(source(device, first), label=trial.name) as program:
            ports = Ports(device, program)
            buffer = device.surface_for(program.inputs[0])  # as large as the weights are
            buffer.write(second.reshape(-1, second.shape[-1]))
            ports.write(x)
            raw.evaluate(raw.request(program, ports.inputs, ports.outputs, weights_buffer=buffer))
            return ports.values(sample(x, first, second))


def _reloaded(lab: Lab, kind: str) -> dict[str, Any]:
    device, random = lab.device, lab.random()
    first, second = two_weights(random)
    x, later = inputs_of(random, 2)
    with device.compile(source(device, first), label=kind) as program:
        ports = Ports(device, program)
        request = raw.request(program, ports.inputs, ports.outputs)
        ports.write(x)
        raw.evaluate(request)
        before = ports.values(sample(x, first))["values"]
        if before != "right":
            return {"values": f"{before} before anything was changed"}
        raw.reload(program, source(device, second).blobs, kind=kind)
        ports.write(later)
        raw.evaluate(request)
        return ports.values(sample(later, first, second))
