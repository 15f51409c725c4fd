"""Text from a model: the prompt on the device, then one token after the other on the CPU.

    with open_engine(device, model, weights, capacity=256) as engine:
        for token in generate(engine, tokenizer.encode("Once", bos=True), Sampler(temperature=0.8, seed=1), most=100):
            ...

docs/generation.md says what runs where.
"""

from anetrain.generation.decode import Decoder
from anetrain.generation.engine import CachedEngine, Engine, RecomputingEngine, open_engine, why_not_cached
from anetrain.generation.generate import generate, texts
from anetrain.generation.prefill import Prefill
from anetrain.generation.sampling import Sampler

__all__ = [
    "CachedEngine",
    "Decoder",
    "Engine",
    "Prefill",
    "RecomputingEngine",
    "Sampler",
    "generate",
    "open_engine",
    "texts",
    "why_not_cached",
]
