"""The op table: every op that ANE_FACTS 3.3 does not mark unsupported, one class each."""

from anetrain.mil.ops import (
    activation,
    attention,
    convolution,
    elementwise,
    functions,
    image,
    joining,
    layout,
    linear,
    norms,
    pixels,
    quant,
    rows,
)
from anetrain.mil.ops.base import OPS, Arg, Evidence, MismatchError, Op, find_op

FAMILIES = {
    "Linear algebra": linear,
    "Convolutions": convolution,
    "Element by element": elementwise,
    "Functions": functions,
    "Activations": activation,
    "Rows": rows,
    "Normalisations": norms,
    "Layout": layout,
    "Joining and cutting": joining,
    "Images": image,
    "Pixels": pixels,
    "Attention": attention,
    "Quantisation": quant,
}

__all__ = ["FAMILIES", "OPS", "Arg", "Evidence", "MismatchError", "Op", "find_op"]
