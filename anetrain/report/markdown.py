"""A report as Markdown. Whatever is in it is escaped: text stays text, whoever wrote it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from anetrain.report.document import (
    LONGEST,
    LONGEST_TITLE,
    Block,
    Chart,
    Column,
    Document,
    Items,
    Marked,
    Paragraph,
    Table,
    plain,
    sections_of,
)

FULL_BAR = 30  # characters of a chart's longest bar
ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "@": "&#64;"}
STEERING = re.compile(r"([\\`*_\[\]~$])")
LINKS = ((re.compile(r":(?=//)"), "&#58;"), (re.compile(r"(?i)(?<=www)\."), "&#46;"))
LINE_BEGINS = re.compile(r"^([#+\-=]|\d+(?=[.)]))")


def text_of(document: Document) -> str:
    """The same bytes for the same document."""
    parts = [f"# {escaped(document.title, LONGEST_TITLE)}", paragraph(document.summary)]
    for number, section in sections_of(document):
        parts.append(f"{'#' * (len(number) + 1)} {'.'.join(map(str, number))} {escaped(section.title, LONGEST_TITLE)}")
        for block in section.blocks:
            parts += _block(block)
    return "\n\n".join(part for part in parts if part) + "\n"


def escaped(text: str, longest: int = LONGEST) -> str:
    """Of something within a line: no markup, no link, no end of a cell."""
    found = "".join(ENTITIES.get(character, character) for character in plain(text, longest))
    found = STEERING.sub(r"\\\1", found)
    for pattern, instead in LINKS:
        found = pattern.sub(instead, found)
    return found


def paragraph(text: str) -> str:
    """Of a line of its own, which is no heading, list or rule either."""
    found = escaped(text)
    begins = LINE_BEGINS.match(found)
    if not begins:
        return found
    end = begins.end()
    return f"{found[:end]}\\{found[end:]}" if begins[0][0].isdigit() else f"\\{found}"


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, Paragraph):
        text = paragraph(block.text)
        yield f"> **Note.** {text}" if block.kind == "warning" else text
    elif isinstance(block, Items):
        yield "\n".join(f"- {_term(term)}{escaped(said)}" for term, said in block.items)
    elif isinstance(block, Table):
        yield from _table(block)
    elif isinstance(block, Chart):
        yield from _chart(block)
    else:
        yield f"**{escaped(block.caption)}**"
        yield _grid(_MARKED, [[f"[{number}]", *map(escaped, said)] for number, *said in _marked(block)])


_MARKED = (Column("number"), Column("rule"), Column("finding"), Column("rows"))


def _marked(block: Marked) -> list[tuple[int, str, str, str]]:
    return list(block.items)


def _term(term: str) -> str:
    """A question ends itself."""
    return f"**{escaped(term)}{'' if term.endswith('?') else ':'}** " if term else ""


def _table(table: Table) -> Iterator[str]:
    yield f"**{escaped(table.caption)}**"
    lines = []
    for line in table.lines:
        cells = []
        for cell in line.cells:
            marks = "".join(f" [{mark}]" for mark in cell.marks)
            cells.append(escaped(cell.text) + marks + (f" ({escaped(cell.note)})" if cell.note else ""))
        if line.origin == "measured":
            cells[0] = f"**{cells[0]}**"
        lines.append(cells)
    yield _grid(table.columns, lines)
    yield paragraph(table.note)


def _grid(columns: Sequence[Column], lines: Sequence[Sequence[str]]) -> str:
    titles = [escaped(f"{column.title}, {column.unit}" if column.unit else column.title) for column in columns]
    rules = ["---:" if column.numbers else "---" for column in columns]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (titles, rules, *lines))


def _chart(chart: Chart) -> Iterator[str]:
    yield f"**{escaped(chart.title)}**"
    lines = []
    for bar in chart.bars:
        length = round(FULL_BAR * (bar.low or 0.0) / chart.most) if chart.most else 0
        more = round(FULL_BAR * bar.high / chart.most) - length if bar.high else 0
        label = escaped(bar.label)
        marks = "".join(f" [{mark}]" for mark in bar.marks)
        drawn = "█" * length + "░" * more
        lines.append([f"**{label}**" if bar.origin == "measured" else label, escaped(bar.text) + marks, drawn])
    yield _grid((Column(""), Column(chart.axis, chart.unit, numbers=True), Column("")), lines)
    yield paragraph(f"Source: {chart.source}")
