"""Builds the native sources and csrc/tests/test_*.cpp into one program, under sanitizers, and runs it.

Example:
    python scripts/native_tests.py --sanitize thread --filter threads
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "csrc"))
from native_build import CSRC, Compiler  # noqa: E402

SANITIZERS = ("none", "address", "undefined", "thread")
OPTIONS = {
    "ASAN_OPTIONS": "strict_string_checks=1:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1",
}


def sanitizer_flags(names: list[str]) -> list[str]:
    if names == ["none"]:
        return []
    return ["-O1", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all", f"-fsanitize={','.join(names)}"]


def test_sources(name_part: str) -> list[Path]:
    """The files of the tests that are asked for; all when a test inside a file is meant."""
    sources = sorted((CSRC / "tests").glob("test_*.cpp"))
    return [p for p in sources if name_part.split(".")[0] in p.stem] or sources


def build(sanitizers: list[str], name_part: str, work: Path) -> Path:
    """The test program; only what changed is compiled."""
    tests = [CSRC / "tests" / "main.cpp", *test_sources(name_part)]
    return Compiler(work, "test", sanitizer_flags(sanitizers)).program("native_tests", tests)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sanitize", default="address,undefined", help=f"one or more of {', '.join(SANITIZERS)} (default: %(default)s)"
    )
    parser.add_argument("--filter", default="", help="run only tests whose file.test name contains this")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "native_tests", help="where objects are kept")
    arguments = parser.parse_args()
    sanitizers = sorted(arguments.sanitize.split(","))
    unknown = set(sanitizers) - set(SANITIZERS)
    if unknown or ("none" in sanitizers and len(sanitizers) > 1):
        parser.error(f"--sanitize {arguments.sanitize}: expected none, or some of {', '.join(SANITIZERS[1:])}")
    try:
        program = build(sanitizers, arguments.filter, arguments.work / "-".join(sanitizers))
    except subprocess.CalledProcessError as error:  # the compiler has said why
        return int(error.returncode)
    return subprocess.run([str(program), arguments.filter], env={**OPTIONS, **os.environ}).returncode


if __name__ == "__main__":
    sys.exit(main())
