"""What may run on the device besides attention and feed-forward, each with a switch of its own. docs/pipeline.md has a
table of where each part of a step runs.

    norms        the norms of the layers, forward and backward, inside of the layers' programs
    final_norm   the norm behind the last layer, forward and backward
    classifier   the logits, in chunks that the chip takes; their gradients stay on the host, as does the loss
"""

from __future__ import annotations

import difflib
from collections.abc import Collection
from typing import Literal, TypeAlias, get_args

from anetrain.blocks import Classifier
from anetrain.blocks.classifier import AXIS_LIMIT, CHANNEL_LIMIT
from anetrain.device import Device
from anetrain.lower import Layout
from anetrain.lower.check import limit_on_device
from anetrain.lower.weights import padded
from anetrain.spec import ModelSpec

Extra = Literal["norms", "final_norm", "classifier"]
Extras: TypeAlias = Literal["none", "all"] | Extra | Collection[Extra]
EXTRAS: tuple[Extra, ...] = get_args(Extra)
_SHORT: dict[str, tuple[Extra, ...]] = {"none": (), "all": EXTRAS}


def chosen(extras: Extras) -> frozenset[Extra]:
    names = _SHORT.get(extras, (extras,)) if isinstance(extras, str) else extras
    for name in names if isinstance(names, Collection) else (names,):
        if name not in EXTRAS:
            near = difflib.get_close_matches(str(name), (*_SHORT, *EXTRAS), 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(f"{name!r} is no extra{hint}; expected 'none', 'all' or some of {', '.join(EXTRAS)}")
    return frozenset(names)  # type: ignore[arg-type]  # they are looked at above


def classifier_on_device(classifier: Classifier, device: Device, layout: Layout, spec: ModelSpec) -> Classifier:
    """In the longest chunks that the device takes: rows of the vocabulary are channels where they leave a program, and
    lie on the height, or in the layout "packed" on the width beside the activations, where they enter it."""
    axis = limit_on_device(device, "axis-limit", AXIS_LIMIT)
    channels = limit_on_device(device, "channel-limit", CHANNEL_LIMIT)
    beside = padded(spec.tokens) + padded(spec.dim) if layout == "packed" else 0  # activations, the final norm's gain
    rows = min(axis - beside, channels - spec.dim)  # the final norm's result may leave with the first chunk
    if rows < 1:
        raise ValueError(
            f"extras: no row of the classifier fits beside {spec.tokens} tokens of width {spec.dim}: this device has "
            f"axes of {axis} elements and {channels} channels. Take a smaller batch, another layout, or leave "
            f"'classifier' out"
        )
    return classifier.on_device(rows)
