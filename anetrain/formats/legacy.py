"""Checkpoints of the earlier trainers: v2 (static programs) and v4 (dynamic weights), with what their forward computes.

Both are Llama layers with tied embeddings, eps 1e-5. What differs from Llama is part of the spec, or of how weights are
read, so that the function is the one that was trained:

v2  no RoPE: spec.rope is "none"
v4  residuals scaled by 1 / sqrt(2 layers): spec.residual_scale; interleaved RoPE of base 10 000; query head h reads kv
    head h mod kv_heads, where we read h div ratio: heads are moved when they are read, and back when they are written
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from anetrain import files
from anetrain.formats import tensors
from anetrain.formats.equivalent import with_kv_order
from anetrain.formats.tensors import Floats, FormatError, Shapes, Tensors
from anetrain.optim import OptimizerState
from anetrain.spec import ModelSpec

MAGIC = 0x424C5A54
VERSIONS = (2, 4)

_HEADER = struct.Struct("<10i2f3d3i3i")
_SIZES = ("n_layers", "vocab", "dim", "hidden", "heads", "seq")
_FIELDS = (
    *("magic", "version", "step", "total_steps", *_SIZES),
    *("lr", "loss", "compile_ms", "train_ms", "wall_ms", "steps", "batches", "adam_t"),
)
_TAIL = {2: ("pad_0", "pad_1", "pad_2"), 4: ("kv_heads", "head_dim", "q_dim")}
_LAYER = (
    *("attention.wq", "attention.wk", "attention.wv", "attention.wo"),
    *("ffn.w1", "ffn.w2", "ffn.w3", "attention_norm", "ffn_norm"),
)
_MOMENTS = ("mean.", "square.")


@dataclass(frozen=True)
class Counters:
    """Of a header. `compile_ms` to `batches` are sums over all restarts."""

    step: int
    total_steps: int
    lr: float
    loss: float
    compile_ms: float
    train_ms: float
    wall_ms: float
    steps: int
    batches: int
    adam_t: int
    pad: tuple[int, int, int] = (0, 0, 0)  # of v2


@dataclass(frozen=True)
class Checkpoint:
    """`moments`: "mean.NAME" and "square.NAME" for each weight, as AdamW names them. All in our order of heads."""

    version: int
    spec: ModelSpec
    weights: Mapping[str, Floats]
    moments: Mapping[str, Floats]
    counters: Counters

    @property
    def notes(self) -> tuple[str, ...]:
        """What the function of this model has of its own."""
        s = self.spec
        if self.version == 2:
            return ("v2 was trained without RoPE: rope is 'none'",)
        heads = f"; query heads moved from kv head h mod {s.kv_heads} to h div {s.heads // s.kv_heads}"
        return (
            f"v4 was trained with residuals scaled by 1 / sqrt(2 layers): residual_scale is {s.residual_scale:.6g}",
            "v4 was trained with interleaved RoPE of base 10000" + (heads if s.kv_heads < s.heads else ""),
        )

    def optimizer_state(self) -> OptimizerState:
        """For AdamW.load_state; reads all moments. Betas and eps are not in the file."""
        return OptimizerState(dict(self.moments), {"updates": self.counters.adam_t})


def read(path: Path) -> Checkpoint:
    data = tensors.mapped(path)
    raw = tensors.header(path, data, _HEADER.size, "a checkpoint of the earlier trainers")
    values = _HEADER.unpack(raw)
    if values[0] != MAGIC:
        raise FormatError(path, f"begins with {values[0]:#x}, expected {MAGIC:#x}")
    version = values[1]
    if version not in VERSIONS:
        raise FormatError(path, f"version is {version}, expected 2 or 4")
    named = dict(zip(_FIELDS + _TAIL[version], values, strict=True))
    spec = _spec(path, version, named)
    expected = _HEADER.size + 12 * tensors.value_count(spec)
    tensors.check_size(path, len(data), expected, f"weights and two moments of {tensors.value_count(spec)} parameters")
    stored = tensors.in_a_row(path, data, _HEADER.size, _shapes(spec))
    moments = tensors.reading(stored, (name for name in stored if name.startswith(_MOMENTS)))
    weights = tensors.reading(stored, (name for name in stored if name not in moments))
    return Checkpoint(
        version,
        spec,
        with_kv_order(spec, Tensors(weights), theirs=False),
        with_kv_order(spec, Tensors(moments), theirs=False),
        _counters(path, named),
    )


def write(path: Path, checkpoint: Checkpoint, *, overwrite: bool = False) -> None:
    """The bytes that the trainer would have written. Raises ValueError for a spec that it could not train."""
    s, counters, version = checkpoint.spec, checkpoint.counters, checkpoint.version
    if version not in VERSIONS:
        raise ValueError(f"version is {version}, expected 2 or 4")
    tail = counters.pad if version == 2 else (s.kv_heads, s.head_dim, s.heads * s.head_dim)
    sizes = dict(zip(_SIZES, (s.layers, s.vocab, s.dim, s.hidden, s.heads, s.seq), strict=True))
    _check_spec(s, _spec_of(version, {**sizes, **dict(zip(_TAIL[version], tail, strict=True))}))
    shapes = _shapes(s)
    weights, moments = (with_kv_order(s, part, theirs=True) for part in (checkpoint.weights, checkpoint.moments))
    stored = dict.fromkeys(weights, weights) | dict.fromkeys(moments, moments)
    tensors.check_names(stored, shapes)
    header = _HEADER.pack(
        *(MAGIC, version, counters.step, counters.total_steps, *sizes.values(), counters.lr, counters.loss),
        *(counters.compile_ms, counters.train_ms, counters.wall_ms),
        *(counters.steps, counters.batches, counters.adam_t, *tail),
    )
    with files.replacing(path, overwrite=overwrite) as file:
        file.write(header)
        for name, shape in shapes.items():
            tensors.write(file, stored[name], name, shape)


def _shapes(spec: ModelSpec) -> Shapes:
    """Of all tensors of a file, in their order."""
    known = {name: item.shape for name, item in tensors.parameters(spec).items()}
    shapes: dict[str, tuple[int, ...]] = {}
    for number in range(spec.layers):
        names = [f"layers.{number}.{name}" for name in _LAYER]
        shapes |= {name: known[name] for name in names}
        shapes |= {prefix + name: known[name] for name in names for prefix in _MOMENTS}
    for name in ("final_norm", "embedding"):
        shapes |= {prefix + name: known[name] for prefix in ("", *_MOMENTS)}
    return shapes


def _spec(path: Path, version: int, values: Mapping[str, Any]) -> ModelSpec:
    sizes = {name: values[name] for name in (*_SIZES, *(_TAIL[4] if version == 4 else ()))}
    tensors.check_positive(path, sizes)
    if version == 2:
        tensors.check_multiple(path, sizes, "dim", "heads")
        return _spec_of(version, sizes)
    tensors.check_multiple(path, sizes, "heads", "kv_heads")
    heads, head_dim, q_dim = (sizes[name] for name in ("heads", "head_dim", "q_dim"))
    if q_dim != heads * head_dim:
        raise FormatError(path, f"q_dim is {q_dim}, expected heads x head_dim, {heads} x {head_dim}")
    if head_dim % 2:
        raise FormatError(path, f"head_dim is {head_dim}, expected an even number, for RoPE")
    return _spec_of(version, sizes)


def _spec_of(version: int, sizes: Mapping[str, int]) -> ModelSpec:
    heads, layers = sizes["heads"], sizes["n_layers"]
    static = version == 2
    return ModelSpec(
        dim=sizes["dim"],
        hidden=sizes["hidden"],
        layers=layers,
        heads=heads,
        kv_heads=heads if static else sizes["kv_heads"],
        head_dim=sizes["dim"] // heads if static else sizes["head_dim"],
        vocab=sizes["vocab"],
        seq=sizes["seq"],
        rope="none" if static else "interleaved",
        residual_scale=1.0 if static else 1.0 / math.sqrt(2 * layers),
    )


def _check_spec(found: ModelSpec, expected: ModelSpec) -> None:
    for field in fields(ModelSpec):
        value, wanted = getattr(found, field.name), getattr(expected, field.name)
        same = math.isclose(value, wanted, rel_tol=1e-9) if isinstance(wanted, float) else value == wanted
        if not same and field.name != "batch":
            raise ValueError(f"{field.name} is {value!r}; the trainer of this version had {wanted!r}")


def _counters(path: Path, values: Mapping[str, Any]) -> Counters:
    for name in ("step", "total_steps", "lr", "compile_ms", "train_ms", "wall_ms", "steps", "batches", "adam_t"):
        if not 0.0 <= values[name] < math.inf:
            raise FormatError(path, f"{name} is {values[name]}, expected a finite number, 0 or more")
    first, second, third = (values.get(name, 0) for name in _TAIL[2])
    known = {field.name: values[field.name] for field in fields(Counters) if field.name in values}
    return Counters(**known, pad=(first, second, third))
