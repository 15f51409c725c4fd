"""What forward keeps for backward, and what backward computes again: the cut of least bytes.

Products and softmax are not computed twice, unless they are larger than `save_probabilities_up_to` along their last
axis: then attention keeps q and k instead of its probabilities. Everything else (elementwise, layout, reductions) may
be computed twice.
Of all ways to do it, the one that keeps the fewest bytes is taken; of those, the one that leaves least to recompute.
"""

from __future__ import annotations

import math
from collections import deque

from anetrain.graph import Node, Value
from anetrain.lower.cut import Cut, Segment, is_forward_device, is_op, is_sent

EXPENSIVE = frozenset({"dense", "matmul", "conv", "softmax"})
UNLIMITED = 1 << 60


def choose_saved(cut: Cut, save_probabilities_up_to: int) -> set[Value]:
    """The device values of forward that stay on surfaces until backward."""
    needed = cut.crossing()
    left_anyway = _left_anyway(cut)
    flow = _Flow()
    for value in _ancestors(cut, needed):
        flow.edge((value, "in"), (value, "out"), _cost(cut, value, value in left_anyway))
        if _cannot_recompute(cut, value, save_probabilities_up_to):
            flow.edge("source", (value, "in"), UNLIMITED)
            continue
        assert value.producer is not None
        for operand in value.producer.operands:
            if is_forward_device(cut, operand):
                flow.edge((operand, "out"), (value, "in"), UNLIMITED)
    for value in needed:
        flow.edge((value, "out"), "sink", UNLIMITED)
    return {value for value, _ in flow.cut_nearest_to_sink()} | left_anyway.intersection(needed)


def _left_anyway(cut: Cut) -> set[Value]:
    """What programs of forward leave for each other or for the host, whether backward needs it or not."""
    left = {value for node in cut.derived.forward_nodes if is_op(node, "to_host") for value in node.operands}
    for segment in cut.segments:
        if not segment.late:
            left.update(v for v in segment.operands() if v.producer in cut.segment_of)
    return left


def recompute(cut: Cut, saved: set[Value], segment: Segment, wanted: list[Value]) -> None:
    """Enters into a late segment the nodes of forward that it has to run again for `wanted`."""
    found = makers(cut, saved, wanted)[0].union(segment.recomputed)
    segment.recomputed = [node for node in cut.derived.graph.nodes if node in found]


def makers(cut: Cut, saved: set[Value], wanted: list[Value]) -> tuple[set[Node], set[Value]]:
    """The nodes of forward that make `wanted` from what is kept, and the kept values and weights they start from."""
    found: set[Node] = set()
    sources: set[Value] = set()
    queue = list(wanted)
    while queue:
        value = queue.pop()
        producer = value.producer
        if producer is None or producer in found:
            continue
        if value in saved or not is_forward_device(cut, value) or is_sent(value):
            sources.add(value)
            continue
        found.add(producer)
        queue.extend(producer.operands)
    return found, sources


def _ancestors(cut: Cut, needed: list[Value]) -> list[Value]:
    found = dict.fromkeys(needed)
    queue = deque(needed)
    while queue:
        producer = queue.popleft().producer
        for operand in producer.operands if producer is not None and not is_op(producer, "to_device") else ():
            if is_forward_device(cut, operand) and operand not in found:
                found[operand] = None
                queue.append(operand)
    return list(found)


def _cannot_recompute(cut: Cut, value: Value, limit: int) -> bool:
    node = value.producer
    assert node is not None
    if is_sent(value):
        return True
    if node.op.name not in EXPENSIVE or node not in cut.derived.forward_nodes:
        return False
    return is_op(node, "dense") or value.shape[-1] <= limit


def _cost(cut: Cut, value: Value, left_anyway: bool) -> int:
    """In bytes, times 64; a little more for what does not lie as tokens on the width."""
    if value.producer not in cut.derived.forward_nodes and not is_sent(value):
        return UNLIMITED  # forward does not make it
    if left_anyway:
        return math.prod(value.shape)
    canonical = len(value.shape) == 4 and value.shape[0] == value.shape[2] == 1
    return math.prod(value.shape) * 2 * (64 if canonical else 65)


class _Flow:
    """Maximum flow by shortest augmenting paths; graphs here have a few hundred edges."""

    def __init__(self) -> None:
        self.room: dict[object, dict[object, int]] = {"source": {}, "sink": {}}

    def edge(self, a: object, b: object, capacity: int) -> None:
        self.room.setdefault(a, {})[b] = self.room.get(a, {}).get(b, 0) + capacity
        self.room.setdefault(b, {}).setdefault(a, 0)

    def cut_nearest_to_sink(self) -> list[tuple[Value, str]]:
        """The "in" ends of the edges that are cut."""
        while (path := self._path()) is not None:
            amount = min(self.room[a][b] for a, b in path)
            if amount >= UNLIMITED:
                raise ValueError("a value that backward needs can neither be kept nor computed again")
            for a, b in path:
                self.room[a][b] -= amount
                self.room[b][a] += amount
        reaches_sink = self._reaching_sink()
        inner = [end for end in self.room if isinstance(end, tuple) and end[1] == "in"]
        return [end for end in inner if end not in reaches_sink and (end[0], "out") in reaches_sink]

    def _path(self) -> list[tuple[object, object]] | None:
        came_from: dict[object, object] = {"source": None}
        queue: deque[object] = deque(["source"])
        while queue:
            a = queue.popleft()
            for b, room in self.room[a].items():
                if room > 0 and b not in came_from:
                    came_from[b] = a
                    queue.append(b)
        if "sink" not in came_from:
            return None
        path: list[tuple[object, object]] = []
        end: object = "sink"
        while (start := came_from[end]) is not None:
            path.append((start, end))
            end = start
        return path[::-1]

    def _reaching_sink(self) -> set[object]:
        found: set[object] = {"sink"}
        queue: deque[object] = deque(["sink"])
        while queue:
            b = queue.popleft()
            for a in self.room[b]:
                if a not in found and self.room[a][b] > 0:
                    found.add(a)
                    queue.append(a)
        return found
