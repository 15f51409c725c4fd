"""The command `anetrain`: `anetrain train ...` is `python -m anetrain.train ...`, and so on with every command."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import NamedTuple


class Command(NamedTuple):
    """`module` is imported when the command is called; its `main` takes the arguments behind the command's name and
    returns the exit code."""

    module: str
    what: str


COMMANDS = {
    "train": Command("anetrain.train", "train a model as a config says"),
    "data": Command("anetrain.commands.data", "prepare text for training, look at token files, download data"),
    "convert": Command("anetrain.commands.convert", "models from and to llama2.c, Hugging Face, checkpoints"),
    "generate": Command("anetrain.commands.generate", "continue a text, or answer, with a trained model"),
    "probe": Command("anetrain.commands.probe", "what an engine can do, and what it does otherwise than believed"),
    "estimate": Command("anetrain.commands.estimate", "what a step would take on a chip's engine, by a cost model"),
    "report": Command("anetrain.commands.report", "results become pages and submissions, beside what was published"),
    "doctor": Command("anetrain.commands.doctor", "a health check of the device, in minutes"),
    "bench": Command("anetrain.commands.bench", "measure what a device does: values first, then times"),
    "info": Command("anetrain.info", "what this machine offers, and which device is chosen"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # names of files, and texts, may hold what a terminal's encoding cannot
            stream.reconfigure(errors="backslashreplace")
    given = list(sys.argv[1:] if arguments is None else arguments)
    name = given[0] if given else "--help"
    if name in ("-h", "--help"):
        print("usage: anetrain COMMAND [-h] ...\n")
        print("\n".join(f"  {name:8} {command.what}" for name, command in COMMANDS.items()))
        print("\nanetrain --version says which one this is. Example: anetrain train configs/laptop.yaml")
        return 0
    if name == "--version":
        print(f"anetrain {importlib.import_module('anetrain.device').version()}")
        return 0
    if name not in COMMANDS:
        print(f"anetrain: no command {name!r}; there are {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        code: int = importlib.import_module(COMMANDS[name].module).main(given[1:])
    except KeyboardInterrupt:  # while modules are imported; then commands see to it themselves
        print(f"anetrain {name}: interrupted", file=sys.stderr)
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
