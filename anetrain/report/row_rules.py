"""What the figures of one row must satisfy among themselves: each rule gives a sentence for whatever does not.

A rule says nothing of a row that lacks what it needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from anetrain.report.figures import Interval, printed
from anetrain.report.published import Published, Row

SLACK = 0.01  # where a source has rounded before it computed
LEAST_SHARE = 0.95  # of a whole that its parts must explain
BYTES_SLACK = 0.05
MIB = 1 << 20


# ---------------------------------------------------------------- steps


class Work(NamedTuple):
    """GFLOP of a micro-step of Stories110M as the published trainers count them: without attention's forward products,
    with 2.5 times as many for its backward."""

    forward: float
    device: float
    device_extras: float
    total: float


def stories_work() -> Work:
    dim, hidden, layers, seq, vocab = 768, 2048, 12, 256, 32_000
    linears = 2e-9 * seq * layers * (4 * dim * dim + 3 * dim * hidden)
    attention = 4e-9 * seq * seq * dim * layers
    classifier = 2e-9 * seq * dim * vocab
    device = 2 * linears + 2.5 * attention
    return Work(
        forward=linears + attention,
        device=device,
        device_extras=device + classifier,
        total=3 * linears + 2.5 * attention + 3 * classifier,
    )


def rate_of_step(row: Row, published: Published) -> Iterator[str]:
    """Operations over the time of a step."""
    if row.configuration.get("pipeline") != "static":
        return
    work = stories_work()
    device = work.device if row.configuration.get("program") == "train_large" else work.device_extras
    for name, gflop in (("ane_tflops", device), ("total_tflops", work.total)):
        for rate, ms in pairs(row, name, "step_ms", opposite=True):
            belongs = Interval(gflop / rate.high, gflop / rate.low)  # GFLOP per TFLOPS are ms
            if not belongs.wider(SLACK).meets(ms):
                yield f"{rate.middle:g} TFLOPS belongs to {gflop / rate.middle:.1f} ms, not {ms.middle:g}"


def pairs(row: Row, first: str, second: str, *, opposite: bool = False) -> list[tuple[Interval, Interval]]:
    """Two figures, end by end where both are ranges. `opposite`: the small end of one belongs to the large one of the
    other."""
    found, other = (row.figures.get(name) for name in (first, second))
    if found is None or other is None or found.interval is None or other.interval is None:
        return []
    if len(found.ends) != len(other.ends):
        return [(found.interval, other.interval)]
    return list(zip(found.ends, other.ends[::-1] if opposite else other.ends, strict=True))


def utilisation(row: Row, published: Published) -> Iterator[str]:
    """A rate over the denominator that is named."""
    whole, said = row.interval("utilisation_of_tflops"), row.figures.get("utilisation_percent")
    if said is not None and whole is None:
        yield f"{said.text} % of a denominator that is not named"
    for name in ("ane_tflops", "tflops", "sustained_tflops"):
        for rate, percent in pairs(row, name, "utilisation_percent"):
            if whole is not None and not rate.over(whole).times(Interval(100, 100)).meets(percent):
                share = 100 * rate.middle / whole.middle
                yield f"{rate.middle:g} of {whole.middle:g} TFLOPS is {share:.1f} %, not {percent.middle:g}"


def kernels_of_step(row: Row, published: Published) -> Iterator[str]:
    names = ("kernels_per_step", "weight_kernels_per_step", "static_kernels_per_step", "kernels_per_layer", "layers")
    whole, weights, static, of_layer, layers = (row.interval(name) for name in names)
    if whole is None:
        return
    if weights and static and weights.middle + static.middle != whole.middle:
        yield f"{weights.middle:g} + {static.middle:g} kernels are not {whole.middle:g}"
    if of_layer and layers and of_layer.middle * layers.middle != whole.middle:
        listed = of_layer.middle * layers.middle
        yield f"{of_layer.middle:g} kernels in each of {layers.middle:g} layers are {listed:g}, not {whole.middle:g}"


def whole_over_forward(row: Row, published: Published) -> Iterator[str]:
    """Operations of forward, backward and the CPU's weight gradients over a time of the forward pass alone."""
    rate, ms, gflop = (row.interval(name) for name in ("claimed_tflops", "forward_device_ms", "gflop"))
    if rate is None or ms is None:
        return
    implied, forward = rate.times(ms), stories_work().forward
    if gflop is not None and not implied.meets(gflop):
        yield f"{rate.middle:g} TFLOPS for {ms.middle:g} ms are {implied.middle:.1f} GFLOP, not {gflop.middle:g}"
    if implied.low > forward * (1 + SLACK):
        at = forward / ms.middle
        yield (
            f"{rate.middle:g} TFLOPS are {implied.middle:.1f} GFLOP in {ms.middle:g} ms of the forward pass, "
            f"which has {forward:.1f}: at most {at:.2f} TFLOPS"
        )


# ---------------------------------------------------------------- shapes


def gflop_of(row: Row) -> float | None:
    """Of a stack of 1x1 convolutions with as many channels out as in."""
    channels, spatial = row.configuration.get("channels"), row.configuration.get("spatial")
    layers = row.configuration.get("layers", 1)
    if not isinstance(channels, int) or not isinstance(spatial, int) or not isinstance(layers, int):
        return None
    return 2e-9 * layers * channels * channels * spatial


def counts_of_shape(row: Row, published: Published) -> Iterator[str]:
    gflop = gflop_of(row)
    if gflop is None:
        return
    layers, channels, spatial = (int(row.configuration.get(name) or 1) for name in ("layers", "channels", "spatial"))
    weights, activation = 2 * layers * channels * channels / MIB, 2 * channels * spatial / MIB
    expected = {
        "gflop": gflop,
        "gop": gflop,
        "weight_mb": weights,
        "activation_mb": activation,
        "total_mb": weights + 2 * activation,
    }
    for name, value in expected.items():
        found = row.interval(name)
        if found is not None and not found.wider(1e-9).meets(Interval(value, value)):
            yield f"{name} is {found.middle:g}, and of this shape {value:.4g}"


def rate_of_shape(row: Row, published: Published) -> Iterator[str]:
    gflop = gflop_of(row)
    if gflop is None:
        return
    names = (("ms", "tflops", 1), ("ms", "gflops", 1000), ("fp16_ms", "fp16_tflops", 1), ("int8_ms", "int8_tops", 1))
    for time, rate, unit in names:
        for ms, found in pairs(row, time, rate, opposite=True):
            expected = Interval(unit * gflop / ms.high, unit * gflop / ms.low)
            if not expected.meets(found):
                yield f"{gflop:.4g} GFLOP in {ms.middle:g} ms give {rate} {expected.middle:.4g}, not {found.middle:g}"


def speed_up(row: Row, published: Published) -> Iterator[str]:
    found = row.interval("int8_speedup")
    for above, below in (("fp16_ms", "int8_ms"), ("int8_tops", "fp16_tflops")):
        for numerator, denominator in pairs(row, above, below):
            expected = numerator.over(denominator)
            if found is not None and not expected.meets(found):
                yield f"{above} over {below} is {expected.middle:.3f}, not {found.middle:g}"


# ---------------------------------------------------------------- runs


def parts_of_whole(row: Row, published: Published) -> Iterator[str]:
    if row.parts is None:
        return
    whole = row.interval(row.parts.of)
    if whole is None:
        yield f"parts of {row.parts.of}, which has no value"
        return
    sum_ = Interval(0, 0)
    for part in row.parts.figures.values():
        sum_ = sum_.plus(printed(part))
    told = f"the parts sum to {sum_.middle:.1f} of {whole.middle:g} {published.quantities[row.parts.of].unit}"
    if row.parts.all and not sum_.meets(whole):
        yield told
    elif sum_.high < LEAST_SHARE * whole.low or sum_.low > whole.high:
        yield f"{told}: {100 * sum_.middle / whole.middle:.0f} %"


def shares_of_run(row: Row, published: Published) -> Iterator[str]:
    names = (
        ("compile_percent", "compile_s", "wall_s", 1.0),
        ("train_percent", "train_ms", "wall_s", 1e-3),
        ("device_percent", "device_ms", "step_ms", 1.0),
    )
    for name, part, whole, unit in names:
        percent = row.interval(name)
        for above, below in pairs(row, part, whole):
            share = above.over(below).times(Interval(100 * unit, 100 * unit))
            if percent is not None and not share.meets(percent):
                yield f"{part} over {whole} is {share.middle:.1f} %, not {percent.middle:g}"


def time_of_run(row: Row, published: Published) -> Iterator[str]:
    """All steps, and compiling, fit into the wall time."""
    steps, step, train, wall = (row.interval(name) for name in ("steps", "step_ms", "train_ms", "wall_s"))
    if steps is None or step is None:
        return
    count = steps.middle
    all_steps = Interval(count * step.low, count * step.high)
    if train is not None and not all_steps.meets(train):
        yield f"{count:g} steps of {step.middle:g} ms are {all_steps.middle:g} ms, not {train.middle:g}"
    compiling = row.interval("compile_s") or Interval(0, 0)
    if wall is not None and all_steps.low / 1e3 + compiling.low > wall.high:
        least = all_steps.middle / 1e3 + compiling.middle
        yield f"{count:g} steps and compiling take {least:.2f} s, more than the wall time of {wall.middle:g} s"


def tokens(row: Row, published: Published) -> Iterator[str]:
    for ms, rate in pairs(row, "ms_per_token", "tokens_per_s", opposite=True):
        expected = Interval(1e3 / ms.high, 1e3 / ms.low)
        if not expected.meets(rate):
            yield f"{ms.middle:g} ms per token are {1e3 / ms.middle:.0f} tok/s, not {rate.middle:g}"


# ---------------------------------------------------------------- bandwidth


def model_mb(published: Published) -> dict[object, float]:
    """Bytes of models, from rows that tell them."""
    return {
        row.configuration.get("model"): size.middle
        for row in published.rows
        if (size := row.interval("model_mb")) is not None
    }


def bytes_of_model(row: Row, published: Published) -> Iterator[str]:
    """A rate times its time is the bytes of the model that was run."""
    sizes = model_mb(published)
    size = sizes.get(row.configuration.get("model"))
    rate, ms = row.interval("gb_per_s"), row.interval("ms")
    if size is None or rate is None or ms is None:
        return
    moved = rate.times(ms)  # MB
    if not moved.meets(Interval(size, size).wider(BYTES_SLACK)):
        near = [name for name, other in sizes.items() if moved.meets(Interval(other, other).wider(2 * BYTES_SLACK))]
        hint = f", but near those of {near[0]}" if near else ""
        yield (
            f"{rate.middle:g} GB/s for {ms.middle:g} ms are {moved.middle:.0f} MB, not the {size:.0f} MB "
            f"of {row.configuration['model']}{hint}"
        )


def two_at_once(row: Row, published: Published) -> Iterator[str]:
    """What two do together over what both do alone."""
    alone, together, factor = (row.interval(name) for name in ("gb_per_s", "combined_gb_per_s", "dual_factor"))
    if alone is None or together is None or factor is None:
        return
    expected = together.over(alone.plus(alone))
    if not expected.meets(factor):
        yield f"{together.middle:g} of twice {alone.middle:g} GB/s is {expected.middle:.3f}, not {factor.middle:g}"
