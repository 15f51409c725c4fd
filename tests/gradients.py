"""What tests of derivatives share: the smallest reverse sweep there is, and differences of the meaning in float64."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import numpy as np

from anetrain.mil import Graph, Value
from anetrain.mil.derivatives import Backward
from anetrain.mil.graph import Node
from anetrain.mil.meaning import evaluate, rounded_parameters, widened
from tests.op_cases import Case

STATISTICS = {("batch_norm", "mean"), ("batch_norm", "variance")}  # have no gradient

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


# ---------------------------------------------------------------- one op


class Differentiated:
    """One op and the gradients of its floating operands: all of them, constants too, or those in `only`. Computed
    values lie off zero and off each other, where kinks are."""

    def __init__(self, case: Case, kind: str = "fp32", only: Container[str] | None = None) -> None:
        self.case, self.kind = case, kind
        self.random = np.random.default_rng(len(str(case.arguments)))
        self.graph = Graph()
        self.feeds: dict[str, np.ndarray] = {}
        self.arguments = {
            name: given if case.is_constant(name) else self.off_kinks(given) for name, given in case.arguments.items()
        }
        floats = {name: kind for name, given in self.arguments.items() if is_float(given)}
        outputs = Case(case.op, self.arguments, floats, case.constants).apply(self.graph, self.feed)
        self.node = self.graph.nodes[-1]
        self.sources = {name: v for name, v in self.find_sources().items() if only is None or name in only}
        self.seeds: dict[int, np.ndarray] = {}
        upstream = {}
        for i, output in enumerate(outputs):
            if i == 0 or self.random.random() < 0.7:
                self.seeds[i] = self.random.normal(size=output.shape).astype(np.float16)
                upstream[output] = self.seed(f"u{i}", self.seeds[i], output)
        forward_count = len(self.graph.nodes)
        found = sweep(self.graph, upstream, list(self.sources.values()))
        self.derived = self.graph.nodes[forward_count:]
        self.gradients = {name: found[value] for name, value in self.sources.items() if value in found}

    def off_kinks(self, given: Any) -> Any:
        if isinstance(given, list):
            return [self.off_kinks(item) for item in given]
        if not is_float(given):
            return given
        lattice = np.round(np.clip(given.astype(np.float64), -9, 9) * 8) / 8
        return (lattice + self.random.uniform(0.02, 0.1, given.shape)).astype(
            np.float16 if self.kind == "fp16" else np.float32
        )

    def feed(self, name: str, array: np.ndarray, kind: str) -> Value:
        self.feeds[name] = array
        return self.graph.input(name, array.shape, self.kind if is_float(array) else kind)

    def seed(self, name: str, array: np.ndarray, output: Value) -> Value:
        self.feeds[name] = array.reshape(output.shape or (1,))
        value = self.graph.input(name, output.shape or (1,), output.dtype)
        return value if output.shape else self.graph.reduce_sum(value)

    def find_sources(self) -> dict[str, Value]:
        """The floating operands by name; of several, with their number."""
        named: dict[str, Value] = {}
        for name, given in self.node.tensors.items():
            if isinstance(given, tuple):
                named |= {f"{name}{i}": value for i, value in enumerate(given)}
            elif given is not None and (self.case.op, name) not in STATISTICS:
                named[name] = given
        return {name: value for name, value in named.items() if value.dtype in ("fp16", "fp32")}

    def loss(self, name: str, array: np.ndarray) -> float:
        """The meaning with one operand replaced, times the seeds."""
        operands: dict[str, Any] = {}
        for arg, given in self.node.tensors.items():
            value = self.arguments.get(arg)
            if isinstance(given, tuple):
                operands[arg] = [array if f"{arg}{i}" == name else widened(item) for i, item in enumerate(value)]
            else:
                operands[arg] = None if value is None else array if arg == name else widened(value)
        results = self.node.op.meaning(**operands, **rounded_parameters(self.node))
        results = results if isinstance(results, tuple) else (results,)
        return sum(float(np.sum(results[i] * seed)) for i, seed in self.seeds.items())

    def evaluated(self) -> dict[str, np.ndarray]:
        for name, value in self.gradients.items():
            self.graph.output(f"d_{name}", value * 1.0)  # an input may not be an output
        return evaluate(self.graph, self.feeds, rounded=False)

    def operand(self, name: str) -> np.ndarray:
        data = self.sources[name].data
        return widened(self.feeds[name] if data is None else data)


def is_float(given: Any) -> bool:
    return isinstance(given, np.ndarray) and given.dtype.kind == "f"


def usable(case: Case) -> bool:
    """Casts between floating types, constant padding: what else there is, is refused (tested below)."""
    if case.op == "cast":
        return str(case.arguments["dtype"]).startswith("fp")
    return case.op != "pad" or case.arguments["mode"] == "constant"
