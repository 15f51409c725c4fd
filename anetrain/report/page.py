"""A report as one HTML file: no script, nothing from a network. It is built of elements, so text stays text."""

from __future__ import annotations

from importlib import resources
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from anetrain.report import charts
from anetrain.report.document import (
    LONGEST,
    LONGEST_TITLE,
    Block,
    Cell,
    Chart,
    Column,
    Document,
    Items,
    Line,
    Marked,
    Paragraph,
    Section,
    Table,
    plain,
    sections_of,
)

# What the page may load: nothing, but for its own style.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def text_of(document: Document) -> str:
    """The same bytes for the same document."""
    html = Element("html", {"lang": "en"})
    _head(SubElement(html, "head"), document.title)
    body = SubElement(html, "body")
    header = SubElement(body, "header")
    _said(header, "h1", document.title, LONGEST_TITLE)
    _said(header, "p", document.summary)
    _contents(SubElement(body, "nav", {"aria-label": "Contents"}), document)
    main = SubElement(body, "main")
    for number, section in sections_of(document):
        _section(main, number, section)
    ElementTree.indent(html, " ")
    return "<!doctype html>\n" + ElementTree.tostring(html, encoding="unicode", method="html") + "\n"


def _head(head: Element, title: str) -> None:
    SubElement(head, "meta", {"charset": "utf-8"})
    SubElement(head, "meta", {"http-equiv": "Content-Security-Policy", "content": POLICY})
    SubElement(head, "meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"})
    SubElement(head, "meta", {"name": "color-scheme", "content": "light dark"})
    _said(head, "title", title, LONGEST_TITLE)
    style = resources.files("anetrain.report").joinpath("data/page.css").read_text(encoding="utf-8")
    SubElement(head, "style").text = "\n" + style


def _said(parent: Element, tag: str, text: str, longest: int = LONGEST, look: str = "", **attributes: str) -> Element:
    """All text goes through here, or through charts.py: steering characters are shown, not obeyed."""
    element = SubElement(parent, tag, {"class": look, **attributes} if look else attributes)
    element.text = plain(text, longest)
    return element


def _contents(nav: Element, document: Document) -> None:
    items = SubElement(nav, "ol")
    for number, section in enumerate(document.sections, 1):
        _said(SubElement(items, "li"), "a", section.title, LONGEST_TITLE, href=f"#{_id((number,))}")


def _id(number: tuple[int, ...]) -> str:
    return "section-" + "-".join(map(str, number))


def _section(main: Element, number: tuple[int, ...], section: Section) -> None:
    element = SubElement(main, "section", {"aria-labelledby": _id(number)})
    title = f"{'.'.join(map(str, number))} {section.title}"
    _said(element, f"h{min(len(number) + 1, 6)}", title, LONGEST_TITLE, id=_id(number))
    for place, block in enumerate(section.blocks, 1):
        _block(element, block, f"{_id(number)}-{place}")


def _block(parent: Element, block: Block, name: str) -> None:
    if isinstance(block, Paragraph):
        _said(parent, "p", block.text, look=block.kind)
    elif isinstance(block, Items):
        _items(parent, block)
    elif isinstance(block, Table):
        _table(parent, block)
    elif isinstance(block, Chart):
        _chart(parent, block, name)
    else:
        _marked(parent, block)


def _items(parent: Element, block: Items) -> None:
    items = SubElement(parent, "dl" if all(term for term, _ in block.items) else "ul")
    for term, said in block.items:
        if items.tag == "ul":
            _said(items, "li", f"{term}: {said}" if term else said)
        else:
            _said(items, "dt", term)
            _said(items, "dd", said)


def _chart(parent: Element, chart: Chart, name: str) -> None:
    figure = SubElement(parent, "figure")
    _said(figure, "figcaption", chart.title, LONGEST_TITLE)
    figure.append(charts.svg(chart, name))
    _said(figure, "p", f"Source: {chart.source}", look="source")


def _grid(parent: Element, caption: str, columns: tuple[Column, ...]) -> tuple[Element, Element]:
    """A table that scrolls within itself where the page is narrow; the table, and its body."""
    # Who has no mouse scrolls it, too: it can have the focus, and has a name.
    scroll = SubElement(parent, "div", {"class": "scroll", "tabindex": "0", "role": "region", "aria-label": ""})
    scroll.set("aria-label", plain(caption, LONGEST_TITLE))
    table = SubElement(scroll, "table")
    _said(table, "caption", caption, LONGEST_TITLE)
    titles = SubElement(SubElement(table, "thead"), "tr")
    for column in columns:
        title = _said(titles, "th", column.title, look="numbers" if column.numbers else "", scope="col")
        if column.unit:
            _said(title, "span", column.unit, look="unit")
    return table, SubElement(table, "tbody")


def _table(parent: Element, table: Table) -> None:
    _, body = _grid(parent, table.caption, table.columns)
    for line in table.lines:
        _line(body, table, line)
    if table.note:
        _said(parent, "p", table.note, look="note")


def _line(body: Element, table: Table, line: Line) -> None:
    row = SubElement(body, "tr", {"class": line.origin} if line.origin else {})
    for place, (column, cell) in enumerate(zip(table.columns, line.cells, strict=True)):
        looks = [look for look in ("numbers" if column.numbers else "", cell.kind.replace(" ", "-")) if look]
        attributes = {"class": " ".join(looks)} if looks else {}
        if place == 0:
            attributes["scope"] = "row"
        _cell(SubElement(row, "td" if place else "th", attributes), cell)


def _cell(element: Element, cell: Cell) -> None:
    text = _said(element, "span", cell.text)
    marks = SubElement(text, "sup") if cell.marks else text
    for mark in cell.marks:
        _said(marks, "a", str(mark), href=f"#mark-{mark}", title="does not agree: see there")
    if cell.note:
        _said(element, "small", cell.note)


def _marked(parent: Element, block: Marked) -> None:
    columns = (Column("number", numbers=True), Column("rule"), Column("finding"), Column("rows"))
    _, body = _grid(parent, block.caption, columns)
    for number, *said in block.items:
        row = SubElement(body, "tr", {"id": f"mark-{number}"})
        _said(row, "th", str(number), look="numbers", scope="row")
        for text in said:
            _said(row, "td", text)
