"""Reads words.txt and plots.txt, which the stories are made from.

Both are sections under [names]; lines that begin with # are comments. In words.txt a section is a list, its items
between bars, or records of `key: value` lines with a blank line between them. In plots.txt `- ` begins a variant of a
beat, a blank line ends the beat, `@ name` is a beat that several plots share, `paragraph` begins a paragraph. A variant
without text tells nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

Record = dict[str, str]
Beat = tuple[str, ...]
"""Variants, of which one is told."""


@dataclass
class Plot:
    table: str = ""
    """Records of words.txt, of which one is drawn."""
    children_only: bool = False
    paragraphs: list[list[Beat]] = field(default_factory=list)


@dataclass(frozen=True)
class Tables:
    lists: dict[str, list[str]]
    records: dict[str, list[Record]]
    plots: list[Plot]


@cache
def tables() -> Tables:
    lists: dict[str, list[str]] = {}
    records: dict[str, list[Record]] = {}
    for name, lines in _sections("words.txt").items():
        blocks = _blocks(lines)
        if ": " in lines[0]:
            records[name] = [dict(_pair(line) for line in block) for block in blocks]
        else:
            lists[name] = [item.strip() for item in " ".join(lines).split("|")]
    sections = _sections("plots.txt")
    beats = {name[6:]: _beat(lines) for name, lines in sections.items() if name.startswith("beat: ")}
    return Tables(lists, records, [_plot(lines, beats) for name, lines in sections.items() if name[:6] == "plot: "])


def _plot(lines: list[str], beats: dict[str, Beat]) -> Plot:
    plot = Plot()
    for block in _blocks(lines):
        for at, line in enumerate(block):
            if line == "paragraph":
                plot.paragraphs.append([])
            elif line == "children only":
                plot.children_only = True
            elif line.startswith("with: "):
                plot.table = line[6:]
            else:
                rest = block[at:]
                plot.paragraphs[-1].append(beats[line[2:]] if line.startswith("@ ") else _beat(rest))
                break
    return plot


def _beat(lines: list[str]) -> Beat:
    return tuple(line[2:] for line in lines if line)


def _pair(line: str) -> tuple[str, str]:
    key, _, value = line.partition(": ")
    return key, value


def _sections(file: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in Path(__file__).with_name(file).read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            lines = found.setdefault(line[1:-1], [])
        elif not line.startswith("#"):
            lines.append(line)
    return found


def _blocks(lines: list[str]) -> list[list[str]]:
    blocks: list[list[str]] = [[]]
    for line in lines:
        if line:
            blocks[-1].append(line)
        else:
            blocks.append([])
    return [block for block in blocks if block]
