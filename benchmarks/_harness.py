"""Ratios between our code and a named peer, measured in one run: ours, peer, ours, peer, ...

A row is one function that prepares and returns what is timed:

    @rows.add("fp32 -> fp16, 512 K", peer="numpy astype", at_least=12)
    def half() -> Pair:
        x = np.ones(2**19, np.float32)
        return (lambda: cpu.to_half(x)), (lambda: x.astype(np.float16))

Each side lives in a process of its own, made anew for the row, so that neither side's threads or caches belong to the
other. Before a side is timed the other one has been idle long enough for its threads to sleep.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

Timed = Callable[[], object]
Pair = tuple[Timed, Timed]  # ours, the peer's

THREADS = 2
PAIRS = 10
TURN_S = 0.02  # a turn repeats its call for about this long
REST_S = 0.15  # OpenBLAS's threads spin for about 100 ms after their work, into the other's turn
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Deferred:
    """Set up at its first call, the warm-up, in the process that times it: for sides too large to have both there."""

    def __init__(self, make: Callable[[], Timed]) -> None:
        self.make = make
        self.call: Timed | None = None

    def __call__(self) -> object:
        if self.call is None:
            self.call = self.make()
        return self.call()


@dataclass(frozen=True)
class Row:
    """`prepare` returns ours and the peer's; without a peer, ours alone."""

    name: str
    prepare: Callable[[], Pair | Timed]
    peer: str | None
    at_least: float | None  # the peer's time over ours
    at_most_s: float | None  # our time
    pairs: int


@dataclass(frozen=True)
class Turn:
    """Seconds per call among the calls of one turn."""

    shortest_s: float
    median_s: float


def shortest(turns: Sequence[Turn]) -> float:
    return min(turn.shortest_s for turn in turns)


def median(turns: Sequence[Turn]) -> float:
    return statistics.median(turn.median_s for turn in turns)


@dataclass(frozen=True)
class Result:
    name: str
    peer: str | None
    turns: list[Turn] = field(repr=False)
    peer_turns: list[Turn] = field(repr=False)
    at_least: float | None
    at_most_s: float | None

    def ratio(self, of: Callable[[Sequence[Turn]], float]) -> float | None:
        """How many times faster ours is, by minima (`shortest`) or by medians (`median`)."""
        return of(self.peer_turns) / of(self.turns) if self.peer_turns else None

    @property
    def holds(self) -> bool:
        """By minima: on a shared machine they are what the code does, not what its neighbours do."""
        ratio = self.ratio(shortest)
        fast_enough = self.at_least is None or (ratio is not None and ratio >= self.at_least)
        return fast_enough and (self.at_most_s is None or shortest(self.turns) <= self.at_most_s)


class Rows:
    """The rows of one benchmark module; `module` is how the sides' processes import it."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.rows: list[Row] = []

    def add(
        self,
        name: str,
        *,
        peer: str | None = None,
        at_least: float | None = None,
        at_most_s: float | None = None,
        pairs: int = PAIRS,
    ) -> Callable[[Callable[[], Pair | Timed]], Callable[[], Pair | Timed]]:
        """Makes a row of a function; `at_least` and `at_most_s` are its floors."""

        def register(prepare: Callable[[], Pair | Timed]) -> Callable[[], Pair | Timed]:
            self.rows.append(Row(name, prepare, peer, at_least, at_most_s, pairs))
            return prepare

        return register


# --- A side: a process that times its call whenever it is told to ---


def serve(connection: Connection, module: str, index: int, side: int) -> None:
    from anetrain import cpu

    cpu.set_threads(THREADS)
    row: Row = importlib.import_module(module).rows.rows[index]
    prepared = row.prepare()
    call = prepared[side] if isinstance(prepared, tuple) else prepared
    call()  # warm-up: pages, caches, threads, first-use set-up
    connection.send("ready")
    while connection.recv():
        call()
        connection.send(timed(call))


def timed(call: Timed) -> Turn:
    times_s: list[float] = []
    while sum(times_s) < TURN_S:
        begin = time.perf_counter()
        call()
        times_s.append(time.perf_counter() - begin)
    return Turn(min(times_s), statistics.median(times_s))


class Side:
    def __init__(self, module: str, index: int, side: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, module, index, side), daemon=True)
        self.process.start()
        theirs.close()  # so that its end is noticed
        self.connection.recv()

    def time(self) -> Turn:
        time.sleep(REST_S)
        self.connection.send(True)
        turn: Turn = self.connection.recv()
        return turn

    def close(self) -> None:
        self.connection.send(False)
        self.process.join()


@contextmanager
def thread_limits() -> Iterator[None]:
    """The environment the sides are born with."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(THREADS)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def measure(rows: Rows, index: int, most_pairs: int) -> Result:
    row = rows.rows[index]
    ours: list[Turn] = []
    peer: list[Turn] = []
    with thread_limits():
        sides = [(Side(rows.module, index, 0), ours)]
        if row.peer is not None:
            sides.append((Side(rows.module, index, 1), peer))
    for _ in range(min(row.pairs, most_pairs)):
        for side, turns in sides:
            turns.append(side.time())
    for side, _ in sides:
        side.close()
    return Result(row.name, row.peer, ours, peer, row.at_least, row.at_most_s)


# --- Reports ---


def duration(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def table_line(result: Result) -> str:
    ratios = [f"{r:.3g}" if (r := result.ratio(of)) is not None else "" for of in (shortest, median)]
    floor = f">= {result.at_least:g}" if result.at_least is not None else ""
    if result.at_most_s is not None:
        floor += f" <= {duration(result.at_most_s)}"
    cells = [
        f"{result.name:44}",
        f"{duration(shortest(result.turns)):>9}",
        f"{duration(shortest(result.peer_turns)) if result.peer_turns else '':>9}",
        f"{ratios[0]:>7}",
        f"{ratios[1]:>7}",
        f"{floor.strip():>10}",
        "" if result.holds else "MISSED",
        f"[{result.peer}]" if result.peer else "",
    ]
    return "  ".join(cells).rstrip()


TABLE_HEAD = f"{'':44}  {'ours':>9}  {'peer':>9}  {'by min':>7}  {'by med':>7}  {'floor':>10}"


def machine() -> dict[str, object]:
    import numpy as np

    from anetrain import cpu
    from anetrain.results import this_machine

    return {
        "cpu": this_machine().processor,
        "cpus": os.cpu_count(),
        "features": cpu.cpu_features(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": cpu.blas_name(),
        "threads": THREADS,
        "environment": {name: value for name, value in sorted(os.environ.items()) if name.startswith("OPENBLAS_")},
    }


def write_json(path: Path, results: list[Result]) -> None:
    from anetrain.results.machine import commit

    report = {
        "command": " ".join([Path(sys.executable).name, *sys.argv]),
        "commit": commit(),
        "machine": machine(),
        "rows": [
            {
                **asdict(r),
                "ratio_of_minima": r.ratio(shortest),
                "ratio_of_medians": r.ratio(median),
                "holds": r.holds,
            }
            for r in results
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")


def main(rows: Rows, description: str | None, default_json: Path) -> int:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--filter", default="", help="only rows whose name contains this")
    parser.add_argument("--json", type=Path, default=default_json, help="where the figures go (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a floor is missed")
    parser.add_argument(
        "--pairs", type=int, default=PAIRS, help="at most so many turns a side; fewer than 10 only try it"
    )
    arguments = parser.parse_args()
    if arguments.pairs < 1 or (arguments.check and arguments.pairs < PAIRS):
        parser.error(f"--pairs {arguments.pairs}: at least 1, and at least {PAIRS} with --check")
    chosen = [i for i, row in enumerate(rows.rows) if arguments.filter in row.name]
    if not chosen:
        parser.error(f"--filter {arguments.filter}: no row has that in its name; rows: {[r.name for r in rows.rows]}")
    print(TABLE_HEAD)
    results = []
    for index in chosen:
        results.append(measure(rows, index, arguments.pairs))
        print(table_line(results[-1]), flush=True)
    write_json(arguments.json, results)
    missed = [result.name for result in results if not result.holds]
    if missed:
        print(f"{len(missed)} of {len(results)} floors missed: {', '.join(missed)}")
    return 1 if missed and arguments.check else 0
