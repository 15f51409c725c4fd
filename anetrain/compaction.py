"""A vocabulary of the ids that occur: less to compute where a data set uses a part of a large vocabulary.

    compaction = Compaction.of(tokens, vocab=151_936)
    pipeline = CompactPipeline(device, model, compaction)
    loss = pipeline.micro_step(ids, targets)     # ids of the full vocabulary; the loss among the active ids
    pipeline.evaluate(ids, targets).mean         # the loss of the full model, over all ids
    weights = pipeline.full_weights()            # active rows trained, all others as they were, bit for bit

What is trained is exactly the full model with a softmax over the active ids alone. Its loss is therefore lower than
that of the full model, by minus the log of the probability that the full model gives to all active ids together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from anetrain.account import Account
from anetrain.cpu._arrays import Floats
from anetrain.device import Device
from anetrain.errors import ANEError
from anetrain.lower import Choice, Granularity
from anetrain.model import Model
from anetrain.pipeline import CompiledPlan, Loss, Pipeline, Stack
from anetrain.pipeline.weights import WeightCopies
from anetrain.tokens import Tokens, check_tokens, pieces

Ids = npt.NDArray[np.int32]


class Compaction:
    """`active`: the ids of the full vocabulary that have a row, in ascending order; row i is that of active[i]."""

    def __init__(self, active: Tokens, vocab: int) -> None:
        check_tokens(active, vocab)
        if not len(active) or (np.diff(active.astype(np.int64)) <= 0).any():
            raise ValueError("active must hold at least one id, in ascending order, each once")
        self.active, self.vocab = active.astype(np.int32), vocab
        self._rows = np.full(vocab, -1, np.int32)
        self._rows[self.active] = np.arange(len(active), dtype=np.int32)

    @classmethod
    def of(cls, tokens: Tokens, vocab: int) -> Compaction:
        """Of the ids that occur in the data."""
        check_tokens(tokens, vocab)
        occurs = np.zeros(vocab, np.bool_)
        for _, piece in pieces(tokens):
            occurs[piece] = True
        return cls(np.flatnonzero(occurs), vocab)

    def __len__(self) -> int:
        return len(self.active)

    def rows(self, ids: npt.ArrayLike) -> Ids:
        """Ids of the full vocabulary as rows of the compact one. An id that has none is an error."""
        return self._found("ids", np.asarray(ids))

    def target_rows(self, targets: npt.ArrayLike) -> Ids:
        """Likewise, and -1, which does not count, stays as it is."""
        return self._found("targets", np.asarray(targets), ignored=-1)

    def ids(self, rows: npt.ArrayLike) -> Ids:
        """The way back, for text that a compact model makes."""
        return np.asarray(self.active[np.asarray(rows)], np.int32)

    def model(self, full: Model) -> Model:
        """The same blocks with a vocabulary of the active ids."""
        if full.spec.vocab != self.vocab:
            raise ValueError(f"the vocabulary of the model is {full.spec.vocab}; of the compaction, {self.vocab}")
        spec = replace(full.spec, vocab=len(self))
        return Model(spec, full.layers, embedding=full.embedding, classifier=full.classifier, causal=full.causal)

    # ------------------------------------------------------------ arrays with a row per id

    def gather(self, full: Model, arrays: Mapping[str, Floats]) -> dict[str, Floats]:
        """The compact model's arrays from those of the full one: active rows are copied, what else there is is shared.
        Also for the state of an optimizer, "mean.embedding"."""
        rows = self._row_parameters(full)
        return {name: array[self.active] if _has_rows(name, rows) else array for name, array in arrays.items()}

    def scatter(self, full: Model, compact: Mapping[str, Floats], into: Mapping[str, Floats]) -> None:
        """The way back: active rows are overwritten, and no other. Shared arrays are as they are."""
        rows = self._row_parameters(full)
        for name, array in compact.items():
            if _has_rows(name, rows):
                into[name][self.active] = array
            elif into[name] is not array:
                np.copyto(into[name], array)

    def _row_parameters(self, full: Model) -> set[str]:
        """Of the full model: those whose first axis is the vocabulary, found by making it longer."""
        spec = replace(full.spec, vocab=full.spec.vocab + 1)
        longer = Model(spec, full.layers, embedding=full.embedding, classifier=full.classifier)
        rows = set()
        for name, item in longer.parameters.items():
            own = full.parameters[name].shape
            if item.shape != own:
                if item.shape != (own[0] + 1, *own[1:]) or own[0] != self.vocab:
                    raise ValueError(f"{name} {list(own)} depends on the vocabulary, but its rows are not those of ids")
                rows.add(name)
        return rows

    def _found(self, what: str, given: npt.NDArray[Any], ignored: int | None = None) -> Ids:
        if given.dtype.kind not in "iu":
            raise ValueError(f"{what} is {given.dtype} {list(given.shape)}; expected whole numbers")
        inside = (given >= 0) & (given < self.vocab)
        rows = np.where(inside, self._rows[np.where(inside, given, 0)], -1)
        bad = (rows < 0) & (given != ignored)
        if bad.any():
            first = given[bad].flat[0]
            why = "is not one of the active ids" if 0 <= first < self.vocab else "is outside of the vocabulary"
            raise ValueError(
                f"{what}: {first} {why} ({len(self)} of {self.vocab}). Make the compaction of all data to train on"
            )
        return rows.astype(np.int32)


class CompactPipeline:
    """What a Pipeline is to a Trainer, with the active rows alone in `weights`, `gradients` and `model`.

    `training`: the Pipeline of these.

    Evaluation is that of the full model: its programs, which only run forward, are compiled when it is first asked for.
    """

    def __init__(
        self,
        device: Device,
        model: Model,
        compaction: Compaction,
        weights: Mapping[str, Floats] | None = None,
        *,
        seed: int = 0,
        **options: Any,
    ) -> None:
        self.device, self.full_model, self.compaction = device, model, compaction
        self.model = compaction.model(model)
        self._full_weights = model.initial(seed) if weights is None else dict(weights)
        model.check_weights(self._full_weights)
        self.training = Pipeline(device, self.model, compaction.gather(model, self._full_weights), **options)
        self._full: Pipeline | None = None
        self._full_is_staged = False
        self._options = options | {"trains": False}

    @property
    def weights(self) -> dict[str, Floats]:
        return self.training.weights

    @property
    def gradients(self) -> dict[str, Floats]:
        return self.training.gradients

    @property
    def account(self) -> Account:
        return self.training.account

    @property
    def stack(self) -> Stack:
        return self.training.stack

    @property
    def compiles(self) -> int:
        return self.training.compiles + (self._full.compiles if self._full else 0)

    @property
    def cache_loads(self) -> int:
        return self.training.cache_loads + (self._full.cache_loads if self._full else 0)

    @property
    def choices(self) -> dict[str, Choice[CompiledPlan]]:
        return self.training.choices

    @property
    def rungs(self) -> dict[str, Granularity]:
        return self.training.rungs

    @property
    def largest_output(self) -> float:
        return self.training.largest_output

    def micro_step(
        self, ids: npt.ArrayLike, targets: npt.ArrayLike, *, loss_scale: float = 2.0**16, weight: float = 1.0
    ) -> float:
        """The mean loss among the active ids. Ids and targets are those of the full vocabulary, and must be active."""
        try:
            rows, target_rows = self.compaction.rows(ids), self.compaction.target_rows(targets)
        except ValueError:
            self.clear_gradients()
            raise
        return self.training.micro_step(rows, target_rows, loss_scale=loss_scale, weight=weight)

    def evaluate(self, ids: npt.ArrayLike, targets: npt.ArrayLike) -> Loss:
        """The loss of the full model, for any ids."""
        if self._full is None:
            self._full = Pipeline(self.device, self.full_model, self.full_weights(), **self._options)
        elif not self._full_is_staged:
            self.full_weights()
            self._full.stage()
        self._full_is_staged = True
        return self._full.evaluate(ids, targets)

    def evaluate_active(self, ids: npt.ArrayLike, targets: npt.ArrayLike) -> Loss:
        """The loss among the active ids: what training lowers."""
        return self.training.evaluate(self.compaction.rows(ids), self.compaction.target_rows(targets))

    def full_weights(self) -> dict[str, Floats]:
        """Of the full model, with the rows that were trained. The arrays are the same at every call."""
        self.compaction.scatter(self.full_model, self.weights, self._full_weights)
        return self._full_weights

    @property
    def copies(self) -> WeightCopies | None:
        return self.training.copies

    def stage(self, copied: bool = False) -> None:
        self.training.stage(copied)
        self._full_is_staged = False

    def can_stage(self) -> bool:
        return self.training.can_stage()

    def baked_weights(self, staged: bool) -> dict[str, Floats]:
        return self.training.baked_weights(staged)

    @property
    def compile_failure(self) -> ANEError | None:
        return self.training.compile_failure

    def clear_gradients(self) -> None:
        self.training.clear_gradients()

    def unload(self) -> None:
        self.training.unload()
        if self._full is not None:
            self._full.unload()


def _has_rows(name: str, rows: set[str]) -> bool:
    """Either "embedding" or, of an optimizer, "mean.embedding"."""
    return name in rows or name.partition(".")[2] in rows
