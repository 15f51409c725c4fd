"""A program whose only constant is a blob of weights, for probes that try to change them: y = x * w by element.

Values are small whole numbers, so that it is plain which weights were used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from anetrain.bench.base import Lab
from anetrain.device import Device, Port, Program, Surface, fetch, store
from anetrain.mil import Graph
from anetrain.mil.text import Program as Source
from anetrain.probe.samples import Array, Sample, compared, mark, shown, whole_numbers

SHAPE = (1, 64, 1, 64)
FIRST, SECOND = "the first weights", "the second weights"
OF_FIRST = f"those of {FIRST}"


def source(device: Device, weights: Array) -> Source:
    graph = Graph()
    x = graph.input("a_x", SHAPE)
    graph.output("y", x * graph.constant(weights, name="w"))
    return graph.program(device.facts["dialect"])


def two_weights(random: np.random.Generator) -> tuple[Array, Array]:
    """Not equal in any place."""
    first = whole_numbers(random, SHAPE)
    return first, np.asarray(-first, np.float16)


def sample(x: Array, first: Array, second: Array | None = None) -> Sample:
    """`second`: the weights that should count; results of the first are then a known mistake."""
    if second is None:
        return Sample({"a_x": x}, {"y": x * first})
    return Sample({"a_x": x}, {"y": x * second}, {OF_FIRST: {"y": x * first}})


@contextmanager
def loaded(lab: Lab, label: str) -> Iterator[tuple[Program, Ports, Sample]]:
    """A program with weights, its input written, and what it should make of it."""
    random = lab.random()
    weights, _ = two_weights(random)
    x = whole_numbers(random, SHAPE)
    with lab.device.compile(source(lab.device, weights), label=label) as program:
        ports = Ports(lab.device, program)
        ports.write(x)
        yield program, ports, sample(x, weights)


class Ports:
    """Surfaces of a program with one input and one output, in device order."""

    def __init__(self, device: Device, program: Program) -> None:
        (self._input,), (self._output,) = program.inputs, program.outputs
        self.inputs, self.outputs = [device.surface_for(self._input)], [device.surface_for(self._output)]

    def write(self, x: Array) -> None:
        """And mark what the engine is to write."""
        store(self.inputs[0], self._input, x)
        mark(self.outputs[0])

    def values(self, expected: Sample) -> dict[str, object]:
        """What is there now, as an observation."""
        return observed(self.outputs[0], self._output, expected)


def observed(surface: Surface, port: Port, expected: Sample) -> dict[str, object]:
    found = {port.name: fetch(surface, port)}
    values = compared(found, expected)
    if values == "right":
        return {"values": values}
    return {"values": values, "found": shown(found), "expected": shown(expected.expected)}


def inputs_of(random: np.random.Generator, count: int) -> Sequence[Array]:
    return [whole_numbers(random, SHAPE) for _ in range(count)]
