"""The contract of csrc/device/ane_raw.h, the same for every back end.

What the calls come to on a chip is not part of it: the emulator's rules say that (test_raw.py), and the fake framework.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anetrain.mil import Graph
from anetrain.mil.text import Program as Source
from tests import ane_abi as abi
from tests.ane_abi import Device, Library
from tests.contract import ENGINE_DOMAIN, TOO_SMALL, bound, fails, filled, run_script, values
from tests.programs import subtract

PATHS = (abi.STANDARD, abi.CLIENT, abi.DIRECT, abi.REAL_TIME, abi.PROCESS)
WIDTH = 32
SIZE = 2 * WIDTH * WIDTH


@pytest.fixture
def device(library: Library) -> Device:
    """What a chip does: weights frozen, loads that compile."""
    rules = b"load-compiles=on,weights-frozen=on,procedure-index-ignored=15,qos-range=63"
    return library.open(**({"rules": rules} if library.kind == abi.EMULATOR else {}))


def scale(factor: float) -> Source:
    g = Graph()
    x = g.input("x", (1, WIDTH, 1, WIDTH))
    weight = np.eye(WIDTH, dtype=np.float16).reshape(WIDTH, WIDTH, 1, 1) * factor
    g.output("y", g.conv(x, g.constant(weight, "w")))
    return g.program("A")


class Scaled:
    """scale(1) on a device, with x = 3 everywhere."""

    def __init__(self, device: Device):
        self.source = scale(1)
        self.program = device.compile(self.source.text, self.source.blobs, label="scale")
        self.x, self.y = filled(device, 3, WIDTH * WIDTH), device.surface(SIZE)

    def request(self, **fields: object) -> abi.Request:
        return self.program.raw_request([self.x], [self.y], **fields)


# ---------------------------------------------------------------- requests and evaluations


@pytest.mark.parametrize("path", PATHS)
def test_every_path_computes(device: Device, path: int):
    plain, x, w, z = bound(device)
    raw = device.compile(subtract()).raw_request([w, x], [z])  # device order
    for request in (plain, raw):
        result = request.raw_run(path=path)
        assert values(z) == {2.0}
        assert not result.has_stats
        z.write(np.zeros((1, 32), np.float32))
    assert device.counters()["evaluations"] == 2


def test_a_raw_request_takes_part_in_everything(device: Device):
    """It is evaluated like any other, its surfaces have seeds and locks, and faults hit it."""
    scaled = Scaled(device)
    request = scaled.request(procedure_index=3)
    seed = scaled.y.seed
    request.run()
    assert values(scaled.y) == {3.0}
    assert scaled.y.seed != seed
    scaled.x.lock(write=True)
    with fails(abi.SURFACE_ERROR, "'x' is locked for writing"):
        request.raw_run()
    scaled.x.unlock(write=True)
    device.inject(abi.EVALUATE)
    with fails(abi.EVAL_FAILED, "injected") as caught:
        request.raw_run()
    assert (caught.value.domain, caught.value.text, caught.value.label) == (ENGINE_DOMAIN, TOO_SMALL, "scale")
    with fails(abi.SURFACE_ERROR, "failed"):
        values(scaled.y)
    counters = device.counters()
    assert (counters["evaluations"], counters["failed_evaluations"]) == (2, 1)


def test_any_quality_of_service_reaches_the_engine(device: Device):
    scaled = Scaled(device)
    request = scaled.request()
    for qos in (0, 9, 33, 63):
        request.raw_run(qos=qos)
        assert values(scaled.y) == {3.0}


def test_validate_has_its_say(device: Device):
    scaled = Scaled(device)
    scaled.request(procedure_index=128)
    for fields in ({"procedure_index": 129}, {"shared_events": 65}):
        with fails(abi.BAD_ARGUMENT, "-validate") as caught:
            scaled.request(**fields)
        assert caught.value.label == "scale"
    assert device.counters()["live_requests"] == 1


def test_arguments_of_a_request_are_checked(library: Library, device: Device):
    scaled = Scaled(device)
    with fails(abi.BAD_ARGUMENT, "struct_size is 8"):
        scaled.request(struct_size=8)
    with fails(abi.BAD_ARGUMENT, "2 input surfaces were given; the program has 1: 'x'"):
        scaled.program.raw_request([scaled.x, scaled.x], [scaled.y])
    with fails(abi.BAD_ARGUMENT, "weights buffer belongs to another device"):
        scaled.request(weights_buffer=library.open().surface(SIZE))
    with fails(abi.BAD_ARGUMENT, "path 5"):
        scaled.request().raw_run(path=5)
    scaled.program.unload()
    with fails(abi.BAD_ARGUMENT, "unloaded"):
        scaled.request()


def test_null_pointers_are_refused(library: Library, device: Device):
    c, ffi, null = library.c, library.ffi, library.ffi.NULL
    scaled = Scaled(device)
    with fails(abi.BAD_ARGUMENT, "device"):
        library.check(c.ane_raw_api, null, ffi.new("char **"))
    with fails(abi.BAD_ARGUMENT, "json"):
        library.check(c.ane_raw_api, device.pointer, null)
    for program, word in ((null, "program"), (scaled.program.pointer, "raw")):
        with fails(abi.BAD_ARGUMENT, word):
            library.check(c.ane_raw_request_create, program, null, 0, null, 0, null, ffi.new("ane_request **"))
    with fails(abi.BAD_ARGUMENT, "request"):
        library.check(c.ane_raw_evaluate, null, 21, abi.STANDARD, null)
    with fails(abi.BAD_ARGUMENT, "program"):
        library.check(c.ane_raw_reload, null, abi.REWRITE_FILES, null, 0)
    with fails(abi.BAD_ARGUMENT, "program"):
        library.check(c.ane_raw_set_stats_mask, null, 0)
    with fails(abi.BAD_ARGUMENT, "no requests"):
        library.check(c.ane_raw_chain, null, 3)
    with fails(abi.BAD_ARGUMENT, "request 0 is NULL"):
        library.check(c.ane_raw_chain, [null], 1)
    library.check(c.ane_raw_evaluate, scaled.request().pointer, 21, abi.STANDARD, null)  # no result is wanted
    c.ane_raw_free(null)


# ---------------------------------------------------------------- reloads


def test_requests_follow_a_reloaded_program(device: Device):
    scaled = Scaled(device)
    request, plain = scaled.request(), scaled.program.request({"x": scaled.x}, {"y": scaled.y})
    for kind, factor, result in ((abi.REWRITE_FILES, 2, 3.0), (abi.NEW_IDENTITY, 2, 6.0), (abi.NEW_IDENTITY, 5, 15.0)):
        before = device.counters()
        scaled.program.reload(kind, scale(factor).blobs)
        after = device.counters()
        assert after["loads"] - before["loads"] == after["unloads"] - before["unloads"] == 1
        assert after["live_programs"] == before["live_programs"]
        assert after["compiles"] == before["compiles"]
        for each in (request, plain):
            each.run()
            assert values(scaled.y) == {result}
            scaled.y.write(np.zeros((WIDTH, WIDTH), np.float32))


def test_a_mask_of_nothing_only_loads_again(device: Device):
    scaled = Scaled(device)
    scaled.program.set_stats_mask(0)
    scaled.request().run()
    assert values(scaled.y) == {3.0}
    with fails(abi.BAD_ARGUMENT, "0x10", "1, 2, 4 and 8"):
        scaled.program.set_stats_mask(16)


def test_blobs_of_a_reload_are_those_of_the_program(device: Device):
    scaled = Scaled(device)
    (path,) = scaled.source.blobs
    for blobs, words in (
        ({}, ("0 blobs were given; the program was made with 1", path)),
        ({path + "x": b"data"}, ("without a blob", "did you mean")),
        ({path: b""}, ("empty",)),
    ):
        with fails(abi.BAD_ARGUMENT, *words):
            scaled.program.reload(abi.REWRITE_FILES, blobs)
    with fails(abi.BAD_ARGUMENT, "kind 2"):
        scaled.program.reload(2, scaled.source.blobs)
    scaled.request().run()
    assert values(scaled.y) == {3.0}


def test_a_reload_that_fails_to_load_unloads(device: Device):
    scaled = Scaled(device)
    request = scaled.request()
    live = device.counters()["live_programs"]
    device.inject(abi.LOAD)
    with fails(abi.COMPILE_FAILED, "injected") as caught:
        scaled.program.reload(abi.NEW_IDENTITY, scale(2).blobs)
    assert caught.value.label == "scale"
    assert device.counters()["live_programs"] == live - 1
    for call in (request.run, lambda: scaled.program.reload(abi.NEW_IDENTITY, scale(2).blobs)):
        with fails(abi.BAD_ARGUMENT, "unloaded"):
            call()


# ---------------------------------------------------------------- chains


def test_links_of_a_chain_hang_together(library: Library, device: Device):
    scaled = Scaled(device)
    with fails(abi.BAD_ARGUMENT, "request 1 of the chain ('scale') reads no output of the one before"):
        library.chain([scaled.request(), scaled.request()])
    with fails(abi.BAD_ARGUMENT, "request 1 of the chain belongs to another device"):
        library.chain([scaled.request(), bound(library.open())[0]])


def test_a_chain_of_an_unloaded_program_is_refused(library: Library, device: Device):
    scaled = Scaled(device)
    second = device.compile(scale(2).text, scale(2).blobs)
    links = [scaled.request(), second.raw_request([scaled.y], [device.surface(SIZE)])]
    second.unload()
    with fails(abi.BAD_ARGUMENT, "unloaded"):
        library.chain(links)


# ---------------------------------------------------------------- API


def test_api_has_what_is_expected(library: Library, device: Device):
    answer = device.api()
    assert set(answer) == {"framework", "version", "classes", "other_classes"}
    for name in ("_ANEInMemoryModel", "_ANEInMemoryModelDescriptor", "_ANERequest", "_ANEIOSurfaceObject"):
        entry = answer["classes"][name]
        assert set(entry) == {"found", "class_methods", "instance_methods", "expected"}
        assert entry["found"] is True
        offered = {"+" + method for method in entry["class_methods"]} | {"-" + m for m in entry["instance_methods"]}
        required = [selector for selector in entry["expected"] if "WithQoS" in selector or selector.startswith("+")]
        assert required or name == "_ANEDeviceInfo"
        assert set(required) <= offered


# ---------------------------------------------------------------- a poisoned device


def test_a_lost_raw_evaluation_poisons(backend: tuple[Path, int]):
    out = run_script(
        backend,
        """
from tests.test_contract_raw import Scaled
dev = lib.open(watchdog_ms=50)
scaled = Scaled(dev)
request = scaled.request()
dev.inject(abi.STALL, milliseconds=60_000)
for call in (request.raw_run, request.run, lambda: lib.chain([request]), scaled.request, dev.api,
             lambda: scaled.program.reload(abi.NEW_IDENTITY, scaled.source.blobs),
             lambda: scaled.program.set_stats_mask(0)):
    try:
        call()
        print("no failure")
    except Failure as failure:
        print(failure.status, "50 ms" in failure.detail)
lib.release_all()
""",
    )
    assert out.split("\n")[:-1] == [f"{abi.UNAVAILABLE} True"] * 7
