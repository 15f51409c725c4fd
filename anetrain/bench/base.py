"""What a bench is: a question, the cases that answer it, how one case is measured, what the answers say together.

A bench has no clock, no table and no process of its own: `run.py` gives it a `Lab`, `report.py` prints what it found.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from anetrain.device import Device, Program, Request, Surface
from anetrain.mil import Graph
from anetrain.results import Check, Finding, Measurement, Meter, Scalar

Scale = Literal["full", "small"]
"""`small`: the same code at sizes that any machine does in seconds. Never compared with `full`, nor with anything."""


@dataclass(frozen=True)
class Case:
    """`parameters` are all that `measure` needs: the case is made again in another process from them."""

    name: str
    parameters: Mapping[str, Scalar] = field(default_factory=dict)
    timeout_s: float = 300.0


@dataclass(frozen=True)
class Lab:
    """What a case is measured with."""

    device: Device
    meter: Meter = field(default_factory=Meter)
    seed: int = 0

    def random(self) -> np.random.Generator:
        """The same numbers for a case whichever cases were measured before."""
        return np.random.default_rng(self.seed)


class Bench(ABC):
    name: ClassVar[str]
    question: ClassVar[str]
    columns: ClassVar[tuple[str, ...]] = ("ms", "tflops")
    """Of the table: names of figures, parameters or observations."""

    @abstractmethod
    def cases(self, scale: Scale) -> Sequence[Case]:
        """In the order in which they are measured."""

    @abstractmethod
    def measure(self, lab: Lab, case: Case) -> Measurement:
        """Values first: `Measurement.of` refuses to keep times of wrong ones. What the device refuses is raised."""

    def findings(self, measured: Sequence[Measurement]) -> Sequence[Finding]:
        """Of any subset of the cases: a run may have been interrupted, and cases may have failed."""
        return ()


@dataclass(frozen=True)
class Bound:
    """A program with surfaces of its own: written once, run often."""

    program: Program
    request: Request
    inputs: Mapping[str, Surface]
    outputs: Mapping[str, Surface]

    @classmethod
    def of(cls, device: Device, graph: Graph, arrays: Mapping[str, npt.NDArray[Any]], label: str) -> Bound:
        """Compiles the graph and writes its inputs."""
        program = device.compile(graph.program(dialect=device.facts["dialect"]), label=label)
        inputs = {port.name: device.surface_for(port) for port in program.inputs}
        outputs = {port.name: device.surface_for(port) for port in program.outputs}
        for port in program.inputs:
            columns = port.shape[-1]
            inputs[port.name].write(arrays[port.name].reshape(-1, columns), row_stride=port.row_stride // 2)
        return cls(program, program.request(inputs, outputs), inputs, outputs)

    def read(self, name: str) -> npt.NDArray[np.float32]:
        """An output in its port's shape."""
        (port,) = (port for port in self.program.outputs if port.name == name)
        rows = int(np.prod(port.shape[:-1]))
        values = self.outputs[name].read(rows, port.shape[-1], row_stride=port.row_stride // 2)
        return values.reshape(port.shape)

    def unload(self) -> None:
        self.program.unload()


def compare(found: npt.NDArray[Any], expected: npt.NDArray[Any], *, allowed: float, against: str) -> Check:
    """The largest difference as a share of the largest magnitude expected."""
    if found.shape != expected.shape:
        raise ValueError(f"found {found.shape}, expected {expected.shape}")
    largest = float(np.max(np.abs(expected)))
    if not largest:
        raise ValueError("all expected values are 0: such a check cannot tell right from wrong")
    with np.errstate(invalid="ignore"):
        error = float(np.max(np.abs(found.astype(np.float64) - expected))) / largest
    return Check(
        against=against,
        largest_error=error if np.isfinite(error) else None,
        allowed=allowed,
        elements=found.size,
    )
