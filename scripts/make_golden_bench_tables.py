"""Writes tests/golden/bench_tables.txt: the table of every bench, of times that are known.

    python scripts/make_golden_bench_tables.py
    python scripts/make_golden_bench_tables.py --check    # only compare

The times are in tests/bench_tables.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from scripts.generated import write_or_check  # noqa: E402
from tests import bench_tables  # noqa: E402

TARGET = ROOT / "tests" / "golden" / "bench_tables.txt"

if __name__ == "__main__":
    sys.exit(write_or_check(__doc__, TARGET, bench_tables.text))
