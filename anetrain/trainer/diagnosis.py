"""What to tell people when a loss is not finite: where it began, and what may help."""

from __future__ import annotations

import math
from collections.abc import Mapping

from anetrain.cpu import largest
from anetrain.mil.types import Array
from anetrain.pipeline import Stack

LARGEST_FP16 = 65_504.0
ADVICE = (
    "The same data with the same settings would do the same: go back to an earlier checkpoint, with a lower learning "
    "rate, a longer warm-up or a smaller norm to clip to."
)


def diagnose(weights: Mapping[str, Array], stack: Stack) -> str:
    """Of the weights, and of what the layers put out last."""
    found = (_about_weights(weights), _about_layers(stack), ADVICE)
    return " ".join(filter(None, found))


def _about_weights(weights: Mapping[str, Array]) -> str:
    sizes = {name: largest(array) for name, array in weights.items()}
    broken = [name for name, size in sizes.items() if not math.isfinite(size)]
    if broken:
        return f"Weights are not finite: {', '.join(broken)}."
    name = max(sizes, key=sizes.__getitem__)
    beyond = f", beyond fp16's {LARGEST_FP16:g}" if sizes[name] > LARGEST_FP16 else ""
    return f"Weights are finite; the largest, in {name}, is {sizes[name]:.4g}{beyond}."


def _about_layers(stack: Stack) -> str:
    for before, layer in zip([None, *stack.layers], stack.layers, strict=False):
        if all(math.isfinite(largest(array)) for array in layer.outputs.values()):
            continue
        size = largest(before.outputs["y"]) if before else 0.0
        origin = f", from inputs of at most {size:.4g}" if before else ""
        return f"The first values that are not finite came from {layer.name}{origin}."
    return ""
