"""The raw calls of csrc/device/apple (raw*.m) over the fake framework: what they say to it, and every way to fail."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import ane_abi as abi
from tests.ane_abi import (
    CLIENT,
    DIRECT,
    NEW_IDENTITY,
    PROCESS,
    REAL_TIME,
    REWRITE_FILES,
    ROOT,
    STANDARD,
    Device,
    Failure,
    Request,
    Surface,
)
from tests.programs import subtract
from tests.test_apple_runtime import (
    ALL,
    BLOB_PATH,
    ENGINE,
    NO_ERROR,
    REASON,
    FakeLibrary,
    assert_nothing_is_left,
    blob,
    run_difference,
    weighted,
)

PATHS = {"standard": STANDARD, "client": CLIENT, "direct": DIRECT, "real_time": REAL_TIME, "process": PROCESS}
STEP = {"standard": "evaluate", **{path: path for path in ("client", "direct", "real_time", "process")}}


class RawLibrary(FakeLibrary):
    """The fake framework, told that requests may carry more than surfaces."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.set(probing=1)


def evaluate(request: Request, path: str = "standard", qos: int = 21) -> Any:
    return request.raw_run(qos, PATHS[path])


@pytest.fixture
def fake(fake_ane_path: Path) -> Iterator[RawLibrary]:
    library = RawLibrary(fake_ane_path)
    yield library
    assert_nothing_is_left(library)


class Difference:
    """z = W - x, bound by position: 9 - 4, or with the surfaces of a chain."""

    def __init__(self, library: RawLibrary, **options: Any) -> None:
        self.library, self.device = library, library.open(**options)
        self.program = self.device.compile(subtract())
        self.inputs = [self.surface(value) for value in (4, 9)]  # ASCII order: W before x
        self.output = self.surface(0)

    def surface(self, value: float) -> Surface:
        made = self.device.surface(64)
        made.write(np.full((1, 32), value, np.float32))
        return made

    def request(self, **fields: Any) -> Request:
        return self.program.raw_request(self.inputs, [self.output], **fields)

    @property
    def value(self) -> float:
        return float(self.output.read(1, 32)[0, 7])


class Weighted:
    """z = x + w with x = 100, and w[i] = i as made, 2 i in `others`."""

    def __init__(self, library: RawLibrary, device: Device | None = None) -> None:
        text, self.blobs = weighted()
        self.others = {BLOB_PATH: blob(np.arange(32) * 2)}
        self.library, self.device = library, device or library.open()
        self.program = self.device.compile(text, self.blobs)
        self.x, self.z = self.device.surface(64), self.device.surface(64)
        self.x.write(np.full((1, 32), 100, np.float32))

    def request(self, **fields: Any) -> Request:
        return self.program.raw_request([self.x], [self.z], **fields)

    @property
    def weight(self) -> float:
        """The one at index 7."""
        return float(self.z.read(1, 32)[0, 7]) - 100


def expect(failure: Failure, how: str, step: str, status: int, code: int = 42) -> None:
    assert (failure.status, failure.text) == (status, REASON[how])
    assert failure.domain == ("TestDomain" if REASON[how] else "")
    assert failure.code == (code if how == "error" else 0)
    assert step in failure.detail


# ---------------------------------------------------------------- the API

PUBLISHED = {  # as dumped from Apple's framework by others, with BOOL as bool ("B"); here it is "C"
    "_ANEInMemoryModel -compiledModelExists": "B16@0:8",
    "_ANEInMemoryModel -string_id": "Q16@0:8",
    "_ANEIOSurfaceObject +objectWithIOSurface:": "@24@0:8^{__IOSurface=}16",
    "_ANEClient -evaluateWithModel:options:request:qos:error:": "B52@0:8@16@24@32I40^@44",
    "_ANEClient -doEvaluateDirectWithModel:options:request:qos:error:": "B52@0:8@16@24@32I40^@44",
    "_ANEClient -prepareChainingWithModel:options:chainingReq:qos:error:": "B52@0:8@16@24@32I40^@44",
    "_ANEClient -buffersReadyWithModel:inputBuffers:options:qos:error:": "B52@0:8@16@24@32I40^@44",
    "_ANEClient -enqueueSetsWithModel:outputSet:options:qos:error:": "B52@0:8@16@24@32I40^@44",
    "_ANEProgramForEvaluation -processRequest:model:qos:qIndex:modelStringID:options:returnValue:error:": (
        "B76@0:8@16@24I32Q36Q44@52^I60^@68"
    ),
    "_ANESharedSignalEvent +signalEventWithValue:symbolIndex:eventType:sharedEvent:": "@44@0:8Q16I24q28@36",
    "_ANEChainingRequest +chainingRequestWithInputs:outputSets:lbInputSymbolId:lbOutputSymbolId:procedureIndex:"
    "signalEvents:transactionHandle:fwEnqueueDelay:memoryPoolId:": "@88@0:8@16@24@32@40@48@56@64@72@80",
}


def differences(api: dict[str, Any]) -> list[str]:
    """Where the framework is not what our protocols take it for."""
    found = []
    for name, entry in api["classes"].items():
        sides = {"+": entry["class_methods"], "-": entry["instance_methods"]}
        for key, encoding in entry["expected"].items():
            if sides[key[0]].get(key[1:]) != encoding:
                found.append(f"{name} {key}")
    return found


def test_the_api_is_what_our_protocols_expect(fake: RawLibrary) -> None:
    api = fake.open().api()
    assert api["framework"].startswith("/System/Library/PrivateFrameworks/AppleNeuralEngine.framework/")
    assert api["version"] == ""  # there is no Info.plist here
    assert api["other_classes"] == ["_ANEModel"]  # we only hand it on
    assert differences(api) == []
    assert all(entry["found"] for entry in api["classes"].values())
    assert sum(len(entry["expected"]) for entry in api["classes"].values()) > 45
    for name, encoding in PUBLISHED.items():
        owner, key = name.split(" ")
        assert api["classes"][owner]["expected"][key] == encoding.replace("B", "C"), name


def test_the_emulator_says_the_same_of_our_protocols(fake: RawLibrary) -> None:
    """There the encodings are read off the header's text."""
    real, emulated = (fake.open(kind=kind).api()["classes"] for kind in (abi.REAL, abi.EMULATOR))
    expected = {name: {k: v.replace("C", "B") for k, v in entry["expected"].items()} for name, entry in real.items()}
    assert expected == {name: entry["expected"] for name, entry in emulated.items()}


def test_what_a_system_lacks_or_has_otherwise_shows(fake: RawLibrary) -> None:
    fake.hide("_ANEBuffer")
    fake.hide("-[_ANEClient beginRealTimeTask]")
    fake.hide("+[_ANEClient sharedConnection]")
    fake.set(other_encoding="setPerfStatsMask:")
    api = fake.open().api()
    assert sorted(differences(api)) == [
        "_ANEBuffer +bufferWithIOSurfaceObject:symbolIndex:source:",
        "_ANEClient +sharedConnection",
        "_ANEClient -beginRealTimeTask",
        "_ANEInMemoryModel -setPerfStatsMask:",
    ]
    assert not api["classes"]["_ANEBuffer"]["found"]
    assert api["classes"]["_ANEBuffer"]["class_methods"] == {}


# ---------------------------------------------------------------- paths


@pytest.mark.parametrize("path", PATHS)
def test_every_path_computes_with_the_qos_that_is_asked_for(fake: RawLibrary, path: str) -> None:
    case = Difference(fake)
    request = case.request()
    fake.set(qos=33)  # any other is noted as a misuse
    result = evaluate(request, path, qos=33)
    fake.set(qos=21)
    assert case.value == 5
    assert fake.count(STEP[path]) == 1
    assert (result.has_stats, result.hardware_ns, result.real_time_granted) == (False, 0, False)


def test_a_real_time_task_is_begun_and_ended(fake: RawLibrary) -> None:
    case = Difference(fake)
    request = case.request()
    assert not evaluate(request, "real_time").real_time_granted
    assert (fake.count("begin"), fake.count("end")) == (1, 0)  # nothing was granted: there is nothing to end
    fake.set(real_time=1)
    assert evaluate(request, "real_time").real_time_granted
    fake.fail("real_time", "throw", "TestDomain", 0, "thrown in the task")
    with pytest.raises(Failure, match="thrown in the task"):
        evaluate(request, "real_time")
    assert (fake.count("begin"), fake.count("end")) == (3, 2)
    fake.fail("end", "no")
    with pytest.raises(Failure, match="endRealTimeTask answered NO"):
        evaluate(request, "real_time")


DOING = {
    "standard": "evaluateWithQoS:options:request:error:",
    "client": "evaluateWithModel:options:request:qos:error:",
    "direct": "doEvaluateDirectWithModel:options:request:qos:error:",
    "real_time": "evaluateRealTimeWithModel:options:request:error:",
    "process": "processRequest:model:qos:qIndex:modelStringID:options:returnValue:error:",
}
PATH_FAILURES = [(path, STEP[path], how, DOING[path]) for path in PATHS for how in ALL] + [
    ("client", "connection", "no", "sharedConnection gave nil"),
    ("client", "inner_model", "no", "-[_ANEInMemoryModel model] gave nil"),
    ("direct", "connection", "throw", DOING["direct"]),
    ("real_time", "inner_model", "throw", DOING["real_time"]),
    ("real_time", "begin", "throw", DOING["real_time"]),
    ("process", "program", "no", "-[_ANEInMemoryModel program] gave nil"),
    ("process", "program", "throw", DOING["process"]),
]


@pytest.mark.parametrize(("path", "step", "how", "doing"), PATH_FAILURES)
def test_every_answer_of_a_path_is_looked_at(fake: RawLibrary, path: str, step: str, how: str, doing: str) -> None:
    case = Difference(fake)
    request = case.request()
    fake.fail(step, how, "TestDomain", 42, REASON[how])
    with pytest.raises(Failure) as caught:
        evaluate(request, path)
    expect(caught.value, how, doing, abi.EVAL_FAILED)
    with pytest.raises(Failure, match="valid data"):  # old output never looks new
        _ = case.value
    evaluate(request, path)
    assert case.value == 5


def test_processing_says_what_it_returned(fake: RawLibrary) -> None:
    request = Difference(fake).request()
    fake.fail("process", "no")
    with pytest.raises(Failure, match="without an NSError, and returned 0x1d"):
        evaluate(request, "process")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("client", "_ANEClient"),
        ("client", "+[_ANEClient sharedConnection]"),
        ("client", "-[_ANEClient evaluateWithModel:options:request:qos:error:]"),
        ("client", "-[_ANEInMemoryModel model]"),
        ("direct", "-[_ANEClient doEvaluateDirectWithModel:options:request:qos:error:]"),
        ("real_time", "-[_ANEClient evaluateRealTimeWithModel:options:request:error:]"),
        ("real_time", "-[_ANEClient beginRealTimeTask]"),
        ("real_time", "-[_ANEClient endRealTimeTask]"),
        ("process", "_ANEQoSMapper"),
        ("process", "+[_ANEQoSMapper queueIndexForQoS:]"),
        ("process", "-[_ANEInMemoryModel program]"),
        ("process", "-[_ANEInMemoryModel string_id]"),
        ("process", f"-[_ANEProgramForEvaluation {DOING['process']}]"),
    ],
)
def test_what_a_path_lacks_is_named_and_hinders_nothing_else(fake: RawLibrary, path: str, name: str) -> None:
    fake.hide(name)
    case = Difference(fake)  # the device opens, and the program runs
    request = case.request()
    with pytest.raises(Failure, match=re.escape(name)) as caught:
        evaluate(request, path)
    assert caught.value.status == abi.UNAVAILABLE
    evaluate(request, "standard")
    assert case.value == 5


def test_the_watchdog_watches_over_raw_evaluations(fake_ane_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from tests.ane_abi import Failure
from tests.test_apple_raw import Difference, RawLibrary, evaluate
fake = RawLibrary(Path(sys.argv[1]))
request = Difference(fake, watchdog_ms=100).request()
fake.set(stall_ms=1500)
try:
    evaluate(request, "direct")
except Failure as failure:
    print(failure.detail, flush=True)
"""
    done = child(code, fake_ane_path)
    assert done.returncode == 0, done.stderr
    assert "did not come back within 100 ms" in done.stdout


# ---------------------------------------------------------------- requests


def test_a_procedure_index_reaches_the_framework(fake: RawLibrary) -> None:
    case = Difference(fake)
    evaluate(case.request(procedure_index=15))  # a program of one procedure takes any
    assert case.value == 5
    fake.set(procedures=3)
    evaluate(case.request(procedure_index=2))
    with pytest.raises(Failure) as caught:
        evaluate(case.request(procedure_index=3))
    assert (caught.value.domain, caught.value.code) == (ENGINE, 8)
    assert "status=0x2" in caught.value.text
    case.request(procedure_index=128)
    with pytest.raises(Failure, match=r"-validate refuses.*procedure 129") as caught:
        case.request(procedure_index=129)
    assert caught.value.status == abi.BAD_ARGUMENT


def test_a_weights_buffer_reaches_the_framework(fake: RawLibrary) -> None:
    case = Weighted(fake)
    buffer = case.device.surface(64)
    buffer.write(np.full((1, 32), -3, np.float32))
    request = case.request(weights_buffer=buffer)
    evaluate(request)
    assert case.weight == 7  # as on every system that is known
    fake.set(weights_buffer=1)
    buffer.release()  # the request keeps it
    evaluate(request)
    assert case.weight == -3


def test_statistics_are_those_of_this_evaluation(fake: RawLibrary) -> None:
    case = Difference(fake)
    request = case.request(performance_stats=True)
    assert not evaluate(request).has_stats
    fake.set(hardware_ns=81_000)
    result = evaluate(request, "direct")
    assert (result.has_stats, result.hardware_ns) == (True, 81_000)
    assert not evaluate(case.request()).has_stats  # not asked for
    fake.set(hardware_ns=0)
    assert not evaluate(request).has_stats  # those of before do not look new


def test_events_reach_the_framework(fake: RawLibrary) -> None:
    case = Difference(fake)
    fake.set(events=1)
    evaluate(case.request(shared_events=3))  # signalled with 1, 2, 3, or it is a misuse
    assert case.value == 5
    case.request(shared_events=64)
    with pytest.raises(Failure, match=r"-validate refuses.*65 events"):
        case.request(shared_events=65)


def child(code: str, library: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, str(library)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, env={**os.environ})


def test_events_of_a_program_from_text_crash(fake_ane_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from tests.test_apple_raw import Difference, RawLibrary, evaluate
fake = RawLibrary(Path(sys.argv[1]))
request = Difference(fake).request(shared_events=1)
print("before", flush=True)
evaluate(request)
print("after", flush=True)
"""
    done = child(code, fake_ane_path)
    assert done.stdout == "before\n"
    sanitized = "AddressSanitizer" in done.stderr and done.returncode != 0  # it catches the signal first
    assert done.returncode == -signal.SIGSEGV or sanitized, done.stderr


REQUEST_STEPS = [
    ({"performance_stats": True}, "statistics", NO_ERROR, "objectWithIOSurface:statType:"),
    ({"performance_stats": True}, "surface", ("no",), "IOSurfaceCreate"),  # a function of C throws nothing
    ({"shared_events": 2}, "event", NO_ERROR, "-[IOSurfaceSharedEvent init]"),
    ({"shared_events": 2}, "signal_event", NO_ERROR, "signalEventWithValue:symbolIndex:eventType:sharedEvent:"),
    ({"shared_events": 2}, "shared_events", NO_ERROR, "sharedEventsWithSignalEvents:waitEvents:"),
]


@pytest.mark.parametrize(
    ("fields", "step", "how", "doing"),
    [(fields, step, how, doing) for fields, step, ways, doing in REQUEST_STEPS for how in ways],
)
def test_every_part_of_a_request_can_fail(
    fake: RawLibrary, fields: dict[str, Any], step: str, how: str, doing: str
) -> None:
    case = Difference(fake)
    fake.fail(step, how, "TestDomain", 42, REASON[how])
    with pytest.raises(Failure) as caught:
        case.request(**fields)
    status = abi.SURFACE_ERROR if step == "surface" else abi.EVAL_FAILED
    expect(caught.value, how, "building a request" if how == "throw" else doing, status)
    case.request(**fields)


def test_a_weights_buffer_that_cannot_be_wrapped(fake: RawLibrary) -> None:
    case = Weighted(fake)
    fake.fail("surface_object", "no", times=1000)
    with pytest.raises(Failure, match="objectWithIOSurface: gave nil"):
        case.request(weights_buffer=case.x)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"performance_stats": True}, "_ANEPerformanceStatsIOSurface"),
        ({"performance_stats": True}, "+[_ANEPerformanceStatsIOSurface objectWithIOSurface:statType:]"),
        ({"performance_stats": True}, "-[_ANERequest setPerfStats:]"),
        ({"performance_stats": True}, "-[_ANERequest perfStats]"),
        ({"performance_stats": True}, "-[_ANEPerformanceStats hwExecutionTime]"),
        ({"shared_events": 1}, "IOSurfaceSharedEvent"),
        ({"shared_events": 1}, "_ANESharedSignalEvent"),
        ({"shared_events": 1}, "_ANESharedEvents"),
        ({"shared_events": 1}, "+[_ANESharedEvents sharedEventsWithSignalEvents:waitEvents:]"),
        ({"shared_events": 1}, "-[_ANERequest setSharedEvents:]"),
    ],
)
def test_what_a_request_lacks_is_named(fake: RawLibrary, fields: dict[str, Any], name: str) -> None:
    fake.hide(name)
    fake.set(hardware_ns=1, events=1)
    case = Difference(fake)
    with pytest.raises(Failure, match=re.escape(name)) as caught:
        evaluate(case.request(**fields))
    assert caught.value.status == abi.UNAVAILABLE
    evaluate(case.request())


# ---------------------------------------------------------------- other weights


def folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("fake-aned")]


@pytest.mark.parametrize(("frozen", "kind", "weight"), [(1, 0, 7), (0, 0, 14), (1, 1, 14), (0, 1, 14)])
@pytest.mark.parametrize("own_folder", [True, False])
def test_reloads(fake: RawLibrary, tmp_path: Path, frozen: int, kind: int, weight: float, own_folder: bool) -> None:
    fake.set(frozen=frozen)
    case = Weighted(fake, fake.open_in(tmp_path if own_folder else None))
    request = case.request()
    before = case.device.counters()
    case.program.reload(kind, case.others)
    after = case.device.counters()
    evaluate(request)  # the request of before
    assert case.weight == weight
    assert {name: after[name] - before[name] for name in ("compiles", "loads", "unloads", "live_programs")} == {
        "compiles": 0, "loads": 1, "unloads": 1, "live_programs": 0
    }  # fmt: skip
    assert after["backend_objects"] == before["backend_objects"]
    assert fake.count("compile") == 1
    if own_folder:
        (folder,) = folders(tmp_path)
        assert (folder / "weights" / "w.bin").read_bytes() == case.others[BLOB_PATH]
    case.program.reload(kind, case.blobs)  # and back
    evaluate(request)
    assert case.weight == 7
    case.program.unload()
    assert folders(tmp_path) == []


def test_the_old_model_is_gone_and_the_identity_is_the_new_one(fake: RawLibrary, tmp_path: Path) -> None:
    case = Weighted(fake, fake.open_in(tmp_path))
    (before,) = folders(tmp_path)
    case.program.reload(NEW_IDENTITY, case.others)
    (after,) = folders(tmp_path)
    text, weights, options = before.name.split("_")
    assert after.name.split("_")[0::2] == [text, options]
    assert after.name.split("_")[1] != weights
    assert fake.count("live_models") == 1
    assert (after / "model.mil").read_bytes() == weighted()[0].encode()
    case.program.reload(NEW_IDENTITY, case.others)  # the same identity again
    assert folders(tmp_path) == [after]
    assert fake.count("live_models") == 1


def test_equal_programs_keep_their_directory(fake: RawLibrary, tmp_path: Path) -> None:
    device = fake.open_in(tmp_path)
    one, two = Weighted(fake, device), Weighted(fake, device)
    one.program.reload(NEW_IDENTITY, one.others)
    assert len(folders(tmp_path)) == 2
    two.program.reload(NEW_IDENTITY, two.others)
    assert len(folders(tmp_path)) == 1
    one.program.unload()
    evaluate(two.request())
    assert (two.weight, len(folders(tmp_path))) == (14, 1)
    two.program.reload(REWRITE_FILES, two.blobs)
    three = Weighted(fake, device)  # of the first identity, beside files that were written over
    evaluate(three.request())
    assert three.weight == 7


RELOAD_FAILURES = [  # kind, step, doing, status, tries, is the program lost
    (REWRITE_FILES, "unload", ALL, "unloadWithQoS:error:", abi.UNLOAD_FAILED, 1, True),
    (REWRITE_FILES, "load", ALL, "loadWithQoS:options:error:", abi.COMPILE_FAILED, 2, True),
    (NEW_IDENTITY, "descriptor", NO_ERROR, "modelWithMILText:weights:optionsPlist:", abi.COMPILE_FAILED, 1, False),
    (NEW_IDENTITY, "model", NO_ERROR, "inMemoryModelWithDescriptor:", abi.COMPILE_FAILED, 1, False),
    (NEW_IDENTITY, "identifier", NO_ERROR, "hexStringIdentifier", abi.COMPILE_FAILED, 1, False),
    (NEW_IDENTITY, "unload", ALL, "unloadWithQoS:error:", abi.UNLOAD_FAILED, 1, True),
    (NEW_IDENTITY, "load", ALL, "loadWithQoS:options:error:", abi.COMPILE_FAILED, 2, True),
    (NEW_IDENTITY, "demand", ("error",), "loadWithQoS:options:error:", abi.COMPILE_FAILED, 2, True),
]


@pytest.mark.parametrize(
    ("kind", "step", "how", "doing", "status", "tries", "lost"),
    [(kind, step, how, *rest) for kind, step, ways, *rest in RELOAD_FAILURES for how in ways],
)
def test_every_step_of_a_reload_can_fail(
    fake: RawLibrary, tmp_path: Path, kind: int, step: str, how: str, doing: str, status: int, tries: int, lost: bool
) -> None:
    case = Weighted(fake, fake.open_in(tmp_path))
    request = case.request()
    fake.fail(step, how, "TestDomain", 17, REASON[how], times=1 if how == "throw" else tries)
    with pytest.raises(Failure) as caught:
        case.program.reload(kind, case.others)
    expect(caught.value, how, doing, status, code=17)
    assert case.device.counters()["live_programs"] == (0 if lost else 1)
    if lost:
        with pytest.raises(Failure, match="unloaded"):
            evaluate(request)
        with pytest.raises(Failure, match="unloaded"):
            case.program.reload(kind, case.others)
    else:
        evaluate(request)
        assert case.weight == 7
        assert len(folders(tmp_path)) == 1
    assert run_difference(case.device) == 5
    fake.release_all()
    assert folders(tmp_path) == []


def test_a_load_that_a_second_try_made_good(fake: RawLibrary) -> None:
    case = Weighted(fake)
    fake.fail("load", "no")
    case.program.reload(NEW_IDENTITY, case.others)  # the error record is looked at: nothing is in it
    evaluate(case.request())
    assert case.weight == 14


def test_a_text_that_is_gone_is_an_error(fake: RawLibrary, tmp_path: Path) -> None:
    case = Weighted(fake, fake.open_in(tmp_path))
    (folder,) = folders(tmp_path)
    (folder / "model.mil").unlink()
    with pytest.raises(Failure, match=r"cannot read .*/model.mil back"):
        case.program.reload(NEW_IDENTITY, case.others)
    evaluate(case.request())


def test_a_mask_of_statistics(fake: RawLibrary) -> None:
    case = Difference(fake)
    with pytest.raises(Failure) as caught:
        case.program.set_stats_mask(1)
    assert (caught.value.domain, caught.value.code) == (ENGINE, 6)
    assert case.device.counters()["live_programs"] == 0
    fake.set(mask=1)
    other = Difference(fake)
    other.program.set_stats_mask(15)
    evaluate(other.request())
    assert other.value == 5
    fake.fail("mask", "throw", "TestDomain", 0, "thrown")
    with pytest.raises(Failure, match="setPerfStatsMask: threw TestDomain: thrown"):
        other.program.set_stats_mask(0)
    fake.hide("-[_ANEInMemoryModel setPerfStatsMask:]")
    with pytest.raises(Failure, match=r"lacks -\[_ANEInMemoryModel setPerfStatsMask:\]"):
        other.program.set_stats_mask(0)
    evaluate(other.request())  # neither touched the program


# ---------------------------------------------------------------- chains


class Chain(Difference):
    """W - x thrice, each result the next one's W: 9 - 4 = 5, then 5 - ... by the one second input."""

    def __init__(self, library: RawLibrary) -> None:
        super().__init__(library)
        self.outputs = [self.surface(0) for _ in range(3)]
        firsts = [self.inputs[0], *self.outputs[:-1]]
        self.requests = [
            self.program.raw_request([first, self.inputs[1]], [output])
            for first, output in zip(firsts, self.outputs, strict=True)
        ]

    @property
    def values(self) -> list[float]:
        return [float(output.read(1, 32)[0, 7]) for output in self.outputs]


def test_no_chain_is_prepared_for_a_program_from_text(fake: RawLibrary) -> None:
    case = Chain(fake)
    with pytest.raises(Failure) as caught:
        fake.chain(case.requests)
    assert (caught.value.status, caught.value.domain, caught.value.code) == (abi.EVAL_FAILED, ENGINE, 15)
    assert fake.count("enqueue") == 0


def test_a_chain_runs_where_one_can_be_prepared(fake: RawLibrary) -> None:
    fake.set(chaining=1)
    case = Chain(fake)
    for request in case.requests:
        evaluate(request)
    one_by_one = case.values
    for output in case.outputs:
        output.write(np.zeros((1, 32), np.float32))
    fake.chain(case.requests)
    assert case.values == one_by_one
    assert len(set(one_by_one)) > 1
    assert (fake.count("prepare"), fake.count("enqueue"), fake.count("buffers_ready")) == (1, 3, 1)
    fake.chain(case.requests[:1])


def test_a_chain_is_of_one_program_and_not_too_long(fake: RawLibrary) -> None:
    fake.set(chaining=1)
    case = Chain(fake)
    stranger = case.device.compile(subtract()).raw_request([case.outputs[0], case.inputs[1]], [case.output])
    with pytest.raises(Failure, match="request 1 is of another program"):
        fake.chain([case.requests[0], stranger])
    outputs = [case.surface(0) for _ in range(13)]
    requests = [
        case.program.raw_request([first, case.inputs[1]], [output])
        for first, output in zip([case.inputs[0], *outputs[:-1]], outputs, strict=True)
    ]
    with pytest.raises(Failure, match="-validate refuses a chain of 13 requests") as caught:
        fake.chain(requests)
    assert caught.value.status == abi.BAD_ARGUMENT
    fake.chain(requests[:12])


CHAIN_STEPS = [  # step, ways to fail, what is said to have failed
    ("buffer", NO_ERROR, "bufferWithIOSurfaceObject:symbolIndex:source:"),
    ("output_sets", NO_ERROR, "objectWithstatsSurRef:outputBuffer:"),
    ("connection", NO_ERROR, "sharedConnection"),
    ("inner_model", NO_ERROR, "-[_ANEInMemoryModel model]"),
    ("chaining_request", NO_ERROR, "chainingRequestWithInputs:"),
    ("prepare", ALL, "prepareChainingWithModel:options:chainingReq:qos:error:"),
    ("output_set", NO_ERROR, "outputSetWithProcedureIndex:"),
    ("enqueue", ALL, "enqueueSetsWithModel:outputSet:options:qos:error:"),
    ("inputs_ready", NO_ERROR, "inputBuffersWithProcedureIndex:"),
    ("buffers_ready", ALL, "buffersReadyWithModel:inputBuffers:options:qos:error:"),
]


@pytest.mark.parametrize(
    ("step", "how", "doing"), [(step, how, doing) for step, ways, doing in CHAIN_STEPS for how in ways]
)
def test_every_step_of_a_chain_can_fail(fake: RawLibrary, step: str, how: str, doing: str) -> None:
    fake.set(chaining=1)
    case = Chain(fake)
    fake.fail(step, how, "TestDomain", 42, REASON[how])
    with pytest.raises(Failure) as caught:
        fake.chain(case.requests)
    expect(caught.value, how, "a chain" if how == "throw" else doing, abi.EVAL_FAILED)
    fake.chain(case.requests)
    assert case.device.counters()["failed_evaluations"] == 1


@pytest.mark.parametrize(
    "name",
    [
        "_ANEClient",
        "_ANEBuffer",
        "_ANEIOSurfaceOutputSets",
        "_ANEChainingRequest",
        "_ANEOutputSetEnqueue",
        "_ANEInputBuffersReady",
        "-[_ANERequest inputArray]",
        "-[_ANERequest outputArray]",
        "-[_ANEClient prepareChainingWithModel:options:chainingReq:qos:error:]",
        "-[_ANEClient enqueueSetsWithModel:outputSet:options:qos:error:]",
        "-[_ANEClient buffersReadyWithModel:inputBuffers:options:qos:error:]",
    ],
)
def test_what_a_chain_lacks_is_named(fake: RawLibrary, name: str) -> None:
    fake.set(chaining=1)
    fake.hide(name)
    case = Chain(fake)
    with pytest.raises(Failure, match=re.escape(name)) as caught:
        fake.chain(case.requests)
    assert caught.value.status == abi.UNAVAILABLE


# ---------------------------------------------------------------- many at once


def test_a_missing_release_is_seen(fake: RawLibrary) -> None:
    """The count that every test ends with can be wrong."""
    fake.set(extra_retain=1)
    case = Difference(fake)
    case.request(performance_stats=True)
    fake.set(extra_retain=0)
    fake.release_all()
    assert fake.count("live_others") == 1


def test_paths_from_several_threads(fake: RawLibrary) -> None:
    cases = [Difference(fake) for _ in PATHS]
    requests = [case.request(performance_stats=True) for case in cases]
    fake.set(hardware_ns=5)
    failures: list[Failure] = []

    def work(request: Request, path: str) -> None:
        try:
            for _ in range(20):
                assert evaluate(request, path).hardware_ns == 5
        except Failure as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(requests, PATHS, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [case.value for case in cases] == [5] * len(cases)
