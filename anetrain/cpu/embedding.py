"""Rows of an embedding table as columns of activations [channels, tokens], and their gradients back into the table."""

from __future__ import annotations

import math

import numpy as np

from anetrain._cpu import lib
from anetrain.cpu._arrays import Floats, Ids, checked, checked_ids, matrix, output


def embedding(table: Floats, ids: Ids, out: Floats | None = None) -> Floats:
    """out[:, t] = table[ids[t], :] for table [V, C], ids int32 [T] and out [C, T]."""
    checked("table", table, np.float32)
    checked("ids", ids, np.int32)
    table_at = matrix("table", table)
    target = output(out, (table.shape[1], ids.size), np.float32, table)
    ids_at = checked_ids("ids", ids, ids.size, table.shape[0])
    lib.anecpu_embedding(*table_at, ids_at, *matrix("out", target), *target.shape)
    return target


def embedding_scatter(ids: Ids, d: Floats, dtable: Floats, alpha: float = 1.0) -> Floats:
    """dtable[ids[t], :] += alpha * d[:, t] for d [C, T] and dtable [V, C]; an id may come more than once.

    The tokens are added in their order, so the result does not depend on the number of threads.
    """
    checked("d", d, np.float32)
    checked("dtable", dtable, np.float32)
    d_at, dtable_at = matrix("d", d), matrix("dtable", dtable)
    channels, tokens = d.shape
    output(dtable, (dtable.shape[0], channels), np.float32, d, name="dtable")
    if not math.isfinite(alpha):
        raise ValueError(f"alpha is {alpha}; expected a finite number")
    ids_at = checked_ids("ids", ids, tokens, dtable.shape[0])
    lib.anecpu_embedding_scatter(ids_at, alpha, *d_at, *dtable_at, channels, tokens)
    return dtable
