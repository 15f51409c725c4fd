"""`anetrain data`: from text to training without a line of Python; nothing half done, nothing overwritten unasked."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tarfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anetrain.cli import main as anetrain
from anetrain.data import tinystories, tokenizers
from anetrain.data.builtin import FIRST_HELD_OUT
from anetrain.data.corpus import stories
from anetrain.data.download import Source
from anetrain.data.prepare import held_out
from anetrain.data.shards import document_starts, open_tokens, read_info
from anetrain.data.tokenizers import builtin_tokenizer, scored
from tests.tokenizer_files import byte_level_json

pytestmark = pytest.mark.usefixtures("no_waiting")

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "stories.txt"
    assert anetrain(["data", "builtin", "--out", str(path), "--stories", "60"]) == 0
    return path


def data(*arguments: object) -> int:
    return anetrain(["data", *map(str, arguments)])


def described(path: Path, capsys: Captured, *arguments: object) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert data("info", path, "--json", *arguments) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))}


# ---------------------------------------------------------------- prepare


def test_text_becomes_shards_and_they_say_what_is_in_them(
    text: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anetrain.tokens.AT_ONCE", 1000)  # a shard is looked through in pieces
    out = tmp_path / "out"
    assert data("prepare", text, "--tokenizer", "builtin", "--out", out, "--split", "0.2") == 0
    told = capsys.readouterr()
    train, validation = described(out, capsys)
    texts = list(stories(0, 60))
    assert (train["documents"], validation["documents"]) == (
        sum(not held_out(text, 0.2) for text in texts),
        sum(held_out(text, 0.2) for text in texts),
    )
    tokens = open_tokens(out / "train.bin", vocab=2048)
    assert f"{out / 'train.bin'}: {len(tokens):,} tokens" in told.out
    assert (train["tokens"], train["dtype"], train["vocab"], train["header"]) == (len(tokens), "uint16", 2048, True)
    assert (train["tokenizer"], train["tokenizer_from"]) == (builtin_tokenizer().hash, "builtin")
    values, counts = np.unique(tokens, return_counts=True)
    share = counts / counts.sum()
    assert train["entropy"] == pytest.approx(-float(np.sum(share * np.log(share))), rel=1e-12)
    assert (train["distinct"], train["largest"]) == (len(values), int(values[-1]))
    best = values[np.argsort(-counts, kind="stable")][:10]
    assert [item["id"] for item in train["frequent"]] == best.tolist()
    assert {" the", ".", ","} <= {item["text"] for item in train["frequent"]}


def test_info_for_people(text: Path, tmp_path: Path, capsys: Captured) -> None:
    assert data("prepare", text, "--tokenizer", "builtin", "--out", tmp_path / "out", "--split", "0") == 0
    capsys.readouterr()
    assert data("info", tmp_path / "out" / "train.bin", "--frequent", "3") == 0
    told = capsys.readouterr().out
    assert re.search(r"documents +60\n", told)
    assert re.search(r"entropy +5\.\d+ nats per token", told)
    assert re.search(r"^ +\d+ +\d\.\d\d %  \" a\"$", told, re.MULTILINE)
    assert len(re.findall(r" %  ", told)) == 3


def test_a_reader_that_has_seen_enough(text: Path, tmp_path: Path) -> None:
    assert data("prepare", text, "--tokenizer", "builtin", "--out", tmp_path / "out", "--split", "0") == 0
    command = [sys.executable, "-m", "anetrain.cli", "data", "info", str(tmp_path / "out"), "--frequent", "2000"]
    read, write = os.pipe()
    os.close(read)
    root = Path(__file__).parent.parent
    done = subprocess.run(command, cwd=root, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_tokenizer_of_ones_own(text: Path, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "out"
    assert data("prepare", text, "--train-tokenizer", "400", "--out", out, "--split", "0.2") == 0
    names = {"train.bin", "validation.bin", "tokenizer.model", "tokenizer.bin"}
    assert {path.name for path in out.iterdir()} == names
    known = tokenizers.load(out / "tokenizer.model")
    assert known.hash == tokenizers.load(out / "tokenizer.bin").hash == read_info(out / "train.bin").tokenizer
    found = described(out, capsys)[0]
    assert (found["vocab"], found["tokenizer_from"]) == (400, str(out / "tokenizer.model"))
    assert " the" in {item["text"] for item in found["frequent"]}
    tokens = open_tokens(out / "train.bin", vocab=400)
    second = document_starts(tokens, 1)[1]
    assert known.decode(tokens[:second]) == next(text for text in stories(0, 60) if not held_out(text, 0.2))


@pytest.mark.parametrize("kind", ["tokenizer.model", "tokenizer.bin", "tokenizer.json"])
def test_every_kind_of_tokenizer(text: Path, tmp_path: Path, capsys: Captured, kind: str) -> None:
    """A copy lies beside the shards, and is the same tokenizer."""
    first = tmp_path / "first"
    if kind == "tokenizer.json":
        byte_level_json(first, [*stories(0, 30)])
    else:
        assert data("prepare", text, "--train-tokenizer", "330", "--out", first) == 0
    out = tmp_path / "out"
    assert data("prepare", text, "--tokenizer", first / kind, "--out", out, "--split", "0") == 0
    known = tokenizers.load(first / kind)
    assert tokenizers.load(out).hash == known.hash == read_info(out / "train.bin").tokenizer
    assert tokenizers.load(out).document_start == known.document_start
    assert described(out, capsys)[0]["documents"] == 60
    assert data("prepare", text, "--tokenizer", out, "--out", out, "--split", "0", "--force") == 0


def test_large_vocabularies_take_four_bytes(text: Path, tmp_path: Path, capsys: Captured) -> None:
    byte_level_json(tmp_path / "json", [*stories(0, 30)], extra=70_000)
    assert data("prepare", text, "--tokenizer", tmp_path / "json", "--out", tmp_path / "out") == 0
    found = described(tmp_path / "out", capsys)[0]
    assert (found["dtype"], found["document_start"], found["largest"]) == ("uint32", 70_300, 70_300)


def test_objects_and_other_separators(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "no", "body": "One."}\n{"body": "Two."}\n')
    (tmp_path / "b.txt").write_text("Three.\nThree.\n\nFour.\n<|endoftext|>\nFour.\n")
    inputs = tmp_path / "a.jsonl", tmp_path / "b.txt"
    more = "--split", "0", "--field", "body", "--document-separator", ""
    assert data("prepare", *inputs, "--tokenizer", "builtin", "--out", tmp_path / "out", *more) == 0
    tokens = open_tokens(tmp_path / "out" / "train.bin", vocab=2048)
    starts = [*document_starts(tokens, 1), len(tokens)]
    texts = [builtin_tokenizer().decode(tokens[begin:end]) for begin, end in pairwise(starts)]
    assert texts == ["One.", "Two.", "Three.\nThree.", "Four.\n<|endoftext|>\nFour."]


def test_files_for_validation(text: Path, tmp_path: Path, capsys: Captured) -> None:
    other = tmp_path / "other.txt"
    other.write_text("One.\n<|endoftext|>\nTwo.\n")
    common = "--tokenizer", "builtin", "--out", tmp_path / "out"
    assert data("prepare", text, "--validation", other, *common) == 0
    train, validation = described(tmp_path / "out", capsys)
    assert (train["documents"], validation["documents"]) == (60, 2)
    assert data("prepare", text, "--split", "0", "--force", *common) == 0
    assert len(described(tmp_path / "out", capsys)) == 1, "a validation.bin of other documents must not stay"


def test_nothing_is_overwritten_unasked(text: Path, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "out"
    assert data("prepare", text, "--train-tokenizer", "330", "--out", out) == 0
    before = tree(tmp_path)
    scored.write(tmp_path / "tokenizer.bin", builtin_tokenizer().bin_pieces())
    for arguments, word in (
        (("prepare", text, "--tokenizer", "builtin", "--out", out), "train.bin exists"),
        (("prepare", text, "--train-tokenizer", "340", "--out", out), "train.bin exists"),
        (("builtin", "--out", text), "stories.txt exists"),
        (("download", "tinystories", "--out", out), "train.bin exists"),
    ):
        capsys.readouterr()
        assert data(*arguments) == 2
        assert word in capsys.readouterr().err
    for name in ("train.bin", "validation.bin"):
        (out / name).unlink()
    assert data("prepare", text, "--train-tokenizer", "340", "--out", out) == 2
    assert "tokenizer.model exists" in capsys.readouterr().err
    assert data("prepare", text, "--tokenizer", tmp_path / "tokenizer.bin", "--out", out) == 2
    assert "tokenizer.bin is not" in capsys.readouterr().err
    assert data("prepare", text, "--tokenizer", out / "tokenizer.model", "--out", out) == 0, "that one goes on"
    (tmp_path / "tokenizer.bin").unlink()
    assert tree(tmp_path) == before


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c(tmp_path: Path, workers: int) -> None:
    """The whole group of processes gets it, as from a terminal: one line, nothing under a final name; the same command
    goes on to what a run without interruption makes."""
    names = [f"{number}.txt" for number in range(4)]
    for number, name in enumerate(names):
        assert data("builtin", "--out", tmp_path / name, "--stories", [20, 1500][number % 2]) == 0
    common = ["prepare", *(str(tmp_path / name) for name in names), "--tokenizer", "builtin", "--workers", str(workers)]
    command = [sys.executable, "-m", "anetrain.cli", "data", *common, "--out", str(tmp_path / "out")]
    root = Path(__file__).parent.parent
    process = subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, text=True, start_new_session=True)
    limit = time.monotonic() + 120
    while not list(tmp_path.glob("out/parts/0-*.bin")) and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert (process.returncode, error) == (130, "anetrain data prepare: interrupted\n")
    assert not list((tmp_path / "out").glob("*.bin"))
    assert data(*common, "--out", tmp_path / "out") == 0
    assert data(*common, "--out", tmp_path / "straight") == 0
    assert [*tree(tmp_path / "out").values()] == [*tree(tmp_path / "straight").values()]


# ---------------------------------------------------------------- shards without a header


def test_headerless_shards(tmp_path: Path, capsys: Captured) -> None:
    known = builtin_tokenizer()
    ids = np.array([token for text in stories(0, 20) for token in known.encode(text, bos=True)], "<u2")
    path = tmp_path / "data00.bin"
    path.write_bytes(ids.tobytes())
    (found,) = described(tmp_path, capsys)
    assert (found["header"], found["tokens"], found["largest"]) == (False, len(ids), int(ids.max()))
    assert [found[name] for name in ("documents", "vocab", "tokenizer")] == [None, None, None]
    assert data("info", path) == 0
    assert "unknown; --tokenizer says it" in capsys.readouterr().out
    scored.write(tmp_path / "t.bin", known.bin_pieces())
    (found,) = described(path, capsys, "--tokenizer", tmp_path / "t.bin")
    assert (found["documents"], found["vocab"]) == (20, 2048)


def test_an_empty_shard(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "data00.bin").write_bytes(b"")
    (found,) = described(tmp_path, capsys)
    assert (found["tokens"], found["entropy"], found["largest"], found["frequent"]) == (0, 0.0, None, [])
    assert data("info", tmp_path) == 0


def test_another_tokenizer_is_not_used(text: Path, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "out"
    assert data("prepare", text, "--train-tokenizer", "330", "--out", out) == 0
    for name in ("tokenizer.model", "tokenizer.bin"):
        (out / name).unlink()
    scored.write(out / "tokenizer.bin", builtin_tokenizer().bin_pieces())
    found = described(out, capsys)[0]
    assert (found["tokenizer_from"], found["frequent"][0]["text"], found["documents"]) == (None, None, 59)
    assert data("info", out, "--tokenizer", out / "tokenizer.bin") == 2
    assert "another one" in capsys.readouterr().err


# ---------------------------------------------------------------- download


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The archive and the tokenizer as they would be on the net, in a folder."""
    known = builtin_tokenizer()
    net = tmp_path / "net"
    net.mkdir()
    scored.write(net / "tokenizer.bin", known.bin_pieces())
    shards = {}
    with tarfile.open(net / "tokens.tar.gz", "w:gz") as tar:
        for number, begin in enumerate((FIRST_HELD_OUT, 0, 10)):
            ids = [token for text in stories(begin, begin + 10) for token in known.encode(text, bos=True)]
            shards[f"data{number:02}.bin"] = np.array(ids, "<u2").tobytes()
            member = tarfile.TarInfo(f"tok/data{number:02}.bin")
            member.size = len(shards[f"data{number:02}.bin"])
            tar.addfile(member, io.BytesIO(shards[f"data{number:02}.bin"]))
    (net / "valid.txt").write_text("One.\n")
    sources = {
        "pretokenized": tuple(Source((net / name).as_uri()) for name in ("tokenizer.bin", "tokens.tar.gz")),
        "hf": tuple(Source((net / name).as_uri()) for name in ("valid.txt", "valid.txt", "tokenizer.bin")),
    }
    monkeypatch.setattr(tinystories, "SOURCES", sources)
    return shards


def test_downloaded_tokens_are_ready_for_training(
    published: dict[str, bytes], tmp_path: Path, capsys: Captured
) -> None:
    out = tmp_path / "data" / "tinystories"
    assert data("download", "tinystories", "--out", out) == 0
    assert sorted(path.name for path in out.iterdir()) == ["tokenizer.bin", "train.bin", "validation.bin"]
    for name, shards in (("validation", ("data00.bin",)), ("train", ("data01.bin", "data02.bin"))):
        tokens = open_tokens(out / f"{name}.bin", vocab=2048, tokenizer=tokenizers.load(out).hash)
        assert tokens.tobytes() == b"".join(published[shard] for shard in shards)
    assert [item["documents"] for item in described(out, capsys)] == [20, 10]
    assert data("download", "tinystories", "--out", out) == 2
    assert "train.bin exists" in capsys.readouterr().err
    assert data("download", "tinystories", "--out", out, "--force") == 0


def test_downloaded_text_says_what_is_next(published: dict[str, bytes], tmp_path: Path, capsys: Captured) -> None:
    assert data("download", "tinystories", "--source", "hf", "--out", tmp_path / "out") == 0
    line = capsys.readouterr().out.splitlines()[-1]
    (tmp_path / "out" / "valid.txt").write_text("".join(f"{text}\n" for text in stories(0, 3)))
    assert anetrain(shlex.split(line.removeprefix("next: anetrain "))) == 0
    assert (tmp_path / "out" / "validation.bin").exists()


def test_a_damaged_archive_is_kept_for_a_look(published: dict[str, bytes], tmp_path: Path, capsys: Captured) -> None:
    archive = tmp_path / "net" / "tokens.tar.gz"
    archive.write_bytes(archive.read_bytes()[:-50])
    assert data("download", "tinystories", "--out", tmp_path / "out") == 2
    assert "tokens.tar.gz: not a whole archive" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["tokenizer.bin", "tokens.tar.gz"]


def test_the_published_names() -> None:
    assert [source.name for source in tinystories.SOURCES["pretokenized"]] == [
        "tokenizer.bin",
        "TinyStories_tok32000.tar.gz",
    ]
    assert [source.name.split(".")[-1] for source in tinystories.SOURCES["hf"]] == ["txt", "txt", "model"]


@pytest.mark.parametrize("what", ["prepare", "info", "download", "builtin"])
def test_help(what: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as caught:
        data(what, "--help")
    assert caught.value.code == 0
    assert f"example: anetrain data {what}" in capsys.readouterr().out


def test_the_commands_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    """They run, and `info` prints what the page shows (its numbers, too)."""
    page = (Path(__file__).parent.parent / "docs" / "data.md").read_text(encoding="utf-8")
    shell, shown = re.search(r"```sh\n(.*?)```\n```\n(.*?)```", page, re.DOTALL).groups()  # type: ignore[union-attr]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for line in shell.splitlines():
        capsys.readouterr()
        assert anetrain(shlex.split(line, comments=True)[1:]) == 0
    assert capsys.readouterr().out.startswith(shown)
