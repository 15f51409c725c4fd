"""Writes the tables of docs/estimate.md: the cost model against published times, those it was fitted to and others.

python scripts/estimate_docs.py            # write them
python scripts/estimate_docs.py --check    # fail when they are stale

Nothing is measured, and nothing compiled.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]
import anetrain.device  # noqa: E402
from anetrain.estimate import CHIPS, cost_of, estimate, profile_of  # noqa: E402
from anetrain.lower import Layout  # noqa: E402
from anetrain.model import Model  # noqa: E402
from scripts.generated import write_or_check  # noqa: E402

PAGE = ROOT / "docs" / "estimate.md"
MARKS = "<!-- begin of tables: scripts/estimate_docs.py -->\n", "<!-- end of tables -->"

# Published times in ms of stacks of so many 1x1 convolutions of so many channels at 64 positions.
STACKS = {
    "M4": {
        (32, 512): 0.160,
        (48, 512): 0.190,
        (64, 512): 0.223,
        (96, 512): 0.302,
        (128, 512): 0.366,
        (64, 256): 0.124,
        (128, 256): 0.153,
        (256, 256): 0.220,
        (64, 384): 0.163,
        (128, 384): 0.230,
    },
    "M5 Max": {
        (32, 512): 0.135,
        (48, 512): 0.171,
        (64, 512): 0.206,
        (96, 512): 0.266,
        (128, 512): 0.311,
        (64, 256): 0.168,
        (128, 256): 0.132,
        (256, 256): 0.216,
        (64, 384): 0.142,
        (128, 384): 0.203,
    },
    "M3 Ultra": {(32, 512): 0.281, (48, 512): 0.315, (64, 512): 0.313, (96, 512): 0.380, (128, 512): 0.531},
}


class Published(NamedTuple):
    """Time on the device in a step of an earlier trainer, in ms; nothing was fitted to it."""

    chip: str
    model: str
    layout: Layout
    forward: str
    backward: str = ""


STEPS = (
    Published("M1 Pro", "stories110m", "baked", "32 to 35"),
    Published("M1 Max", "stories110m", "baked", "35 to 45"),
    Published("M3 Ultra", "stories110m", "baked", "about 10"),
    Published("M4 Pro", "stories110m", "baked", "8.9"),
    Published("M4 Max", "stories110m", "baked", "10.2"),
    Published("M5", "stories110m", "baked", "9.1 to 9.8"),
    Published("M5 Max", "stories110m", "baked", "8.0"),
    Published("M5 Max", "qwen3-0.6b", "stacked", "54.6", "70.5"),
)


def stack_ms(chip: str, count: int, channels: int, positions: int = 64) -> float:
    """Weights are left out: the published programs read the same ones for all convolutions."""
    activations = 2 * 2 * channels * positions
    return cost_of(CHIPS[chip], count * 2 * channels * channels * positions, 0, activations).seconds * 1e3


def tables() -> str:
    return "\n".join([*fitted(), "", *not_fitted()]) + "\n"


def fitted() -> Iterable[str]:
    yield _row("convolutions x channels", *(f"{chip}: published, model" for chip in STACKS))
    yield "|---" * (len(STACKS) + 1) + "|"
    for count, channels in STACKS["M4"]:
        cells = []
        for chip, rows in STACKS.items():
            found = rows.get((count, channels))
            model = stack_ms(chip, count, channels)
            cells.append(f"{found:.3f}, {model:.3f} ms ({100 * (model / found - 1):+.0f} %)" if found else "")
        yield _row(f"{count} x {channels}", *cells)


def not_fitted() -> Iterable[str]:
    yield _row("chip", "model", "layout", "forward: published, estimate", "backward: published, estimate")
    yield "|---|---|---|---|---|"
    for step in STEPS:
        costs = CHIPS[step.chip]
        with anetrain.device.open("emulator", profile_of(costs)) as device:
            found = estimate(Model.preset(step.model), costs, device, layout=step.layout)
        backward = f"{step.backward or 'not published'}, {found.backward_s * 1e3:.1f} ms"
        yield _row(step.chip, step.model, step.layout, f"{step.forward}, {found.forward_s * 1e3:.1f} ms", backward)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def page() -> str:
    begin, end = MARKS
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(begin)
    return before + begin + tables() + end + rest.partition(end)[2]


if __name__ == "__main__":
    sys.exit(write_or_check(__doc__, PAGE, page))
