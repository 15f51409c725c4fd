"""Draws docs/images/report.png: the top of a report's page, of results that the emulated ANE gives in seconds.

    python scripts/make_report_picture.py
    python scripts/make_report_picture.py --out picture.png

It takes chromium. There is no --check: an emulator's times differ from run to run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from anetrain import cli  # noqa: E402

WIDTH, HEIGHT, SCALE = 1100, 1640, 0.7
MEASURED = (
    ("bench", "peak", "--scale", "small", "--device", "emulator:m4"),
    ("probe", "dialects", "--device", "emulator:m1"),
)
BROWSER = (
    *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--blink-settings=preferredColorScheme=1", f"--force-device-scale-factor={SCALE}"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images" / "report.png")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [str(folder / f"{words[0]}.json") for words in MEASURED]
        for words, file in zip(MEASURED, files, strict=True):
            if cli.main([*words, "--out", file]):
                return 1
        page = folder / "report.html"
        if cli.main(["report", *files, "--out", str(page)]):
            return 1
        size = f"--window-size={WIDTH},{HEIGHT}"
        command = [
            *BROWSER,
            f"--user-data-dir={folder / 'browser'}",
            size,
            f"--screenshot={options.out.resolve()}",
            page.as_uri(),
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=240)
    print(f"written: {options.out}, {options.out.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
