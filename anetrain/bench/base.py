"""What a bench is: a question, the cases that answer it, how one case is measured, what the answers say together.

A bench has no clock, no table and no process of its own: `run.py` gives it a `Lab`, `report.py` prints what it found.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from anetrain.device import Device, Program, Request, Surface, fetch, store
from anetrain.mil import Graph
from anetrain.mil import Program as Source
from anetrain.mil.text import DIALECTS
from anetrain.results import Check, Finding, Measurement, Meter, Scalar, Timing

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

    def timed(self, case: Case, check: Check, clock: Callable[[], Timing], **known: Any) -> Measurement:
        """Values before times: `clock` is called only where the check has passed.

        return self.timed(case, check, lambda: lab.meter.time(bound.request.run), flops=..., weight_bytes=...)
        """
        known = {"parameters": dict(case.parameters)} | known
        if not check.passed:
            return Measurement.wrong(self.name, case.name, check, **known)
        return Measurement.of(self.name, case.name, clock(), check, **known)

    def findings(self, measured: Sequence[Measurement]) -> Sequence[Finding]:
        """Of any subset of the cases: a run may have been interrupted, and cases may have failed. Those that rest on
        times (`Finding.from_times`) are not kept of an emulator."""
        return ()


@dataclass(frozen=True)
class Bound:
    """A program with surfaces of its own: written once, run often."""

    program: Program
    request: Request
    inputs: Mapping[str, Surface]
    outputs: Mapping[str, Surface]

    @classmethod
    def of(
        cls,
        device: Device,
        graph: Graph,
        arrays: Mapping[str, npt.NDArray[Any]],
        label: str,
        *,
        single_blob: bool = False,
    ) -> Bound:
        """Compiles the graph and writes its inputs. `single_blob`: all its constants in one file, as chips may take no
        more than 16 (C14)."""
        return cls.of_source(device, written(device, graph, single_blob=single_blob), arrays, label)

    @classmethod
    def of_source(cls, device: Device, source: Source, arrays: Mapping[str, npt.NDArray[Any]], label: str) -> Bound:
        """Compiles the program and writes its inputs."""
        program = device.compile(source, label=label)
        inputs = {port.name: device.surface_for(port) for port in program.inputs}
        outputs = {port.name: device.surface_for(port) for port in program.outputs}
        bound = cls(program, program.request(inputs, outputs), inputs, outputs)
        for port in program.inputs:
            bound.write(port.name, arrays[port.name])
        return bound

    def write(self, name: str, array: npt.NDArray[Any]) -> None:
        (port,) = (port for port in self.program.inputs if port.name == name)
        store(self.inputs[name], port, array.reshape(port.shape))

    def read(self, name: str) -> npt.NDArray[Any]:
        """An output in its port's shape and dtype."""
        (port,) = (port for port in self.program.outputs if port.name == name)
        return fetch(self.outputs[name], port)

    def unload(self) -> None:
        self.program.unload()


def written(device: Device, graph: Graph, *, single_blob: bool = False) -> Source:
    """The program in the device's dialect; where that lacks an op, in the newer one. The device says what it thinks of
    it: a refusal is a result."""
    own = str(device.facts["dialect"])
    lacking = any(node.op.opset > DIALECTS[own].opset for node in graph.nodes)
    return graph.program(dialect="B" if lacking else own, single_blob=single_blob)


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


def compare_on_the_whole(found: npt.NDArray[Any], expected: npt.NDArray[Any], *, allowed: float, against: str) -> Check:
    """The root mean square of the differences as a share of that of what is expected: where single values may be off by
    much, as after many roundings to few bits."""
    if found.shape != expected.shape:
        raise ValueError(f"found {found.shape}, expected {expected.shape}")
    error = relative_rms(found, expected)
    return Check(
        against=against,
        largest_error=error if np.isfinite(error) else None,
        allowed=allowed,
        of="the root mean square",
        elements=found.size,
    )


def relative_rms(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    size = float(np.sqrt(np.mean(np.square(expected, dtype=np.float64))))
    if not size:
        raise ValueError("all expected values are 0: such a check cannot tell right from wrong")
    with np.errstate(invalid="ignore"):
        return float(np.sqrt(np.mean(np.square(found.astype(np.float64) - expected)))) / size


def all_of(first: Check, *others: Check) -> Check:
    """What a case has to pass where one check is not enough: the first that fails, else the first."""
    return next((check for check in (first, *others) if not check.passed), first)
