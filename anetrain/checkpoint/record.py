"""checkpoint.json: everything of a checkpoint that is no tensor, and a table of the tensors with their checksums.

It is written last and vouches for the rest: `checksum` covers all other fields, and the table covers every byte of the
tensor files.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from anetrain.checkpoint.errors import CheckpointError
from anetrain.checkpoint.tensors import DTYPES, OPTIONAL, STEMS, Kind
from anetrain.spec import ModelSpec

NAME = "checkpoint.json"
FORMAT, VERSION = "anetrain checkpoint", 1
DAMAGED = "The file is damaged or was edited"


@dataclass(frozen=True)
class Stored:
    """A tensor of a file: what it is, and the CRC-32 of its bytes."""

    kind: Kind
    crc32: int


Files = dict[str, dict[str, Stored]]  # by file, then by tensor in the order of the file


@dataclass(frozen=True)
class Record:
    """`files`: those of each part, "weights", "arrays" and "baked"."""

    step: int
    spec: ModelSpec
    config: dict[str, Any]
    values: dict[str, Any]
    validation_loss: float | None
    tokenizer: str | None
    device: str
    profile: str
    versions: dict[str, str]
    files: dict[str, Files] = field(default_factory=lambda: {part: {} for part in STEMS})


def text(record: Record) -> str:
    body: dict[str, Any] = {"format": FORMAT, "version": VERSION}
    body |= {item.name: getattr(record, item.name) for item in fields(record)}
    body["spec"] = asdict(record.spec)
    parts = {part: files for part, files in record.files.items() if files or part not in OPTIONAL}
    body["files"] = {part: _plain_files(files) for part, files in parts.items()}
    return json.dumps(body | {"checksum": _checksum(body)}, indent=1, allow_nan=False) + "\n"


def _plain_files(files: Files) -> dict[str, Any]:
    return {
        file: {
            name: {"dtype": item.kind.code, "shape": list(item.kind.shape), "crc32": f"{item.crc32:08x}"}
            for name, item in tensors.items()
        }
        for file, tensors in files.items()
    }


def _checksum(body: Mapping[str, Any]) -> str:
    """Of the values in their order, however the text is laid out."""
    canonical = json.dumps(body, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()


def check_plain(where: str, value: Any) -> None:
    """Raises ValueError unless JSON gives exactly this back."""
    if value is None or isinstance(value, bool | int | str):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value}, and JSON has no such number; expected a finite one, or None")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            check_plain(f"{where}[{number}]", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{where} has the key {key!r}; expected texts as keys")
            check_plain(f"{where}.{key}", item)
    else:
        raise ValueError(
            f"{where} is of type {type(value).__name__}; expected None, bool, int, float, str, list or dict"
        )


# ---------------------------------------------------------------- reading


def read(folder: Path) -> Record:
    path = folder / NAME
    if not path.is_file():
        raise CheckpointError(folder, f"has no {NAME}: it is no checkpoint, or a part of one was removed")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(path, f"cannot be read: {error.strerror}") from error
    return _Reader(path).record(content)


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path

    def refuse(self, detail: str) -> CheckpointError:
        return CheckpointError(self.path, detail)

    def record(self, content: bytes) -> Record:
        body = self.body(content)
        expected = {"format", "version", "checksum", *(item.name for item in fields(Record))}
        self.names("the file", body, expected)
        checksum = self.get(body, "checksum", str, "a text")
        found = _checksum({name: value for name, value in body.items() if name != "checksum"})
        if checksum != found:
            raise self.refuse(f"checksum is {checksum}, and that of the other fields {found}. {DAMAGED}")
        return Record(
            step=self.step(body),
            spec=self.spec(self.get(body, "spec", dict, "an object")),
            config=self.get(body, "config", dict, "an object"),
            values=self.get(body, "values", dict, "an object"),
            validation_loss=self.optional(body, "validation_loss", float, "a number or null"),
            tokenizer=self.optional(body, "tokenizer", str, "a text or null"),
            device=self.get(body, "device", str, "a text"),
            profile=self.get(body, "profile", str, "a text"),
            versions=self.get(body, "versions", dict, "an object"),
            files=self.parts(self.get(body, "files", dict, "an object")),
        )

    def body(self, content: bytes) -> dict[str, Any]:
        """The JSON object, once it is known to be of this format and version."""
        try:
            body = json.loads(content.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise self.refuse(f"is no whole JSON text: {error}. {DAMAGED}") from error
        if not isinstance(body, dict) or body.get("format") != FORMAT:
            found = body.get("format") if isinstance(body, dict) else type(body).__name__
            raise self.refuse(f"format is {found!r}, expected {FORMAT!r}: this is no checkpoint of anetrain")
        if body.get("version") != VERSION or isinstance(body["version"], bool):
            raise self.refuse(
                f"version is {body.get('version')!r}, and this anetrain reads {VERSION}: "
                "use the anetrain that wrote it, or a newer one"
            )
        return body

    def names(self, what: str, found: Mapping[str, Any], expected: set[str]) -> None:
        missing, unknown = expected - found.keys(), found.keys() - expected
        if missing or unknown:
            lists = [", ".join(sorted(names)) or "none" for names in (missing, unknown)]
            raise self.refuse(f"{what} does not have the fields it should: missing {lists[0]}; unknown {lists[1]}")

    def get(self, body: Mapping[str, Any], name: str, kind: type, expected: str) -> Any:
        value = body[name]
        if type(value) is not kind:
            raise self.refuse(f"{name} is {value!r}, expected {expected}")
        return value

    def optional(self, body: Mapping[str, Any], name: str, kind: type, expected: str) -> Any:
        return None if body[name] is None else self.get(body, name, kind, expected)

    def step(self, body: Mapping[str, Any]) -> int:
        step: int = self.get(body, "step", int, "a whole number")
        if step < 0:
            raise self.refuse(f"step is {step}, expected 0 or more")
        return step

    def spec(self, found: dict[str, Any]) -> ModelSpec:
        self.names("spec", found, {item.name for item in fields(ModelSpec)})
        try:
            return ModelSpec(**found)
        except ValueError as error:
            raise self.refuse(f"spec: {error}") from error

    def parts(self, found: dict[str, Any]) -> dict[str, Files]:
        self.names("files", found, set(STEMS) - OPTIONAL | OPTIONAL & found.keys())
        parts = {part: self.files(part, found.get(part, {})) for part in STEMS}
        self.check_baked(parts)
        return parts

    def check_baked(self, parts: Mapping[str, Files]) -> None:
        """They are earlier values of some of the weights."""
        kinds = {name: stored.kind for file in parts["weights"].values() for name, stored in file.items()}
        for tensors in parts["baked"].values():
            for name, stored in tensors.items():
                if kinds.get(name) != stored.kind:
                    expected = f"{kinds[name]}, as among the weights" if name in kinds else "a name of the weights"
                    raise self.refuse(f"files.baked has {name}, {stored.kind}; expected {expected}")

    def files(self, part: str, found: Any) -> Files:
        where = f"files.{part}"
        if not isinstance(found, dict) or not all(isinstance(tensors, dict) for tensors in found.values()):
            raise self.refuse(f"{where} is {found!r}, expected an object of tensors for each file")
        files: Files = {}
        for file, tensors in found.items():
            if Path(file).name != file or not file.endswith(".safetensors"):
                raise self.refuse(f"{where} has a file {file!r}, expected a name that ends with .safetensors")
            files[file] = {name: self.stored(f"{where}, {file}, {name}", item) for name, item in tensors.items()}
        names = [name for tensors in files.values() for name in tensors]
        if len(set(names)) < len(names):
            raise self.refuse(f"{where} has a tensor in two files")
        return files

    def stored(self, where: str, found: Any) -> Stored:
        if not isinstance(found, dict):
            raise self.refuse(f"{where} is {found!r}, expected an object")
        self.names(where, found, {"dtype", "shape", "crc32"})
        if not isinstance(found["dtype"], str) or found["dtype"] not in DTYPES:
            raise self.refuse(f"{where}: dtype is {found['dtype']!r}, expected one of {', '.join(DTYPES)}")
        shape = found["shape"]
        if not isinstance(shape, list) or not all(type(size) is int and 0 <= size < 1 << 48 for size in shape):
            raise self.refuse(f"{where}: shape is {shape!r}, expected a list of sizes")
        try:
            crc32 = int(found["crc32"], 16)
        except (ValueError, TypeError) as error:
            raise self.refuse(f"{where}: crc32 is {found['crc32']!r}, expected 8 hexadecimal digits") from error
        return Stored(Kind(found["dtype"], tuple(shape)), crc32)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"a name is there twice among {', '.join(name for name, _ in pairs)}")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")
