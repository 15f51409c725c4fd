"""What tests of derivatives share: the smallest reverse sweep there is, and differences of the meaning in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from anetrain.mil import Graph, Value
from anetrain.mil.derivatives import Backward
from anetrain.mil.graph import Node

Loss = Callable[[np.ndarray], float]


def sweep(g: Graph, seeds: Mapping[Value, Value], sources: Sequence[Value]) -> dict[Value, Value]:
    """Gradients of everything between `sources` and the seeded values: walks backwards, adds up contributions."""
    moving = set(sources)
    for node in g.nodes:
        if not moving.isdisjoint(node.operands):
            moving.update(node.outputs)
    gradients = dict(seeds)
    for node in reversed(list(g.nodes)):
        upstream = tuple(gradients.get(output) for output in node.outputs)
        wanted = frozenset(moving.intersection(node.operands))
        if wanted and any(upstream):
            for operand, part in contributions(g, node, upstream, wanted):
                gradients[operand] = g.add(gradients[operand], part) if operand in gradients else part
    return gradients


def contributions(
    g: Graph, node: Node, upstream: tuple[Value | None, ...], wanted: frozenset[Value]
) -> list[tuple[Value, Value]]:
    """What the rule gives, and that it keeps the contract: only what is wanted, in the operand's shape and type."""
    pairs: list[tuple[Value, Value]] = []
    for name, found in node.op.derivative(Backward(g, node, upstream, wanted)).items():
        given = node.tensors[name]
        operands, parts = (given, found) if isinstance(given, tuple) else ((given,), (found,))
        assert len(operands) == len(parts), f"{node.op.name}: {name} has {len(operands)} operands, {len(parts)} parts"
        for operand, part in zip(operands, parts, strict=True):
            if part is None:
                continue
            assert operand in wanted, f"{node.op.name}: nobody wanted {name}"
            assert part.type == operand.type, f"{node.op.name}: gradient of {name} is {part.type}, not {operand.type}"
            pairs.append((operand, part))
    return pairs


def slope(loss: Loss, at: np.ndarray, direction: np.ndarray, step: float) -> float:
    """The derivative along `direction`, from four points: wrong by step^4."""
    near = loss(at + step * direction) - loss(at - step * direction)
    far = loss(at + 2 * step * direction) - loss(at - 2 * step * direction)
    return (8.0 * near - far) / (12.0 * step)


def directions(shape: tuple[int, ...], random: np.random.Generator, entries_up_to: int = 24) -> list[np.ndarray]:
    """Eight random ones, and every single entry of small tensors."""
    count = int(np.prod(shape))
    found = [random.normal(size=shape) for _ in range(8)]
    if count <= entries_up_to:
        found += [row.reshape(shape) for row in np.eye(count)]
    return found
