"""What the lowering hands to a pipeline: programs, surfaces, what lies where, and the steps of forward and backward."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from anetrain.graph import Node, Record, Value

if TYPE_CHECKING:
    from anetrain.autodiff import Derived
    from anetrain.mil.text import Program

Layout = Literal["stacked", "separate", "packed", "baked"]
Granularity = Literal["fused", "stage", "linear"]


@dataclass(frozen=True)
class SurfaceSpec:
    """A port's buffer: [1, channels, 1, width], width a multiple of 32.

    `kept`: what forward leaves on it, backward needs, so each layer has its own; others are scratch that layers share.
    A surface of weights is each layer's own, too.
    """

    name: str
    channels: int
    width: int
    kept: bool = False
    weights: bool = False


@dataclass(frozen=True)
class Region:
    """A block of a surface: `rows` x `columns` elements whose first is (channel, column). Padding is outside of it."""

    surface: str
    channel: int
    rows: int
    columns: int
    column: int = 0


@dataclass(frozen=True)
class WeightPlace:
    """How rows begin:end of a parameter are staged: into a region of a weight surface, or as a constant (region None).

    Row i of the staged matrix is row order[begin + i] of the master, where order is half_split_order if paired_head is
    set. `transpose`: the region holds the transposed matrix. A vector of n elements fills its region row by row; the
    rest of the last row is zero.
    """

    parameter: Value
    begin: int
    end: int
    paired_head: int = 0
    transpose: bool = False
    region: Region | None = None
    shape: tuple[int, ...] = ()  # of the constant


@dataclass
class ProgramReport:
    """What is known of a program before it is compiled."""

    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]
    input_bytes: int
    output_bytes: int
    constant_bytes: int
    flops: int
    operations: int
    working_set_bytes: int  # the most that inputs, outputs and live intermediate values take at one time


@dataclass
class ProgramSpec:
    label: str
    program: Program
    inputs: dict[str, str]  # port -> surface
    outputs: dict[str, str]
    report: ProgramReport
    constants: dict[str, WeightPlace] = field(default_factory=dict)  # blob path -> weights baked into the program


# Steps. A value of the host is an fp32 array of the value's shape, whose last axis are the columns of its region.


@dataclass(frozen=True)
class Send:
    """A host value goes to a surface, rounded to fp16."""

    value: Value
    region: Region


@dataclass(frozen=True)
class Receive:
    """A region of a surface becomes the host value, rows back in stored order where paired_head is set."""

    value: Value
    region: Region
    paired_head: int = 0


@dataclass(frozen=True)
class Dispatch:
    program: int  # index


@dataclass(frozen=True)
class Compute:
    """A host op."""

    node: Node


@dataclass(frozen=True)
class Accumulate:
    record: Record


Step: TypeAlias = Send | Receive | Dispatch | Compute | Accumulate


@dataclass
class Plan:
    derived: Derived
    layout: Layout
    granularity: Granularity
    surfaces: Mapping[str, SurfaceSpec]
    weights: list[WeightPlace]  # all with a region; baked ones are in the programs
    programs: list[ProgramSpec]
    forward: list[Step]
    backward: list[Step]
    saved_bytes: int  # what forward keeps on surfaces for backward
    recomputed: list[str]  # the ops that backward does again, "softmax [1, 12, 256, 256]"
    saved: list[str] = field(default_factory=list)  # the ops whose results the saved bytes are, in the same words

    def steps(self, *, backward: bool) -> list[Step]:
        return self.forward + (self.backward if backward else [])

    def flops(self, steps: Iterable[Step]) -> int:
        return sum(self.programs[index].report.flops for index in dispatched(steps))


def dispatched(steps: Iterable[Step]) -> list[int]:
    """Indices of the programs that run, one for each dispatch."""
    return [step.program for step in steps if isinstance(step, Dispatch)]
