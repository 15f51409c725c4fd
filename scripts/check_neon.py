"""Cross-compiles all native sources for arm64 Linux, warnings being errors, and runs the tests of NEON there.

An emulated CPU runs them, so the tests of NEON are complete but the random ones fewer. Needs aarch64-linux-gnu-g++ and
qemu-aarch64-static (Debian: g++-aarch64-linux-gnu, qemu-user-static).

Example:
    python scripts/check_neon.py
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = "aarch64-linux-gnu"
EMULATOR = ["qemu-aarch64-static", "-L", f"/usr/{TARGET}"]
TOOLS = (f"{TARGET}-gcc", f"{TARGET}-g++", f"{TARGET}-ar", EMULATOR[0])
# OpenBLAS is not there for arm64: it is compiled against, not linked.
TESTS = ("fp16", "threads", "bits", "bits_base", "audit", "cpu_embedding", "cpu_gemv", "cpu_kernels", "cpu_loss")


def missing_tools() -> list[str]:
    return [tool for tool in TOOLS if shutil.which(tool) is None]


def build(work: Path) -> Path:
    """The test program for arm64; every other native source is compiled, too."""
    cross = {"CC": TOOLS[0], "CXX": TOOLS[1], "AR": TOOLS[2], "ARCHFLAGS": "-arch aarch64"}
    os.environ.update(cross)  # before native_build looks at the machine
    sys.path.insert(0, str(ROOT / "csrc"))
    from native_build import CSRC, Compiler

    compiler = Compiler(work, "test", ["-Werror", "-DFP16_MILLIONS=2"])
    compiler.openblas = None
    return compiler.program(
        "neon_tests", [CSRC / "tests" / f"{name}.cpp" for name in ("main", *map("test_{}".format, TESTS))]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "neon", help="where objects are kept")
    arguments = parser.parse_args()
    if missing := missing_tools():
        print("check_neon needs " + ", ".join(missing), file=sys.stderr)
        return 1
    try:
        program = build(arguments.work)
    except subprocess.CalledProcessError as error:  # the compiler has said why
        return int(error.returncode)
    return subprocess.run([*EMULATOR, str(program)]).returncode


if __name__ == "__main__":
    sys.exit(main())
