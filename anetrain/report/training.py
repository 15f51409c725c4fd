"""Training across chips: steps as their sources have them, and utilisation with a denominator for each chip."""

from __future__ import annotations

from collections.abc import Sequence

from anetrain import chips
from anetrain.report import cells
from anetrain.report.document import Cell, Column, Line, Paragraph, Section, Table
from anetrain.report.inputs import Entry, chip_order
from anetrain.report.marks import Marks
from anetrain.report.published import Published, Setting

MODELS = {"stories110m": "Stories110M", "qwen3-0.6b": "Qwen3-0.6B"}
COLUMNS = ("step_ms", "forward_device_ms", "compile_per_ten_s", "ane_tflops", "total_tflops")
SHOWN = (*COLUMNS, "utilisation_percent", "utilisation_of_tflops")
STATIC: dict[str, Setting] = {"model": "stories110m", "pipeline": "static", "program": "train_large"}


def section(entries: Sequence[Entry], published: Published, marks: Marks) -> Section:
    rows = [entry for entry in entries if shown(entry)]
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in rows:
        of = entry.row.configuration
        groups.setdefault((str(of.get("model", "")), str(of.get("pipeline", ""))), []).append(entry)
    tables = [
        _training_table(model, pipeline, group, published, marks)
        for (model, pipeline), group in sorted(groups.items(), key=lambda item: _group_order(*item[0]))
    ]
    static = [entry for entry in rows if entry.row.configuration == STATIC]
    more = [entry for entry in rows if not entry.row.figures.keys() <= set(SHOWN)]
    charts = []
    for of in _charted(rows):
        model, pipeline = MODELS.get(str(of.get("model")), of.get("model")), of.get("pipeline")
        charts.append(
            cells.bars(
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
            *([cells.listing("Whole runs", more, published, marks, without=SHOWN)] if more else []),
        ),
    )


def shown(entry: Entry) -> bool:
    return entry.row.benchmark == "training" and "step_ms" in entry.row.figures


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
    names = [name for name in COLUMNS if any(name in entry.row.figures for entry in group)]
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
