"""The op table: every op that ANE_FACTS 3.3 does not mark unsupported, one class each."""

from anetrain.mil.ops import activation, attention, elementwise, image, layout, linear, quant, rows
from anetrain.mil.ops.base import OPS, Arg, Evidence, MismatchError, Op, find_op

FAMILIES = {
    "Linear algebra": linear,
    "Element by element": elementwise,
    "Activations": activation,
    "Rows": rows,
    "Layout": layout,
    "Images": image,
    "Attention": attention,
    "Quantisation": quant,
}

__all__ = ["FAMILIES", "OPS", "Arg", "Evidence", "MismatchError", "Op", "find_op"]
