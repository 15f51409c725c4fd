"""The whole report, as data: which sections there are, and what each is made of."""

from __future__ import annotations

from collections.abc import Sequence

from anetrain.report import apart, chip, matrix, others, peak, training
from anetrain.report.document import Cell, Column, Document, Items, Line, Paragraph, Section, Table
from anetrain.report.inputs import Inputs, Run
from anetrain.report.marks import Marks
from anetrain.report.published import Published

LEGEND = (
    ("90.0", "a value"),
    ("148-163", "a range: several runs, or several machines"),
    ("~3.5", "about, as its source says"),
    ("FAIL (why)", "it was tried, and failed"),
    ("not measured", "nobody tried, of the sources here"),
    ("not disclosed", "the maker does not say; in brackets somebody's estimate"),
    ("-", "the source leaves it out"),
    ("measured, published", "with anetrain, by one of the runs above (such lines are marked); by others, unchecked"),
    ("small numbers at figures", "this figure does not agree with another one: the last section says how"),
)
TITLE = "Apple Neural Engine: measured and published"


def document(inputs: Inputs) -> Document:
    """The same for the same inputs: no clock, no name of a machine."""
    files = [figures for _, figures in inputs.figures]
    published, entries, marks = _together(files), inputs.entries(), Marks(files)
    subjects = chip.subjects(inputs.comparable)
    columns = [(subject.title, subject.runs) for subject in subjects]
    reports = [chip.section(subject, entries, published, marks) for subject in subjects]
    sections = (
        _devices(inputs),
        training.section(entries, published, marks),
        peak.section(entries, published, marks),
        others.section(entries, published, marks),
        matrix.section(columns, files),
        *([Section("Chips, one by one", sections=tuple(reports))] if reports else []),
        *([apart.section(inputs.apart)] if inputs.apart else []),
        peak.denominators(),
        _sources(files, marks),
    )
    return Document(TITLE, _summary(inputs), sections)


def _together(files: Sequence[Published]) -> Published:
    """With the quantities and benchmarks of all files, ours first; rows are taken from entries."""
    quantities = {name: quantity for figures in reversed(files) for name, quantity in figures.quantities.items()}
    benchmarks = {name: what for figures in reversed(files) for name, what in figures.benchmarks.items()}
    return files[0].model_copy(update={"quantities": quantities, "benchmarks": benchmarks})


def _summary(inputs: Inputs) -> str:
    rows = sum(len(figures.rows) for _, figures in inputs.figures)
    real, others = len(inputs.comparable), len(inputs.apart)
    return (
        f"{_runs(real)} of a real Neural Engine, {_runs(others)} of emulators or of small sizes (in a section of their "
        f"own, compared with nothing), and {rows} published rows. Every table says which device its numbers are of."
    )


def _runs(count: int) -> str:
    return f"{count} run" if count == 1 else f"{count} runs"


def _devices(inputs: Inputs) -> Section:
    lines = [_device(run) for run in inputs.runs]
    columns = (
        Column("run", numbers=True),
        *(Column(title) for title in ("device", "machine", "what is in it", "measured", "file")),
        Column("compared with devices"),
    )
    once = f" Rows of files that are published rows, too: {inputs.shown_once}, shown once." if inputs.shown_once else ""
    text = "Numbers come from these runs and from the figures that come with anetrain, whose sources are at the end."
    table = [Table("Which device measured what", columns, tuple(lines))] if lines else []
    legend = Items(LEGEND)
    return Section("Where the numbers come from", (Paragraph(text + once), *table, legend))


def _device(run: Run) -> Line:
    found, made = run.results, run.results.provenance
    parts = {"measurements": found.measurements, "verdicts": found.verdicts, "questions of health": found.health}
    counts = [f"{name}: {len(part)}" for name, part in parts.items() if part]
    state = [] if found.complete else ["interrupted"]
    why = "of an emulator" if found.device.kind == "emulator" else "small sizes"
    return Line(
        (
            Cell(str(run.number), note=f"by {run.contributor}" if run.contributor else ""),
            Cell(found.device.label),
            Cell(found.machine.model or found.machine.processor or "unknown", note=found.machine.system),
            Cell(", ".join([*counts, *state]) or "nothing"),
            Cell(
                made.started[:10], "value", note=f"anetrain {made.anetrain}{f', {made.commit}' if made.commit else ''}"
            ),
            Cell(run.file),
            Cell("yes", "yes") if run.comparable else Cell(f"no: {why}", "no"),
        )
    )


def _sources(files: Sequence[Published], marks: Marks) -> Section:
    lines = [
        Line((Cell(name), Cell(source.what), Cell(source.date or "not given")))
        for figures in files
        for name, source in figures.sources.items()
    ]
    table = Table(
        "Sources of published figures", tuple(Column(title) for title in ("source", "what", "date")), tuple(lines)
    )
    text = (
        "Nobody here has repeated the published figures. What in them does not agree is found by arithmetic on the "
        "rows; each finding has the number that stands at the figure."
    )
    return Section("Published figures: sources, and what does not agree", (Paragraph(text), table, marks.list_of_all()))
