"""`anetrain report`: the page and the Markdown of any number of files. Numbers against ones computed by hand, no
emulator beside a device, nothing of a file obeyed, the same bytes for the same files."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from anetrain import cli, results
from anetrain.bench import catalogue
from anetrain.probe import features
from anetrain.report import build, cells, charts, inputs, markdown, page, published
from anetrain.report.document import Bar, Cell, Chart, Document, Items, Line, Section, Table, plain, sections_of
from anetrain.report.marks import Marks
from anetrain.results import Measurement, Results
from tests import report_pages
from tests.report_files import COMMUNITY, EMULATOR, ane_results, community_text, provenance, stack, write

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Document:
    return report_pages.document(tmp_path_factory.mktemp("files"))


def made_of(folder: Path, *found: Results) -> Document:
    paths = [write(folder, f"{number}.json", one) for number, one in enumerate(found)]
    return build.document(inputs.read(paths))


def blocks(document: Document, kind: type[Any]) -> list[Any]:
    return [block for _, section in sections_of(document) for block in section.blocks if isinstance(block, kind)]


def table(document: Document, caption: str) -> Table:
    (found,) = [one for one in blocks(document, Table) if one.caption.startswith(caption)]
    assert isinstance(found, Table)
    return found


def section(document: Document, title: str) -> Section:
    (found,) = [one for _, one in sections_of(document) if one.title == title]
    return found


def line(found: Table, **cells: str) -> dict[str, Cell]:
    """The one whose cells, by their columns' titles, begin so."""
    titles = [column.title for column in found.columns]
    lines = [dict(zip(titles, one.cells, strict=True)) for one in found.lines]
    (only,) = [one for one in lines if all(one[title].text.startswith(text) for title, text in cells.items())]
    return only


# ---------------------------------------------------------------- golden, and stable


@pytest.mark.parametrize(("name", "writer"), [("report.md", markdown.text_of), ("report.html", page.text_of)])
def test_golden(name: str, writer: Any, document: Document) -> None:
    """scripts/make_golden_report.py writes them."""
    assert writer(document) == (GOLDEN / name).read_text(encoding="utf-8")


def test_order_folder_and_copies_do_not_matter(document: Document, tmp_path: Path) -> None:
    """Nor does a process with other hashes: sets have no say in any order."""
    paths = report_pages.written(tmp_path)
    (tmp_path / "b").mkdir()
    copy = tmp_path / "b" / "peak.json"
    copy.write_bytes((tmp_path / "peak.json").read_bytes())
    renamed = tmp_path / "b" / "zz.json"
    renamed.write_bytes(copy.read_bytes())
    for order in (paths[::-1], [*paths[3:], copy, renamed, *paths[:3]]):
        assert build.document(inputs.read(order)) == document
    command = [sys.executable, "-m", "anetrain.cli", "report", *map(str, paths), "--out", str(tmp_path / "out")]
    subprocess.run(command, cwd=ROOT, env={"PYTHONHASHSEED": "7", "PATH": ""}, check=True, capture_output=True)
    assert (tmp_path / "out" / "report.html").read_text() == page.text_of(document)


def test_what_is_in_a_submission_too_is_its_contributors(tmp_path: Path) -> None:
    report_pages.written(tmp_path)
    alone = write(tmp_path, "a.json", report_pages.other())
    for order in ([alone, tmp_path / "submission.json"], [tmp_path / "submission.json", alone]):
        (run,) = inputs.read(order).runs
        assert (run.contributor, run.file) == ("Some | <b>One</b>", "submission.json")


def test_which_device_measured_what(document: Document) -> None:
    found = table(document, "Which device measured what")
    said = [(one.cells[0].text, one.cells[1].text, one.cells[-1].text) for one in found.lines]
    assert said == [
        ("1", "ANE of Apple M1 Max", "yes"),
        ("2", "ANE of Apple M4 Pro", "yes"),
        ("3", "ANE of Apple M4 Pro", "yes"),
        ("4", "emulated ANE (emulator:m4): times are of this machine's CPU, not of an ANE", "no: of an emulator"),
        ("5", "ANE of Apple M4 Pro", "no: small sizes"),
    ]


# ---------------------------------------------------------------- numbers


def test_training_across_chips(document: Document) -> None:
    """1.28 of 19 is 6.74 %; 0.57 to 0.63 of 11 are 5.18 to 5.73 %."""
    static = table(document, "Stories110M, static")
    pro = line(static, chip="M4 Pro", program="train_large")
    assert (pro["step"].text, pro["step"].kind) == ("69-73", "range")
    assert (pro["compiling for ten steps"].text, pro["compiling for ten steps"].kind) == ("~3.5", "about")
    assert (pro["utilisation in fp16"].text, pro["utilisation in fp16"].note) == ("6.7 %", "of 19 TFLOPS")
    assert (pro["utilisation, as published"].text, pro["utilisation, as published"].note) == ("8.1 %", "of 15.8 TFLOPS")
    m1 = line(static, chip="M1 Pro", source="published: community report")
    assert (m1["utilisation in fp16"].text, m1["utilisation in fp16"].kind) == ("5.2-5.7 %", "range")
    assert line(static, chip="M5 Max")["of the device"].kind == "absent"
    own = line(static, chip="M4 Pro", program="anetrain")
    assert (own["step"].text, own["device, forward pass alone"].text) == ("95.0", "9.5")
    assert own["compiling for ten steps"].text == "3.4"
    chart, of_anetrain = [one for one in blocks(document, Chart) if one.unit == "ms"]
    assert [bar.origin for bar in of_anetrain.bars] == ["measured"]  # other programs' steps hold other work
    bars = {bar.label: bar for bar in chart.bars}
    bar = bars["M4 Pro · published: community report, srt54558"]
    assert (bar.low, bar.high, bar.text, bar.origin) == (69, 73, "69-73", "published")


def test_peak_across_chips(document: Document) -> None:
    """2 x 128 x 512^2 x 64 operations in 0.3417 ms are 12.57 TFLOPS, 66.2 % of 19."""
    peak = table(document, "Peak: 128 convolutions")
    ours = line(peak, chip="M4 Pro", source="measured")
    assert (ours["fp16"].text, ours["one evaluation"].text) == ("12.57", "0.3417")
    assert (ours["utilisation in fp16"].text, ours["rated"].note) == ("66.2 %", "int8")
    failed = line(peak, chip="M1 Max", source="published")["fp16"]
    assert (failed.text, failed.kind) == ("FAIL (MIL compatibility)", "fail")
    ultra = line(peak, chip="M3 Ultra", source="published: community report")["fp16"]
    assert (ultra.text, ultra.kind) == ("not measured", "not measured")
    assert line(peak, chip="M5 Max")["rated"].kind == "not disclosed"
    assert line(peak, chip="M2 Max")["fp16"].text == "not measured"
    marked = [one.cells[0].text for one in peak.lines if one.origin == "measured"]
    assert marked == ["M4 Pro"]


def test_more_than_all_of_a_denominator_is_shown(document: Document) -> None:
    """16.77 of 15.8 are 106.1 %; 2 x 128 x 512^2 x 2048 operations in 6.9 ms are 19.92 TFLOPS, 104.8 % of 19."""
    wide = line(table(document, "Other numbers of positions"), chip="M3 Pro")
    assert (wide["utilisation in fp16"].text, wide["utilisation in fp16"].note) == ("106.1 %", "of 15.8 TFLOPS")
    on_end = line(table(document, "Without a pause"), chip="M4 Pro")
    assert (on_end["fp16, on end"].text, on_end["utilisation in fp16"].text) == ("19.92", "104.8 %")


def test_what_failed_here_is_told_as_such(tmp_path: Path) -> None:
    refused = Measurement(
        bench="peak",
        case="128x512ch sp64",
        status="refused",
        reason="the compiler says no",
        parameters={"channels": 512, "layers": 128, "spatial": 64},
    )
    skipped = refused.model_copy(update={"status": "skipped", "bench": "peak"})
    found = table(made_of(tmp_path, ane_results(measurements=(refused,))), "Peak: 128")
    cell = line(found, chip="M4 Pro", source="measured")["fp16"]
    assert (cell.text, cell.kind) == ("FAIL (refused: the compiler says no)", "fail")
    found = table(made_of(tmp_path, ane_results(measurements=(skipped,))), "Peak: 128")
    assert not [one for one in found.lines if one.origin == "measured"]


def test_speed_ups_are_of_one_benchmark(document: Document) -> None:
    """0.1305 to 0.1315 ms of M5 Max over 0.1175 to 0.1185 of M4 Pro are 1.10 to 1.12 times; 12.57 over 13.8 TFLOPS is
    0.91; and there is no W8A8 stack beside a stack."""
    (chip,) = [one for _, one in sections_of(document) if one.title == "Apple M4 Pro (Mac16,11)"]
    (ratios,) = [block for part in chip.sections if part.title == "Speed-ups" for block in part.blocks]
    assert isinstance(ratios, Table)
    latency = line(ratios, benchmark="inmem_bench", figure="one evaluation", **{"other chip": "M5 Max"})
    assert latency["this chip is faster by"].text == "1.10-1.12"
    tflops = [
        one.cells[5].text
        for one in ratios.lines
        if one.cells[0].note == "128 x 512 channels, 64 positions" and one.cells[3].text == "M5 Max"
    ]
    assert tflops == ["0.91", "0.91"]
    # 0.497 (0.4965 to 0.4975) over 0.135 (0.1345 to 0.1355) is 3.664 to 3.699
    wide = line(ratios, benchmark="conv stack", **{"other chip": "M3 Ultra", "its figure": "0.497"})
    assert (wide["this chip is faster by"].text, wide["this chip is faster by"].kind) == ("3.66-3.70", "range")
    assert {one.cells[0].text for one in ratios.lines} == {"inmem_bench", "conv stack"}


def test_flags_stand_at_the_figure(document: Document) -> None:
    listed = {
        number: (rule, finding)
        for number, rule, finding, _ in build.document(inputs.read([])).sections[-1].blocks[2].items
    }  # type: ignore[union-attr]
    ultra = line(table(document, "Stories110M, static"), chip="M3 Ultra", source="published: community report")
    rules = {listed[mark][0] for mark in ultra["of the device"].marks}
    assert "rate of a step" in rules
    assert {listed[mark][0] for mark in ultra["utilisation, as published"].marks} >= {"one denominator"}
    w8a8 = line(table(document, "conv stack W8A8"), chip="M5 Max", configuration="128 x 512")
    assert [listed[mark][1] for mark in w8a8["W8A8"].marks] == ["35.61 is called the largest, and 35.94 is larger"]
    assert [listed[mark][0] for mark in w8a8["fp16"].marks] == ["mixed benchmarks"]
    assert len(listed) == 40


def test_every_published_figure_is_shown(document: Document) -> None:
    """In the tables across chips, each with the flags that are its own."""
    chips = {one.title for one in document.sections if one.title == "Chips, one by one"}
    sections = tuple(one for one in document.sections if one.title not in chips)
    found = [cell for one in blocks(Document("", "", sections), Table) for row in one.lines for cell in row.cells]
    texts = {cell.text for cell in found}
    for row in published.load().rows:
        # Of stacks there are rates, of utilisations those with our denominators, of ratings one for each chip.
        stack = row.benchmark == "conv stack"
        names = row.figures.keys() - ({"weight_mb", "gflop", "ms"} if stack else set())
        for name in names - {"utilisation_percent", "utilisation_of_tflops"}:
            text = row.figures[name].text
            assert text in texts or text == "not disclosed (estimated 19)", (row.id, name)
    shown = {mark for cell in found for mark in cell.marks}
    assert shown >= set(range(1, 41))


def test_a_chart_is_of_one_configuration(tmp_path: Path) -> None:
    """A run on end of half the layers has a chart of its own."""
    half = report_pages.SUSTAINED.model_copy(
        update={"parameters": {"channels": 512, "layers": 64, "spatial": 2048, "seconds": 5}, "case": "half"}
    )
    document = made_of(tmp_path, ane_results(measurements=(report_pages.SUSTAINED, half)))
    charts_ = {chart.title: len(chart.bars) for chart in blocks(document, Chart) if chart.title.startswith("Sus")}
    assert charts_ == {
        "Sustained: 128 x 512 channels, 2048 positions, 5 s on end": 2,
        "Sustained: 64 x 512 channels, 2048 positions, 5 s on end": 1,
    }
    entries = inputs.read([]).entries()
    with pytest.raises(ValueError, match="t: rows of several benchmarks or configurations in one chart"):
        cells.bars("t", entries, "ms", published.load(), Marks([published.load()]), axis="a")


def test_rates_of_no_known_shape_are_shown_apart(document: Document) -> None:
    """16.77 of the community's JSON has no shape there."""
    found = line(table(document, "peak, shape not said"), chip="M3 Pro")
    assert (found["fp16"].text, found["source"].text) == ("16.77", "published: community JSON (community.json), two")
    assert "16.77" not in {bar.text for chart in blocks(document, Chart) for bar in chart.bars}


# ---------------------------------------------------------------- compatibility, chips


def test_compatibility_tells_measured_from_published(document: Document) -> None:
    found = table(document, "What compiles and computes")
    titles = [column.title for column in found.columns]
    assert titles[1:3] == [
        "measured: Apple M1 Max (MacBookPro18,2, by Some | <b>One</b>)",
        "measured: Apple M4 Pro (Mac16,11)",
    ]
    assert titles[3:] == [f"published: {family}" for family in ("M1", "M3", "M4", "M5", "macOS 15", "macOS 26")]
    dialect = line(found, feature=features.NEW_DIALECT)
    assert (dialect[titles[1]].text, dialect["published: M1"].text) == ("partly", "partly")
    assert (dialect[titles[2]].text, dialect[titles[2]].kind) == ("yes (run 2); no (run 3)", "unknown")
    assert line(found, feature=features.BLOB_OFFSETS)[titles[2]].text == "not tried"
    assert not [one for one in found.lines if one.cells[0].text == features.TILE]  # that is the emulator's


def test_a_chip_report(document: Document) -> None:
    chip = section(document, "Apple M4 Pro (Mac16,11)")
    assert [part.title for part in chip.sections] == [
        "Hardware",
        "Bench peak",
        "Bench latency",
        "Bench train",
        "Probes",
        "Health",
        "Speed-ups",
        "Published of this chip",
    ]
    (hardware,) = chip.sections[0].blocks
    assert isinstance(hardware, Items)
    said = dict(hardware.items)
    assert (said["aneSubType"], said["memory"], said["runs"]) == ("h16", "48 GiB", "run 2, run 3")
    assert said["utilisation is of"].startswith("19 TFLOPS, half of the 38")
    question, measured, why, found = chip.sections[1].blocks
    assert "operations a second" in question.text  # type: ignore[union-attr]
    assert isinstance(measured, Table)
    assert "ANE of Apple M4 Pro" in measured.caption
    assert why == Items(
        (
            ("256x256ch sp64", "refused: the compiler says no"),
            ("64x384ch sp64", "timed out: no answer within 300 s"),
        )
    )
    assert isinstance(found, Items)
    assert found.items[0][1].startswith("19.92 TFLOPS")


def test_findings_are_computed_again(tmp_path: Path) -> None:
    """4.295 GFLOP in 0.3417 ms; the file says 19.92."""
    made = ane_results(measurements=(stack(128, 512, 64, 0.3417),), findings=(report_pages.MOST,))
    (bench,) = [one for _, one in sections_of(made_of(tmp_path, made)) if one.title == "Bench peak"]
    found = [block for block in bench.blocks if isinstance(block, Items)]
    assert [one.items[0][1] for one in found] == [
        "12.57 TFLOPS in fp16: 128x512ch sp64.",
        "19.92 TFLOPS in fp16: 128x512ch sp2048, 5 s on end.",
    ]
    (between,) = [block for block in bench.blocks if getattr(block, "kind", "") == "warning"]
    assert between == bench.blocks[bench.blocks.index(found[1]) - 1]
    assert "The file says something else" in between.text  # type: ignore[union-attr]


@pytest.mark.parametrize("name", [*catalogue.BENCHES, "of a later version"])
def test_measurements_of_no_bench_of_ours_are_shown(name: str, tmp_path: Path) -> None:
    """With parameters that its bench never gives."""
    one = stack(1, 2, 3, 1.0).model_copy(update={"bench": name, "parameters": {"way": 1.5, "sweep": None, "size": "x"}})
    document = made_of(tmp_path, ane_results(measurements=(one, one)))
    (bench,) = [found for _, found in sections_of(document) if found.title == f"Bench {name}"]
    (shown,) = [block for block in bench.blocks if isinstance(block, Table)]
    assert [cell.text for cell in shown.lines[0].cells].count("1") >= 1  # ms


# ---------------------------------------------------------------- emulators, small sizes


def test_an_emulator_stands_beside_no_device(tmp_path: Path) -> None:
    """With nothing but an emulator's results, everything outside its section is as it is without them."""
    alone = made_of(tmp_path, report_pages.emulated())
    nothing = build.document(inputs.read([]))
    apart = [one for one in alone.sections if one.title.startswith("Not comparable")]
    others = [one for one in alone.sections if one not in apart]
    assert others[1:] == list(nothing.sections[1:])  # the first says which files there were
    text = markdown.text_of(Document("", "", tuple(apart)))
    assert "777" in text
    for rate in ("TFLOPS", "GFLOPS", "TOPS", "GB/s"):
        assert rate not in text
    columns = [column.title for one in blocks(Document("", "", tuple(apart)), Table) for column in one.columns]
    assert [title for title in columns if "ms" in title.split()] == ["ms of that CPU"]


def test_every_table_of_an_emulator_names_it(document: Document) -> None:
    (apart,) = [one for one in document.sections if one.title.startswith("Not comparable")]
    emulated, small = apart.sections
    for found in blocks(Document("", "", (emulated,)), Table):
        assert "emulator" in found.caption.lower() or "Emulated" in found.caption
    for found in blocks(Document("", "", (small,)), Table):
        assert "small sizes" in found.caption


def test_small_sizes_are_no_performance(tmp_path: Path) -> None:
    found = made_of(tmp_path, report_pages.small())
    (apart,) = [one for one in found.sections if one.title.startswith("Not comparable")]
    text = markdown.text_of(Document("", "", (apart,)))
    assert "TFLOPS" not in text  # nor in the finding that rests on times
    assert "ms at small size" in text
    assert not [one for one in found.sections if one.title == "Chips, one by one"]


def test_a_small_run_of_an_emulator_says_both(tmp_path: Path) -> None:
    made = ane_results(device=EMULATOR, provenance=provenance(scale="small"))
    text = markdown.text_of(made_of(tmp_path, made))
    assert "Emulated ANE: times are of the CPU" in text
    assert "Scale small" in text


# ---------------------------------------------------------------- hostile text

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</title></style></svg><b>bold</b>",
    "| pipe | `code` | [link](javascript:alert(1)) ![x](https://example.org/x.png)",
    "line\n\n# heading\n\n- item\n---\n***",
    "control \x00\x07\x1b[31m \x7f\x85",
    "\u202eright to left\u2066 \u200b\ufeff\u2028\ufffe",
    "&lt;b&gt; &#60; &amp;",
    "https://example.org www.example.org someone@example.org",
    "x" * 100_000,
    "1. one",
    "= = =",
    "~~struck~~ $x$ <!-- comment --> ]]> {{7*7}} %s {0}",
)


def strings_of(part: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where texts are in a document that JSON gave."""
    if isinstance(part, str):
        yield path
    elif isinstance(part, dict | list):
        for key, value in part.items() if isinstance(part, dict) else enumerate(part):
            yield from strings_of(value, (*path, key))


def at(part: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        part = part[key]
    return part


def all_hostile(text: str, contents: dict[str, Any], read: Any) -> Any:
    """The file with the text in all places at once that take it."""
    changed = json.loads(json.dumps(contents))
    places = 0
    for path in list(strings_of(contents)):
        before = at(changed, path)
        at(changed, path[:-1])[path[-1]] = text
        try:
            read(json.dumps(changed))
            places += 1
        except ValueError:
            at(changed, path[:-1])[path[-1]] = before
    return read(json.dumps(changed)), places


ALLOWED = (
    " html head meta title style body header nav main section h1 h2 h3 h4 h5 h6 p ul ol li dl dt dd "
    " a table caption thead tbody tr th td span small sup div figure figcaption svg desc g rect line text "
)


class Checker(HTMLParser):
    """Tags that balance, attributes and elements that are known, nothing that a browser would fetch or run."""

    VOID = ("meta", "br", "hr", "img", "link", "input")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert f" {tag} " in ALLOWED, tag
        for name, value in attrs:
            assert not name.startswith("on"), name
            assert name not in ("src", "style", "srcset", "action", "data"), name
            if name == "href":
                assert value is not None
                assert re.fullmatch(r"#[a-z]+-[\d-]+", value), value
                self.references.append(value[1:])
            if name == "id":
                self.ids.append(str(value))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> with nothing open"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def checked(html: str) -> Checker:
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert not checker.open
    assert len(set(checker.ids)) == len(checker.ids)
    assert set(checker.references) <= set(checker.ids)
    return checker


def steering(text: str) -> list[str]:
    """Controls and marks of direction, but for ends of lines."""
    return [character for character in text if not character.isprintable() and character not in "\n"]


def parsed(read: str) -> Results:
    return Results.model_validate_json(read)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_stays_text(text: str, tmp_path: Path) -> None:
    """In every text of a file of results, of a device and of an emulator, and of the community's JSON at once."""
    files = []
    for name, source in (
        ("real", report_pages.ane()),
        ("later", report_pages.later()),
        ("emulated", report_pages.emulated()),
    ):
        made, places = all_hostile(text, json.loads(results.text_of(source)), parsed)
        assert places > 25
        files.append(write(tmp_path, f"{name}.json", made))
    theirs, places = all_hostile(
        text, COMMUNITY, lambda content: inputs.community.Community.model_validate_json(content).model_dump(mode="json")
    )
    assert places > 10
    (tmp_path / "community.json").write_text(json.dumps(theirs))
    files.append(write(tmp_path, "keys.json", ane_results(verdicts=(report_pages.verdict({text: "yes"}),))))
    figures = json.loads(published.text_of(inputs.community.from_community(community_text().encode(), "")[0]))
    figures["sources"][text] = figures["sources"].pop("community JSON")
    for row in figures["rows"]:
        row.update(source=text, chip_according_to={text: text}, note=text, contributor=text)
    (tmp_path / "figures.json").write_text(json.dumps(figures))
    document = build.document(inputs.read([*files, tmp_path / "community.json", tmp_path / "figures.json"]))
    html, marked = page.text_of(document), markdown.text_of(document)
    checker = checked(html)
    assert not steering(html)
    assert not steering(marked)
    if "script" in text:
        assert text in "".join(checker.text)  # it is there, as text
    assert len(html) < 2_000_000
    for written_line in marked.split("\n"):
        assert "<" not in written_line.replace("&lt;", "")
        assert "](" not in written_line.replace("\\]", "")
        assert "`" not in written_line.replace("\\`", "")
        assert "https://" not in written_line
        assert "www.e" not in written_line
        assert not re.match(r"#+ (?!\d)", written_line) or written_line == f"# {build.TITLE}"
        assert not re.match(r"(---|\*\*\*|===)", written_line)


def test_tables_of_markdown_keep_their_columns(document: Document) -> None:
    groups = itertools.groupby(markdown.text_of(document).split("\n"), lambda text: text.startswith("|"))
    tables = [list(lines) for is_table, lines in groups if is_table]
    assert len(tables) > 20
    for lines in tables:
        assert len({text.count("|") for text in lines}) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a | b", "a &#124; b"),
        ("*a* _b_ `c`", "\\*a\\* \\_b\\_ \\`c\\`"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ("[a](http://b)", "\\[a\\](http&#58;//b)"),
        ("www.a.b @c ~d", "www&#46;a.b &#64;c \\~d"),
        ("a\nb\t c\\", "a b c\\\\"),
        ("a\u202eb\x00", "a\\[U+202E\\]b\\[U+0000\\]"),
    ],
)
def test_markdown_escapes(text: str, expected: str) -> None:
    assert markdown.escaped(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("# a", "\\# a"), ("- a", "\\- a"), ("12. a", "12\\. a"), ("3) a", "3\\) a"), ("3 a", "3 a")]
)
def test_a_line_of_markdown_begins_nothing(text: str, expected: str) -> None:
    assert markdown.paragraph(text) == expected


def test_long_text_is_cut_and_says_so() -> None:
    assert plain("abcdef", 4) == "abcd [2 characters more]"
    assert plain("abcd", 4) == "abcd"


# ---------------------------------------------------------------- the page


def test_the_page_is_well_made(document: Document) -> None:
    html = page.text_of(document)
    checker = checked(html)
    assert html.startswith('<!doctype html>\n<html lang="en">')
    assert "url(" not in html
    assert "@import" not in html
    assert "default-src 'none'" in html
    assert "prefers-color-scheme: dark" in html
    assert html.count("<table>") == html.count("<caption>") == html.count("<thead>")
    assert html.count("<svg ") == html.count("<desc ") == html.count("</figcaption>") == len(blocks(document, Chart))
    assert len(checker.references) > 40  # contents, and marks at figures


def test_a_chart_says_what_it_shows() -> None:
    """0 to 20 by 5: 12 and 16 of 20 are 60 % and 80 % of the width that bars may take."""
    bars = (
        Bar("one", "12-16", "measured", low=12, high=16, marks=(3,)),
        Bar("two", "~20", "published", low=20, about=True),
        Bar("three", "FAIL (no)", "published"),
    )
    picture = charts.svg(Chart("Title", "a thing", "ms", "here", bars), "c")
    width = charts.WIDTH - charts.RIGHT
    found = [(rect.get("class"), float(str(rect.get("width")))) for rect in picture.iter("rect")]
    assert found == [
        ("bar", pytest.approx(0.6 * width, abs=0.1)),
        ("bar reach", pytest.approx(0.2 * width, abs=0.1)),
        ("bar about", pytest.approx(width, abs=0.1)),
    ]
    texts = [text.text for text in picture.iter("text")]
    assert texts[:5] == ["0", "5", "10", "15", "20"]
    assert "12-16 [3]" in texts
    assert "FAIL (no)" in texts
    assert picture.findtext("desc") == "a thing, ms. one: 12-16; two: ~20; three: FAIL (no)."


@pytest.mark.parametrize(
    ("most", "expected"), [(0.3, [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3]), (167, [0, 50, 100, 150, 200]), (0, [0])]
)
def test_ticks(most: float, expected: list[float]) -> None:
    assert charts.ticks_up_to(most) == pytest.approx(expected)


def test_a_table_has_a_cell_for_each_column() -> None:
    with pytest.raises(ValueError, match="caption: 2 cells for 0 columns"):
        Table("caption", (), (Line((Cell("a"), Cell("b"))),))


# ---------------------------------------------------------------- the command


def report(*words: object) -> int:
    return cli.main(["report", *map(str, words)])


def test_make_need_not_be_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, "peak.json", report_pages.ane())
    assert report(path, "--out", tmp_path / "out") == 0
    assert report("make", path, "--out", tmp_path / "one.md") == 0
    assert report("--out", tmp_path / "published", "--html") == 0  # of nothing but what was published
    assert (tmp_path / "one.md").read_text() == (tmp_path / "out" / "report.md").read_text()
    assert [file.name for file in (tmp_path / "published").iterdir()] == ["report.html"]
    assert capsys.readouterr().out.count("written: ") == 4


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--out", "a.md", "--html"], "--out a.md ends with .md; expected .html as asked, or a folder"),
        (["--out", "there.txt"], "--out there.txt is a file; expected a folder, or a name that ends with .html or .md"),
        (["missing.json", "--out", "new"], "missing.json: No such file or directory"),
        (["there.txt", "--out", "new"], "there.txt: is no JSON: "),
        (["list.json", "--out", "new"], "list.json: schema is None; expected one of anetrain-results/1, "),
        (["wrong.json", "--out", "new"], "wrong.json: not a file of results (anetrain-results/1): "),
        (["--out", "old"], "old/report.html exists already (--force)"),
    ],
)
def test_refusals(
    words: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.txt").write_text("text")
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "wrong.json").write_text('{"schema": "anetrain-results/1"}')
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "report.html").write_text("mine")
    assert report(*words) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"anetrain report make: {expected}")
    assert said.count("\n") == 1
    assert not (tmp_path / "new").exists()
    assert [file.name for file in (tmp_path / "old").iterdir()] == ["report.html"]
    assert (tmp_path / "old" / "report.html").read_text() == "mine"


def test_figures_that_no_table_takes_are_refused_with_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """More than 1e15 TFLOPS."""
    path = write(tmp_path, "fast.json", ane_results(measurements=(stack(128, 512, 64, 1e-16),)))
    assert report(path, "--out", tmp_path / "out") == 2
    assert "fast.json: its measurements make no rows of figures: " in capsys.readouterr().err


def test_rows_that_are_published_are_shown_once(tmp_path: Path) -> None:
    theirs = tmp_path / "community.json"
    theirs.write_text(community_text())
    found = inputs.read([theirs, theirs])
    once = inputs.read([theirs])
    assert found == once
    assert once.shown_once == 4
