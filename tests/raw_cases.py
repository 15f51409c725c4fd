"""For each rule of the raw calls what a program does with the rule off and with it on."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from anetrain import raw
from anetrain.device import Device, Request
from anetrain.errors import ANEError
from anetrain.mil import Graph
from anetrain.mil.text import Program
from tests.ane_abi import ROOT
from tests.support import emulator

WIDTH = 32
Rules = Mapping[str, bool | float]


def scale(factor: float) -> Program:
    """y = factor * x + 2 * factor * x, each factor a weight file of its own."""
    g = Graph()
    x = g.input("x", (1, WIDTH, 1, WIDTH))
    matrix = np.eye(WIDTH, dtype=np.float16).reshape(WIDTH, WIDTH, 1, 1)
    once, twice = (g.conv(x, g.constant(matrix * factor * times, f"w{times}")) for times in (1, 2))
    g.output("y", once + twice)
    return g.program("B")


def payloads(factor: float) -> np.ndarray:
    """The data of the weights of `scale(factor)` as a weights buffer has it, [2 * WIDTH, WIDTH]."""
    return np.concatenate([np.eye(WIDTH) * factor, np.eye(WIDTH) * factor * 2]).astype(np.float32)


class Bench:
    """`scale(1)` on an emulated device, with x = 1 everywhere; y is then 3."""

    def __init__(self, rules: Rules | None = None, profile: str = "exact", executor: str = "fast", **options: object):
        self.device: Device = emulator(profile, rules=rules or {}, executor=executor, **options)
        self.program = self.device.compile(scale(1), label="scale")
        self.x = self.device.surface_for(self.program.inputs[0])
        self.y = self.device.surface_for(self.program.outputs[0])
        self.write(1)

    def write(self, value: float) -> None:
        self.x.write(np.full((WIDTH, WIDTH), value, np.float32))

    def request(self, **fields: object) -> Request:
        return raw.request(self.program, [self.x], [self.y], **fields)  # type: ignore[arg-type]

    def value(self) -> float:
        """The one value of y."""
        (value,) = np.unique(self.y.read(WIDTH, WIDTH))
        return float(value)

    def run(self, request: Request | None = None) -> float:
        (request or self.request()).run()
        return self.value()


def outcome(call: Callable[[], object]) -> object:
    """What the call gives, or the code of its failure."""
    try:
        return call()
    except ANEError as failure:
        return failure.code or failure.rule


# ---------------------------------------------------------------- one experiment for each rule


def rewrite_files(rules: Rules) -> object:
    bench = Bench(rules)
    raw.reload(bench.program, scale(5).blobs)
    return bench.run()


def new_identity(rules: Rules) -> object:
    bench = Bench(rules)

    def experiment() -> float:
        raw.reload(bench.program, scale(5).blobs, kind="new_identity")
        return bench.run()

    return outcome(experiment)


def weights_buffer(rules: Rules) -> object:
    bench = Bench(rules)
    buffer = bench.device.surface(4 * WIDTH * WIDTH)
    buffer.write(payloads(5))
    return bench.run(bench.request(weights_buffer=buffer))


def procedure_index(rules: Rules) -> object:
    bench = Bench(rules)
    return [outcome(lambda i=index: bench.run(bench.request(procedure_index=i))) for index in (0, 1, 15, 16)]


def qualities(rules: Rules) -> object:
    bench = Bench(rules)
    request = bench.request()

    def takes(qos: int) -> bool:
        return outcome(lambda: raw.evaluate(request, qos=qos)) != 26

    return [qos for qos in range(65) if takes(qos)]


def statistics(rules: Rules) -> object:
    bench = Bench(rules)

    def measured() -> object:
        nanoseconds = raw.evaluate(bench.request(performance_stats=True)).hardware_ns
        return nanoseconds is not None and nanoseconds > 0

    def masked() -> object:
        raw.set_stats_mask(bench.program, 15)
        return bench.run()

    return outcome(measured), outcome(masked)


def chain(rules: Rules) -> object:
    bench = Bench(rules)
    z = bench.device.surface_for(bench.program.outputs[0])
    second = raw.request(bench.program, [bench.y], [z])

    def experiment() -> object:
        raw.chain([bench.request(), second])
        return float(z.read(1, 1)[0, 0])

    return outcome(experiment)


EVENTS = """
import sys
from anetrain import raw
from anetrain.errors import DeviceUnavailable
from tests.raw_cases import Bench
kind, way = int(sys.argv[1]), sys.argv[2]
bench = Bench({"shared-events": kind} if kind else {}, watchdog_s=0.5)
request = bench.request(shared_events=1)
try:
    {"run": request.run, "evaluate": lambda: raw.evaluate(request), "chain": lambda: raw.chain([request])}[way]()
    print(bench.value())
except DeviceUnavailable as lost:
    print("lost" if "did not come back within 500 ms" in lost.detail else lost)
"""


def shared_events(rules: Rules, way: str = "evaluate") -> object:
    """What a process says that runs a request with shared events, or the signal that ended it."""
    command = [sys.executable, "-c", EVENTS, str(int(rules.get("shared-events", 0))), way]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    return signal.Signals(-child.returncode) if child.returncode < 0 else child.stdout.strip() or child.stderr


def real_time(rules: Rules) -> object:
    bench = Bench(rules)
    return raw.evaluate(bench.request(), path="real_time").real_time_granted, bench.value()


@dataclass(frozen=True)
class RawCase:
    experiment: Callable[[Rules], object]
    off: object
    changed: object
    on: bool | float = True


RAW = {
    "weights-frozen": RawCase(rewrite_files, 15.0, 3.0),
    "load-compiles": RawCase(new_identity, 17, 15.0),
    "weights-buffer-ignored": RawCase(weights_buffer, 15.0, 3.0),
    "procedure-index-ignored": RawCase(procedure_index, [3.0, 8, 8, 8], [3.0, 3.0, 3.0, 8]),
    "qos-range": RawCase(qualities, [9, 17, 21, 25, 33], list(range(64))),
    "no-performance-stats": RawCase(statistics, (True, 3.0), ("no-performance-stats", 6)),
    "chaining-unavailable": RawCase(chain, 9.0, 15),
    "shared-events": RawCase(shared_events, "3.0", signal.SIGSEGV),
    "real-time-denied": RawCase(real_time, (True, 3.0), (False, 3.0)),
}
