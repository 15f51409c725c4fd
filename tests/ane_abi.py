"""csrc/device/ane.h and ane_raw.h for tests, through cffi's ABI mode: whichever library is loaded, the calls are those.

Every object is released by the `Library` that made it, in reverse order, or earlier by `release()`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cffi import FFI

ROOT = Path(__file__).resolve().parent.parent
HEADER = ROOT / "csrc" / "device" / "ane.h"
RAW_HEADER = HEADER.with_name("ane_raw.h")
UNLIMITED = 2**32 - 1

OK, COMPILE_FAILED, EVAL_FAILED, BUDGET_EXCEEDED, SURFACE_ERROR, UNAVAILABLE, BAD_ARGUMENT, UNLOAD_FAILED = range(8)
AUTO, REAL, EMULATOR = range(3)
COMPILE, LOAD, EVALUATE, STALL, CLEAR, UNLOAD = range(6)
STANDARD, CLIENT, DIRECT, REAL_TIME, PROCESS = range(5)
REWRITE_FILES, NEW_IDENTITY = range(2)


def declarations(header: Path = HEADER) -> str:
    """A header as cffi reads it: no comments, no preprocessor."""
    text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.DOTALL)
    text = re.sub(r"#ifdef __cplusplus.*?#endif", "", text, flags=re.DOTALL)
    return re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE).replace("ANE_API ", "")


class Failure(Exception):  # noqa: N818
    """A status that is not ANE_OK, with the error record."""

    def __init__(self, status: int, record: Any, ffi: FFI) -> None:
        def text(field: Any) -> str:
            return ffi.string(field).decode(errors="replace")

        self.status, self.code, self.line, self.column = status, record.code, record.line, record.column
        self.recorded_status = record.status
        self.domain, self.label, self.rule = text(record.domain), text(record.label), text(record.rule)
        self.text, self.detail = text(record.text), text(record.detail)
        super().__init__(f"status {status}: {self.detail} [{self.text}]")


class Library:
    def __init__(self, path: Path, kind: int) -> None:
        self.ffi = FFI()
        for header in (HEADER, RAW_HEADER):
            self.ffi.cdef(declarations(header))
        self.c = self.ffi.dlopen(str(path))
        self.path, self.kind = path, kind
        self.made: list[Handle] = []

    def check(self, call: Any, *arguments: Any) -> None:
        error = self.ffi.new("ane_error *")
        status = call(*arguments, error)
        if status != OK:
            raise Failure(status, error, self.ffi)
        assert error.status == OK
        assert error.detail[0] == b"\0"

    def create(self, cls: type[Handle], kind: str, call: Any, *arguments: Any) -> Any:
        out = self.ffi.new(f"{kind} **")
        error = self.ffi.new("ane_error *")
        status = call(*arguments, out, error)
        if status != OK:
            assert out[0] == self.ffi.NULL
            raise Failure(status, error, self.ffi)
        handle = cls(self, out[0])
        self.made.append(handle)
        return handle

    def open(self, **options: Any) -> Device:
        """A device of this library's kind; budgets are lifted unless they are the subject."""
        options = {"kind": self.kind, "live_budget": UNLIMITED, "compile_budget": UNLIMITED, **options}
        if options["kind"] != REAL:
            options.setdefault("profile", b"exact")
        record = self.ffi.new("ane_options *", {"struct_size": self.ffi.sizeof("ane_options")})
        keep = []
        for name, value in options.items():
            if isinstance(value, bytes):
                value = self.ffi.new("char[]", value)
                keep.append(value)
            setattr(record, name, value)
        return self.create(Device, "ane_device", self.c.ane_open, record)

    def blobs(self, files: Mapping[str, bytes]) -> tuple[Any, list[Any]]:
        """Blob records, and what must live as long as they."""
        keep = [(self.ffi.new("char[]", path.encode()), data) for path, data in files.items()]
        return self.ffi.new("ane_blob[]", [(path, self.ffi.from_buffer(data), len(data)) for path, data in keep]), keep

    def chain(self, requests: Sequence[Request]) -> None:
        self.check(self.c.ane_raw_chain, [request.pointer for request in requests], len(requests))

    def release_all(self) -> None:
        while self.made:
            self.made.pop().release()


class Handle:
    release_function: str

    def __init__(self, library: Library, pointer: Any) -> None:
        self.library, self.pointer = library, pointer
        self.ffi, self.c = library.ffi, library.c

    def release(self) -> None:
        if self.pointer is not None:
            getattr(self.c, self.release_function)(self.pointer)
            self.pointer = None


class Device(Handle):
    release_function = "ane_device_release"

    @property
    def facts(self) -> dict[str, Any]:
        return json.loads(self.ffi.string(self.c.ane_device_facts(self.pointer)))

    def counters(self) -> dict[str, int]:
        counters = self.ffi.new("ane_counters *")
        self.library.check(self.c.ane_device_counters, self.pointer, counters)
        return {name: getattr(counters, name) for name, _ in self.ffi.typeof("ane_counters").fields}

    def inject(self, fault: int, after: int = 0, milliseconds: int = 0) -> None:
        self.library.check(self.c.ane_inject_fault, self.pointer, fault, after, milliseconds)

    def surface(self, size: int) -> Surface:
        return self.library.create(Surface, "ane_surface", self.c.ane_surface_create, self.pointer, size)

    def compile(self, mil: str | bytes, blobs: Mapping[str, bytes] | None = None, label: str = "") -> Program:
        text = mil.encode() if isinstance(mil, str) else mil
        records, keep = self.library.blobs(blobs or {})
        return self.library.create(
            Program,
            "ane_program",
            self.c.ane_program_create,
            self.pointer,
            self.ffi.from_buffer(text),
            len(text),
            records,
            len(keep),
            label.encode(),
        )

    def api(self) -> dict[str, Any]:
        answer = self.ffi.new("char **")
        self.library.check(self.c.ane_raw_api, self.pointer, answer)
        text = self.ffi.string(answer[0])
        self.c.ane_raw_free(answer[0])
        return json.loads(text)


class Surface(Handle):
    release_function = "ane_surface_release"

    @property
    def seed(self) -> int:
        return self.c.ane_surface_seed(self.pointer)

    @property
    def size(self) -> int:
        return self.c.ane_surface_bytes(self.pointer)

    def retain(self) -> None:
        self.c.ane_surface_retain(self.pointer)

    def lock(self, write: bool) -> np.ndarray:
        base = self.ffi.new("void **")
        self.library.check(self.c.ane_surface_lock, self.pointer, write, base)
        return np.frombuffer(self.ffi.buffer(base[0], self.size), np.uint8)

    def unlock(self, write: bool) -> None:
        self.library.check(self.c.ane_surface_unlock, self.pointer, write)

    def block(self, array: np.ndarray, offset: int, row_stride: int | None) -> Any:
        """The block of a 2-D host array."""
        rows, columns = array.shape
        strides = [stride // array.itemsize for stride in array.strides]
        return self.ffi.new("ane_block *", (rows, columns, offset, row_stride or columns, *strides))

    def write(self, array: np.ndarray, offset: int = 0, row_stride: int | None = None) -> None:
        self._move("write", array, self.block(array, offset, row_stride))

    def read_into(self, array: np.ndarray, offset: int = 0, row_stride: int | None = None) -> np.ndarray:
        self._move("read", array, self.block(array, offset, row_stride))
        return array

    def read(self, rows: int, columns: int, offset: int = 0, row_stride: int | None = None) -> np.ndarray:
        return self.read_into(np.empty((rows, columns), np.float32), offset, row_stride)

    def _move(self, direction: str, array: np.ndarray, block: Any) -> None:
        suffix, element = ("f16", "uint16_t") if array.dtype == np.float16 else ("f32", "float")
        call = getattr(self.c, f"ane_surface_{direction}_{suffix}")
        self.library.check(call, self.pointer, block, self.ffi.cast(f"{element} *", array.ctypes.data))


class Program(Handle):
    release_function = "ane_program_release"

    def ports(self, output: bool) -> list[Any]:
        ports = []
        for i in range(self.c.ane_program_port_count(self.pointer, output)):
            port = self.ffi.new("ane_port *")
            self.library.check(self.c.ane_program_port, self.pointer, output, i, port)
            ports.append(port)
        return ports

    def names(self, output: bool) -> list[str]:
        return [self.ffi.string(port.name).decode() for port in self.ports(output)]

    @property
    def report(self) -> dict[str, Any]:
        return json.loads(self.ffi.string(self.c.ane_program_report(self.pointer)))

    def unload(self) -> None:
        self.library.check(self.c.ane_program_unload, self.pointer)

    def _bindings(self, pairs: Sequence[tuple[str, Surface | None]]) -> tuple[Any, list[Any]]:
        names = [self.ffi.new("char[]", name.encode()) for name, _ in pairs]
        pointers = [surface.pointer if surface else self.ffi.NULL for _, surface in pairs]
        return self.ffi.new("ane_binding[]", list(zip(names, pointers, strict=True))), names

    def request(self, inputs: Any, outputs: Any) -> Request:
        """Bindings as a mapping, or as pairs where a name shall stand twice."""
        sides = [list(side.items()) if isinstance(side, Mapping) else side for side in (inputs, outputs)]
        (inputs, keep_in), (outputs, keep_out) = (self._bindings(side) for side in sides)
        create = self.c.ane_request_create
        request = self.library.create(
            Request, "ane_request", create, self.pointer, inputs, len(sides[0]), outputs, len(sides[1])
        )
        del keep_in, keep_out
        return request

    def request_positional(self, inputs: Sequence[Surface], outputs: Sequence[Surface]) -> Request:
        sides = [self.ffi.new("ane_surface *[]", [s.pointer for s in side]) for side in (inputs, outputs)]
        create = self.c.ane_request_create_positional
        return self.library.create(
            Request, "ane_request", create, self.pointer, sides[0], len(inputs), sides[1], len(outputs)
        )

    def raw_request(self, inputs: Sequence[Surface], outputs: Sequence[Surface], **fields: Any) -> Request:
        """By position; `fields` of ane_raw_request."""
        sides = [self.ffi.new("ane_surface *[]", [s.pointer for s in side]) for side in (inputs, outputs)]
        raw = self.ffi.new("ane_raw_request *", {"struct_size": self.ffi.sizeof("ane_raw_request")})
        for name, value in fields.items():
            setattr(raw, name, value.pointer if isinstance(value, Surface) else value)
        create = self.c.ane_raw_request_create
        return self.library.create(
            Request, "ane_request", create, self.pointer, sides[0], len(inputs), sides[1], len(outputs), raw
        )

    def reload(self, kind: int, blobs: Mapping[str, bytes]) -> None:
        records, keep = self.library.blobs(blobs)
        self.library.check(self.c.ane_raw_reload, self.pointer, kind, records, len(keep))

    def set_stats_mask(self, mask: int) -> None:
        self.library.check(self.c.ane_raw_set_stats_mask, self.pointer, mask)


class Request(Handle):
    release_function = "ane_request_release"

    def run(self) -> None:
        self.library.check(self.c.ane_evaluate, self.pointer)

    def raw_run(self, qos: int = 21, path: int = STANDARD) -> Any:
        """The ane_raw_result."""
        result = self.ffi.new("ane_raw_result *")
        self.library.check(self.c.ane_raw_evaluate, self.pointer, qos, path, result)
        return result
