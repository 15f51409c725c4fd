"""The published figures: they pass with the inconsistencies that are known, each found by arithmetic, and no change of
a number that arithmetic reaches goes unseen."""

from __future__ import annotations

import json
from typing import Any

import pytest

from anetrain.report import flags, published
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
    return {flag.rows: flag.finding for flag in flags.flags(document) if flag.rule == rule}


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


@pytest.mark.parametrize("factor", [0.4, 1.7])
@pytest.mark.parametrize(("row", "name"), REACHED)
def test_another_number_is_another_flag(row: str, name: str, factor: float) -> None:
    figure = FIGURES.row(row).figures[name]
    assert figure.interval is not None
    document = changed(f"{row}:figures:{name}", figure.interval.middle * factor)
    assert flags.unexpected(document), f"{name} of {row} is {figure.text} times {factor}, and nothing is found"
