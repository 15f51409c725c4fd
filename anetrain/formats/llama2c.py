"""llama2.c model files: v0 (no magic), v1 (fp32 behind a header of 256 bytes), and v2 (int8 in groups), only read.

RoPE pairs are neighbouring rows, its base is 10 000, norms have eps 1e-5, a head is dim / n_heads wide: the programs
that read these files know it, the files do not say it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from anetrain import files
from anetrain.formats import tensors
from anetrain.formats.equivalent import Weights, with_rope, without_residual_scale
from anetrain.formats.tensors import Bytes, Floats, FormatError, Shapes, Tensors
from anetrain.spec import ModelSpec

MAGIC = b"24ka"  # 0x616b3432, "ak42" read as a number
NORM_EPS, ROPE_BASE = 1e-5, 10_000.0

_V0_HEADER = struct.Struct("<7i")
_HEADER = struct.Struct("<4si7iBi")  # the last is v2's group size, 0 in v1
_HEADER_BYTES = 256
_FIELDS = ("dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "seq_len")
_ATTENTION = ("attention.wq", "attention.wk", "attention.wv", "attention.wo")
_FFN = ("ffn.w1", "ffn.w2", "ffn.w3")
_V1_ORDER = ("attention_norm", "ffn_norm", "final_norm", "embedding", *_ATTENTION, *_FFN, "classifier")
_TABLES = ("cos", "sin")
_ORDER = {  # of the kinds of tensors; each has all its layers in a row
    0: ("embedding", "attention_norm", *_ATTENTION, "ffn_norm", *_FFN, "final_norm", *_TABLES, "classifier"),
    1: _V1_ORDER,
    2: _V1_ORDER,
}


def read(path: Path) -> tuple[ModelSpec, Tensors, int]:
    """The spec, the weights, and the version of the file."""
    data = tensors.mapped(path)
    if data[:4].tobytes() == MAGIC:
        return _read_with_magic(path, data)
    raw = tensors.header(path, data, _V0_HEADER.size, "llama2.c v0")
    fields = dict(zip(_FIELDS, _V0_HEADER.unpack(raw), strict=True))
    tied = fields["vocab_size"] > 0
    spec = _spec(path, fields | {"vocab_size": abs(fields["vocab_size"])}, tied)
    values = tensors.value_count(spec) + spec.seq * spec.head_dim
    tensors.check_size(path, len(data), _V0_HEADER.size + 4 * values, f"llama2.c v0 with {_listed(fields)}")
    stored = tensors.in_a_row(path, data, _V0_HEADER.size, _shapes(spec, 0))
    return spec, Tensors(tensors.reading(stored, (name for name in stored if name not in _TABLES))), 0


def write(path: Path, spec: ModelSpec, weights: Weights, *, version: int = 0, overwrite: bool = False) -> None:
    """Raises ValueError where llama2.c would compute something else than the spec says, or cannot hold it."""
    if version not in (0, 1):
        raise ValueError(f"version is {version}; llama2.c files are written in versions 0 and 1")
    spec, weights = _as_llama2c(spec, weights)
    tensors.check_names(weights, tensors.parameters(spec))
    tables: Weights = {}
    sizes = (spec.dim, spec.hidden, spec.layers, spec.heads, spec.kv_heads)
    if version == 0:
        header = _V0_HEADER.pack(*sizes, spec.vocab if spec.tied else -spec.vocab, spec.seq)
        tables = rope_tables(spec)
    else:
        header = _HEADER.pack(MAGIC, 1, *sizes, spec.vocab, spec.seq, spec.tied, 0).ljust(_HEADER_BYTES, b"\0")
    with files.replacing(path, overwrite=overwrite) as file:
        file.write(header)
        for name, shape in _shapes(spec, version).items():
            tensors.write(file, tables if name in tables else weights, name, shape)


def rope_tables(spec: ModelSpec) -> dict[str, Floats]:
    """Cosines and sines [seq, head_dim / 2] as in v0 files: of angles that were rounded to fp32 at every step.

    Exact but for that; llama2.c's exporter has them from PyTorch, whose last bit depends on the machine.
    """
    exponents = np.arange(0, spec.head_dim, 2, dtype=np.float32) / np.float32(spec.head_dim)
    speeds = np.float32(1.0) / (ROPE_BASE ** exponents.astype(np.float64)).astype(np.float32)
    angles = np.outer(np.arange(spec.seq, dtype=np.float32), speeds).astype(np.float64)
    return {"cos": np.cos(angles).astype(np.float32), "sin": np.sin(angles).astype(np.float32)}


def _as_llama2c(spec: ModelSpec, weights: Weights) -> tuple[ModelSpec, Weights]:
    fixed = {"norm_eps": NORM_EPS, "rope_base": ROPE_BASE, "qk_norm": False}
    for name, expected in fixed.items():
        found = getattr(spec, name)
        if found != expected:
            raise ValueError(
                f"{name} is {found}; llama2.c computes with {expected}, and its files cannot say otherwise"
            )
    if spec.rope == "none":
        raise ValueError("rope is 'none'; llama2.c always turns q and k, so this model would become another one")
    if spec.head_dim * spec.heads != spec.dim:
        raise ValueError(
            f"head_dim is {spec.head_dim}; heads of llama2.c are dim / heads wide, {spec.dim} / {spec.heads}"
        )
    return without_residual_scale(*with_rope(spec, weights, "interleaved"))


def _spec(path: Path, fields: Mapping[str, int], tied: bool) -> ModelSpec:
    tensors.check_positive(path, fields)
    tensors.check_multiple(path, fields, "dim", "n_heads")
    tensors.check_multiple(path, fields, "n_heads", "n_kv_heads")
    head_dim = fields["dim"] // fields["n_heads"]
    if head_dim % 2:
        raise FormatError(path, f"dim / n_heads is {head_dim}, expected an even number, for RoPE")
    return ModelSpec(
        dim=fields["dim"],
        hidden=fields["hidden_dim"],
        layers=fields["n_layers"],
        heads=fields["n_heads"],
        kv_heads=fields["n_kv_heads"],
        head_dim=head_dim,
        vocab=fields["vocab_size"],
        seq=fields["seq_len"],
        norm_eps=NORM_EPS,
        rope_base=ROPE_BASE,
        tied=tied,
    )


def _shapes(spec: ModelSpec, version: int) -> Shapes:
    """Of all tensors of a file, in their order."""
    known = {name: item.shape for name, item in tensors.parameters(spec).items()}
    known |= dict.fromkeys(_TABLES, (spec.seq, spec.head_dim // 2))
    shapes: dict[str, tuple[int, ...]] = {}
    for kind in _ORDER[version]:
        names = [kind] if kind in known else tensors.layer_names(spec, kind)
        shapes |= {name: known[name] for name in names if name in known}
    return shapes


def _read_with_magic(path: Path, data: Bytes) -> tuple[ModelSpec, Tensors, int]:
    raw = tensors.header(path, data, _HEADER_BYTES, "llama2.c")
    _, version, *values, shared, group = _HEADER.unpack(raw[: _HEADER.size])
    fields = dict(zip(_FIELDS, values, strict=True))
    if version not in (1, 2):
        raise FormatError(path, f"is llama2.c version {version}, expected 1 or 2")
    if shared not in (0, 1):
        raise FormatError(path, f"the flag of a shared classifier is {shared}, expected 0 or 1")
    if any(raw[_HEADER.size :]) or (version == 1 and group):
        raise FormatError(path, "the header's padding holds something, expected zeros up to byte 256")
    spec = _spec(path, fields, bool(shared))
    if version == 2:
        return spec, _read_groups(path, data, spec, group), 2
    expected = _HEADER_BYTES + 4 * tensors.value_count(spec)
    tensors.check_size(path, len(data), expected, f"llama2.c v1 with {_listed(fields)}")
    return spec, tensors.in_a_row(path, data, _HEADER_BYTES, _shapes(spec, 1)), 1


def _read_groups(path: Path, data: Bytes, spec: ModelSpec, group: int) -> Tensors:
    """v2: norms in fp32, then each matrix as int8 values and an fp32 factor for each group of them."""
    if group < 1 or spec.dim % group:
        raise FormatError(path, f"group_size is {group}, expected a divisor of dim, {spec.dim}")
    norm_bytes = 4 * spec.dim * (2 * spec.layers + 1)
    matrices = tensors.value_count(spec) - norm_bytes // 4
    expected = _HEADER_BYTES + norm_bytes + matrices + 4 * (matrices // group)
    tensors.check_size(path, len(data), expected, f"llama2.c v2 in groups of {group}")
    shapes = _shapes(spec, 2)
    norms = {name: shape for name, shape in shapes.items() if len(shape) == 1}
    read = tensors.reading(tensors.in_a_row(path, data, _HEADER_BYTES, norms), norms)
    begin = _HEADER_BYTES + norm_bytes
    for name, shape in shapes.items():
        if name not in norms:
            count = math.prod(shape)
            values, factors = np.split(data[begin : begin + count + 4 * (count // group)], [count])
            read[name] = partial(_widened, values.view(np.int8), _factors(path, name, factors), shape)
            begin += len(values) + len(factors)
    return Tensors(read)


def _factors(path: Path, name: str, stored: Bytes) -> Floats:
    """Looked at before anything is taken: an older exporter, with the same header, put all factors at the end."""
    factors = stored.view("<f4").astype(np.float32)
    if not (np.isfinite(factors) & (factors >= 0.0)).all():
        raise FormatError(path, f"factors of {name} are negative or not finite: damaged, or from an old exporter")
    return factors


def _widened(values: npt.NDArray[np.int8], factors: Floats, shape: tuple[int, ...]) -> Floats:
    wide: Floats = values.reshape(len(factors), -1) * factors[:, None]  # a group in each row
    return wide.reshape(shape)


def _listed(fields: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in fields.items())
