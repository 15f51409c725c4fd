"""The report's page in a browser: it opens without a complaint, nothing is asked of a network, and it can be seen."""

from __future__ import annotations

import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from anetrain.report import build, page
from tests.support import need

GOLDEN = Path(__file__).resolve().parent / "golden" / "report.html"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--log-level=0",
)
SIZE = (900, 1200)
DARK, LIGHT = "--blink-settings=preferredColorScheme=0", "--blink-settings=preferredColorScheme=1"


def browse(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    need(shutil.which("chromium"), "chromium, to open the page (apt-get install chromium)")
    command = ["chromium", *FLAGS, f"--user-data-dir={folder / 'browser'}", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)


def picture(folder: Path, *words: str) -> npt.NDArray[np.uint8]:
    """Of the page's top, as pixels."""
    target = folder / "page.png"
    size = f"--window-size={SIZE[0]},{SIZE[1]}"
    browse(folder, size, f"--screenshot={target}", *words, GOLDEN.as_uri())
    return pixels(target.read_bytes())  # [height, width, channels]


def pixels(png: bytes) -> npt.NDArray[np.uint8]:
    """Of a PNG with 8 bits a channel, as browsers write it."""
    place, data, width, height, channels = 8, b"", 0, 0, 0
    while place < len(png):
        size, kind = struct.unpack(">I4s", png[place : place + 8])
        content = png[place + 8 : place + 8 + size]
        if kind == b"IHDR":
            width, height, bits, colours = struct.unpack(">IIBB", content[:10])
            assert bits == 8
            channels = {2: 3, 6: 4}[colours]
        data += content if kind == b"IDAT" else b""
        place += size + 12
    lines = np.frombuffer(zlib.decompress(data), np.uint8).reshape(height, 1 + width * channels)
    found = np.zeros((height, width * channels), np.uint8)
    before = np.zeros(width * channels, np.uint8)
    for number, line in enumerate(lines):
        before = found[number] = _unfiltered(line[0], line[1:], before, channels)
    return found.reshape(height, width, channels)


def _unfiltered(
    kind: int, line: npt.NDArray[np.uint8], above: npt.NDArray[np.uint8], step: int
) -> npt.NDArray[np.uint8]:
    if kind == 0:
        return line
    if kind == 1:
        return np.cumsum(line.reshape(-1, step), axis=0, dtype=np.uint8).reshape(-1)
    if kind == 2:
        return line + above
    values, over = line.tolist(), above.tolist()
    for place, value in enumerate(values):
        left, corner = (values[place - step], over[place - step]) if place >= step else (0, 0)
        up = over[place]
        if kind == 3:
            guess = (left + up) // 2
        else:
            sum_ = left + up - corner
            guess = min((left, up, corner), key=lambda one: abs(sum_ - one))
        values[place] = (value + guess) & 255
    return np.array(values, np.uint8)


def complaints(log: str) -> list[str]:
    """What a page's console says goes to the log as CONSOLE."""
    return [line for line in log.splitlines() if "CONSOLE" in line]


def test_it_opens_without_a_complaint(tmp_path: Path) -> None:
    seen = browse(tmp_path, "--dump-dom", GOLDEN.as_uri())
    assert f"<title>{build.TITLE}</title>" in seen.stdout
    assert seen.stdout.count("<svg") == GOLDEN.read_text(encoding="utf-8").count("<svg")
    assert "M4 Pro · measured: run 2" in seen.stdout
    assert not complaints(seen.stderr)


def test_a_complaint_would_be_seen(tmp_path: Path) -> None:
    """The page's policy lets no picture be loaded, and the browser says so."""
    bad = tmp_path / "bad.html"
    html = GOLDEN.read_text(encoding="utf-8")
    bad.write_text(html.replace("<main>", '<main><img src="https://example.org/x.png">'), encoding="utf-8")
    said = complaints(browse(tmp_path, "--dump-dom", bad.as_uri()).stderr)
    assert any("Content Security Policy" in line for line in said)


@pytest.mark.parametrize(("scheme", "light"), [(LIGHT, True), (DARK, False)], ids=["light", "dark"])
def test_it_can_be_seen(scheme: str, light: bool, tmp_path: Path) -> None:
    """Not blank: paper of the scheme's brightness, and ink on it in every quarter of the picture's height."""
    found = picture(tmp_path, scheme)[:, :, :3].astype(int).mean(axis=2)  # [height, width]
    assert found.shape == (SIZE[1], SIZE[0])
    paper = float(np.median(found))
    assert paper > 240 if light else paper < 40
    ink = np.abs(found - paper) > 100
    assert all(quarter.mean() > 0.005 for quarter in np.split(ink, 4))
    assert ink.mean() < 0.4


def test_the_page_asks_for_nothing() -> None:
    assert page.POLICY.startswith("default-src 'none'")
    assert page.POLICY in GOLDEN.read_text(encoding="utf-8")
