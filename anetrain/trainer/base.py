"""The Trainer: groups of micro-steps, the update behind them, and what happens when something fails.

    trainer = Trainer.build(device, Model.preset("tiny-llama"), updates=200, lr=1e-3)
    trainer.fit(Sampler(tokens, batch=1, seq=64, vocab=512), 200)
    loss = trainer.evaluate(Windows(held_out, batch=1, seq=64, vocab=512)).loss

A group that fails leaves no trace: weights, optimizer and gradients are as if it had not begun. Values that are not
finite halve the loss scale, and training goes on with the next data; after a failure of the device the same group is
run again.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import fields, replace
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from anetrain import events
from anetrain.account import Account
from anetrain.compaction import Compaction, CompactPipeline
from anetrain.device import Device
from anetrain.errors import ANEError, DeviceUnavailable, EvalError
from anetrain.mil.types import Array
from anetrain.model import Model
from anetrain.optim import AdamW, Group, Optimizer, OptimizerState
from anetrain.optim import StepResult as OptimizerStep
from anetrain.pipeline import NonFiniteError, Pipeline, make_pipeline
from anetrain.scaler import FIRST, LossScaler
from anetrain.schedule import Kind, Schedule
from anetrain.trainer.arguments import (
    Batches,
    MicroBatch,
    Pair,
    Resumable,
    check_run,
    check_whole,
    checked_progress,
)
from anetrain.trainer.diagnosis import diagnose
from anetrain.trainer.errors import DeviceFailedError, DeviceLostError, DivergedError
from anetrain.trainer.results import Evaluation, FitResult, StepResult, TrainerState

Result = TypeVar("Result")

_log = logging.getLogger(__name__)


def _nothing() -> None:
    """Before an update."""


class Trainer:
    """`schedule`: the learning rate by the number of the update, from 0. `accumulation`: micro-steps in a group.
    `retries`: how often a group is run again when the device fails. `listeners` hear all events (anetrain.events).
    """

    def __init__(
        self,
        pipeline: Pipeline | CompactPipeline,
        optimizer: Optimizer,
        schedule: Callable[[int], float],
        *,
        scaler: LossScaler | None = None,
        accumulation: int = 1,
        listeners: Iterable[events.Listener] = (),
        retries: int = 3,
    ) -> None:
        check_whole("accumulation", accumulation, 1)
        check_whole("retries", retries, 0)
        self.pipeline, self.optimizer, self.schedule = pipeline, optimizer, schedule
        self.scaler = scaler or LossScaler()
        self.accumulation, self.retries = accumulation, retries
        self.events = events.Events()
        for listener in listeners:
            self.events.add(listener)
        self.micro_steps = 0
        """Whose data was taken, whatever became of their group."""
        self.tokens = 0
        """That counted in updates."""
        self.best_loss: float | None = None
        """Of all validations."""
        self.before_update: Callable[[], object] = _nothing
        """Called when weights and running means are about to change: what is still being saved of them is copied."""
        self._account: Account = pipeline.account
        self._is_staged = False  # weights may have been loaded into the pipeline since it was made
        pipeline.clear_gradients()

    @classmethod
    def build(
        cls,
        device: Device,
        model: Model,
        weights: Mapping[str, Array] | None = None,
        *,
        updates: int,
        seed: int = 0,
        lr: float = 1e-3,
        schedule: Kind = "cosine",
        warmup: int | None = None,
        min_ratio: float = 0.1,
        accumulation: int = 1,
        weight_decay: float = 0.1,
        clip: float | None = 1.0,
        groups: Iterable[Group] = (),
        loss_scale: float = FIRST,
        compaction: Compaction | None = None,
        listeners: Iterable[events.Listener] = (),
        retries: int = 3,
        **options: Any,
    ) -> Trainer:
        """With a Pipeline, AdamW and a schedule over so many updates, the first twentieth of them warm-up unless said
        otherwise. `options` are those of make_pipeline: layout, precision, overlap, ..."""
        rates = Schedule(schedule, lr, updates, updates // 20 if warmup is None else warmup, min_ratio)
        scaler = LossScaler(loss_scale)
        begin = time.perf_counter()
        options |= {"seed": seed}
        pipeline: Pipeline | CompactPipeline
        if compaction is None:
            pipeline = make_pipeline(device, model, weights, **options)
        else:
            pipeline = CompactPipeline(device, model, compaction, weights, **options)
        seconds = time.perf_counter() - begin
        arrays = pipeline.model.parameters, pipeline.weights, pipeline.gradients
        optimizer = AdamW(*arrays, groups=groups, weight_decay=weight_decay, clip=clip)
        trainer = cls(
            pipeline,
            optimizer,
            rates,
            scaler=scaler,
            accumulation=accumulation,
            listeners=listeners,
            retries=retries,
        )
        trainer.tell_compiles("model", (0, 0), seconds, trainer.events.emit)
        return trainer

    # ------------------------------------------------------------ a group

    @property
    def updates(self) -> int:
        """How many the weights have had."""
        return self.optimizer.updates

    def step(self, batches: Batches) -> StepResult:
        """One group: up to `accumulation` pairs (ids, targets), and an update from the mean over all tokens that count.

        From an iterator the next `accumulation` pairs are taken, or what is left.
        """
        if isinstance(batches, Sized) and len(batches) > self.accumulation:
            raise ValueError(f"a group of {len(batches)} batches; accumulation is {self.accumulation}")
        result = self._step(iter(batches))
        if result is None:
            raise ValueError("a group without a batch; expected at least one pair (ids, targets)")
        return result

    def _step(self, batches: Iterator[Pair]) -> StepResult | None:
        """None at the end of the data."""
        self._account.start()
        with self._account.part("data"):
            group = [MicroBatch.copied(pair) for pair in islice(batches, self.accumulation)]
        if not group:
            return None
        tokens = sum(batch.tokens for batch in group)
        if not tokens:
            raise ValueError("no target of the group counts: all are -1. Leave out such batches")
        result = StepResult(self.updates, self.schedule(self.updates), self.scaler.scale, len(group), tokens)
        try:
            self._stage()
            loss, replays = self._replayed(partial(self._accumulate, group, tokens))
            result = replace(result, loss=loss, replays=replays)
            stepped = self._update(group, result.lr, tokens)
            result = replace(result, applied=True, update=self.updates, norm=stepped.norm, clipped=stepped.clipped)
            if self.pipeline.can_stage():
                self._stage(stepped.copied)
        except NonFiniteError as error:
            result = replace(result, reason=self._drop(group, error))
        except FloatingPointError as error:
            raise DivergedError(f"update {self.updates + 1}: {error}. {self._diagnosis()}") from error
        except BaseException:
            self.pipeline.clear_gradients()
            if result.applied:  # staging has failed, and the update stays
                self._told(result)
            raise
        return self._told(result)

    def _told(self, result: StepResult) -> StepResult:
        """With the time it took. Listeners hear of an update."""
        spent = self._account.stop()
        result = replace(result, seconds=spent.seconds, parts=spent.parts)
        if result.applied:
            self.events.emit(events.Update(**{item.name: getattr(result, item.name) for item in fields(events.Update)}))
        return result

    def _accumulate(self, group: list[MicroBatch], tokens: int) -> float:
        """The mean loss. Gradients are sums over tokens behind it."""
        total = 0.0
        for number, batch in enumerate(group, self.micro_steps + 1):
            before = self._account.so_far()
            mean = self.pipeline.micro_step(
                batch.ids, batch.targets, loss_scale=self.scaler.scale, weight=float(batch.tokens)
            )
            total += mean * batch.tokens
            spent = self._account.so_far().since(before)
            self._emit(events.Step(number, mean, batch.tokens, spent.seconds, spent.parts))
        return total / tokens

    def _update(self, group: list[MicroBatch], lr: float, tokens: int) -> OptimizerStep:
        with self._account.part("saving"):
            self.before_update()
        with self._account.part("update"):
            largest = self.pipeline.largest_output
            self._is_staged = False
            stepped = self._stepped(lr, tokens)
            if not stepped.finite:
                self._is_staged = True
                raise NonFiniteError("update", [f"the norm of the gradients ({stepped.norm:g})"])
            self.scaler.good(largest)
            self.tokens += tokens
            self.micro_steps += len(group)
        return stepped

    def _stepped(self, lr: float, tokens: int) -> OptimizerStep:
        copies = self.pipeline.copies if self.optimizer.takes_copies else None
        if copies is None:
            return self.optimizer.step(lr, count=tokens)
        return self.optimizer.step(lr, count=tokens, copies=copies)

    def _stage(self, copied: bool = False) -> None:
        """Unless the device has these weights already. Programs that have weights baked in are compiled anew. `copied`:
        the update has made copies on its way."""
        if self._is_staged:
            return
        made, failure, before = self._made, self.pipeline.compile_failure, self._account.so_far()
        with self._account.part("restaging"):
            self.pipeline.stage(copied)
        self._is_staged = True
        seconds = self._account.so_far().since(before).parts.get("compiling", 0.0)
        if self._made != made or seconds:
            self.tell_compiles("weights", made, seconds, self._emit)
        self._tell_failure(failure, self._emit)

    @property
    def needs_restart(self) -> bool:
        """The device has not these weights, and this process may not compile the programs that have them: save, and go
        on in a new process. Never so where weights are not baked into programs."""
        return not self._is_staged and not self.pipeline.can_stage()

    def baked_weights(self) -> dict[str, Array]:
        """Between groups: what the next group's programs are made of, where it is not the newest weights. State, beside
        `pipeline.weights` and `state`; for `StaticPipeline(..., baked=...)`."""
        made, failure, begin = self._made, self.pipeline.compile_failure, time.perf_counter()
        found = self.pipeline.baked_weights(self._is_staged)
        if self._made != made:  # begun by the last stage, and waited for here
            self.tell_compiles("weights", made, time.perf_counter() - begin, self.events.emit)
        self._tell_failure(failure, self.events.emit)
        return found

    @property
    def _made(self) -> tuple[int, int]:
        """Programs compiled, and loaded from what was compiled before."""
        return self.pipeline.compiles, self.pipeline.cache_loads

    def tell_compiles(self, label: str, before: tuple[int, int], seconds: float, emit: events.Listener) -> None:
        """What was made since the pipeline's counts of compiles and cache loads were `before`."""
        found, (compiles, cache_loads) = self.pipeline.device.counters(), self._made
        counts = found.compiles, found.live_programs, cache_loads - before[1]
        emit(events.Compile(label, compiles - before[0], seconds, *counts))

    # ------------------------------------------------------------ what fails

    def _tell_failure(self, before: ANEError | None, emit: events.Listener) -> None:
        failure = self.pipeline.compile_failure
        if failure is not None and failure is not before:
            emit(events.CompileFailure(self.updates, str(failure)))

    def _drop(self, group: list[MicroBatch], error: NonFiniteError) -> str:
        """Why. The gradients are zero already; what the device put out at this scale says nothing about the next."""
        reason = f"{error.where}: not finite: {', '.join(error.values)}"
        _ = self.pipeline.largest_output
        try:
            self.scaler.overflow(len(error.values))
        except FloatingPointError as floor:
            raise DivergedError(f"{reason}; {floor}. {self._diagnosis()}") from floor
        self.micro_steps += len(group)
        seconds = self._account.so_far().seconds
        self._emit(events.Overflow(self.updates, reason, len(error.values), self.scaler.scale, seconds))
        return reason

    def _replayed(self, work: Callable[[], Result]) -> tuple[Result, int]:
        """What the work gives, and how often it had to be done again."""
        failures: list[str] = []
        while True:
            try:
                return work(), len(failures)
            except ANEError as error:
                if isinstance(error, DeviceUnavailable) or self.pipeline.device.counters().poisoned:
                    raise DeviceLostError(
                        f"the device is lost after {self.updates} updates: {error}. What has begun since is undone; "
                        "save a checkpoint and go on in a new process"
                    ) from error
                if not isinstance(error, EvalError):
                    raise
                failures.append(str(error))
                replays = len(failures) <= self.retries
                self._emit(events.Failure(self.updates, str(error), replays))
                if not replays:
                    raise DeviceFailedError(
                        f"the device failed {len(failures)} times at the same work, after {self.updates} updates: "
                        f"{'; '.join(dict.fromkeys(failures))}. What has begun since is undone"
                    ) from error

    def _diagnosis(self) -> str:
        return diagnose(self.pipeline.weights, self.pipeline.stack)

    def _emit(self, event: events.Event) -> None:
        """Within a group: what listeners take is a part of its time."""
        with self._account.part("events"):
            self.events.emit(event)

    # ------------------------------------------------------------ runs

    def fit(
        self,
        data: Batches,
        updates: int | None = None,
        *,
        validation: Batches | None = None,
        validate_every: int | None = None,
    ) -> FitResult:
        """So many more updates, or as many as there is data for. `validation`: after every `validate_every` updates
        and at the end; it is iterated each time.

        When it ends with an exception, data with a state goes back to the begin of the group that left no trace.
        """
        check_run(updates, validation, validate_every)
        batches, first, dropped = iter(data), self.updates, 0
        last: StepResult | None = None
        checked: Evaluation | None = None
        while updates is None or self.updates - first < updates:
            result = self._step_or_rewind(batches, data)
            if result is None:
                break
            last = result
            if not result.applied:
                dropped += 1
            elif validation is not None:
                due = validate_every is not None and self.updates % validate_every == 0
                checked = self.validate(validation) if due else None
        if updates is not None and self.updates - first < updates:
            _log.warning("the data ended after %d of %d updates", self.updates - first, updates)
        if validation is not None and checked is None:
            checked = self.validate(validation)
        return FitResult(self.updates - first, dropped, last, checked)

    def _step_or_rewind(self, batches: Iterator[Pair], data: Batches) -> StepResult | None:
        before = self.updates
        position = data.state() if isinstance(data, Resumable) else None
        try:
            return self._step(batches)
        except BaseException:
            if isinstance(data, Resumable) and position is not None and self.updates == before:
                data.load_state(position)
            raise

    def evaluate(self, data: Batches) -> Evaluation:
        """The mean loss over all tokens that count, of finite data."""
        self._stage()
        total, tokens = 0.0, 0
        for ids, targets in data:
            loss, _ = self._replayed(partial(self.pipeline.evaluate, ids, targets))
            total, tokens = total + loss.sum, tokens + loss.count
        if not tokens:
            raise ValueError("no target of the data counts: there is no batch, or all targets are -1")
        return Evaluation(total / tokens, tokens)

    def validate(self, data: Batches) -> Evaluation:
        """An evaluation that listeners hear of, and that counts for `best_loss`."""
        begin = time.perf_counter()
        found = self.evaluate(data)
        best = math.isfinite(found.loss) and (self.best_loss is None or found.loss < self.best_loss)
        if best:
            self.best_loss = found.loss
        seconds = time.perf_counter() - begin
        self.events.emit(events.Validation(self.updates, found.loss, found.tokens, seconds, best))
        return found

    # ------------------------------------------------------------ state

    def state(self, data: Resumable | None = None) -> TrainerState:
        """Between groups. The weights are in pipeline.weights."""
        optimizer = self.optimizer.state()
        values = {
            "optimizer": optimizer.integers,
            "scaler": self.scaler.state(),
            "progress": {"micro_steps": self.micro_steps, "tokens": self.tokens, "best_loss": self.best_loss},
            "data": data.state() if data else None,
        }
        return TrainerState(optimizer.arrays, values)

    def load_state(self, state: TrainerState, data: Resumable | None = None) -> None:
        """Takes in what `state` gave; one that does not fit changes nothing. Weights are loaded into pipeline.weights
        before or after this, and staged by the next step."""
        expected = {"optimizer", "scaler", "progress", "data"}
        if state.values.keys() != expected:
            raise ValueError(f"state has {', '.join(sorted(state.values))}; expected {', '.join(sorted(expected))}")
        if (data is None) != (state.values["data"] is None):
            raise ValueError("one of the state and this call has data to go on with, and the other has not")
        progress = checked_progress(state.values["progress"])
        before = self.scaler.state(), data.state() if data else None
        try:
            self.scaler.load_state(state.values["scaler"])
            if data:
                data.load_state(state.values["data"])
            self.optimizer.load_state(OptimizerState(state.arrays, state.values["optimizer"]))
        except BaseException:
            self.scaler.load_state(before[0])
            if data and before[1]:
                data.load_state(before[1])
            raise
        self.micro_steps, self.tokens, self.best_loss = progress
        self.pipeline.clear_gradients()
        self._is_staged = False
