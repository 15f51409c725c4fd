"""anetrain.cpu's fp16 conversions against numpy's; csrc/tests/test_fp16.cpp compares all native versions by bits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anetrain import cpu

Array = npt.NDArray[Any]


@pytest.fixture(params=[1, 2, 5])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    cpu.set_threads(request.param)
    yield request.param
    cpu.set_threads(None)


def floats(*shape: int) -> npt.NDArray[np.float32]:
    random = np.random.default_rng(sum(shape))
    return (random.standard_normal(shape) * 10.0 ** random.uniform(-9, 6, shape)).astype(np.float32)


def numpy_half(values: Array) -> Array:
    with np.errstate(over="ignore"):
        return values.astype(np.float16)


def bits(array: Array) -> Array:
    return array.view(np.uint16 if array.dtype == np.float16 else np.uint32)


def test_every_half_becomes_numpys_float() -> None:
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    found = cpu.to_float(halves)
    numbers = ~np.isnan(halves)
    assert np.array_equal(bits(found)[numbers], bits(halves.astype(np.float32))[numbers])
    assert np.isnan(found[~numbers]).all()


def test_nan_keeps_sign_and_top_payload_bits_and_becomes_quiet() -> None:
    signalling = np.array([0x7F802000, 0xFF801FFF, 0x7FFFFFFF], dtype=np.uint32).view(np.float32)
    assert bits(cpu.to_half(signalling)).tolist() == [0x7E01, 0xFE00, 0x7FFF]
    assert bits(cpu.to_float(np.array([0x7C01, 0xFC00 | 0x155], np.uint16).view(np.float16))).tolist() == [
        0x7FC02000,
        0xFFEAA000,
    ]


@given(st.lists(st.integers(0, 2**32 - 1), max_size=70))
def test_any_float_becomes_numpys_half(patterns: list[int]) -> None:
    values = np.array(patterns, dtype=np.uint32).view(np.float32)
    numbers = ~np.isnan(values)
    assert np.array_equal(bits(cpu.to_half(values))[numbers], bits(numpy_half(values))[numbers])


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 1000, 2**19, 2**23 + 5])
def test_contiguous(threads: int, size: int) -> None:
    values = floats(size)
    halves = cpu.to_half(values)
    assert np.array_equal(bits(halves), bits(numpy_half(values)))
    assert np.array_equal(bits(cpu.to_float(halves)), bits(halves.astype(np.float32)))


VIEWS: dict[str, Callable[[Array], Array]] = {
    "whole": lambda a: a,
    "transposed": lambda a: a.T,
    "cropped": lambda a: a[3:-2, 1:-4],
    "transposed and cropped": lambda a: a[3:-2, 1:-4].T,
    "every other column": lambda a: a[:, ::2],
    "every third row": lambda a: a[::3],
    "backwards": lambda a: a[::-1, ::-1],
    "one column": lambda a: a[:, 7],
}


@pytest.mark.parametrize("view", VIEWS)
def test_views_in_and_out(threads: int, view: str) -> None:
    of = VIEWS[view]
    values = floats(200, 333)
    source = of(values)
    expected = numpy_half(source)
    assert np.array_equal(bits(cpu.to_half(source)), bits(expected))

    whole = np.full(values.shape, 7.0, np.float16)
    untouched = whole.copy()
    of(untouched)[...] = expected
    result = cpu.to_half(np.ascontiguousarray(source), out=of(whole))
    assert np.shares_memory(result, whole)
    assert np.array_equal(whole, untouched)  # inside: converted; outside: as it was

    back = np.full(values.shape, 7.0, np.float32)
    cpu.to_float(of(whole), out=of(back))
    assert np.array_equal(of(back), expected.astype(np.float32))


def test_contiguous_arrays_of_any_rank() -> None:
    values = floats(3, 4, 5, 6)
    assert np.array_equal(cpu.to_half(values), numpy_half(values))
    assert cpu.to_half(np.array(1.5, np.float32)).shape == ()


def test_python_threads_convert_at_the_same_time() -> None:
    values = [floats(300, 1000 + i) for i in range(4)]
    results: list[Array] = [np.empty(0)] * 4

    def work(i: int) -> None:
        for _ in range(20):
            results[i] = cpu.to_half(values[i])

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for value, result in zip(values, results, strict=True):
        assert np.array_equal(bits(result), bits(numpy_half(value)))


def read_only(array: Array) -> Array:
    array.flags.writeable = False
    return array


SHARED = np.zeros(64, np.float32)


@pytest.mark.parametrize(
    ("convert", "message"),
    [
        (lambda: cpu.to_half([1.0]), "values is list; expected a numpy array of float32"),  # type: ignore[arg-type]
        (lambda: cpu.to_half(np.zeros(3)), "values has dtype float64; expected float32"),  # type: ignore[arg-type]
        (lambda: cpu.to_half(np.zeros(3, ">f4")), "values has dtype >f4; expected float32"),
        (lambda: cpu.to_float(np.zeros(3, np.float32)), "values has dtype float32; expected float16"),  # type: ignore[arg-type]
        (lambda: cpu.to_half(SHARED, out=np.zeros(63, np.float16)), r"out has shape \(63,\); expected \(64,\)"),
        (lambda: cpu.to_half(SHARED, out=read_only(np.zeros(64, np.float16))), "out is read-only"),
        (lambda: cpu.to_half(SHARED[:32], out=SHARED.view(np.float16)[:32]), "out overlaps an input"),
        (lambda: cpu.to_half(np.zeros((4, 4, 4), np.float32)[:, ::2]), "beyond two dimensions both must be contiguous"),
        (
            lambda: cpu.to_half(np.frombuffer(b"\0" * 17, np.uint8)[1:].view(np.float32)),
            "values is not aligned",
        ),
        (
            lambda: cpu.to_half(SHARED, out=np.lib.stride_tricks.as_strided(np.zeros(1, np.float16), (64,), (0,))),
            "several of its elements are the same memory",
        ),
    ],
)
def test_wrong_arrays_are_refused(convert: Callable[[], Array], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        convert()


# --- Row orders ---


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (12, 5), (96, 33), (768, 256), (40, 0), (0, 5)])
def test_rows_go_where_the_order_says(threads: int, rows: int, columns: int) -> None:
    values = floats(rows, columns + 3)[:, 1 : columns + 1]
    order = np.random.default_rng(rows).permutation(rows).astype(np.int32)
    expected = np.empty(values.shape, np.float16)
    expected[order] = numpy_half(values)
    assert np.array_equal(bits(cpu.to_half(values, row_order=order)), bits(expected))

    whole = np.full((rows, columns + 2), 7.0, np.float32)
    back = whole[:, 1 : columns + 1]
    assert cpu.to_float(expected, back, row_order=np.argsort(order).astype(np.int32)) is back
    assert np.array_equal(back, numpy_half(values).astype(np.float32))
    assert (whole[:, [0, -1]] == 7.0).all()


@pytest.mark.parametrize(("heads", "head_dim"), [(1, 2), (3, 8), (6, 40), (12, 64)])
def test_half_split_order(heads: int, head_dim: int) -> None:
    order = cpu.half_split_order(heads * head_dim, head_dim)
    half = head_dim // 2
    for head in range(heads):
        for i in range(head_dim):
            assert order[head * head_dim + i] == head * head_dim + (2 * i if i < half else 2 * (i - half) + 1)
    inverse = cpu.interleaved_order(heads * head_dim, head_dim)
    assert np.array_equal(order[inverse], np.arange(heads * head_dim))


def test_weights_staged_half_split_turn_as_the_interleaved_ones() -> None:
    """A rotation of pairs (2i, 2i + 1) of w @ x is one of pairs (i, i + D/2) of the staged w; its rows come back."""
    heads, dim, width = 3, 8, 5
    w, angles = floats(heads * dim, width), floats(dim // 2, 1)
    cos, sin = np.cos(angles), np.sin(angles)
    pairs = numpy_half(w).astype(np.float32).reshape(heads, dim // 2, 2, width)
    a, b = pairs[:, :, 0], pairs[:, :, 1]
    interleaved = np.stack([a * cos - b * sin, a * sin + b * cos], axis=2).reshape(w.shape)

    staged = cpu.to_half(w, row_order=cpu.interleaved_order(heads * dim, dim)).astype(np.float32)
    a, b = staged.reshape(heads, 2, dim // 2, width).swapaxes(0, 1)
    turned = np.stack([a * cos - b * sin, a * sin + b * cos], axis=1).reshape(w.shape)
    home = cpu.to_float(numpy_half(turned), row_order=cpu.half_split_order(heads * dim, dim))
    assert np.array_equal(home, numpy_half(interleaved).astype(np.float32))


ROWS = np.zeros((4, 6), np.float32)


@pytest.mark.parametrize(
    ("convert", "message"),
    [
        (lambda: cpu.to_half(ROWS, row_order=np.arange(4)), "row_order has dtype int64; expected int32"),
        (
            lambda: cpu.to_half(ROWS, row_order=np.arange(5, dtype=np.int32)),
            r"row_order has shape \(5,\); expected \(4,\)",
        ),
        (
            lambda: cpu.to_half(ROWS, row_order=np.array([0, 1, 4, 2], np.int32)),
            r"row_order\[2\] is 4; expected an id in",
        ),
        (lambda: cpu.to_half(ROWS, row_order=np.array([0, 3, 1, 3], np.int32)), "row_order has 3 more than once"),
        (lambda: cpu.to_half(ROWS.T, row_order=np.arange(6, dtype=np.int32)), "values has strides .* its rows must be"),
        (lambda: cpu.half_split_order(12, 3), "12 rows in heads of 3; expected whole heads of an even number of rows"),
        (lambda: cpu.half_split_order(13, 4), "13 rows in heads of 4"),
    ],
)
def test_wrong_row_orders_are_refused(convert: Callable[[], Array], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        convert()


def test_thread_counts() -> None:
    cpu.set_threads(3)
    assert cpu.threads() == 3
    cpu.set_threads(None)
    assert cpu.threads() >= 1
    with pytest.raises(ValueError, match="0 threads; expected at least 1"):
        cpu.set_threads(0)


def test_versions_say_what_they_are() -> None:
    assert cpu.fp16_version() in ("avx512", "f16c", "neon", "scalar")
    assert cpu.cpu_features()


def test_many_blocks_at_once() -> None:
    """Cut, transposed, strided, in pieces, beside each other: the bits of one conversion for each."""
    rng = np.random.default_rng(3)
    a, b = (rng.standard_normal(shape, np.float32) for shape in ((300, 200), (70, 500)))
    blocks = [(a, 0, 256), (b.T, 300 * 256, 128), (a[::2, 5:9], 300 * 256 + 500 * 128 + 7, 4), (b[:0], 1, 500)]
    blocks.append((rng.standard_normal((130, 3000), np.float32).T, 150_000, 160))
    target = np.full(700_000, 7.0, np.float16)  # so large that it is written around the caches
    expected = target.copy()
    for values, begin, stride in blocks:
        rows, columns = values.shape
        place = np.lib.stride_tricks.as_strided(expected[begin:], (rows, columns), (stride * 2, 2))
        place[:] = values.astype(np.float16)
    moves = cpu.HalfMoves(blocks)
    moves(target)
    np.testing.assert_array_equal(target, expected)
    a *= 2.0  # the same blocks as they are later
    moves(target)
    np.testing.assert_array_equal(target[:200], a[0].astype(np.float16))


def test_blocks_that_do_not_fit() -> None:
    values = np.ones((4, 8), np.float32)
    with pytest.raises(ValueError, match="4 x 8 at 0 with rows 7 apart overlaps itself"):
        cpu.HalfMoves([(values, 0, 7)])
    with pytest.raises(ValueError, match="target has 40 elements, expected a contiguous buffer of at least 41"):
        cpu.HalfMoves([(values, 9, 8)])(np.zeros(40, np.float16))
    with pytest.raises(TypeError, match="values has dtype float64"):
        cpu.HalfMoves([(np.ones((2, 2)), 0, 2)])
