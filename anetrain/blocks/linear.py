"""A linear layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anetrain.blocks.base import Block
from anetrain.graph import BlockGraph, Value, bias, matrix

if TYPE_CHECKING:
    from anetrain.graph.parameters import WeightTree
    from anetrain.spec import ModelSpec


class Linear(Block):
    """weight [rows, columns] times x [1, columns, 1, T], plus bias [rows] if it has one."""

    def __init__(self, rows: int, columns: int, *, bias: bool = False) -> None:
        self.rows, self.columns, self.bias = rows, columns, bias

    def weights(self, s: ModelSpec) -> WeightTree:
        weight = matrix(self.rows, self.columns)
        return {"weight": weight, "bias": bias(self.rows)} if self.bias else {"weight": weight}

    def forward(self, g: BlockGraph, x: Value, w: Any) -> Value:
        return g.linear(x, w.weight, w.bias if self.bias else None)
