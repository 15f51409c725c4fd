"""anetrain.data.sampler: windows, epochs, coverage, state, what is refused."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from anetrain.data import Sampler, Windows
from anetrain.tokens import check_tokens
from tests.cpu_arrays import refused


def starts(sampler: Sampler, windows: int) -> list[int]:
    """Of the next windows; the tokens of the data are their own positions."""
    return [int(row[0]) for _ in range(windows // sampler.batch) for row in next(sampler)[0]]


def test_a_batch_is_windows_and_what_follows() -> None:
    tokens = np.arange(100, 200, dtype=np.uint16)
    ids, targets = next(Sampler(tokens, batch=3, seq=8, vocab=200))
    assert ids.shape == targets.shape == (3, 8)
    assert ids.dtype == targets.dtype == np.int32
    np.testing.assert_array_equal(targets, ids + 1)
    np.testing.assert_array_equal(ids, ids[:, :1] + np.arange(8))
    assert ids.flags.c_contiguous
    assert targets.flags.c_contiguous


@pytest.mark.parametrize("count", [9, 10, 16, 17, 25, 40])
def test_every_start_is_reached_and_no_other(count: int) -> None:
    sampler = Sampler(np.arange(count), batch=1, seq=8, vocab=count, seed=3)
    seen = Counter(starts(sampler, 3000))
    assert sorted(seen) == list(range(count - 8))


def test_an_epoch_is_every_window_once_side_by_side() -> None:
    sampler = Sampler(np.arange(1000), batch=1, seq=8, vocab=1000, seed=5)
    orders = []
    for epoch in range(4):
        found = starts(sampler, 1)
        assert sampler.epoch == epoch
        found += starts(sampler, (1000 - 1 - found[0] % 8) // 8 - 1)
        assert sorted(found) == list(range(min(found), 993, 8))
        assert min(found) < 8
        orders.append(found)
    assert len({min(order) for order in orders}) > 1
    assert orders[0] != sorted(orders[0])


def test_a_batch_goes_on_in_the_next_epoch() -> None:
    alone = Sampler(np.arange(30), batch=1, seq=8, vocab=30, seed=1)
    together = Sampler(np.arange(30), batch=5, seq=8, vocab=30, seed=1)
    assert starts(alone, 20) == starts(together, 20)


def test_positions_are_uniform_and_no_lattice() -> None:
    count, seq, windows = 20_000, 16, 30_000
    sampler = Sampler(np.arange(count), batch=10, seq=seq, vocab=count, seed=2)
    found = np.array(starts(sampler, windows)) / (count - seq)
    distance = np.abs(np.sort(found) - (np.arange(windows) + 0.5) / windows).max()
    assert distance < 1.63 / math.sqrt(windows)  # Kolmogorov and Smirnov, 1 %
    differences = np.diff(found) % 1.0
    assert np.abs(np.sort(differences) - (np.arange(windows - 1) + 0.5) / windows).max() < 1.63 / math.sqrt(windows)
    first = [starts(Sampler(np.arange(count), batch=1, seq=seq, vocab=count, seed=seed), 1)[0] for seed in range(200)]
    steps = np.diff(first) % (count - seq)
    assert len(set(steps.tolist())) > 150


def test_the_seed_decides() -> None:
    one, other, third = (Sampler(np.arange(500), batch=4, seq=8, vocab=500, seed=seed) for seed in (7, 7, 8))
    order = starts(one, 200)
    assert order == starts(other, 200)
    assert order != starts(third, 200)


@pytest.mark.parametrize("taken", [0, 1, 7, 33])
def test_a_loaded_state_goes_on_where_it_was(taken: int) -> None:
    straight = Sampler(np.arange(70), batch=3, seq=8, vocab=70, seed=11)
    starts(straight, 3 * taken)
    state = straight.state()
    assert all(type(value) is int for value in state.values())
    other = Sampler(np.arange(70), batch=3, seq=8, vocab=70, seed=0)
    starts(other, 12)
    other.load_state(state)
    assert starts(straight, 60) == starts(other, 60)
    assert straight.state() == other.state()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"position": 9}, "position is 9, but epoch 0 has"),
        ({"position": -1}, "position is -1"),
        ({"epoch": 1.5}, "epoch is 1.5"),
        ({"tokens": 71}, "tokens is 71, here it is 70"),
        ({"seq": 9}, "seq is 9, here it is 8"),
        ({"more": 1}, "expected seed, epoch, position, tokens, seq"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change: dict[str, int], says: str) -> None:
    sampler = Sampler(np.arange(70), batch=1, seq=8, vocab=70, seed=4)
    starts(sampler, 3)
    before = sampler.state()
    refused(lambda: sampler.load_state(before | change), says)
    assert sampler.state() == before


@pytest.mark.parametrize("count", range(2, 60, 3))
def test_windows_give_each_target_once(count: int) -> None:
    tokens = np.arange(count, dtype=np.uint32)
    windows = Windows(tokens, batch=2, seq=8, vocab=count)
    for _ in range(2):  # as often as wanted
        batches = list(windows)
        assert len(batches) == len(windows)
        ids, targets = (np.concatenate([pair[i].ravel() for pair in batches]) for i in range(2))
        counted = targets >= 0
        np.testing.assert_array_equal(targets[counted], np.arange(1, count))
        np.testing.assert_array_equal(ids[counted], np.arange(count - 1))
        assert all(array.shape == (2, 8) and array.dtype == np.int32 for pair in batches for array in pair)


def test_data_too_short_is_refused_with_both_numbers() -> None:
    refused(
        lambda: Sampler(np.zeros(100, np.uint16), batch=1, seq=256, vocab=10),
        "the data has 100 tokens; windows of 256 and the token behind them need 257",
    )
    refused(lambda: Windows(np.zeros(1, np.uint16), batch=1, seq=4, vocab=10), "has 1 tokens")
    assert next(Sampler(np.arange(257), batch=1, seq=256, vocab=257))[1][0, -1] == 256


def test_ids_outside_the_vocabulary_are_refused() -> None:
    tokens = np.arange(50, dtype=np.int64)
    says = "token 49 has the id 49; expected 0 to 48"
    refused(lambda: Sampler(tokens, batch=1, seq=4, vocab=49), says)
    refused(lambda: Windows(tokens, batch=1, seq=4, vocab=49), says)
    tokens[20] = -1
    refused(lambda: check_tokens(tokens, 100), "token 20 has the id -1")
    refused(lambda: check_tokens(np.zeros((3, 3), np.int32), 100), "one dimension")
    refused(lambda: check_tokens(np.zeros(3, np.float32), 100), "tokens is float32")
    refused(lambda: check_tokens([1, 2, 3], 100), "tokens is list")  # type: ignore[arg-type]


def test_the_position_of_a_bad_id_counts_from_the_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anetrain.tokens.AT_ONCE", 16)
    tokens = np.zeros(100, np.uint16)
    tokens[77] = 9
    refused(lambda: check_tokens(tokens, 9), "token 77 has the id 9")


def test_sizes_are_checked() -> None:
    tokens = np.zeros(100, np.uint16)
    refused(lambda: Sampler(tokens, batch=0, seq=4, vocab=10), "batch is 0")
    refused(lambda: Windows(tokens, batch=1, seq=0, vocab=10), "seq is 0")
    refused(lambda: Sampler(tokens, batch=1, seq=4, vocab=10, seed=-1), "seed is -1")


def test_a_mapped_file(tmp_path: Path) -> None:
    path = tmp_path / "tokens.bin"
    np.arange(300, dtype=np.uint16).tofile(path)
    mapped = np.memmap(path, np.uint16, "r")
    ids, targets = next(Sampler(mapped, batch=2, seq=16, vocab=300, seed=1))
    np.testing.assert_array_equal(targets, ids + 1)
    assert len(list(Windows(mapped, batch=2, seq=16, vocab=300))) == 10
