"""`anetrain probe`: what an engine can do, and what it does otherwise than believed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from anetrain.commands.results_file import ResultsFile, add_options, command_line, seed_of
from anetrain.commands.running import REFUSED, run, sentence, terminated_as_interrupted
from anetrain.errors import ANEError
from anetrain.isolate import Worker
from anetrain.probe import catalogue
from anetrain.probe.api import Api, api_of, changes
from anetrain.probe.judging import phrase
from anetrain.probe.run import Run, Settings
from anetrain.results import Experiment, Results, Verdict, read

_EXAMPLE = """examples:
  anetrain probe --list
  anetrain probe dialects tile --device emulator:m4 --scale small
  anetrain probe tile --device emulator:m4 --rules evidence=off,tile-poison=on --verbose"""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        return run("probe", _list if options.list else _probe, options)
    except ANEError as error:  # no such device
        print(f"anetrain probe: {sentence(error)}", file=sys.stderr)
        return REFUSED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="anetrain probe",
        description="What an engine can do, and what it does otherwise than believed: each probe a hypothesis, "
        "experiments in processes of their own, and a verdict with its evidence. docs/probe.md",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="probes, or all (--list shows them)")
    add("--list", action="store_true", help="the probes with their questions; nothing is run")
    add_options(parser)
    add("--rules", default="", metavar="A=off,B=5", help="emulator: switches over the rules of its profile")
    add("--against", type=Path, metavar="FILE", help="with api: what is other than in this file of an earlier probe")
    add("--verbose", action="store_true", help="print every experiment, too")
    return parser


def _list(options: argparse.Namespace) -> None:
    for name in _chosen(options.names or ["all"]):
        print(f"{name:16} {catalogue.probe(name).question}")


def _probe(options: argparse.Namespace) -> None:
    names = _chosen(options.names)
    older = _older_framework(options.against, names)
    file = ResultsFile.of(options, "probe")
    settings = Settings({"kind": options.device, "rules": switches(options.rules)}, options.scale, seed_of(options))
    rules = ("--rules", options.rules) if options.rules else ()
    with terminated_as_interrupted(), Worker() as worker:
        made = Run(settings, worker, command=command_line("anetrain probe", options, *names, *rules))
        file.write(made.results)  # where that cannot be done, it is said before anything is asked
        print(made.results.device.label)
        try:
            for name in names:
                _one(made, name, file, verbose=options.verbose)
            if older is not None:
                _print_changes(older, made.results, options.against)
            made.finish()
        finally:
            file.write(made.results)
            print(f"results: {file.path}" + ("" if made.results.complete else " (incomplete)"))


def _one(made: Run, name: str, file: ResultsFile, *, verbose: bool) -> None:
    """Prints the verdict, also that of a probe which was interrupted."""
    before = len(made.results.verdicts)
    bar: Any = tqdm(desc=name, unit=" experiments", file=sys.stderr, leave=False, disable=not sys.stderr.isatty())
    try:
        with bar:
            made.probe(catalogue.probe(name), lambda experiment: bar.update())
    finally:
        for verdict in made.results.verdicts[before:]:
            print(line(verdict), flush=True)
            if verbose:
                print("\n".join(f"    {told(experiment)}" for experiment in verdict.experiments), flush=True)
    file.write(made.results)


def _older_framework(path: Path | None, names: Sequence[str]) -> Mapping[str, Any] | None:
    if path is None:
        return None
    if Api.name not in names:
        raise ValueError(f"--against is for the probe {Api.name}, and that is not asked for")
    if (found := api_of(read(path))) is None:
        raise ValueError(f"{path}: the probe {Api.name} has not seen a framework there")
    return found


def _print_changes(older: Mapping[str, Any], results: Results, path: Path) -> None:
    found = api_of(results)
    told = ["the framework was not seen"] if found is None else list(changes(older, found))
    print(f"against {path}: " + (f"{len(told)} changes" if told else "nothing has changed"))
    print("".join(f"    {change}\n" for change in told), end="")


def line(verdict: Verdict) -> str:
    return f"{verdict.probe}: {verdict.question} {verdict.answer.upper()}. {verdict.sentence}"


def told(experiment: Experiment) -> str:
    observed = ", ".join(f"{name} {value}" for name, value in experiment.observed.items() if name != "values")
    return f"{experiment.name}: {phrase(experiment)}" + (f" [{observed}]" if observed else "")


def _chosen(names: Sequence[str]) -> list[str]:
    """Each once, in the order given; "all" is all of them."""
    if not names:
        raise ValueError(f"which probe? One or more of {', '.join(catalogue.PROBES)}, or all")
    chosen = [one for name in names for one in (catalogue.PROBES if name == "all" else [name])]
    for name in chosen:
        catalogue.probe(name)  # an unknown one is an error before the others are run
    return list(dict.fromkeys(chosen))


def switches(text: str) -> dict[str, bool | float]:
    """`a=on,b=off,c=5`, as anetrain.device.open takes rules."""
    found: dict[str, bool | float] = {}
    for part in text.split(",") if text else ():
        name, equals, value = part.strip().partition("=")
        if not equals or not name:
            raise ValueError(
                f"--rules: {part!r} is no rule with its setting; expected NAME=on, NAME=off or NAME=NUMBER"
            )
        found[name] = {"on": True, "off": False}[value] if value in ("on", "off") else _number(name, value)
    return found


def _number(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"--rules: {name} is set to {value!r}; expected on, off or a number") from None
