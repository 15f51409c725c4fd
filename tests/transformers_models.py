"""Llama and Qwen3 in Hugging Face transformers, with weights of anetrain's names: the judge of whole models. Norms,
softmax and angles are in float32 there, whatever the model is in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from anetrain.blocks import ModelSpec

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]

NAMES = {
    "attention_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attention.wq": "self_attn.q_proj", "attention.wk": "self_attn.k_proj", "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj", "attention.q_norm": "self_attn.q_norm", "attention.k_norm": "self_attn.k_norm",
    "ffn.w1": "mlp.gate_proj", "ffn.w3": "mlp.up_proj", "ffn.w2": "mlp.down_proj",
}  # fmt: skip


def their_name(name: str) -> str:
    if name.startswith("layers."):
        _, number, rest = name.split(".", 2)
        return f"model.layers.{number}.{NAMES[rest]}.weight"
    return {"embedding": "model.embed_tokens", "final_norm": "model.norm", "classifier": "lm_head"}[name] + ".weight"


def as_stored(array: Array, name: str, s: ModelSpec) -> Array:
    """The inverse of half_split."""
    if s.rope == "half" or not name.endswith((".wq", ".wk")):
        return array
    turned: Array = array.reshape(-1, 2, s.head_dim // 2, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
    return turned


def half_split(array: Array, name: str, s: ModelSpec) -> Array:
    """transformers has every family's q and k half-split; Llama's own order has pairs as neighbours."""
    if s.rope == "half" or not name.endswith((".wq", ".wk")):
        return array
    turned: Array = array.reshape(-1, s.head_dim // 2, 2, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
    return turned


def their_model(s: ModelSpec, parameters: Mapping[str, np.ndarray], dtype: str = "float64") -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

    settings: dict[str, Any] = {
        "hidden_size": s.dim, "intermediate_size": s.hidden, "num_hidden_layers": s.layers,
        "num_attention_heads": s.heads, "num_key_value_heads": s.kv_heads, "head_dim": s.head_dim,
        "vocab_size": s.vocab, "rms_norm_eps": s.norm_eps, "tie_word_embeddings": s.tied,
        "rope_parameters": {"rope_type": "default", "rope_theta": s.rope_base}, "attn_implementation": "eager",
    }  # fmt: skip
    kinds: tuple[Any, Any] = (Qwen3ForCausalLM, Qwen3Config) if s.qk_norm else (LlamaForCausalLM, LlamaConfig)
    model = kinds[0](kinds[1](**settings)).to(getattr(torch, dtype))
    assert float(model.config.rope_parameters["rope_theta"]) == s.rope_base
    named = dict(model.named_parameters())
    assert set(named) == {their_name(name) for name in parameters}
    for name, array in parameters.items():
        named[their_name(name)].data = torch.tensor(half_split(array, name, s), dtype=getattr(torch, dtype))
    model.tie_weights()
    return model


def their_step(model: Any, s: ModelSpec, ids: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, float]:
    """Logits [vocab, tokens] and the mean loss; targets of -1 do not count. Gradients are in the model."""
    import torch

    logits = model(torch.tensor(ids).reshape(s.batch, s.seq)).logits.flatten(0, 1)  # [tokens, vocab]
    loss: Any = torch.nn.functional.cross_entropy(logits, torch.tensor(targets).reshape(-1), ignore_index=-1)
    loss.backward()
    return logits.detach().T.numpy(), loss.item()


def their_gradients(model: Any, s: ModelSpec, names: Mapping[str, Any]) -> Arrays:
    """By our names, rows of q and k in our order."""
    named = dict(model.named_parameters())
    return {name: as_stored(named[their_name(name)].grad.numpy(), name, s) for name in names}
