"""The code in docs/blocks.md runs, and the blocks written there have right gradients."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.block_runs import run_block, spec
from tests.test_blocks_differences import check

PAGE = Path(__file__).parent.parent / "docs" / "blocks.md"


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """What the page's code defines."""
    names: dict[str, Any] = {}
    pieces = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(pieces) == 4
    for piece in pieces:
        exec(compile(piece, str(PAGE), "exec"), names)
    return names


@pytest.mark.parametrize(("name", "arguments"), [("GatedFFN", ()), ("Wide", (5,)), ("LastTokens", ())])
def test_the_blocks_of_the_page(page: dict[str, Any], name: str, arguments: tuple[int, ...]) -> None:
    run = run_block(page[name](*arguments), spec(dim=12, hidden=13, heads=4, kv_heads=2, head_dim=6, seq=10, batch=2))
    check(run, run.inputs["x"], run.result.gradients["x"], "x")
    for parameter, array in run.parameters.items():
        check(run, array, run.result.parameters[parameter], parameter)


def test_what_the_page_names_exists(page: dict[str, Any]) -> None:
    from anetrain import blocks
    from anetrain.graph import BlockGraph

    text = PAGE.read_text(encoding="utf-8")
    for name in set(re.findall(r"\bg\.(\w+)", text)) - {"spec"}:
        assert hasattr(BlockGraph, name), name
    for name in re.findall(r"^\| `(\w+)\(g", text, re.MULTILINE):
        assert hasattr(blocks, name), name
