"""anetrain.scaler: when the loss scale grows, when it falls, and what a checkpoint keeps of it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from anetrain.scaler import LossScaler
from tests.cpu_arrays import refused


def test_it_starts_at_two_to_the_sixteen() -> None:
    assert LossScaler().scale == 65_536.0


def test_growth_after_good_updates() -> None:
    scaler = LossScaler(1024.0, growth_interval=3)
    grown = [scaler.good(largest_output=1.0) for _ in range(7)]
    assert grown == [False, False, True, False, False, True, False]
    assert scaler.scale == 4096.0


@pytest.mark.parametrize(("largest", "after"), [(4096.0, 2048.0), (4096.5, 1024.0), (60_000.0, 1024.0)])
def test_growth_is_limited_by_what_the_device_put_out(largest: float, after: float) -> None:
    """After growth it is at most 2^13; the largest of the interval counts, not the last."""
    scaler = LossScaler(1024.0, growth_interval=3)
    for output in (0.5, largest, 2.0):
        scaler.good(output)
    assert scaler.scale == after


def test_an_old_maximum_is_forgotten() -> None:
    scaler = LossScaler(1024.0, growth_interval=2)
    for output in (5000.0, 1.0, 1.0, 1.0):
        scaler.good(output)
    assert scaler.scale == 2048.0
    scaler.good(5000.0)
    scaler.overflow()
    for output in (1.0, 1.0):
        scaler.good(output)
    assert scaler.scale == 2048.0


def test_overflow_halves_and_counts_from_anew() -> None:
    scaler = LossScaler(1024.0, growth_interval=3)
    scaler.good(1.0)
    scaler.good(1.0)
    scaler.overflow(infinite=5)
    assert scaler.scale == 512.0
    assert [scaler.good(1.0) for _ in range(3)] == [False, False, True]
    assert scaler.scale == 1024.0


def test_counters() -> None:
    scaler = LossScaler()
    scaler.good(1.0, flushed=7)
    scaler.overflow(infinite=5)
    scaler.overflow()
    scaler.good(1.0, flushed=3)
    assert vars(scaler.counters) == {"overflows": 2, "infinite_values": 6, "flushed_values": 10}


def test_there_are_limits() -> None:
    scaler = LossScaler(2.0**23, growth_interval=1)
    assert [scaler.good(0.0) for _ in range(3)] == [True, False, False]
    assert scaler.scale == 2.0**24
    scaler = LossScaler(2.0)
    scaler.overflow()
    assert scaler.scale == 1.0
    with pytest.raises(FloatingPointError, match="loss scale of 1"):
        scaler.overflow()
    assert scaler.scale == 1.0


def random_run(scaler: LossScaler, updates: range) -> list[float]:
    scales = []
    for update in updates:
        if update % 17 == 5:
            scaler.overflow()
        else:
            scaler.good(2.0 ** (update % 13), flushed=update)
        scales.append(scaler.scale)
    return scales


def test_resumed_is_uninterrupted() -> None:
    straight = random_run(LossScaler(growth_interval=3), range(100))
    assert len(set(straight)) > 3
    for stop in (1, 2, 37, 41):
        first = LossScaler(growth_interval=3)
        scales = random_run(first, range(stop))
        second = LossScaler(growth_interval=3)
        second.load_state(first.state())
        assert scales + random_run(second, range(stop, 100)) == straight
        whole = LossScaler(growth_interval=3)
        random_run(whole, range(100))
        assert second.state() == whole.state()


def test_mistakes() -> None:
    refused(lambda: LossScaler(1000.0), "scale is 1000.0", "power of two")
    refused(lambda: LossScaler(0.5), "scale is 0.5")
    refused(lambda: LossScaler(growth_interval=0), "growth_interval is 0")
    scaler = LossScaler()
    refused(lambda: scaler.good(math.inf), "largest_output is inf", "overflow()")
    refused(lambda: scaler.good(math.nan), "largest_output is nan")
    assert scaler.state() == LossScaler().state()


def test_damaged_states_are_refused_whole() -> None:
    scaler = LossScaler()
    scaler.good(3.0)
    before = scaler.state()

    def refuses(changes: dict[str, Any], *words: str) -> None:
        changed = {**before, "scale": 4.0, "overflows": 9, **changes}
        state = {name: value for name, value in changed.items() if value is not None}
        refused(lambda: scaler.load_state(state), *words)
        assert scaler.state() == before

    refuses({"scale": 3.0}, "scale is 3.0")
    refuses({"scale": "x"}, "scale is 'x'")
    refuses({"scale": None}, "missing scale")
    refuses({"more": 1}, "unknown more")
    refuses({"good_updates": -1}, "good_updates is -1")
    refuses({"largest_output": math.nan}, "largest_output is nan")
    refuses({"flushed_values": 1.5}, "flushed_values is 1.5")
