"""The builtin corpus: short English stories, generated. No download, and the same text on every machine.

story(7)  # the eighth story: it depends on nothing but the number
for text in stories(0, 10_000): ...
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from anetrain.data.corpus.tables import Beat, Plot, tables

VERSION = 1
"""Another one where any story changes; tests/test_data_corpus.py knows a hash of each."""

T = TypeVar("T")
_MASK = (1 << 64) - 1
_HIS = {"he": ("he", "him", "his", "himself"), "she": ("she", "her", "her", "herself")}


def stories(begin: int, end: int) -> Iterator[str]:
    return map(story, range(begin, end))


def story(number: int) -> str:
    """A story of about 200 words in a few paragraphs, with a blank line between them."""
    draw = _Draw(number)
    plot = draw.one(tables().plots)
    scene = _scene(draw, plot)
    paragraphs = (" ".join(filter(None, (_tell(draw, beat, scene) for beat in part))) for part in plot.paragraphs)
    return "\n\n".join(paragraphs)


class _Draw:
    """Random choices by splitmix64: no library's generator, which might change with its version."""

    def __init__(self, number: int) -> None:
        if not 0 <= number <= _MASK:
            raise ValueError(f"story {number}: expected a number from 0 to {_MASK}")
        self._state = self._mix(number ^ 0x5DEECE66D1CE4E5B)

    def one(self, items: Sequence[T]) -> T:
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        return items[self._mix(self._state) * len(items) >> 64]

    def several(self, items: Sequence[T], count: int) -> list[T]:
        left = list(items)
        return [left.pop(self.one(range(len(left)))) for _ in range(count)]

    @staticmethod
    def _mix(value: int) -> int:
        value = ((value ^ value >> 30) * 0xBF58476D1CE4E5B9) & _MASK
        value = ((value ^ value >> 27) * 0x94D049BB133111EB) & _MASK
        return value ^ value >> 31


def _scene(draw: _Draw, plot: Plot) -> dict[str, str]:
    """Who and what the story is about. Values that hold names of others, {h} for example, are filled in, too."""
    lists, records = tables().lists, tables().records
    child = plot.children_only or draw.one(range(3)) > 0
    world = "child" if child else "creature"
    scene = _people(draw, child)
    scene |= draw.one(records["kin"])
    scene["Khe"] = scene["khe"].capitalize()
    place = draw.one(records[f"{world} places"])
    scene["place"] = place["place"]
    scene["spot1"], scene["spot2"], scene["spot3"] = draw.several(place["spots"].split(" | "), 3)
    scene["spot1_begin"] = _capital(scene["spot1"])
    scene["snack"], scene["snack2"] = draw.several(lists["snacks"], 2)
    scene["game"], scene["game2"] = draw.several(lists["games"], 2)
    scene["judge_he"] = draw.one(("he", "she"))
    for key, name in (("thing", "treasures"), ("mover", "movers")):
        scene[key] = draw.one(lists[name if child else f"creature {name}"])
    for key, name in (("weather", "weather"), ("time", "times"), ("season", "seasons"), ("colour", "colours")):
        scene[key] = draw.one(lists[name])
    for key, name in (("look", "looks"), ("rubbish", "rubbish")):
        scene[key] = draw.one(lists[name])
    if plot.table:
        scene |= draw.one(records[plot.table])
    return {name: _fill(value, scene) for name, value in scene.items()}


def _people(draw: _Draw, child: bool) -> dict[str, str]:
    """Hero and friend: two children, or two animals of different kinds."""
    lists = tables().lists
    he, fhe = draw.one(("he", "she")), draw.one(("he", "she"))
    if child:
        names = {"he": lists["boys"], "she": lists["girls"]}
        hero = draw.one(names[he])
        friend = draw.one([name for name in names[fhe] if name != hero])
        kinds = ["girl" if who == "she" else "boy" for who in (he, fhe)]
        home = draw.one(lists["child homes"])
    else:
        hero, friend = draw.several(lists["creature names"], 2)
        kinds = draw.several(lists["creatures"], 2)
        home = draw.one(lists["creature homes"])
    scene = {"h": hero, "f": friend, "girl": kinds[0], "fgirl": kinds[1], "home": home, "Home": _capital(home)}
    scene["trait"], scene["trait2"], scene["ftrait"] = draw.several(lists["traits"], 3)
    for prefix, who in (("", he), ("f", fhe)):
        for key, word in zip(("he", "him", "his", "himself"), _HIS[who], strict=True):
            scene[prefix + key] = word
            scene[(prefix + key).capitalize()] = word.capitalize()
    return scene


def _tell(draw: _Draw, beat: Beat, scene: Mapping[str, str]) -> str:
    return _article(_fill(draw.one(beat), scene))


def _fill(text: str, scene: Mapping[str, str]) -> str:
    return text.format_map(scene) if "{" in text else text


def _article(text: str) -> str:
    """a, or an before a vowel or a silent h."""
    return re.sub(r"\b([Aa]) (?=[aeiouAEIOU]|honest)", r"\1n ", text)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
