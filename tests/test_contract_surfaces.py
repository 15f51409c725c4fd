"""The contract of csrc/device/ane.h, the same for every back end: surfaces, locks, seeds, blocks."""

from __future__ import annotations

import numpy as np
import pytest

from tests import ane_abi as abi
from tests.ane_abi import Device
from tests.contract import BYTES, bound, fails, values

# ---------------------------------------------------------------- surfaces


def test_surface_sizes_are_checked(device: Device):
    for size in (0, 2**62):
        with fails(abi.BAD_ARGUMENT, str(size)):
            device.surface(size)


def test_surface_starts_zeroed(device: Device):
    surface = device.surface(100_000)
    assert not surface.lock(write=False).any()
    surface.unlock(write=False)


def test_seed_changes_with_the_content(device: Device):
    request, x, _w, z = bound(device)
    x_seed, z_seed = x.seed, z.seed
    assert x_seed != 0
    x.read(1, 32)
    request.run()
    assert x.seed == x_seed, "reading changes nothing"
    assert z.seed != z_seed, "an evaluation wrote it"
    x.lock(write=True)
    x.unlock(write=True)
    assert x.seed != x_seed, "a write lock was closed"


def test_read_locks_nest_and_a_write_lock_is_exclusive(device: Device):
    surface = device.surface(BYTES)
    surface.lock(write=False)
    surface.lock(write=False)
    with fails(abi.SURFACE_ERROR, "reading", "2"):
        surface.lock(write=True)
    surface.unlock(write=False)
    surface.unlock(write=False)
    surface.lock(write=True)
    for write in (False, True):
        with fails(abi.SURFACE_ERROR, "already locked"):
            surface.lock(write=write)
    surface.unlock(write=True)
    surface.lock(write=False)
    surface.unlock(write=False)


def test_unlocking_what_is_not_locked(device: Device):
    surface = device.surface(BYTES)
    for write, word in ((False, "reading"), (True, "writing")):
        with fails(abi.SURFACE_ERROR, "not locked", word):
            surface.unlock(write=write)
    surface.lock(write=False)
    with fails(abi.SURFACE_ERROR, "not locked for writing"):
        surface.unlock(write=True)
    surface.unlock(write=False)


def test_evaluation_refuses_locked_surfaces(device: Device):
    request, x, _w, z = bound(device)
    for surface, write, port in ((x, True, "'x'"), (z, True, "'z'"), (z, False, "'z'")):
        request.run()
        surface.lock(write=write)
        with fails(abi.SURFACE_ERROR, port, "locked"):
            request.run()
        surface.unlock(write=write)
    x.lock(write=False)
    request.run()
    x.unlock(write=False)
    assert values(z) == {2.0}


def test_a_lock_shows_the_memory_the_program_sees(device: Device):
    request, x, _w, z = bound(device)
    x.lock(write=True).view(np.float16)[:] = 10
    x.unlock(write=True)
    request.run()
    assert set(z.lock(write=False).view(np.float16).tolist()) == {7.0}
    z.unlock(write=False)


# ---------------------------------------------------------------- blocks

HOSTS = {
    "dense": lambda a: a,
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "cropped": lambda a: np.pad(a, ((1, 2), (3, 4)))[1:-2, 3:-4],
    "every other column": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "reversed": lambda a: np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1],
    "broadcast": lambda a: np.broadcast_to(a[:1], a.shape),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize(("offset", "row_stride"), [(0, 24), (7, 24), (5, 40)])
def test_block_writes_equal_numpy(device: Device, host: str, offset: int, row_stride: int, dtype: type):
    generator = np.random.default_rng(1)
    source = HOSTS[host](generator.normal(0, 1e3, (9, 24)).astype(dtype))
    surface = device.surface(2 * 400)
    expected = generator.normal(size=400).astype(np.float16)
    surface.write(expected[None].astype(np.float32))
    surface.write(source, offset, row_stride)
    for r in range(9):
        expected[offset + r * row_stride :][:24] = source[r].astype(np.float16)
    found = surface.lock(write=False).view(np.float16).copy()
    surface.unlock(write=False)
    np.testing.assert_array_equal(found.view(np.uint16), expected.view(np.uint16))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("host", [name for name in HOSTS if name != "broadcast"])
@pytest.mark.parametrize(("offset", "row_stride"), [(0, 24), (7, 24), (5, 40)])
def test_block_reads_equal_numpy(device: Device, host: str, offset: int, row_stride: int, dtype: type):
    content = np.random.default_rng(2).normal(0, 1e3, 400).astype(np.float16)
    surface = device.surface(2 * 400)
    surface.write(content[None])
    out = HOSTS[host](np.zeros((9, 24), dtype))
    surface.read_into(out, offset, row_stride)
    expected = np.stack([content[offset + r * row_stride :][:24] for r in range(9)]).astype(dtype)
    np.testing.assert_array_equal(out, expected)


def test_rounding_is_to_nearest_even_and_overflow_to_infinity(device: Device):
    ties = np.float32([[2049, 2051, 65504, 65519.996, 65520, -65520, 2.0**-25, 2.0**-24, 6.0e-8, np.inf, 0, -0.0]])
    surface = device.surface(2 * ties.size)
    surface.write(ties)
    with np.errstate(over="ignore"):
        expected = ties.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(surface.read(*ties.shape).view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize(
    ("rows", "columns", "offset", "row_stride"),
    [
        (1, 33, 0, 33),
        (1, 32, 1, 32),
        (2, 16, 0, 17),
        (1, 1, 2**64 - 1, 1),
        (2**63, 1, 0, 2),
        (2, 2**63, 0, 2**63),
        (2**33, 2**33, 0, 2**33),
        (3, 1, 0, 2**63),
    ],
)
def test_blocks_outside_the_surface_are_refused(device: Device, rows: int, columns: int, offset: int, row_stride: int):
    surface = device.surface(BYTES)
    host = np.zeros(64, np.float32)
    block = device.ffi.new("ane_block *", (rows, columns, offset, row_stride, 0, 0))
    data = device.ffi.cast("float *", host.ctypes.data)
    for call in (device.c.ane_surface_write_f32, device.c.ane_surface_read_f32):
        with fails(abi.SURFACE_ERROR, "32 fp16 elements"):
            device.library.check(call, surface.pointer, block, data)


def test_overlapping_rows_are_refused(device: Device):
    surface = device.surface(BYTES)
    with fails(abi.SURFACE_ERROR, "overlap"):
        surface.write(np.zeros((2, 8), np.float32), row_stride=7)


def test_host_strides_that_overflow_are_refused(device: Device):
    surface = device.surface(BYTES)
    block = device.ffi.new("ane_block *", (2, 2, 0, 2, 2**62, 2**62))
    with fails(abi.BAD_ARGUMENT, "overflow"):
        device.library.check(device.c.ane_surface_write_f32, surface.pointer, block, device.ffi.new("float[4]"))


def test_an_empty_block_touches_nothing(device: Device):
    surface = device.surface(BYTES)
    seed = surface.seed
    surface.write(np.zeros((0, 8), np.float32))
    surface.write(np.zeros((8, 0), np.float32), row_stride=1)
    assert surface.seed == seed
