"""config.json of Hugging Face's Llama and Qwen3 as a ModelSpec, and back. What we do not compute is refused by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anetrain.formats.tensors import FormatError
from anetrain.spec import ModelSpec

ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}

_SIZES = {
    "dim": "hidden_size",
    "hidden": "intermediate_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "vocab": "vocab_size",
    "seq": "max_position_embeddings",
}
_PLAIN = {  # other values mean something that we do not compute; absent means the first
    "hidden_act": ("silu",),
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "use_sliding_window": (False, None),
    "quantization_config": (None,),
    "partial_rotary_factor": (1.0, None),
}
_DEFAULT_BASE = 10_000.0  # of both families, where the config gives none
_DEFAULT_EPS = 1e-6


def read(path: Path) -> ModelSpec:
    """With RoPE half-split, as the weights beside this file are."""
    config = parsed(path)
    family = _family(path, config)
    for name, allowed in _PLAIN.items():
        if config.get(name, allowed[0]) not in allowed:
            raise FormatError(path, f"{name} is {config[name]!r}, expected {allowed[0]!r}: we compute nothing else")
    kinds = config.get("layer_types") or []
    if not isinstance(kinds, list) or any(kind != "full_attention" for kind in kinds):
        raise FormatError(path, f"layer_types is {kinds!r}, expected 'full_attention' everywhere")
    sizes = {ours: _size(path, config, theirs) for ours, theirs in _SIZES.items()}
    heads = sizes["heads"]
    kv_heads = _size(path, config, "num_key_value_heads", heads)
    if heads % kv_heads:
        raise FormatError(path, f"num_attention_heads is {heads}, expected a multiple of {kv_heads} kv heads")
    if family == "llama" and config.get("head_dim") is None and sizes["dim"] % heads:
        raise FormatError(path, f"hidden_size is {sizes['dim']}, expected a multiple of {heads} heads")
    head_dim = _size(path, config, "head_dim", sizes["dim"] // heads if family == "llama" else 128)
    if head_dim % 2:
        raise FormatError(path, f"head_dim is {head_dim}, expected an even number, for RoPE")
    tied = config.get("tie_word_embeddings", False)
    if not isinstance(tied, bool):
        raise FormatError(path, f"tie_word_embeddings is {tied!r}, expected true or false")
    return ModelSpec(
        **sizes,
        kv_heads=kv_heads,
        head_dim=head_dim,
        norm_eps=_positive(path, "rms_norm_eps", config.get("rms_norm_eps", _DEFAULT_EPS)),
        rope="half",
        rope_base=_rope_base(path, config),
        qk_norm=family == "qwen3",
        tied=tied,
    )


def text(spec: ModelSpec, dtype: str) -> str:
    """Of a spec with half-split RoPE. The base in both spellings: older programs know only `rope_theta`."""
    family = "qwen3" if spec.qk_norm else "llama"
    config = {
        "architectures": [ARCHITECTURES[family]],
        "model_type": family,
        **{theirs: getattr(spec, ours) for ours, theirs in _SIZES.items()},
        "num_key_value_heads": spec.kv_heads,
        "head_dim": spec.head_dim,
        "hidden_act": "silu",
        "attention_bias": False,
        **({"use_sliding_window": False} if family == "qwen3" else {"mlp_bias": False}),
        "rms_norm_eps": spec.norm_eps,
        "rope_theta": spec.rope_base,
        "rope_parameters": {"rope_type": "default", "rope_theta": spec.rope_base},
        "tie_word_embeddings": spec.tied,
        "torch_dtype": {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}[dtype],
    }
    return json.dumps(config, indent=2) + "\n"


def parsed(path: Path) -> Mapping[str, Any]:
    """The object in a JSON file."""
    if not path.is_file():
        raise FormatError(path, "does not exist")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise FormatError(path, f"is no JSON: {error}") from error
    if not isinstance(config, dict):
        raise FormatError(path, f"is a {type(config).__name__}, expected an object of settings")
    return config


def _family(path: Path, config: Mapping[str, Any]) -> str:
    family, named = config.get("model_type"), config.get("architectures")
    if not isinstance(family, str) or family not in ARCHITECTURES:
        raise FormatError(path, f"model_type is {family!r}, expected {' or '.join(map(repr, ARCHITECTURES))}")
    if named is not None and named != [ARCHITECTURES[family]]:
        raise FormatError(path, f"architectures is {named!r}, expected [{ARCHITECTURES[family]!r}] for {family!r}")
    return family


def _rope_base(path: Path, config: Mapping[str, Any]) -> float:
    """From `rope_theta` beside `rope_scaling` (which is what it says), or from `rope_parameters`, or both alike."""
    found = {}
    if config.get("rope_theta") is not None:
        found["rope_theta"] = config["rope_theta"]
    for name in ("rope_parameters", "rope_scaling"):
        rope = config.get(name)
        if rope is None:
            continue
        if not isinstance(rope, dict):
            raise FormatError(path, f"{name} is {rope!r}, expected an object or null")
        for key, value in rope.items():
            if key in ("rope_type", "type"):
                if value != "default":
                    raise FormatError(path, f"{name}.{key} is {value!r}, expected 'default': RoPE is not scaled here")
            elif key == "rope_theta":
                found[f"{name}.rope_theta"] = value
            elif not (key == "partial_rotary_factor" and value == 1.0):
                raise FormatError(path, f"{name}.{key} is {value!r}; RoPE is not scaled here, this means nothing to us")
    bases = {name: _positive(path, name, value) for name, value in found.items()}
    if len(set(bases.values())) > 1:
        raise FormatError(path, " but ".join(f"{name} is {value:g}" for name, value in bases.items()))
    return next(iter(bases.values()), _DEFAULT_BASE)


def _size(path: Path, config: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = config.get(name)
    if value is None:
        value = default
    if value is None:
        raise FormatError(path, f"{name} is missing")
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise FormatError(path, f"{name} is {value!r}, expected a positive whole number")
    return value


def _positive(path: Path, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value < 1e38:
        raise FormatError(path, f"{name} is {value!r}, expected a positive number")
    return float(value)
