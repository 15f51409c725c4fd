"""Does the operation `tile` spoil what comes after it?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from anetrain.bench.base import Lab, Scale
from anetrain.device import Device, Program
from anetrain.errors import CompileError, EvalError
from anetrain.mil import Graph
from anetrain.probe import features
from anetrain.probe.base import Probe, Trial
from anetrain.probe.judging import evidence, named, opposite, worked
from anetrain.probe.samples import Array, Sample, observe, observe_loaded, whole_numbers
from anetrain.results import Answer, Experiment, Verdict

SHAPE = (1, 4, 1, 32)
TILE = "tile"
SAME, NEW = "an earlier program after tile", "a new program after tile"
COPIES = "the same by concat"
SAID: dict[Answer, str] = {
    "yes": "Tile fails, and so does what is evaluated after it",
    "no": "Tile works, and what is evaluated after it does",
    "partly": "Tile fails or spoils only some of what comes after it",
    "unknown": "Tile did not run, or what comes after it was not seen",
}


class Tile(Probe):
    name = "tile"
    question = "Does tile make its own evaluation and every later one fail?"
    hypothesis = "after a program with tile has been evaluated, every evaluation of the process fails with status 0x1d"
    source = "a field guide's report of an M3 Max (C51); a compiler project uses tile by another route without harm"
    rules = ("tile-poison", "evidence")

    def trials(self, scale: Scale) -> Sequence[Trial]:
        return [Trial(name, alone=True) for name in (COPIES, TILE, SAME, NEW)]

    def experiment(self, lab: Lab, trial: Trial) -> dict[str, Any]:
        device, random = lab.device, lab.random()
        if trial.name == COPIES:
            return observe(device, _copies(device, by_tile=False), _samples(random, _doubled), label=trial.name)
        if trial.name == TILE:
            return observe(device, _copies(device, by_tile=True), _samples(random, _doubled), label=trial.name)
        samples = _samples(random, lambda x: 2 * x)
        with device.compile(_harmless(device), label="harmless") as earlier:
            before = observe_loaded(device, earlier, samples)
            seen = {"before": before["values"], "tile": _said_of_tile(device, random)}
            if trial.name == SAME:
                return {**seen, **observe_loaded(device, earlier, samples)}
            return {**seen, **observe(device, _harmless(device, factor=3.0), _samples(random, lambda x: 3 * x))}

    def judge(self, experiments: Sequence[Experiment]) -> Verdict:
        tile = worked(named(experiments, TILE))
        later = [named(experiments, name) for name in (SAME, NEW)]
        spoilt: list[Answer] = [opposite(worked(made)) for made in later]
        if not any(made and (made.status != "done" or made.observed["tile"] != "not compiled") for made in later):
            spoilt = ["unknown"]  # nothing can be said of what comes after a tile that never ran
        answer: Answer = "unknown"
        if "yes" in spoilt:
            answer = "yes" if tile == "no" else "partly"
        elif "unknown" not in spoilt:
            answer = "partly" if tile == "no" else "no"
        sentence = f"{SAID[answer]}: {evidence(experiments)}"
        return self.verdict(experiments, answer, sentence, {features.TILE: _usable(tile, spoilt)})


def _usable(tile: Answer, spoilt: Sequence[Answer]) -> Answer:
    return "no" if tile == "yes" and "yes" in spoilt else tile


def _said_of_tile(device: Device, random: np.random.Generator) -> str:
    try:
        program: Program = device.compile(_copies(device, by_tile=True), label="tile")
    except CompileError:
        return "not compiled"
    try:
        return str(observe_loaded(device, program, _samples(random, _doubled))["values"])
    except EvalError as error:
        return error.text or error.detail
    finally:
        program.unload()


def _copies(device: Device, *, by_tile: bool) -> Any:
    graph = Graph()
    x = graph.input("a_x", SHAPE)
    graph.output("y", graph.tile(x, (1, 2, 1, 1)) if by_tile else graph.concat([x, x], 1, interleave=False))
    return graph.program(device.facts["dialect"])


def _harmless(device: Device, factor: float = 2.0) -> Any:
    graph = Graph()
    graph.output("y", graph.input("a_x", SHAPE) * factor)
    return graph.program(device.facts["dialect"])


def _doubled(x: Array) -> Array:
    return np.concatenate([x, x], axis=1)


def _samples(random: np.random.Generator, function: Any) -> list[Sample]:
    inputs = [whole_numbers(random, SHAPE) for _ in range(2)]
    return [Sample({"a_x": x}, {"y": function(x)}) for x in inputs]
