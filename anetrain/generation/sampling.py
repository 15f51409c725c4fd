"""Which token comes next."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from anetrain.cpu._arrays import Floats


class Sampler:
    """One id of each row of logits it is called with.

    temperature  0: the most likely one, of equal ones the first. Else logits are divided by it
    top_k        only among so many most likely ones; None: among all
    top_p        only among the fewest, the most likely first, that together have this probability (behind top_k)
    seed         the same seed and the same logits give the same ids
    vocab        ids from here on, which the tokenizer does not know, never come; None: there are none
    """

    def __init__(
        self,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        seed: int = 0,
        vocab: int | None = None,
    ) -> None:
        if not 0.0 <= temperature < math.inf:
            raise ValueError(f"temperature is {temperature:g}; expected 0 (the most likely token) or a positive number")
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k is {top_k}; expected at least 1")
        if not 0.0 < top_p <= 1.0:
            raise ValueError(f"top_p is {top_p:g}; expected above 0, and at most 1")
        if vocab is not None and vocab < 1:
            raise ValueError(f"vocab is {vocab}; expected at least 1")
        if seed < 0:
            raise ValueError(f"seed is {seed}; expected 0 or more")
        self.temperature, self.top_k, self.top_p, self.vocab = temperature, top_k, top_p, vocab
        self._random = np.random.default_rng(seed)

    def __call__(self, logits: Floats) -> int:
        known = logits[: self.vocab]
        best = int(known.argmax())
        if not math.isfinite(known[best]):  # NaN counts as the largest
            raise FloatingPointError(f"the logit of id {best} is {known[best]}: weights or activations are not finite")
        if self.temperature == 0.0:
            return best
        ids, likelihoods = self._candidates(known, float(known[best]))
        reached = likelihoods.cumsum()
        at = int(reached.searchsorted(self._random.random() * reached[-1], side="right"))
        at = min(at, len(reached) - 1)
        return at if ids is None else int(ids[at])

    def _candidates(
        self, logits: Floats, largest: float
    ) -> tuple[npt.NDArray[np.intp] | None, npt.NDArray[np.float64]]:
        """Ids (None: all) and how likely each is, not yet divided by the sum."""
        ids: npt.NDArray[np.intp] | None = None
        if self.top_k is not None and self.top_k < len(logits):
            ids = _most_likely(logits, self.top_k)
            logits = logits[ids]
        with np.errstate(over="ignore"):  # of a tiny temperature: to minus infinity, a likelihood of 0
            likelihoods = np.exp((logits.astype(np.float64) - largest) / self.temperature)
        if self.top_p < 1.0:
            kept = _nucleus(likelihoods, self.top_p)
            ids = kept if ids is None else ids[kept]
            likelihoods = likelihoods[kept]
        return ids, likelihoods


def _most_likely(logits: Floats, count: int) -> npt.NDArray[np.intp]:
    """In the order of ids; of equal ones at the border, the first."""
    least = np.partition(logits, len(logits) - count)[len(logits) - count]
    above = np.flatnonzero(logits > least)
    border = np.flatnonzero(logits == least)[: count - len(above)]
    return np.sort(np.concatenate([above, border]))


def _nucleus(likelihoods: npt.NDArray[np.float64], share: float) -> npt.NDArray[np.intp]:
    """The fewest that together have this share of all, most likely first."""
    total = likelihoods.sum()
    # Those below this have together less than is left out: they need not be sorted.
    enough = np.flatnonzero(likelihoods >= (1.0 - share) * total / len(likelihoods))
    order = enough[np.argsort(-likelihoods[enough], kind="stable")]
    count = int(likelihoods[order].cumsum().searchsorted(share * total)) + 1
    return order[:count]
