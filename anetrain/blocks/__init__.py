"""The library of blocks. A block is its weights and its forward function; see docs/blocks.md for how to write one."""

from anetrain.blocks.attention import Attention, attend, causal_mask, join_heads, split_heads
from anetrain.blocks.base import Block, build
from anetrain.blocks.classifier import Classifier, build_logits, build_loss
from anetrain.blocks.embedding import Embedding, build_embedding
from anetrain.blocks.ffn import GeluFFN, SwiGLU
from anetrain.blocks.linear import Linear
from anetrain.blocks.llama import LlamaBlock
from anetrain.blocks.norm import LayerNorm, RMSNorm
from anetrain.blocks.qwen3 import Qwen3Block, qwen3_spec
from anetrain.blocks.rope import rope_tables, rotate
from anetrain.graph import BlockGraph, Value, bias, gain, matrix
from anetrain.spec import ModelSpec

__all__ = [
    "Attention",
    "Block",
    "BlockGraph",
    "Classifier",
    "Embedding",
    "GeluFFN",
    "LayerNorm",
    "Linear",
    "LlamaBlock",
    "ModelSpec",
    "Qwen3Block",
    "RMSNorm",
    "SwiGLU",
    "Value",
    "attend",
    "bias",
    "build",
    "build_embedding",
    "build_logits",
    "build_loss",
    "causal_mask",
    "gain",
    "join_heads",
    "matrix",
    "qwen3_spec",
    "rope_tables",
    "rotate",
    "split_heads",
]
