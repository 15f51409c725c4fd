"""Weight gradients as records: each adds something to the gradient of one parameter, in fp32 on the CPU.

    gemm      dW[begin:end] += alpha * a @ b.T                a [N, T], b [K, T]
    rowsum    dv[r % n]     += alpha * sum over t of a[r, t]                  n = size of the parameter
    rowdot    dv[r % n]     += alpha * sum over t of a[r, t] * b[r, t]
    scatter   dE[ids[t], :] += alpha * a[:, t]                b is the ids

A parameter may have several: a tied embedding has two. They run in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from anetrain.mil.graph import Value
    from anetrain.mil.types import Array

Kind = Literal["gemm", "rowsum", "rowdot", "scatter"]


@dataclass(frozen=True)
class Record:
    """`a` and `b` are host values. All axes of a value but its last ones count as rows: see `rows_axis`."""

    kind: Kind
    parameter: Value
    a: Value
    b: Value | None = None
    begin: int = 0  # rows of the parameter that this record reaches
    end: int = 0
    rows_axis: int = 1  # the last axis that counts as rows; those after it are summed over

    def matrix(self, array: Array) -> Array:
        """An operand as rows x columns."""
        rows = int(np.prod(array.shape[: self.rows_axis + 1], dtype=int))
        return array.reshape(rows, -1)


def whole_record(parameter: Value, gradient: Value) -> Record:
    """Adds a gradient that has the parameter's shape."""
    return Record("rowsum", parameter, gradient, end=parameter.shape[0], rows_axis=len(parameter.shape) - 1)


def accumulate(record: Record, gradient: Array, a: Array, b: Array | None, alpha: float = 1.0) -> None:
    """What a record means, in numpy: for references; training uses anetrain.cpu."""
    target: Any = gradient[record.begin : record.end]
    rows = record.matrix(a)
    if record.kind == "scatter":
        assert b is not None
        np.add.at(gradient, b.ravel(), alpha * rows.T)
    elif record.kind == "gemm":
        assert b is not None
        target += alpha * rows @ record.matrix(b).T
    else:
        products = rows if b is None else rows * record.matrix(b)
        target += alpha * products.sum(axis=1).reshape(-1, *target.shape).sum(axis=0)
