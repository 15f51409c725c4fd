"""What a step is thought to take on a chip's engine: a cost model over the plans of a model. Nothing is measured.

    a dispatch = floor + the largest of: FLOPs / peak, bytes of weights / bandwidth, bytes of activations / bandwidth

The peak is that of wide programs; tensors of fewer than 64 positions, and channels that do not fill a multiple of 64,
are charged as if they did. What the host does is not in it, but for the conversions between fp32 and fp16, which are
given as a range of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from anetrain.device import Device
from anetrain.estimate.chips import ChipCosts
from anetrain.lower import Layout
from anetrain.lower.plan import Plan, ProgramSpec, Receive, Send, dispatched
from anetrain.model import Model
from anetrain.pipeline.extras import Extras
from anetrain.pipeline.places import part_plans

FULL_CHANNELS = 64  # channels come in multiples of it
FULL_POSITIONS = 64  # fewer than these leave lanes idle
HOST_GB_PER_S = (2.0, 10.0)  # fp32 to and from fp16, on one core: the slowest and fastest published


@dataclass(frozen=True)
class Cost:
    """Of one dispatch of a program. `bound`: what takes longest of it, floor included."""

    flops: int
    weight_bytes: int
    activation_bytes: int
    seconds: float
    bound: Literal["floor", "compute", "weights", "activations"]


@dataclass(frozen=True)
class ProgramEstimate:
    """`part`: of the model, such as LlamaBlock. `dispatches`: in a micro-step, in all layers."""

    part: str
    label: str
    backward: bool
    dispatches: int
    cost: Cost

    @property
    def seconds(self) -> float:
        return self.dispatches * self.cost.seconds


@dataclass(frozen=True)
class Estimate:
    costs: ChipCosts
    layout: Layout
    programs: tuple[ProgramEstimate, ...]
    host_bytes: int  # of fp16 that the host writes to surfaces and reads from them, in a micro-step

    @property
    def forward_s(self) -> float:
        return sum(program.seconds for program in self.programs if not program.backward)

    @property
    def backward_s(self) -> float:
        return sum(program.seconds for program in self.programs if program.backward)

    @property
    def conversion_s(self) -> tuple[float, float]:
        """At least, at most."""
        slow, fast = HOST_GB_PER_S
        return self.host_bytes / fast / 1e9, self.host_bytes / slow / 1e9


def estimate(
    model: Model, costs: ChipCosts, device: Device, *, layout: Layout = "stacked", extras: Extras = "none"
) -> Estimate:
    """`device`: an emulated one of the chip's profile, which says what programs it takes; none is compiled."""
    counts: dict[tuple[str, int, bool], int] = {}
    plans: dict[str, Plan] = {}
    host_bytes = 0
    for part, plan in part_plans(model, device, layout=layout, extras=extras):
        kind = next((name for name, known in plans.items() if known is plan), f"{part.kind} ({part.label})")
        plans[kind] = plan
        for backward, steps in ((False, plan.forward), (True, plan.backward)):
            for index in dispatched(steps):
                counts[kind, index, backward] = counts.get((kind, index, backward), 0) + 1
        host_bytes += _host_bytes(plan)
    programs = tuple(
        ProgramEstimate(kind, plans[kind].programs[index].label, backward, count, _cost(plans[kind], index, costs))
        for (kind, index, backward), count in counts.items()
    )
    return Estimate(costs, layout, programs, host_bytes)


def _cost(plan: Plan, index: int, costs: ChipCosts) -> Cost:
    spec = plan.programs[index]
    weights = _weight_bytes(plan, spec)
    moved = spec.report.input_bytes + spec.report.output_bytes + spec.report.constant_bytes
    return cost_of(costs, spec.report.flops, weights, moved - weights, _share_of_lanes(spec))


def cost_of(
    costs: ChipCosts, flops: int, weight_bytes: int, activation_bytes: int, share_of_lanes: float = 1.0
) -> Cost:
    bandwidth = costs.bandwidth_gb_per_s.value * 1e9
    parts: dict[Literal["compute", "weights", "activations"], float] = {
        "compute": flops / (costs.peak_tflops.value * 1e12 * share_of_lanes),
        "weights": weight_bytes / bandwidth,
        "activations": activation_bytes / bandwidth,
    }
    longest = max(parts, key=lambda name: parts[name])
    floor_s = costs.floor_us.value * 1e-6
    bound = longest if parts[longest] > floor_s else "floor"
    return Cost(flops, weight_bytes, activation_bytes, floor_s + parts[longest], bound)


def _share_of_lanes(spec: ProgramSpec) -> float:
    """The least of the program's outputs': [1, C, 1, W]."""
    return min(share_of_lanes(shape[1], shape[3]) for shape in spec.report.outputs.values())


def share_of_lanes(channels: int, positions: int) -> float:
    filled = channels / (FULL_CHANNELS * math.ceil(channels / FULL_CHANNELS))
    return filled * min(1.0, positions / FULL_POSITIONS)


def _weight_bytes(plan: Plan, spec: ProgramSpec) -> int:
    """Inputs that are weights, and constants, baked weights among them."""
    ports = [port for port, surface in spec.inputs.items() if plan.surfaces[surface].weights]
    return sum(2 * math.prod(spec.report.inputs[port]) for port in ports) + spec.report.constant_bytes


def _host_bytes(plan: Plan) -> int:
    steps: Sequence[object] = plan.forward + plan.backward
    return sum(2 * step.region.rows * step.region.columns for step in steps if isinstance(step, Send | Receive))
