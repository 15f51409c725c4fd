"""Writes tests/golden/bench_weights.txt: the tables of the benches sram, int8 and quant, of times that are known.

    python scripts/make_golden_bench_weights.py
    python scripts/make_golden_bench_weights.py --check    # only compare

The times are in tests/bench_weight_tables.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from scripts.generated import write_or_check  # noqa: E402
from tests import bench_weight_tables  # noqa: E402

TARGET = ROOT / "tests" / "golden" / "bench_weights.txt"

if __name__ == "__main__":
    sys.exit(write_or_check(__doc__, TARGET, bench_weight_tables.text))
