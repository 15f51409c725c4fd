"""Where weights lie, in each layout.

    stacked    all weights of a program on one surface, stacked on channels; its width is the side they share
    separate   each on a surface of its own
    packed     beside the activations of the program, along the width
    baked      constants of the program

A surface of weights serves the forward and the backward program alike: backward multiplies by the transposed matrix
with a flag. Vectors lie flat, row after row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from anetrain.graph import Value
from anetrain.lower.plan import Layout, Region, SurfaceSpec, WeightPlace

WIDTH_MULTIPLE = 32
VECTOR_WIDTH = 1024  # of a surface that holds vectors only, at most


def padded(width: int) -> int:
    """The next multiple of 32."""
    return -(-width // WIDTH_MULTIPLE) * WIDTH_MULTIPLE


@dataclass
class WeightSurfaces:
    surfaces: list[SurfaceSpec]
    places: dict[Value, WeightPlace]  # staged value -> where it lies


def place_weights(
    layout: Layout, name: str, staged: list[Value], activation_rows: int, activation_columns: int
) -> WeightSurfaces:
    """Surfaces for the weights of one program. The activations' size counts for packed ones only."""
    if layout == "stacked":
        return _stacked(name, staged)
    if layout == "packed":
        return _packed(name, staged, activation_rows, activation_columns)
    return _separate(name, staged)


def baked_place(staged: Value, *, transpose: bool, shape: tuple[int, ...]) -> WeightPlace:
    return _place(staged, transpose=transpose, shape=shape)


def _place(
    staged: Value, *, transpose: bool = False, region: Region | None = None, shape: tuple[int, ...] = ()
) -> WeightPlace:
    assert staged.producer is not None
    begin, end, paired_head = (staged.producer.parameters[key] for key in ("begin", "end", "paired_head"))
    return WeightPlace(staged.producer.operands[0], begin, end, paired_head, transpose, region, shape)


def _sides(staged: Value) -> tuple[int, int]:
    """Rows and columns of a tensor of two axes or more."""
    return math.prod(staged.shape[:-1]), staged.shape[-1]


def _stacked(name: str, staged: list[Value]) -> WeightSurfaces:
    width = _shared_width(staged)
    places, channel = {}, 0
    for value in staged:
        rows, columns, transpose = _fitted(value, width)
        region = Region(name, channel, rows, columns)
        places[value] = _place(value, transpose=transpose, region=region)
        channel += rows
    return WeightSurfaces([SurfaceSpec(name, channel, padded(width), weights=True)], places)


def _shared_width(staged: list[Value]) -> int:
    """The side that all matrices have, for every block of Llama and Qwen; otherwise the least that all fit into."""
    matrices = [value for value in staged if len(value.shape) > 1]
    if not matrices:
        return min(VECTOR_WIDTH, max(value.shape[0] for value in staged))
    return max(min(_sides(value)) for value in matrices)


def _fitted(value: Value, width: int) -> tuple[int, int, bool]:
    """Rows, columns and whether it is transposed, so that columns are the width or come near to it."""
    if len(value.shape) == 1:
        return -(-value.shape[0] // padded(width)), padded(width), False
    rows, columns = _sides(value)
    if columns > width or (columns < rows <= width):
        return columns, rows, True
    return rows, columns, False


def _separate(name: str, staged: list[Value]) -> WeightSurfaces:
    surfaces, places = [], {}
    for number, value in enumerate(staged):
        rows, columns = (1, padded(value.shape[0])) if len(value.shape) == 1 else _sides(value)
        surface = SurfaceSpec(f"{name}_{number:02}", rows, padded(columns), weights=True)
        surfaces.append(surface)
        places[value] = _place(value, region=Region(surface.name, 0, rows, columns))
    return WeightSurfaces(surfaces, places)


def _packed(name: str, staged: list[Value], activation_rows: int, activation_columns: int) -> WeightSurfaces:
    """Matrices lie so that their rows are the activations' channels where they can be."""
    places, column, channels = {}, padded(activation_columns), activation_rows
    for value in staged:
        if len(value.shape) == 1:
            rows, columns, transpose = 1, padded(value.shape[0]), False
        else:
            natural_rows, natural_columns = _sides(value)
            transpose = natural_rows != activation_rows and (
                natural_columns == activation_rows or natural_columns < natural_rows
            )
            rows, columns = (natural_columns, natural_rows) if transpose else (natural_rows, natural_columns)
        places[value] = _place(value, transpose=transpose, region=Region(name, 0, rows, columns, column))
        column += padded(columns)
        channels = max(channels, rows)
    surface = SurfaceSpec(name, channels, column, weights=True)
    return WeightSurfaces([surface], places)
