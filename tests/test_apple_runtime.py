"""The Objective-C of csrc/device/apple against a framework that fails in every known way (csrc/tests/fake_ane)."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests import ane_abi as abi
from tests.ane_abi import ROOT, Device, Failure, Library
from tests.programs import program, subtract, tensor, two_outputs

COMPILER = "com.apple.appleneuralengine.compiler"
ENGINE = "com.apple.appleneuralengine"
INVALID = "_ANECompiler : ANECCompile() FAILED : err=(InvalidMILProgram)"
BLOB_PATH = "@model_path/weights/w.bin"


class FakeLibrary(Library):
    """ane.h and the controls of the fake framework in one."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, abi.REAL)
        header = ROOT / "csrc" / "tests" / "fake_ane" / "fake_ane.h"
        self.ffi.cdef(abi.declarations(header))
        self.c.fake_ane_reset()

    def set(self, **settings: int | str) -> None:
        for name, value in settings.items():
            if isinstance(value, str):
                self.c.fake_ane_set_text(name.encode(), value.encode())
            else:
                self.c.fake_ane_set(name.encode(), value)

    def fail(self, step: str, how: str, domain: str = "", code: int = 0, text: str = "", times: int = 1) -> None:
        self.c.fake_ane_fail(step.encode(), how.encode(), domain.encode(), code, text.encode(), times)

    def hide(self, name: str) -> None:
        self.c.fake_ane_hide(name.encode())

    def count(self, what: str) -> int:
        return int(self.c.fake_ane_count(what.encode()))

    def misuse(self) -> str:
        return self.ffi.string(self.c.fake_ane_misuse()).decode()

    def available(self) -> tuple[bool, str]:
        why = self.ffi.new("char[512]")
        return self.c.ane_real_available(why, 512), self.ffi.string(why).decode()

    def open_in(self, folder: Path | None = None) -> Device:
        return self.open(temp_dir=str(folder).encode()) if folder else self.open()


def assert_nothing_is_left(library: FakeLibrary) -> None:
    """Nothing may be alive on either side, and nothing have been done that the framework would punish."""
    library.release_all()
    misuse = library.misuse()
    library.c.fake_ane_reset()
    held = library.open().counters()["backend_objects"]
    library.release_all()
    assert (misuse, held, library.count("live")) == ("", 0, 0)


@pytest.fixture
def fake(fake_ane_path: Path) -> Iterator[FakeLibrary]:
    library = FakeLibrary(fake_ane_path)
    yield library
    assert library.count("demand") == 0, "a program was loaded that had not been compiled"
    assert_nothing_is_left(library)


def run_difference(device: Device) -> float:
    """9 - 4 by way of a new program: 5 where surfaces are bound right."""
    made = device.compile(subtract())
    surfaces = {name: device.surface(64) for name in "xWz"}
    for name, value in (("x", 9), ("W", 4)):
        surfaces[name].write(np.full((1, 32), value, np.float32))
    made.request({"x": surfaces["x"], "W": surfaces["W"]}, {"z": surfaces["z"]}).run()
    return float(surfaces["z"].read(1, 32)[0, 7])


def attention(device: Device, mask: bytes) -> bytes:
    """The golden attention program on fixed random inputs: the bytes of its output."""
    text = (ROOT / "tests" / "golden" / "attention_A.mil").read_text()
    made = device.compile(text, {"@model_path/weights/mask.bin": mask})
    random = np.random.default_rng(7)
    names = ["a_q", "b_k", "c_v"]
    surfaces = {name: device.surface(2 * 64 * 32) for name in [*names, "y"]}
    for name in names:
        surfaces[name].write(random.normal(size=(64, 32)).astype(np.float32))
    made.request({name: surfaces[name] for name in names}, {"y": surfaces["y"]}).run()
    return surfaces["y"].read(64, 32).tobytes()


def run_and_unload(device: Device) -> None:
    run_difference(device)
    for handle in device.library.made:
        if isinstance(handle, abi.Program):
            handle.unload()


def blob(values: np.ndarray) -> bytes:
    """One fp16 tensor as a blob file."""
    halves = values.astype(np.float16).tobytes()
    header = np.array([1, 2, *[0] * 14], np.uint32).tobytes()
    return header + np.array([0xDEADBEEF, 1, len(halves), 0, 128, *[0] * 11], np.uint32).tobytes() + halves


def weighted() -> tuple[str, dict[str, bytes]]:
    """z = x + w with w in a blob of its own."""
    t = tensor()
    path, offset = f'path = tensor<string, []>("{BLOB_PATH}")', "offset = tensor<uint64, []>(64)"
    constant = f'{t} w = const()[name = tensor<string, []>("w"), val = {t}(BLOBFILE({path}, {offset}))];'
    text = program([f"{t} x"], [f"{t} z = add(x = x, y = w)"], ["z"])
    return text.replace(") {\n", ") {\n    " + constant + "\n", 1), {BLOB_PATH: blob(np.arange(32))}


# ---------------------------------------------------------------- is there an engine?


def test_an_engine_that_answers_is_available_and_described(fake: FakeLibrary) -> None:
    assert fake.available()[0]
    facts = fake.open().facts
    expected = {
        "kind": "ane",
        "backend": "apple",
        "aneSubType": "h16",
        "architecture": "h16g",
        "cores": 16,
        "dialect": "B",
    }
    assert {name: facts[name] for name in expected} == expected


@pytest.mark.parametrize(
    "name",
    [
        "_ANEInMemoryModelDescriptor",
        "_ANEInMemoryModel",
        "_ANERequest",
        "_ANEIOSurfaceObject",
        "_ANEDeviceInfo",
        "+[_ANEInMemoryModelDescriptor modelWithMILText:weights:optionsPlist:]",
        "+[_ANEInMemoryModel inMemoryModelWithDescriptor:]",
        "-[_ANEInMemoryModel hexStringIdentifier]",
        "-[_ANEInMemoryModel compileWithQoS:options:error:]",
        "-[_ANEInMemoryModel loadWithQoS:options:error:]",
        "-[_ANEInMemoryModel evaluateWithQoS:options:request:error:]",
        "-[_ANEInMemoryModel unloadWithQoS:error:]",
        "+[_ANERequest requestWithInputs:inputIndices:outputs:outputIndices:weightsBuffer:perfStats:procedureIndex:]",
        "+[_ANEIOSurfaceObject objectWithIOSurface:]",
        "+[_ANEDeviceInfo hasANE]",
    ],
)
def test_what_the_framework_lacks_is_named(fake: FakeLibrary, name: str) -> None:
    fake.hide(name)
    usable, why = fake.available()
    assert not usable
    assert name in why
    with pytest.raises(Failure, match=re.escape(name)) as failure:
        fake.open()
    assert failure.value.status == abi.UNAVAILABLE


def test_a_machine_without_the_framework_or_the_engine_says_so(fake: FakeLibrary) -> None:
    fake.set(has_ane=0)
    assert fake.available() == (False, "_ANEDeviceInfo says that this machine has no Neural Engine")
    fake.set(has_ane=1, virtual_machine=1)
    assert fake.available() == (False, "this is a virtual machine, and guests do not reach the engine")
    fake.fail("device_info", "throw", "NSGenericException", 0, "no service")
    fake.set(virtual_machine=0)
    assert fake.available() == (False, "_ANEDeviceInfo threw NSGenericException: no service")
    fake.hide("framework")
    usable, why = fake.available()
    assert not usable
    assert "does not load" in why
    device = fake.open(kind=abi.AUTO)
    assert device.facts["kind"] == "emulator"
    assert "does not load" in device.facts["why"]


def test_auto_falls_back_when_the_self_test_fails(fake: FakeLibrary) -> None:
    fake.set(reverse_order=1, attributes=0)  # silently swapped surfaces: only values can show it
    facts = fake.open(kind=abi.AUTO).facts
    assert facts["kind"] == "emulator"
    assert "self-test read" in facts["why"]


@pytest.mark.parametrize(
    "name",
    [
        "-[_ANEInMemoryModel compiledModelExists]",
        "-[_ANEInMemoryModel modelAttributes]",
        "-[_ANEInMemoryModel setModelURL:]",
        "-[_ANERequest validate]",
        "+[_ANEDeviceInfo aneSubType]",
        "+[_ANEDeviceInfo isVirtualMachine]",
    ],
)
def test_what_is_optional_may_be_missing(fake: FakeLibrary, name: str) -> None:
    fake.hide(name)
    assert run_difference(fake.open()) == 5


def test_results_are_those_of_the_emulator_bit_for_bit(fake: FakeLibrary) -> None:
    mask = blob(np.triu(np.full((32, 32), -1e4), 1))
    results = {kind: attention(fake.open(kind=kind), mask) for kind in (abi.REAL, abi.EMULATOR)}
    assert len(set(results.values())) == 1
    assert np.frombuffer(results[abi.REAL], np.float32).std() > 0.1


# ---------------------------------------------------------------- every way to fail

REASON = {"no": "", "error": "the text of the framework", "throw": "the reason of the exception"}
ALL, NO_ERROR = ("no", "error", "throw"), ("no", "throw")
STEPS = [  # step, the ways in which it can fail, what the error says failed, status, tries
    ("descriptor", NO_ERROR, "modelWithMILText:weights:optionsPlist:", abi.COMPILE_FAILED, 2),
    ("model", NO_ERROR, "inMemoryModelWithDescriptor:", abi.COMPILE_FAILED, 1),
    ("identifier", NO_ERROR, "hexStringIdentifier", abi.COMPILE_FAILED, 1),
    ("compile", ALL, "compileWithQoS:options:error:", abi.COMPILE_FAILED, 3),
    ("load", ALL, "loadWithQoS:options:error:", abi.COMPILE_FAILED, 2),
    ("unload", ALL, "unloadWithQoS:error:", abi.UNLOAD_FAILED, 1),
    ("surface", ("no",), "IOSurfaceCreate", abi.SURFACE_ERROR, 1),
    ("surface_object", ("no",), "objectWithIOSurface:", abi.SURFACE_ERROR, 1),
    ("surface_object", ("throw",), "building a request", abi.EVAL_FAILED, 1),
    ("request", ("no",), "requestWithInputs:", abi.EVAL_FAILED, 1),
    ("request", ("throw",), "building a request", abi.EVAL_FAILED, 1),
    ("evaluate", ALL, "evaluateWithQoS:options:request:error:", abi.EVAL_FAILED, 1),
]
FAILURES = [(step, how, *rest) for step, ways, *rest in STEPS for how in ways]


@pytest.mark.parametrize(("step", "how", "doing", "status", "tries"), FAILURES)
def test_every_call_that_fails_is_an_error_that_says_which(
    fake: FakeLibrary, step: str, how: str, doing: str, status: int, tries: int
) -> None:
    text = REASON[how]
    device = fake.open()
    fake.fail(step, how, "TestDomain", 42, text, times=1 if how == "throw" else tries)  # what is thrown is final
    with pytest.raises(Failure) as caught:
        run_and_unload(device)
    failure = caught.value
    assert (failure.status, failure.text) == (status, text)
    assert failure.domain == ("TestDomain" if text else "")
    assert failure.code == (42 if how == "error" else 0)
    assert doing in failure.detail
    assert run_difference(device) == 5  # and the device is as good as before


def test_an_underlying_refusal_keeps_domain_code_and_text(fake: FakeLibrary) -> None:
    with pytest.raises(Failure) as caught:
        fake.open().compile(
            "program(1.0)\n{ func main<ios16>(tensor<fp16, [1, 1, 1, 32]> x) { } -> (y); }", label="bad"
        )
    assert (caught.value.status, caught.value.domain, caught.value.code) == (abi.COMPILE_FAILED, COMPILER, 1)
    assert (caught.value.text, caught.value.label) == (INVALID, "bad")
    assert "compileWithQoS:options:error: failed: " in caught.value.detail


def test_an_exception_that_is_not_nsexception_cannot_pass(fake: FakeLibrary) -> None:
    fake.set(throw_string=1)
    fake.fail("evaluate", "throw", times=1)
    with pytest.raises(Failure, match="threw an object of class") as caught:
        run_difference(fake.open())
    assert caught.value.status == abi.EVAL_FAILED


def test_surface_locks_that_fail_are_errors(fake: FakeLibrary) -> None:
    device = fake.open()
    surface = device.surface(64)
    fake.set(lock_code=0xE00002C2 - 2**32)
    with pytest.raises(Failure, match="IOSurfaceLock for writing failed with 0xe00002c2") as caught:
        surface.lock(write=True)
    assert (caught.value.status, caught.value.domain) == (abi.SURFACE_ERROR, "IOSurface")
    with pytest.raises(Failure, match="IOSurfaceLock"):
        device.surface(64)
    fake.set(lock_code=0)
    surface.lock(write=True)
    surface.unlock(write=True)


def test_the_framework_may_refuse_a_request(fake: FakeLibrary) -> None:
    fake.set(invalid_request=1)
    with pytest.raises(Failure, match="-validate refuses a request of 2 inputs and 1 outputs"):
        run_difference(fake.open())


def test_an_evaluation_that_hangs_poisons_the_device(fake_ane_path: Path) -> None:
    script = """
        fake.set(stall_ms=60_000)
        device = fake.open(watchdog_ms=50)
        try: run_difference(device)
        except Failure as failure: print(failure.status, device.counters()["poisoned"])
        os._exit(0)
    """
    assert run_script(script, fake_ane_path).stdout.split() == [str(abi.UNAVAILABLE), "True"]


# ---------------------------------------------------------------- weights: @{} and nil


def test_no_weights_are_an_empty_dictionary_first(fake: FakeLibrary) -> None:
    assert run_difference(fake.open()) == 5
    assert fake.count("descriptor") == 1


def test_where_an_empty_dictionary_is_refused_nil_is_tried_once(fake: FakeLibrary) -> None:
    fake.set(refuse_no_weights=1)
    assert run_difference(fake.open()) == 5
    assert fake.count("descriptor") == 2
    fake.set(refuse_no_weights=2)
    with pytest.raises(Failure, match="gave nil"):
        run_difference(fake.open())
    assert fake.count("descriptor") == 4


def test_weights_are_never_dropped_for_nil(fake: FakeLibrary) -> None:
    text, blobs = weighted()
    fake.fail("descriptor", "no")
    with pytest.raises(Failure, match="gave nil"):
        fake.open().compile(text, blobs)
    assert fake.count("descriptor") == 1


# ---------------------------------------------------------------- retries and the cache


@pytest.mark.parametrize("failures", [1, 2])
def test_a_compile_that_fails_without_a_verdict_is_tried_again(fake: FakeLibrary, failures: int) -> None:
    device = fake.open()
    before = device.counters()["compiles"]
    fake.fail("compile", "error", "NSCocoaErrorDomain", 4097, "connection to service interrupted", times=failures)
    assert run_difference(device) == 5
    assert fake.count("compile") == failures + 1
    assert device.counters()["compiles"] == before + failures + 1  # each try counts against the engine's limit


def test_the_compilers_verdict_is_final(fake: FakeLibrary) -> None:
    fake.fail("compile", "error", COMPILER, 1, INVALID)
    with pytest.raises(Failure, match="InvalidMILProgram"):
        run_difference(fake.open())
    assert fake.count("compile") == 1


def test_compiles_stop_at_the_budget_also_between_tries(fake: FakeLibrary) -> None:
    done = fake.open().counters()["compiles"]
    device = fake.open(compile_budget=done + 1)
    fake.fail("compile", "no", times=3)
    with pytest.raises(Failure) as caught:
        run_difference(device)
    assert caught.value.status == abi.BUDGET_EXCEEDED
    assert fake.count("compile") == 1


def test_a_load_is_tried_twice(fake: FakeLibrary) -> None:
    device = fake.open()
    fake.fail("load", "error", ENGINE, 6, "Program load failure", times=1)
    assert run_difference(device) == 5
    assert (fake.count("compile"), fake.count("load")) == (1, 2)
    fake.fail("load", "error", ENGINE, 6, "Program load failure", times=2)
    with pytest.raises(Failure, match="Program load failure") as caught:
        run_difference(device)
    assert (caught.value.domain, caught.value.code) == (ENGINE, 6)


def test_a_compiled_program_is_loaded_without_the_compiler(fake: FakeLibrary) -> None:
    fake.set(cache=1)
    device = fake.open()
    assert run_difference(device) == 5
    before = device.counters()
    assert run_difference(device) == 5
    after = device.counters()
    assert after["compiles"] == before["compiles"]
    assert after["cache_loads"] == before["cache_loads"] + 1
    assert fake.count("compile") == 1


def test_a_compiled_program_that_does_not_load_is_compiled_after_all(fake: FakeLibrary) -> None:
    fake.set(cache=1)
    device = fake.open()
    assert run_difference(device) == 5
    fake.fail("load", "error", ENGINE, 17, "model id not found")
    assert run_difference(device) == 5
    assert (fake.count("compile"), fake.count("load")) == (2, 3)
    assert device.counters()["cache_loads"] == 0


# ---------------------------------------------------------------- what the model says of itself


def test_ports_are_compared_with_the_loaded_model(fake: FakeLibrary) -> None:
    device = fake.open()
    assert device.compile(two_outputs()).report["ports_verified"] == 1
    fake.set(attributes=0)
    assert device.compile(two_outputs()).report["ports_verified"] == 0
    fake.set(attributes=1)
    fake.fail("attributes", "no")
    assert device.compile(two_outputs()).report["ports_verified"] == 0


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"reverse_order": 1}, ["'x' in the loaded model", "'W' in sorted order"]),
        ({"reverse_order": 1, "symbol_suffix": 1}, ["'x@port' in the loaded model", "'W' in sorted order"]),
        ({"row_stride_extra": 64}, ["RowStride 128", "gives 64"]),
        ({"extra_port": 1}, ["3 inputs", "declares 2"]),
    ],
)
def test_a_model_that_disagrees_with_its_text_is_refused(
    fake: FakeLibrary, setting: dict[str, int], words: list[str]
) -> None:
    device = fake.open()
    fake.set(**setting)
    with pytest.raises(Failure) as caught:
        device.compile(subtract())
    assert caught.value.status == abi.COMPILE_FAILED
    assert all(word in caught.value.detail for word in words), caught.value.detail
    assert fake.count("unload") == 1


@pytest.mark.parametrize("setting", ["symbol_suffix", "own_symbols"])
def test_another_spelling_of_the_names_is_no_disagreement(fake: FakeLibrary, setting: str) -> None:
    fake.set(**{setting: 1})
    assert fake.open().compile(two_outputs()).report["ports_verified"] == 1


def test_attributes_that_throw_are_an_error(fake: FakeLibrary) -> None:
    fake.fail("attributes", "throw", "NSRangeException", 0, "beyond bounds")
    with pytest.raises(Failure, match="modelAttributes threw NSRangeException"):
        fake.open().compile(subtract())


# ---------------------------------------------------------------- the program's directory


def directories(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir())


def test_the_compiler_reads_text_and_weights_from_the_directory(fake: FakeLibrary, tmp_path: Path) -> None:
    text, blobs = weighted()
    made = fake.open_in(tmp_path).compile(text, blobs)
    [directory] = directories(tmp_path)
    assert re.fullmatch(r"[0-9A-F]{64}_[0-9A-F]{64}_[0-9A-F]{64}", directory.name)
    assert (directory / "model.mil").read_text() == text
    assert (directory / "weights" / "w.bin").read_bytes() == blobs[BLOB_PATH]
    assert made.report["identifier"] == directory.name
    made.unload()
    assert directories(tmp_path) == []


def test_without_a_choice_the_directory_is_where_the_framework_looks(fake_ane_path: Path, tmp_path: Path) -> None:
    # NSTemporaryDirectory() of GNUstep follows TEMP.
    script = """
        program = fake.open().compile(subtract())
        [directory] = Path(os.environ["TEMP"]).rglob(program.report["identifier"])
        print((directory / "model.mil").read_text() == subtract())
        fake.release_all()
        print(directory.exists())
    """
    assert run_script(script, fake_ane_path, TEMP=str(tmp_path)).stdout.split() == ["True", "False"]


def test_blob_paths_that_differ_in_case_alone_are_refused(fake: FakeLibrary, tmp_path: Path) -> None:
    text, blobs = weighted()
    device = fake.open_in(tmp_path)
    with pytest.raises(Failure, match="where case is ignored"):
        device.compile(text, {**blobs, BLOB_PATH.replace("w.bin", "W.bin"): b"blob"})
    with pytest.raises(Failure, match="taken there"):
        device.compile(text, {**blobs, "@model_path/Model.MIL": b"blob"})
    assert directories(tmp_path) == []


def test_a_file_of_other_content_is_written_anew(fake: FakeLibrary, tmp_path: Path) -> None:
    text, blobs = weighted()
    device = fake.open_in(tmp_path)
    made = device.compile(text, blobs)
    [directory] = directories(tmp_path)
    file = directory / "weights" / "w.bin"
    file.write_bytes(bytes(file.stat().st_size))
    again = device.compile(text, blobs)
    assert file.read_bytes() == blobs[BLOB_PATH]
    made.unload()
    again.unload()


def test_a_link_that_leads_nowhere_is_an_error(fake: FakeLibrary, tmp_path: Path) -> None:
    text, blobs = weighted()
    made = fake.open_in(tmp_path).compile(text, blobs)
    [directory] = directories(tmp_path)
    made.unload()
    directory.symlink_to(tmp_path / "nowhere")
    with pytest.raises(Failure, match="cannot use the program directory"):
        fake.open_in(tmp_path).compile(text, blobs)


@pytest.mark.parametrize(
    "path",
    [
        *["/etc/passwd", "weights/w.bin", "@model_path/../w.bin", "@model_path/a/../../w.bin", "@model_path//w.bin"],
        *["@model_path/", "@model_path/.", "@model_path/a/", "@model_path/model.mil", "@model_path/.anetrain.use"],
    ],
)
def test_blobs_stay_in_the_directory(fake: FakeLibrary, tmp_path: Path, path: str) -> None:
    with pytest.raises(Failure) as caught:
        fake.open_in(tmp_path).compile(subtract(), {path: b"blob"})
    assert caught.value.status == abi.BAD_ARGUMENT
    assert path in caught.value.detail
    assert list(tmp_path.iterdir()) == []


def test_equal_programs_share_a_directory_until_the_last_is_unloaded(fake: FakeLibrary, tmp_path: Path) -> None:
    device = fake.open_in(tmp_path)
    first, second = device.compile(subtract()), device.compile(subtract())
    assert len(directories(tmp_path)) == 1
    first.unload()
    assert len(directories(tmp_path)) == 1
    second.unload()
    assert directories(tmp_path) == []


@pytest.mark.parametrize(("step", "times"), [("compile", 3), ("load", 2), ("identifier", 1), ("attributes", 1)])
def test_a_failed_program_leaves_no_directory(fake: FakeLibrary, tmp_path: Path, step: str, times: int) -> None:
    device = fake.open_in(tmp_path)
    fake.fail(step, "throw" if step == "attributes" else "no", "NSGenericException", 0, "refused", times=times)
    with pytest.raises(Failure):
        device.compile(subtract())
    assert directories(tmp_path) == []


def test_a_directory_that_cannot_be_written_is_an_error(fake: FakeLibrary, tmp_path: Path) -> None:
    with pytest.raises(Failure, match="is not a directory"):
        fake.open_in(tmp_path / "nowhere")
    device = fake.open_in(tmp_path)
    name = device.compile(subtract()).report["identifier"]
    fake.release_all()
    (tmp_path / name).write_text("a file where the directory should be")
    with pytest.raises(Failure, match="cannot use the program directory"):
        fake.open_in(tmp_path).compile(subtract())


PRELUDE = """
import os, sys, time
from pathlib import Path
from tests import ane_abi as abi
from tests.ane_abi import Failure
from tests.programs import subtract
from tests.test_apple_runtime import FakeLibrary, directories, run_difference
fake = FakeLibrary(Path(sys.argv[1]))
folder = Path(sys.argv[2]) if len(sys.argv) > 2 else None
"""


def script_command(script: str, *arguments: object) -> list[str]:
    lines = "\n".join(line[8:] if line.startswith(" " * 8) else line for line in script.splitlines())
    return [sys.executable, "-c", PRELUDE + lines, *map(str, arguments)]


def run_script(script: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command, environ = script_command(script, *arguments), {**os.environ, **environment}
    return subprocess.run(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True, timeout=120, check=True)


def start_script(script: str, *arguments: object) -> subprocess.Popen[str]:
    """Runs until it has printed a line."""
    process = subprocess.Popen(
        script_command(script, *arguments), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


HOLDER = """
        program = fake.open_in(folder).compile(subtract())
        print("ready", flush=True)
        sys.stdin.readline()
        fake.release_all()
        print(len(directories(folder)), flush=True)
"""


def test_what_a_killed_process_left_is_swept_at_the_next_open(
    fake: FakeLibrary, fake_ane_path: Path, tmp_path: Path
) -> None:
    strange = tmp_path / ("_".join(["A" * 64] * 3))  # looks like one of ours, but has no lock of ours in it
    strange.mkdir()
    process = start_script(HOLDER, fake_ane_path, tmp_path)
    assert len(directories(tmp_path)) == 2
    fake.open_in(tmp_path)
    assert len(directories(tmp_path)) == 2  # in use by a living process
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(directories(tmp_path)) == 2
    fake.open_in(tmp_path)
    assert directories(tmp_path) == [strange]


def test_two_processes_share_a_directory_and_the_last_removes_it(fake_ane_path: Path, tmp_path: Path) -> None:
    first, second = (start_script(HOLDER, fake_ane_path, tmp_path) for _ in range(2))
    assert len(directories(tmp_path)) == 1
    assert first.communicate("go\n", timeout=60)[0] == "1\n"
    assert second.communicate("go\n", timeout=60)[0] == "0\n"


def test_processes_that_come_and_go_never_lose_a_directory(fake_ane_path: Path, tmp_path: Path) -> None:
    script = """
        for _ in range(40):
            assert run_difference(fake.open_in(folder)) == 5
            fake.release_all()
        print(fake.misuse() or "good")
    """
    processes = [
        subprocess.Popen(script_command(script, fake_ane_path, tmp_path), cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [p.communicate(timeout=120)[0] for p in processes] == ["good\n", "good\n"]
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- nothing is kept


def test_two_hundred_programs_leave_nothing(fake: FakeLibrary, tmp_path: Path) -> None:
    device = fake.open_in(tmp_path)
    counts = []
    for _ in range(200):
        assert run_difference(device) == 5
        while len(fake.made) > 1:
            fake.made.pop().release()
        counts.append((fake.count("live"), device.counters()["backend_objects"]))
    assert set(counts) == {(0, 0)}
    assert fake.count("unload") == 200
    assert list(tmp_path.iterdir()) == []


def test_the_counts_would_show_a_missing_release(fake: FakeLibrary) -> None:
    device = fake.open()
    made = device.compile(subtract())
    device.surface(64)
    assert fake.count("live_models") == 1
    assert device.counters()["backend_objects"] == 2
    fake.set(extra_retain=1)
    leaked = device.compile(subtract())
    fake.set(extra_retain=0)
    leaked.release()
    made.release()
    assert (fake.count("live_models"), fake.count("live_descriptors")) == (1, 1)


def test_two_threads_with_programs_of_their_own(fake: FakeLibrary, tmp_path: Path) -> None:
    script = """
        import threading
        def work(results):
            device = fake.open_in(folder)
            for _ in range(20): results.append(run_difference(device))
        results = []
        threads = [threading.Thread(target=work, args=(results,)) for _ in range(4)]
        for t in threads: t.start()
        for t in threads: t.join()
        fake.release_all()
        print(set(results), len(results), fake.count("live"), fake.misuse(), list(folder.iterdir()))
    """
    assert run_script(script, fake.path, tmp_path).stdout == "{5.0} 80 0  []\n"
