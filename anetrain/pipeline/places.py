"""Where each part of a micro-step runs, and how often it dispatches: read off the plans, nothing is compiled for it.

    with anetrain.device.open("emulator:m4") as device:
        found = places(Model.preset("stories110m"), device, extras="all")
    found.of["norms of the layers"], found.forward, found.backward     # "device", 25, 25

scripts/extras_docs.py writes the tables of docs/pipeline.md with this.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from anetrain.autodiff import differentiate
from anetrain.blocks import Block, Classifier, Embedding
from anetrain.device import Device
from anetrain.graph import Node, Place, place
from anetrain.graph.builder import Precision
from anetrain.lower import Layout, choose
from anetrain.lower.plan import Plan, dispatched
from anetrain.model import Model
from anetrain.pipeline.extras import Extras, chosen
from anetrain.pipeline.graphs import PartGraph, part_graphs
from anetrain.pipeline.same import signature


@dataclass(frozen=True)
class Places:
    """`of`: by the name of the part, in the order of the step. `forward`, `backward`: dispatches of a micro-step."""

    of: dict[str, Place]
    forward: int
    backward: int


def places(
    model: Model, device: Device, *, layout: Layout = "stacked", extras: Extras = "none", precision: Precision = "fp16"
) -> Places:
    """With the largest programs that the device takes."""
    of: dict[str, Place] = {}
    forward = backward = 0
    for part, plan in part_plans(model, device, layout=layout, extras=extras, precision=precision):
        for node in plan.derived.graph.nodes:
            if name := _part_of_the_step(node, part.block):
                of[name] = place(node)
        forward += len(dispatched(plan.forward))
        backward += len(dispatched(plan.backward))
    return Places(of, forward, backward)


def part_plans(
    model: Model, device: Device, *, layout: Layout = "stacked", extras: Extras = "none", precision: Precision = "fp16"
) -> Iterator[tuple[PartGraph, Plan]]:
    """The parts of a model in the order of forward; equal ones share a plan."""
    plans: dict[object, Plan] = {}
    for part in part_graphs(model, device, layout, chosen(extras), precision):
        key = signature(part.graph)
        if key not in plans:
            plans[key] = choose(differentiate(part.graph), device, lambda plan: plan, layout=layout).plan
        yield part, plans[key]


def _part_of_the_step(node: Node, block: Block | Embedding | Classifier) -> str:
    """ "" for what belongs to a part that another node stands for."""
    op, is_end = node.op.name, isinstance(block, Classifier)
    if op == "embedding":
        return "embedding"
    if op in ("host_rms_norm", "host_layer_norm") or (op == "normalise" and node.parameters["axis"] == 1):
        return "final norm" if is_end else "norms of the layers"
    if op in ("dense", "host_dense") and is_end:
        return "gradient of the final norm's output" if node.parameters["transpose"] else "logits"
    if op == "dense":
        return "attention, feed-forward"
    if op == "host_add" and not is_end:
        return "residual sums"
    return "loss, gradient of the logits" if op == "cross_entropy" else ""
