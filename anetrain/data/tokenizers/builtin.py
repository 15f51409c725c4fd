"""The tokenizer of the builtin corpus. Its pieces are in builtin.txt, which scripts/make_builtin_tokenizer.py makes."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from anetrain.data.tokenizers.scored import NAMES, ScoredTokenizer

PIECES = Path(__file__).with_name("builtin.txt")
"""Each line is a JSON string; earlier pieces are joined first."""


@cache
def builtin_tokenizer() -> ScoredTokenizer:
    """2 048 pieces. Every text that can be written as UTF-8 comes back as it was."""
    lines = PIECES.read_text(encoding="utf-8").splitlines()
    pieces = [(json.loads(line).encode(), -float(rank)) for rank, line in enumerate(lines)]
    return ScoredTokenizer([*((name, 0.0) for name in NAMES), *pieces], block_is_space=False)
