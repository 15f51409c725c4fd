"""Which MIL dialects compile and compute: the old one, the new one, and mixtures of their parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from anetrain.bench.base import Lab, Scale
from anetrain.mil import Graph
from anetrain.mil.text import Program as Source
from anetrain.probe import features
from anetrain.probe.base import Probe, Trial
from anetrain.probe.judging import combined, evidence, named, worked
from anetrain.probe.samples import Array, Sample, observe, whole_numbers
from anetrain.results import Answer, Experiment, Verdict

CHANNELS, WIDTH = 64, 32
OLD, NEW = "program(1.0)/ios16", "program(1.3)/ios18"
OLD_FP32, NEW_FP32 = f"{OLD} with fp32 ports", f"{NEW} with fp32 ports"
MIXTURES = (
    f"{OLD} with new scalars",
    f"{NEW} with old scalars",
    "program(1.0)/ios18",
    "program(1.3)/ios16",
)
SAID: dict[Answer, str] = {
    "yes": "Both dialects run with fp16 ports",
    "no": "Neither dialect runs",
    "partly": "Only one of the dialects runs",
    "unknown": "Not both dialects were tried",
}


class Dialects(Probe):
    name = "dialects"
    question = "Do both MIL dialects compile and compute?"
    hypothesis = (
        "program(1.0) with ios16 and program(1.3) with ios18 both run, with fp16 ports; on M1 and M2 the new one is "
        "partial, as it fails there with fp32 ports"
    )
    source = "public compatibility tables and trainers; a reading of why M1 and M2 fail (C17)"
    rules = ("new-dialect", "border-fp32", "cast")

    def trials(self, scale: Scale) -> Sequence[Trial]:
        return [Trial(name) for name in (OLD, NEW, *MIXTURES, OLD_FP32, NEW_FP32)]

    def experiment(self, lab: Lab, trial: Trial) -> dict[str, Any]:
        random = lab.random()
        weight = whole_numbers(random, (CHANNELS, CHANNELS))
        port = "fp32" if trial.name.endswith("fp32 ports") else "fp16"
        samples = [_sample(weight, whole_numbers(random, (1, CHANNELS, 1, WIDTH)), port) for _ in range(2)]
        return observe(lab.device, _source(trial.name, weight, port), samples, label=trial.name)

    def judge(self, experiments: Sequence[Experiment]) -> Verdict:
        old, new, old_fp32, new_fp32 = (worked(named(experiments, name)) for name in (OLD, NEW, OLD_FP32, NEW_FP32))
        filled: dict[str, Answer] = {
            features.NEW_DIALECT: "partly" if (new, new_fp32) == ("yes", "no") else new,
            features.OLD_DIALECT: old,
            features.MIXED_DIALECTS: combined(worked(named(experiments, name)) for name in MIXTURES),
            features.FP32_PORTS: "yes" if "yes" in (old_fp32, new_fp32) else combined((old_fp32, new_fp32)),
        }
        answer = combined((old, new))
        return self.verdict(experiments, answer, f"{SAID[answer]}: {evidence(experiments)}", filled)


def _sample(weight: Array, x: Array, port: str) -> Sample:
    dtype = {"fp16": np.float16, "fp32": np.float32}[port]
    product = weight.astype(np.float64) @ x.reshape(CHANNELS, WIDTH).astype(np.float64)
    y = 2 * np.maximum(product, 0).reshape(x.shape)
    return Sample({"a_x": x.astype(dtype)}, {"y": y.astype(dtype)})


def _source(name: str, weight: Array, port: str) -> Source:
    """Its parameters are strings, integers and numbers: all that the dialects write differently."""
    graph = Graph()
    x = graph.input("a_x", (1, CHANNELS, 1, WIDTH), port)
    if port == "fp32":
        x = graph.cast(x, "fp16")
    kernel = graph.constant(weight.reshape(CHANNELS, CHANNELS, 1, 1), "w1")
    y = graph.relu(graph.conv(x, kernel)) * 2.0
    if port == "fp32":
        y = graph.cast(y, "fp32")
    graph.output("y", y)
    header = "B" if name.startswith("program(1.3)") else "A"
    body = {"A": "B", "B": "A"}[header] if "scalars" in name else header
    opset = name.partition("/")[2][:5]
    return _mixed(graph, header, body, opset)


def _mixed(graph: Graph, header: str, body: str, opset: str) -> Source:
    """The lines before the function of one dialect, the function of another one, under an opset."""
    head, tail = graph.program(header), graph.program(body)
    lines = head.text.split("func ")[0] + "func " + tail.text.split("func ", 1)[1]
    own_opset = {"A": "ios16", "B": "ios18"}[body]
    text = lines.replace(f"main<{own_opset}>", f"main<{opset}>", 1)
    return Source(text, head.blobs, head.inputs, head.outputs, header)
