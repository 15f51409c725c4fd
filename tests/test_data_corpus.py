"""The builtin corpus and its tokenizer: the same everywhere, English that holds together, every text comes back."""

from __future__ import annotations

import hashlib
import math
import re
import subprocess
import sys
from collections import Counter
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest

from anetrain.data import corpus
from anetrain.data.builtin import FIRST_HELD_OUT, builtin_tokens
from anetrain.data.corpus import VERSION, stories, story
from anetrain.data.corpus.tables import tables
from anetrain.data.shards import document_starts
from anetrain.data.tokenizers import builtin_tokenizer
from tests.test_data_tokenizers import fuzz

ROOT = Path(__file__).parents[1]

GOLDEN = {
    1: (
        "81f44704b328aaecfd5b59a0fd05b9fa3ad5680a1e18c4774e4c12fdc94cbf86",
        "4342b5546395912c4c77319d443a67f03e88087131ee77368bbf56ab4905e9bd",
    )
}
"""By version: SHA-256 of stories 0 to 999, and of the tokenizer."""


def test_stories_and_tokenizer_are_those_of_their_version() -> None:
    text = "\0".join(stories(0, 1000))
    assert (hashlib.sha256(text.encode()).hexdigest(), builtin_tokenizer().hash) == GOLDEN[VERSION]


def test_a_story_depends_on_its_number_alone() -> None:
    numbers = [7, 0, 123_456_789, 2**64 - 1, 7]
    told = [story(number) for number in numbers]
    assert told[0] == told[-1]
    assert [*stories(5, 9)][2] == told[0]
    for number in (-1, 2**64):
        with pytest.raises(ValueError, match=f"story {number}"):
            story(number)


def test_stories_differ() -> None:
    texts = list(stories(0, 3000))
    assert len(set(texts)) == 3000
    words = Counter(word for text in texts for word in re.findall(r"[a-z']+", text.lower()))
    assert len(words) > 1200
    sizes = [len(text.split()) for text in texts]
    assert min(sizes) > 100
    assert max(sizes) < 300


def test_every_sentence_is_whole() -> None:
    for text in stories(0, 2000):
        assert not re.search(r"[{}|@]|  |\.\.|,,| [.,!?]|^- ", text, re.MULTILINE), text
        for paragraph in text.split("\n\n"):
            assert re.fullmatch(r'["A-Z].*[.!?"]', paragraph), paragraph
            assert paragraph.count('"') % 2 == 0, paragraph
            for begin in re.findall(r'[.!?] "?(\w)', paragraph.replace('!" ', "").replace('?" ', "")):
                assert begin.isupper(), paragraph


def test_articles() -> None:
    text = " ".join(stories(0, 1500))
    assert not re.findall(r"\b[Aa] (?:[aeiou]|hour|honest)\w*", text)
    assert not re.findall(r"\b[Aa]n (?!honest|hour)[^aeiou]\w*", text)


def test_everything_can_be_told() -> None:
    """Each variant of each plot with each of its records, for children and for animals."""
    for plot in tables().plots:
        records = tables().records[plot.table] if plot.table else [{}]
        for number, record in product(range(4), records):
            scene = corpus._scene(corpus._Draw(number), plot)
            scene |= {name: corpus._fill(value, scene) for name, value in record.items()}
            for beat in (beat for paragraph in plot.paragraphs for beat in paragraph):
                assert beat
                for variant in beat:
                    assert "{" not in corpus._fill(variant, scene)


def test_pronouns_are_those_of_the_persons() -> None:
    seen = 0
    for number in range(2000):
        draw = corpus._Draw(number)
        scene = corpus._scene(draw, draw.one(tables().plots))
        persons = {scene[key] for key in ("he", "fhe", "khe", "judge_he")}
        if len(persons) == 1:
            seen += 1
            other = r"\b(he|him|his|himself)\b" if persons == {"she"} else r"\b(she|her|herself)\b"
            assert not re.search(other, story(number), re.IGNORECASE), story(number)
    assert seen > 100


def test_the_story_in_the_documentation() -> None:
    quoted = "\n".join("> " + line if line else ">" for line in story(7).split("\n"))
    assert quoted in (ROOT / "docs" / "data.md").read_text(encoding="utf-8")


# ---------------------------------------------------------------- the tokenizer


def test_every_text_comes_back() -> None:
    tokenizer = builtin_tokenizer()
    for text in [*fuzz(500), "a\u2581b", *stories(0, 200), "".join(map(chr, range(0x250)))]:
        ids = tokenizer.encode(text, bos=True, eos=True)
        assert tokenizer.decode(ids) == text
        assert max(ids) < tokenizer.vocab == 2048


def test_tokens_of_the_stories() -> None:
    heard: list[tuple[int, int]] = []
    train, validation = builtin_tokens(300, 20, progress=lambda *at: heard.append(at))
    assert heard == [(250, 320), (320, 320)]
    tokenizer = builtin_tokenizer()
    for tokens, begin, count in ((train, 0, 300), (validation, FIRST_HELD_OUT, 20)):
        starts = [*document_starts(tokens, tokenizer.document_start), len(tokens)]
        assert tokens.dtype == np.uint16
        assert [tokenizer.decode(tokens[at:end]) for at, end in pairwise(starts)] == [*stories(begin, begin + count)]
    for sizes in ((0, 1), (1, 0), (2**32 + 1, 1)):
        with pytest.raises(ValueError, match="stories; expected 1 to"):
            builtin_tokens(*sizes)


def test_words_of_stories_are_mostly_one_piece() -> None:
    tokenizer = builtin_tokenizer()
    texts = list(stories(10_000, 10_500))
    tokens = sum(len(tokenizer.encode(text)) for text in texts)
    words = sum(len(re.findall(r"\w+|[^\w\s]|\n+", text)) for text in texts)
    assert tokens < 1.1 * words


def test_the_entropy_in_the_documentation() -> None:
    """docs/data.md says what a model that knows only the frequency of tokens would reach."""
    tokenizer = builtin_tokenizer()
    counts = Counter(token for text in stories(0, 2000) for token in tokenizer.encode(text, bos=True))
    share = np.array(list(counts.values())) / sum(counts.values())
    entropy = -float(np.sum(share * np.log(share)))
    said = re.search(r"unigram entropy[^.]*?(\d\.\d+) nats", (ROOT / "docs" / "data.md").read_text(encoding="utf-8"))
    assert said
    assert math.isclose(entropy, float(said[1]), abs_tol=0.02)


def test_the_pieces_are_those_of_the_script() -> None:
    subprocess.run([sys.executable, ROOT / "scripts" / "make_builtin_tokenizer.py", "--check"], check=True, cwd=ROOT)
