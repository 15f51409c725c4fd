"""The tables and charts across chips: training, peak, sustained, and the other benchmarks that were published."""

from __future__ import annotations

from collections.abc import Sequence

from anetrain import chips
from anetrain.report import cells
from anetrain.report.document import Bar, Cell, Chart, Column, Line, Paragraph, Section, Table
from anetrain.report.figures import About, Range
from anetrain.report.inputs import Entry, chip_order
from anetrain.report.marks import Marks
from anetrain.report.published import Published, Setting

PEAK: dict[str, Setting] = {"layers": 128, "channels": 512, "spatial": 64}
PEAK_NAME = "128 convolutions of 512 channels on 64 positions"
MODELS = {"stories110m": "Stories110M", "qwen3-0.6b": "Qwen3-0.6B"}
STATIC: dict[str, Setting] = {"model": "stories110m", "pipeline": "static", "program": "train_large"}


def of_benchmark(entries: Sequence[Entry], benchmark: str) -> list[Entry]:
    return [entry for entry in entries if entry.row.benchmark == benchmark]


# ---------------------------------------------------------------- training


def training(entries: Sequence[Entry], published: Published, marks: Marks) -> Section:
    rows = [entry for entry in of_benchmark(entries, "training") if "step_ms" in entry.row.figures]
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in rows:
        of = entry.row.configuration
        groups.setdefault((str(of.get("model", "")), str(of.get("pipeline", ""))), []).append(entry)
    tables = [
        _training_table(model, pipeline, group, published, marks)
        for (model, pipeline), group in sorted(groups.items(), key=lambda item: _group_order(*item[0]))
    ]
    static = [entry for entry in rows if entry.row.configuration == STATIC]
    charts = []
    for of in _charted(rows):
        model, pipeline = MODELS.get(str(of.get("model")), of.get("model")), of.get("pipeline")
        charts.append(
            bars(
                f"A training step of {model}, {pipeline} pipeline, {of.get('program')}",
                [entry for entry in rows if entry.row.configuration == of],
                "step_ms",
                published,
                marks,
                axis="time of a step; shorter is better",
            )
        )
    missing = _missing(static, published)
    return Section(
        "Training across chips",
        (
            Paragraph(
                "A published step is a micro-step without the update, unless a source says otherwise; a step of the "
                "program anetrain holds its share of the update, too. Utilisation is given twice: as its source has "
                "it, and as a share of what the chip does in fp16 (see Denominators)."
            ),
            *charts,
            *([Paragraph(f"Not measured with train_large in the static pipeline: {missing}.")] if missing else []),
            *tables,
        ),
    )


def _charted(rows: Sequence[Entry]) -> list[dict[str, Setting]]:
    """What has a chart: the program that most sources have, and whatever was measured here."""
    found = [STATIC] if any(entry.row.configuration == STATIC for entry in rows) else []
    for entry in rows:
        if entry.run is not None and entry.row.configuration not in found:
            found.append(entry.row.configuration)
    return found


def _group_order(model: str, pipeline: str) -> tuple[object, ...]:
    """What most sources have first."""
    return model != STATIC["model"], model, pipeline != STATIC["pipeline"], pipeline


def _training_table(model: str, pipeline: str, group: Sequence[Entry], published: Published, marks: Marks) -> Table:
    names = [
        name
        for name in ("step_ms", "forward_device_ms", "compile_per_ten_s", "ane_tflops", "total_tflops")
        if any(name in entry.row.figures for entry in group)
    ]
    shares = any("ane_tflops" in entry.row.figures for entry in group)
    shown = [*names, *(["utilisation_percent"] if shares else [])]
    lines = []
    for entry in sorted(cells.ordered(group), key=lambda entry: str(entry.row.configuration.get("program", ""))):
        row = entry.row
        used = [cells.as_published(row, marks), cells.share_of_peak(row, "ane_tflops")] if shares else []
        program = cells.settings(row.configuration, ("model", "pipeline", "program"))
        lines.append(
            Line(
                (
                    cells.chip_cell(entry, marks, shown),
                    Cell(str(row.configuration.get("program", "not said")), note=program),
                    *(cells.figure(row, name, marks) for name in names),
                    *used,
                    cells.source_cell(entry),
                ),
                cells.origin(entry),
            )
        )
    columns = (
        Column("chip"),
        Column("program"),
        *(cells.column_of(name, published) for name in names),
        *([Column("utilisation, as published", numbers=True)] if shares else []),
        *([Column("utilisation in fp16", numbers=True)] if shares else []),
        Column("source"),
    )
    return Table(f"{MODELS.get(model, model)}, {pipeline} pipeline", columns, tuple(lines))


def _missing(entries: Sequence[Entry], published: Published) -> str:
    """Chips of the ratings that have no row."""
    there = {entry.row.chip for entry in entries}
    known = {row.chip for row in published.of("rating")} | set(chips.CHIPS)
    return ", ".join(sorted(known - there, key=chip_order))


# ---------------------------------------------------------------- peak


def peak(entries: Sequence[Entry], published: Published, marks: Marks) -> Section:
    stacks = of_benchmark(entries, "conv stack")
    deepest = [entry for entry in stacks if entry.row.configuration == PEAK]
    wider = [entry for entry in stacks if entry.row.configuration.get("spatial") != PEAK["spatial"]]
    on_end = [entry for entry in stacks if "sustained_tflops" in entry.row.figures]
    single = [entry for entry in wider if entry not in on_end]
    charts = (
        bars(f"Peak: {PEAK_NAME}", deepest, "tflops", published, marks, axis="fp16 operations; longer is better"),
        bars(
            "Sustained: without a pause",
            on_end,
            "sustained_tflops",
            published,
            marks,
            axis="fp16 operations; longer is better",
            configuration=True,
        ),
    )
    return Section(
        "Peak across chips",
        (
            Paragraph(
                "Stacks of 1x1 convolutions in fp16, weights in memory. Utilisation is a share of the chip's fp16 "
                "denominator; where it is above 100 %, the denominator is too small."
            ),
            *(chart for chart in charts[:1] if chart.bars),
            _peak_table(deepest, published, marks),
            *([_shares_table("Other numbers of positions", single, "tflops", published, marks)] if single else []),
            *(chart for chart in charts[1:] if chart.bars),
            *([_shares_table("Without a pause", on_end, "sustained_tflops", published, marks)] if on_end else []),
            *_stacks(stacks, published, marks),
        ),
    )


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
    narrow = [
        entry
        for entry in entries
        if entry.row.configuration.get("spatial") == PEAK["spatial"] and "seconds" not in entry.row.configuration
    ]
    columns: dict[tuple[str, str], dict[frozenset[tuple[str, Setting]], Entry]] = {}
    for entry in cells.ordered(narrow):
        columns.setdefault((entry.row.chip, entry.where), {})[entry.row.identity[1]] = entry
    several = {key: found for key, found in columns.items() if len(found) > 1}
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


# ---------------------------------------------------------------- the others

OTHERS = (
    (
        "conv stack W8A8",
        "Stacks of convolutions in fp16, and with int8 weights and activations (W8A8)",
        ("fp16_ms", "fp16_tflops", "int8_ms", "int8_tops", "int8_speedup"),
    ),
    ("sram_bench", "One convolution, weights of growing size", ("weight_mb", "total_mb", "ms", "tflops")),
    ("inmem_bench", "One convolution, compiled in memory", ("weight_mb", "ms", "tflops")),
)


def others(entries: Sequence[Entry], published: Published, marks: Marks) -> Section:
    tables = []
    for benchmark, caption, names in OTHERS:
        found = of_benchmark(entries, benchmark)
        if found:
            tables.append(cells.listing(caption, found, names, published, marks))
    return Section("Other benchmarks", tuple(tables))


def denominators() -> Section:
    lines = [
        Line((Cell(chip.name), Cell(f"{chip.peak.tflops:g}", "value"), Cell(chip.peak.source)))
        for chip in sorted(chips.CHIPS.values(), key=lambda chip: chip_order(chip.name))
    ]
    columns = (Column("chip"), Column("fp16", "TFLOPS", numbers=True), Column("what that is"))
    return Section("Denominators", (Table("What a utilisation in fp16 is a share of", columns, tuple(lines)),))


# ---------------------------------------------------------------- charts


def bars(
    title: str,
    entries: Sequence[Entry],
    name: str,
    published: Published,
    marks: Marks,
    *,
    axis: str,
    configuration: bool = False,
) -> Chart:
    found = []
    shown = [entry for entry in cells.ordered(entries) if name in entry.row.figures]
    for entry in shown:
        figure = entry.row.figures[name]
        numbers = figure.numbers
        chip = " or ".join(sorted(entry.row.chips, key=chip_order))
        sizes = f" · {cells.settings(entry.row.configuration)}" if configuration else ""
        found.append(
            Bar(
                f"{chip} · {cells.source_cell(entry).text}{sizes}",
                figure.text,
                cells.origin(entry),
                low=numbers[0] if numbers else None,
                high=numbers[1] if isinstance(figure, Range) else None,
                about=isinstance(figure, About),
                marks=marks.at(entry.row.id, name),
            )
        )
    sources = dict.fromkeys(entry.run.name if entry.run else entry.row.source for entry in shown)
    return Chart(title, axis, published.quantities[name].unit, "; ".join(sources), tuple(found))
