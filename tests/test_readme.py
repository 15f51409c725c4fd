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
    links = re.findall(r"\]\(([^)#:]+)\)", PAGE)
    assert len(links) > 10
    for link in links:
        assert (ROOT / link).exists(), link


def test_all_pages_are_listed() -> None:
    for page in sorted((ROOT / "docs").glob("*.md")):
        assert f"(docs/{page.name})" in PAGE, page.name
