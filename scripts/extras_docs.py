"""Writes the tables of docs/pipeline.md: where each part of a step runs, and how many dispatches a micro-step takes.

python scripts/extras_docs.py            # write them
python scripts/extras_docs.py --check    # fail when they are stale

Both are read off the plans of the models at full size; nothing is compiled.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]
import anetrain.device  # noqa: E402
from anetrain.lower import Layout  # noqa: E402
from anetrain.model import Model  # noqa: E402
from anetrain.pipeline.extras import EXTRAS, Extras  # noqa: E402
from anetrain.pipeline.places import Places, places  # noqa: E402
from scripts.generated import write_or_check  # noqa: E402

PAGE = ROOT / "docs" / "pipeline.md"
MARKS = "<!-- begin of tables: scripts/extras_docs.py -->\n", "<!-- end of tables -->"
PIPELINES: dict[str, Layout] = {"dynamic": "stacked", "static": "baked"}
WORDS = {"host": "CPU", "device": "device"}
SWITCHES = {"norms of the layers": "norms", "final norm": "final_norm", "logits": "classifier"}
FORWARD_AND_BACKWARD = ("norms of the layers", "attention, feed-forward", "residual sums", "final norm")
# Model, chip, pipeline: a chip of each size of axes; qwen3-0.6b is beyond the budgets of a static pipeline.
COUNTED = (
    ("stories110m", "m4", "dynamic"),
    ("stories110m", "m4", "static"),
    ("stories110m", "m1", "dynamic"),
    ("qwen3-0.6b", "m4", "dynamic"),
    ("qwen3-0.6b", "m1", "dynamic"),
)


def find(model: str, chip: str, pipeline: str, extras: Extras) -> Places:
    with anetrain.device.open(f"emulator:{chip}") as device:
        return places(Model.preset(model), device, layout=PIPELINES[pipeline], extras=extras)


def tables() -> str:
    return "\n".join([*where_it_runs(), "", *dispatches()]) + "\n"


def where_it_runs() -> Iterable[str]:
    settings: list[tuple[str, Extras]] = [(pipeline, extras) for pipeline in PIPELINES for extras in ("none", "all")]
    columns = [find("stories110m", "m4", pipeline, extras).of for pipeline, extras in settings]
    yield _row("part of a step", *(f"{pipeline}, extras: {extras}" for pipeline, extras in settings), "switch")
    yield "|---" * (len(columns) + 2) + "|"
    for part in columns[0]:
        label = f"{part}: forward, backward" if part in FORWARD_AND_BACKWARD else part
        yield _row(label, *(WORDS[column[part]] for column in columns), SWITCHES.get(part, ""))


def dispatches() -> Iterable[str]:
    choices: list[Extras] = ["none", *EXTRAS, "all"]
    yield _row("model, pipeline, chip", *map(str, choices))
    yield "|---" * (len(choices) + 1) + "|"
    for model, chip, pipeline in COUNTED:
        counts = [find(model, chip, pipeline, extras) for extras in choices]
        cells = [f"{found.forward} + {found.backward}" for found in counts]
        yield _row(f"{model}, {pipeline}, {chip.upper()}", *cells)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def page() -> str:
    """With the tables between the marks renewed."""
    before, mark, rest = PAGE.read_text(encoding="utf-8").partition(MARKS[0])
    if not mark:
        raise ValueError(f"{PAGE.name} has no line {MARKS[0].strip()}")
    return before + mark + tables() + MARKS[1] + rest.partition(MARKS[1])[2]


def main() -> int:
    logging.getLogger("anetrain.lower").setLevel(logging.ERROR)  # which rungs were left is no news here
    return write_or_check(__doc__, PAGE, page)


if __name__ == "__main__":
    sys.exit(main())
