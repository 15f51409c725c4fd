"""The contract of csrc/device/ane.h, the same for every back end: from opening a device to evaluating."""

from __future__ import annotations

import numpy as np
import pytest

from tests import ane_abi as abi
from tests.ane_abi import Device, Failure, Library
from tests.contract import BYTES, COMPILER_DOMAIN, ENGINE_DOMAIN, bound, fails, filled, values
from tests.programs import program, subtract, tensor, two_outputs

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
    assert device.compile(text.replace("func main", "func " + "f" * 200)).names(True) == ["z"]


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
