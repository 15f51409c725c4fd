"""`anetrain bench`: measures what a device does. Tables go to stdout, progress to stderr, everything to a file."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from tqdm import tqdm

from anetrain.bench import Bench, Case, catalogue, table
from anetrain.bench.run import Run, Settings
from anetrain.commands.results_file import ResultsFile, add_options, command_line, seed_of
from anetrain.commands.running import REFUSED, one_line, run, terminated_as_interrupted
from anetrain.device import ANEError
from anetrain.isolate import Worker
from anetrain.results import Meter

ALL = "all"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        return run("bench", _bench, options)
    except ANEError as error:  # there is no such device
        print(f"anetrain bench: {one_line(error)}", file=sys.stderr)
        return REFUSED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="anetrain bench",
        description="Measure what a device does: values first, then times. Each case runs in a process of its own, and "
        "one that is refused, crashes or hangs is a result.",
        epilog="Example: anetrain bench peak latency --device emulator:m4 --scale small",
    )
    add = parser.add_argument
    add("benches", nargs="*", metavar="BENCH", help=f"{', '.join(catalogue.BENCHES)}, or {ALL}")
    add("--list", action="store_true", help="say what each bench asks, and its cases; no device is opened")
    add("--filter", metavar="PATTERN", help="only cases with this in their name; * and ? stand for others")
    add("--samples", type=int, metavar="N", help=f"at least so many times per case ({Meter.least_samples})")
    add("--seconds", type=float, metavar="S", help=f"times for at least so long ({Meter.least_s})")
    add("--allow-unproven", action="store_true", help="emulator: also ops that nobody ran directly on an engine")
    add_options(parser)
    return parser


def _bench(options: argparse.Namespace) -> None:
    benches = _benches(options)
    if options.list:
        print("\n\n".join(_described(bench, options) for bench in benches))
        return
    chosen = [(bench, case) for bench in benches for case in _cases(bench, options)]
    if not chosen:
        raise ValueError(f"no case has {options.filter!r} in its name; anetrain bench --list names all")
    file = ResultsFile.of(options, options.benches[0] if len(options.benches) == 1 else "bench")
    with terminated_as_interrupted(), Worker() as worker:
        made = Run(_settings(options), worker, command=_command(options))
        file.write(made.results)
        try:
            _measure(made, chosen, file)
        finally:
            try:  # the table where the file cannot be written, the file where nobody reads the table
                print(table.text(made.results, list(dict.fromkeys(bench for bench, _ in chosen))))
            finally:
                file.write(made.results)
            print(f"\nresults: {len(made.results.measurements)} of {len(chosen)} cases; anetrain report {file.path}")


def _measure(made: Run, chosen: Sequence[tuple[Bench, Case]], file: ResultsFile) -> None:
    """After each case the file holds what there is."""
    bar: Any = tqdm(total=len(chosen), unit="case", file=sys.stderr, disable=not sys.stderr.isatty())
    with bar:
        for bench, case in chosen:
            bar.set_description(f"{bench.name}: {case.name}")
            try:
                made.measure(bench, case)
            except KeyboardInterrupt:
                made.interrupted(bench, case)
                raise
            file.write(made.results)
            bar.update()
    made.finish()


def _benches(options: argparse.Namespace) -> list[Bench]:
    names = options.benches or ([ALL] if options.list else [])
    if not names:
        raise ValueError(f"name what to measure: {', '.join(catalogue.BENCHES)}, or {ALL}; --list says what each asks")
    return [catalogue.bench(name) for name in (catalogue.BENCHES if ALL in names else dict.fromkeys(names))]


def _cases(bench: Bench, options: argparse.Namespace) -> list[Case]:
    return [case for case in bench.cases(options.scale) if fnmatchcase(case.name, f"*{options.filter or ''}*")]


def _settings(options: argparse.Namespace) -> Settings:
    meter: dict[str, Any] = {}
    if options.samples is not None:
        if options.samples < 1:
            raise ValueError(f"--samples is {options.samples}; expected at least 1")
        meter["least_samples"] = options.samples
    if options.seconds is not None:
        if not 0 <= options.seconds < math.inf:
            raise ValueError(f"--seconds is {options.seconds}; expected 0 or more")
        meter |= {"least_s": options.seconds, "most_s": max(options.seconds, Meter.most_s)}
    device = {"kind": options.device, "allow_unproven": options.allow_unproven}
    return Settings(device=device, scale=options.scale, seed=seed_of(options), meter=meter)


def _command(options: argparse.Namespace) -> str:
    asked = [(f"--{name}", str(getattr(options, name))) for name in ("filter", "samples", "seconds")]
    given = [word for name, value in asked if value != "None" for word in (name, value)]
    unproven = ["--allow-unproven"] if options.allow_unproven else []
    return command_line("anetrain bench", options, *options.benches, *given, *unproven)


def _described(bench: Bench, options: argparse.Namespace) -> str:
    lines = [f"{bench.name}: {bench.question}"]
    for case in _cases(bench, options):
        sizes = ", ".join(f"{name} {value}" for name, value in case.parameters.items())
        lines.append(f"  {case.name}" + (f" ({sizes})" if sizes else ""))
    return "\n".join(lines)
