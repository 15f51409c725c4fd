"""Writes the tables of docs/config.md and configs/config.schema.json, from the classes in anetrain/config.py.

python scripts/config_docs.py            # write them
python scripts/config_docs.py --check    # fail when one is stale
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]
from anetrain.config import json_schema, tables  # noqa: E402

PAGE = ROOT / "docs" / "config.md"
SCHEMA = ROOT / "configs" / "config.schema.json"
MARKS = "<!-- begin of tables: scripts/config_docs.py -->\n", "<!-- end of tables -->"


def page() -> str:
    """The page with the tables between the marks renewed."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARKS[0])
    return before + MARKS[0] + tables() + MARKS[1] + rest.partition(MARKS[1])[2]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only compare; exit 1 when a file is stale")
    check, stale = parser.parse_args().check, 0
    for target, text in ((PAGE, page()), (SCHEMA, json.dumps(json_schema(), indent=1) + "\n")):
        if target.exists() and target.read_text(encoding="utf-8") == text:
            continue
        if check:
            print(f"{target.name} is stale: run python {sys.argv[0]}", file=sys.stderr)
            stale = 1
        else:
            target.write_text(text, encoding="utf-8")
    return stale


if __name__ == "__main__":
    sys.exit(main())
