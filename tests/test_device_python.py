"""anetrain.device: what Python adds to the C interface."""

from __future__ import annotations

import dataclasses
import gc
import json
import operator
import pickle
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest

import anetrain.device
from anetrain import errors
from anetrain.device import Device, Port
from tests.ane_abi import ROOT
from tests.programs import program, subtract, tensor, two_outputs
from tests.support import emulator


@pytest.fixture
def device() -> Device:
    return emulator(executor="reference")


def vector(value: float, shape: tuple[int, ...] = (1, 1, 1, 32)) -> np.ndarray:
    return np.full(shape, value, np.float32)


def run_python(script: str, **kwargs: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, **kwargs
    )


# ---------------------------------------------------------------- opening


def test_import_is_light():
    done = run_python("import sys, anetrain, anetrain.device; print('numpy' in sys.modules)")
    assert done.stdout == "False\n", done.stderr


def test_facts_of_the_default_device():
    real, why = anetrain.device.real_available()
    with anetrain.device.open() as device:
        assert device.facts["requested"] == "auto"
        assert device.facts["kind"] == ("ane" if real else "emulator")
        assert why in device.facts["why"]


def test_profile_in_the_kind_or_beside_it():
    assert anetrain.device.open("emulator:m1").facts["profile"] == "m1"
    assert anetrain.device.open("emulator", "m1").facts["profile"] == "m1"
    assert anetrain.device.open("emulator").facts["profile"] == "m4"
    with pytest.raises(errors.ArgumentError, match="two profiles"):
        anetrain.device.open("emulator:m1", "m2")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "gpu"}, "'gpu'.*'auto', 'ane', 'emulator'"),
        ({"kind": "emulator", "executor": "slow"}, "'slow'.*'audit'"),
        ({"kind": "emulator", "profile": "m44"}, "m44.*m4"),
        ({"kind": "emulator", "rules": {"border-widht": False}}, "border-widht.*border-width"),
        ({"live_budget": 0}, "live_budget is 0"),
        ({"compile_budget": -1}, "compile_budget is -1"),
        ({"watchdog_s": -1}, "watchdog_s is -1"),
        ({"kind": "ane", "fp32": True}, "fp32"),
        ({"kind": "ane:m4"}, "`profile` is an option of the emulator"),
        ({"kind": "ane", "executor": "audit"}, "`executor`"),
        ({"kind": "ane", "rules": {"axis-limit": 5}}, "`rules`"),
        ({"kind": None}, "kind is None; expected str"),
        ({"profile": 4}, "profile is of type int"),
        ({"live_budget": 1.5}, "live_budget is 1.5; it must be a whole number"),
        ({"compile_budget": 2**32}, "it must be 1 to 4294967295"),
        ({"watchdog_s": 1e9}, "it must be 0 to 4294967 seconds"),
        ({"watchdog_s": "1"}, "watchdog_s is '1'"),
        ({"kind": "emulator:"}, "no profile behind the colon of kind 'emulator:'"),
        ({"kind": "emulator:", "profile": "m4"}, "no profile behind the colon"),
        (
            {"kind": "emulator", "rules": {"border-width=off,concat": False}},
            "a rule is named 'border-width=off,concat'",
        ),
        ({"kind": "emulator", "rules": {"border-width,concat": False}}, "a rule is named 'border-width,concat'"),
        ({"kind": "emulator", "rules": {"": False}}, "a rule is named ''"),
        ({"kind": "emulator", "rules": {5: False}}, "a rule is of type int"),
        ({"kind": "emulator", "rules": {"border-width": "off"}}, "set to 'off'; expected True, False or a number"),
    ],
)
def test_wrong_options_are_value_errors(options: dict[str, object], words: str):
    with pytest.raises(errors.ArgumentError, match=words) as caught:
        anetrain.device.open(**options)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, errors.ANEError)


def test_switches_over_a_profile():
    rules = anetrain.device.open("emulator:m4", rules={"border-width": False, "axis-limit": 1024}).facts["rules"]
    assert "border-width" not in rules
    assert rules["axis-limit"] == 1024


@pytest.mark.skipif(sys.platform == "darwin", reason="there may be one")
def test_the_real_ane_is_unavailable_off_the_mac():
    with pytest.raises(errors.DeviceUnavailable, match=r"macOS.*emulator"):
        anetrain.device.open("ane")


def test_a_closed_device_says_so(device: Device):
    running = device.compile(subtract())
    device.close()
    with pytest.raises(errors.ArgumentError, match="closed"):
        device.surface(64)
    with pytest.raises(errors.ArgumentError, match="closed"):
        running.run({"x": vector(1), "W": vector(1)})


def test_tables_of_the_library():
    assert {"exact", "m1", "m4", "m5max"} <= set(anetrain.device.profiles())
    assert {"stage", "summary", "source"} <= set(anetrain.device.rule_table()["border-width"])
    assert "conv" in anetrain.device.operation_table()
    assert "emulator" in anetrain.device.backends()


# ---------------------------------------------------------------- programs


def test_ports_of_a_program(device: Device):
    compiled = device.compile(subtract(channels=4))
    w = Port("W", "fp16", (1, 4, 1, 32), bytes=256, row_stride=64, plane_stride=64)
    assert compiled.inputs == (w, dataclasses.replace(w, name="x"))
    assert compiled.outputs == (dataclasses.replace(w, name="z"),)


def test_text_may_be_bytes_or_an_object_with_text_and_blobs(device: Device):
    @dataclasses.dataclass
    class Source:
        text: str
        blobs: dict[str, bytes]

    for text in (subtract(), subtract().encode(), Source(subtract(), {})):
        assert device.compile(text).run({"x": vector(5), "W": vector(3)})["z"].tolist() == vector(2).tolist()
    with pytest.raises(errors.ArgumentError, match="its own blobs"):
        device.compile(Source(subtract(), {}), {})


def test_compile_error_carries_what_the_compiler_said(device: Device):
    with pytest.raises(errors.CompileError) as caught:
        device.compile(subtract().replace("sub(", "subb("), label="misspelt")
    error = caught.value
    assert (error.status, error.code) == (errors.Status.COMPILE_FAILED, 1)
    assert error.domain == "com.apple.appleneuralengine.compiler"
    assert error.text == "_ANECompiler : ANECCompile() FAILED : err=(InvalidMILProgram)"
    assert (error.label, error.line) == ("misspelt", 5)
    assert error.column > 1
    for part in ("misspelt", "subb", "line 5", error.text):
        assert part in str(error)


def test_rule_is_named():
    device = emulator("m4")
    with pytest.raises(errors.CompileError) as caught:
        device.compile(subtract(width=48))
    assert caught.value.rule == "border-width"
    assert "border-width" in str(caught.value)


def test_errors_survive_pickling():
    error = errors.EvalError("detail", code=8, domain="d", text="t", rule="r", line=1, column=2, label="l")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is errors.EvalError
    assert vars(copy) == vars(error)
    assert str(copy) == str(error)


def test_every_status_has_its_exception():
    for status in errors.Status:
        if status is errors.Status.OK:
            continue
        error = errors.from_record(int(status), 0, "", "", "detail", "", 0, 0, "")
        assert error.status is status
        assert type(error) is not errors.ANEError


def test_blobs_are_bytes_like(device: Device):
    for data in (b"not a blob file", bytearray(b"not"), memoryview(b"not"), np.zeros(3, np.float32)):
        device.compile(subtract(), {"@model_path/weights/w.bin": data})  # not referenced: not read
    with pytest.raises(errors.ArgumentError, match=r"'w\.bin' is not contiguous"):
        device.compile(subtract(), {"w.bin": np.zeros(8, np.float32)[::2]})
    with pytest.raises(errors.ArgumentError, match=r"'w\.bin' is of type str; expected a whole file as bytes"):
        device.compile(subtract(), {"w.bin": "text"})
    with pytest.raises(errors.ArgumentError, match="a blob is named 5"):
        device.compile(subtract(), {5: b"a"})  # type: ignore[dict-item]


def test_blobs_the_text_never_refers_to_are_warned_of(device: Device):
    used, unused = "@model_path/weights/w.bin", "@model_path/weights/W.bin"
    weight = 'BLOBFILE(path = tensor<string, []>("@model_path/weights/w.bin"), offset = tensor<uint64, []>(64))'
    text = program(
        [f"{tensor()} x"],
        [f"{tensor()} w = const()", f"{tensor()} z = add(x = x, y = w)"],
        ["z"],
    ).replace('[name = tensor<string, []>("w")]', f'[name = tensor<string, []>("w"), val = {tensor()}({weight})]')
    record = struct.pack("<IIQQQ32x", 0xDEADBEEF, 1, 64, 128, 0)
    blob = struct.pack("<II56x", 1, 2) + record + bytes(64)
    assert device.compile(text, {used: blob}).report["warnings"] == []
    (warning,) = device.compile(text, {used: blob, unused: blob}).report["warnings"]
    assert warning == f"blob '{unused}' was given, but the text never refers to it"


@pytest.mark.parametrize("text", [None, 5, bytearray(b"program"), ["program"]])
def test_text_of_another_type(device: Device, text: object):
    with pytest.raises(errors.ArgumentError, match=r"the text is .*; expected str, bytes or an object with text"):
        device.compile(text)  # type: ignore[arg-type]


def test_what_is_no_surface_is_not_bound(device: Device):
    compiled = device.compile(subtract("x", "y"))
    x, y = (device.surface_for(port) for port in compiled.inputs)
    with pytest.raises(errors.ArgumentError, match="'y' is bound to a value None; expected a Surface"):
        compiled.request({"x": x, "y": None}, {"z": y})  # type: ignore[dict-item]
    with pytest.raises(errors.ArgumentError, match="outputs is of type list; expected a dict"):
        compiled.request({"x": x, "y": y}, [y])  # type: ignore[arg-type]
    with pytest.raises(errors.ArgumentError, match="input 1 is bound to a value of type ndarray"):
        compiled.request_positional([x, vector(1)], [y])  # type: ignore[list-item]


def test_report_counts_operations(device: Device):
    report = device.compile(subtract(channels=4), label="difference").report
    assert report["label"] == "difference"
    assert report["operations"] == 1
    assert report["operation_kinds"]["sub"] == {"count": 1, "flops": 128, "bytes": 3 * 256}
    assert report["flops"] == 128
    assert report["warnings"] == []


MATMUL = program(
    [f"{tensor(1, 64)} a", f"{tensor(1, 64)} b"],
    [
        "tensor<fp16, [1, 1, 2, 32]> l = reshape(x = a, shape = tensor<int32, [4]>([1, 1, 2, 32]))",
        "tensor<fp16, [1, 1, 32, 2]> r = reshape(x = b, shape = tensor<int32, [4]>([1, 1, 32, 2]))",
        "tensor<fp16, [1, 1, 32, 32]> y = matmul(x = l, y = r, transpose_x = tensor<bool, []>(true), "
        "transpose_y = tensor<bool, []>(true))",
    ],
    ["y"],
)


def test_report_counts_products(device: Device):
    report = device.compile(MATMUL).report
    assert report["operation_kinds"]["matmul"]["flops"] == 2 * 32 * 32 * 2
    assert report["operation_kinds"]["reshape"]["flops"] == 0


# ---------------------------------------------------------------- run


def test_run_by_name(device: Device):
    out = device.compile(two_outputs()).run({"b": vector(3), "a": vector(5)})
    assert {name: array.ravel()[0] for name, array in out.items()} == {"q": 8, "k": 2}
    assert out["q"].dtype == np.float16
    assert out["q"].shape == (1, 1, 1, 32)


def test_run_rounds_its_inputs_as_the_device_does(device: Device):
    out = device.compile(subtract()).run({"x": vector(70000), "W": np.zeros((1, 1, 1, 32), np.float16)})
    assert np.isposinf(out["z"]).all()


def test_run_checks_names_shapes_and_types(device: Device):
    compiled = device.compile(subtract("x", "y"))
    with pytest.raises(errors.ArgumentError, match="did you mean 'x'"):
        compiled.run({"xx": vector(1), "y": vector(1)})
    with pytest.raises(errors.ArgumentError, match="missing: 'y'"):
        compiled.run({"x": vector(1)})
    with pytest.raises(errors.ArgumentError, match=r"'y' has shape \(1, 32\); expected \(1, 1, 1, 32\)"):
        compiled.run({"x": vector(1), "y": vector(1, (1, 32))})
    with pytest.raises(errors.ArgumentError, match="complex128"):
        compiled.run({"x": vector(1).astype(complex), "y": vector(1)})


def test_rows_that_are_no_multiple_of_64_bytes():
    device = emulator("exact", executor="reference", rules={"border-width": False, "border-shape": False})
    generator = np.random.default_rng(3)
    x, w = (generator.normal(size=(1, 3, 1, 5)).astype(np.float16) for _ in range(2))
    compiled = device.compile(subtract(channels=3, width=5))
    assert (compiled.inputs[0].row_stride, compiled.inputs[0].bytes) == (64, 192)
    np.testing.assert_array_equal(compiled.run({"x": x, "W": w})["z"], x - w)


def test_fp32_mode_rounds_nothing():
    device = emulator("exact", executor="reference", fp32=True)
    x, w = np.random.default_rng(4).normal(size=(2, 1, 2, 1, 32)).astype(np.float32)
    compiled = device.compile(subtract(channels=2))
    assert compiled.inputs[0].dtype == "fp32"
    np.testing.assert_array_equal(compiled.run({"x": x, "W": w})["z"], x - w)
    surface = device.surface(4 * 6)
    surface.write(x[0, :, 0, :3])
    np.testing.assert_array_equal(surface.read(2, 3), x[0, :, 0, :3])
    half = np.empty((3, 2), np.float16)
    surface.read(2, 3, out=half, transposed=True)
    np.testing.assert_array_equal(half, x[0, :, 0, :3].T.astype(np.float16))


def test_a_program_unloads_at_the_end_of_its_block(device: Device):
    live = device.counters().live_programs
    with device.compile(subtract()) as compiled:
        assert device.counters().live_programs == live + 1
    assert device.counters().live_programs == live
    with pytest.raises(errors.ArgumentError, match="unloaded"):
        compiled.run({"x": vector(1), "W": vector(1)})


def test_nothing_stays_alive(device: Device):
    gc.collect()
    live = device.counters().live_programs
    compiled = device.compile(subtract())
    compiled.run({"x": vector(1), "W": vector(1)})
    del compiled
    gc.collect()
    counters = device.counters()
    assert counters.live_programs == live
    assert (counters.live_surfaces, counters.live_requests, counters.backend_objects) == (0, 0, 0)


def test_requests_are_bound_once_and_run_often(device: Device):
    compiled = device.compile(subtract())
    x, w, z = (device.surface_for(port) for port in (*compiled.inputs, *compiled.outputs))
    for request in (compiled.request({"W": x, "x": w}, {"z": z}), compiled.request_positional([x, w], [z])):
        for value in (5, 6):
            w.write(vector(value))
            request.run()
            assert z.read(1, 32).tolist() == [[value] * 32]
        request()


def test_injected_faults(device: Device):
    compiled = device.compile(subtract())
    inputs = {"x": vector(1), "W": vector(1)}
    device.inject_fault("evaluate", after=1)
    compiled.run(inputs)
    with pytest.raises(errors.EvalError, match="injected"):
        compiled.run(inputs)
    for fault in ("compile", "load"):
        device.inject_fault(fault)
        with pytest.raises(errors.CompileError, match="injected"):
            device.compile(subtract())
    device.inject_fault("unload")
    with pytest.raises(errors.UnloadError, match="block 3: an injected fault"):
        device.compile(subtract(), label="block 3").unload()
    device.inject_fault("stall", seconds=0.05)
    compiled.run(inputs)
    with pytest.raises(errors.ArgumentError, match="'explode'"):
        device.inject_fault("explode")


def test_budgets_are_errors_of_their_own():
    compiles = emulator().counters().compiles
    device = emulator(compile_budget=compiles + 1)
    device.compile(subtract())
    with pytest.raises(errors.BudgetError, match="compile_budget"):
        device.compile(subtract())


@pytest.mark.parametrize(
    ("rule", "code", "text"),
    [
        ("live-program-limit", 4, "Program creation failure"),
        ("lifetime-compile-limit", 1, "_ANECompiler : ANECCompile() FAILED : err=()"),
    ],
)
def test_limits_of_the_emulated_engine(rule: str, code: int, text: str):
    device = emulator("m4", rules={rule: 2})
    first, _second = device.compile(subtract()), device.compile(subtract())
    with pytest.raises(errors.CompileError, match="at most 2") as caught:
        device.compile(subtract())
    assert (caught.value.rule, caught.value.code, caught.value.text) == (rule, code, text)
    first.unload()
    if rule == "live-program-limit":
        device.compile(subtract())
    else:
        with pytest.raises(errors.CompileError):
            device.compile(subtract())


# ---------------------------------------------------------------- surfaces


def test_lock_gives_a_view(device: Device):
    surface = device.surface(64)
    with surface.lock(write=True) as view:
        assert (view.dtype, view.shape) == (np.uint8, (64,))
        view.view(np.float16)[:] = np.arange(32)
    assert surface.read(1, 32).tolist() == [list(range(32))]
    with surface.lock() as view, surface.lock() as again:
        assert view.view(np.float16)[5] == again.view(np.float16)[5] == 5
        with pytest.raises(ValueError, match="read-only"):
            view[0] = 1


def test_a_view_is_read_only_after_its_lock(device: Device):
    surface = device.surface(64)
    with surface.lock(write=True) as view:
        view[:] = 1
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 2


DERIVED = {
    "view": lambda view: view.view(np.float16),
    "slice": lambda view: view[2:10],
    "view of a slice": lambda view: view[2:10].view(np.float16)[1:],
    "reshape": lambda view: view.view(np.float16).reshape(4, 8).T,
    "swapped axes": lambda view: np.swapaxes(view.view(np.float16).reshape(4, 8), 0, 1),
    "in-place result": lambda view: operator.iadd(view.view(np.float16), 1),
    "out": lambda view: np.add(view, 1, out=view[:]),
}


@pytest.mark.parametrize("derive", DERIVED.values(), ids=DERIVED)
def test_arrays_made_of_a_view_are_read_only_after_its_lock(device: Device, derive: Callable[..., np.ndarray]):
    surface = device.surface(64)
    with surface.lock(write=True) as view:
        kept = derive(view)
        kept[:] = 3
    seed = surface.seed
    with pytest.raises(ValueError, match="read-only"):
        kept[:] = 2
    later = kept[1:]
    with pytest.raises(ValueError, match="read-only"):
        later[:] = 2
    assert surface.seed == seed
    with surface.lock(write=True) as again:
        again[:] = 5
    with pytest.raises(ValueError, match="read-only"):
        kept[:] = 2


def test_copies_and_results_stay_writable_after_the_lock(device: Device):
    surface = device.surface(64)
    with surface.lock(write=True) as view:
        kept = [view.copy(), view + 1, view[[1, 2, 3]], np.array(view), view.astype(np.float32)[4:]]
    for array in kept:
        array[:] = 4
    assert surface.read(1, 32).max() == 0


def test_a_surface_outlives_its_views(device: Device):
    surface = device.surface(1 << 20)
    with surface.lock(write=True) as view:
        view[:] = 7
    part = view[100:200]
    del surface, view
    gc.collect()
    assert device.counters().live_surfaces == 1
    assert (part == 7).all()
    del part
    gc.collect()
    assert device.counters().live_surfaces == 0


def test_an_exception_closes_the_lock(device: Device):
    surface = device.surface(64)
    with pytest.raises(KeyError), surface.lock(write=True):
        raise KeyError
    with surface.lock(write=True):
        pass


def test_a_lock_opens_once_at_a_time(device: Device):
    surface = device.surface(64)
    lock = surface.lock()
    with lock, pytest.raises(errors.ArgumentError, match="open already"):
        lock.__enter__()
    with lock:
        pass


def test_write_takes_any_rows(device: Device):
    surface = device.surface(2 * 1024)
    array = np.arange(1024, dtype=np.float32).reshape(1, 16, 2, 32)
    surface.write(array)
    np.testing.assert_array_equal(surface.read(32, 32), array.reshape(32, 32))
    surface.write(array[0, ::2, 0], row_stride=64)
    np.testing.assert_array_equal(surface.read(8, 32, row_stride=64), array[0, ::2, 0])
    surface.write(np.float32(7), offset=3)
    assert surface.read(1, 1, offset=3).item() == 7
    np.testing.assert_array_equal(surface.read(4, 8, transposed=True), surface.read(4, 8).T)
    out = np.zeros((8, 4), np.float16)
    assert surface.read(4, 8, out=out, transposed=True) is out
    np.testing.assert_array_equal(out, surface.read(4, 8).T)


def test_arrays_that_cannot_be_written(device: Device):
    surface = device.surface(2 * 1024)
    with pytest.raises(errors.ArgumentError, match=r"float32 or float16.*'d'"):
        surface.write(np.zeros(4))
    with pytest.raises(errors.ArgumentError, match="float32"):
        surface.write(np.zeros(4, ">f4"))
    with pytest.raises(errors.ArgumentError, match="ascontiguousarray"):
        surface.write(np.zeros((4, 4, 4), np.float32)[:, :3])
    with pytest.raises(errors.ArgumentError, match="aligned"):
        surface.write(np.zeros(17, np.uint8)[1:].view(np.float32))
    with pytest.raises(errors.ArgumentError, match=r"float32.*list"):
        surface.write([1.0, 2.0])  # type: ignore[arg-type]
    with pytest.raises(errors.ArgumentError, match=r"offset is 1\.0; it must be a whole number"):
        surface.write(np.zeros(4, np.float32), offset=1.0)  # type: ignore[arg-type]
    with pytest.raises(errors.SurfaceError, match="does not fit"):
        surface.write(np.zeros((2, 1024), np.float32))
    with pytest.raises(errors.ArgumentError, match="offset is -1"):
        surface.write(np.zeros(4, np.float32), offset=-1)


def test_arrays_that_cannot_be_read_into(device: Device):
    surface = device.surface(64)
    with pytest.raises(errors.ArgumentError, match=r"shape \(2, 2\); expected \(2, 3\)"):
        surface.read(2, 3, out=np.zeros((2, 2), np.float32))
    frozen = np.zeros((2, 3), np.float32)
    frozen.setflags(write=False)
    with pytest.raises((ValueError, BufferError)):
        surface.read(2, 3, out=frozen)
    with pytest.raises(errors.SurfaceError, match="does not fit"):
        surface.read(2, 2**60)
    with pytest.raises(errors.ArgumentError, match="out is of type list"):
        surface.read(1, 1, out=[0.0])  # type: ignore[arg-type]
    with pytest.raises(errors.ArgumentError, match="rows is '1'"):
        surface.read("1", 1)  # type: ignore[arg-type]


# ---------------------------------------------------------------- processes

OPEN = """
import numpy as np
from tests.support import emulator
from tests.programs import subtract
device = emulator(executor="reference", watchdog_s=0.1)
compiled = device.compile(subtract(), label="difference")
x, w, z = (device.surface_for(port) for port in (*compiled.inputs, *compiled.outputs))
request = compiled.request({"x": x, "W": w}, {"z": z})
request.run()
"""


def test_exit_with_everything_alive():
    done = run_python(OPEN + "lock = z.lock(); view = lock.__enter__(); import builtins; builtins.keep = globals()")
    assert (done.returncode, done.stderr) == (0, "")


def test_exit_while_threads_evaluate():
    """Daemon threads come back from the device into an interpreter that is being taken down."""
    done = run_python(
        OPEN
        + """
import threading, time
def evaluate():
    while True:
        request.run()
for _ in range(3):
    threading.Thread(target=evaluate, daemon=True).start()
time.sleep(0.2)
"""
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_poisoned_device_is_unavailable():
    done = run_python(
        OPEN
        + """
from anetrain import errors
device.inject_fault("stall", seconds=60)
for call in (request.run, request.run, lambda: z.read(1, 32), lambda: device.compile(subtract())):
    try:
        call()
    except errors.DeviceUnavailable as error:
        print("100 ms" in str(error) and "difference" in str(error))
print(device.counters().poisoned)
"""
    )
    assert (done.stdout, done.stderr) == ("True\n" * 5, "")


def test_a_forked_child_gets_unavailable():
    done = run_python(
        OPEN
        + """
import os, sys
from anetrain import errors
child = os.fork()
if child == 0:
    try:
        request.run()
    except errors.DeviceUnavailable:
        sys.exit(7)  # and every object is released on the way out
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
request.run()
"""
    )
    assert (done.stdout, done.stderr) == ("7\n", "")


LONG_COMPILE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are born to ignore it
from tests.support import emulator
from tests.programs import program, tensor
device = emulator(executor="reference")
count = 200_000
t = tensor()
names = ["a", *(f"v{i}" for i in range(count))]
text = program([f"{t} a"], [f"{t} {y} = add(x = {x}, y = a)" for x, y in zip(names, names[1:])], [names[-1]])
print("compiling", flush=True)
try:
    while True:
        device.compile(text)
except KeyboardInterrupt:
    import gc
    gc.collect()
    counters = device.counters()
    print("interrupted", counters.live_programs, counters.backend_objects, flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on address space that the system keeps")
def test_an_evaluation_without_memory_is_no_lost_device():
    done = run_python(
        """
import resource
import anetrain.device
from anetrain import errors
from tests.programs import subtract
dev = anetrain.device.open("emulator", executor="reference")
program = dev.compile(subtract(channels=1024, width=16384))
surfaces = {port.name: dev.surface_for(port) for port in (*program.inputs, *program.outputs)}
request = program.request({"x": surfaces["x"], "W": surfaces["W"]}, {"z": surfaces["z"]})
pages = int(open("/proc/self/statm").read().split()[0])
limits = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (4 << 20), limits[1]))
try:
    request.run()
except errors.EvalError as failure:
    print(failure)
resource.setrlimit(resource.RLIMIT_AS, limits)
request.run()
print("runs again")
"""
    )
    assert "out of memory while evaluating a program" in done.stdout, done.stderr
    assert done.stdout.endswith("runs again\n"), done.stderr


def test_interrupt_during_a_long_compile():
    with subprocess.Popen([sys.executable, "-c", LONG_COMPILE], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "compiling\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        try:
            out, _ = process.communicate(timeout=120)
        finally:
            process.kill()
    assert (out, process.returncode) == ("interrupted 0 0\n", 0)


def test_counters_are_plain_data(device: Device):
    assert json.loads(json.dumps(dataclasses.asdict(device.counters())))["poisoned"] is False
