"""The tables of sram, int8 and quant, of an engine, are as they were."""

from __future__ import annotations

from scripts import make_golden_bench_weights
from tests import bench_weight_tables


def test_tables_are_as_they_were() -> None:
    assert bench_weight_tables.text() == make_golden_bench_weights.TARGET.read_text(encoding="utf-8")
