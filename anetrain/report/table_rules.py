"""What rows must satisfy together, and what sources claim of them: each rule gives the rows and a sentence."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations, pairwise, permutations, product

from anetrain import chips
from anetrain.report.figures import Interval
from anetrain.report.published import LargestClaim, Published, RatioClaim, Reference, Row

Finding = tuple[tuple[str, ...], str]

SAME = 0.10  # how far measurements of one thing may lie apart
JUMP = 1.5  # times that a smaller shape may take of a larger one's


def _ids(rows: list[Row]) -> tuple[str, ...]:
    return tuple(row.id for row in rows)


def _grouped(rows: list[Row]) -> list[list[Row]]:
    """By source."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row.source].append(row)
    return list(found.values())


# ---------------------------------------------------------------- denominators


def one_denominator(published: Published) -> Iterator[Finding]:
    """A utilisation is a share of what its own chip does in fp16."""
    wrong = []
    for row in published.rows:
        used, chip = row.interval("utilisation_of_tflops"), chips.known(row.chip)
        if used is not None and chip is not None and not used.meets(Interval(chip.peak.tflops, chip.peak.tflops)):
            wrong.append(row)
    for rows in _grouped(wrong):
        used_of = ", ".join(sorted({row.figures["utilisation_of_tflops"].text for row in rows}))
        peaks = {row.chip: f"{row.chip} {chip.peak.tflops:g}" for row in rows if (chip := chips.known(row.chip))}
        yield _ids(rows), f"shares of {used_of} TFLOPS, whatever the chip; expected {', '.join(peaks.values())}"


def one_precision(published: Published) -> Iterator[Finding]:
    """Ratings of one table count the same operations."""
    for rows in _grouped(published.of("rating")):
        precisions = {str(row.configuration.get("precision", "")) for row in rows if row.interval("rated_tops")}
        others = [row for row in rows if row.configuration.get("precision")]
        if len(precisions) > 1:
            yield _ids(others), "ratings of int8 operations in one column with others"


# ---------------------------------------------------------------- sweeps


def _sweeps(published: Published) -> Iterator[tuple[str, list[Row]]]:
    """Rows of one chip and source, by the size of what changes."""
    for name, benchmark in published.benchmarks.items():
        rows = [row for row in published.of(name) if benchmark.sweep and row.interval("ms")]
        for of_source in _grouped(rows):
            for chip in dict.fromkeys(row.chip for row in of_source):
                swept = [row for row in of_source if row.chip == chip]
                yield benchmark.sweep, sorted(swept, key=lambda row: int(row.configuration[benchmark.sweep]))


def one_variable(published: Published) -> Iterator[Finding]:
    """A sweep changes one thing at a time."""
    for variable, rows in _sweeps(published):
        rest = [{**row.configuration, variable: None} for row in rows]
        usual = max(rest, key=rest.count)
        for row, other in zip(rows, rest, strict=True):
            changed = [
                f"{name} is {value}, not {usual.get(name)}" for name, value in other.items() if usual.get(name) != value
            ]
            if changed:
                yield (
                    (row.id,),
                    f"with {variable} {row.configuration[variable]}, {' and '.join(changed)} as in the other rows",
                )


def larger_and_faster(published: Published) -> Iterator[Finding]:
    """An outlier: less work took much longer than more."""
    for variable, rows in _sweeps(published):
        for row, after in pairwise(rows):
            slow, quick = row.interval("ms"), after.interval("ms")
            if slow and quick and slow.low > JUMP * quick.high:
                yield (
                    (row.id, after.id),
                    f"{variable} {row.configuration[variable]} takes {slow.middle:g} ms, "
                    f"{after.configuration[variable]} {quick.middle:g} ms",
                )


# ---------------------------------------------------------------- sums and factors


def groups_of_run(published: Published) -> Iterator[Finding]:
    """Groups of micro-steps add up to their run."""
    for run in published.rows:
        groups = [
            row
            for row in published.of(run.benchmark, **run.configuration)
            if "group" in row.configuration and (row.chip, row.source) == (run.chip, run.source) and row is not run
        ]
        if "group" in run.configuration or not groups:
            continue
        for name, whole, unit in (
            ("train_ms", "train_ms", 1.0),
            ("compile_ms", "compile_s", 1e-3),
            ("steps", "steps", 1.0),
        ):
            expected, sum_ = run.interval(whole), sum(found.middle for row in groups if (found := row.interval(name)))
            if expected and not expected.wider(1e-3).meets(Interval(unit * sum_, unit * sum_)):
                yield (run.id,), f"{name} of its groups sum to {sum_:g}; {whole} is {expected.middle:g}"


def factors(published: Published) -> Iterator[Finding]:
    """Of rates over the first row's, of times under it."""
    for rows in _grouped([row for row in published.of("lm_head") if row.interval("bandwidth_factor")]):
        for row in rows:
            for name, figure in (("bandwidth_factor", "gb_per_s"), ("inference_factor", "ms")):
                factor, here, base = row.interval(name), row.interval(figure), rows[0].interval(figure)
                if factor is None or here is None or base is None:
                    continue
                expected = here.over(base) if figure == "gb_per_s" else base.over(here)
                if not expected.meets(factor):
                    yield (row.id,), f"{name} is {factor.middle:g}, and from {figure} {expected.middle:.2f}"


def fusion(published: Published) -> Iterator[Finding]:
    """Speed-ups lie where a page says they do."""
    for page in published.rows:
        claimed = page.interval("fused_speedup")
        for row in published.of("fusion") if claimed else []:
            separate, fused = row.interval("separate_us"), row.interval("fused_us")
            if row.source == page.source and claimed and separate and fused:
                found = separate.over(fused)
                if not found.meets(claimed):
                    yield (row.id,), f"{found.middle:.1f} times; the page says {page.figures['fused_speedup'].text}"


# ---------------------------------------------------------------- sources against each other


def which_chip(published: Published) -> Iterator[Finding]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in published.rows:
        if len(row.chips) > 1:
            said = ", ".join(f"{chip} by the {source}" for source, chip in row.chip_according_to.items())
            found[f"said to be of {said}"].append(row)
    for finding, rows in found.items():
        yield _ids(rows), finding


def _may_be_same(one: Row, other: Row) -> bool:
    """The same benchmark on what may be the same chip, and nothing that is known of the machines differs."""
    shared = one.machine.keys() & other.machine.keys()
    return (
        one.identity == other.identity
        and bool(one.chips & other.chips)
        and all(one.machine[name] == other.machine[name] for name in shared)
    )


def _same_work(published: Published) -> list[list[Row]]:
    by_identity: dict[object, list[Row]] = defaultdict(list)
    for row in published.rows:
        by_identity[row.identity].append(row)
    return list(by_identity.values())


def same_thing_other_value(published: Published) -> Iterator[Finding]:
    """Of one source, or of several: two Macs with one chip may differ, but a reader must know by how much."""
    for rows in _same_work(published):
        apart: dict[str, list[Row]] = defaultdict(list)
        for one, other in combinations(rows, 2):
            for name in one.figures.keys() & other.figures.keys() if _may_be_same(one, other) else ():
                here, there = one.interval(name), other.interval(name)
                if here and there and not here.wider(SAME / 2).meets(there.wider(SAME / 2)):
                    apart[name] += [one, other]
        if apart:
            values = [
                f"{name} is "
                + ", ".join(f"{row.figures[name].text} ({row.source})" for row in rows if row in apart[name])
                for name in sorted(apart)
            ]
            found = [row for row in rows if any(row in those for those in apart.values())]
            yield _ids(found), "; ".join(values)


def labels_exchanged(published: Published) -> Iterator[Finding]:
    """Two sources with the same two values, each with the other's machine."""
    for rows in _same_work(published):
        of_source = _grouped([row for row in rows if row.machine])
        for ours, theirs in combinations(of_source, 2):
            for (one, other), (a, b) in product(combinations(ours, 2), permutations(theirs, 2)):
                if not (_may_be_same(one, a) and _may_be_same(other, b)) or _may_be_same(one, other):
                    continue
                for name in sorted(one.figures.keys() & other.figures.keys() & a.figures.keys() & b.figures.keys()):
                    first, second = one.figures[name], other.figures[name]
                    if first != second and (a.figures[name], b.figures[name]) == (second, first):
                        values = f"{name} {first.text} and {second.text}"
                        yield (one.id, other.id, a.id, b.id), f"the {a.source} gives {values} with the labels exchanged"


def quoted_and_not_there(published: Published) -> Iterator[Finding]:
    """A figure said to be of a source that has no such figure for the chip."""
    for row in published.rows:
        if not row.quotes:
            continue
        origins = [other for other in published.rows if not other.quotes and other is not row]
        for name, figure in row.figures.items():
            same = [other for other in origins if other.figures.get(name) == figure]
            if any(_may_be_same(row, other) for other in same):
                continue
            others = ", ".join(f"{other.id} ({other.chip})" for other in same) or "nowhere"
            yield (row.id,), f"{name} {figure.text} is not of the {row.chip} in any source; it is in {others}"


# ---------------------------------------------------------------- claims


def _both(published: Published, claim: RatioClaim) -> tuple[Interval | None, Interval | None]:
    return published.figure(claim.above).interval, published.figure(claim.below).interval


def ratio_of_claim(published: Published) -> Iterator[Finding]:
    for claim in published.claims:
        if isinstance(claim, RatioClaim) and claim.ratio.interval is not None:
            above, below = _both(published, claim)
            if above is None or below is None or not above.over(below).meets(claim.ratio.interval):
                found = "no ratio" if above is None or below is None else f"{above.over(below).middle:.3f}"
                yield (
                    (claim.id,),
                    f"{_named(claim.above)} over {_named(claim.below)} is {found}, not {claim.ratio.text}",
                )


def mixed_benchmarks(published: Published) -> Iterator[Finding]:
    """A ratio of two benchmarks says nothing of two chips. Where there are figures of one benchmark, theirs is told."""
    for claim in published.claims:
        if not isinstance(claim, RatioClaim):
            continue
        above, below = published.row(claim.above.row), published.row(claim.below.row)
        if above.identity == below.identity and claim.above.figure == claim.below.figure:
            continue
        like = _like_for_like(published, above.chip, below, claim.below.figure)
        instead = f"; like for like it is {like}" if like else ""
        yield (claim.id,), f"{claim.ratio.text} times is {_named(claim.above)} over {_named(claim.below)}{instead}"


def _like_for_like(published: Published, chip: str, below: Row, name: str) -> str:
    for row in published.rows:
        here, there = row.interval(name), below.interval(name)
        if row.chip == chip and row.identity == below.identity and here and there:
            return f"{row.figures[name].text} over {below.figures[name].text}, {here.over(there).middle:.2f} times"
    return ""


def _named(reference: Reference) -> str:
    return f"{reference.figure} of {reference.row}"


def not_the_largest(published: Published) -> Iterator[Finding]:
    for claim in published.claims:
        if not isinstance(claim, LargestClaim):
            continue
        row, name = published.row(claim.figure.row), claim.figure.figure
        rows = [
            other for other in published.of(row.benchmark) if (other.chip, other.source) == (row.chip, claim.source)
        ]
        found = row.interval(name)
        for other in rows:
            more = other.interval(name)
            if found is not None and more is not None and more.low > found.high:
                yield (
                    (claim.id, other.id),
                    f"{row.figures[name].text} is called the largest, and {other.figures[name].text} is larger",
                )
