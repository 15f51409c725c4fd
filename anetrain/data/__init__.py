"""Token ids, and batches of them."""

from anetrain.data.sampler import Batch, Sampler, Windows

__all__ = ["Batch", "Sampler", "Windows"]
