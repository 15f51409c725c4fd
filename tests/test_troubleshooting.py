"""docs/troubleshooting.md quotes messages that the program really has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
MESSAGES = [
    line
    for block in re.findall(r"^```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
    if line
]
HOLE = "\0"  # what a message fills in


@cache
def literals() -> str:
    """Every text of the source, a line each."""
    found: list[str] = []
    for path in [*(ROOT / "anetrain").rglob("*.py"), ROOT / "csrc" / "native_build.py"]:
        found += python_texts(ast.parse(path.read_text(encoding="utf-8")))
    for path in (ROOT / "csrc" / "device").rglob("*"):
        if path.suffix in (".c", ".cpp", ".m", ".h"):
            found += c_texts(path.read_text(encoding="utf-8"))
    return "\n".join(text.replace("\n", " ") for text in found)


def python_texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else HOLE for part in node.values)  # type: ignore[misc]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def c_texts(code: str) -> Iterator[str]:
    for pieces in re.findall(r'(?:"(?:[^"\\\n]|\\.)*"\s*)+', code):
        text = "".join(re.findall(r'"((?:[^"\\\n]|\\.)*)"', pieces)).replace('\\"', '"')
        yield re.sub(r"%[-0-9.*]*[a-z]+", HOLE, text)


def test_there_are_messages() -> None:
    assert len(MESSAGES) > 30


@pytest.mark.parametrize("message", MESSAGES)
def test_the_program_has_the_message(message: str) -> None:
    parts = [part for part in message.split("...") if part.strip()]
    assert sum(map(len, parts)) >= 10, "too short to be a message"
    # A quotation begins and ends anywhere in a message; what stands for `...` is filled in, or written out there.
    pattern = r"[^\n]*?".join(rf"{re.escape(part.strip())}" for part in parts)
    assert re.search(pattern, literals()), message


def test_a_message_that_nothing_prints_is_found() -> None:
    with pytest.raises(AssertionError):
        test_the_program_has_the_message("the engine is ... tired today")
