"""`anetrain doctor`: a health check of the device, with a file to attach to a report."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from anetrain.commands.running import (
    DONE,
    INTERRUPTED,
    REFUSED,
    lead_nowhere,
    open_standard_streams,
    sentence,
    terminated_as_interrupted,
)
from anetrain.doctor import Question, all_questions, examine
from anetrain.isolate import Worker
from anetrain.results import Health, Results, write

ILL = 1
MARKS = {"ok": "ok", "warning": "WARN", "failed": "FAIL", "skipped": "-"}
WIDTH = 100


def main(arguments: Sequence[str] | None = None) -> int:
    open_standard_streams()
    options = _parser().parse_args(arguments)
    path: Path = options.out
    if path.exists() and not options.force:
        print(f"anetrain doctor: {path} is there already (--force writes over it)", file=sys.stderr)
        return REFUSED
    command = f"anetrain doctor --device {options.device}"
    bar = tqdm(
        total=len(all_questions()), unit="question", file=sys.stderr, disable=not sys.stderr.isatty(), leave=False
    )
    shown = _Shown(path, bar)
    try:
        with terminated_as_interrupted(), Worker() as worker:
            results = examine({"kind": options.device}, worker, command=command, keep=shown, asked=shown.asked)
        bar.close()
        _end(results, path)
        sys.stdout.flush()
    except KeyboardInterrupt:
        bar.close()
        print(f"anetrain doctor: interrupted; {path} holds what was found by then", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        bar.close()
        lead_nowhere(sys.stdout)
        return DONE
    except (OSError, RuntimeError) as error:
        bar.close()
        print(f"anetrain doctor: {sentence(error)}", file=sys.stderr)
        return REFUSED
    return ILL if any(each.status == "failed" for each in results.health) else DONE


class _Shown:
    """Writes the file and prints what is new in it."""

    def __init__(self, path: Path, bar: Any) -> None:
        self._path, self._bar, self._printed = path, bar, 0

    def asked(self, question: Question) -> None:
        self._bar.set_description(question.name)

    def __call__(self, results: Results) -> None:
        write(results, self._path, overwrite=True)
        if not self._printed:
            tqdm.write(f"{results.device.label}\n")
        for health in results.health[self._printed :]:
            tqdm.write(_line(health))
            self._bar.update()
        self._printed = len(results.health)


def _line(health: Health) -> str:
    head = f"{MARKS[health.status]:5} {health.name:24} "
    return textwrap.fill(health.sentence, WIDTH, initial_indent=head, subsequent_indent=" " * len(head))


def _end(results: Results, path: Path) -> None:
    advice = [sentence for health in results.health for sentence in health.advice]
    count = Counter(health.status for health in results.health)
    print(f"\n{count['ok']} well, {count['warning']} to look at, {count['failed']} failed, {count['skipped']} skipped")
    for told in advice:
        print(textwrap.fill(told, WIDTH, initial_indent="- ", subsequent_indent="  "))
    print(f"{path}: all of it, to attach to a report; no names of people, computers or folders are in it")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="anetrain doctor",
        description="A health check in minutes: the machine, the framework, whether the device computes what it should "
        "in every training program of both models and in every layout, and whether it gives everything back.",
        epilog="Example: anetrain doctor --device auto --out doctor.json",
    )
    add = parser.add_argument
    add("--device", default="auto", help="auto (default), ane, emulator or emulator:PROFILE")
    add("--out", type=Path, default=Path("doctor.json"), metavar="FILE", help="where all of it goes (%(default)s)")
    add("--force", action="store_true", help="write over the file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
