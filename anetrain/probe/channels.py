"""Which numbers of channels compile and compute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from anetrain.bench.base import Lab, Scale
from anetrain.mil import Graph
from anetrain.probe import features
from anetrain.probe.base import Probe, Trial
from anetrain.probe.judging import combined, counted, worked
from anetrain.probe.samples import Array, Sample, observe, whole_numbers
from anetrain.results import Experiment, Verdict

WIDTH = 32
CHANNELS = (
    *(1, 2, 3, 4, 8, 16, 24, 31, 32, 33, 48, 63, 64, 65, 80, 96, 112, 127, 128, 129, 160, 192, 224, 255, 256, 257),
    *(320, 384, 448, 511, 512, 513, 576, 640, 704, 768, 832, 896, 960, 1000, 1024, 1152, 1280, 1536, 1792, 2048, 2304),
    *(2560, 2816, 3072, 3584, 4096),
)
SMALL = (1, 3, 31, 64, 128, 511, 512, 513)


class Channels(Probe):
    name = "channels"
    question = "Does any number of channels compile and compute?"
    hypothesis = "a conv with well-formed weights works with every number of channels, not only with 512"
    source = (
        "a community report of M3 Pro and M3 Ultra, where of 52 widths only 512 compiled; read as a bad header (C15)"
    )
    rules = ("conv-fixed-channels",)

    def trials(self, scale: Scale) -> Sequence[Trial]:
        chosen = CHANNELS if scale == "full" else SMALL
        return [Trial(str(channels), {"channels": channels}, timeout_s=120.0) for channels in chosen]

    def experiment(self, lab: Lab, trial: Trial) -> dict[str, Any]:
        random, channels = lab.random(), int(str(trial.parameters["channels"]))
        taken = random.permutation(channels)  # output channel i is input channel taken[i], times factors[i]
        factors = whole_numbers(random, (channels,))
        weight = np.zeros((channels, channels, 1, 1), np.float16)
        weight[np.arange(channels), taken, 0, 0] = factors
        graph = Graph()
        x = graph.input("a_x", (1, channels, 1, WIDTH))
        graph.output("y", graph.conv(x, graph.constant(weight, "w1", inline=False)))
        samples = [_sample(whole_numbers(random, x.shape), taken, factors) for _ in range(2)]
        return observe(lab.device, graph.program(lab.device.facts["dialect"]), samples, label=f"{channels} channels")

    def judge(self, experiments: Sequence[Experiment]) -> Verdict:
        answer = combined(map(worked, experiments))
        sentence = f"Of {counted(experiments, 'numbers of channels')}"
        return self.verdict(experiments, answer, sentence, {features.CHANNELS: answer})


def _sample(x: Array, taken: Array, factors: Array) -> Sample:
    return Sample({"a_x": x}, {"y": x[:, taken] * factors[:, None, None]})
