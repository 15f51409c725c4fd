"""Makes anetrain/data/tokenizers/builtin.txt from the builtin corpus by byte pair encoding.

The pair of neighbouring pieces that is most frequent becomes a piece, again and again; of equally frequent pairs the
first in the alphabet. So the file follows from the stories alone.

python scripts/make_builtin_tokenizer.py            # write it
python scripts/make_builtin_tokenizer.py --check    # fail when it is stale
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]
from anetrain.data.corpus import stories  # noqa: E402
from anetrain.data.tokenizers.builtin import PIECES  # noqa: E402
from anetrain.data.tokenizers.scored import FIRST_TEXT  # noqa: E402
from scripts.generated import write_or_check  # noqa: E402

STORIES, VOCAB = 4000, 2048
WORD = re.compile(r" ?[A-Za-z]+|\n+| ?[^A-Za-z\s]")

Pair = tuple[str, str]


def generate() -> str:
    counts = Counter(word for text in stories(0, STORIES) for word in WORD.findall(" " + text))
    return "".join(json.dumps(piece) + "\n" for piece in train(counts, VOCAB - FIRST_TEXT))


def train(counts: Counter[str], size: int) -> list[str]:
    """Characters first, then joined pieces in the order in which they are found."""
    words = [(list(word), count) for word, count in sorted(counts.items())]
    pieces = sorted({character for word in counts for character in word})
    totals: Counter[Pair] = Counter()
    places: defaultdict[Pair, set[int]] = defaultdict(set)
    for at in range(len(words)):
        count_pairs(words[at], at, totals, places)
    while len(pieces) < size:
        best = min(totals, key=lambda pair: (-totals[pair], pair))
        pieces.append("".join(best))
        for at in sorted(places[best]):
            parts, count = words[at]
            count_pairs((parts, -count), at, totals, places)
            words[at] = join(parts, best), count
            count_pairs(words[at], at, totals, places)
    return pieces


def count_pairs(
    word: tuple[list[str], int], at: int, totals: Counter[Pair], places: defaultdict[Pair, set[int]]
) -> None:
    parts, count = word
    for pair in pairwise(parts):
        totals[pair] += count
        places[pair].add(at)


def join(parts: list[str], pair: Pair) -> list[str]:
    joined: list[str] = []
    for part in parts:
        if joined and (joined[-1], part) == pair:
            joined[-1] += part
        else:
            joined.append(part)
    return joined


if __name__ == "__main__":
    sys.exit(write_or_check(__doc__, PIECES, generate))
