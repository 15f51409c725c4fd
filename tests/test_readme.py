"""The Python of the README runs, and a model of one's own learns."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.support import emulator

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "README.md").read_text(encoding="utf-8")
PIECES = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def run(text: str) -> dict[str, Any]:
    """On the emulator, whatever this machine has."""
    names: dict[str, Any] = {"print": lambda *_: None, "emulator": emulator}
    exec(compile(text.replace('anetrain.device.open("auto")', "emulator()"), "README.md", "exec"), names)
    return names


def test_the_first_program() -> None:
    assert run(PIECES[0])["y"].shape == (1, 32, 1, 128)


def test_a_model_of_ones_own_learns() -> None:
    losses = run(PIECES[1])["losses"]
    assert losses[0] > 1.9  # 8 ids
    assert losses[-1] < 0.5


def test_links_lead_somewhere() -> None:
    """Of all pages: files, and headings of other pages."""
    count = 0
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\(([^)\s:]+)\)", page.read_text(encoding="utf-8")):
            name, _, heading = link.partition("#")
            target = page.parent / name if name else page
            assert target.exists(), f"{page.name}: {link}"
            assert not heading or heading in headings(target), f"{page.name}: {link}"
            count += 1
    assert count > 60


def headings(page: Path) -> set[str]:
    """As links name them."""
    found = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in found}


def test_all_pages_are_listed() -> None:
    for page in sorted((ROOT / "docs").glob("*.md")):
        assert f"(docs/{page.name})" in PAGE, page.name
