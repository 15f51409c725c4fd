"""The contract of csrc/device/ane.h, the same for every back end: budgets, faults, threads, processes."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from tests import ane_abi as abi
from tests.ane_abi import Device, Library
from tests.contract import BYTES, COMPILER_DOMAIN, ENGINE_DOMAIN, TOO_SMALL, bound, fails, filled, run_script, values
from tests.programs import subtract, two_outputs

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


def test_an_unload_that_fails_is_an_error_and_the_program_is_gone(device: Device):
    device.inject(abi.UNLOAD, after=1)
    device.compile(subtract()).unload()
    live = device.counters()["live_programs"]
    program = device.compile(subtract(), label="stuck")
    with fails(abi.UNLOAD_FAILED, "unload") as caught:
        program.unload()
    assert caught.value.label == "stuck"
    assert device.counters()["live_programs"] == live
    program.unload()  # done already
    with fails(abi.BAD_ARGUMENT, "unloaded"):
        surface = device.surface(BYTES)
        program.request({"x": surface, "W": surface}, {"z": surface})
    device.compile(subtract()).unload()


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
