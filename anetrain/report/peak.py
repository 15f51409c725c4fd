"""Peak and sustained rates across chips, and what a utilisation is a share of."""

from __future__ import annotations

from collections.abc import Sequence

from anetrain import chips
from anetrain.report import cells
from anetrain.report.document import Cell, Chart, Column, Line, Paragraph, Section, Table
from anetrain.report.inputs import Entry, chip_order
from anetrain.report.marks import Marks
from anetrain.report.published import Published, Setting

PEAK: dict[str, Setting] = {"layers": 128, "channels": 512, "spatial": 64}
PEAK_NAME = "128 convolutions of 512 channels on 64 positions"
RATES = ("tflops", "sustained_tflops")


def section(entries: Sequence[Entry], published: Published, marks: Marks) -> Section:
    stacks = [entry for entry in entries if shown(entry)]
    deepest = [entry for entry in stacks if entry.row.configuration == PEAK]
    narrow = [entry for entry in stacks if _is_narrow(entry)]
    on_end = [entry for entry in stacks if "sustained_tflops" in entry.row.figures]
    wider = [entry for entry in stacks if not _is_narrow(entry) and "sustained_tflops" not in entry.row.figures]
    chart = _chart(f"Peak: {PEAK_NAME}", deepest, "tflops", published, marks)
    shapes = list(dict.fromkeys(entry.row.identity for entry in cells.ordered(on_end)))
    charts_on_end = [
        _chart(f"Sustained: {cells.settings(same[0].row.configuration)}", same, "sustained_tflops", published, marks)
        for shape in shapes
        if (same := [entry for entry in on_end if entry.row.identity == shape])
    ]
    return Section(
        "Peak across chips",
        (
            Paragraph(
                "Stacks of 1x1 convolutions in fp16, weights in memory. Utilisation is a share of the chip's fp16 "
                "denominator; where it is above 100 %, the denominator is too small."
            ),
            *([chart] if chart.bars else []),
            _peak_table(deepest, published, marks),
            *([_shares_table("Other numbers of positions", wider, "tflops", published, marks)] if wider else []),
            *charts_on_end,
            *([_shares_table("Without a pause", on_end, "sustained_tflops", published, marks)] if on_end else []),
            *_stacks(narrow, published, marks),
        ),
    )


def shown(entry: Entry) -> bool:
    return entry.row.benchmark == "conv stack" and not entry.row.figures.keys().isdisjoint(RATES)


def _chart(title: str, entries: Sequence[Entry], name: str, published: Published, marks: Marks) -> Chart:
    """Of one configuration."""
    return cells.bars(title, entries, name, published, marks, axis="fp16 operations; longer is better")


def _is_narrow(entry: Entry) -> bool:
    of = entry.row.configuration
    return of.keys() == PEAK.keys() and of["spatial"] == PEAK["spatial"]


def _peak_table(entries: Sequence[Entry], published: Published, marks: Marks) -> Table:
    """With a line for each chip that has a rating, measured or not."""
    ratings = {row.chip: row for row in reversed(published.of("rating"))}  # of several sources the first one
    there = {entry.row.chip for entry in entries}
    lines: list[tuple[str, Line]] = []
    for entry in cells.ordered(entries):
        row = entry.row
        line = (
            cells.chip_cell(entry, marks, ("tflops", "ms")),
            *_rating(row.chip, published, marks),
            cells.figure(row, "tflops", marks),
            cells.figure(row, "ms", marks),
            cells.share_of_peak(row, "tflops"),
            cells.source_cell(entry),
        )
        lines.append((row.chip, Line(line, cells.origin(entry))))
    for chip in ratings:
        if chip not in there:
            rated = _rating(chip, published, marks)
            nothing = (cells.NOT_MEASURED, cells.NOT_MEASURED, cells.ABSENT, Cell("nobody, of the sources here"))
            lines.append((chip, Line((Cell(chip), *rated, *nothing))))
    columns = (
        Column("chip"),
        Column("engine cores", numbers=True),
        Column("rated", "TOPS", numbers=True),
        Column("fp16", "TFLOPS", numbers=True),
        Column("one evaluation", "ms", numbers=True),
        Column("utilisation in fp16", numbers=True),
        Column("source"),
    )
    ordered = tuple(line for _, line in sorted(lines, key=lambda item: chip_order(item[0])))
    return Table(f"Peak: {PEAK_NAME}", columns, ordered)


def _rating(chip: str, published: Published, marks: Marks) -> tuple[Cell, Cell]:
    """Cores and rating; of several sources the first."""
    for row in published.of("rating"):
        if row.chip == chip:
            rated = cells.figure(row, "rated_tops", marks)
            precision = str(row.configuration.get("precision", ""))
            return cells.figure(row, "engine_cores", marks), Cell(rated.text, rated.kind, rated.marks, precision)
    return cells.ABSENT, cells.ABSENT


def _shares_table(caption: str, entries: Sequence[Entry], name: str, published: Published, marks: Marks) -> Table:
    lines = [
        Line(
            (
                cells.chip_cell(entry, marks, (name,)),
                Cell(cells.settings(entry.row.configuration)),
                cells.figure(entry.row, name, marks),
                cells.share_of_peak(entry.row, name),
                cells.source_cell(entry),
            ),
            cells.origin(entry),
        )
        for entry in cells.ordered(entries)
    ]
    columns = (
        Column("chip"),
        Column("configuration"),
        cells.column_of(name, published),
        Column("utilisation in fp16", numbers=True),
        Column("source"),
    )
    return Table(caption, columns, tuple(lines))


def _stacks(entries: Sequence[Entry], published: Published, marks: Marks) -> list[Table]:
    """The stacks on 64 positions side by side: a line for each, a column for each chip and source."""
    columns: dict[tuple[str, str], dict[frozenset[tuple[str, Setting]], Entry]] = {}
    for entry in cells.ordered(entries):
        columns.setdefault((entry.row.chip, entry.where), {})[entry.row.identity[1]] = entry
    # A source of nothing but the deepest one has its line in the table above.
    several = {key: found for key, found in columns.items() if found.keys() != {frozenset(PEAK.items())}}
    if not several:
        return []
    shapes = dict.fromkeys(shape for found in several.values() for shape in found)
    named = sorted(shapes, key=lambda shape: tuple(str(dict(shape)[name]).zfill(9) for name in ("channels", "layers")))
    lines = []
    for shape in named:
        row = [
            cells.figure(found[shape].row, "tflops", marks) if shape in found else cells.NOT_MEASURED
            for found in several.values()
        ]
        of = dict(shape)
        lines.append(Line((Cell(f"{of['layers']} x {of['channels']} channels"), *row)))
    titles = tuple(Column(f"{chip}: {where}", "TFLOPS", numbers=True) for chip, where in several)
    return [Table("Stacks on 64 positions", (Column("stack"), *titles), tuple(lines))]


def denominators() -> Section:
    lines = [
        Line((Cell(chip.name), Cell(f"{chip.peak.tflops:g}", "value"), Cell(chip.peak.source)))
        for chip in sorted(chips.CHIPS.values(), key=lambda chip: chip_order(chip.name))
    ]
    columns = (Column("chip"), Column("fp16", "TFLOPS", numbers=True), Column("what that is"))
    return Section("Denominators", (Table("What a utilisation in fp16 is a share of", columns, tuple(lines)),))
