"""`anetrain report`: what becomes of results: submissions, their check, and what was published beside them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from anetrain.commands.running import run
from anetrain.report import validation

_EXAMPLE = """example:
  anetrain report validate results/*.json"""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    return run(f"report {options.what}", options.work, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="anetrain report",
        description="Check files of results, submissions and published figures. docs/report.md",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="what", required=True, metavar="validate")
    _add_validate(commands.add_parser("validate", help="schema and arithmetic of any of our files"))
    return parser


# ---------------------------------------------------------------- validate


def _add_validate(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: anetrain report validate results/peak.json submission.json"
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="results, a submission, published figures, community JSON"
    )
    parser.set_defaults(work=_validate)


def _validate(options: argparse.Namespace) -> None:
    """Every problem on a line of its own; at last, in one sentence, how many there are and the first of them."""
    found = []
    for path in options.files:
        checked = validation.check(path)
        found += [f"{path}: {problem}" for problem in checked.problems]
        print(f"{path}: {checked.what}: {f'{len(checked.problems)} problems' if checked.problems else 'good'}")
        for problem in checked.problems:
            print(f"  {problem}")
    if found:
        raise ValueError(f"{found[0]}" + (f" (and {len(found) - 1} more, above)" if found[1:] else ""))
