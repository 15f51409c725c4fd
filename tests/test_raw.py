"""The raw calls (anetrain.raw) on the emulator: each rule both ways, and what holds whatever the rules."""

from __future__ import annotations

import multiprocessing
import re
import sys
import threading

import numpy as np
import pytest

from anetrain import device, raw
from anetrain.errors import ANEError, ArgumentError, CompileError, DeviceUnavailable, EvalError, SurfaceError
from anetrain.mil import Graph
from tests.ane_abi import ROOT
from tests.raw_cases import RAW, WIDTH, Bench, payloads, scale, shared_events
from tests.support import emulator

sys.path.insert(0, str(ROOT / "csrc"))
from objc_protocols import methods_of

RULES = device.rule_table()
EXECUTORS = ("fast", "reference", "audit")

# ---------------------------------------------------------------- rules


@pytest.mark.parametrize("rule", RAW)
def test_rule_off_and_on(rule: str) -> None:
    case = RAW[rule]
    assert RULES[rule]["stage"] == "raw"
    assert case.off != case.changed
    assert case.experiment({}) == case.off
    assert case.experiment({rule: case.on}) == case.changed


@pytest.mark.parametrize("way", ["run", "evaluate", "chain"])
def test_shared_events_hang_until_the_watchdog(way: str) -> None:
    assert shared_events({"shared-events": 2}, way) == "lost"


@pytest.mark.parametrize("profile", ["m1", "m3ultra", "m4", "m5max"])
def test_chips_do_what_their_sources_say(profile: str) -> None:
    """The outcomes of the rules that a chip has, all on at once, beside its other rules."""
    dev = emulator(profile)
    g = Graph()
    x = g.input("x", (1, WIDTH, 1, WIDTH))
    eye = np.eye(WIDTH, dtype=np.float16).reshape(WIDTH, WIDTH, 1, 1)
    g.output("y", g.conv(x, g.constant(eye, "w")))
    source = g.program(dev.facts["dialect"])
    program = dev.compile(source)
    x, y, buffer = dev.surface(2 * WIDTH * WIDTH), dev.surface(2 * WIDTH * WIDTH), dev.surface(2 * WIDTH * WIDTH)
    x.write(np.full((WIDTH, WIDTH), 3, np.float32))
    request = raw.request(program, [x], [y], procedure_index=15, weights_buffer=buffer)
    for path in raw.PATHS:
        assert raw.evaluate(request, qos=63, path=path) == raw.Result(None, False)
        assert (y.read(WIDTH, WIDTH) == 3).all()
    with pytest.raises(EvalError, match="gave nil"):
        raw.request(program, [x], [y], performance_stats=True)
    others = {path: bytes(data).replace(np.float16(1).tobytes(), np.float16(2).tobytes())
              for path, data in source.blobs.items()}  # fmt: skip
    raw.reload(program, others)
    request.run()
    assert (y.read(WIDTH, WIDTH) == 3).all()
    raw.reload(program, others, kind="new_identity")
    request.run()
    assert (y.read(WIDTH, WIDTH) == 6).all()
    with pytest.raises(EvalError) as refused:
        raw.chain([request])
    assert (refused.value.code, refused.value.rule) == (15, "chaining-unavailable")


def test_failures_carry_the_words_of_the_engine() -> None:
    bench = Bench(profile="m4")
    with pytest.raises(EvalError, match=r"index is 16.*at most 15.*profile m4") as failed:
        bench.request(procedure_index=16).run()
    assert "status=0x2" in failed.value.text
    with pytest.raises(EvalError, match="64; expected at most 63") as failed:
        raw.evaluate(bench.request(), qos=64)
    assert failed.value.label == "scale"
    with pytest.raises(CompileError) as refused:
        raw.set_stats_mask(bench.program, 1)
    assert (refused.value.code, refused.value.text) == (6, RULES["no-performance-stats"]["error"])
    with pytest.raises(CompileError, match="keeps no compiled program"):
        raw.reload(Bench().program, scale(2).blobs, kind="new_identity")


def test_the_page_on_the_device_has_every_rule() -> None:
    page = (ROOT / "docs" / "device.md").read_text()
    rows = re.findall(r"^\| `([a-z-]+)` \|.*\|.*\|$", page.partition("## Raw calls")[2], re.MULTILINE)
    assert rows == list(RAW)
    assert set(rows) == {name for name, rule in RULES.items() if rule["stage"] == "raw"}


# ---------------------------------------------------------------- requests


@pytest.mark.parametrize("path", raw.PATHS)
@pytest.mark.parametrize("executor", EXECUTORS)
def test_every_path_gives_the_same_values(path: str, executor: str) -> None:
    bench = Bench(executor=executor)
    plain = bench.program.request({"x": bench.x}, {"y": bench.y})
    for request in (bench.request(), plain):
        raw.evaluate(request, path=path)
        assert bench.value() == 3
    assert bench.device.counters().evaluations == 2


def test_a_raw_request_runs_like_any_other() -> None:
    bench = Bench()
    request = bench.request()
    assert bench.run(request) == 3
    bench.write(2)
    assert bench.run(request) == 6


def test_the_real_time_path_takes_no_quality_of_service() -> None:
    bench = Bench()
    assert raw.evaluate(bench.request(), qos=22, path="real_time").real_time_granted
    with pytest.raises(EvalError):
        raw.evaluate(bench.request(), qos=22, path="direct")


def test_only_a_request_with_statistics_has_a_time() -> None:
    bench = Bench()
    assert raw.evaluate(bench.request()).hardware_ns is None
    assert raw.evaluate(bench.program.request({"x": bench.x}, {"y": bench.y})).hardware_ns is None


def test_what_the_framework_does_not_validate_is_refused() -> None:
    bench = Bench(profile="m4")
    bench.request(procedure_index=128)
    bench.request(shared_events=64)
    with pytest.raises(ArgumentError, match=r"index is 129.*at most 128"):
        bench.request(procedure_index=129)
    with pytest.raises(ArgumentError, match=r"65 signal events.*at most 64"):
        bench.request(shared_events=65)


def test_sizes_are_not_checked_counts_are() -> None:
    bench = Bench()
    small = bench.device.surface(64)
    with pytest.raises(EvalError, match="2048"):
        raw.request(bench.program, [small], [bench.y]).run()
    with pytest.raises(ArgumentError, match="2 input surfaces were given; the program has 1"):
        raw.request(bench.program, [bench.x, bench.x], [bench.y])


def test_the_weights_buffer_is_a_surface_of_the_request() -> None:
    """It follows its content, needs its size, and is kept from the CPU during an evaluation."""
    bench = Bench()
    buffer, small = bench.device.surface(4 * WIDTH * WIDTH), bench.device.surface(64)
    buffer.write(payloads(2))
    request = bench.request(weights_buffer=buffer)
    assert [bench.run(request), bench.run(request)] == [6, 6]
    buffer.write(payloads(-1))
    assert [bench.run(request), bench.run()] == [-3, 3]
    with buffer.lock(write=True), pytest.raises(SurfaceError, match="the weights buffer"):
        request.run()
    with pytest.raises(EvalError, match="64 bytes, too few"):
        bench.request(weights_buffer=small).run()
    with pytest.raises(ArgumentError, match="belongs to another device"):
        bench.request(weights_buffer=emulator().surface(64))


# ---------------------------------------------------------------- reloads


@pytest.mark.parametrize("executor", EXECUTORS)
def test_requests_follow_a_reloaded_program(executor: str) -> None:
    bench = Bench({"load-compiles": True}, executor=executor)
    request, plain = bench.request(), bench.program.request({"x": bench.x}, {"y": bench.y})
    before = bench.device.counters()
    for kind, factor in (("new_identity", 2), ("rewrite_files", 3), ("new_identity", 4)):
        raw.reload(bench.program, scale(factor).blobs, kind=kind)
        assert [bench.run(request), bench.run(plain)] == [3 * factor, 3 * factor]
    after = bench.device.counters()
    assert (after.loads - before.loads, after.unloads - before.unloads) == (3, 3)
    assert (after.live_programs, after.compiles) == (before.live_programs, before.compiles)


def test_a_frozen_program_does_not_even_read_the_files() -> None:
    bench = Bench({"weights-frozen": True})
    raw.reload(bench.program, dict.fromkeys(scale(1).blobs, b"no blob"))
    assert bench.run() == 3


def test_a_reload_that_fails_leaves_the_program_unloaded() -> None:
    bench = Bench()
    request = bench.request()
    bench.run(request)
    live = bench.device.counters().live_programs
    with pytest.raises(CompileError, match="too few for its 64-byte header"):
        raw.reload(bench.program, dict.fromkeys(scale(1).blobs, b"no blob"))
    counters = bench.device.counters()
    assert (counters.live_programs, counters.unloads) == (live - 1, 1)
    for call in (request.run, lambda: raw.set_stats_mask(bench.program, 0), bench.request):
        with pytest.raises(ArgumentError, match="unloaded"):
            call()
    with pytest.raises(SurfaceError, match="no valid data"):
        bench.value()
    bench.program.unload()
    assert bench.device.counters().unloads == 1


def test_blobs_of_a_reload_are_all_of_the_programs() -> None:
    bench = Bench()
    blobs = scale(2).blobs
    first, second = sorted(blobs)
    with pytest.raises(ArgumentError, match=f"1 blobs were given; the program was made with 2: '{first}', '{second}'"):
        raw.reload(bench.program, {first: blobs[first]})
    with pytest.raises(ArgumentError, match=r"without a blob '.*x'; did you mean"):
        raw.reload(bench.program, {first: blobs[first], second + "x": blobs[second]})
    with pytest.raises(ArgumentError, match="expected a whole file"):
        raw.reload(bench.program, {first: 3})
    assert bench.run() == 3  # nothing was tried


def test_compiles_on_demand_count_for_the_engine_only() -> None:
    bench = Bench({"load-compiles": True, "lifetime-compile-limit": 2})
    compiles = bench.device.counters().compiles
    raw.reload(bench.program, scale(2).blobs, kind="new_identity")
    raw.reload(bench.program, scale(3).blobs)  # compiles nothing
    with pytest.raises(CompileError) as refused:
        raw.reload(bench.program, scale(4).blobs, kind="new_identity")
    assert refused.value.rule == "lifetime-compile-limit"
    assert bench.device.counters().compiles == compiles


def test_what_the_cache_has_loads_without_a_compile() -> None:
    bench = Bench({"compiled-model-cache": True})
    bench.device.compile(scale(2)).unload()
    raw.reload(bench.program, scale(2).blobs, kind="new_identity")
    assert bench.run() == 6
    with pytest.raises(CompileError, match="load-compiles"):
        raw.reload(bench.program, scale(3).blobs, kind="new_identity")


def test_what_is_compiled_on_demand_goes_to_the_cache() -> None:
    bench = Bench({"compiled-model-cache": True, "load-compiles": True})
    raw.reload(bench.program, scale(2).blobs, kind="new_identity")
    with bench.device.compile(scale(2)) as again:
        assert again.report["from_cache"] is True


def test_a_reload_takes_the_same_place() -> None:
    bench = Bench({"live-program-limit": 1, "load-compiles": True})
    for kind in raw.RELOADS:
        raw.reload(bench.program, scale(2).blobs, kind=kind)
    raw.set_stats_mask(bench.program, 0)
    assert bench.run() == 6
    bench.program.unload()
    bench.device.compile(scale(1)).unload()


def test_an_injected_fault_of_a_load_hits_a_reload() -> None:
    bench = Bench()
    bench.device.inject_fault("load")
    with pytest.raises(CompileError, match="injected"):
        raw.reload(bench.program, scale(2).blobs)
    with pytest.raises(ArgumentError, match="unloaded"):
        bench.run()


# ---------------------------------------------------------------- chains


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_chain_runs_in_order_as_one_evaluation(executor: str) -> None:
    bench = Bench(executor=executor)
    second = bench.device.compile(scale(2))
    z = bench.device.surface_for(second.outputs[0])
    links = [bench.request(), raw.request(second, [bench.y], [z]), raw.request(bench.program, [z], [bench.x])]
    seeds = bench.x.seed, z.seed
    for value in (18 * 3, (18 * 3) ** 2):
        raw.chain(links)
        assert (bench.x.read(WIDTH, WIDTH) == value).all()
    assert bench.device.counters().evaluations == 2
    assert bench.x.seed > seeds[0]
    assert z.seed > seeds[1]


def test_a_chain_of_what_does_not_hang_together_is_refused() -> None:
    bench = Bench()
    with pytest.raises(ArgumentError, match="no requests"):
        raw.chain([])
    with pytest.raises(ArgumentError, match=r"request 1 of the chain \('scale'\) reads no output"):
        raw.chain([bench.request(), bench.request()])
    other = Bench()
    with pytest.raises(ArgumentError, match="request 1 of the chain belongs to another device"):
        raw.chain([bench.request(), other.request()])
    other.program.unload()


def test_a_chain_that_fails_leaves_no_output_valid() -> None:
    bench = Bench()
    z = bench.device.surface_for(bench.program.outputs[0])
    links = [bench.request(), raw.request(bench.program, [bench.y], [z], procedure_index=1)]
    with pytest.raises(EvalError):
        raw.chain(links)
    for surface in (bench.y, z):
        with pytest.raises(SurfaceError, match="no valid data"):
            surface.read(1, 1)
    assert bench.device.counters().failed_evaluations == 1
    links[1] = raw.request(bench.program, [bench.y], [z])
    raw.chain(links)  # what is written in the chain before it is read may hold anything
    assert (z.read(WIDTH, WIDTH) == 9).all()


# ---------------------------------------------------------------- API


@pytest.mark.parametrize("profile", ["exact", "m4"])
def test_api_is_what_the_project_expects(profile: str) -> None:
    answer = raw.api(emulator(profile))
    assert answer["framework"] == "emulator"
    assert answer["version"] == device.version()
    assert answer["other_classes"] == []
    model = answer["classes"]["_ANEInMemoryModel"]
    assert model["found"] is True
    assert model["class_methods"] == {"inMemoryModelWithDescriptor:": "@24@0:8@16"}
    # NSError ** behind an unsigned int: offsets are sums of sizes
    assert model["instance_methods"]["evaluateWithQoS:options:request:error:"] == "B44@0:8I16@20@28^@36"
    for entry in answer["classes"].values():
        signed = {"+" + name: types for name, types in entry["class_methods"].items()}
        signed |= {"-" + name: types for name, types in entry["instance_methods"].items()}
        assert signed == entry["expected"]


HEADER = """
/* _ANEClient: a connection */
@protocol ANEClientClass <NSObject>
- (id)sharedConnection; // one
@end

@protocol ANEClient <NSObject>
- (BOOL)prepareChainingWithModel:(id)model
                         options:(NSDictionary *)options
                     chainingReq:(id)request
                             qos:(unsigned int)qos
                           error:(NSError **)error;
@optional /* - (void)commentedOut; */
- (void)setCompletionHandler:(void (^)(void))handler;
@end

/* _ANEChainingRequest */
@protocol ANEChainingRequestClass <NSObject>
- (id)chainingRequestWithInputs:(NSArray<NSNumber *> *)inputs outputSets:(NSArray *)sets lbInputSymbolId:(id)input
    lbOutputSymbolId:(id)output procedureIndex:(NSNumber *)index signalEvents:(NSArray *)events
    transactionHandle:(NSNumber *)handle fwEnqueueDelay:(NSNumber *)delay memoryPoolId:(NSNumber *)pool;
@end
"""


def test_protocols_are_encoded_as_the_run_time_does() -> None:
    """The encodings of the two chaining methods are those that a source printed on macOS (ANE_FACTS 1.6)."""
    chaining = (
        "+chainingRequestWithInputs:outputSets:lbInputSymbolId:lbOutputSymbolId:procedureIndex:signalEvents:"
        "transactionHandle:fwEnqueueDelay:memoryPoolId:"
    )
    assert methods_of(HEADER) == {
        "_ANEClient": {
            "+sharedConnection": "@16@0:8",
            "-prepareChainingWithModel:options:chainingReq:qos:error:": "B52@0:8@16@24@32I40^@44",
            "-setCompletionHandler:": "v24@0:8@?16",
        },
        "_ANEChainingRequest": {chaining: "@88@0:8@16@24@32@40@48@56@64@72@80"},
    }
    with pytest.raises(SystemExit, match=r"the type 'float16' is unknown"):
        methods_of(HEADER.replace("(unsigned int)", "(float16)"))


# ---------------------------------------------------------------- arguments, threads, processes


def test_wrong_arguments() -> None:
    bench = Bench()
    with pytest.raises(ArgumentError, match="path is 'fast'; it must be one of 'standard', 'client'"):
        raw.evaluate(bench.request(), path="fast")
    with pytest.raises(ArgumentError, match="kind is 'both'"):
        raw.reload(bench.program, scale(1).blobs, kind="both")
    with pytest.raises(ArgumentError, match="qos is -1"):
        raw.evaluate(bench.request(), qos=-1)
    with pytest.raises(ArgumentError, match="mask of statistics is 0x10"):
        raw.set_stats_mask(bench.program, 16)
    with pytest.raises(ArgumentError, match="the weights buffer is bound to a value of type int"):
        bench.request(weights_buffer=3)
    with pytest.raises(ArgumentError, match="request 1 is None"):
        raw.chain([bench.request(), None])  # type: ignore[list-item]
    bench.device.close()
    with pytest.raises(ArgumentError, match="closed"):
        raw.api(bench.device)


def test_evaluations_reloads_and_chains_from_several_threads() -> None:
    """Turns and surfaces are taken one after the other: every value is that of one of the weights."""
    bench = Bench({"load-compiles": True})
    z = bench.device.surface_for(bench.program.outputs[0])
    links = [bench.request(), raw.request(bench.program, [bench.y], [z])]
    failures: list[BaseException] = []

    def reload_often() -> None:
        for turn in range(20):
            raw.reload(bench.program, scale(1 + turn % 2).blobs, kind="new_identity")

    def chain_often() -> None:
        for _ in range(50):
            raw.chain(links)

    def evaluate_often() -> None:
        for path in raw.PATHS * 10:
            raw.evaluate(links[0], path=path)

    def kept(work: object) -> None:
        try:
            work()  # type: ignore[operator]
        except ANEError as failure:
            failures.append(failure)

    threads = [threading.Thread(target=kept, args=(work,)) for work in (reload_often, chain_often, evaluate_often)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    raw.chain(links)
    assert (z.read(WIDTH, WIDTH) == 36).all()


def in_a_fork(bench: Bench, request: device.Request, answers: object) -> None:
    refused = 0
    for call in (
        lambda: raw.evaluate(request),
        lambda: raw.chain([request]),
        lambda: raw.reload(bench.program, scale(2).blobs),
        lambda: raw.set_stats_mask(bench.program, 0),
        lambda: raw.api(bench.device),
        bench.request,
    ):
        try:
            call()
        except DeviceUnavailable:
            refused += 1
    answers.put(refused)  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_refused() -> None:
    bench = Bench()
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=in_a_fork, args=(bench, bench.request(), answers))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    assert answers.get() == 6
