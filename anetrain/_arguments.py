"""Checks of what a caller hands to ``anetrain.device``: each returns what the native module takes."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, Protocol

from anetrain.errors import ArgumentError

NO_WATCHDOG = 0xFFFFFFFF


class ProgramSource(Protocol):
    """A program as text with its blobs, e.g. of ``anetrain.mil``."""

    @property
    def text(self) -> str | bytes: ...
    @property
    def blobs(self) -> Mapping[str, Any]: ...


def kind_of(value: object) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"


def text(what: str, value: object) -> str:
    if not isinstance(value, str):
        raise ArgumentError(f"{what} is {kind_of(value)}; expected str")
    return value


def one_of(what: str, value: str, known: Mapping[str, int]) -> int:
    if value not in known:
        raise ArgumentError(f"{what} is {value!r}; it must be one of {', '.join(map(repr, known))}")
    return known[value]


def whole(what: str, value: int, least: int = 0, most: int = 2**63 - 1) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise ArgumentError(f"{what} is {value!r}; it must be a whole number") from None
    if not least <= number <= most:
        raise ArgumentError(f"{what} is {number}; it must be {least} to {most}")
    return number


def row_stride(value: int | None) -> int | None:
    return None if value is None else whole("row_stride", value)


def milliseconds(what: str, seconds: float) -> int:
    most = (NO_WATCHDOG - 1) // 1000
    if not isinstance(seconds, (int, float)) or not 0 <= seconds <= most:
        raise ArgumentError(f"{what} is {seconds!r}; it must be 0 to {most} seconds")
    return round(seconds * 1000)


def switches(rules: Mapping[str, bool | int | float]) -> str:
    def setting(name: str, value: bool | int | float) -> str:
        if not name or set(name) & set("=,"):
            raise ArgumentError(f"a rule is named {name!r}; expected a name of rule_table()")
        if isinstance(value, bool):
            return "on" if value else "off"
        if not isinstance(value, (int, float)):
            raise ArgumentError(f"rule {name!r} is set to {value!r}; expected True, False or a number")
        return repr(value)

    return ",".join(f"{name}={setting(text('a rule', name), value)}" for name, value in rules.items())


def program(source: str | bytes | ProgramSource, blobs: Mapping[str, Any] | None) -> tuple[bytes, dict[str, Any]]:
    """The text as bytes, and its blob files."""
    if isinstance(source, (str, bytes)):
        mil, files = source, blobs or {}
    elif not (hasattr(source, "text") and hasattr(source, "blobs")):
        raise ArgumentError(f"the text is {kind_of(source)}; expected str, bytes or an object with text and blobs")
    elif blobs is None:
        mil, files = source.text, source.blobs
    else:
        raise ArgumentError("the program object brings its own blobs: leave `blobs` out")
    return mil.encode() if isinstance(mil, str) else mil, blob_files(files)


def blob_files(blobs: Mapping[str, Any]) -> dict[str, Any]:
    files = dict(blobs)
    for path, data in files.items():
        if not isinstance(path, str):
            raise ArgumentError(f"a blob is named {path!r}; expected its path in the text, a str")
        try:
            memoryview(data).release()
        except TypeError:
            raise ArgumentError(f"blob {path!r} is {kind_of(data)}; expected a whole file as bytes") from None
    return files
