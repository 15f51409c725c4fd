"""Which widths the ports of a program may have, and how small their surfaces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from anetrain.bench.base import Lab, Scale
from anetrain.mil import Graph
from anetrain.probe import features
from anetrain.probe.base import Probe, Trial
from anetrain.probe.judging import combined, counted, evidence, opposite, worked
from anetrain.probe.samples import MARK, Array, Sample, observe, whole_numbers
from anetrain.results import Answer, Experiment, Verdict

ROW = 32  # halves: 64 bytes
CHANNELS = 768  # with rows of 64 bytes, the 49,152 bytes that some took for the smallest surface
FEWER = (8, 64, 767)
SMALL = (1, 8, 16, 31, 32, 33, 48, 63, 64)


class Widths(Probe):
    name = "widths"
    question = "Do only multiples of 32 work as the width of inputs and outputs?"
    hypothesis = (
        "fp16 ports work where a row is a multiple of 64 bytes, so that the width is one of 32; other widths are "
        "refused, fail or give wrong values; there is no smallest surface"
    )
    source = "six projects by one rule on rows (C47); a smallest surface of 49,152 bytes (C46) is contradicted"
    rules = ("border-width", "oversize-dense-read", "minimum-surface")

    def trials(self, scale: Scale) -> Sequence[Trial]:
        widths = range(1, 2 * ROW + 1) if scale == "full" else SMALL
        of_width = [Trial(str(width), {"width": width, "channels": CHANNELS}) for width in widths]
        return [*of_width, *(Trial(f"{c} channels of 32", {"width": ROW, "channels": c}) for c in FEWER)]

    def experiment(self, lab: Lab, trial: Trial) -> dict[str, Any]:
        random = lab.random()
        shape = (1, int(str(trial.parameters["channels"])), 1, int(str(trial.parameters["width"])))
        graph = Graph()
        graph.output("y", graph.input("a_x", shape) * 2.0)
        samples = [_sample(whole_numbers(random, shape)) for _ in range(2)]
        return observe(lab.device, graph.program(lab.device.facts["dialect"]), samples, label=trial.name)

    def judge(self, experiments: Sequence[Experiment]) -> Verdict:
        by_width = {int(made.name): made for made in experiments if made.name.isdigit()}
        multiples = combined(worked(made) for width, made in by_width.items() if width % ROW == 0)
        narrow = combined(worked(made) for width, made in by_width.items() if width < ROW)
        between = combined(worked(made) for width, made in by_width.items() if width > ROW and width % ROW)
        small = [made for made in experiments if not made.name.isdigit()]
        filled: dict[str, Answer] = {
            features.NARROW_WIDTH: narrow,
            features.OTHER_WIDTH: between,
            features.SMALL_SURFACES: combined(map(worked, small)),
        }
        answer = combined((multiples, opposite(narrow), opposite(between)))
        if multiples != "yes":  # then nothing is said about what else works
            answer = "unknown" if multiples == "unknown" else "no"
        said = f"Of {counted(list(by_width.values()), 'widths')}. Small surfaces: {evidence(small)}"
        return self.verdict(experiments, answer, said, filled)


def _sample(x: Array) -> Sample:
    return Sample({"a_x": x}, {"y": x * 2}, {"of rows without padding": {"y": _read_densely(x)}})


def _read_densely(x: Array) -> Array:
    """What the output's rows, 64 bytes apart, show if an engine takes and gives rows that stand close together."""
    rows, width = x.shape[1], x.shape[-1]
    padded = np.zeros((rows, -(-width // ROW) * ROW), np.float16)
    padded[:, :width] = x[0, :, 0]
    given = np.full(padded.size, MARK)
    given[: rows * width] = 2 * padded.reshape(-1)[: rows * width]
    return np.asarray(given.reshape(padded.shape)[:, :width].reshape(x.shape))
