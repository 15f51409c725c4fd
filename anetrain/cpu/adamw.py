"""The update of parameters, and the norm of their gradients: many tensors in one call."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from anetrain._cpu import ffi, lib
from anetrain.cpu._arrays import Floats, checked, output, pointer, shaped
from anetrain.cpu.conversion import HalfCopies


@dataclass(frozen=True, eq=False)
class AdamWTensor:
    """A parameter with its gradient and their running means: of the gradient (`mean`) and of its square.

    All are contiguous and apart from each other. `lr_factor` and `decay` are those of the parameter's group.
    """

    weight: Floats
    gradient: Floats
    mean: Floats
    square: Floats
    lr_factor: float = 1.0
    decay: float = 0.0

    def __post_init__(self) -> None:
        checked("weight", self.weight, np.float32)
        arrays = {"weight": self.weight, "gradient": self.gradient, "mean": self.mean, "square": self.square}
        for name, array in arrays.items():
            shaped(name, array, self.weight.shape)
            others = [other for other_name, other in arrays.items() if other_name != name]
            output(array, array.shape, np.float32, *others, name=name)
            _check_contiguous(name, array)


def adamw(
    tensors: Sequence[AdamWTensor],
    step: int,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-8,
    factor: float = 1.0,
    clear: bool = False,
    copies: Sequence[HalfCopies] = (),
) -> None:
    """Update number `step` (1, 2, ...) of all tensors, from their gradients times `factor`, in one pass over memory.

    Weight decay is decoupled: weights shrink by lr * lr_factor * decay of themselves. `clear` leaves zeros in the
    gradients. `copies`: what is copied of new weights in the same pass, but for arrays that no tensor has.
    """
    if step < 1:
        raise ValueError(f"step is {step}; expected 1 for the first update, or more")
    if not all(0.0 <= beta < 1.0 for beta in betas):
        raise ValueError(f"betas is {betas}; expected two numbers in [0, 1)")
    if not (math.isfinite(lr) and math.isfinite(factor)) or not 0.0 < eps < math.inf:
        raise ValueError(f"lr is {lr}, factor {factor}, eps {eps}; expected finite numbers, and eps above 0")
    described = ffi.new("AnecpuAdamWTensor[]", len(tensors))
    copies_of = _copies_by_tensor(tensors, copies)
    for index, (tensor, target) in enumerate(zip(tensors, described, strict=True)):
        if index in copies_of:
            made = copies_of[index]
            target.stretches, target.stretch_count, target.copies = made.stretches, len(made.stretches), made.copies
        target.weight, target.gradient = pointer(tensor.weight), pointer(tensor.gradient)
        target.mean, target.square = pointer(tensor.mean), pointer(tensor.square)
        target.count, target.lr_factor, target.decay = tensor.weight.size, tensor.lr_factor, tensor.decay
    beta1, beta2 = betas
    constants = ffi.new(
        "AnecpuAdamWStep *", (lr, beta1, beta2, eps, 1.0 - beta1**step, 1.0 - beta2**step, factor, clear)
    )
    lib.anecpu_adamw(described, len(tensors), constants)


def _copies_by_tensor(tensors: Sequence[AdamWTensor], copies: Sequence[HalfCopies]) -> dict[int, HalfCopies]:
    """By the position of the tensor."""
    if not copies:
        return {}
    places = {(tensor.weight.ctypes.data, tensor.weight.size): index for index, tensor in enumerate(tensors)}
    found = {}
    for each in copies:
        values = each.values
        index = places.get((values.ctypes.data, values.size))
        if index is None:
            if any(np.may_share_memory(values, tensor.weight) for tensor in tensors):
                raise ValueError(f"an array {list(values.shape)} to be copied is a weight in part")
            continue
        if index in found:
            raise ValueError(f"two sets of copies of one weight {list(values.shape)}; make one of them")
        if not all(target.is_bound for target in each.targets):
            raise ValueError(f"a buffer for copies of a weight {list(values.shape)} is not bound")
        found[index] = each
    return found


def sum_of_squares(arrays: Sequence[Floats]) -> float:
    """Of all elements, in double: infinite or NaN if and only if one of them is. The arrays are contiguous."""
    for position, array in enumerate(arrays):
        checked(f"arrays[{position}]", array, np.float32)
        _check_contiguous(f"arrays[{position}]", array)
    pointers: list[Any] = [pointer(array) for array in arrays]
    result = ffi.new("double *")
    counts = [array.size for array in arrays]
    if not lib.anecpu_sum_of_squares(ffi.new("float *[]", pointers), counts, len(counts), result):
        raise MemoryError(f"no memory for the partial sums of {sum(counts)} elements")
    return float(result[0])


def _check_contiguous(name: str, array: Floats) -> None:
    if not array.flags.c_contiguous:
        raise ValueError(f"{name} has strides {array.strides} bytes; it must be contiguous")
