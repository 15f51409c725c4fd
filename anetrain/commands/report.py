"""`anetrain report`: what becomes of results: submissions, their check, and what was published beside them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from anetrain import files, results
from anetrain.commands.running import run
from anetrain.report import exchange, pages, submission, validation

_EXAMPLE = """examples:
  anetrain report results/*.json --out report
  anetrain report validate results/*.json
  anetrain report submit --results results/peak.json --contributor NAME --out submission.json
  anetrain report community community_results.json --out published.json"""


COMMANDS = ("make", "validate", "submit", "community")
"""The first is meant where the first word is none of them."""


def main(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] not in (*COMMANDS, "-h", "--help"):
        words.insert(0, "make")
    options = _parser().parse_args(words)
    return run(f"report {options.what}", options.work, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="anetrain report",
        description="Pages of results with published figures beside them; checks; submissions. docs/report.md",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="what", required=True, metavar="|".join(COMMANDS))
    _add_make(commands.add_parser("make", help="tables and charts, HTML and Markdown; need not be said"))
    _add_validate(commands.add_parser("validate", help="schema and arithmetic of any of our files"))
    _add_submit(commands.add_parser("submit", help="results of one device become one file to give to others"))
    _add_community(commands.add_parser("community", help="from and to the JSON that the community publishes"))
    return parser


# ---------------------------------------------------------------- make


def _add_make(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Tables and charts of any number of files, with the published figures beside them. Their order does not matter."
    )
    parser.epilog = "example: anetrain report make results/*.json submission.json --out report"
    add = parser.add_argument
    add("files", nargs="*", type=Path, metavar="FILE", help="results, submissions, community JSON, published figures")
    add(
        "--out",
        required=True,
        type=Path,
        metavar="DIR|FILE",
        help="a folder for report.html and report.md, or one file, .html or .md",
    )
    add("--html", action="store_true", help="only the page")
    add("--markdown", action="store_true", help="only Markdown")
    add("--force", action="store_true", help="overwrite")
    parser.set_defaults(work=_make)


def _make(options: argparse.Namespace) -> None:
    for path in pages.write(options.files, _targets(options), overwrite=options.force):
        print(f"written: {path}, {path.stat().st_size:,} bytes")


def _targets(options: argparse.Namespace) -> list[Path]:
    """What is to be written: the ending says what a file is; a folder gets both, or what was asked for."""
    asked = {".html": options.html, ".md": options.markdown}
    kinds = [ending for ending, wanted in asked.items() if wanted] or list(asked)
    out = options.out
    if out.suffix in asked and not out.is_dir():
        if out.suffix not in kinds:
            raise ValueError(f"--out {out} ends with {out.suffix}; expected {kinds[0]} as asked, or a folder")
        return [out]
    if out.is_file():
        raise ValueError(f"--out {out} is a file; expected a folder, or a name that ends with .html or .md")
    return [out / f"report{ending}" for ending in kinds]


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
        count = len(checked.problems)
        said = "good" if not count else "1 problem" if count == 1 else f"{count} problems"
        print(f"{path}: {checked.what}: {said}")
        for problem in checked.problems:
            print(f"  {problem}")
    if found:
        raise ValueError(f"{found[0]}" + (f" (and {len(found) - 1} more, above)" if found[1:] else ""))


# ---------------------------------------------------------------- submit


def _add_submit(parser: argparse.ArgumentParser) -> None:
    parser.description = "Results of one device on one machine become one file. Nothing is sent anywhere."
    parser.epilog = 'example: anetrain report submit --results results/peak.json --contributor NAME --cooling "fan, on \
a desk" --out submission.json'
    add = parser.add_argument
    add("--results", nargs="+", required=True, type=Path, metavar="FILE", help="complete, of full scale, of one device")
    add("--contributor", required=True, metavar="NAME", help="as others shall see it")
    add("--cooling", default="", metavar="TEXT", help="fan, case, room: what the times depend on")
    add("--notes", default="", metavar="TEXT", help="whatever a reader should know")
    add("--emulator", action="store_true", help="take results of an emulator, and mark the submission as such")
    add("--out", required=True, type=Path, metavar="FILE", help="where it goes")
    add("--force", action="store_true", help="overwrite FILE")
    parser.set_defaults(work=_submit)


def _submit(options: argparse.Namespace) -> None:
    named = [(str(path), results.read(path)) for path in options.results]
    made = submission.submission(
        named,
        contributor=options.contributor,
        cooling=options.cooling,
        notes=options.notes,
        emulator=options.emulator,
    )
    submission.write(made, options.out, overwrite=options.force)
    print("\n".join(submission.described(made)))
    print(
        f"written: {options.out}, {options.out.stat().st_size:,} bytes. Nothing was sent: whom to give it to is yours."
    )


# ---------------------------------------------------------------- community


def _add_community(parser: argparse.ArgumentParser) -> None:
    parser.description = "The community's JSON becomes published figures of ours; those, or a submission, become it."
    parser.epilog = "example: anetrain report community submission.json --out community.json"
    parser.add_argument("file", type=Path, metavar="FILE", help="community JSON, published figures, or a submission")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="where it goes")
    parser.add_argument("--force", action="store_true", help="overwrite FILE")
    parser.set_defaults(work=_community)


def _community(options: argparse.Namespace) -> None:
    text, what, unsaid = exchange.exchanged(options.file)
    with files.replacing(options.out, overwrite=options.force) as file:
        file.write(text.encode())
    for line in unsaid:
        print(f"not said: {line}")
    print(f"written: {options.out}: {what}")
