"""anetrain.checkpoint: a save in the background is exact, its copies are bounded, the caller waits for what it must."""

from __future__ import annotations

import random
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anetrain import files
from anetrain.checkpoint import CheckpointError, Saving, Store, checkpoints, load, writing
from tests import checkpoints as small

PIECE = small.PIECE
SOON_S, LATE_S = 0.1, small.LATE_S


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[small.SlowDisk]:
    disk = small.SlowDisk(monkeypatch)
    yield disk
    disk.let(10_000)


def ten_pieces() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    return {f"w{i}": rng.standard_normal(PIECE // 4, np.float32) for i in range(10)}


def releasing(saving: Saving) -> threading.Thread:
    thread = threading.Thread(target=saving.release, daemon=True)
    thread.start()
    return thread


def returned(thread: threading.Thread, within_s: float) -> bool:
    thread.join(within_s)
    return not thread.is_alive()


def test_what_fits_the_buffer_is_not_waited_for(tmp_path: Path, disk: small.SlowDisk) -> None:
    weights = ten_pieces()
    before = {name: array.copy() for name, array in weights.items()}
    with Store(tmp_path, buffer_bytes=9 * PIECE) as store:
        saving = store.save_in_background(small.state(1, weights=weights, arrays={}))
        thread = releasing(saving)
        assert not returned(thread, SOON_S)  # the first does not fit
        disk.let(1)
        assert returned(thread, LATE_S)
        assert not saving.done
        for array in weights.values():
            array.fill(np.nan)
        disk.let(9)
        small.check(load(saving.wait().path), small.state(1, weights=before, arrays={}))
        assert saving.done


def test_what_does_not_fit_is_waited_for_and_no_more(tmp_path: Path, disk: small.SlowDisk) -> None:
    weights = ten_pieces()
    with Store(tmp_path, buffer_bytes=4 * PIECE + 999) as store:
        saving = store.save_in_background(small.state(1, weights=weights, arrays={}))
        thread = releasing(saving)
        disk.let(5)
        assert not returned(thread, SOON_S)  # six of ten must be on the disk
        disk.let(1)
        assert returned(thread, LATE_S)
        assert disk.taken == 6
        disk.let(4)
        saving.wait()


def test_what_nobody_changes_is_neither_copied_nor_waited_for(tmp_path: Path, disk: small.SlowDisk) -> None:
    weights = ten_pieces()
    with Store(tmp_path, buffer_bytes=0) as store:
        state = small.state(1, weights=weights, arrays={}, baked={"w3": np.ones_like(weights["w3"])})
        saving = store.save_in_background(state)
        thread = releasing(saving)
        disk.let(9)
        assert not returned(thread, SOON_S)
        disk.let(1)
        assert returned(thread, LATE_S)
        assert not saving.done
        disk.let(1)
        small.check(load(saving.wait().path), state)


class Large(np.ndarray[Any, Any]):
    """Too large to be copied."""

    def copy(self, *_: Any) -> Any:
        raise MemoryError


def test_without_memory_for_copies_all_is_waited_for(tmp_path: Path, disk: small.SlowDisk) -> None:
    weights = {name: array.view(Large) for name, array in ten_pieces().items()}
    with Store(tmp_path) as store:
        saving = store.save_in_background(small.state(1, weights=weights, arrays={}))
        thread = releasing(saving)
        disk.let(9)
        assert not returned(thread, SOON_S)
        disk.let(1)
        assert returned(thread, LATE_S)
        small.check(load(saving.wait().path), small.state(1, weights=ten_pieces(), arrays={}))


def test_without_a_buffer_all_is_waited_for(tmp_path: Path, disk: small.SlowDisk) -> None:
    with Store(tmp_path, buffer_bytes=0) as store:
        saving = store.save_in_background(small.state(1, weights=ten_pieces(), arrays={}))
        thread = releasing(saving)
        disk.let(9)
        assert not returned(thread, SOON_S)
        disk.let(1)
        assert returned(thread, LATE_S)


def test_release_after_the_end_and_again(tmp_path: Path) -> None:
    weights = ten_pieces()
    with Store(tmp_path) as store:
        saving = store.save_in_background(small.state(1, weights=weights))
        saving.release()
        saving.release()
        saved = saving.wait()
        saving.release()
        assert saving.wait() is saved


def test_copies_take_no_more_than_the_buffer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = small.SlowDisk(monkeypatch)
    monkeypatch.setattr(writing, "PIECE_BYTES", 1 << 20)
    weights = {f"w{i}": np.full(3 << 18, i, np.float32) for i in range(8)}  # 24 MB
    with Store(tmp_path, buffer_bytes=10 << 20) as store:
        tracemalloc.start()
        saving = store.save_in_background(small.state(1, weights=weights, arrays={}))
        disk.let(14)
        saving.release()
        monkeypatch.setattr(saving, "_copy_from_end", lambda: 1 / 0)
        saving.release()  # before every update, as it is simplest: nothing is copied again
        copied, _ = tracemalloc.get_traced_memory()
        disk.let(6)
        while disk.taken < 20:
            time.sleep(0.001)
        fewer, _ = tracemalloc.get_traced_memory()
        disk.let(4)
        saving.wait()
        left, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert copied > 9 << 20
    assert fewer < copied - (4 << 20)  # as they are written
    assert peak < 11.5 * (1 << 20)  # and one piece that came too late
    assert left < 1 << 20


def test_exact_whenever_it_is_released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads meet anywhere: arrays are spoilt as soon as release() returns."""
    monkeypatch.setattr(writing, "PIECE_BYTES", 4096)
    monkeypatch.setattr(files, "sync", lambda descriptor: None)
    chance = random.Random(5)
    rng = np.random.default_rng(5)
    with Store(tmp_path, keep=1, shard_bytes=40_000) as store:
        for step in range(60):
            weights = {f"w{i}": rng.standard_normal(chance.randrange(1, 9000), np.float32) for i in range(12)}
            before = {name: array.copy() for name, array in weights.items()}
            store.buffer_bytes = chance.choice([0, 10_000, 100_000, 1 << 20])
            saving = store.save_in_background(small.state(step, weights=weights))
            time.sleep(chance.choice([0, 0, 0.0003, 0.001]))
            saving.release()
            for array in weights.values():
                array.fill(np.nan)
            small.check(load(saving.wait().path), small.state(step, weights=before))


def test_values_are_those_of_the_call(tmp_path: Path, disk: small.SlowDisk) -> None:
    """The caller may change its dicts while the thread writes."""
    values = {"draws": [1, 2]}
    with Store(tmp_path) as store:
        saving = store.save_in_background(small.state(5, values=values, config=values))
        values["draws"].append(3)
        disk.let(10)
        checkpoint = load(saving.wait().path)
    assert checkpoint.values == checkpoint.config == {"draws": [1, 2]}


def test_one_after_the_other(tmp_path: Path, disk: small.SlowDisk) -> None:
    """A second save begins when the first is finished; close() waits for the last."""
    with Store(tmp_path) as store:
        first = store.save_in_background(small.state(1, weights=ten_pieces(), arrays={}))
        timer = threading.Timer(SOON_S, disk.let, [20])
        timer.start()
        store.save_in_background(small.state(2, weights=ten_pieces(), arrays={}))
        assert first.done
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000001", "step-00000002"]


def test_an_error_of_the_thread_reaches_the_caller_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path) -> Any:
        raise OSError(5, "Input/output error")

    store = Store(tmp_path)
    store.save(small.state(1))
    with monkeypatch.context() as patch:
        patch.setattr(files, "new_file", broken)
        saving = store.save_in_background(small.state(2))
        saving.release()  # the arrays are not needed any more
        with pytest.raises(CheckpointError, match="step-00000002 was not saved: Input/output error"):
            store.save_in_background(small.state(3))
        saving = store.save_in_background(small.state(3))
        with pytest.raises(CheckpointError, match="step-00000003 was not saved"):
            saving.wait()
    store.save(small.state(4))  # the error was seen: it does not come again
    with monkeypatch.context() as patch:
        patch.setattr(files, "new_file", broken)
        store.save_in_background(small.state(5))
        with pytest.raises(CheckpointError, match="step-00000005 was not saved"):
            store.close()
    Store(tmp_path, step=5).close()  # closed all the same
    assert small.names(tmp_path) == ["step-00000001", "step-00000004"]


def test_release_ends_when_the_disk_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = small.SlowDisk(monkeypatch)
    with Store(tmp_path, buffer_bytes=0) as store:
        saving = store.save_in_background(small.state(1, weights=ten_pieces(), arrays={}))
        thread = releasing(saving)
        assert not returned(thread, SOON_S)
        monkeypatch.setattr(writing.zlib, "crc32", lambda *_: 1 / 0)
        disk.let(10)
        assert returned(thread, LATE_S)
        with pytest.raises(ZeroDivisionError):
            saving.wait()
    assert small.names(tmp_path) == []
