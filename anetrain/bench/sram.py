"""Where does on-chip memory end? The nine published rows, and three sweeps that each change one thing.

The published rows are one convolution each, of more and more channels; in the last one the number of positions changes
too, so that its operations for a byte are half those of the others: it shows no cliff, whatever its TFLOPS. Here:
- depth: equal layers, more and more of them. Weight bytes grow; operations for a byte, positions and what enters and
  leaves stay
- matrix: one layer, more and more channels: as published, on the same number of positions throughout. Weight bytes
  grow; operations for a byte and positions stay (what enters and leaves grows, too, but is ever less beside the weight)
- positions: the same layers on more and more positions. Activation bytes grow; weights stay
For each sweep cliff.py says whether times have a knee, where, and how sure that is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from anetrain.bench import cliff
from anetrain.bench.base import Bench, Case, Lab, Scale
from anetrain.bench.convolutions import Stack
from anetrain.bench.resampling import samples_s
from anetrain.results import Finding, Measurement, Scalar

MEBI = 1 << 20
Sweep = Literal["published", "depth", "matrix", "positions"]

PUBLISHED = (256, 512, 1024, 2048, 3072, 4096, 5120, 6144)
"""Channels of the rows on 64 positions; the ninth has 8192 on 32."""
LAST = Stack(8192, 1, 32)
TWO = "channels, positions"


def _stacks(channels: Sequence[int], layers: Sequence[int], positions: Sequence[int]) -> list[Stack]:
    return [Stack(c, n, w) for c in channels for n in layers for w in positions]


SWEEPS: Mapping[Scale, Mapping[Sweep, Sequence[Stack]]] = {
    "full": {
        "published": [*_stacks(PUBLISHED, [1], [64]), LAST],
        "depth": _stacks([1024], [1, 2, 3, 4, 6, 8, 10, 12, 14, 16, 18, 20, 24, 28, 32, 40, 48, 64], [64]),
        "matrix": _stacks([*range(512, 4096, 512), *range(4096, 8193, 1024)], [1], [64]),
        "positions": _stacks([512], [4], [64, 128, 256, 512, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384]),
    },
    "small": {
        "published": [*_stacks([32, 64, 96], [1], [64]), Stack(128, 1, 32)],
        "depth": _stacks([32], [1, 2, 3, 4, 6, 8], [64]),
        "matrix": _stacks([32, 64, 96, 128, 160, 192], [1], [64]),
        "positions": _stacks([32], [2], [32, 64, 96, 128, 192, 256]),
    },
}


def act_mib(stack: Stack) -> float:
    """Activations as the published table counts them: those of one side, input or output."""
    return stack.activation_bytes / 2 / MEBI


class Sram(Bench):
    name = "sram"
    question = "How much on-chip memory is there, for weights and for activations?"
    columns: ClassVar[tuple[str, ...]] = (
        "weight_mib",
        "act_mib",
        "total_mib",
        "ms",
        "tflops",
        "gflops_per_mib",
        "changes",
    )

    def cases(self, scale: Scale) -> Sequence[Case]:
        cases = []
        for sweep, stacks in SWEEPS[scale].items():
            for stack in stacks:
                of_row: dict[str, Scalar] = {"sweep": sweep, "changes": _changes(sweep, stack, stacks)}
                cases.append(Case(f"{sweep}: {stack.name}", stack.parameters | of_row))
        return cases

    def measure(self, lab: Lab, case: Case) -> Measurement:
        stack = Stack.of(case.parameters)
        bound, check = stack.bound(lab, case.name)
        observed = {"act_mib": act_mib(stack)}
        return self.timed(case, check, lambda: lab.meter.time(bound.request.run), observed=observed, **stack.counts)

    def findings(self, measured: Sequence[Measurement]) -> Sequence[Finding]:
        found = [_last_row(measured), *(_cliff(sweep, what, measured) for sweep, what in SWEPT.items())]
        return [one for one in found if one is not None]


def _changes(sweep: Sweep, stack: Stack, stacks: Sequence[Stack]) -> str:
    """From row to row."""
    if sweep == "published":
        return "channels" if stack.spatial == stacks[0].spatial else TWO
    return {"depth": "layers", "matrix": "channels", "positions": "positions"}[sweep]


SWEPT: Mapping[Sweep, str] = {
    "depth": "weights in equal layers",
    "matrix": "weights in one matrix",
    "positions": "activations",
}


def _cliff(sweep: Sweep, what: str, measured: Sequence[Measurement]) -> Finding | None:
    timed = [one for one in measured if one.parameters["sweep"] == sweep and one.timing is not None]
    if not timed:
        return None
    found = cliff.find({_swept_mib(sweep, one): samples_s(one) for one in timed})
    sentence = cliff.sentence(found, what, "MiB")
    return Finding(
        bench=Sram.name,
        question=f"Does time grow faster beyond some amount of {what}?",
        answer=f"{sentence[0].upper()}{sentence[1:]}.",
        figures=cliff.figures(found, "mib"),
        basis=tuple(one.case for one in timed),
    )


def _swept_mib(sweep: Sweep, measurement: Measurement) -> float:
    stack = Stack.of(measurement.parameters)
    return act_mib(stack) if sweep == "positions" else stack.weight_bytes / MEBI


def _last_row(measured: Sequence[Measurement]) -> Finding | None:
    """Its TFLOPS fall because it has half of the positions: what does it do with bytes?"""
    rows = [one for one in measured if one.parameters["sweep"] == "published" and one.timing is not None]
    if len(rows) < 2 or rows[-1].parameters["changes"] != TWO:
        return None
    before, last = rows[-2:]
    operations = last.figures["tflops"] / before.figures["tflops"]
    weights = _bytes_per_ms(last) / _bytes_per_ms(before)
    return Finding(
        bench=Sram.name,
        question="Does the last published row show a cliff?",
        answer=f"It does {operations:.2f} of the operations a second of the row before, and takes {weights:.2f} of the "
        f"weight bytes a second: each weight has {operations / weights:.2f} of the operations.",
        figures={"operations_ratio": operations, "weight_bytes_ratio": weights},
        basis=(before.case, last.case),
    )


def _bytes_per_ms(measurement: Measurement) -> float:
    return (measurement.weight_bytes or 0) / measurement.figures["ms"]
