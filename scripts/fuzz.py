"""Builds the fuzzers csrc/tests/fuzz_*.cpp with libFuzzer under address and undefined-behaviour sanitizers, and runs
each for a while. A finding is printed with the file that reproduces it, and fails the run.

Example:
    python scripts/fuzz.py --seconds 60
    python scripts/fuzz.py --only mil --reproduce build/fuzz/crash-0123    # run one input and show what happens
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "csrc")]
from native_build import Compiler  # noqa: E402

from scripts.native_tests import OPTIONS  # noqa: E402

TESTS = ROOT / "csrc" / "tests"
FUZZERS = ("mil", "blob")
LONGEST_INPUT = {"mil": 8192, "blob": 2048}  # bytes
FLAGS = ["-O1", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all", "-Wno-unknown-warning-option"]
FLAGS += ["-Wno-deprecated-declarations"]  # clang reads libstdc++'s own headers
LIMITS = ["-timeout=20", "-rss_limit_mb=3000", "-print_final_stats=1", "-verbosity=1"]


def build(name: str, work: Path) -> Path:
    """The fuzzer; objects of the library are shared between fuzzers and kept."""
    flags = [*FLAGS, "-fsanitize=fuzzer-no-link,address,undefined"]
    compiler = Compiler(work, "test", flags)
    return compiler.program(f"fuzz_{name}", [TESTS / f"fuzz_{name}.cpp"], ["-fsanitize=fuzzer"])


def run(program: Path, name: str, seconds: int, seed: int, work: Path) -> int:
    grown = work / f"corpus_{name}"  # what the fuzzer adds; the committed seeds are only read
    grown.mkdir(exist_ok=True)
    seeds = TESTS / "corpus" / name
    dictionary = seeds.with_suffix(".dict")
    command = [str(program), f"-max_total_time={seconds}", f"-max_len={LONGEST_INPUT[name]}", *LIMITS]
    command += [f"-dict={dictionary}"] if dictionary.exists() else []
    command += [f"-seed={seed}", f"-artifact_prefix={work}/", str(grown), str(seeds)]
    print(f"fuzz_{name}: {seconds} s", flush=True)
    with (work / f"fuzz_{name}.log").open("w+") as log:
        status = subprocess.run(command, env={**OPTIONS, **os.environ}, stderr=log, stdout=log).returncode
        log.seek(0)
        lines = log.readlines()
    shown = lines[-120:] if status else [line for line in lines if line.startswith(("Done", "stat::number"))]
    print("".join(shown), end="", flush=True)
    return status


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="how long each fuzzer runs (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="0: a random one (default: %(default)s)")
    parser.add_argument("--only", choices=FUZZERS, help="one fuzzer instead of all")
    parser.add_argument("--reproduce", type=Path, help="an input file to run once; needs --only")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "build" / "fuzz", help="where objects and findings are kept"
    )
    arguments = parser.parse_args()
    if arguments.reproduce and not arguments.only:
        parser.error("--reproduce needs --only: an input belongs to one fuzzer")
    for variable, tool in (("CC", "clang-19"), ("CXX", "clang++-19")):
        if variable not in os.environ:
            if not shutil.which(tool):
                print(f"fuzz: {tool} is not installed (Debian: clang-19, libclang-rt-19-dev); or set {variable}")
                return 1
            os.environ[variable] = tool
    statuses = []
    for name in [arguments.only] if arguments.only else FUZZERS:
        try:
            program = build(name, arguments.work)
        except subprocess.CalledProcessError as error:  # the compiler has said why
            return int(error.returncode)
        if arguments.reproduce:
            return subprocess.run([str(program), str(arguments.reproduce)], env={**OPTIONS, **os.environ}).returncode
        statuses.append(run(program, name, arguments.seconds, arguments.seed, arguments.work))
    return 1 if any(statuses) else 0


if __name__ == "__main__":
    sys.exit(main())
