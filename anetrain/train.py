"""Trains a model as a config says: `python -m anetrain.train configs/laptop.yaml`, or `anetrain train ...`.

A run has a folder: checkpoints (step-00000100, ...), config.yaml (the config with all its defaults), events.jsonl, and
report.json when it ends.
SIGINT and SIGTERM let the group of micro-steps end, save, and exit with 0 and the command that goes on. `--resume` goes
on as if nothing had been: on the emulator, bit for bit. A process that may not compile what it has to is replaced by a
new one, which resumes (anetrain/restart.py).

Exit codes: 0, done or stopped by a signal; 1, training had to stop (what went wrong is said, and what is saved);
2, something given is wrong, and nothing was written; 130 and 143, SIGINT and SIGTERM before the first update.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from anetrain import files
from anetrain.checkpoint import Checkpoint, CheckpointError, checkpoints, find
from anetrain.checkpoint import load as load_checkpoint
from anetrain.commands.running import find_modules_here, one_line, open_standard_streams
from anetrain.config import Config, ConfigError
from anetrain.config import load as load_config
from anetrain.device import ANEError
from anetrain.errors import BudgetError, CompileError
from anetrain.restart import TRIES, RestartError, Restarts, Signals
from anetrain.run import DONE, RESTART, Asked, Run, Stopped, no_memory

STOPPED, REFUSED, INTERRUPTED = 1, 2, 128  # and the number of the signal


def main(arguments: Sequence[str] | None = None) -> int:
    open_standard_streams()
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    find_modules_here()
    restarts: Restarts | None = None
    with Signals() as signals:
        try:
            restarts = Restarts(given, os.environ)
            if restarts.before is not None:
                signals.listen()  # what came since the process before this one is not lost
            code = _train(options, restarts, signals)
            if code == RESTART:
                restarts.go_on(signals)
                code = DONE
                _leave_bar()
                print(f"stopped by {signals.name}. To go on:\n  {_command(options, restarts.folder)}", flush=True)
        except RestartError as error:
            _leave_bar()
            return _say_failure(error, options, restarts.folder if restarts else None)
        return code


def _train(options: argparse.Namespace, restarts: Restarts, signals: Signals) -> int:
    with ExitStack() as stack:
        try:
            run = Run(_asked(options), stack, restarts, signals, files.cache_folder(os.environ))
            signals.listen()
        except (ValueError, TypeError, OSError, MemoryError, CheckpointError, ANEError) as error:
            return _not_begun(error, options, restarts)
        except KeyboardInterrupt:
            what = "nothing was saved" if options.resume is None else "what was saved before is as it was"
            print(
                f"anetrain train: stopped by {signals.name or 'SIGINT'} before the first update: {what}",
                file=sys.stderr,
            )
            return INTERRUPTED + (signals.number or signal.SIGINT)
        try:
            return run.train()
        except Stopped as stopped:
            run.progress.close()
            for other in stopped.errors[:-1]:
                print(f"anetrain train: {one_line(other)}", file=sys.stderr)
            return _say_failure(stopped.errors[-1], options, run.folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="anetrain train",
        description="Train a model as a config says.",
        epilog="docs/config.md lists all settings. Example: anetrain train configs/laptop.yaml --set optim.lr=1e-3",
    )
    parser.add_argument("config", type=Path, metavar="CONFIG", help="a YAML file, such as configs/laptop.yaml")
    parser.add_argument("--steps", type=int, metavar="N", help="stop after N more updates; the schedule stays as it is")
    parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        metavar="DIR",
        help="go on from the last checkpoint of the run's folder, or from that of DIR",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="the run's folder (runs/ and the config's name)")
    parser.add_argument("--data", metavar="PATH", help="train on this: data.path, without fallback")
    parser.add_argument("--device", metavar="KIND", help="auto, ane, emulator or emulator:PROFILE: device.kind")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change the config")
    return parser


def _asked(options: argparse.Namespace) -> Asked:
    begin = time.perf_counter()
    config, checkpoint = _config_of(options), _checkpoint_of(options)
    folder = _folder_of(options, checkpoint)
    return Asked(config, checkpoint, folder, options.steps, _command(options, folder), begin)


def _config_of(options: argparse.Namespace) -> Config:
    changes = []
    if options.data is not None:
        changes += [f"data.path={_quoted(options.data)}", "data.validation=null", "data.fallback=null"]
    if options.device is not None:
        changes.append(f"device.kind={_quoted(options.device)}")
    changes += options.set
    return load_config(options.config, changes)


def _quoted(text: str) -> str:
    """As YAML, whatever is in it."""
    return "'" + text.replace("'", "''") + "'"


def _leave_bar() -> None:
    """The next line is one of its own: a process that is replaced leaves its bar to the next one."""
    if sys.stderr.isatty():
        print(file=sys.stderr)


def _not_begun(error: Exception, options: argparse.Namespace, restarts: Restarts) -> int:
    """In the first process, what was given is wrong. In a later one a compiler that fails is tried again."""
    before = restarts.before
    if isinstance(error, MemoryError):
        error = RuntimeError(no_memory(error, "the model and its programs"))
    if before is None:
        print(f"anetrain train: {one_line(error)}", file=sys.stderr)
        return REFUSED
    _leave_bar()
    folder, tries = Path(options.resume), restarts.tries(before.update)
    if isinstance(error, BudgetError | CompileError) and tries <= TRIES:
        print(f"{one_line(error)}; a new process goes on (try {tries} of {TRIES})", file=sys.stderr)
        restarts.plan(replace(before, tries=tries), folder)
        return RESTART
    what = f"{one_line(error)}. This process was to go on after update {before.update}: {before.reason}"
    return _say_failure(RestartError(what), options, folder)


def _say_failure(error: Exception, options: argparse.Namespace, folder: Path | None) -> int:
    print(f"anetrain train: {one_line(error)}", file=sys.stderr)
    last = checkpoints(folder)[-1:] if folder else []
    if last:
        print(f"The last checkpoint is {last[0]}. To go on:\n  {_command(options, folder)}", file=sys.stderr)
    elif folder:
        print("Nothing was saved", file=sys.stderr)
    return STOPPED


def _command(options: argparse.Namespace, folder: Path | None) -> str:
    """That goes on."""
    command = [sys.executable, "-m", "anetrain.train", str(options.config), "--resume", str(folder)]
    for name in ("data", "device"):
        if getattr(options, name) is not None:
            command += [f"--{name}", getattr(options, name)]
    for change in options.set:
        command += ["--set", change]
    return shlex.join(command)


# ---------------------------------------------------------------- resuming


def _checkpoint_of(options: argparse.Namespace) -> Checkpoint | None:
    if options.resume is None:
        return None
    return load_checkpoint(find(_default_folder(options) if options.resume is True else Path(options.resume)))


def _default_folder(options: argparse.Namespace) -> Path:
    folder: Path = options.out or Path("runs") / options.config.stem
    return folder


def _folder_of(options: argparse.Namespace, checkpoint: Checkpoint | None) -> Path:
    """The one of the checkpoint, unless another is asked for; one with a run in it is not begun anew."""
    if checkpoint is not None and options.out is None:
        return checkpoint.path.parent
    folder = _default_folder(options)
    if checkpoint is None and folder.is_dir() and (found := checkpoints(folder)):
        raise ConfigError(
            f"{folder} has a run already ({found[-1].name}): go on with --resume, or choose another --out"
        )
    return folder


if __name__ == "__main__":
    sys.exit(main())
