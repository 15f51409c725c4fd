"""Charts as SVG elements: lying bars, a label above each, the value behind it. Colours are the page's."""

from __future__ import annotations

import math
from xml.etree.ElementTree import Element, SubElement

from anetrain.report.document import LONGEST_TITLE, Bar, Chart, plain

WIDTH = 480  # a phone's page; the page makes it larger
LABEL_HEIGHT, BAR_HEIGHT, GAP = 15, 13, 9
TOP, BOTTOM, RIGHT = 6, 40, 92  # what values behind the bars take is to the right
LONGEST_LABEL, LONGEST_VALUE = 62, 44


def svg(chart: Chart, name: str) -> Element:
    """`name`: for the ids that tie title and description to the picture; one for each chart of a page."""
    step = LABEL_HEIGHT + BAR_HEIGHT + GAP
    height = TOP + step * len(chart.bars) + BOTTOM
    picture = Element(
        "svg",
        {
            "viewBox": f"0 0 {WIDTH} {height}",
            "role": "img",
            "aria-labelledby": f"{name}-title {name}-text",
        },
    )
    SubElement(picture, "title", {"id": f"{name}-title"}).text = plain(chart.title, LONGEST_TITLE)
    SubElement(picture, "desc", {"id": f"{name}-text"}).text = alternative(chart)
    ticks = ticks_up_to(chart.most)
    top = max(ticks[-1], chart.most) or 1.0
    _axis(picture, chart, ticks, top, height)
    for number, bar in enumerate(chart.bars):
        _bar(picture, bar, TOP + step * number, top)
    return picture


def alternative(chart: Chart) -> str:
    """What the picture shows, for who does not see it."""
    values = "; ".join(f"{bar.label}: {bar.text}" for bar in chart.bars)
    return plain(f"{chart.axis}, {chart.unit}. {values}.")


def ticks_up_to(most: float) -> list[float]:
    """From 0, three to six steps of 1, 2 or 5 times a power of ten."""
    if most <= 0:
        return [0.0]
    power = 10.0 ** math.floor(math.log10(most))
    width = next(power * part for part in (0.2, 0.5, 1.0, 2.0) if most / (power * part) <= 6)
    return [width * number for number in range(math.ceil(most / width - 1e-9) + 1)]


def _axis(picture: Element, chart: Chart, ticks: list[float], top: float, height: int) -> None:
    below = height - BOTTOM
    for tick in ticks:
        x = f"{_x(tick, top):.1f}"
        SubElement(picture, "line", {"class": "grid", "x1": x, "x2": x, "y1": str(TOP), "y2": str(below)})
        anchor = "start" if tick == 0 else "middle"
        _text(picture, f"{tick:g}", x, str(below + 14), {"class": "tick", "text-anchor": anchor})
    _text(picture, f"{chart.axis}, {chart.unit}", "0", str(below + 32), {"class": "axis"})


def _bar(picture: Element, bar: Bar, y: int, top: float) -> None:
    group = SubElement(picture, "g", {"class": bar.origin or "other"})
    _text(group, _cut(bar.label, LONGEST_LABEL), "0", str(y + 11), {"class": "label"})
    low, end = bar.low or 0.0, bar.high or bar.low or 0.0
    bar_y = str(y + LABEL_HEIGHT)
    if bar.low is not None:
        look = "bar about" if bar.about else "bar"
        _box(group, look, 0.0, low, bar_y, top)
    if bar.high is not None:
        _box(group, "bar reach", low, bar.high, bar_y, top)
    marks = "".join(f" [{mark}]" for mark in bar.marks)
    value = _cut(bar.text, LONGEST_VALUE) + marks
    look = "number" if bar.low is not None else "number none"
    x = _x(end, top) + (5 if bar.low is not None else 0)
    _text(group, value, f"{x:.1f}", str(y + LABEL_HEIGHT + 11), {"class": look})


def _cut(text: str, longest: int) -> str:
    """What there is room for; the table beside the chart has all of it."""
    shown = plain(text)
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"


def _box(group: Element, look: str, start: float, end: float, y: str, top: float) -> None:
    left, right = _x(start, top), _x(end, top)
    sizes = {"x": f"{left:.1f}", "y": y, "width": f"{right - left:.1f}", "height": str(BAR_HEIGHT)}
    SubElement(group, "rect", {"class": look, **sizes})


def _x(value: float, top: float) -> float:
    return (WIDTH - RIGHT) * value / top


def _text(parent: Element, text: str, x: str, y: str, look: dict[str, str]) -> None:
    SubElement(parent, "text", {"x": x, "y": y, **look}).text = text
