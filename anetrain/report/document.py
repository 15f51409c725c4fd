"""A report as data: sections of paragraphs, tables and charts. What is in them is plain text, whoever wrote it;
`markdown.py` and `page.py` write it down, and neither knows what it is about."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

LONGEST = 2000  # characters of one text: contributors may write more, and nobody reads it
LONGEST_TITLE = 200

Kind: TypeAlias = Literal[
    "", "value", "range", "about", "fail", "not measured", "not disclosed", "absent", "yes", "no", "partly", "unknown"
]
Origin: TypeAlias = Literal["measured", "published", ""]


@dataclass(frozen=True)
class Cell:
    """`marks`: numbers of known inconsistencies, shown at the figure and explained at the end. `note`: in small."""

    text: str
    kind: Kind = ""
    marks: tuple[int, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Column:
    title: str
    unit: str = ""
    numbers: bool = False
    """Set to the right."""


@dataclass(frozen=True)
class Line:
    """A row of a table. Its first cell is what it is about."""

    cells: tuple[Cell, ...]
    origin: Origin = ""


@dataclass(frozen=True)
class Table:
    caption: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    note: str = ""

    def __post_init__(self) -> None:
        for line in self.lines:
            if len(line.cells) != len(self.columns):
                raise ValueError(f"{self.caption}: {len(line.cells)} cells for {len(self.columns)} columns")


@dataclass(frozen=True)
class Bar:
    """From 0 to `low`, and where there is a range on to `high`. Both None: there is no value, and `text` says why."""

    label: str
    text: str
    origin: Origin
    low: float | None = None
    high: float | None = None
    about: bool = False
    marks: tuple[int, ...] = ()


@dataclass(frozen=True)
class Chart:
    title: str
    axis: str
    unit: str
    source: str
    bars: tuple[Bar, ...]

    @property
    def most(self) -> float:
        return max((bar.high or bar.low or 0.0 for bar in self.bars), default=0.0)


@dataclass(frozen=True)
class Paragraph:
    text: str
    kind: Literal["", "warning"] = ""


@dataclass(frozen=True)
class Items:
    """A list; of terms with what is said of each."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Marked:
    """The list that marks point at: number, rule, finding, and the rows it is about."""

    caption: str
    items: tuple[tuple[int, str, str, str], ...]


Block: TypeAlias = Paragraph | Items | Table | Chart | Marked


@dataclass(frozen=True)
class Section:
    title: str
    blocks: tuple[Block, ...] = ()
    sections: tuple[Section, ...] = ()


@dataclass(frozen=True)
class Document:
    title: str
    summary: str
    sections: tuple[Section, ...]


def plain(text: str, longest: int = LONGEST) -> str:
    """On one line, as anybody may see it: characters that steer (controls, marks of direction, what no font has) are
    shown as their numbers, and what is very long is cut and says so."""
    rest = len(text) - longest
    shown = text[:longest]
    shown = "".join(_visible(character) for character in shown)
    words = " ".join(shown.split())
    return f"{words} [{rest:,} characters more]" if rest > 0 else words


def _visible(character: str) -> str:
    if character.isspace() and character in " \t\n\r":
        return " "
    category = unicodedata.category(character)
    return f"[U+{ord(character):04X}]" if category[0] == "C" or category in ("Zl", "Zp") else character


def sections_of(document: Document) -> Iterator[tuple[tuple[int, ...], Section]]:
    """Each with its number, such as (3, 1), before those within it."""

    def walk(sections: tuple[Section, ...], above: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Section]]:
        for number, section in enumerate(sections, 1):
            yield (*above, number), section
            yield from walk(section.sections, (*above, number))

    yield from walk(document.sections, ())
