"""The published figures: they pass with the inconsistencies that are known, each found by arithmetic, and no change of
a number that arithmetic reaches goes unseen."""

from __future__ import annotations

import json
from typing import Any

import pytest

from anetrain import chips
from anetrain.report import figures, flags, published
from anetrain.report.published import Published

FIGURES = published.load()
DOCUMENT: dict[str, Any] = FIGURES.model_dump(mode="json", by_alias=True)


def changed(place: str, value: Any) -> Published:
    """`place`: "row-id", then names, with ":" between them; a row is found by its id."""
    document = json.loads(json.dumps(DOCUMENT))
    first, *names = place.split(":")
    holder = next(entry for entry in [*document["rows"], *document["claims"]] if entry["id"] == first)
    for name in names[:-1]:
        holder = holder[name]
    assert names[-1] in holder
    holder[names[-1]] = value
    return published.parse(json.dumps(document).encode(), "changed")


def found(document: Published, rule: str) -> dict[tuple[str, ...], str]:
    findings: dict[tuple[str, ...], str] = {}
    for flag in flags.flags(document):
        if flag.rule == rule:
            findings[flag.rows] = "; ".join([*([findings[flag.rows]] if flag.rows in findings else []), flag.finding])
    return findings


def test_the_file_has_exactly_the_known_flags() -> None:
    assert flags.unexpected(FIGURES) == []
    assert {known.rule for known in FIGURES.known} <= flags.ROW_RULES.keys() | flags.TABLE_RULES.keys()


@pytest.mark.parametrize(
    ("rule", "rows", "words"),
    [
        ("rate of a step", ("training/m3-ultra",), "0.88 TFLOPS belongs to 105.7 ms, not 91"),
        ("kernels of a step", ("kernel count/community",), "are 108, not 72"),
        ("same thing, other value", ("machine/m5-max", "machine/m5-max-text"), "6 (M5 Max report), 12 (M5 Max report)"),
        (
            "labels exchanged",
            ("peak/m5-16gb", "peak/m5-32gb", "peak/m5-16gb-json", "peak/m5-32gb-json"),
            "12.17 and 12.44",
        ),
        ("not the largest", ("claim/m5-max-int8-peak", "int8/m5-max-64x512"), "35.61 is called the largest, and 35.94"),
        (
            "bytes of a model",
            ("lm_head/m1-max",),
            "416 MB, not the 1051 MB of llama_lm_head, but near those of llama_lm",
        ),
        ("parts of a whole", ("training/m5-max",), "sum to 30.2 of 90 ms"),
        ("parts of a whole", ("training/qwen3-m5-max",), "sum to 246.1 of 320 ms"),
        ("parts of a whole", ("inference/stories-m4",), "sum to 8.6 of 8.8 ms"),
        ("one variable", ("sram_bench/m5-max-8192",), "spatial is 32, not 64"),
        ("whole step over forward time", ("achieved/fork",), "at most 4.78 TFLOPS"),
        ("mixed benchmarks", ("claim/m5-max-over-m5",), "13.8 over 12.44, 1.11 times"),
        ("quoted and not there", ("training/static-m4-quoted",), "training/m3-ultra (M3 Ultra)"),
    ],
)
def test_what_is_known_is_found(rule: str, rows: tuple[str, ...], words: str) -> None:
    assert words in found(FIGURES, rule)[rows]


def test_one_denominator_for_every_chip() -> None:
    of_report = next(rows for rows in found(FIGURES, "one denominator") if "training/m1-pro" in rows)
    assert [FIGURES.row(name).chip for name in of_report] == ["M1 Pro", "M1 Max", "M3 Ultra", "M4 Pro", "M4 Max", "M5"]


# ---------------------------------------------------------------- changes

REACHED = [
    (row.id, name)
    for row in FIGURES.rows
    for name, figure in row.figures.items()
    if figure.interval is not None
    and (
        (row.benchmark in ("conv stack", "sram_bench", "inmem_bench", "conv stack W8A8") and "ms" in str(row.figures))
        or name in ("ane_tflops", "total_tflops", "utilisation_percent", "utilisation_of_tflops", "compile_percent")
        or (row.configuration.get("pipeline") == "static" and name == "step_ms")
        or (row.benchmark == "lm_head" and not row.id.endswith("-newer"))
        or row.benchmark in ("kernel count", "whole step over forward time")
    )
]


@pytest.mark.parametrize(("row", "name"), REACHED)
def test_another_number_is_another_flag(row: str, name: str) -> None:
    factor = 0.4 if sum(f"{row} {name}".encode()) % 2 else 1.7
    figure = FIGURES.row(row).figures[name]
    assert figure.interval is not None
    document = changed(f"{row}:figures:{name}", figure.interval.middle * factor)
    assert flags.unexpected(document), f"{name} of {row} is {figure.text} times {factor}, and nothing is found"


@pytest.mark.parametrize(
    ("place", "value", "rule", "words"),
    [
        ("int8/m5-max-64x512:figures:int8_tops", 35.94, "not the largest", "35.94 is larger"),
        (
            "claim/m5-max-over-m5:below",
            {"row": "int8/m4-128x512", "figure": "fp16_tflops"},
            "ratio of a claim",
            "1.036",
        ),
        ("claim/qwen3-m5-max:ratio", 1.5, "ratio of a claim", "1.288, not 1.5"),
        ("sram_bench/m5-max-4096:configuration:spatial", 32, "one variable", "spatial is 32"),
        ("sram_bench/m5-max-4096:figures:total_mb", 34.0, "counts of a shape", "total_mb is 34, and of this shape 33"),
        ("inmem_bench/m5-max-2048:figures:ms", 0.231, "rate of a shape", "0.231 ms give tflops 2.324, not 4.1"),
        ("int8/m5-max-128x512:figures:int8_speedup", 1.55, "speed-up", "is 1.848, not 1.55"),
        ("inference/gpt2-m5:figures:ms_per_token", 5.0, "tokens", "200 tok/s, not 229"),
        ("lm_head/dual:figures:dual_factor", 0.9, "two at once", "0.508, not 0.9"),
        ("lm_head/m4-max:figures:bandwidth_factor", 3.2, "factors", "3.2, and from gb_per_s 2.18"),
        ("fusion/m5-ffn:figures:fused_us", 190, "fusion", "1.1 times; the page says 1.5-3"),
        ("training/m5-max-group-1:figures:train_ms", 802.5, "groups of a run", "sum to 2600.2; train_ms is 2700"),
        ("training/m5-max:figures:train_percent", 40.6, "shares of a run", "20.6 %, not 40.6"),
        ("training/m5-max:figures:steps", 40, "time of a run", "40 steps of 90 ms are 3600 ms, not 2700"),
        ("training/static:figures:wall_s", 8.1, "time of a run", "more than the wall time"),
        ("training/m4-max:figures:utilisation_percent", 9200, "utilisation", "is 9.2 %, not 9200"),
        ("training/m4-max:chip", "M9", "one denominator", "M1 Pro 11, M1 Max 11, M3 Ultra 31.6, M4 Pro 19, M5 19"),
        ("peak/m5-32gb:figures:tflops", {"about": 12.44}, "", "known as 'the community JSON gives tflops"),
    ],
)
def test_every_rule_can_find_something(place: str, value: Any, rule: str, words: str) -> None:
    document = changed(place, value)
    said = list(found(document, rule).values()) if rule else flags.unexpected(document)
    assert any(words in finding for finding in said), said


def test_ratios_are_of_one_benchmark() -> None:
    """Like for like it is 1.11 times; figures of two benchmarks, or of two configurations, make none."""
    stack, m5 = FIGURES.row("peak/m5-max-128x512"), FIGURES.row("peak/m5-16gb-json")
    low, high = published.ratio(stack, m5, "tflops")
    assert low < 13.80 / 12.44 < high < 1.12
    for other in ("int8/m5-max-128x512", "peak/m5-max-64x512", "peak/m3-pro-sp2048"):
        with pytest.raises(ValueError, match="not the same benchmark in the same configuration"):
            published.ratio(FIGURES.row(other), m5, "tflops")
    for other in ("peak/m1-pro", "peak/m3-ultra"):
        with pytest.raises(ValueError, match=f"{other} has no value of tflops"):
            published.ratio(FIGURES.row(other), m5, "tflops")


def test_kinds_stay_apart() -> None:
    shown = {
        "training/m1-pro step_ms": "148-163",
        "training/m1-max compile_per_ten_s": "~7.1",
        "training/m5-max step_ms": "90.0",
        "peak/m1-pro tflops": "FAIL (MIL compatibility)",
        "peak/m3-ultra tflops": "not measured",
        "rating/m5 rated_tops": "not disclosed",
        "rating/m5-json rated_tops": "not disclosed (estimated 19)",
    }
    for name, text in shown.items():
        row, figure = name.split(" ")
        assert FIGURES.row(row).figures[figure].text == text
    again = published.parse(published.text_of(FIGURES).encode(), "again")
    assert again == FIGURES


def test_printed_numbers_are_intervals() -> None:
    assert figures.printed(0.88) == pytest.approx((0.875, 0.885))
    assert figures.printed(91) == (90.5, 91.5)
    assert figures.About(about=10).interval == pytest.approx((9.025, 11.025))
    assert figures.Range(low=148, high=163).interval == (147.5, 163.5)


def test_utilisation_is_not_clipped_and_names_fp16() -> None:
    chip = chips.known("Apple M3 Pro")
    assert chip is not None
    assert chip.peak.percent(16.77) == pytest.approx(106.1, abs=0.05)
    assert chips.known("M9") is None
    for chip in chips.CHIPS.values():
        assert chip.peak.source.startswith(f"{chip.peak.tflops:g} TFLOPS")
        assert (chip.rated_precision == "int8") == (chip.rated_tops is not None and chip.peak.tflops < chip.rated_tops)


def test_ratings_are_those_of_the_table_of_chips() -> None:
    """One table for both: what the file says a chip is rated, `anetrain.chips` says, too."""
    for row in FIGURES.of("rating"):
        chip = chips.known(row.chip)
        assert chip is not None, row.chip
        assert (row.figures["rated_tops"].numbers or (None,)) == (chip.rated_tops,)
        assert row.figures["engine_cores"].numbers == (chip.engine_cores,)
        assert row.configuration.get("precision", "") == chip.rated_precision
