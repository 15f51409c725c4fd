"""Formats C, C++ and Objective-C with clang-format 19, or checks that they are formatted.

Example:
    python scripts/format.py            # rewrite what is not formatted
    python scripts/format.py --check    # list it and exit with 1
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUFFIXES = {".c", ".h", ".cpp", ".m", ".inc"}


def sources() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "csrc", "scripts"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [ROOT / line for line in listed.stdout.splitlines() if Path(line).suffix in SUFFIXES]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 when a file is not formatted")
    arguments = parser.parse_args()
    tool = shutil.which("clang-format-19") or shutil.which("clang-format")
    if tool is None:
        print("format: clang-format 19 is not installed (Debian: clang-format-19; PyPI: clang-format==19.*)")
        return 1
    mode = ["--dry-run", "--Werror"] if arguments.check else ["-i"]
    return subprocess.run([tool, *mode, *map(str, sources())]).returncode


if __name__ == "__main__":
    sys.exit(main())
