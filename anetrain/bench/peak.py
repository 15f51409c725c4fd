"""How many operations a second: stacks of 1x1 convolutions as published, wide rows, one product, 5 seconds on end.

The ten stacks, the widths and the product are those of the published reports, so that figures can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from anetrain.bench.base import Bench, Bound, Case, Lab, Scale, compare
from anetrain.bench.convolutions import CAUTION, ROUNDING, Stack
from anetrain.mil import Graph
from anetrain.results import Finding, Measurement

STACKS = (
    (32, 512),
    (48, 512),
    (64, 512),
    (96, 512),
    (128, 512),
    (64, 256),
    (128, 256),
    (256, 256),
    (64, 384),
    (128, 384),
)
"""Layers and channels."""
WIDTH = 64  # positions of the ten
SHAPE = {"channels", "layers", "spatial"}  # parameters of a stack
ROWS = 8  # of the product that numpy computes


@dataclass(frozen=True)
class _Sizes:
    divisor: int  # of the stacks' layers and channels
    widths: tuple[int, ...]  # of the deepest stack of the widest channels, beside 64
    product: int
    sustained_s: float


SIZES: Mapping[Scale, _Sizes] = {
    "full": _Sizes(1, (128, 256, 512, 1024, 2048), 2048, 5.0),
    "small": _Sizes(8, (96, 128), 128, 0.2),
}


class Peak(Bench):
    name = "peak"
    question = "How many fp16 operations a second does the engine do, at most and on end?"
    columns: ClassVar[tuple[str, ...]] = ("weight_mib", "gflop", "ms", "tflops")

    def cases(self, scale: Scale) -> Sequence[Case]:
        sizes = SIZES[scale]
        stacks = [Stack(channels // sizes.divisor, layers // sizes.divisor, WIDTH) for layers, channels in STACKS]
        deepest = Stack(512 // sizes.divisor, 128 // sizes.divisor, WIDTH)
        wider = [replace(deepest, spatial=width) for width in sizes.widths]
        widest, product, seconds = wider[-1], Stack(sizes.product, 1, sizes.product), sizes.sustained_s
        return [
            *(Case(stack.name, stack.parameters) for stack in (*stacks, *wider)),
            Case(f"matmul {sizes.product}, baked weights", product.parameters),
            Case(f"matmul {sizes.product}, run-time weights", {"size": sizes.product}),
            Case(f"{widest.name}, {seconds:g} s on end", widest.parameters | {"seconds": seconds}),
        ]

    def measure(self, lab: Lab, case: Case) -> Measurement:
        if "size" in case.parameters:
            return self._product_at_run_time(lab, case)
        stack = Stack.of(case.parameters)
        bound, check = stack.bound(lab, case.name)
        run, seconds = bound.request.run, case.parameters.get("seconds")
        if seconds is None:
            return self.timed(case, check, lambda: lab.meter.time(run), **stack.counts)
        return self.timed(case, check, lambda: lab.meter.sustain(run, float(seconds)), **stack.counts)

    def _product_at_run_time(self, lab: Lab, case: Case) -> Measurement:
        size = int(case.parameters["size"] or 0)
        random = lab.random()
        x = random.standard_normal((size, size), np.float32).astype(np.float16)  # [in, positions]
        w = (random.standard_normal((size, size), np.float32) / math.sqrt(size)).astype(np.float16)  # [in, out]
        bound = Bound.of(lab.device, product_at_run_time(size), {"a_x": x, "b_w": w}, case.name)
        bound.request.run()
        rows = np.linspace(0, size - 1, ROWS).astype(int)
        expected = x.T[rows].astype(np.float64) @ w.astype(np.float64)
        found = bound.read("y")[0, rows, 0]  # [rows, out]
        check = compare(found, expected, allowed=CAUTION * ROUNDING, against="numpy in float64")
        # Counted as the baked form is, so that both mean the same.
        return self.timed(case, check, lambda: lab.meter.time(bound.request.run), **Stack(size, 1, size).counts)

    def findings(self, measured: Sequence[Measurement]) -> Sequence[Finding]:
        timed = [one for one in measured if one.timing is not None]
        single = {Stack.of(one.parameters): one for one in timed if one.parameters.keys() == SHAPE}
        found = [_most(timed), _wider(single)]
        for one in timed:
            if "seconds" in one.parameters:
                found.append(_on_end(one, single.get(Stack.of(one.parameters))))
            if "size" in one.parameters:
                size = int(one.parameters["size"] or 0)
                found.append(_at_run_time(one, single.get(Stack(size, 1, size))))
        return [one for one in found if one is not None]


def product_at_run_time(size: int) -> Graph:
    """The form that earlier work found quickest (ANE_FACTS 3.4 d): no transpose behind the product."""
    graph = Graph()
    x = graph.input("a_x", (1, size, 1, size))
    w = graph.input("b_w", (1, size, 1, size))
    rows = graph.transpose(graph.reshape(x, (1, 1, size, size)), (0, 1, 3, 2))  # [1, 1, positions, in]
    y = graph.matmul(rows, graph.reshape(w, (1, 1, size, size)))  # [1, 1, positions, out]
    graph.output("y", graph.reshape(y, (1, size, 1, size)))
    return graph


# ---------------------------------------------------------------- findings


def _most(timed: Sequence[Measurement]) -> Finding | None:
    if not timed:
        return None
    best = max(timed, key=_tflops)
    return Finding(
        bench=Peak.name,
        question="How many operations a second at most?",
        answer=f"{_tflops(best):.2f} TFLOPS in fp16: {best.case}.",
        figures={"tflops": _tflops(best)},
        basis=tuple(one.case for one in timed),
    )


def _wider(single: Mapping[Stack, Measurement]) -> Finding | None:
    """Of the same layers on more positions."""
    widest = max(single, key=lambda stack: (stack.layers > 1, stack.spatial), default=None)
    if widest is None or (narrow := replace(widest, spatial=WIDTH)) not in single or widest == narrow:
        return None
    wide, base = single[widest], single[narrow]
    ratio = _tflops(wide) / _tflops(base)
    return Finding(
        bench=Peak.name,
        question="What do more positions bring?",
        answer=f"{_tflops(base):.2f} TFLOPS on {WIDTH} positions, {_tflops(wide):.2f} on {widest.spatial}: "
        f"{ratio:.2f} times as many.",
        figures={"ratio": ratio},
        basis=(base.case, wide.case),
    )


def _on_end(sustained: Measurement, single: Measurement | None) -> Finding | None:
    if single is None:
        return None
    share = _tflops(sustained) / _tflops(single)
    return Finding(
        bench=Peak.name,
        question="Is that held?",
        answer=f"{_tflops(sustained):.2f} TFLOPS over {sustained.parameters['seconds']:g} s without a pause: "
        f"{100 * share:.1f} % of what single calls reach.",
        figures={"tflops": _tflops(sustained), "share": share},
        basis=(single.case, sustained.case),
    )


def _at_run_time(product: Measurement, baked: Measurement | None) -> Finding | None:
    if baked is None:
        return None
    ratio = product.figures["ms"] / baked.figures["ms"]
    return Finding(
        bench=Peak.name,
        question="What do weights cost that arrive at run time?",
        answer=f"The product takes {ratio:.2f} times as long as with baked weights.",
        figures={"ratio": ratio},
        basis=(baked.case, product.case),
    )


def _tflops(measurement: Measurement) -> float:
    return measurement.figures["tflops"]
