"""Known inconsistencies as numbers that stand at the figures, and the list that explains them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from anetrain.report import flags
from anetrain.report.document import Marked
from anetrain.report.published import Known, LargestClaim, Published, RatioClaim, Reference

# Which figure of its rows a rule is about. Of others: those that the finding names, else the row as a whole.
FIGURES_OF = {
    "rate of a step": ("ane_tflops",),
    "utilisation": ("utilisation_percent",),
    "one denominator": ("utilisation_percent",),
    "rate of a shape": ("tflops", "ms"),
    "speed-up": ("int8_speedup",),
    "parts of a whole": ("step_ms", "sum_ms"),
    "one precision": ("rated_tops",),
    "larger and faster": ("ms",),
}
ROW = ""  # in the place of a figure: the row as a whole


class Marks:
    """Numbered in the order of files, rules and rows."""

    def __init__(self, figures: Sequence[Published]) -> None:
        self.known: list[tuple[int, Known]] = []
        self._at: dict[tuple[str, str], list[int]] = {}
        for place, published in enumerate(figures):
            # What comes with anetrain is asked again; a file's flags were found when all its rows were there.
            for known in flags.as_known(published) if place == 0 else published.known:
                number = len(self.known) + 1
                self.known.append((number, known))
                for reference in _places(known, published):
                    self._at.setdefault((reference.row, reference.figure), []).append(number)

    def at(self, row: str, figure: str) -> tuple[int, ...]:
        return tuple(self._at.get((row, figure), ()))

    def of_row(self, row: str, shown: Iterable[str]) -> tuple[int, ...]:
        """Those of the row as a whole, and of figures of it that are not among those shown."""
        there = set(shown)
        found = {one for (name, figure), numbers in self._at.items() if name == row for one in numbers}
        at_figures = {one for figure in there for one in self.at(row, figure)}
        return tuple(sorted(found - at_figures))

    def list_of_all(self) -> Marked:
        return Marked(
            "Known inconsistencies, by the numbers at the figures",
            tuple((number, known.rule, known.finding, ", ".join(known.rows)) for number, known in self.known),
        )


def _places(known: Known, published: Published) -> Iterable[Reference]:
    claims = {claim.id: claim for claim in published.claims}
    rows = {row.id: row for row in published.rows}
    claimed: list[Reference] = []
    for name in known.rows:
        if name not in claims:
            continue
        claim = claims[name]
        if isinstance(claim, RatioClaim):
            claimed += [claim.above, claim.below]
        elif isinstance(claim, LargestClaim):
            claimed.append(claim.figure)
    yield from claimed
    named = set(re.findall(r"\w+", known.finding)) | {reference.figure for reference in claimed}
    for name in known.rows:
        if name in rows:
            figures = FIGURES_OF.get(known.rule) or tuple(figure for figure in rows[name].figures if figure in named)
            for figure in [figure for figure in figures if figure in rows[name].figures] or [ROW]:
                yield Reference(row=name, figure=figure)
