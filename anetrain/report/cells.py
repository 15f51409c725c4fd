"""Figures as cells of tables and bars of charts: the six kinds apart, utilisation with its denominator, flags at the
figure, the source of each line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from anetrain import chips
from anetrain.report.document import Bar, Cell, Chart, Column, Kind, Line, Origin, Table
from anetrain.report.figures import About, Exact, Fail, Figure, NotDisclosed, NotMeasured, Range
from anetrain.report.inputs import Entry, chip_order
from anetrain.report.marks import Marks
from anetrain.report.published import Published, Row, Setting

KINDS: dict[type[Figure], Kind] = {
    Exact: "value",
    Range: "range",
    About: "about",
    Fail: "fail",
    NotMeasured: "not measured",
    NotDisclosed: "not disclosed",
}
ABSENT = Cell("-", "absent")
NOT_MEASURED = Cell("not measured", "not measured")
NO_DENOMINATOR = Cell("no denominator known", "absent")


def figure(row: Row, name: str, marks: Marks) -> Cell:
    """As its source has it."""
    found = row.figures.get(name)
    return ABSENT if found is None else Cell(found.text, KINDS[type(found)], marks.at(row.id, name))


def share_of_peak(row: Row, name: str) -> Cell:
    """Of what the chip does in fp16, by the table of anetrain.chips: not clipped."""
    found = row.figures.get(name)
    if found is None or not found.numbers:
        return ABSENT
    chip = chips.known(row.chip)
    if chip is None:
        return NO_DENOMINATOR
    share = "-".join(f"{chip.peak.percent(number):.1f}" for number in found.numbers)
    about = "~" if isinstance(found, About) else ""
    return Cell(f"{about}{share} %", KINDS[type(found)], note=f"of {chip.peak.tflops:g} TFLOPS")


def as_published(row: Row, marks: Marks) -> Cell:
    """A utilisation as its source has it, with the denominator it chose."""
    share, of = row.figures.get("utilisation_percent"), row.figures.get("utilisation_of_tflops")
    if share is None:
        return ABSENT
    note = f"of {of.text} TFLOPS" if of is not None else "of what is not said"
    return Cell(f"{share.text} %", KINDS[type(share)], marks.at(row.id, "utilisation_percent"), note)


def chip_cell(entry: Entry, marks: Marks, shown: Iterable[str]) -> Cell:
    row = entry.row
    said: dict[str, list[str]] = {}
    for source, chip in row.chip_according_to.items():
        said.setdefault(chip, []).append(source)
    note = "; ".join(f"{chip} according to {', '.join(sources)}" for chip, sources in said.items())
    return Cell(row.chip, marks=marks.of_row(row.id, shown), note=note)


def origin(entry: Entry) -> Origin:
    return "published" if entry.run is None else "measured"


def source_cell(entry: Entry) -> Cell:
    """Who says so: measured with anetrain, or published."""
    how = "measured" if entry.run is not None else "published"
    machine = [
        f"{value} GB" if name == "ram_gb" else f"macOS {value}" if name == "macos" else str(value)
        for name, value in entry.row.machine.items()
        if name in ("model", "ram_gb", "macos")
    ]
    said = [entry.row.date, entry.row.note] if entry.run is None else [entry.row.date]
    return Cell(f"{how}: {entry.where}", note="; ".join(part for part in (", ".join(machine), *said) if part))


def settings(configuration: Mapping[str, Setting], without: Sequence[str] = ()) -> str:
    """In words: sizes of convolutions as they are spoken of, other entries by their names."""
    told = {name: value for name, value in configuration.items() if name not in without}
    parts = []
    if {"layers", "channels"} <= told.keys():
        parts.append(f"{told.pop('layers')} x {told.pop('channels')} channels")
    for name, unit in (("channels", "channels"), ("spatial", "positions"), ("seconds", "s on end")):
        if name in told:
            parts.append(f"{told.pop(name)} {unit}")
    return ", ".join([*parts, *(f"{name.replace('_', ' ')} {value}" for name, value in told.items())])


def ordered(entries: Iterable[Entry]) -> list[Entry]:
    """By chip; of one chip what was measured first, then as the sources have it."""
    return sorted(entries, key=lambda entry: (chip_order(entry.row.chip), entry.run is None))


def column_of(name: str, published: Published) -> Column:
    quantity = published.quantities[name]
    title = TITLES.get(name) or (UNITS.sub("", name) if quantity.unit else name).replace("_", " ")
    return Column(title, quantity.unit, numbers=True)


UNITS = re.compile(r"^ms_|_(ms|us|s|mb|w|tops|tflops|per_s|percent)$")
"""In names of figures: a column has its unit below its title."""


TITLES = {
    "step_ms": "step",
    "forward_device_ms": "device, forward pass alone",
    "compile_per_ten_s": "compiling for ten steps",
    "ane_tflops": "of the device",
    "total_tflops": "of device and CPU",
    "tflops": "fp16",
    "sustained_tflops": "fp16, on end",
    "ms": "one evaluation",
    "gflop": "operations",
    "gop": "operations",
    "gflops": "fp16",
    "gb_per_s": "rate",
    "weight_mb": "weights",
    "activation_mb": "one activation",
    "total_mb": "weights and activations",
    "fp16_ms": "fp16",
    "fp16_tflops": "fp16",
    "int8_ms": "W8A8",
    "int8_tops": "W8A8",
    "int8_speedup": "speed-up",
    "rated_tops": "rated",
    "engine_cores": "engine cores",
}


def listing(
    caption: str, entries: Iterable[Entry], published: Published, marks: Marks, *, without: Sequence[str] = ()
) -> Table:
    """A line for each row: chip, configuration, every figure that any of them has, source."""
    found = ordered(entries)
    there = {name for entry in found for name in entry.row.figures} - set(without)
    names = [name for name in published.quantities if name in there]
    texts = [told(entry.row) for entry in found]
    lines = [
        Line(
            (
                chip_cell(entry, marks, names),
                *([Cell(text)] if any(texts) else []),
                *(figure(entry.row, name, marks) for name in names),
                source_cell(entry),
            ),
            origin(entry),
        )
        for entry, text in zip(found, texts, strict=True)
    ]
    columns = (
        Column("chip"),
        *([Column("configuration")] if any(texts) else []),
        *(column_of(name, published) for name in names),
        Column("source"),
    )
    return Table(caption, columns, tuple(lines))


def told(row: Row) -> str:
    """Its configuration, and what a source states that is no number."""
    stated = [f"{name.replace('_', ' ')}: {text}" for name, text in row.stated.items()]
    return "; ".join(part for part in (settings(row.configuration), *stated) if part)


def bars(
    title: str,
    entries: Sequence[Entry],
    name: str,
    published: Published,
    marks: Marks,
    *,
    axis: str,
) -> Chart:
    """Of rows of one benchmark in one configuration: bars are read as a comparison."""
    if len({entry.row.identity for entry in entries}) > 1:
        raise ValueError(f"{title}: rows of several benchmarks or configurations in one chart")
    found = []
    shown = [entry for entry in ordered(entries) if name in entry.row.figures]
    for entry in shown:
        figure = entry.row.figures[name]
        numbers = figure.numbers
        chip = " or ".join(sorted(entry.row.chips, key=chip_order))
        found.append(
            Bar(
                f"{chip} · {source_cell(entry).text}",
                figure.text,
                origin(entry),
                low=numbers[0] if numbers else None,
                high=numbers[1] if isinstance(figure, Range) else None,
                about=isinstance(figure, About),
                marks=marks.at(entry.row.id, name),
            )
        )
    sources = dict.fromkeys(entry.run.name if entry.run else entry.row.source for entry in shown)
    return Chart(title, axis, published.quantities[name].unit, "; ".join(sources), tuple(found))
