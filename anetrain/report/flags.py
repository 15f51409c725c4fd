"""What does not agree in published figures, found by arithmetic on the rows; no list of errors is kept here.

Numbers are taken as intervals of all that would be printed so (figures.py), so rounding raises no flag.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from anetrain.report import row_rules, table_rules
from anetrain.report.published import Known, Published, Row
from anetrain.report.table_rules import Finding


class Flag(NamedTuple):
    rule: str
    rows: tuple[str, ...]
    finding: str


ROW_RULES: dict[str, Callable[[Row, Published], Iterator[str]]] = {
    "rate of a step": row_rules.rate_of_step,
    "utilisation": row_rules.utilisation,
    "counts of a shape": row_rules.counts_of_shape,
    "rate of a shape": row_rules.rate_of_shape,
    "speed-up": row_rules.speed_up,
    "parts of a whole": row_rules.parts_of_whole,
    "shares of a run": row_rules.shares_of_run,
    "time of a run": row_rules.time_of_run,
    "kernels of a step": row_rules.kernels_of_step,
    "whole step over forward time": row_rules.whole_over_forward,
    "bytes of a model": row_rules.bytes_of_model,
    "two at once": row_rules.two_at_once,
    "tokens": row_rules.tokens,
}
TABLE_RULES: dict[str, Callable[[Published], Iterator[Finding]]] = {
    "one denominator": table_rules.one_denominator,
    "one precision": table_rules.one_precision,
    "one variable": table_rules.one_variable,
    "larger and faster": table_rules.larger_and_faster,
    "groups of a run": table_rules.groups_of_run,
    "factors": table_rules.factors,
    "fusion": table_rules.fusion,
    "which chip": table_rules.which_chip,
    "same thing, other value": table_rules.same_thing_other_value,
    "labels exchanged": table_rules.labels_exchanged,
    "quoted and not there": table_rules.quoted_and_not_there,
    "ratio of a claim": table_rules.ratio_of_claim,
    "mixed benchmarks": table_rules.mixed_benchmarks,
    "not the largest": table_rules.not_the_largest,
}


def flags(published: Published) -> list[Flag]:
    """In the order of the rules, then of the rows."""
    found = []
    for name, rule in ROW_RULES.items():
        found += [Flag(name, (row.id,), finding) for row in published.rows for finding in rule(row, published)]
    for name, table_rule in TABLE_RULES.items():
        found += [Flag(name, rows, finding) for rows, finding in table_rule(published)]
    return found


def as_known(published: Published) -> tuple[Known, ...]:
    """What `known` of a file says when every flag of it is known."""
    return tuple(Known(rule=flag.rule, rows=flag.rows, finding=flag.finding) for flag in flags(published))


def unexpected(published: Published) -> list[str]:
    """Where the flags are not those that the file says are known: a sentence for each difference."""
    found = as_known(published)
    new = [f"{', '.join(known.rows)}: {known.rule}: {known.finding}" for known in found if known not in published.known]
    gone = [
        f"{', '.join(known.rows)}: {known.rule}: known as {known.finding!r}, and not so now"
        for known in published.known
        if known not in found
    ]
    return new + gone
