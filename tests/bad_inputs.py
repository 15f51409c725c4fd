"""For tests of bad inputs: a folder with a good file of every kind, ways to damage one, and what a refusal is."""

from __future__ import annotations

import json
import random
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anetrain import formats
from anetrain.cli import main as anetrain
from anetrain.data import prepare as preparing
from anetrain.data.builtin import write_stories
from anetrain.data.corpus import stories
from anetrain.data.tokenizers import builtin_tokenizer
from anetrain.formats import legacy
from anetrain.report import published, submission
from anetrain.spec import ModelSpec
from tests import report_files
from tests.model_files import random_weights
from tests.tokenizer_files import byte_level_json

SPEC = ModelSpec(dim=16, hidden=24, layers=1, heads=2, kv_heads=1, head_dim=8, vocab=2048, seq=32)
QWEN = replace(SPEC, rope="half", rope_base=1e6, qk_norm=True, tied=False)
CONFIG = """
model: {dim: 16, hidden: 24, layers: 1, heads: 2, kv_heads: 1, head_dim: 8, seq: 32, vocab: 2048}
data: {path: tokens, validation_tokens: 100}
train: {updates: 2, validate_every: null}
device: {kind: emulator, live_budget: 1000000, compile_budget: 1000000}
"""
FINETUNE = "".join(
    "model: {weights: MODEL, seq: 32}\n" if line.startswith("model:") else f"{line}\n" for line in CONFIG.splitlines()
)
MODELS = ("v0.bin", "v1.bin", "llama", "qwen3", "v2.ckpt", "v4.ckpt", "run")


def make_world(folder: Path) -> None:
    """Everything that the commands read, good; paths in commands are relative to this folder."""
    write_stories(folder / "a.txt", 40)
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in stories(0, 20)))
    preparing.train_tokenizer([folder / "a.txt"], folder / "t", vocab=330)
    byte_level_json(folder / "j", list(stories(0, 20)))
    preparing.prepare([folder / "a.txt"], folder / "tokens", tokenizer=None, fraction=0.2)
    ids = [token for text in stories(0, 20) for token in builtin_tokenizer().encode(text, bos=True)]
    (folder / "raw.bin").write_bytes(np.array(ids, "<u2").tobytes())
    weights = random_weights(SPEC)
    formats.save(folder / "v0.bin", "llama2c-v0", SPEC, weights)
    formats.save(folder / "v1.bin", "llama2c-v1", SPEC, weights)
    formats.save(folder / "llama", "huggingface", SPEC, weights)
    formats.save(folder / "qwen3", "huggingface", QWEN, random_weights(QWEN), dtype="bf16", shard_bytes=50_000)
    _legacy(folder / "v2.ckpt", 2, replace(SPEC, kv_heads=2, rope="none"))
    _legacy(folder / "v4.ckpt", 4, replace(SPEC, residual_scale=0.5**0.5))
    report_files.write(folder, "results.json", report_files.ane_results())
    made = submission.submission([("results.json", report_files.ane_results())], contributor="A")
    (folder / "submission.json").write_text(submission.text_of(made))
    (folder / "published.json").write_text(published.text_of(published.load()))
    (folder / "community.json").write_text(report_files.community_text())
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "finetune.yaml").write_text(FINETUNE)


def _legacy(path: Path, version: int, spec: ModelSpec) -> None:
    weights = random_weights(spec)
    moments = {f"{kind}.{name}": np.ones_like(array) for name, array in weights.items() for kind in ("mean", "square")}
    counters = legacy.Counters(7, 9, 1e-3, 2.5, 0.0, 0.0, 0.0, 7, 1, 3)
    legacy.write(path, legacy.Checkpoint(version, spec, weights, moments, counters))


# ---------------------------------------------------------------- damage

Damage = Callable[[], object]  # in the current folder


def put(path: str, content: bytes | str) -> Damage:
    """This instead of what was there."""
    return lambda: Path(path).write_bytes(content.encode() if isinstance(content, str) else content)


def replaced(path: str, old: str | bytes, new: str | bytes) -> Damage:
    """What is there first."""
    before, after = (text.encode() if isinstance(text, str) else text for text in (old, new))

    def damage() -> None:
        content = Path(path).read_bytes()
        assert before in content
        Path(path).write_bytes(content.replace(before, after, 1))

    return damage


def cut(path: str, size: int) -> Damage:
    """The last bytes are gone."""
    return lambda: Path(path).write_bytes(Path(path).read_bytes()[:-size])


def patched(path: str, at: int, new: bytes) -> Damage:
    def damage() -> None:
        content = bytearray(Path(path).read_bytes())
        content[at : at + len(new)] = new
        Path(path).write_bytes(bytes(content))

    return damage


def changed(path: str, **changes: Any) -> Damage:
    """Fields of a JSON file; None takes one away."""

    def damage() -> None:
        content = json.loads(Path(path).read_text()) | changes
        Path(path).write_text(json.dumps({name: value for name, value in content.items() if value is not None}))

    return damage


def removed(path: str) -> Damage:
    return lambda: shutil.rmtree(path) if Path(path).is_dir() else Path(path).unlink()


def truncated(path: Path, choose: random.Random) -> str:
    """At any place; returns what was done."""
    content = path.read_bytes()
    size = choose.choice([choose.randrange(len(content)), choose.randrange(min(len(content), 300))])
    path.write_bytes(content[:size])
    return f"{path} cut to {size} of {len(content)} bytes"


def flipped(path: Path, choose: random.Random) -> str:
    """One bit, in the first part of the file as often as in all of it; returns what was done."""
    content = bytearray(path.read_bytes())
    at = choose.choice([choose.randrange(len(content)), choose.randrange(min(len(content), 300))])
    bit = 1 << choose.randrange(8)
    content[at] ^= bit
    path.write_bytes(bytes(content))
    return f"{path}, byte {at} of {len(content)}: bit {bit:#x} flipped"


ODD: list[Any] = [None, True, 0, -1, 1.5, 1 << 31, 1 << 70, "", "x", "\ud800", [], {}, [1], {"a": 1}, 1e308, [[[]]]]


def odd_value(path: Path, choose: random.Random) -> str:
    """Somewhere in a JSON file, or something is gone; returns what was done. Of a safetensors file, in its header."""
    content = path.read_bytes()
    head, tail = b"", b""
    if path.suffix == ".safetensors":
        end = 8 + int.from_bytes(content[:8], "little")
        content, tail = content[8:end], content[end:]
    found = json.loads(content)
    place = choose.choice(list(_places(found))[1:])
    holder = found
    for name in place[:-1]:
        holder = holder[name]
    value = choose.choice(ODD)
    if choose.random() < 0.2:
        del holder[place[-1]]
    else:
        holder[place[-1]] = value
    text = json.dumps(found).encode()
    if tail:
        head = len(text).to_bytes(8, "little")
    path.write_bytes(head + text + tail)
    return f"{path}, {'.'.join(map(str, place))}: {value!r}, or removed"


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """All, of a long list or object the first ones."""
    yield place
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in list(items)[:30]:
        yield from _places(item, (*place, name))


# ---------------------------------------------------------------- refusals


def tree() -> dict[str, bytes | None]:
    """Of the current folder: all names, and what is in the files."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(Path().rglob("*"))}


def called(command: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit code, output and error output of a command. An exception that comes out of it fails the test."""
    capsys.readouterr()
    code: Any
    try:
        code = anetrain(shlex.split(command))
    except SystemExit as stop:  # of argparse
        code = stop.code
    told = capsys.readouterr()
    return int(code), told.out, told.err


def check_refused(command: str, capsys: pytest.CaptureFixture[str], *words: str) -> None:
    """Exit code 2, one message that says the words, and the folder as it was."""
    before = tree()
    code, _, error = called(command, capsys)
    assert code == 2, f"{command}: exit code {code}\n{error}"
    check_message(command, error, *words)
    assert tree() == before, f"{command} changed files"


def check_message(command: str, error: str, *words: str) -> None:
    lines = error.splitlines()
    if lines and lines[0].startswith("usage: "):  # argparse says how it is used, then what is wrong
        lines = lines[-1:]
    assert len(lines) == 1, f"{command}: expected one line, found\n{error}"
    assert lines[0].startswith("anetrain"), error
    for word in words:
        assert word in lines[0], f"{word!r} is not in: {lines[0]}"
