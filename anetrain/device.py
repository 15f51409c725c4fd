"""An Apple Neural Engine, real or emulated: compile a program, bind surfaces, run it.

    dev = anetrain.device.open("auto")
    program = dev.compile(text)
    x = dev.surface_for(program.inputs[0])
    y = dev.surface_for(program.outputs[0])
    request = program.request(inputs={"a_x": x}, outputs={"y": y})
    x.write(array)           # float32 in, rounded to fp16
    request.run()
    result = y.read(64, 32)  # 64 rows of 32, float32

Everything that fails raises an exception of ``anetrain.errors``. Importing this module needs no hardware; numpy is
imported when the first array moves.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any

from anetrain import _arguments as arguments
from anetrain import _device
from anetrain._check import Finding, check
from anetrain.errors import ANEError, ArgumentError, SurfaceError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from anetrain._surface_view import SurfaceView

__all__ = [
    "ANEError",
    "Counters",
    "Device",
    "Finding",
    "Lock",
    "Port",
    "Program",
    "Request",
    "Surface",
    "backends",
    "check",
    "fetch",
    "open",
    "operation_table",
    "profiles",
    "real_available",
    "rule_table",
    "store",
    "version",
]

_KINDS = {"auto": 0, "ane": 1, "emulator": 2}
_EXECUTORS = {"fast": 0, "reference": 1, "audit": 2}
_FAULTS = {"compile": 0, "load": 1, "evaluate": 2, "stall": 3, "clear": 4, "unload": 5}
_DTYPES = {"fp16": "float16", "fp32": "float32", "fp64": "float64"}  # others have numpy's own name


@dataclass(frozen=True)
class Port:
    """An input or output of a program, and how it lies on a surface."""

    name: str
    dtype: str
    """``"fp16"``, ``"fp32"``, ``"int8"`` ..."""
    shape: tuple[int, ...]
    bytes: int
    """What its surface must hold at least, row padding included."""
    row_stride: int
    """Bytes from one row to the next: the last axis, padded to 64 bytes."""
    plane_stride: int
    """Bytes from one channel to the next."""


@dataclass(frozen=True)
class Counters:
    """What a device has done. Compiles and live programs count for the whole process, the rest for this device."""

    compiles: int
    cache_loads: int
    loads: int
    unloads: int
    evaluations: int
    failed_compiles: int
    failed_evaluations: int
    live_programs: int
    live_surfaces: int
    live_requests: int
    surface_bytes: int
    live_budget: int
    compile_budget: int
    backend_objects: int
    poisoned: bool


class Lock:
    """A lock on a surface; entering gives its bytes as a ``uint8`` array.

    ``view.view(numpy.float16)`` shows them as elements. After the lock is closed the array, and every slice, reshape or
    view made of it, may still be looked at, but all are read-only, and what they show is whatever the surface holds by
    then. Only what left numpy's sight inside the block stays writable (``numpy.asarray``, a ``memoryview``, another
    library's tensor): do not keep such, the device does not see what is written through it later.
    """

    def __init__(self, surface: _device.Surface, write: bool) -> None:
        self._surface, self._write = surface, write
        self._view: SurfaceView | None = None

    def __enter__(self) -> npt.NDArray[np.uint8]:
        from anetrain._surface_view import SurfaceView

        if self._view is not None:
            raise ArgumentError("this lock is open already: make another one with Surface.lock")
        self._view = SurfaceView.of(memoryview(self._surface.lock(self._write)))
        return self._view

    def __exit__(self, *exception: object) -> None:
        assert self._view is not None
        self._view.close()
        self._view = None
        self._surface.unlock(self._write)


class Surface:
    """A flat, zeroed buffer that both the CPU and the engine reach. Its elements are fp16 (fp32 in fp32 mode)."""

    __slots__ = ("_native", "nbytes")

    def __init__(self, native: _device.Surface) -> None:
        self._native = native
        self.nbytes = native.nbytes

    @property
    def seed(self) -> int:
        """Changes whenever the content may have changed."""
        return self._native.seed

    def lock(self, write: bool = False) -> Lock:
        """``with surface.lock(write=True) as view: ...``. Read locks nest; a write lock is exclusive."""
        return Lock(self._native, write)

    def write(
        self, array: npt.NDArray[Any] | np.floating[Any], *, offset: int = 0, row_stride: int | None = None
    ) -> None:
        """Write a float32 or float16 array of any strides, rounded to the surface's elements.

        The last axis is a row; all others together number the rows. Element (r, c) goes to element
        ``offset + r * row_stride + c`` of the surface; by default rows stand close together.
        """
        self._native.write(array, arguments.whole("offset", offset), arguments.row_stride(row_stride))

    def read(
        self,
        rows: int,
        columns: int,
        *,
        offset: int = 0,
        row_stride: int | None = None,
        out: npt.NDArray[Any] | None = None,
        transposed: bool = False,
    ) -> npt.NDArray[Any]:
        """Read ``rows`` x ``columns`` elements, as float32 or into ``out`` (float32 or float16, any strides).

        With ``transposed`` the result, and ``out``, is ``columns`` x ``rows``.
        """
        import numpy as np

        rows, columns = arguments.whole("rows", rows), arguments.whole("columns", columns)
        shape = (columns, rows) if transposed else (rows, columns)
        if rows * columns > self.nbytes:  # before memory is taken for it
            raise SurfaceError(f"a block of {rows} x {columns} does not fit a surface of {self.nbytes} bytes")
        if out is None:
            out = np.empty(shape, np.float32)
        elif not isinstance(out, np.ndarray):
            raise ArgumentError(f"out is {arguments.kind_of(out)}; expected a float32 or float16 array")
        elif out.shape != shape:
            raise ArgumentError(f"out has shape {out.shape}; expected {shape}")
        self._native.read(
            out.T if transposed else out, arguments.whole("offset", offset), arguments.row_stride(row_stride)
        )
        return out


class Request:
    """Surfaces bound to the ports of a program, checked once, run often."""

    __slots__ = ("_native", "run")

    run: Callable[[], None]
    """Evaluate, to the end. On failure the outputs cannot be read until they are written again."""

    def __init__(self, native: _device.Request) -> None:
        self._native = native
        self.run = native.run  # bound once: nothing of Python between the caller and the device

    def __call__(self) -> None:
        self.run()


class Program:
    """A compiled program, loaded on its device until ``unload`` (or the end of a ``with`` block)."""

    def __init__(self, device: Device, native: _device.Program, label: str) -> None:
        self._device, self._native = device, native
        self.label = label
        self.inputs = tuple(Port(*port) for port in native.ports(False))
        """In device order: names ascending in ASCII."""
        self.outputs = tuple(Port(*port) for port in native.ports(True))

    @property
    def report(self) -> dict[str, Any]:
        """What the device knows of the program: operations, FLOPs, constant bytes, warnings, compile time."""
        report: dict[str, Any] = json.loads(self._native.report())
        return report

    def unload(self) -> None:
        """Give the engine's place back, now; the program and its requests cannot be used afterwards."""
        self._native.unload()

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unload()

    def request(self, inputs: Mapping[str, Surface], outputs: Mapping[str, Surface]) -> Request:
        """Bind every input and output by name, each exactly once."""
        return Request(self._native.request(_bindings("inputs", inputs), _bindings("outputs", outputs)))

    def request_positional(self, inputs: Sequence[Surface], outputs: Sequence[Surface]) -> Request:
        """Bind in device order without checking sizes: for probes of the hardware's own behaviour."""
        return Request(
            self._native.request_positional(
                [_native_surface(f"input {i}", surface) for i, surface in enumerate(inputs)],
                [_native_surface(f"output {i}", surface) for i, surface in enumerate(outputs)],
            )
        )

    def run(self, arrays: Mapping[str, npt.ArrayLike]) -> dict[str, npt.NDArray[Any]]:
        """Evaluate once on arrays of the ports' shapes and return the outputs in their own dtypes.

        For tests and examples: it allocates surfaces each time. Training builds its requests once.
        """
        ports = {port.name: port for port in self.inputs}
        # An unknown name gets a surface too: the request then says what is wrong with the names.
        inputs = {name: self._device.surface(ports[name].bytes if name in ports else 1) for name in arrays}
        outputs = {port.name: self._device.surface_for(port) for port in self.outputs}
        request = self.request(inputs, outputs)
        for name, array in arrays.items():
            store(inputs[name], ports[name], array)
        request.run()
        return {port.name: fetch(outputs[port.name], port) for port in self.outputs}


class Device:
    """An open device. Made by ``open``; closes at the end of a ``with`` block or when nothing needs it any more."""

    def __init__(self, native: _device.Device) -> None:
        self._handle: _device.Device | None = native
        self.facts: dict[str, Any] = json.loads(native.facts())
        """What the device is: kind, why it was chosen, chip, profile, dialect, limits, rules in force."""

    @property
    def _native(self) -> _device.Device:
        if self._handle is None:
            raise ArgumentError("this device is closed: open it again")
        return self._handle

    def close(self) -> None:
        """Give up this handle. Programs, surfaces and requests that are still held keep working, but nothing new can be
        made, nor ``Program.run`` be called, which makes surfaces."""
        self._handle = None

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def compile(
        self,
        text: str | bytes | arguments.ProgramSource,
        blobs: Mapping[str, Any] | None = None,
        label: str = "",
    ) -> Program:
        """Compile and load a program: MIL text and blob files (path as in the text -> bytes-like).

        ``label`` names the program in errors and reports.
        """
        mil, files = arguments.program(text, blobs)
        label = arguments.text("label", label)
        return Program(self, _device.compile(self._native, mil, files, label), label)

    def surface(self, nbytes: int) -> Surface:
        """A zeroed surface of so many bytes."""
        return Surface(self._native.surface(arguments.whole("nbytes", nbytes)))

    def surface_for(self, port: Port) -> Surface:
        """A zeroed surface that fits a port."""
        return self.surface(port.bytes)

    def counters(self) -> Counters:
        """How much was compiled, loaded and evaluated, and what is alive."""
        return Counters(**self._native.counters())

    def inject_fault(self, fault: str, after: int = 0, seconds: float = 0.0) -> None:
        """For tests: let the ``after``-th compile, load, evaluation or unload from now fail, or one stall for
        ``seconds``.

        ``"compile"``, ``"load"``, ``"evaluate"``, ``"unload"``, ``"stall"``; ``"clear"`` forgets all of them.
        """
        milliseconds = arguments.milliseconds("seconds", seconds)
        self._native.inject_fault(
            arguments.one_of("fault", fault, _FAULTS), arguments.whole("after", after), milliseconds
        )


def open(
    kind: str = "auto",
    profile: str | None = None,
    *,
    executor: str = "fast",
    fp32: bool = False,
    allow_unproven: bool = False,
    rules: Mapping[str, bool | int | float] | None = None,
    live_budget: int = 100,
    compile_budget: int = 100,
    watchdog_s: float | None = 30.0,
    temp_dir: str | os.PathLike[str] | None = None,
) -> Device:
    """Open a device.

    kind            ``"auto"`` (the real ANE where there is one, else the emulator; ``facts["why"]`` says why),
                    ``"ane"``, ``"emulator"``, or ``"emulator:m1"`` with a profile
    profile         emulator: a name of ``profiles()`` (default m4) or the path of a ``.profile`` file
    executor        emulator: ``"fast"``, ``"reference"`` or ``"audit"``
    fp32            emulator: fp16 is read as fp32 everywhere, so nothing is rounded
    allow_unproven  let operations without direct evidence compile, with a warning
    rules           emulator: switches over the profile, ``{"border-width": False, "axis-limit": 16384}``
    live_budget     programs loaded at once in this process; one more is a ``BudgetError``
    compile_budget  compiles in the life of this process; one more is a ``BudgetError``
    watchdog_s      an evaluation that takes longer poisons the device; None: wait for ever
    temp_dir        real ANE: where program directories go
    """
    kind, colon, named = arguments.text("kind", kind).partition(":")
    if colon and not named:
        raise ArgumentError(f"no profile behind the colon of kind {kind + colon!r}: write {kind!r}, or name one")
    profile = arguments.text("profile", profile or "")
    if named and profile and named != profile:
        raise ArgumentError(f"two profiles: {named!r} in the kind and profile={profile!r}")
    return Device(
        _device.open(
            arguments.one_of("kind", kind, _KINDS),
            named or profile,
            arguments.one_of("executor", executor, _EXECUTORS),
            fp32,
            allow_unproven,
            arguments.switches(rules or {}),
            arguments.whole("live_budget", live_budget, 1, 2**32 - 1),
            arguments.whole("compile_budget", compile_budget, 1, 2**32 - 1),
            arguments.NO_WATCHDOG if watchdog_s is None else max(1, arguments.milliseconds("watchdog_s", watchdog_s)),
            os.fspath(temp_dir) if temp_dir else "",
        )
    )


def real_available() -> tuple[bool, str]:
    """Is a real ANE usable here, and why (not)?"""
    return _device.real_available()


def backends() -> tuple[str, ...]:
    """The back ends in this build: ``("emulator",)`` or ``("apple", "emulator")``."""
    return tuple(_device.backends().split(","))


def version() -> str:
    """The version of the native library."""
    return _device.version


@cache
def profiles() -> tuple[str, ...]:
    """Names of the emulator's built-in profiles."""
    return tuple(_device.profiles().split(","))


@cache
def operation_table() -> dict[str, Any]:
    """The emulator's operations: name -> arguments and evidence."""
    table: dict[str, Any] = json.loads(_device.operation_table())
    return table


@cache
def rule_table() -> dict[str, Any]:
    """The rules a profile may hold: name -> summary, source, stage, error."""
    table: dict[str, Any] = json.loads(_device.rule_table())
    return table


def _native_surface(what: str, surface: Surface) -> _device.Surface:
    if not isinstance(surface, Surface):
        raise ArgumentError(f"{what} is bound to a value {arguments.kind_of(surface)}; expected a Surface")
    return surface._native


def _bindings(side: str, surfaces: Mapping[str, Surface]) -> dict[str, _device.Surface]:
    if not isinstance(surfaces, Mapping):
        raise ArgumentError(f"{side} is {arguments.kind_of(surfaces)}; expected a dict from port names to surfaces")
    return {arguments.text("a port's name", name): _native_surface(repr(name), s) for name, s in surfaces.items()}


def _elements(port: Port, view: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    """A port on its locked surface, as an array of the port's shape whose rows may stand apart."""
    import numpy as np

    dtype = np.dtype(_DTYPES.get(port.dtype, port.dtype))
    strides = [dtype.itemsize] * len(port.shape)
    for axis in reversed(range(len(port.shape) - 1)):
        last = axis == len(port.shape) - 2
        strides[axis] = port.row_stride if last else strides[axis + 1] * port.shape[axis + 1]
    elements = view[: port.bytes].view(dtype)
    return np.lib.stride_tricks.as_strided(elements, port.shape, strides, writeable=view.flags.writeable)


def store(surface: Surface, port: Port, array: npt.ArrayLike) -> None:
    """Write an array of a port's shape where the port's elements lie on a surface."""
    import numpy as np

    values = np.asarray(array)
    if values.shape != port.shape:
        raise ArgumentError(f"input {port.name!r} has shape {values.shape}; expected {port.shape}")
    with surface.lock(write=True) as view:
        target = _elements(port, view)
        if not np.can_cast(values.dtype, target.dtype, casting="same_kind"):
            raise ArgumentError(f"input {port.name!r} is {values.dtype}; it cannot stand for {port.dtype}")
        with np.errstate(over="ignore"):  # overflow to infinity is what the device's own conversion does
            np.copyto(target, values, casting="same_kind")


def fetch(surface: Surface, port: Port) -> npt.NDArray[Any]:
    """Read what a port's elements are on a surface, in the port's shape and dtype."""
    import numpy as np

    with surface.lock() as view:
        return np.array(_elements(port, view))
