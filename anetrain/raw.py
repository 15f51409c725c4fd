"""Calls of an engine that training never makes, for probes of what the hardware does with them.

    request = raw.request(program, [x], [y], procedure_index=3)
    result = raw.evaluate(request, qos=33, path="direct")

They are about the programs and surfaces of ``anetrain.device``. On a real ANE each goes to the private framework as it
is; on the emulator the rules of the stage ``"raw"`` decide what happens (``device.rule_table()``). A call may crash the
process, or never return: make it in a process of its own. What fails raises an exception of ``anetrain.errors``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anetrain import _arguments as arguments
from anetrain import _device
from anetrain.device import Device, Program, Request, Surface, _native_surface
from anetrain.errors import ArgumentError

__all__ = ["PATHS", "RELOADS", "Result", "api", "chain", "evaluate", "reload", "request", "set_stats_mask"]

_PATHS = {"standard": 0, "client": 1, "direct": 2, "real_time": 3, "process": 4}
_RELOADS = {"rewrite_files": 0, "new_identity": 1}
_UINT32_MAX = 2**32 - 1

PATHS = tuple(_PATHS)
"""The ways to the engine that ``evaluate`` knows; training takes the first."""
RELOADS = tuple(_RELOADS)
"""The kinds of ``reload``."""


@dataclass(frozen=True)
class Result:
    """What an evaluation said beside its outputs."""

    hardware_ns: int | None
    """Nanoseconds by the statistics object of the request; None: there is none, or it says nothing. On the emulator it
    is the time of the emulation."""
    real_time_granted: bool
    """``beginRealTimeTask`` said YES (path ``"real_time"``)."""


def api(device: Device) -> dict[str, Any]:
    """What the framework's classes offer, beside what this project expects of them.

    ``{"framework", "version", "classes": {name: {"found", "class_methods": {selector: type encoding},
    "instance_methods": {...}, "expected": {"+selector" or "-selector": type encoding}}}, "other_classes": [names]}``.
    The emulator answers as a framework that has all that is expected and nothing else.
    """
    answer: dict[str, Any] = json.loads(_device.raw_api(device._native))
    return answer


def request(
    program: Program,
    inputs: Sequence[Surface],
    outputs: Sequence[Surface],
    *,
    procedure_index: int = 0,
    weights_buffer: Surface | None = None,
    performance_stats: bool = False,
    shared_events: int = 0,
) -> Request:
    """Bind surfaces in device order, without a check of their sizes, and set what training leaves alone.

    procedure_index    which procedure of the program; 0 to 128, as the framework validates
    weights_buffer     a surface with weights in place of the program's
    performance_stats  attach a statistics object; ``evaluate`` then returns its time
    shared_events      attach so many signal events of a new shared event; 0 to 64. May crash or hang when evaluated
    """
    return Request(
        _device.raw_request(
            program._native,
            [_native_surface(f"input {i}", surface) for i, surface in enumerate(inputs)],
            [_native_surface(f"output {i}", surface) for i, surface in enumerate(outputs)],
            arguments.whole("procedure_index", procedure_index, 0, _UINT32_MAX),
            None if weights_buffer is None else _native_surface("the weights buffer", weights_buffer),
            bool(performance_stats),
            arguments.whole("shared_events", shared_events, 0, _UINT32_MAX),
        )
    )


def evaluate(request: Request, *, qos: int = 21, path: str = "standard") -> Result:
    """Evaluate any request with a quality of service, and by one of ``PATHS``. The watchdog watches over it.

    ``"real_time"`` takes no quality of service, and is put between ``beginRealTimeTask`` and ``endRealTimeTask``.
    """
    return Result(
        *_device.raw_evaluate(
            _native_request("request", request),
            arguments.whole("qos", qos, 0, _UINT32_MAX),
            arguments.one_of("path", path, _PATHS),
        )
    )


def reload(program: Program, blobs: Mapping[str, Any], *, kind: str = "rewrite_files") -> None:
    """Give a loaded program other weights: all of its blob files, path -> bytes-like.

    ``"rewrite_files"`` writes them over the files of the program, unloads it and loads the same object; with
    ``"new_identity"`` it is the same text with the new files that is loaded, and nobody asks for a compile. Requests
    stay valid. After a failure the program may be unloaded.
    """
    _device.raw_reload(program._native, arguments.one_of("kind", kind, _RELOADS), arguments.blob_files(blobs))


def set_stats_mask(program: Program, mask: int) -> None:
    """Unload the program, force its mask of statistics (bits 1, 2, 4 and 8), and load it. It may end up unloaded."""
    _device.raw_set_stats_mask(program._native, arguments.whole("mask", mask, 0, _UINT32_MAX))


def chain(requests: Sequence[Request]) -> None:
    """Prepare requests, each of which reads an output of the one before, as one chain, and run it."""
    _device.raw_chain([_native_request(f"request {i}", request) for i, request in enumerate(requests)])


def _native_request(what: str, request: Request) -> _device.Request:
    if not isinstance(request, Request):
        raise ArgumentError(f"{what} is {arguments.kind_of(request)}; expected a Request")
    return request._native
