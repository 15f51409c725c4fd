"""What all formats share: the error, tensors that are read when they are asked for, and rows of fp32 tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

from anetrain.graph import Parameter
from anetrain.model import Model
from anetrain.spec import ModelSpec

Floats: TypeAlias = npt.NDArray[np.float32]
Bytes: TypeAlias = npt.NDArray[np.uint8]
Shapes: TypeAlias = Mapping[str, tuple[int, ...]]

PIECE = 1 << 22  # values converted or examined at a time


class FormatError(ValueError):
    """A file is not what it should be. Nothing was taken from it."""

    def __init__(self, path: Path | str, detail: str) -> None:
        self.path, self.detail = Path(path), detail
        super().__init__(f"{path}: {detail}")

    def __reduce__(self) -> tuple[object, ...]:
        return FormatError, (self.path, self.detail)


class Tensors(Mapping[str, Floats]):
    """Tensors by name; each [...] reads the tensor anew, into an array of its own. `dict(tensors)` reads all."""

    def __init__(self, read: Mapping[str, Callable[[], Floats]]) -> None:
        self._read = dict(read)

    def __getitem__(self, name: str) -> Floats:
        return self._read[name]()

    def __contains__(self, name: object) -> bool:
        return name in self._read

    def __iter__(self) -> Iterator[str]:
        return iter(self._read)

    def __len__(self) -> int:
        return len(self._read)


def reading(weights: Mapping[str, Floats], names: Iterable[str]) -> dict[str, Callable[[], Floats]]:
    """How to read some of the tensors."""
    return {name: partial(weights.__getitem__, name) for name in names}


def changed(weights: Mapping[str, Floats], change: Callable[[str, Floats], Floats]) -> Tensors:
    """The same tensors, each changed when it is read."""
    return Tensors({name: partial(_changed, weights, change, name) for name in weights})


def _changed(weights: Mapping[str, Floats], change: Callable[[str, Floats], Floats], name: str) -> Floats:
    return change(name, weights[name])


def parameters(spec: ModelSpec) -> dict[str, Parameter]:
    """Of the models that files hold: Llama's or Qwen3's layers in a Model of this spec."""
    return Model(spec).parameters


def value_count(s: ModelSpec) -> int:
    """How many values such a model has, before anything of the size a damaged header may claim is made."""
    q_rows, kv_rows = s.heads * s.head_dim, s.kv_heads * s.head_dim
    norms = 2 * s.dim + (2 * s.head_dim if s.qk_norm else 0)
    layer = 2 * q_rows * s.dim + 2 * kv_rows * s.dim + 3 * s.hidden * s.dim + norms
    return s.layers * layer + s.dim + s.vocab * s.dim * (1 if s.tied else 2)


def layer_names(spec: ModelSpec, kind: str) -> list[str]:
    return [f"layers.{number}.{kind}" for number in range(spec.layers)]


# ---------------------------------------------------------------- reading


def mapped(path: Path) -> Bytes:
    """The bytes of a file, read by the system as they are touched."""
    if not path.is_file():
        raise FormatError(path, "is no file" if path.exists() else "does not exist")
    if path.stat().st_size == 0:
        return np.empty(0, np.uint8)
    return np.asarray(np.memmap(path, np.uint8, mode="r"))


def header(path: Path, data: Bytes, length: int, what: str) -> bytes:
    if len(data) < length:
        raise FormatError(path, f"has {len(data)} bytes, expected at least the {length} of the header of {what}")
    return data[:length].tobytes()


def check_size(path: Path, found: int, expected: int, why: str) -> None:
    if found != expected:
        problem = "is cut short" if found < expected else "goes on behind its end"
        raise FormatError(path, f"{problem}: {found} bytes, expected {expected} for {why}")


def check_positive(path: Path, fields: Mapping[str, int]) -> None:
    for name, value in fields.items():
        if value < 1:
            raise FormatError(path, f"{name} is {value}, expected a positive number")


def check_multiple(path: Path, fields: Mapping[str, int], name: str, of: str) -> None:
    if fields[name] % fields[of]:
        raise FormatError(path, f"{name} is {fields[name]}, expected a multiple of {of}, {fields[of]}")


def in_a_row(path: Path, data: Bytes, begin: int, shapes: Shapes) -> Tensors:
    """fp32 tensors one behind the other, from byte `begin`."""
    readers = {}
    for name, shape in shapes.items():
        end = begin + 4 * math.prod(shape)
        readers[name] = _reader(path, name, data[begin:end].view("<f4").reshape(shape))
        begin = end
    return Tensors(readers)


def _reader(path: Path, name: str, stored: npt.NDArray[Any]) -> Callable[[], Floats]:
    def read() -> Floats:
        array = stored.astype(np.float32)
        check_finite(array, lambda detail: FormatError(path, f"{name} {detail}; the file is damaged"))
        return array

    return read


def check_finite(array: Floats, error: Callable[[str], Exception]) -> None:
    flat = array.reshape(-1)
    for begin in range(0, flat.size, PIECE):
        finite = np.isfinite(flat[begin : begin + PIECE])
        if not finite.all():
            first = begin + int(finite.argmin())
            raise error(f"holds {flat[first]} at {first}, expected finite values")


# ---------------------------------------------------------------- writing


def check_folder(folder: Path, is_ours: Callable[[str], bool], overwrite: bool) -> None:
    """A model that takes the place of another must not take tokenizers and other files with it."""
    if not (overwrite and folder.is_dir()):
        return
    others = [path.name for path in folder.iterdir() if not is_ours(path.name)]
    if others:
        raise FileExistsError(f"{folder} also holds {some(sorted(others))}; choose another folder, or move these away")


def some(names: list[str]) -> str:
    """The first ones."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return (", ".join(names[:5]) or "none") + more


def check_names(weights: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    missing = [name for name in expected if name not in weights]
    unknown = [name for name in weights if name not in expected]
    if missing or unknown:
        raise ValueError(
            f"weights do not fit the spec: missing {', '.join(missing) or 'none'}; "
            f"unknown {', '.join(unknown) or 'none'}"
        )


def fetched(weights: Mapping[str, npt.NDArray[Any]], name: str, shape: tuple[int, ...]) -> Floats:
    """weights[name] as what a file can take: fp32, contiguous, of this shape, finite."""
    array = weights[name]
    if array.shape != shape or array.dtype != np.float32:
        raise ValueError(f"{name} is {array.dtype} {list(array.shape)}, expected float32 {list(shape)}")
    array = np.ascontiguousarray(array)
    check_finite(array, lambda detail: ValueError(f"{name} {detail}; such a model is not saved"))
    return array


def write(file: BinaryIO, weights: Mapping[str, npt.NDArray[Any]], name: str, shape: tuple[int, ...]) -> None:
    file.write(fetched(weights, name, shape).astype("<f4", copy=False).data)
