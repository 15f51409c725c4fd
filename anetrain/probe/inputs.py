"""In which order an engine takes the surfaces of a program with several ports, and of which sizes they may be."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from anetrain.bench.base import Lab, Scale
from anetrain.device import Device, fetch, store
from anetrain.mil import Graph
from anetrain.mil.text import Program as Source
from anetrain.probe import features
from anetrain.probe.base import Probe, Trial
from anetrain.probe.judging import combined, evidence, named, right_where_run, worked
from anetrain.probe.samples import Array, Sample, mark, observe, whole_numbers
from anetrain.results import Answer, Experiment, Verdict

SHAPE = (1, 8, 1, 32)
DIGITS = 4  # values of an input; each input is one digit of the output
DECLARED = ("c_in", "a_in", "b_in")
CASES = ("b", "B", "a10", "a9", "_")
NAMES = "names of all kinds"
OUTPUTS = "three outputs"
SMALL_FIRST, LARGE_FIRST = "small input before a large one", "large input before a small one"
ONE_SIZE = "inputs of different sizes on surfaces of one size"
OUTPUTS_SMALL_FIRST, OUTPUTS_LARGE_FIRST = "small output before a large one", "large output before a small one"


def _permutation(order: Sequence[int]) -> str:
    return "surfaces " + " ".join(str(i + 1) for i in order)


PERMUTATIONS = {_permutation(order): order for order in itertools.permutations(range(3))}


class Inputs(Probe):
    name = "inputs"
    question = "Do several inputs and outputs work in the sorted order of their names, each of its own size?"
    hypothesis = (
        "surface i belongs to the i-th port in ASCII order of the names, whatever order the program declares; each "
        "surface needs only the size of its own port, and there may be more than two outputs"
    )
    source = (
        "a trainer's test of all six permutations (C43); that sizes must be uniform (C44, C45), inputs one (C49) and "
        "outputs two (C50) is contradicted"
    )
    rules = ("declared-order", "single-input", "input-surface-uniform", "output-surface-uniform", "output-count")

    def trials(self, scale: Scale) -> Sequence[Trial]:
        sizes = (SMALL_FIRST, LARGE_FIRST, ONE_SIZE, OUTPUTS_SMALL_FIRST, OUTPUTS_LARGE_FIRST)
        return [Trial(name) for name in (*PERMUTATIONS, NAMES, OUTPUTS, *sizes)]

    def experiment(self, lab: Lab, trial: Trial) -> dict[str, Any]:
        device, random = lab.device, lab.random()
        if trial.name in PERMUTATIONS:
            return _order(device, random, DECLARED, PERMUTATIONS[trial.name])
        if trial.name == NAMES:
            return _order(device, random, CASES, range(len(CASES)))
        if trial.name == OUTPUTS:
            return observe(device, _three_outputs(device), [_multiples(random) for _ in range(2)], label=OUTPUTS)
        if trial.name in (OUTPUTS_SMALL_FIRST, OUTPUTS_LARGE_FIRST):
            small, large = ("a", "b") if trial.name == OUTPUTS_SMALL_FIRST else ("b", "a")
            samples = [_sums(random, small, large) for _ in range(2)]
            return observe(device, _unequal_outputs(device, small, large), samples, label=trial.name)
        small, large = ("b", "a") if trial.name == LARGE_FIRST else ("a", "b")
        samples = [_broadcast(random, small, large) for _ in range(2)]
        nbytes = 2 * int(np.prod(SHAPE)) if trial.name == ONE_SIZE else 0
        return observe(device, _unequal_inputs(device, small, large), samples, label=trial.name, least_bytes=nbytes)

    def judge(self, experiments: Sequence[Experiment]) -> Verdict:
        def all_of(*names: str) -> Answer:
            return combined(worked(named(experiments, name)) for name in names)

        sorted_order = combined(right_where_run(named(experiments, name)) for name in (*PERMUTATIONS, NAMES))
        input_sizes, output_sizes = all_of(SMALL_FIRST, LARGE_FIRST), all_of(OUTPUTS_SMALL_FIRST, OUTPUTS_LARGE_FIRST)
        three = all_of(OUTPUTS)
        filled = {
            features.SEVERAL_INPUTS: _ran([named(experiments, name) for name in PERMUTATIONS]),
            features.SORTED_PORTS: sorted_order,
            features.INPUT_SIZES: input_sizes,
            features.OUTPUT_SIZES: output_sizes,
            features.THREE_OUTPUTS: three,
        }
        answer = combined((sorted_order, input_sizes, output_sizes, three))
        return self.verdict(experiments, answer, f"{SAID[answer]}: {evidence(experiments)}", filled)


SAID: dict[Answer, str] = {
    "yes": "Ports are in the sorted order of their names, and surfaces of any sizes serve",
    "no": "Nothing of it holds",
    "partly": "Only part of it holds",
    "unknown": "Not all of it was tried",
}


def _ran(experiments: Sequence[Experiment | None]) -> Answer:
    """Several inputs as such: evaluated, in whatever order."""
    return combined("yes" if made is not None and made.status == "done" else worked(made) for made in experiments)


# ---------------------------------------------------------------- order


def _order(
    device: Device, random: np.random.Generator, declared: Sequence[str], order: Sequence[int]
) -> dict[str, Any]:
    """Binds input surfaces by position, in this order, and reads from the output which input each was taken for.

    y = sum of declared[i] * DIGITS ** i, of whole numbers below DIGITS: digit i of y is what input declared[i] read.
    """
    with device.compile(_digits(device, declared), label="several inputs") as program:
        contents = [random.integers(0, DIGITS, SHAPE).astype(np.float16) for _ in declared]
        surfaces = []
        for port, content in zip(program.inputs, contents, strict=True):
            surfaces.append(device.surface_for(port))
            store(surfaces[-1], port, content)
        output = device.surface_for(program.outputs[0])
        mark(output)
        program.request_positional([surfaces[i] for i in order], [output]).run()
        y = fetch(output, program.outputs[0])
    read = {name: _read_by(y, place, contents) for place, name in enumerate(declared)}
    position = {surface: place for place, surface in enumerate(order)}  # at which position of the request it stood
    by_position = {name: position.get(surface, -1) for name, surface in read.items()}
    return {"values": _order_of(by_position, declared), "position": by_position}


def _read_by(y: Array, place: int, contents: Sequence[Array]) -> int:
    """Which surface's content this digit is; -1: none."""
    digit = y.astype(np.int64) // DIGITS**place % DIGITS
    return next((i for i, content in enumerate(contents) if np.array_equal(digit, content.astype(np.int64))), -1)


def _order_of(positions: Mapping[str, int], declared: Sequence[str]) -> str:
    taken = sorted(positions, key=lambda name: positions[name])
    if sorted(positions.values()) != list(range(len(declared))):
        return "of no order of the inputs"
    return (
        "right" if taken == sorted(declared) else "in declared order" if taken == list(declared) else "in another order"
    )


def _digits(device: Device, declared: Sequence[str]) -> Source:
    graph = Graph()
    inputs = [graph.input(name, SHAPE) for name in declared]
    y = inputs[0] * 1.0
    for place, value in enumerate(inputs[1:], 1):
        y = y + value * float(DIGITS**place)
    graph.output("y", y)
    return graph.program(device.facts["dialect"])


# ---------------------------------------------------------------- several outputs, different sizes


def _three_outputs(device: Device) -> Source:
    graph = Graph()
    x = graph.input("a_x", SHAPE)
    for factor, name in enumerate(("q", "k", "v"), 1):
        graph.output(name, x * float(factor + 1))
    return graph.program(device.facts["dialect"])


def _multiples(random: np.random.Generator) -> Sample:
    x = whole_numbers(random, SHAPE)
    multiples = {"q": x * 2, "k": x * 3, "v": x * 4}
    declared = dict(zip(("k", "q", "v"), multiples.values(), strict=True))  # if the first declared took the first place
    return Sample({"a_x": x}, multiples, {"in declared order": declared})


ROW = (1, 1, 1, SHAPE[-1])


def _unequal_inputs(device: Device, small: str, large: str) -> Source:
    graph = Graph()
    ports = {name: graph.input(name, ROW if name == small else SHAPE) for name in (large, small)}
    graph.output("y", ports[large] + ports[small])
    return graph.program(device.facts["dialect"])


def _broadcast(random: np.random.Generator, small: str, large: str) -> Sample:
    few, many = whole_numbers(random, ROW), whole_numbers(random, SHAPE)
    return Sample({small: few, large: many}, {"y": many + few})


def _unequal_outputs(device: Device, small: str, large: str) -> Source:
    graph = Graph()
    x = graph.input("x", SHAPE)
    graph.output(large, x * 2.0)
    graph.output(small, graph.reduce_sum(x, axes=(1,), keep_dims=True))
    return graph.program(device.facts["dialect"])


def _sums(random: np.random.Generator, small: str, large: str) -> Sample:
    x = whole_numbers(random, SHAPE)
    return Sample({"x": x}, {large: x * 2, small: x.sum(axis=1, keepdims=True)})
