"""A run of `anetrain train`: what was asked for becomes a trainer and its listeners; updates, checkpoints, restarts.

asked = Asked(config, checkpoint, folder, steps, command, begin)
run = Run(asked, stack, restarts, signals, cache)
code = run.train()  # DONE, or RESTART; raises Stopped

What the user is told while it goes is said by its Progress. anetrain/train.py is the command around it.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from anetrain import assembly, events, files
from anetrain.assembly import Data, Found
from anetrain.checkpoint import Checkpoint, CheckpointError, Saving, State, Store, Tensors, checkpoints
from anetrain.commands.running import one_line
from anetrain.config import Config, ConfigError
from anetrain.device import ANEError, Device
from anetrain.efficiency import Totals, device_name, device_work, report_text, short_name
from anetrain.errors import BudgetError, CompileError, UnloadError
from anetrain.lower import GRANULARITIES, Granularity, LadderMemory
from anetrain.mil.types import Array
from anetrain.model import Model
from anetrain.pipeline.static import StaticPipeline
from anetrain.progress import Progress
from anetrain.restart import TRIES, Handover, RestartError, Restarts, Signals
from anetrain.telemetry import Telemetry
from anetrain.trainer import DeviceFailedError, DeviceLostError, DivergedError, Trainer, TrainerState

# Among the values of a checkpoint: what the run took, the last validation, how large its programs are.
TOTALS, VALIDATED, RUNGS = "totals", "validated", "rungs"
DONE = 0
RESTART = -1  # no exit code: a new process goes on, once everything here is closed


@dataclass(frozen=True)
class Asked:
    """`steps`: so many more updates; None: all that are left. `command`: that goes on with the run, for people.
    `begin`: time.perf_counter() before any of it was read."""

    config: Config
    checkpoint: Checkpoint | None
    folder: Path
    steps: int | None
    command: str
    begin: float


class Stopped(Exception):  # noqa: N818 (an end, which need not be a mistake)
    """Training had to stop. `errors`: what to say, the reason last."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = errors
        super().__init__("; ".join(map(one_line, errors)))


class Run:
    """Made whole or not at all: whatever is wrong with what was given is found before anything is written."""

    def __init__(
        self, asked: Asked, stack: ExitStack, restarts: Restarts, signals: Signals, cache: Path | None
    ) -> None:
        self.asked, self.restarts, self.signals = asked, restarts, signals
        self.config, self.checkpoint, self.folder = config, _, _ = asked.config, asked.checkpoint, asked.folder
        before = restarts.before
        self.found = assembly.find_model(config)
        self.data = assembly.find_data(config, self.found.model.spec)
        self._check(self.found, self.data)
        self.first = self.checkpoint.step if self.checkpoint else 0
        self.target = before.target if before else _target(asked.steps, self.first, config.train.updates)
        self.device: Device = stack.enter_context(assembly.open_device(config))
        spec = self.found.model.spec
        self.sampler, self.windows = self.data.sampler(config, spec), self.data.windows(spec)
        self.totals = Totals(begin=before.clock_s if before else None)
        prepared = time.perf_counter()
        if self.checkpoint is not None:  # the first programs may have weights in them
            model, saved = self.found.model, self.checkpoint
            self.found = replace(self.found, weights=_read(saved.weights, model, model.parameters))
            if config.pipeline.background:
                self.found = replace(self.found, baked=_read(saved.baked, model, saved.baked))
            had = _rungs(saved, config, self.device)
            self.found = replace(self.found, rungs=had, only_rungs=before is not None)
        loaded = time.perf_counter()
        self.memory = LadderMemory(cache / "ladder.json") if cache else None
        self.trainer = assembly.make_trainer(config, self.found, self.device, [self.totals], self.memory)
        self._setup_s = time.perf_counter() - loaded
        self.trainer.before_update = self._release
        self.restarted: events.Restarted | None = None
        if before is not None:
            self.restarted = events.Restarted(
                self.first, asked.begin - before.clock_s, prepared - asked.begin, loaded - prepared, self._setup_s
            )
        self.work = device_work(self.trainer.pipeline.stack, self.device.facts)
        if self.checkpoint is not None:
            _load(self.checkpoint, self.trainer, self.sampler, self.totals, before)
        self._validated: int = self.checkpoint.values.get(VALIDATED, self.first) if self.checkpoint else 0
        passing = self.checkpoint.path if self.checkpoint and before and before.passing else None
        store = Store(self.folder, step=self.first, keep=config.checkpoint.keep, passing=passing)
        self.store = stack.enter_context(store)
        with files.replacing(self.folder / "config.yaml", overwrite=True) as file:
            file.write(config.text().encode())
        self._keep_journal(stack)
        self._keep_telemetry(stack)
        stream = sys.stderr if sys.stderr.isatty() else sys.stdout
        shown = before.progress if before else None
        self.progress = Progress(stream, first=self.first, last=self.target, every=config.log.every, before=shown)
        stack.callback(self.progress.close)
        self.trainer.events.add(self.progress)
        self._doing = "the begin of the run"
        self._saving: Saving | None = None
        self._save_is_due = False
        self._loss: float | None = None  # of the last validation, if finite
        self._saved = (self.first, self._validated) if self.checkpoint else (-1, -1)

    def _check(self, found: Found, data: Data) -> None:
        """That fit each other: the data and the model, the config and the checkpoint."""
        if None not in (found.tokenizer, data.tokenizer) and found.tokenizer != data.tokenizer:
            raise ConfigError(
                f"model.weights were trained with the tokenizer {found.tokenizer}, and the data is of "
                f"{data.tokenizer}: ids mean other words; prepare the data with the model's tokenizer"
            )
        if self.checkpoint is not None:
            self.checkpoint.check_spec(found.model.spec, ignore=("batch",))
            self.checkpoint.check_tokenizer(data.tokenizer)
        assembly.make_schedule(self.config)
        assembly.check_telemetry(self.config)

    def _keep_journal(self, stack: ExitStack) -> None:
        """events.jsonl goes on where the checkpoint ends."""
        path = self.folder / "events.jsonl"
        if path.exists():
            events.forget_after(path, self.trainer.micro_steps, self._validated)
        journal = events.JsonLines(path)
        stack.callback(journal.close)
        self.trainer.events.add(journal)

    def _keep_telemetry(self, stack: ExitStack) -> None:
        wanted = self.config.log.telemetry
        if wanted is None or wanted is False:
            return
        stream = {"stdout": sys.stdout, "stderr": sys.stderr}.get(str(wanted))
        if stream is None:
            path = self.folder / "telemetry.jsonl" if wanted is True else Path(wanted)
            if path.exists():
                events.forget_after(path, self.trainer.micro_steps, self._validated)
            stream = stack.enter_context(path.open("a", encoding="utf-8"))
        self.trainer.events.add(Telemetry(stream, short_name(self.device.facts), self.work))

    # ------------------------------------------------------------ training

    def train(self) -> int:
        """DONE or RESTART. Raises Stopped."""
        try:
            self._introduce()
            reason = self._updates()
            if reason is not None:
                return self._restart(reason)
            self._save_and_settle()
            self._report()
        except (DivergedError, DeviceLostError, DeviceFailedError, RestartError, ANEError) as error:
            raise self._failed(error) from error
        except (CheckpointError, OSError) as error:
            raise Stopped(error) from error
        except MemoryError as error:
            raise self._out_of_memory(error) from error
        return DONE

    def _updates(self) -> str | None:
        """Until the target or a signal, or until a new process has to go on: why."""
        trainer = self.trainer
        while True:
            if trainer.needs_restart and self._may_restart():
                if self.signals.number is not None:
                    return None
                if trainer.updates < self.target or self._validation_is_due():
                    return "this process may not compile the programs of the new weights"
            best = self._validation_is_due() and self._validate()
            if best or (self._save_is_due and self._saving is None):  # else when the disk has done with the last one
                self._save()
            if trainer.updates >= self.target or self.signals.number is not None:
                return None
            try:
                self._doing = f"update {trainer.updates + 1}"
                trainer.fit(self.sampler, 1)
            except (BudgetError, CompileError) as error:  # perhaps for all that this process has compiled before
                if not self._may_restart():
                    raise
                self.progress.say(f"update {trainer.updates}: {one_line(error)}; a new process goes on")
                return one_line(error)
            if self._saving is not None and self._saving.done:
                self._settle()
            self._save_is_due |= trainer.updates % self.config.checkpoint.every == 0

    def _validation_is_due(self) -> bool:
        """By the number of the update alone, so that a run that was resumed validates where others do."""
        every, update = self.config.train.validate_every, self.trainer.updates
        due = every is not None and (update % every == 0 or update == self.config.train.updates)
        return due and self._validated != update

    def _validate(self) -> bool:
        """Whether it is the best so far."""
        self._doing = f"the validation after update {self.trainer.updates}"
        before, loss = self.trainer.best_loss, self.trainer.validate(self.windows).loss
        self._validated, self._loss = self.trainer.updates, loss if math.isfinite(loss) else None
        return self._loss is not None and (before is None or self._loss < before)

    # ------------------------------------------------------------ restarting

    def _may_restart(self) -> bool:
        return self.config.pipeline.restart and self.restarts.refusal() is None

    def _restart(self, reason: str) -> int:
        """Everything that the next process does not find in the checkpoint is handed over."""
        update = self.trainer.updates
        tries = self.restarts.tries(update)
        if not assembly.all_finite(self.trainer.pipeline.weights):
            raise DivergedError(f"update {update}: weights are not finite")
        self._save_and_settle(passing=not self._save_is_due)
        if tries > TRIES:
            raise RestartError(f"update {update}: {reason}. {TRIES} new processes have not come further")
        self.trainer.events.emit(events.Restart(update, reason, str(checkpoints(self.folder)[-1])))
        try:
            self.trainer.pipeline.unload()
        except UnloadError as error:
            self.progress.say(f"a program will be unloaded with the process: {error}")
        counted = time.perf_counter(), self.totals.state(), self.progress.hand_over()
        passing = self.store.passing is not None
        self.restarts.plan(Handover(self.target, update, reason, tries, *counted, passing), self.folder)
        return RESTART

    # ------------------------------------------------------------ saving

    def _save(self, *, passing: bool = False) -> None:
        """In the background, while micro-steps go on; `_release` is called before the next update."""
        self._settle()
        self._doing, self._save_is_due = f"the checkpoint of update {self.trainer.updates}", False
        baked, state = self.trainer.baked_weights(), self.trainer.state(self.sampler)
        self._saving = self.store.save_in_background(
            State(
                self.trainer.updates,
                self.found.model.spec,
                self.trainer.pipeline.weights,
                state.arrays,
                state.values
                | {TOTALS: self.totals.state(), VALIDATED: self._validated, RUNGS: self.trainer.pipeline.rungs},
                self.config.plain(),
                self._loss if self._validated == self.trainer.updates else None,
                self.data.tokenizer,
                *_place(self.device),
                baked,
            ),
            passing=passing,
        )
        self._saved = self.trainer.updates, self._validated

    def _release(self) -> None:
        """What the update that comes now would change, and is not on the disk, is copied, or waited for."""
        if self._saving is not None:
            self._saving.release()

    def _settle(self) -> None:
        """The save that was begun is complete."""
        saving, self._saving = self._saving, None
        if saving is not None:
            self._doing = f"the checkpoint of update {self._saved[0]}"
            saved = saving.wait()
            self.trainer.events.emit(events.Checkpoint(self._saved[0], str(saved.path), saved.bytes, saved.seconds))

    def _save_and_settle(self, *, passing: bool = False) -> None:
        if self._saved != (self.trainer.updates, self._validated):
            self._save(passing=passing)
        self._settle()

    # ------------------------------------------------------------ what is said

    def _introduce(self) -> None:
        """A process that another one has been replaced by goes on without a word."""
        self.trainer.tell_compiles("model", (0, 0), self._setup_s, self.trainer.events.emit)
        if self.restarted is not None:
            self.trainer.events.emit(self.restarted)
            return
        facts, model, say = self.device.facts, self.found.model, self.progress.say
        say(f"device: {device_name(facts)}: {facts['why']}")
        say(f"model: {model.parameter_count:,} parameters, {model.spec.layers} layers of {model.spec.dim}")
        for note in self.found.notes:
            say(f"note: {note}")
        say(f"data: {self.data.source}; validation: {len(self.data.validation):,} tokens")
        if self.data.warning:
            say(f"WARNING: {self.data.warning}")
        say(f"folder: {self.folder}")
        if self.checkpoint is not None:
            say(f"resumed: {self.checkpoint.path}, after update {self.first}")
            for line in _differences(self.checkpoint.config, self.config.plain()):
                say(f"changed since then: {line}")
        self._say_rungs()
        if (restarts := self._note_of_restarts()) is not None:
            say(f"note: {restarts}")
        figures: dict[str, float | int | str] = {"device": device_name(facts), "data": self.data.source}
        figures |= {"parameters": model.parameter_count, "update": self.first, "target": self.target}
        self.trainer.events.emit(events.Report("begin of run", figures))

    def _say_rungs(self) -> None:
        """Where programs are smaller than asked for, and where they are not those that the run has had."""
        asked, had = self.config.pipeline.granularity, self.found.rungs
        for label, rung in self.trainer.pipeline.rungs.items():
            why = self.trainer.pipeline.choices[label].explain()
            if label in had and had[label] != rung:
                self.progress.say(
                    f"WARNING: {label}: its programs were {had[label]}, and this process has {rung} ones ({why}): what "
                    "follows is not, bit for bit, what would have followed"
                )
                changed: dict[str, float | int | str] = {"layer": label, "before": had[label], "now": rung, "why": why}
                self.trainer.events.emit(events.Report("other programs", changed))
            elif rung != asked:
                kept = f" (remembered in {self.memory.path})" if self.memory and label not in had else ""
                self.progress.say(f"note: {label}: {why}{kept}")

    def _note_of_restarts(self) -> str | None:
        """Where programs are compiled anew at each update, and not for all updates in this process."""
        pipeline = self.trainer.pipeline
        if not isinstance(pipeline, StaticPipeline):
            return None
        budget, whole = pipeline.budget(), self.device.counters().compile_budget
        # The programs of the last one are for the next process to compile.
        updates = budget.updates_left + (0 if pipeline.is_behind else 1)
        if updates >= self.target - self.first:
            return None
        then = "goes on in a new process" if self._may_restart() else "ends, since it may not restart"
        if self.config.pipeline.background and self._may_restart():
            then += f", which takes {2 * budget.compiles} to begin with"
        return (
            f"an update takes {budget.compiles} compiles, and a process has {whole}: after {updates} "
            f"{'update' if updates == 1 else 'updates'} the run saves, and {then}"
        )

    def _report(self) -> None:
        report = self.totals.report(self.device.facts, self.work)
        self.trainer.events.emit(report)
        with files.replacing(self.folder / "report.json", overwrite=True) as file:
            file.write(json.dumps(events.plain(report.figures), indent=1, allow_nan=False).encode() + b"\n")
        self.progress.say(report_text(report))
        if self.trainer.updates < self.config.train.updates:
            what = f"stopped by {self.signals.name}" if self.signals.name else "stopped"
            self.progress.say(f"{what} after update {self.trainer.updates}. To go on:\n  {self.asked.command}")

    def _failed(self, error: Exception) -> Stopped:
        """What the failed group has left is as before it: that is saved, unless no one could go on from it."""
        figures: dict[str, float | int | str] = {"update": self.trainer.updates, "error": one_line(error)}
        self.trainer.events.emit(events.Report("stopped", figures))
        if assembly.all_finite(self.trainer.pipeline.weights):
            try:
                self._save_and_settle()
            except CheckpointError as second:
                return Stopped(second, error)
        return Stopped(error)

    def _out_of_memory(self, error: MemoryError) -> Stopped:
        """It may have come in the middle of an update, so nothing is saved but what was on its way."""
        found: list[Exception] = [RuntimeError(no_memory(error, self._doing))]
        figures: dict[str, float | int | str] = {"update": self.trainer.updates, "error": str(found[0])}
        self.trainer.events.emit(events.Report("stopped", figures))
        try:
            self._settle()
        except (CheckpointError, MemoryError) as second:
            found.insert(0, RuntimeError(f"the last checkpoint was not completed: {one_line(second)}"))
        return Stopped(*found)


def no_memory(error: MemoryError, doing: str) -> str:
    asked = "" if str(error) in ("", "std::bad_alloc") else f" ({one_line(error)})"
    return (
        f"there was not enough memory for {doing}{asked}. Less is needed with a smaller train.batch (and as much more "
        "train.accumulation), with a shorter model.seq, and without what else runs on this machine"
    )


# ---------------------------------------------------------------- resuming


def _target(steps: int | None, first: int, updates: int) -> int:
    """The number of the update to stop after."""
    if steps is not None and steps < 1:
        raise ConfigError(f"--steps is {steps}; expected at least 1")
    if first > updates:
        raise ConfigError(f"train.updates is {updates}, and the checkpoint is of update {first}")
    if steps is not None and first + steps > updates:
        raise ConfigError(
            f"--steps {steps}: the run has {updates - first} of {updates} updates left; for more, "
            f"--set train.updates={first + steps}"
        )
    return updates if steps is None else first + steps


def _read(tensors: Tensors, model: Model, names: Iterable[str]) -> dict[str, Array]:
    arrays: dict[str, Array] = {name: np.empty(model.parameters[name].shape, np.float32) for name in names}
    tensors.read_into(arrays)
    return arrays


def _rungs(checkpoint: Checkpoint, config: Config, device: Device) -> dict[str, Granularity]:
    """How large the programs of the run have been, where nothing has changed that decides it."""
    found = checkpoint.values.get(RUNGS, {})  # what was saved without `anetrain train` has none
    if not isinstance(found, dict) or any(rung not in GRANULARITIES for rung in found.values()):
        raise CheckpointError(checkpoint.path, f"values.rungs is {found!r}; expected one of {', '.join(GRANULARITIES)}")
    before, now = (
        {name: of.get(name) for name in _DECIDE}
        for of in (checkpoint.config.get("pipeline", {}), config.pipeline.model_dump())
    )
    place = checkpoint.device, checkpoint.profile
    return found if before == now and place == _place(device) else {}


def _place(device: Device) -> tuple[str, str]:
    """What computes, as checkpoints have it: an emulator and its profile, or an ane and its chip, if known."""
    facts = device.facts
    return facts["kind"], facts["profile"] if facts["kind"] == "emulator" else facts.get("chip", "")


_DECIDE = ("kind", "layout", "granularity", "extras", "save_probabilities_up_to")


def _load(checkpoint: Checkpoint, trainer: Trainer, sampler: Any, totals: Totals, before: Handover | None) -> None:
    """All but the weights. What the process before this one has counted goes further than the checkpoint."""
    values = dict(checkpoint.values)
    for name in (VALIDATED, RUNGS):
        values.pop(name, None)
    counted = values.pop(TOTALS, None)  # what was saved without `anetrain train` has none
    if before is not None:
        counted = before.totals
    try:
        trainer.load_state(TrainerState(dict(checkpoint.arrays), values), sampler)
        if counted is not None:
            totals.load_state(counted)
    except ValueError as error:
        raise CheckpointError(checkpoint.path, f"does not fit this config: {error}") from error


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Of two configs as plain data."""
    found = []
    for section, values in now.items():
        old = before.get(section, {})
        found += [
            f"{section}.{name} was {old.get(name)!r}, is {value!r}"
            for name, value in values.items()
            if old.get(name) != value
        ]
    return found
