"""The contract of csrc/device/ane.h, the same for every back end."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from tests import ane_abi as abi
from tests.ane_abi import ROOT, Device, Failure, Library, Surface
from tests.programs import program, subtract, tensor, two_outputs

ENGINE_DOMAIN = "com.apple.appleneuralengine"
COMPILER_DOMAIN = "com.apple.appleneuralengine.compiler"
TOO_SMALL = "ANEProgramProcessRequestDirect() Failed with status=0x1d : statusType=0x9 : Program Inference error"
BYTES = 64  # a port of [1, 1, 1, 32] halves


@pytest.fixture
def device(library: Library) -> Device:
    return library.open()


def filled(device: Device, value: float, columns: int = 32) -> Surface:
    surface = device.surface(2 * columns)
    surface.write(np.full((1, columns), value, np.float32))
    return surface


def values(surface: Surface) -> set[float]:
    return set(surface.read(1, surface.size // 2).ravel().tolist())


def fails(status: int, *words: str) -> pytest.RaisesExc[Failure]:
    """The call fails with this status, and the detail has these words in it."""

    def matches(failure: Failure) -> bool:
        assert failure.recorded_status == failure.status
        assert failure.detail
        return failure.status == status and all(word in failure.detail for word in words)

    return pytest.raises(Failure, check=matches)


def bound(device: Device, first: float = 5, second: float = 3):
    """x - W on filled surfaces: the request, and its three surfaces."""
    program = device.compile(subtract(), label="difference")
    x, w, z = filled(device, first), filled(device, second), device.surface(BYTES)
    return program.request({"x": x, "W": w}, {"z": z}), x, w, z


# ---------------------------------------------------------------- opening


def test_facts_say_what_was_opened_and_why(library: Library, device: Device):
    facts = device.facts
    assert facts["kind"] == {abi.REAL: "ane", abi.EMULATOR: "emulator"}[library.kind]
    assert facts["requested"] == facts["kind"]
    assert facts["why"]


def test_auto_says_what_it_took_and_why(library: Library):
    device = library.open(kind=abi.AUTO)
    assert device.facts["kind"] == {abi.REAL: "ane", abi.EMULATOR: "emulator"}[library.kind]
    assert device.facts["requested"] == "auto"
    assert ("self-test passed" if library.kind == abi.REAL else "no real ANE") in device.facts["why"]


def test_options_are_checked(library: Library):
    with fails(abi.BAD_ARGUMENT, "struct_size"):
        library.open(struct_size=8)
    with fails(abi.BAD_ARGUMENT, "executor"):
        library.open(executor=7)
    with fails(abi.BAD_ARGUMENT, "no-such-profile", "m4"):
        library.open(kind=abi.EMULATOR, profile=b"no-such-profile")


@pytest.mark.parametrize(
    ("option", "value"), [("profile", b"exact"), ("executor", 1), ("rules", b"concat=off"), ("fp32", True)]
)
def test_the_real_ane_refuses_what_only_the_emulator_can(library: Library, option: str, value: object):
    with fails(abi.BAD_ARGUMENT, f"`{option}` is an option of the emulator"):
        library.open(kind=abi.REAL, **{option: value})


def test_null_pointers_are_refused(library: Library, device: Device):
    null = library.ffi.NULL
    with fails(abi.BAD_ARGUMENT, "device"):
        library.check(library.c.ane_surface_create, null, 64, null)
    with fails(abi.BAD_ARGUMENT, "surface"):
        library.check(library.c.ane_surface_create, device.pointer, 64, null)
    with fails(abi.BAD_ARGUMENT, "mil"):
        library.check(library.c.ane_program_create, device.pointer, null, 0, null, 0, null, null)
    with fails(abi.BAD_ARGUMENT, "request"):
        library.check(library.c.ane_evaluate, null)
    library.c.ane_surface_release(null)
    library.c.ane_program_release(null)
    library.c.ane_request_release(null)
    library.c.ane_device_release(null)


# ---------------------------------------------------------------- programs


def test_ports_are_in_ascii_order(device: Device):
    program = device.compile(subtract())
    assert (program.names(False), program.names(True)) == (["W", "x"], ["z"])
    assert device.compile(two_outputs()).names(True) == ["k", "q"]
    port = program.ports(False)[0]
    assert (port.bytes, port.row_stride, list(port.shape[0 : port.rank])) == (BYTES, 64, [1, 1, 1, 32])


def test_port_index_is_checked(device: Device):
    program = device.compile(subtract())
    with fails(abi.BAD_ARGUMENT, "input 2"):
        device.library.check(device.c.ane_program_port, program.pointer, False, 2, device.ffi.new("ane_port *"))


def test_names_inside_a_program_may_be_longer_than_those_of_ports(device: Device):
    inside = "v" * 300
    text = program(
        [f"{tensor()} x"],
        [f"{tensor()} {inside} = add(x = x, y = x)", f"{tensor()} z = add(x = {inside}, y = x)"],
        ["z"],
    )
    assert device.compile(text).names(True) == ["z"]


def test_report_names_the_program(device: Device):
    report = device.compile(subtract(), label="difference").report
    assert report["label"] == "difference"
    assert report["from_cache"] is False
    assert report["compile_ms"] > 0


def test_refused_text_reads_as_the_compiler_says_it(device: Device):
    with pytest.raises(Failure) as caught:
        device.compile(subtract().replace("sub(", "subb("), label="misspelt")
    failure = caught.value
    assert (failure.status, failure.domain, failure.code) == (abi.COMPILE_FAILED, COMPILER_DOMAIN, 1)
    assert "err=(InvalidMILProgram)" in failure.text
    assert failure.label == "misspelt"
    assert device.counters()["failed_compiles"] == 1


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"program(1.0)", subtract()[:-20].encode()])
def test_text_that_is_no_program_is_refused(device: Device, text: bytes):
    with fails(abi.COMPILE_FAILED):
        device.compile(text)


def test_several_functions_are_refused(device: Device):
    text = subtract()
    start, end = text.index("func "), text.rindex("}")
    two = text[:end] + text[start:end].replace("main", "other") + text[end:]
    with fails(abi.COMPILE_FAILED, "several functions", "programs of one") as caught:
        device.compile(two)
    assert caught.value.domain == "", "the engine itself may take them"
    assert device.counters()["live_programs"] == 0


def test_blobs_are_checked(device: Device):
    with fails(abi.BAD_ARGUMENT, "'w.bin'", "empty"):
        device.compile(subtract(), {"w.bin": b""})
    path, ffi = device.ffi.new("char[]", b"w.bin"), device.ffi
    data = ffi.from_buffer(b"data")
    twice = ffi.new("ane_blob[]", [(path, data, 4), (path, data, 4)])
    with fails(abi.BAD_ARGUMENT, "'w.bin'", "twice"):
        device.library.check(
            device.c.ane_program_create, device.pointer, b"", 0, twice, 2, ffi.NULL, ffi.new("ane_program **")
        )


# ---------------------------------------------------------------- binding


def test_binding_is_by_name(device: Device):
    program = device.compile(subtract())
    x, w, z = filled(device, 5), filled(device, 3), device.surface(BYTES)
    for inputs in ({"x": x, "W": w}, {"W": w, "x": x}):
        program.request(inputs, {"z": z}).run()
        assert values(z) == {2.0}


def test_outputs_are_bound_by_name(device: Device):
    program = device.compile(two_outputs())
    q, k = device.surface(BYTES), device.surface(BYTES)
    program.request({"b": filled(device, 3), "a": filled(device, 5)}, {"q": q, "k": k}).run()
    assert (values(q), values(k)) == ({8.0}, {2.0})


def test_unknown_name_lists_the_known_ones(device: Device):
    program = device.compile(subtract("activations", "weights"))
    s, z = device.surface(BYTES), device.surface(BYTES)
    with fails(abi.BAD_ARGUMENT, "'activation'", "did you mean 'activations'", "'weights'"):
        program.request({"activation": s, "weights": s}, {"z": z})
    with fails(abi.BAD_ARGUMENT, "no output 'weights'", "'z'"):
        program.request({"activations": s, "weights": s}, {"weights": z})


def test_every_name_is_bound_exactly_once(device: Device):
    program = device.compile(subtract())
    s, z = device.surface(BYTES), device.surface(BYTES)
    with fails(abi.BAD_ARGUMENT, "missing", "'x'"):
        program.request({"W": s}, {"z": z})
    with fails(abi.BAD_ARGUMENT, "missing", "'z'"):
        program.request({"W": s, "x": s}, {})
    with fails(abi.BAD_ARGUMENT, "'W'", "twice"):
        program.request([("W", s), ("x", s), ("W", s)], {"z": z})
    with fails(abi.BAD_ARGUMENT, "'W'", "NULL"):
        program.request({"W": None, "x": s}, {"z": z})


def test_outputs_may_not_share_a_surface(device: Device):
    program = device.compile(two_outputs())
    a, b, y = (device.surface(BYTES) for _ in range(3))
    with fails(abi.BAD_ARGUMENT, "'k'", "'q'", "same surface"):
        program.request({"a": a, "b": b}, {"q": y, "k": y})


def test_short_surface_is_refused_with_both_sizes(device: Device):
    program = device.compile(subtract(channels=4))
    enough, short = device.surface(4 * BYTES), device.surface(4 * BYTES - 1)
    with fails(abi.SURFACE_ERROR, "'x'", str(4 * BYTES - 1), str(4 * BYTES)):
        program.request({"x": short, "W": enough}, {"z": enough})
    with fails(abi.SURFACE_ERROR, "output 'z'"):
        program.request({"x": enough, "W": enough}, {"z": short})


def test_larger_surface_serves(device: Device):
    program = device.compile(subtract())
    z = device.surface(10 * BYTES)
    program.request({"x": filled(device, 5, 64), "W": filled(device, 3)}, {"z": z}).run()
    assert set(z.read(1, 32).ravel().tolist()) == {2.0}
    assert set(z.read(1, 32, offset=32).ravel().tolist()) == {0.0}


def test_surface_of_another_device_is_refused(library: Library, device: Device):
    program = device.compile(subtract())
    own, foreign = device.surface(BYTES), library.open().surface(BYTES)
    with fails(abi.BAD_ARGUMENT, "'x'", "another device"):
        program.request({"x": foreign, "W": own}, {"z": own})


def test_positional_binding_follows_the_device_order(device: Device):
    program = device.compile(subtract())
    z = device.surface(BYTES)
    program.request_positional([filled(device, 3), filled(device, 5)], [z]).run()
    assert values(z) == {2.0}
    with fails(abi.BAD_ARGUMENT, "the program has 2"):
        program.request_positional([z], [z])


def test_positional_binding_of_a_short_surface_fails_as_the_engine_does(device: Device):
    program = device.compile(subtract(channels=4))
    enough, short = device.surface(4 * BYTES), device.surface(BYTES)
    request = program.request_positional([short, enough], [device.surface(4 * BYTES)])
    with pytest.raises(Failure) as caught:
        request.run()
    failure = caught.value
    assert (failure.status, failure.domain, failure.code) == (abi.EVAL_FAILED, ENGINE_DOMAIN, 8)
    assert "status=0x1d" in failure.text


# ---------------------------------------------------------------- evaluation


def test_a_request_runs_again_on_new_input(device: Device):
    request, x, w, z = bound(device)
    for first, second in ((5, 3), (7, 3), (7, 1)):
        x.write(np.full((1, 32), first, np.float32))
        w.write(np.full((1, 32), second, np.float32))
        request.run()
        assert values(z) == {float(first - second)}
    assert device.counters()["evaluations"] == 3


def test_an_output_may_be_an_input(device: Device):
    program = device.compile(subtract())
    x = filled(device, 9)
    request = program.request({"x": x, "W": filled(device, 2)}, {"z": x})
    for expected in (7.0, 5.0, 3.0):
        request.run()
        assert values(x) == {expected}


def test_one_surface_may_be_two_inputs(device: Device):
    program = device.compile(subtract())
    x, z = filled(device, 9), device.surface(BYTES)
    program.request({"x": x, "W": x}, {"z": z}).run()
    assert values(z) == {0.0}


def test_an_unloaded_program_cannot_be_used(device: Device):
    program = device.compile(subtract(), label="gone")
    s, z = device.surface(BYTES), device.surface(BYTES)
    request = program.request({"x": s, "W": s}, {"z": z})
    program.unload()
    program.unload()
    with fails(abi.BAD_ARGUMENT, "unloaded") as caught:
        request.run()
    assert caught.value.label == "gone"
    with fails(abi.BAD_ARGUMENT, "unloaded"):
        program.request({"x": s, "W": s}, {"z": z})
    with fails(abi.SURFACE_ERROR):
        z.read(1, 32)
    assert device.counters()["unloads"] == 1


def test_objects_keep_what_they_need(device: Device):
    request, _x, _w, z = bound(device)
    z.retain()
    for handle in (*reversed(device.library.made),):
        if handle is not request and handle is not z:
            handle.release()
    request.run()
    assert values(z) == {2.0}
    request.release()
    assert values(z) == {2.0}
    device.c.ane_surface_release(z.pointer)


def test_live_counts_return_to_zero(library: Library):
    device = library.open()
    before = device.counters()
    _request, *_surfaces = bound(device)
    counters = device.counters()
    assert counters["live_programs"] == before["live_programs"] + 1
    assert (counters["live_surfaces"], counters["live_requests"]) == (3, 1)
    assert counters["surface_bytes"] == 3 * BYTES
    assert counters["backend_objects"] > before["backend_objects"]
    for handle in reversed(library.made[1:]):
        handle.release()
    counters = device.counters()
    for name in ("live_programs", "live_surfaces", "live_requests", "surface_bytes", "backend_objects"):
        assert counters[name] == before[name], name
    assert (counters["loads"], counters["unloads"]) == (1, 1)


# ---------------------------------------------------------------- budgets and faults


def test_live_budget(library: Library):
    live = library.open().counters()["live_programs"]
    device = library.open(live_budget=live + 2)
    first, _ = device.compile(subtract()), device.compile(subtract())
    compiles = device.counters()["compiles"]
    with fails(abi.BUDGET_EXCEEDED, "live_budget", "unload") as caught:
        device.compile(subtract(), label="third")
    assert caught.value.label == "third"
    assert device.counters()["compiles"] == compiles, "nothing is tried"
    assert device.counters()["failed_compiles"] == 0
    first.unload()
    device.compile(subtract())


def test_compile_budget_counts_the_life_of_the_process(library: Library):
    compiles = library.open().counters()["compiles"]
    device = library.open(compile_budget=compiles + 2)
    device.compile(subtract()).unload()
    with fails(abi.COMPILE_FAILED):  # counts: the compiler ran
        device.compile("no program")
    with fails(abi.BUDGET_EXCEEDED, "compile_budget"):
        device.compile(subtract())
    assert device.counters()["compiles"] == compiles + 2
    with fails(abi.BUDGET_EXCEEDED):
        library.open(compile_budget=compiles + 2).compile(subtract())


@pytest.mark.parametrize(("fault", "domain", "code"), [(abi.COMPILE, COMPILER_DOMAIN, 1), (abi.LOAD, ENGINE_DOMAIN, 6)])
def test_injected_compile_and_load_failures(device: Device, fault: int, domain: str, code: int):
    device.inject(fault, after=1)
    device.compile(subtract()).release()
    live = device.counters()["live_programs"]
    with fails(abi.COMPILE_FAILED, "injected") as caught:
        device.compile(subtract(), label="second")
    assert (caught.value.domain, caught.value.code, caught.value.label) == (domain, code, "second")
    assert device.counters()["live_programs"] == live
    device.compile(subtract())


def test_injected_evaluation_failure(device: Device):
    request, *_, z = bound(device)
    device.inject(abi.EVALUATE, after=1)
    request.run()
    assert values(z) == {2.0}
    with fails(abi.EVAL_FAILED, "injected") as caught:
        request.run()
    assert (caught.value.domain, caught.value.code, caught.value.text) == (ENGINE_DOMAIN, 8, TOO_SMALL)
    assert caught.value.label == "difference"
    assert device.counters()["failed_evaluations"] == 1


def test_faults_can_be_cleared(device: Device):
    request, *_ = bound(device)
    device.inject(abi.EVALUATE)
    device.inject(abi.CLEAR)
    request.run()
    with fails(abi.BAD_ARGUMENT, "fault 9"):
        device.inject(9)


def test_a_failed_evaluation_leaves_no_readable_output(device: Device):
    request, *_, z = bound(device)
    request.run()
    device.inject(abi.EVALUATE)
    with fails(abi.EVAL_FAILED):
        request.run()
    with fails(abi.SURFACE_ERROR, "failed"):
        z.read(1, 32)
    with fails(abi.SURFACE_ERROR, "failed"):
        z.lock(write=False)
    z.write(np.zeros((1, 32), np.float32))
    assert values(z) == {0.0}


def test_a_failed_output_is_refused_as_an_input(device: Device):
    request, *_, z = bound(device)
    program = device.compile(subtract())
    chained = program.request({"x": z, "W": filled(device, 1)}, {"z": device.surface(BYTES)})
    device.inject(abi.EVALUATE)
    with fails(abi.EVAL_FAILED):
        request.run()
    with fails(abi.SURFACE_ERROR, "'x'"):
        chained.run()
    request.run()
    chained.run()
    assert values(z) == {2.0}


def test_a_short_stall_only_takes_longer(device: Device):
    request, *_, z = bound(device)
    device.inject(abi.STALL, milliseconds=50)
    request.run()
    assert values(z) == {2.0}


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


# ---------------------------------------------------------------- threads


def run_together(*bodies) -> None:
    """Runs every body in a thread of its own; the first exception is raised here."""
    raised: list[BaseException] = []

    def guarded(body) -> None:
        try:
            body()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=guarded, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a thread hangs"
    if raised:
        raise raised[0]


def test_one_program_from_several_threads(device: Device):
    program = device.compile(subtract())
    weights = filled(device, 3)

    def worker(k: int):
        x, z = filled(device, k), device.surface(BYTES)
        request = program.request({"x": x, "W": weights}, {"z": z})

        def body() -> None:
            for i in range(100):
                x.write(np.full((1, 32), k + i, np.float32))
                request.run()
                assert values(z) == {float(k + i - 3)}

        return body

    run_together(*(worker(k) for k in range(4)))
    assert device.counters()["evaluations"] == 400


def test_compile_and_evaluate_overlap(device: Device):
    request, *_, z = bound(device)
    done = threading.Event()

    def compile_some() -> None:
        try:
            for _ in range(10):
                device.compile(two_outputs()).unload()
        finally:
            done.set()

    def evaluate() -> None:
        while not done.is_set():
            request.run()
            assert values(z) == {2.0}

    run_together(compile_some, evaluate, lambda: bound(device)[0].run())


def test_a_reader_waits_for_the_evaluation_that_writes(device: Device):
    request, *_, z = bound(device)
    device.inject(abi.STALL, milliseconds=200)
    started = device.counters()["evaluations"]

    def read() -> None:
        while device.counters()["evaluations"] == started:
            pass
        assert values(z) == {2.0}

    run_together(request.run, read)


# ---------------------------------------------------------------- processes


def run_script(backend, body: str) -> str:
    """Runs `body` in a process of its own, with `lib` and `dev` open; what it prints."""
    header = f"""
import os, sys
from pathlib import Path
import numpy as np
from tests import ane_abi as abi
from tests.ane_abi import Failure, Library
from tests.programs import subtract
from tests.test_device_contract import bound, values, filled
lib = Library(Path({str(backend[0])!r}), {backend[1]})
"""
    script = [sys.executable, "-c", header + body]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_a_long_stall_poisons_the_device(backend):
    out = run_script(
        backend,
        """
dev = lib.open(watchdog_ms=100)
request, x, w, z = bound(dev)
other = dev.compile(subtract())
dev.inject(abi.STALL, milliseconds=60_000)
for call in (request.run, request.run, lambda: x.read(1, 32), lambda: x.lock(True), lambda: dev.surface(64),
             lambda: dev.compile(subtract()), other.unload, lambda: dev.inject(abi.CLEAR)):
    try:
        call()
        print("no failure")
    except Failure as failure:
        print(failure.status, "100 ms" in failure.detail and "difference" in failure.detail)
print(dev.counters()["poisoned"])
lib.release_all()
""",
    )
    assert out.split("\n")[:-1] == [f"{abi.UNAVAILABLE} True"] * 8 + ["True"]


def test_another_device_lives_on_after_a_poisoning(backend):
    out = run_script(
        backend,
        """
dev, second = lib.open(watchdog_ms=50), lib.open()
request, *_ = bound(dev)
dev.inject(abi.STALL, milliseconds=60_000)
try:
    request.run()
except Failure as failure:
    print(failure.status)
request, *_, z = bound(second)
request.run()
print(values(z))
""",
    )
    assert out.split("\n")[:2] == [str(abi.UNAVAILABLE), "{2.0}"]


def test_a_forked_child_may_not_touch_the_device(backend):
    out = run_script(
        backend,
        """
dev = lib.open()
request, x, w, z = bound(dev)
request.run()
child = os.fork()
if child == 0:
    for call in (request.run, lambda: x.read(1, 32), lambda: dev.surface(64), lambda: dev.compile(subtract()),
                 lambda: lib.open(), lambda: dev.inject(abi.CLEAR)):
        try:
            call()
            print("no failure", flush=True)
        except Failure as failure:
            print(failure.status, "fork" in failure.detail, flush=True)
    lib.release_all()
    sys.exit(0)
print(os.waitpid(child, 0)[1], flush=True)
request.run()
print(values(z))
lib.release_all()
""",
    )
    assert out.split("\n")[:-1] == [f"{abi.UNAVAILABLE} True"] * 6 + ["0", "{2.0}"]


def test_a_child_forked_before_a_device_was_opened_may_open_one(backend):
    out = run_script(
        backend,
        """
child = os.fork()
if child == 0:
    dev = lib.open()
    request, *_, z = bound(dev)
    request.run()
    print(values(z), flush=True)
    lib.release_all()
    sys.exit(0)
print(os.waitpid(child, 0)[1])
""",
    )
    assert out.split("\n")[:2] == ["{2.0}", "0"]


def test_exit_with_everything_alive(backend):
    out = run_script(
        backend,
        """
import atexit
dev = lib.open()
request, *_, z = bound(dev)
request.run()
keep = [lib, dev, request, z, [z]]
keep.append(keep)
print("end")
""",
    )
    assert out == "end\n"


def test_exit_unloads_what_is_loaded(fake_ane_path: Path, tmp_path: Path):
    """Seen by the directories of programs, which go with the last unload."""
    out = run_script(
        (fake_ane_path, abi.REAL),
        f"""
folder = Path({str(tmp_path)!r})
dev = lib.open(temp_dir=bytes(folder))
request, *_ = bound(dev)
print(len([p for p in folder.iterdir() if p.is_dir()]))
""",
    )
    assert out == "1\n"
    assert [p for p in tmp_path.iterdir() if p.is_dir()] == []
