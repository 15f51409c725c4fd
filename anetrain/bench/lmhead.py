"""The logits of one token: a vocabulary's matrix times a vector, in the ways there are on the CPU, and on the device.

All ways have the same weights, which fp16 holds exactly, and are checked against the same sums in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from anetrain import cpu
from anetrain.bench.base import Bench, Case, Lab, Scale, compare
from anetrain.bench.convolutions import CAUTION, HALF, ROUNDING
from anetrain.bench.linked import Linked
from anetrain.blocks.classifier import AXIS_LIMIT, CHANNEL_LIMIT
from anetrain.device import Device
from anetrain.lower.check import limit_on_device
from anetrain.mil import Graph
from anetrain.results import Finding, Measurement

FLOAT = 4
FLOAT_ALLOWED = 1e-5  # of the largest value: float32 sums of hundreds of products
POSITIONS = 32  # of the device's input, as many as its rows need; the vector is the first

Array = npt.NDArray[Any]
SIZES: Mapping[Scale, tuple[int, int]] = {"full": (50257, 768), "small": (997, 64)}
"""Rows and columns."""


@dataclass(frozen=True)
class Weights:
    """`half` [rows, columns] and `full` are the same numbers; `x` [columns] and `out` [rows] are float32."""

    half: npt.NDArray[np.float16]
    full: npt.NDArray[np.float32]
    converted: npt.NDArray[np.float32]
    x: npt.NDArray[np.float32]
    out: npt.NDArray[np.float32]

    @classmethod
    def random(cls, rows: int, columns: int, random: np.random.Generator) -> Weights:
        half = (random.standard_normal((rows, columns), np.float32) / math.sqrt(columns)).astype(np.float16)
        x = random.standard_normal(columns, np.float32).astype(np.float16).astype(np.float32)
        full = half.astype(np.float32)
        return cls(half, full, np.empty_like(full), x, np.empty(rows, np.float32))


def sgemv(w: Weights) -> Array:
    return cpu.gemv(w.full, w.x, w.out)


def converted(w: Weights) -> Array:
    """As where weights are kept in fp16 for their size, and BLAS knows no fp16."""
    return cpu.gemv(cpu.to_float(w.half, w.converted), w.x, w.out)


def half(w: Weights) -> Array:
    return cpu.gemv(w.half, w.x, w.out)


def sgemm(w: Weights) -> Array:
    return cpu.matmul(w.full, w.x[:, None], w.out[:, None])[:, 0]


def row_by_row(w: Weights) -> Array:
    return np.einsum("ij,j->i", w.full, w.x, out=w.out)


@dataclass(frozen=True)
class Way:
    call: Callable[[Weights], Array]
    threads: int | None  # None: all
    bytes_each: int  # of a weight


WAYS = {
    "sgemv, one thread": Way(sgemv, 1, FLOAT),
    "fp16 converted, then sgemv, one thread": Way(converted, 1, HALF),
    "sgemv, all threads": Way(sgemv, None, FLOAT),
    "fp16 weights, all threads": Way(half, None, HALF),
    "sgemm with one column": Way(sgemm, None, FLOAT),
    "a dot product for each row": Way(row_by_row, 1, FLOAT),
}
DEVICE = {"device": False, "device, with writing and reading": True}
"""Name -> does the time hold what the CPU does for it?"""


class LMHead(Bench):
    name = "lmhead"
    question = "What is the quickest way to the logits of one token?"
    columns: ClassVar[tuple[str, ...]] = ("runs_on", "ms", "gb_per_s")

    def cases(self, scale: Scale) -> Sequence[Case]:
        rows, columns = SIZES[scale]
        return [Case(way, {"way": way, "rows": rows, "columns": columns}) for way in (*WAYS, *DEVICE)]

    def measure(self, lab: Lab, case: Case) -> Measurement:
        rows, columns = (int(case.parameters[name] or 0) for name in ("rows", "columns"))
        way = str(case.parameters["way"])
        w = Weights.random(rows, columns, lab.random())
        expected = w.half.astype(np.float64) @ w.x.astype(np.float64)
        if way in DEVICE:
            return self._on_device(lab, case, w, expected, with_host=DEVICE[way])
        chosen = WAYS[way]
        with threads(chosen.threads):
            check = compare(chosen.call(w), expected, allowed=FLOAT_ALLOWED, against="numpy in float64")
            return self.timed(
                case,
                check,
                lambda: lab.meter.time(lambda: chosen.call(w)),
                observed={"threads": cpu.threads(), "runs_on": "CPU"},
                **_counts(w, chosen.bytes_each),
            )

    def _on_device(self, lab: Lab, case: Case, w: Weights, expected: Array, *, with_host: bool) -> Measurement:
        head = Head(lab.device, w, case.name)
        check = compare(head.logits().copy(), expected, allowed=CAUTION * ROUNDING, against="numpy in float64")
        call = head.logits if with_host else head.linked.run
        observed = {"programs": len(head.linked.programs), "runs_on": "device"}
        return self.timed(case, check, lambda: lab.meter.time(call), observed=observed, **_counts(w, HALF))

    def findings(self, measured: Sequence[Measurement]) -> Sequence[Finding]:
        timed = {one.case: one for one in measured if one.timing is not None}
        on_cpu = [one for one in timed.values() if one.observed["runs_on"] == "CPU"]
        device = timed.get("device, with writing and reading")
        if not on_cpu or device is None:
            return []
        best = min(on_cpu, key=lambda one: one.figures["ms"])
        device_ms, best_ms = device.figures["ms"], best.figures["ms"]
        return [
            Finding(
                bench=self.name,
                question="Is the device the place for one token's logits?",
                answer=f"The device takes {device_ms:.3f} ms, writing and reading included; the quickest way on the "
                f"CPU ({best.case}) {best_ms:.3f} ms: {best_ms / device_ms:.2f} times as long.",
                figures={"ratio": best_ms / device_ms},
                basis=tuple(timed),
            )
        ]


def _counts(w: Weights, bytes_each: int) -> dict[str, Any]:
    weight_bytes = bytes_each * w.half.size
    return {
        "flops": 2 * w.half.size,
        "weight_bytes": weight_bytes,
        "bytes_moved": weight_bytes + FLOAT * (w.x.size + w.out.size),
    }


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    cpu.set_threads(count)
    try:
        yield
    finally:
        cpu.set_threads(None)


class Head:
    """The matrix baked into as few programs as the device's axes allow."""

    def __init__(self, device: Device, w: Weights, label: str) -> None:
        rows, columns = w.half.shape
        known = (("channel-limit", CHANNEL_LIMIT), ("axis-limit", AXIS_LIMIT))
        chunk = min(rows, *(limit_on_device(device, rule, unknown) for rule, unknown in known))
        self._begins = range(0, rows, chunk)
        self._w, graphs = w, []
        for begin in self._begins:
            graph = Graph()
            x = graph.input("a_x", (1, columns, 1, POSITIONS))
            matrix = graph.constant(w.half[begin : begin + chunk, :, None, None], name="w")
            graph.output(f"y{begin:06}", graph.conv(x=x, weight=matrix))
            graphs.append(graph)
        self.linked = Linked.of(device, graphs, {"a_x": np.zeros((columns, POSITIONS), np.float32)}, label)
        self._write()

    def _write(self) -> None:
        self.linked.surfaces["a_x"].write(self._w.x[:, None], row_stride=POSITIONS)

    def logits(self) -> Array:
        self._write()
        self.linked.run()
        for begin in self._begins:
            name = f"y{begin:06}"
            count = self.linked.ports[name].shape[1]
            out = self._w.out[begin : begin + count, None]
            self.linked.surfaces[name].read(count, 1, row_stride=POSITIONS, out=out)
        return self._w.out
