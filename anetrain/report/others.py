"""Every row that has no place among training and peaks: a table for each benchmark, measured and published."""

from __future__ import annotations

from collections.abc import Sequence

from anetrain.report import cells, peak, training
from anetrain.report.document import Section
from anetrain.report.inputs import Entry
from anetrain.report.marks import Marks
from anetrain.report.published import Published

FIRST = ("conv stack W8A8", "sram_bench", "inmem_bench")
"""What our benches measure, too."""


def section(entries: Sequence[Entry], published: Published, marks: Marks) -> Section:
    rest: dict[str, list[Entry]] = {}
    for entry in entries:
        if not training.shown(entry) and not peak.shown(entry):
            rest.setdefault(entry.row.benchmark, []).append(entry)
    known = [*FIRST, *published.benchmarks]
    ordered = sorted(rest, key=known.index)
    return Section(
        "Other benchmarks",
        tuple(cells.listing(_caption(name, published), rest[name], published, marks) for name in ordered),
    )


def _caption(name: str, published: Published) -> str:
    return f"{name}: {published.benchmarks[name].what}"
