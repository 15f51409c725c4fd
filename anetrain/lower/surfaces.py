"""Which surface each value that crosses a border lies on, and where.

What one program leaves lies on one surface (or on several), and whoever reads it later reads that very surface: nothing
is copied between forward and backward. A gradient that the host sends may take the place of a forward value that no
program reads any more: so a backward program has one surface of activations and one of weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from anetrain.graph import Value, on_device
from anetrain.lower.cut import Cut, Segment, is_op, is_sent, is_weight
from anetrain.lower.plan import Layout, Region, SurfaceSpec, WeightPlace
from anetrain.lower.taps import makers, recompute
from anetrain.lower.weights import padded, place_weights

Outputs = Literal["one", "several"]


@dataclass
class Surfaces:
    specs: dict[str, SurfaceSpec] = field(default_factory=dict)
    region_of: dict[Value, Region] = field(default_factory=dict)
    weight_places: dict[Value, WeightPlace] = field(default_factory=dict)  # by staged value; none where baked


def border(value: Value, tokens: int) -> tuple[int, int]:
    """Rows and columns in which a value crosses: tokens on the width wherever that divides it."""
    size = math.prod(value.shape)
    columns = tokens if value.shape[-1] != tokens and size % tokens == 0 and size > tokens else value.shape[-1]
    return size // columns, columns


def assign(cut: Cut, saved: set[Value], layout: Layout, outputs: Outputs) -> Surfaces:
    """Fills the outputs and the recomputed nodes of the segments, and finds a place for all that crosses a border."""
    return _Assignment(cut, saved, layout, outputs).result


class _Assignment:
    def __init__(self, cut: Cut, saved: set[Value], layout: Layout, outputs: Outputs) -> None:
        self.cut, self.saved, self.layout, self.outputs = cut, saved, layout, outputs
        self.graph = cut.derived.graph
        self.tokens = self.graph.spec.tokens
        self.result = Surfaces()
        self.replaced: set[Value] = set()  # forward values whose place a gradient takes
        self.received_late = self._received(late=True)
        self.readers: dict[Value, list[Segment]] = {}  # of what programs do not compute themselves
        self._recompute()
        self._find_outputs()
        for number, segment in enumerate(cut.segments):
            self._place_weights(number, segment)
        for number, segment in enumerate(cut.segments):
            self._place_outputs(number, segment)
        self._place_sent()

    # ------------------------------------------------------------ what crosses

    def _recompute(self) -> None:
        """Enters into programs of backward what they have to run again, for themselves or for weight gradients."""
        for segment in self.cut.segments:
            if segment.late:
                wanted = [v for v in segment.operands() if on_device(v) and v not in self.cut.late]
                recompute(self.cut, self.saved, segment, [v for v in wanted if not is_weight(v)])
        for value in self.received_late:
            if value not in self.saved:
                segment = self._where_recomputed(value)
                recompute(self.cut, self.saved, segment, [value])
                segment.outputs.append(value)

    def _find_outputs(self) -> None:
        """What a program computes and others read, or the host; not what backward computes again of forward."""
        for segment in self.cut.segments:
            for value in segment.operands():
                self.readers.setdefault(value, []).append(segment)
        received = {False: set(self._received(late=False)), True: set(self._received())}
        for segment in self.cut.segments:
            for value in (output for node in segment.nodes for output in node.outputs):
                is_read = any(reader is not segment for reader in self.readers.get(value, ()))
                if value in self.saved or is_read or value in received[segment.late]:
                    segment.outputs.append(value)

    def _received(self, late: bool | None = None) -> list[Value]:
        """Values that the host takes: late, those of forward for weight gradients; not late, in forward; None: all."""
        found: dict[Value, None] = {}
        for node in self.graph.nodes:
            if not is_op(node, "to_host") or (late is not None and late is (node in self.cut.derived.forward_nodes)):
                continue
            found.update(dict.fromkeys(v for v in node.operands if not late or v not in self.cut.late))
        return list(found)

    def _where_recomputed(self, value: Value) -> Segment:
        """The backward program that does most of the work for it, and reads most of what it takes, anyway."""
        late = [segment for segment in self.cut.segments if segment.late]
        if not late:
            raise ValueError(f"{value.name} is needed for a weight gradient, but no program runs in backward")
        nodes, sources = makers(self.cut, self.saved, [value])
        return max(late, key=lambda s: len(nodes.intersection(s.recomputed)) + len(sources.intersection(s.operands())))

    # ------------------------------------------------------------ places

    def _place_weights(self, number: int, segment: Segment) -> None:
        """A weight lies where the first program that uses it wants it."""
        layout = self.layout
        staged = [v for v in segment.operands() if is_weight(v) and v not in self.result.weight_places]
        if layout == "baked":
            layout = "stacked"
            alone = _behind_outputs_of_weights_alone(segment)
            staged = [value for value in staged if value in alone]
        if not staged:
            return
        rows = sum(border(value, self.tokens)[0] for value in self._sent_to(segment))
        placed = place_weights(layout, f"w{number}", staged, rows, self.tokens if rows else 0)
        self.result.specs.update({surface.name: surface for surface in placed.surfaces})
        self.result.weight_places.update(placed.places)
        if self.layout == "packed":
            self._stack(f"w{number}", self._sent_to(segment))

    def _sent_to(self, segment: Segment) -> list[Value]:
        return [v for v in segment.operands() if is_sent(v) and (v in self.cut.late) == segment.late]

    def _place_outputs(self, number: int, segment: Segment) -> None:
        groups: dict[int, list[Value]] = {}
        for position, value in enumerate(segment.outputs):
            several = self.outputs == "several" or self.layout == "separate"
            key = -1 - position if several else border(value, self.tokens)[1]
            groups.setdefault(key, []).append(value)
        for index, values in enumerate(groups.values()):
            self._new_surface(f"y{number}" if len(groups) == 1 else f"y{number}_{index:02}", values)

    def _place_sent(self) -> None:
        """Values that the host writes: together where the same programs read them."""
        groups: dict[tuple[object, ...], list[Value]] = {}
        for node in self.graph.nodes:
            value = node.outputs[0]
            if not is_op(node, "to_device") or value in self.result.region_of:
                continue
            readers = self.readers.get(value, [])
            if not readers or self._take_place(value, readers):
                continue
            alone = [value] if self.layout == "separate" else []
            columns = border(value, self.tokens)[1]
            groups.setdefault((*map(id, readers), value in self.saved, columns, *alone), []).append(value)
        for number, values in enumerate(groups.values()):
            self._new_surface(f"x{number}", values)

    def _take_place(self, value: Value, readers: list[Segment]) -> bool:
        """Lets a gradient replace a forward value on a surface that its reader reads anyway."""
        if self.layout == "separate" or value not in self.cut.late or len(readers) != 1:
            return False
        read = {region.surface for v in readers[0].operands() if (region := self._region(v)) is not None}
        for other, region in self.result.region_of.items():
            if (
                region.surface in read
                and self._is_spent(other)
                and border(other, self.tokens) == border(value, self.tokens)
            ):
                self.result.region_of[value] = region
                self.replaced.add(other)
                return True
        return False

    def _region(self, value: Value) -> Region | None:
        if value in self.result.weight_places:
            return self.result.weight_places[value].region
        return self.result.region_of.get(value)

    def _is_spent(self, value: Value) -> bool:
        """No program of backward reads it, nor does the host then."""
        if value in self.cut.late or value in self.saved or value in self.replaced:
            return False
        return value not in self.received_late and not any(reader.late for reader in self.readers.get(value, ()))

    def _new_surface(self, name: str, values: list[Value]) -> None:
        rows = sum(border(value, self.tokens)[0] for value in values)
        columns = max(border(value, self.tokens)[1] for value in values)
        kept = any(value in self.saved for value in values)
        self.result.specs[name] = SurfaceSpec(name, rows, padded(columns), kept)
        self._stack(name, values)

    def _stack(self, name: str, values: list[Value]) -> None:
        channel = 0
        for value in values:
            rows, columns = border(value, self.tokens)
            self.result.region_of[value] = Region(name, channel, rows, columns)
            channel += rows
            spec = self.result.specs[name]
            self.result.specs[name] = replace(spec, kept=spec.kept or value in self.saved)


def _behind_outputs_of_weights_alone(segment: Segment) -> set[Value]:
    """Weights that are inputs even if all others are baked: no device runs what depends on constants only."""
    sources: dict[Value, set[Value]] = {}  # what the values of the segment are computed of
    for node in segment.all_nodes:
        found = set().union(*(sources.get(value, {value}) for value in node.operands if value.data is None))
        sources.update(dict.fromkeys(node.outputs, found))
    behind = [sources[output] for output in segment.outputs]
    return set().union(*(found for found in behind if all(map(is_weight, found))))
