"""Where the elements of inputs and outputs lie on their surfaces, found without asking the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from anetrain.bench.base import Lab, Scale
from anetrain.device import Device, Program, Surface
from anetrain.mil import Graph
from anetrain.probe import features
from anetrain.probe.base import Probe, Trial
from anetrain.probe.judging import combined, right_where_run
from anetrain.probe.samples import MARK, Array
from anetrain.results import Answer, Experiment, Verdict

ROW_BYTES = 64
CHANNELS = 4
WIDTHS = (16, 32, 48)
HEIGHTS = (1, 2)


class Strides(Probe):
    name = "strides"
    question = "Does every row of an input or output begin at a multiple of 64 bytes?"
    hypothesis = "the row stride is the width's bytes up to a multiple of 64, the plane stride is height x row stride"
    source = "a reading of many projects' findings (ANE strides 2.2); one says that rows are read densely (C48)"
    rules = ("border-width", "oversize-dense-read")

    def trials(self, scale: Scale) -> Sequence[Trial]:
        return [
            Trial(f"{width} wide, {height} high", {"width": width, "height": height})
            for height in HEIGHTS
            for width in WIDTHS
        ]

    def experiment(self, lab: Lab, trial: Trial) -> dict[str, Any]:
        width, height = (int(str(trial.parameters[name])) for name in ("width", "height"))
        shape = (1, CHANNELS, height, width)
        output = _output_places(lab.device, shape)
        found = _input_places(lab.device, shape, output) if output is not None else None
        if output is None or found is None:
            return {"values": "of no layout: not every element was found"}
        places, port = found
        seen = {
            "input": _strides(places, shape),
            "output": _strides(output, shape),
            "said": {"row_bytes": port.row_stride if height > 1 else None, "plane_bytes": port.plane_stride},
        }
        row_bytes = -(-2 * width // ROW_BYTES) * ROW_BYTES
        expected = {"row_bytes": row_bytes if height > 1 else None, "plane_bytes": height * row_bytes}
        return {"values": _values(seen, expected, 2 * width * height), **seen}

    def judge(self, experiments: Sequence[Experiment]) -> Verdict:
        padded = [made for made in experiments if made.parameters.get("width") != 32]  # 32 is the same either way
        seen: list[Answer] = [right_where_run(made) for made in padded if right_where_run(made) != "unknown"]
        answer = combined(seen)
        return self.verdict(experiments, answer, _sentence(experiments), {features.ROW_PADDING: answer})


def _values(seen: dict[str, Any], expected: dict[str, Any], dense_plane: int) -> str:
    sides = [seen["input"], seen["output"]]
    if None in sides:
        return "of no strides"
    if all(side == expected for side in sides):
        return "right" if seen["said"] == expected else "right, but the device says otherwise"
    return "of rows without padding" if all(s["plane_bytes"] == dense_plane for s in sides) else "of other strides"


def _sentence(experiments: Sequence[Experiment]) -> str:
    said = []
    for made in experiments:
        if made.status != "done":
            rule = f", rule {made.refusal.rule}" if made.refusal and made.refusal.rule else ""
            said.append(f"{made.name}: {made.status}{rule}")
        elif "input" not in made.observed:
            said.append(f"{made.name}: values {made.observed['values']}")
        else:
            said.append(f"{made.name}: {_bytes(made.observed['input'])} in, {_bytes(made.observed['output'])} out")
    return "; ".join(said) or "Nothing was tried"


def _bytes(strides: dict[str, int | None] | None) -> str:
    if strides is None:
        return "no strides"
    row = f"rows of {strides['row_bytes']}, " if strides["row_bytes"] else ""
    return f"{row}planes of {strides['plane_bytes']} bytes"


# ---------------------------------------------------------------- finding places


def _strides(places: Array, shape: Sequence[int]) -> dict[str, int | None] | None:
    """Of elements at these halves of a surface, [C, H, W]; None where no strides give these places."""
    _, channels, height, width = shape
    plane = int(places[1, 0, 0] - places[0, 0, 0])
    row = int(places[0, 1, 0] - places[0, 0, 0]) if height > 1 else 0
    c, h, w = np.meshgrid(np.arange(channels), np.arange(height), np.arange(width), indexing="ij")
    if not np.array_equal(places, c * plane + h * row + w):
        return None
    return {"row_bytes": 2 * row if height > 1 else None, "plane_bytes": 2 * plane}


def _output_places(device: Device, shape: Sequence[int]) -> Array | None:
    """Each element of the output is its own number, 1 and up: the input is zero, the numbers are added."""
    count = int(np.prod(shape))
    graph = Graph()
    numbers = np.arange(1, count + 1, dtype=np.float16).reshape(shape)
    graph.output("y", graph.input("a_x", shape) + graph.constant(numbers, "numbers"))
    with device.compile(graph.program(device.facts["dialect"]), label="places of the output") as program:
        given = _run(device, program, lambda halves: np.zeros(halves, np.float16))
    order = np.argsort(given, kind="stable")
    first = np.searchsorted(given[order], np.arange(1, count + 1))
    places = order[np.minimum(first, order.size - 1)]
    return places.reshape(shape[1:]) if np.array_equal(given[places], numbers.reshape(-1)) else None


def _input_places(device: Device, shape: Sequence[int], output: Array) -> tuple[Array, Any] | None:
    """Each half of the input's surface is its own number; the output says which of them each element was read from."""
    graph = Graph()
    graph.output("y", graph.input("a_x", shape) * 2.0)
    with device.compile(graph.program(device.facts["dialect"]), label="places of the input") as program:
        given = _run(device, program, lambda halves: np.arange(halves, dtype=np.float16))
        read = given[output].astype(np.float64) / 2
        whole = np.array_equal(read, np.floor(read)) and float(read.min()) >= 0
        return (read.astype(np.int64), program.inputs[0]) if whole else None


def _run(device: Device, program: Program, content: Any) -> Array:
    """The whole output surface. Surfaces have room for more than any known layout takes."""
    surfaces = [device.surface(2 * program.inputs[0].bytes), device.surface(2 * program.outputs[0].bytes)]
    _fill(surfaces[0], content(surfaces[0].nbytes // 2))
    _fill(surfaces[1], np.full(surfaces[1].nbytes // 2, MARK))
    program.request_positional([surfaces[0]], [surfaces[1]]).run()
    with surfaces[1].lock() as view:
        return np.array(view.view(np.float16))


def _fill(surface: Surface, halves: Array) -> None:
    with surface.lock(write=True) as view:
        view.view(np.float16)[:] = halves
