"""float32 to float16 and back, with any strides up to two dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from anetrain._cpu import ffi, lib
from anetrain.cpu._arrays import Array, Floats, Halves, checked, element_strides, output, pointer


def to_half(values: Floats, out: Halves | None = None) -> Halves:
    """float32 to float16. Contiguous arrays may have any number of dimensions, others at most two."""
    return _convert(values, np.float32, out, np.float16, lib.anecpu_halves_from_floats_2d)


def to_float(values: Halves, out: Floats | None = None) -> Floats:
    """float16 to float32. Contiguous arrays may have any number of dimensions, others at most two."""
    return _convert(values, np.float16, out, np.float32, lib.anecpu_floats_from_halves_2d)


def _convert(
    values: Array, source_dtype: npt.DTypeLike, out: Array | None, target_dtype: npt.DTypeLike, convert: Any
) -> Array:
    checked("values", values, source_dtype)
    target = output(out, values.shape, target_dtype, values)
    if values.flags.c_contiguous and target.flags.c_contiguous:
        convert(pointer(values), values.size, 1, pointer(target), values.size, 1, 1, values.size)
        return target
    if values.ndim > 2:
        raise ValueError(
            f"values has {values.ndim} dimensions with strides {values.strides}, out {target.strides}; "
            "beyond two dimensions both must be contiguous: convert slice by slice, or reshape"
        )
    rows, columns = (1, *values.shape) if values.ndim == 1 else values.shape
    source_strides, target_strides = ([0, *element_strides(a)][-2:] for a in (values, target))
    convert(pointer(values), *source_strides, pointer(target), *target_strides, rows, columns)
    return target


def fp16_version() -> str:
    """Which implementation this CPU runs: avx512, f16c, neon or scalar. All give the same bits."""
    return str(ffi.string(lib.anecpu_fp16_selected()).decode())
