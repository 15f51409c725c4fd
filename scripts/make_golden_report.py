"""Writes tests/golden/report.md and report.html: the report of results that are known.

    python scripts/make_golden_report.py
    python scripts/make_golden_report.py --check    # only compare

The results are in tests/report_pages.py.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from anetrain.report import markdown, page  # noqa: E402
from scripts.generated import write_or_check  # noqa: E402
from tests import report_pages  # noqa: E402

GOLDEN = ROOT / "tests" / "golden"
WRITERS = {"report.md": markdown.text_of, "report.html": page.text_of}

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        document = report_pages.document(Path(folder))
    stale = [
        write_or_check(__doc__, GOLDEN / name, lambda writer=writer: writer(document))  # type: ignore[misc]
        for name, writer in WRITERS.items()
    ]
    sys.exit(max(stale))
