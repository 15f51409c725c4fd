"""Backward programs, derived: a forward graph becomes one graph of forward and backward nodes, with records of the
gradients of its weights.

    derived = differentiate(graph)
    derived.seeds[y]          # a new input: the gradient of y, fp32 on the host
    derived.gradients[x]      # the value that is the gradient of the input x
    derived.records           # what to add to the gradients of parameters

Host and device nodes are treated alike. Afterwards equal subexpressions are one node and dead nodes are gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from anetrain.graph import BlockGraph, BuildError, Node, Record, Value, on_device, whole_record
from anetrain.mil.derivatives import Backward, NoDerivativeError, join_padded


class AutodiffError(ValueError):
    """A graph whose backward cannot be derived: the text names the op."""


@dataclass
class Derived:
    graph: BlockGraph
    outputs: tuple[Value, ...]
    seeds: dict[Value, Value]  # output -> the input that brings its gradient; a loss brings its own
    gradients: dict[Value, Value]  # input -> its gradient; inputs that nothing depends on are not here
    records: list[Record]
    forward_nodes: set[Node] = field(default_factory=set)  # the others came with the derivatives

    @property
    def results(self) -> list[Value]:
        """All that somebody outside wants to have."""
        operands = [value for record in self.records for value in (record.a, record.b) if value is not None]
        return [*self.outputs, *self.gradients.values(), *operands]


def differentiate(graph: BlockGraph, wrt: Sequence[Value] | None = None, *, allow_unproven: bool = False) -> Derived:
    """The gradients of the graph's outputs with respect to inputs (`wrt`; all float ones if None) and all parameters.

    The outputs of the graph must be host values. An output that a cross-entropy made is a loss: it needs no seed.
    `graph` itself is extended.
    """
    floats = [value for value in graph.inputs if value.dtype in ("fp16", "fp32")]
    for value in wrt or ():
        if value not in floats:
            raise AutodiffError(f"wrt: {value!r} is not a floating-point input of this graph")
    wrt = floats if wrt is None else wrt
    outputs = tuple(graph.outputs)
    if not outputs:
        raise AutodiffError("the graph has no output: declare one with g.output(name, value)")
    for output in outputs:
        if on_device(output):
            raise AutodiffError(f"output {output.name!r} is {output.type} on the device; end with g.to_host(value)")
        if output.dtype != "fp32":
            raise AutodiffError(f"output {output.name!r} is {output.type}, expected fp32: it has no gradient")
    forward = list(graph.nodes)
    sweep = _Sweep(graph, forward, [*wrt, *graph.parameters], allow_unproven)
    seeds = {}
    for output in outputs:
        if output.producer is not None and output.producer.op.name == "cross_entropy":
            sweep.add(output, output)
        else:
            seeds[output] = graph.input(f"d_{output.name}", output.shape, "fp32")
            sweep.add(output, seeds[output])
    sweep.run()
    for parameter in graph.parameters:  # those that host ops use as they are
        graph.records += [whole_record(parameter, part) for part in sweep.contributions.get(parameter, ())]
    gradients = {value: graph.to_host(sweep.total(value)) for value in wrt if value in sweep.contributions}
    derived = Derived(graph, outputs, seeds, gradients, list(graph.records), set(forward))
    share_equal_nodes(derived)
    drop_dead_nodes(derived)
    return derived


def forward_only(graph: BlockGraph) -> Derived:
    """The graph as it is, for programs that never train."""
    derived = Derived(graph, tuple(graph.outputs), {}, {}, [], set(graph.nodes))
    share_equal_nodes(derived)
    drop_dead_nodes(derived)
    return derived


class _Sweep:
    """One walk from the outputs to the inputs. Contributions to a value's gradient are added up when it is reached."""

    def __init__(self, graph: BlockGraph, nodes: list[Node], wrt: Iterable[Value], allow_unproven: bool) -> None:
        self.graph, self.nodes, self.allow_unproven = graph, nodes, allow_unproven
        self.contributions: dict[Value, list[Value]] = {}
        self.wanted = _depending_on(set(wrt), nodes)

    def add(self, value: Value, gradient: Value | None) -> None:
        if gradient is not None and value in self.wanted:
            self.contributions.setdefault(value, []).append(gradient)

    def total(self, value: Value) -> Value:
        """The gradient of a value. Device contributions are added on the device, the others on the host."""
        parts = self.contributions[value]
        if len(parts) > 1:
            parts = join_padded(self.graph, parts)
            total = parts[0]
            for part in parts[1:]:
                total = self.graph.add(total, part)
            self.contributions[value] = [total]
        return self.contributions[value][0]

    def run(self) -> None:
        for node in reversed(self.nodes):
            if not any(output in self.contributions for output in node.outputs):
                continue
            wanted = frozenset(value for value in node.operands if value in self.wanted)
            if not wanted:
                continue
            upstream = tuple(self.total(out) if out in self.contributions else None for out in node.outputs)
            self._derive(node, upstream, wanted)

    def _derive(self, node: Node, upstream: tuple[Value | None, ...], wanted: frozenset[Value]) -> None:
        graph = self.graph
        graph.current_stage = graph.stage_of[node]
        before = len(graph.nodes)
        try:
            found = node.op.derivative(Backward(graph, node, upstream, wanted))
        except NoDerivativeError as error:
            where = f"; it makes {node.outputs[0].name}, {node.outputs[0].type}"
            raise AutodiffError(f"{error}{where}. Use another op, or g.detached(...) to stop gradients there") from None
        except BuildError as error:
            raise AutodiffError(f"the derivative of {node.op.name} cannot be built: {error}") from error
        self._check_evidence(node, graph.nodes[before:])
        for name, gradient in found.items():
            operand = node.tensors[name]
            if isinstance(operand, tuple):
                assert isinstance(gradient, Sequence)
                for item, part in zip(operand, gradient, strict=True):
                    self.add(item, part)
            elif operand is not None:
                assert gradient is None or isinstance(gradient, Value)
                self.add(operand, gradient)

    def _check_evidence(self, node: Node, made: list[Node]) -> None:
        if self.allow_unproven:
            return
        for other in made:
            if other.op.evidence.level != "direct":
                raise AutodiffError(
                    f"the derivative of {node.op.name} ({node.outputs[0].name}) needs {other.op.name}, which has not "
                    f"been seen to run through the direct path ({other.op.evidence.level}); use proven ops, or "
                    f"allow_unproven"
                )


def _depending_on(sources: set[Value], nodes: Iterable[Node]) -> set[Value]:
    """All that a change of the sources could change."""
    reached = set(sources)
    for node in nodes:
        if node.op.name != "detached" and any(operand in reached for operand in node.operands):
            reached.update(node.outputs)
    return reached


# ---------------------------------------------------------------- passes


def share_equal_nodes(derived: Derived) -> None:
    """Equal ops of equal operands become one node, equal constants one constant."""
    graph = derived.graph
    replaced: dict[Value, Value] = {}
    seen: dict[object, Node] = {}
    constants: dict[object, Value] = {}
    kept = []
    declared = set(graph.outputs)  # each keeps a node and a name of its own

    def current(value: Value) -> Value:
        if value.data is not None:
            key = (value.type, value.inline, value.data.tobytes())
            return constants.setdefault(key, value)
        return replaced.get(value, value)

    for node in graph.nodes:
        node.tensors = {
            name: tuple(map(current, item)) if isinstance(item, tuple) else None if item is None else current(item)
            for name, item in node.tensors.items()
        }
        key = (node.op, tuple(node.tensors.items()), tuple(node.parameters.items()))
        twin = seen.setdefault(key, node)
        if twin is node or not declared.isdisjoint(node.outputs):
            kept.append(node)
            continue
        replaced.update(zip(node.outputs, twin.outputs, strict=True))
        derived.forward_nodes.discard(node)
    graph.nodes = kept
    derived.gradients = {value: current(gradient) for value, gradient in derived.gradients.items()}
    derived.records = [
        replace(record, a=current(record.a), b=None if record.b is None else current(record.b))
        for record in derived.records
    ]


def drop_dead_nodes(derived: Derived) -> None:
    """Keeps what the results need."""
    graph = derived.graph
    alive = set(derived.results)
    kept = []
    for node in reversed(graph.nodes):
        if any(output in alive for output in node.outputs):
            alive.update(node.operands)
            kept.append(node)
    graph.nodes = kept[::-1]
    derived.forward_nodes &= set(graph.nodes)


__all__ = ["AutodiffError", "Derived", "differentiate", "forward_only"]
