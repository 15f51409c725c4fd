"""Token shards: what is written is read, and nothing that is wrong is taken for tokens."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from anetrain.data.errors import DataError
from anetrain.data.shards import ShardWriter, document_starts, join, open_tokens, read_info, split

HASH = bytes(range(32)).hex()


def write(path: Path, ids: object, vocab: int = 32_000, **options: object) -> Path:
    settings = {"document_start": 1, "tokenizer": HASH} | options
    with ShardWriter(path, vocab=vocab, **settings) as writer:  # type: ignore[arg-type]
        writer.add(ids)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize(("vocab", "id_bytes"), [(2, 2), (65_536, 2), (65_537, 4), (151_936, 4)])
def test_what_is_written_is_read(tmp_path: Path, vocab: int, id_bytes: int) -> None:
    ids = np.random.default_rng(0).integers(0, vocab, 999)
    ids[7] = vocab - 1
    path = tmp_path / "a.bin"
    with ShardWriter(path, vocab=vocab, document_start=1, tokenizer=HASH) as writer:
        for piece in np.split(ids, [0, 1, 500]):
            writer.add(piece.tolist())
        assert not path.exists(), "it appears when it is whole"
    info = read_info(path)
    assert (info.count, info.id_bytes, info.vocab, info.document_start) == (999, id_bytes, vocab, 1)
    assert info.tokenizer == HASH
    assert info.offset % 64 == 0
    tokens = open_tokens(path, vocab=vocab, tokenizer=HASH)
    assert isinstance(tokens, np.memmap)
    assert not tokens.flags.writeable
    np.testing.assert_array_equal(tokens, ids)
    assert path.stat().st_size == 64 + 999 * id_bytes


def test_the_format_byte_for_byte(tmp_path: Path) -> None:
    path = write(tmp_path / "a.bin", [1, 5, 70_000], 70_001, document_start=None)
    header = struct.pack("<8sIIQIi", b"ANETOKEN", 1, 4, 3, 70_001, -1) + bytes(range(32))
    assert path.read_bytes() == header + struct.pack("<3I", 1, 5, 70_000)


def test_published_shards_have_no_header(tmp_path: Path) -> None:
    path = tmp_path / "data00.bin"
    np.array([1, 403, 31_999], "<u2").tofile(path)
    assert not read_info(path).header
    np.testing.assert_array_equal(open_tokens(path, vocab=32_000, tokenizer=HASH), [1, 403, 31_999])


def test_empty_shards(tmp_path: Path) -> None:
    (tmp_path / "old.bin").touch()
    for path in (tmp_path / "old.bin", write(tmp_path / "new.bin", [])):
        assert open_tokens(path, vocab=5 if path.stem == "old" else 32_000, least=0).tolist() == []
        with pytest.raises(DataError, match="0 tokens; at least 2"):
            open_tokens(path, vocab=32_000)


def test_ids_are_checked_at_both_ends_of_every_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anetrain.tokens.AT_ONCE", 4)
    path = tmp_path / "a.bin"
    for at in range(11):
        ids = np.zeros(11, "<u2")
        ids[at] = 9
        ids.tofile(path)
        with pytest.raises(DataError, match=rf"a\.bin: token {at} has the id 9; expected 0 to 8"):
            open_tokens(path, vocab=9)
        open_tokens(path, vocab=10)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:40], "the header of a shard alone has 64"),
        (lambda data: data[:-1], "its header says 100 ids of 2 bytes, 264 bytes in all"),
        (lambda data: data + b"\0\0", "266 bytes; its header says 100"),
        (lambda data: data[:8] + b"\2" + data[9:], "version 2 of the shard format"),
        (lambda data: data[:12] + b"\3" + data[13:], "3 bytes per id; expected 2 or 4"),
        (lambda data: data[:24] + bytes(4) + data[28:], "vocabulary 0"),
        (lambda data: data[:28] + b"\xff\xff\xff\x7f" + data[32:], "documents begin with 2147483647"),
        (lambda data: data[:64] + b"\xff\xff" + data[66:], "token 0 has the id 65535; expected 0 to 31999"),
        (lambda data: data[8:-1], "an odd number"),
        (lambda data: b"", "0 tokens; at least 2 are needed"),
        (lambda data: b"\1\0", "1 tokens; at least 2 are needed"),
    ],
)
def test_what_is_damaged_is_refused(tmp_path: Path, damage: object, message: str) -> None:
    path = write(tmp_path / "a.bin", np.ones(100, int))
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(DataError, match=message) as caught:
        open_tokens(path, vocab=32_000)
    assert str(path) in str(caught.value)


def test_other_data_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.bin", np.ones(100, int))
    with pytest.raises(DataError, match="made with a vocabulary of 32000; the model has 31999"):
        open_tokens(path, vocab=31_999)
    with pytest.raises(DataError, match="made with the tokenizer 000102030405, expected abababababab"):
        open_tokens(path, vocab=32_000, tokenizer="ab" * 32)
    data = write(tmp_path / "c.bin", [1, 2], 100).read_bytes()
    (tmp_path / "c.bin").write_bytes(data[:-2] + b"\x64\x00")
    with pytest.raises(DataError, match="token 1 has the id 100; expected 0 to 99"):
        open_tokens(tmp_path / "c.bin", vocab=32_000)
    with pytest.raises(DataError, match="100 tokens; at least 258 are needed"):
        open_tokens(path, vocab=32_000, least=258)
    with pytest.raises(DataError, match="there is no such file"):
        open_tokens(tmp_path / "b.bin", vocab=32_000)
    with pytest.raises(DataError, match="is a folder"):
        open_tokens(tmp_path, vocab=32_000)


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = write(tmp_path / "a.bin", [1, 2, 3])
    before = path.read_bytes()
    with pytest.raises(DataError, match="token 1 has the id 32000"):
        write(path, [1, 32_000], overwrite=True)
    with pytest.raises(DataError, match="token 0 has the id -1"):
        write(path, [-1], overwrite=True)
    with pytest.raises(DataError, match="whole numbers in one dimension"):
        write(path, [0.5], overwrite=True)
    with pytest.raises(FileExistsError):
        write(path, [4])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    write(path, [4], overwrite=True)
    assert open_tokens(path, vocab=32_000, least=1).tolist() == [4]


def test_a_failure_at_the_end_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = [bytes(64)]
    monkeypatch.setattr(ShardWriter, "_header", lambda _: headers.pop())
    with pytest.raises(IndexError):
        write(tmp_path / "a.bin", [1])
    assert not list(tmp_path.iterdir())


def test_bad_settings_of_a_writer(tmp_path: Path) -> None:
    for options, message in (
        ({"vocab": 0}, "vocab is 0"),
        ({"document_start": 32_000}, "document_start is 32000"),
        ({"tokenizer": "ab"}, "64 hex digits"),
    ):
        with pytest.raises(ValueError, match=message):
            write(tmp_path / "a.bin", [1], **options)


def test_shards_are_joined_in_order(tmp_path: Path) -> None:
    old = tmp_path / "data00.bin"
    np.array([1, 9, 1], "<u2").tofile(old)
    new = write(tmp_path / "a.bin", [1, 5])
    settings = {"vocab": 32_000, "document_start": 1, "tokenizer": HASH}
    assert join([old, new, old], tmp_path / "all.bin", **settings) == 8  # type: ignore[arg-type]
    assert open_tokens(tmp_path / "all.bin", vocab=32_000).tolist() == [1, 9, 1, 1, 5, 1, 9, 1]
    with pytest.raises(DataError, match="made with the tokenizer"):
        join([new], tmp_path / "b.bin", **settings | {"tokenizer": "ab" * 32})  # type: ignore[arg-type]
    assert not (tmp_path / "b.bin").exists()


def test_documents_and_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anetrain.tokens.AT_ONCE", 3)
    tokens = np.array([1, 4, 4, 1, 4, 1, 1, 4, 4, 4, 1, 4], np.uint16)
    assert document_starts(tokens, 1).tolist() == [0, 3, 5, 6, 10]
    for fraction, held_out in ((0.01, 2), (0.2, 2), (0.5, 6), (0.99, 9)):
        train, validation = split(tokens, fraction, document_start=1)
        assert len(validation) == held_out
        assert validation[0] == 1
        assert np.array_equal(np.concatenate([train, validation]), tokens)
        assert np.shares_memory(train, tokens)
    assert len(split(tokens, 0.25, document_start=None)[1]) == 3
    with pytest.raises(DataError, match="one document"):
        split(tokens[:3], 0.5, document_start=1)
    with pytest.raises(DataError, match="too few"):
        split(tokens[:1], 0.5, document_start=None)
    with pytest.raises(ValueError, match="fraction is 1"):
        split(tokens, 1, document_start=None)
