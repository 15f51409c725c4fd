"""Draws the losses of a run as an SVG picture, from its events.jsonl.

python scripts/plot_run.py runs/small
python scripts/plot_run.py runs/small --out docs/images/small.svg --level 5.70 "unigram entropy"
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]
from anetrain.events import Update, Validation, read_json_lines  # noqa: E402

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 16, 44  # margins around the plot
TRAINING, VALIDATION, LEVEL = "#7a9cc6", "#b3362b", "#555555"
Points = list[tuple[float, float]]


class Chart:
    """Losses from 0 upwards over updates from 0 onwards."""

    def __init__(self, updates: float, loss: float) -> None:
        self.updates, self.loss = max(updates, 1.0), max(loss, 1e-9)
        self.parts: list[str] = []

    def x(self, update: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * update / self.updates

    def y(self, loss: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * loss / self.loss

    def line(self, points: Points, colour: str, width: float, dashes: str = "none") -> None:
        path = " ".join(f"{self.x(update):.1f},{self.y(loss):.1f}" for update, loss in points)
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}" '
            f'stroke-dasharray="{dashes}"/>'
        )

    def text(self, x: float, y: float, text: str, anchor: str = "start", colour: str = "#222222") -> None:
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>')

    def axes(self) -> None:
        for tick in ticks(self.loss):
            self.line([(0, tick), (self.updates, tick)], "#e3e3e3", 1)
            self.text(LEFT - 8, self.y(tick) + 4, f"{tick:g}", "end")
        for tick in ticks(self.updates):
            self.text(self.x(tick), HEIGHT - BOTTOM + 18, f"{tick:g}", "middle")
        self.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "update", "middle")
        self.text(LEFT, TOP - 4, "loss, nats per token")

    def svg(self) -> str:
        body = "\n".join(self.parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
            f'font-size="12">\n<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n{body}\n</svg>\n'
        )


def ticks(largest: float) -> list[float]:
    """Five to ten round numbers from 0 on."""
    step, factors = 1e-9, itertools.cycle((2.0, 2.5, 2.0))
    while largest / step > 10:
        step *= next(factors)
    return [step * number for number in range(int(largest / step) + 1)]


def smoothed(points: Points, window: int) -> Points:
    """Means over so many points, at the last of them."""
    found = []
    for end in range(window, len(points) + 1, max(window // 4, 1)):
        part = points[end - window : end]
        found.append((part[-1][0], sum(loss for _, loss in part) / window))
    return found


def draw(training: Points, validation: Points, level: tuple[float, str] | None) -> str:
    every = [*training, *validation]
    highest = max([loss for _, loss in every] + ([level[0]] if level else []))
    chart = Chart(max(update for update, _ in every), highest * 1.05)
    chart.axes()
    if level:
        chart.line([(0, level[0]), (chart.updates, level[0])], LEVEL, 1, "4 3")
        chart.text(WIDTH - RIGHT, chart.y(level[0]) - 5, f"{level[1]}: {level[0]:g}", "end", LEVEL)
    chart.line(smoothed(training, max(len(training) // 100, 1)), TRAINING, 1.5)
    chart.text(WIDTH - RIGHT, TOP + 12, "training", "end", TRAINING)
    if validation:
        chart.line(validation, VALIDATION, 2)
        update, loss = validation[-1]
        chart.text(chart.x(update), chart.y(loss) - 8, f"{loss:.3f}", "end", VALIDATION)
        chart.text(WIDTH - RIGHT, TOP + 28, "validation", "end", VALIDATION)
    return chart.svg()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a run, with events.jsonl in it")
    parser.add_argument("--out", type=Path, help="the picture (loss.svg in the run's folder)")
    parser.add_argument("--level", nargs=2, metavar=("LOSS", "NAME"), help="a line to compare with")
    options = parser.parse_args(arguments)
    try:
        level = (float(options.level[0]), options.level[1]) if options.level else None
        heard = [event for _, event in read_json_lines(options.run / "events.jsonl")]
    except (OSError, ValueError) as error:
        print(f"plot_run: {error}", file=sys.stderr)
        return 2
    training = [(float(event.update), event.loss) for event in heard if isinstance(event, Update)]
    validation = [(float(event.update), event.loss) for event in heard if isinstance(event, Validation)]
    if not training:
        print(f"plot_run: {options.run}: there is no update in its events.jsonl", file=sys.stderr)
        return 2
    out = options.out or options.run / "loss.svg"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(draw(training, validation, level), encoding="utf-8")
    print(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
