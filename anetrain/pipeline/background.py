"""Baked weights compiled while the programs before them run: the device is one update behind, always by just as much.

    baking = BackgroundBaking([layer])
    ...                  # a step, the update of the weights: W1
    baking.advance()     # W1 are copied, their programs begun; the step that follows runs on those of W0
    ...                  # a step, the update: W2
    baking.advance()     # waits for the programs of W1, puts them in place, begins those of W2

What is waited for does not depend on timing, so neither do results: the baked weights of a step are those before the
last update, and whatever the host computes with (gains of norms, an embedding) is as new as the update made it. Both
sets of programs are loaded for a time, so twice the places are taken.

What a step depends on beside the newest weights are those that the programs in place were made of: `in_place`. Made
anew with both, and advanced once, this goes on as if it had never ended.

Where a compile fails, the old programs stay and go on; the log says so, as does `failure`, and the next `advance`
begins with the weights there are by then.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TypeAlias

from anetrain.device import Device, Program
from anetrain.errors import ANEError
from anetrain.mil.types import Array
from anetrain.pipeline.layer import Layer
from anetrain.pipeline.programs import Changes

_log = logging.getLogger(__name__)

# What one layer is to get: its number, its weights, and which programs they make old; and these programs.
_Task: TypeAlias = tuple[int, Mapping[str, Array], Changes]
_Built: TypeAlias = list[tuple[_Task, dict[int, Program]]]


class BackgroundBaking:
    """in_place        of each layer, the weights that its programs were made of; given where those are not the newest
    failure         why the last programs were not made; None where they were
    updates_behind  how many updates the programs in place have not seen: 1, and one more for each failure in a row
    compiles, cache_loads   of what was waited for, failed ones included
    reserved        compiles of the process, once what was begun is done
    """

    def __init__(self, layers: Sequence[Layer], in_place: Sequence[Mapping[str, Array]] | None = None) -> None:
        self._layers = list(layers)
        self.in_place: list[Mapping[str, Array]] = list(in_place or (layer.baked_weights() for layer in layers))
        self._worker = ThreadPoolExecutor(1, "baking")
        self._next: Future[_Built] | None = None
        self.compiles = self.cache_loads = self.reserved = 0
        self._made = (0, 0)  # compiles and cache loads; written by the worker, read when it is done
        self.failure: ANEError | None = None
        self.updates_behind = 0

    def advance(self) -> None:
        """After an update: what was begun takes its place, and programs of the weights as they are now are begun."""
        self.finish()
        tasks: list[_Task] = []
        for number, layer in enumerate(self._layers):
            weights = layer.baked_weights()
            changes = layer.compiled.changed(weights)
            if changes:
                tasks.append((number, weights, changes))
        if tasks:
            self.updates_behind += 1
            device = self._layers[0].compiled.device
            self.reserved = device.counters().compiles + sum(len(changes) for _, _, changes in tasks)
            self._next = self._worker.submit(self._build, tasks, device)

    def finish(self) -> None:
        """What was begun is in its place, or has failed, and nothing new is begun."""
        begun, self._next = self._next, None
        if begun is None:
            return
        try:
            built = begun.result()
        except ANEError as error:
            self.failure = error
            _log.warning("programs of the last update were not made, and the old ones go on: %s", error)
            return
        finally:
            self.compiles += self._made[0]
            self.cache_loads += self._made[1]
        self.failure, self.updates_behind = None, 0
        for (number, weights, changes), programs in built:
            self._layers[number].install(programs, changes)
            self.in_place[number] = weights

    def close(self) -> None:
        """What was begun is waited for and given up."""
        begun, self._next = self._next, None
        self._worker.shutdown(wait=True)
        if begun is not None and begun.exception() is None:
            _give_up(begun.result())

    def _build(self, tasks: Sequence[_Task], device: Device) -> _Built:
        """All of it or nothing."""
        before = device.counters()
        built: _Built = []
        try:
            for task in tasks:
                number, weights, changes = task
                built.append((task, self._layers[number].compiled.built(weights, changes)))
        except BaseException:
            _give_up(built)
            raise
        finally:
            after = device.counters()
            self._made = after.compiles - before.compiles, after.cache_loads - before.cache_loads
        return built

    def __enter__(self) -> BackgroundBaking:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _give_up(built: _Built) -> None:
    for _, programs in built:
        for program in programs.values():
            program.unload()
