"""anetrain.schedule against tables, written out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from anetrain.schedule import Schedule
from tests.cpu_arrays import refused

# kind, warmup, min_ratio, cooldown -> rates of updates 0, 1, 2, ... of ten, then of the two after them; lr is 8
TABLES: list[tuple[dict[str, Any], list[float]]] = [
    ({"kind": "constant"}, [8.0] * 12),
    ({"kind": "constant", "warmup": 4}, [2, 4, 6, 8, 8, 8, 8, 8, 8, 8, 8, 8]),
    ({"kind": "linear"}, [8, 7.2, 6.4, 5.6, 4.8, 4, 3.2, 2.4, 1.6, 0.8, 0, 0]),
    ({"kind": "linear", "warmup": 2, "min_ratio": 0.5}, [4, 8, 8, 7.5, 7, 6.5, 6, 5.5, 5, 4.5, 4, 4]),
    # 1 + cos of 0, 45, 90 and 135 degrees, twice as fine
    (
        {"kind": "cosine", "warmup": 2},
        [4, 8, 8, 7.6955181, 6.8284271, 5.5307337, 4, 2.4692663, 1.1715729, 0.3044819, 0, 0],
    ),
    (
        {"kind": "cosine", "warmup": 2, "min_ratio": 0.25},
        [4, 8, 8, 7.7716386, 7.1213203, 6.1480502, 5, 3.8519498, 2.8786797, 2.2283614, 2, 2],
    ),
    # 1 - the roots of 0, 1/4, 1/2 and 3/4
    ({"kind": "wsd", "cooldown": 4}, [8, 8, 8, 8, 8, 8, 8, 4, 2.3431458, 1.0717968, 0, 0]),
    ({"kind": "wsd", "warmup": 1, "min_ratio": 0.5}, [8, 8, 8, 8, 8, 8, 8, 8, 8, 5.1715729, 4, 4]),
    ({"kind": "wsd", "warmup": 9}, [8 / 9 * n for n in range(1, 10)] + [8, 0, 0]),
    ({"kind": "wsd", "cooldown": 0}, [8.0] * 10 + [0, 0]),
    ({"kind": "linear", "warmup": 10}, [0.8 * n for n in range(1, 11)] + [0, 0]),
]


@pytest.mark.parametrize(("options", "rates"), TABLES)
def test_tables(options: dict[str, Any], rates: list[float]) -> None:
    schedule = Schedule(lr=8.0, updates=10, **options)
    assert [schedule(update) for update in range(12)] == pytest.approx(rates, rel=1e-7, abs=1e-12)


def test_long_runs() -> None:
    """A cosine over 100,000 updates: a quarter, half and three quarters of the way behind the warm-up."""
    schedule = Schedule("cosine", lr=1e-3, updates=100_000, warmup=20_000, min_ratio=0.1)
    found = [schedule(update) for update in (0, 19_999, 40_000, 60_000, 80_000, 99_999)]
    assert found == pytest.approx([5e-8, 1e-3, 8.68198052e-4, 5.5e-4, 2.31801948e-4, 1e-4], rel=1e-6)


@pytest.mark.parametrize("kind", ["constant", "linear", "cosine", "wsd"])
def test_one_update(kind: Any) -> None:
    assert Schedule(kind, lr=0.5, updates=1)(0) == 0.5
    assert Schedule(kind, lr=0.5, updates=1, warmup=1)(0) == 0.5


def test_the_first_rate_is_never_zero() -> None:
    for kind in ("constant", "linear", "cosine", "wsd"):
        assert Schedule(kind, lr=0.5, updates=1000, warmup=1000)(0) == pytest.approx(0.0005)  # type: ignore[arg-type]


def test_mistakes_name_the_field() -> None:
    def make(**changes: Any) -> Schedule:
        return Schedule(**{"kind": "wsd", "lr": 0.1, "updates": 10, "warmup": 2, **changes})

    refused(lambda: make(kind="cosin"), "kind", "'cosin'", "cosine")
    refused(lambda: make(lr=0.0), "lr is 0.0")
    refused(lambda: make(lr=float("nan")), "lr is nan")
    refused(lambda: make(updates=0), "updates is 0")
    refused(lambda: make(updates=1.5), "updates is 1.5")
    refused(lambda: make(warmup=-1), "warmup is -1")
    refused(lambda: make(warmup=11), "warmup is 11", "10")
    refused(lambda: make(min_ratio=1.1), "min_ratio is 1.1")
    refused(lambda: make(cooldown=9), "cooldown is 9", "8 updates")
    refused(lambda: make(cooldown=-1), "cooldown is -1")
    refused(lambda: make(kind="cosine", cooldown=2), "cooldown is 2", "wsd", "cosine")
    refused(lambda: make()(-1), "update is -1")
    refused(lambda: make()(True), "update is True")
