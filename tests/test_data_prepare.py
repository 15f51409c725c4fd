"""Text becomes shards: every document once, in order, on one side; interrupted or wrong, nothing half is left."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from anetrain.data import prepare as module
from anetrain.data.corpus import story
from anetrain.data.documents import Reading, documents
from anetrain.data.errors import DataError
from anetrain.data.prepare import held_out, prepare
from anetrain.data.shards import document_starts, join, open_tokens, read_info
from anetrain.data.tokenizers import builtin_tokenizer, load, scored

TEXTS = [story(number) for number in range(60)]


def write_txt(path: Path, texts: list[str]) -> Path:
    path.write_text("\n<|endoftext|>\n".join(texts) + "\n", encoding="utf-8")
    return path


def write_jsonl(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"id": 1, "text": text}) + "\n" for text in texts))
    return path


def write_json(path: Path, texts: list[str]) -> Path:
    path.write_text(json.dumps([{"story": "\n\n" + text, "source": "x"} for text in texts]))
    return path


def texts_of(path: Path) -> Iterator[str]:
    tokenizer = builtin_tokenizer()
    tokens = open_tokens(path, vocab=tokenizer.vocab, tokenizer=tokenizer.hash)
    starts = [*document_starts(tokens, tokenizer.document_start), len(tokens)]
    assert starts[0] == 0
    for begin, end in pairwise(starts):
        yield tokenizer.decode(tokens[begin:end])


@pytest.mark.parametrize("workers", [1, 2])
def test_every_document_once(tmp_path: Path, workers: int) -> None:
    sources = [
        write_txt(tmp_path / "a.txt", [*TEXTS[:20], "", "  \n "]),
        write_jsonl(tmp_path / "b.jsonl", [*TEXTS[20:40], ""]),
        write_json(tmp_path / "c.json", TEXTS[40:]),
    ]
    heard: list[tuple[int, int]] = []
    done = prepare(
        sources,
        tmp_path / "out",
        tokenizer=None,
        fraction=0.2,
        workers=workers,
        progress=lambda *at: heard.append(at),
    )
    assert done.validation is not None
    train, validation = list(texts_of(done.train)), list(texts_of(done.validation))
    assert validation == [text for text in TEXTS if held_out(text, 0.2)]
    assert train == [text for text in TEXTS if not held_out(text, 0.2)]
    assert 4 <= len(validation) <= 20
    info = read_info(done.train)
    assert (info.count, info.document_start, info.vocab) == (done.train_tokens, 1, 2048)
    assert read_info(done.validation).count == done.validation_tokens
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["train.bin", "validation.bin"]
    total = sum(source.stat().st_size for source in sources)
    assert heard[-1] == (total, total)
    assert heard == sorted(heard)


def test_without_validation(tmp_path: Path) -> None:
    done = prepare([write_txt(tmp_path / "a.txt", TEXTS)], tmp_path, tokenizer=None, fraction=0)
    assert (done.validation, done.validation_tokens) == (None, 0)
    assert list(texts_of(done.train)) == TEXTS


def test_another_tokenizer(tmp_path: Path) -> None:
    scored.write(tmp_path / "tokenizer.bin", builtin_tokenizer().bin_pieces())
    done = prepare([write_txt(tmp_path / "a.txt", TEXTS)], tmp_path, tokenizer=tmp_path, fraction=0)
    assert read_info(done.train).tokenizer == scored.read(tmp_path / "tokenizer.bin").hash


def test_the_side_follows_from_the_text() -> None:
    texts = [f"text {number}" for number in range(4000)]
    few = {text for text in texts if held_out(text, 0.1)}
    assert 320 < len(few) < 480
    assert few < {text for text in texts if held_out(text, 0.2)}
    assert not any(held_out(text, 0) for text in texts)


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [
        write_txt(tmp_path / f"{name}.txt", TEXTS[at : at + 20]) for at, name in ((0, "a"), (20, "b"), (40, "c"))
    ]
    straight = prepare(sources, tmp_path / "straight", tokenizer=None, fraction=0.2)
    read: list[str] = []

    def failing(source: Path, reading: Reading) -> Iterator[tuple[str, int]]:
        read.append(source.name)
        for number, found in enumerate(documents(source, reading)):
            if source.name == "b.txt" and number == 5 and read.count("b.txt") == 1:
                raise KeyboardInterrupt
            yield found

    monkeypatch.setattr(module, "documents", failing)
    with pytest.raises(KeyboardInterrupt):
        prepare(sources, tmp_path / "out", tokenizer=None, fraction=0.2)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["parts"]
    names = [path.name for path in (tmp_path / "out" / "parts").iterdir()]
    assert all(name.startswith("a-") for name in names)
    (tmp_path / "out" / "parts" / f".{names[0]}.12ab.tmp").write_text("of a run that was killed")
    done = prepare(sources, tmp_path / "out", tokenizer=None, fraction=0.2)
    assert read == ["a.txt", "b.txt", "b.txt", "c.txt"]
    assert done.train.read_bytes() == straight.train.read_bytes()
    assert not (tmp_path / "out" / "parts").exists()


def test_a_run_that_was_interrupted_between_its_two_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_txt(tmp_path / "a.txt", TEXTS)
    straight = prepare([source], tmp_path / "straight", tokenizer=None, fraction=0.2)

    def once(*args: Any, **settings: Any) -> int:
        monkeypatch.setattr(module, "join", failing)
        return join(*args, **settings)

    def failing(*_: Any, **__: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "join", once)
    with pytest.raises(KeyboardInterrupt):
        prepare([source], tmp_path / "out", tokenizer=None, fraction=0.2)
    assert (tmp_path / "out" / "train.bin").exists()
    monkeypatch.setattr(module, "join", join)
    done = prepare([source], tmp_path / "out", tokenizer=None, fraction=0.2)
    assert done.train.read_bytes() == straight.train.read_bytes()
    assert done.validation is not None
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["train.bin", "validation.bin"]


def test_parts_of_another_run_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = write_txt(tmp_path / "a.txt", TEXTS[:9]), tmp_path / "b.txt"
    bad.write_bytes(b"\xff")
    for change in (0.2, 0.3):
        with pytest.raises(DataError, match=r"b\.txt, line 1: byte 0 of the line is 0xff"):
            prepare([good, bad], tmp_path / "out", tokenizer=None, fraction=change)
    assert len(list((tmp_path / "out" / "parts").iterdir())) == 4
    write_txt(good, TEXTS[9:30])
    done = prepare([good], tmp_path / "out", tokenizer=None, fraction=0.3)
    assert list(texts_of(done.train)) == [text for text in TEXTS[9:30] if not held_out(text, 0.3)]


def test_a_tokenizer_learns_from_what_is_not_held_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = [text for text in TEXTS if not held_out(text, 0.5)]
    everything, rest = write_txt(tmp_path / "all.txt", TEXTS), write_txt(tmp_path / "kept.txt", kept)

    def learnt(source: Path, fraction: float) -> str:
        trained = module.train_tokenizer([source], tmp_path / "new", vocab=400, fraction=fraction, overwrite=True)
        return load(trained).hash

    assert learnt(everything, 0.5) == learnt(rest, 0) != learnt(everything, 0)
    monkeypatch.setattr(module, "_TRAINED_ON", len(kept[0]) + 1)
    assert learnt(rest, 0) == learnt(write_txt(tmp_path / "two.txt", kept[:2]), 0)


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    source = write_txt(tmp_path / "a.txt", TEXTS)
    first = prepare([source], tmp_path / "out", tokenizer=None, fraction=0.2)
    before = first.train.read_bytes()
    write_txt(source, TEXTS[:30])
    with pytest.raises(FileExistsError, match=r"train\.bin exists; choose another folder"):
        prepare([source], tmp_path / "out", tokenizer=None)
    assert first.train.read_bytes() == before
    prepare([source], tmp_path / "out", tokenizer=None, fraction=0.2, overwrite=True)
    assert first.train.read_bytes() != before


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"one\ntw\xc3o\n", r"line 2: byte 2 of the line is 0xc3, which is not UTF-8"),
        ("a.txt", b"", r"train\.bin would be empty"),
        ("a.txt", b" \n<|endoftext|>\n\n", r"train\.bin would be empty"),
        ("a.jsonl", b'{"text": "a"}\n{"text": \n', r"line 2: not JSON"),
        ("a.jsonl", b'{"text": "a"}\n{"words": "b"}\n', r"line 2: expected an object with a text as 'text' or 'story'"),
        ("a.jsonl", b'"a"\n', r"line 1: expected an object"),
        ("a.jsonl", b'{"text": 5}\n', r"line 1: expected an object"),
        ("a.jsonl", b'{"text": "\\ud800"}\n', r"document that ends near byte 19: character 0 of the text"),
        ("a.json", b"[", "not JSON"),
        ("a.json", b"{}", "expected a list, found dict"),
        ("a.json", b'[{"text": "a"}, 7]', "record 2: expected an object"),
        ("a.csv", b"", r"ends in \.txt, \.jsonl or \.json"),
    ],
)
def test_what_is_wrong_is_refused(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    source = tmp_path / name
    source.write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        prepare([source], tmp_path / "out", tokenizer=None, fraction=0)
    assert str(tmp_path) in str(caught.value)
    assert not list((tmp_path / "out").glob("*.bin"))


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anetrain.data.documents._LONGEST", 1000)
    with pytest.raises(DataError, match=r"a\.txt, line 1: longer than 1000 bytes"):
        prepare([write_txt(tmp_path / "a.txt", ["x" * 1000])], tmp_path, tokenizer=None)
    short = "short\n" * 100
    with pytest.raises(DataError, match=r"document that begins at line 103 is longer than 1000 characters"):
        prepare([write_txt(tmp_path / "a.txt", [short, short * 2])], tmp_path, tokenizer=None)


def test_bad_settings(tmp_path: Path) -> None:
    source = write_txt(tmp_path / "a.txt", ["only one"])
    with pytest.raises(DataError, match="no source was given"):
        prepare([], tmp_path, tokenizer=None)
    with pytest.raises(DataError, match="there is no such file"):
        prepare([tmp_path / "b.txt"], tmp_path, tokenizer=None)
    with pytest.raises(ValueError, match="fraction is 1"):
        prepare([source], tmp_path, tokenizer=None, fraction=1)
    with pytest.raises(ValueError, match="workers is 0"):
        prepare([source], tmp_path, tokenizer=None, workers=0)
    with pytest.raises(DataError, match=r"validation\.bin would be empty"):
        prepare([source], tmp_path / "out", tokenizer=None, fraction=1e-9)
    assert not (tmp_path / "out" / "train.bin").exists()


def test_the_documentation_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[1] / "docs" / "data.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(code, names)
    assert read_info(tmp_path / "tokens" / "train.bin").count > 50_000


def test_parts_are_named_for_all_that_decides(tmp_path: Path) -> None:
    source, other = tmp_path / "a.txt", tmp_path / "b" / "a.txt"
    other.parent.mkdir()
    for path in (source, other):
        path.write_text("text")
        os.utime(path, (1, 1))
    builtin = builtin_tokenizer()
    another = scored.ScoredTokenizer([*builtin.bin_pieces()[:-1], (b"zzz", -9.0)])
    names = {module._parts(tmp_path, source, builtin, 0.1), module._parts(tmp_path, other, builtin, 0.1)}
    names |= {module._parts(tmp_path, source, another, 0.1), module._parts(tmp_path, source, builtin, 0.2)}
    for reading in (Reading("body"), Reading(separator="")):
        names.add(module._parts(tmp_path, source, builtin, 0.1, reading))
    os.utime(source, (2, 2))
    names |= {module._parts(tmp_path, source, builtin, 0.1), module._parts(tmp_path, source, builtin, 0.1)}
    assert len(names) == 7
