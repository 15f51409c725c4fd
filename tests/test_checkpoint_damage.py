"""anetrain.checkpoint: whatever happens to the files, loading gives what was saved or refuses with a sentence."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anetrain.checkpoint import CheckpointError, Store, find, load, loading
from tests import checkpoints as small

FILES = ("checkpoint.json", "weights.safetensors", "optimizer.safetensors", "baked.safetensors")


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The last of two."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    with small.memory_folder() as folder, Store(folder) as store:
        store.save(small.state(7))
        yield store.save(small.state(8)).path


def load_whole(path: Path) -> None:
    """As a run that resumes does: what comes without an error must be what was saved."""
    checkpoint = load(path)
    checkpoint.verify()
    small.check(checkpoint, small.state(8))
    into = {name: np.empty_like(array) for name, array in small.weights(8).items()}
    checkpoint.weights.read_into(into)
    for name, array in small.weights(8).items():
        small.same_bits(into[name], array)


@pytest.mark.parametrize("file", FILES)
def test_every_flipped_bit_is_noticed(saved: Path, file: str) -> None:
    """One bit of every byte. Only white space of the JSON may change without a difference."""
    content = (saved / file).read_bytes()
    chance = random.Random(1)
    harmless = 0
    for place, byte in enumerate(content):
        damaged = bytearray(content)
        damaged[place] ^= 1 << chance.randrange(8)
        (saved / file).write_bytes(damaged)
        try:
            load_whole(saved)
        except CheckpointError:
            continue
        harmless += 1
        assert chr(byte).isspace(), (place, damaged[place - 9 : place + 9])
    assert harmless < (10 if file == "checkpoint.json" else 1)


@pytest.mark.parametrize("file", FILES)
def test_every_length_is_noticed(saved: Path, file: str) -> None:
    content = (saved / file).read_bytes()
    for length in range(len(content) - 1):  # the last byte of the JSON is a line's end
        os.truncate(saved / file, 0)
        (saved / file).write_bytes(content[:length])
        with pytest.raises(CheckpointError, match="damaged"):
            load_whole(saved)
    (saved / file).write_bytes(content + b"\0")
    with pytest.raises(CheckpointError, match="damaged"):
        load_whole(saved)


def test_read_into_and_maps_both_verify(saved: Path) -> None:
    path = saved / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 0x40  # a bit of an exponent
    path.write_bytes(content)
    checkpoint = load(saved)
    sentence = (
        r"weights\.safetensors: norm: the checksum of its values is [0-9a-f]{8}, and [0-9a-f]{8} was saved\. "
        "The file is damaged or was edited. Beside it there are step-00000007"
    )
    with pytest.raises(CheckpointError, match=sentence):
        _ = checkpoint.weights["norm"]
    with pytest.raises(CheckpointError, match=sentence):
        checkpoint.weights.read_into({name: np.empty_like(array) for name, array in small.weights(8).items()})
    small.same_bits(checkpoint.weights["embedding"], small.weights(8)["embedding"])
    load(find(saved.parent / "step-00000007")).verify()


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file(saved: Path, file: str) -> None:
    (saved / file).unlink()
    with pytest.raises(CheckpointError, match=f"(has no|{file}: is missing)") as caught:
        load(saved)
    assert "Beside it there are step-00000007" in str(caught.value)


@pytest.mark.parametrize("file", FILES)
def test_a_file_of_another_checkpoint(saved: Path, file: str) -> None:
    """Of the same names and sizes."""
    shutil.copy(saved.parent / "step-00000007" / file, saved / file)
    with pytest.raises(CheckpointError, match="checksum"):
        load_whole(saved)


def test_a_folder_in_the_place_of_a_file(saved: Path) -> None:
    (saved / "weights.safetensors").unlink()
    (saved / "weights.safetensors").mkdir()
    with pytest.raises(CheckpointError, match="weights"):
        load_whole(saved)


def test_cut_off_while_it_is_open(saved: Path) -> None:
    checkpoint = load(saved)
    os.truncate(saved / "weights.safetensors", 200)
    with pytest.raises(CheckpointError, match="cut off while it was open"):
        checkpoint.verify()


def test_a_bad_disk_is_an_error(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = load(saved)

    def broken(*_: Any) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(loading.os, "preadv", broken)
    with pytest.raises(CheckpointError, match=r"safetensors: cannot be read at byte \d+: Input/output error"):
        checkpoint.verify()


def test_short_reads_are_gone_on_with(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.preadv
    monkeypatch.setattr(loading.os, "preadv", lambda fd, buffers, offset: real(fd, [buffers[0][:7]], offset))
    load_whole(saved)


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    for content in (b"", b"[]", b"3", b"null", b'{"format": "other"}', b"\xff\xfe", b"[" * 100_000, b'{"a":1e999}'):
        (tmp_path / "checkpoint.json").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"checkpoint\.json: (format is|is no whole JSON text)"):
            load(tmp_path)
    with pytest.raises(CheckpointError, match="has no"):
        load(tmp_path / "nothing")


# ---------------------------------------------------------------- records that vouch for themselves


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    body = json.loads((path / "checkpoint.json").read_text())
    change(body)
    body.pop("checksum", None)
    text = json.dumps(body, separators=(",", ":"))
    body["checksum"] = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    (path / "checkpoint.json").write_text(json.dumps(body))


def tensor(body: dict[str, Any], name: str = "norm", part: str = "weights") -> dict[str, Any]:
    found: dict[str, Any] = body["files"][part][f"{part}.safetensors"][name]
    return found


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda b: b.update(version=2), "version is 2, and this anetrain reads 1: use the anetrain that wrote it"),
        (lambda b: b.update(version=True), "version is True"),
        (lambda b: b.pop("version"), "version is None"),
        (lambda b: b.pop("step"), "missing step; unknown none"),
        (lambda b: b.update(extra=1), "missing none; unknown extra"),
        (lambda b: b.update(step=-1), "step is -1, expected 0 or more"),
        (lambda b: b.update(step=1.5), "step is 1.5, expected a whole number"),
        (lambda b: b.update(step=True), "step is True, expected a whole number"),
        (lambda b: b.update(values=[]), r"values is \[\], expected an object"),
        (lambda b: b.update(config=None), "config is None, expected an object"),
        (lambda b: b.update(device=3), "device is 3, expected a text"),
        (lambda b: b.update(profile=None), "profile is None, expected a text"),
        (lambda b: b.update(tokenizer=3), "tokenizer is 3, expected a text or null"),
        (lambda b: b.update(validation_loss="low"), "validation_loss is 'low', expected a number or null"),
        (lambda b: b.update(versions=1), "versions is 1, expected an object"),
        (lambda b: b["spec"].pop("dim"), "spec does not have the fields it should: missing dim; unknown none"),
        (lambda b: b["spec"].update(rank=1), "missing none; unknown rank"),
        (lambda b: b["spec"].update(heads=3), "spec: heads is 3, expected a multiple of kv_heads"),
        (lambda b: b["spec"].update(dim="64"), "spec: dim is '64', expected a positive whole number"),
        (lambda b: b["files"].pop("arrays"), "files does not have the fields it should: missing arrays"),
        (lambda b: b["files"].update(others={}), "missing none; unknown others"),
        (
            lambda b: b["files"]["baked"]["baked.safetensors"].update(other=tensor(b)),
            r"files\.baked has other, float32 \[4\]; expected a name of the weights",
        ),
        (
            lambda b: tensor(b, "embedding", "baked").update(shape=[4, 8]),
            r"files\.baked has embedding, float32 \[4, 8\]; expected float32 \[8, 4\], as among the weights",
        ),
        (lambda b: b["files"].update(arrays=3), r"files\.arrays is 3, expected an object of tensors for each file"),
        (lambda b: b["files"]["weights"].update(a={}), "has a file 'a', expected a name that ends with"),
        (lambda b: b["files"]["weights"].update({"../x.safetensors": {}}), "has a file '../x.safetensors'"),
        (lambda b: b["files"]["weights"].update({"x.safetensors": {"norm": tensor(b)}}), "a tensor in two files"),
        (lambda b: b["files"]["weights"].update({"x.safetensors": {}}), r"x\.safetensors: is missing"),
        (lambda b: b["files"]["weights"]["weights.safetensors"].update(norm=1), "norm is 1, expected an object"),
        (lambda b: tensor(b).pop("crc32"), "norm does not have the fields it should: missing crc32"),
        (lambda b: tensor(b).update(crc32="no"), "norm: crc32 is 'no', expected 8 hexadecimal digits"),
        (lambda b: tensor(b).update(crc32=12), "norm: crc32 is 12, expected 8 hexadecimal digits"),
        (
            lambda b: tensor(b).update(crc32="00000000"),
            "norm: the checksum of its values is .*, and 00000000 was saved",
        ),
        (lambda b: tensor(b).update(dtype="F8"), "norm: dtype is 'F8', expected one of F64"),
        (lambda b: tensor(b).update(dtype=[]), r"norm: dtype is \[\]"),
        (lambda b: tensor(b).update(dtype="I32"), r"its header differs from checkpoint\.json at byte"),
        (lambda b: tensor(b).update(dtype="F16"), r"weights\.safetensors: has \d+ bytes, expected \d+"),
        (lambda b: tensor(b).update(shape=[2, 2]), "its header differs|bytes, expected"),
        (lambda b: tensor(b).update(shape=[5]), r"has \d+ bytes, expected \d+"),
        (lambda b: tensor(b).update(shape=[-4]), r"norm: shape is \[-4\], expected a list of sizes"),
        (lambda b: tensor(b).update(shape=[2.0]), r"norm: shape is \[2\.0\]"),
        (lambda b: tensor(b).update(shape=[1 << 60]), "norm: shape is"),
        (lambda b: tensor(b).update(shape=4), "norm: shape is 4"),
    ],
)
def test_a_field_that_is_wrong_is_named(saved: Path, change: Callable[[dict[str, Any]], object], sentence: str) -> None:
    edit(saved, lambda body: None)
    load_whole(saved)
    edit(saved, change)
    with pytest.raises(CheckpointError, match=sentence):
        load_whole(saved)


def test_a_field_that_was_edited_by_hand(saved: Path) -> None:
    path = saved / "checkpoint.json"
    path.write_text(path.read_text().replace('"lr": 0.0003', '"lr": 0.0004'))
    with pytest.raises(CheckpointError, match=r"checksum is .*, and that of the other fields .*damaged or was edited"):
        load(saved)


def test_a_name_that_is_there_twice(saved: Path) -> None:
    path = saved / "checkpoint.json"
    path.write_text(path.read_text().replace('"step": 8,', '"step": 9, "step": 8,'))
    with pytest.raises(CheckpointError, match="a name is there twice"):
        load(saved)
