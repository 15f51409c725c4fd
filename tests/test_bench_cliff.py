"""A cliff is found where there is one, and only there: on times made up with and without one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from anetrain.bench import cliff
from anetrain.bench.resampling import interval, resampled_medians, samples_s
from anetrain.results import Check, Measurement, Timing

SIZES = (2, 4, 6, 8, 12, 16, 20, 24, 28, 32, 36, 40, 48, 56, 64, 80, 96, 128)
FLOOR, SLOPE, END = 0.09, 0.0075, 32.0

Law = Callable[[float], float]


def line(size: float) -> float:
    return FLOOR + SLOPE * size


def jump(size: float) -> float:
    """Beyond the end everything streams."""
    return FLOOR + SLOPE * size * (1.4 if size > END else 1.0)


def bend(size: float) -> float:
    """Beyond the end what is too much streams."""
    return line(size) + 0.6 * SLOPE * max(0.0, size - END)


def quicker(size: float) -> float:
    return FLOOR + SLOPE * size * (0.6 if size > END else 1.0)


def times(law: Law, *, noise: float, scatter: float = 0.0, seed: int = 0, sizes: Sequence[float] = SIZES) -> dict:
    """Each sample is late by a share of its own (noise), each size is off by another (scatter)."""
    random = np.random.default_rng(seed)
    off = 1 + scatter * random.standard_normal(len(sizes))
    late = 1 + noise * np.abs(random.standard_normal((len(sizes), 30)))
    return {size: (law(size) * off[i] * late[i]).tolist() for i, size in enumerate(sizes)}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("noise", [0.0, 0.005, 0.05])
@pytest.mark.parametrize("law", [line, quicker])
def test_no_cliff_where_there_is_none(law: Law, noise: float, seed: int) -> None:
    found = cliff.find(times(law, noise=noise, seed=seed))
    assert (found.answer, found.largest, found.low, found.high) == ("no cliff", 128, None, None)
    assert found.confidence >= 0.95


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("noise", [0.0, 0.005, 0.05])
@pytest.mark.parametrize(("law", "slower"), [(jump, 1.37), (bend, 1.41)])
def test_a_cliff_is_found_at_its_place(law: Law, slower: float, noise: float, seed: int) -> None:
    found = cliff.find(times(law, noise=noise, seed=seed))
    assert found.answer == "cliff"
    assert found.low is not None
    assert found.high is not None
    assert 24 <= found.low <= END < found.high <= 40
    assert found.slower == pytest.approx(slower, abs=0.05)
    assert found.confidence >= 0.95


def test_a_sharp_cliff_lies_between_two_neighbours() -> None:
    found = cliff.find(times(jump, noise=0.01))
    assert (found.low, found.high) == (32, 36)


def test_sizes_that_were_not_measured_widen_the_place() -> None:
    missing = (24, 28, 36, 40)
    found = cliff.find(times(jump, noise=0.01, sizes=[size for size in SIZES if size not in missing]))
    assert (found.answer, found.low, found.high) == ("cliff", 32, 48)
    short = cliff.find(times(jump, noise=0.01, sizes=[size for size in SIZES if size <= 32]))
    assert (short.answer, short.largest) == ("no cliff", 32)


def test_too_few_sizes_say_nothing() -> None:
    for sizes in ((), (8,), SIZES[:5]):
        found = cliff.find(times(jump, noise=0.01, sizes=sizes))
        assert (found.answer, found.sizes) == ("too few sizes", len(sizes))
    assert cliff.find(times(line, noise=0.01, sizes=SIZES[:6])).answer == "no cliff"


def test_programs_that_differ_leave_it_open() -> None:
    """Each size is off by a tenth, and no number of its samples shows that: nobody may be sure of a place."""
    found = [cliff.find(times(jump, noise=0.005, scatter=0.1, seed=seed)) for seed in range(6)]
    sure = [one for one in found if one.answer == "cliff"]
    assert len(sure) < 3
    for one in sure:
        assert one.low is not None
        assert one.high is not None
        assert one.low <= END < one.high
    assert any(one.answer == "unsure" for one in found)
    assert not [
        seed for seed in range(6) if cliff.find(times(line, noise=0.005, scatter=0.1, seed=seed)).answer == "cliff"
    ]


def test_one_odd_size_is_no_cliff() -> None:
    """As in the published table: 1024 channels took more than twice the time of 2048."""
    odd = times(line, noise=0.01)
    odd[16] = [2.5 * sample for sample in odd[16]]
    assert cliff.find(odd).answer != "cliff"


def test_the_published_rows_show_no_cliff() -> None:
    """M5 Max, ms by MB of weights, without the row that changes two things; and the row's own bytes are no slower."""
    published = {0.125: 0.212, 0.5: 0.085, 2: 0.335, 8: 0.141, 18: 0.204, 32: 0.300, 50: 0.432, 72: 0.565}
    assert cliff.find({size: [ms] for size, ms in published.items()}).answer == "no cliff"
    assert cliff.find({size: [ms] for size, ms in (published | {128: 0.965}).items()}).answer != "cliff"


def test_the_same_times_give_the_same_answer() -> None:
    assert cliff.find(times(bend, noise=0.05)) == cliff.find(times(bend, noise=0.05))


def test_units_do_not_matter() -> None:
    made = times(bend, noise=0.05)
    scaled = {size * 2**20: [1e-3 * sample for sample in samples] for size, samples in made.items()}
    one, other = cliff.find(made), cliff.find(scaled)
    assert other.low == (one.low or 0) * 2**20
    assert other.slower == pytest.approx(one.slower)


def test_lines_are_least_squares_of_shares() -> None:
    random = np.random.default_rng(3)
    sizes, measured = np.array([1.0, 2, 5, 9]), random.uniform(1, 2, (1, 4))
    found = cliff._fit(sizes, measured)
    slope, floor = np.polyfit(sizes, measured[0], 1, w=1 / measured[0])
    assert (found.slope[0], found.floor[0]) == pytest.approx((slope, floor))
    assert found.residual[0] == pytest.approx(np.sum(((floor + slope * sizes) / measured[0] - 1) ** 2))


@pytest.mark.parametrize(
    ("law", "sentence"),
    [
        (jump, "a cliff between 32 and 36 MiB of weights: 1.37 times the time at 128 MiB"),
        (line, "no cliff seen up to 128 MiB of weights"),
    ],
)
def test_sentences(law: Law, sentence: str) -> None:
    found = cliff.find(times(law, noise=0.001))
    assert cliff.sentence(found, "weights", "MiB") == f"{sentence} (in 100% of 500 resamplings of 18 sizes)"
    few = cliff.find(times(law, noise=0.001, sizes=SIZES[:3]))
    assert cliff.sentence(few, "weights", "MiB") == "cannot be told: 3 sizes of weights measured, at least 6 needed"


def test_figures_are_what_is_known() -> None:
    figures = cliff.figures(cliff.find(times(jump, noise=0.001)), "mib")
    assert figures == {
        "sizes": 18,
        "largest_mib": 128,
        "confidence": 1.0,
        "cliff_low_mib": 32,
        "cliff_high_mib": 36,
        "slower": pytest.approx(1.37, abs=0.01),
    }
    assert set(cliff.figures(cliff.find(times(line, noise=0.001)), "mib")) == {"sizes", "largest_mib", "confidence"}


def test_resampled_medians_spread_as_medians_do() -> None:
    """Of n samples of a normal distribution: sigma times the square root of pi / 2n."""
    samples = np.random.default_rng(0).normal(1.0, 0.1, 200)
    medians = resampled_medians(samples.tolist(), np.random.default_rng(1))
    assert np.std(medians) == pytest.approx(0.1 * np.sqrt(np.pi / 400), rel=0.35)
    low, high = interval(medians)
    assert low < np.median(samples) < high
    assert np.mean((medians >= low) & (medians <= high)) == pytest.approx(0.95, abs=0.02)


def test_times_without_any_noise_are_no_division_by_it() -> None:
    with np.errstate(all="raise"):
        assert cliff.find({size: [1.0, 1.0] for size in SIZES}).answer == "no cliff"


def test_samples_are_of_one_call() -> None:
    timing = Timing.of((0.2, 0.4), warm_up=5, stable=True, calls_per_sample=10)
    check = Check(against="numpy", largest_error=0.0, allowed=0.0, elements=1)
    assert samples_s(Measurement.of("sram", "a case", timing, check)) == pytest.approx([0.02, 0.04])
