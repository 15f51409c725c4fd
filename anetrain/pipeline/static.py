"""The static pipeline: weights are constants of programs, which are compiled anew after every update.

    pipeline = StaticPipeline(device, model, seed=0)     # BudgetError where one update is beyond what a process may do
    ...                                                  # as with Pipeline: micro_step, the update of pipeline.weights
    if pipeline.can_stage():
        pipeline.stage()                                 # programs whose weights have changed are compiled anew
    else:
        ...                                              # save, and go on in a new process

An engine limits how many programs are loaded at a time, and on some systems how often a process compiles at all. A
process that starts with weights takes one compile for each program with weights, and so does each update after it.
`budget()` has the figures of an update, and what is left. An old program is unloaded, and released, before its
successor is compiled, so no more programs are loaded at any time than the model has.

What a restart rests on
  - `stage` looks at the weights: what has not changed since it was baked is not compiled. So a process that goes on
    gives the saved weights to the constructor; loaded later they would be compiled after those of the constructor.
  - `can_stage` is exact for the weights as they are. Asked after an update, it tells whether the process can go on;
    where it cannot, weights, optimizer and gradients are those after the update, and ready to be saved.
  - `Trainer.needs_restart` is the same for a trainer, which leaves weights that cannot be staged where they are. The
    step after it raises the BudgetError that `stage` would.

When `stage` fails (a CompileError; a BudgetError, before anything is done) the weights are those of the update, and
nothing runs: neither old programs nor a mixture of both. Repeated, it compiles what is still missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from anetrain.autodiff import Derived
from anetrain.device import Device
from anetrain.errors import ANEError, BudgetError
from anetrain.lower import Layout
from anetrain.lower.ladder import lowered
from anetrain.lower.plan import Plan
from anetrain.mil.types import Array
from anetrain.model import Model
from anetrain.pipeline.background import BackgroundBaking
from anetrain.pipeline.base import Pipeline
from anetrain.pipeline.errors import PlanError
from anetrain.pipeline.graphs import PartGraph
from anetrain.pipeline.layer import Layer
from anetrain.pipeline.programs import Changes, CompiledPlan, used_programs
from anetrain.pipeline.stack import Part


@dataclass(frozen=True)
class UpdateBudget:
    """compiles       that an update of all weights takes
    compiles_left  of this process, whoever compiled in it
    places         programs that are loaded after it, and never more meanwhile
    places_left    for them: those that they have now, and free ones
    """

    compiles: int
    compiles_left: int
    places: int
    places_left: int

    @property
    def updates_left(self) -> int:
        """Whose programs this process can compile."""
        if not self.compiles:
            raise ValueError("no weight of this model is baked into a program: updates take no compiles")
        return self.compiles_left // self.compiles


class StaticPipeline(Pipeline):
    """What a Pipeline is, with weights baked into programs. A weight of which an output is computed alone is staged.

    background   programs are compiled while those before them run, so that from the second step on they are one update
                 behind; see background.py. A compile that fails is no error then: `baking.failure` has it
    baked        what `baked_weights` gave of the run that goes on: the first programs are made of it. The first `stage`
                 begins those of the newest weights
    """

    LAYOUTS: ClassVar[tuple[Layout, ...]] = ("baked",)

    def __init__(
        self,
        device: Device,
        model: Model,
        weights: Mapping[str, Array] | None = None,
        *,
        background: bool = False,
        baked: Mapping[str, Array] | None = None,
        **options: Any,
    ) -> None:
        if baked and not background:
            raise PlanError("baked weights that are not the newest are for programs made in the background")
        self._first_baked = dict(baked or {})
        self._baked_names: list[dict[str, str]] = []  # of each layer, by the names that it has for them
        self._needs: dict[str, tuple[int, int]] = {}  # of all layers that are like this one: compiles, places
        self._in_background, self._counted = background, (0, 0)
        self.baking: BackgroundBaking | None = None
        super().__init__(device, model, weights, **options)
        if background:
            self.baking = BackgroundBaking(self.stack.layers, self._given())
        self._first_baked = {}

    def budget(self) -> UpdateBudget:
        counters = self.device.counters()
        used = max(counters.compiles, self.baking.reserved if self.baking else 0)
        own = {id(program) for compiled in self._compiled for program in compiled.programs.values()}
        compiles, places = (sum(each) for each in zip(*self._needs.values(), strict=True))
        return UpdateBudget(
            compiles,
            max(0, counters.compile_budget - used),
            places,
            max(0, counters.live_budget - counters.live_programs) + len(own),
        )

    def can_stage(self) -> bool:
        budget = self.budget()
        if self.baking:  # its places come and go
            return budget.compiles <= budget.compiles_left or not self._changes()
        if budget.places > budget.places_left:
            return False
        return budget.compiles <= budget.compiles_left or _count(self._changes()) <= budget.compiles_left

    @property
    def copies(self) -> None:
        return None

    @property
    def is_behind(self) -> bool:
        """Programs in place are of other weights than these."""
        return bool(self._changes())

    def baked_weights(self, staged: bool) -> dict[str, Array]:
        """The arrays never change; `stage` takes others for them."""
        if self.baking is None:
            return {}
        if not staged:
            self._counted_while(self.baking, self.baking.finish)  # as the `stage` to come would
        layers = zip(self._baked_names, self.baking.in_place, strict=True)
        return {name: weights[own] for names, weights in layers for own, name in names.items()}

    @property
    def compile_failure(self) -> ANEError | None:
        return self.baking.failure if self.baking else None

    def unload(self) -> None:
        if self.baking:
            self.baking.close()
        super().unload()

    # ------------------------------------------------------------ inside

    def _stage(self, copied: bool = False) -> None:
        if self.baking:
            self._advance(self.baking)
        elif not self._in_background:  # else the constructor has just compiled them
            self._bake()
        super()._stage(copied)

    def _advance(self, baking: BackgroundBaking) -> None:
        if not self.can_stage():
            self._check_left(self.budget().compiles)
        self._counted_while(baking, baking.advance)

    def _counted_while(self, baking: BackgroundBaking, work: Callable[[], object]) -> None:
        with self.account.part("compiling"):  # what is waited for
            work()
        self.compiles += baking.compiles - self._counted[0]
        self.cache_loads += baking.cache_loads - self._counted[1]
        self._counted = baking.compiles, baking.cache_loads

    def _bake(self) -> None:
        with self.account.part("restaging"):
            changes = self._changes()
            self._check_left(_count(changes))
            with self._counting():
                for layer, changed in changes:
                    layer.bake(changed)

    def _changes(self) -> list[tuple[Layer, Changes]]:
        found = [(layer, layer.changed()) for layer in self.stack.layers]
        return [(layer, changed) for layer, changed in found if changed]

    def _check_left(self, count: int) -> None:
        left = self.budget().compiles_left
        if count > left:
            raise BudgetError(
                f"the new weights take {count} compiles, and this process has {left} left of "
                f"{self.device.counters().compile_budget}; nothing was compiled. Save, and go on in a new process"
            )

    def _check_size(self, derived: Derived, label: str, layers: int) -> None:
        """By the largest programs there are; more of smaller ones are refused once they have to be taken."""
        saved = self._options["save_probabilities_up_to"]
        self._fused[label] = lowered(derived, self.device, self.layout, save_probabilities_up_to=saved)
        self._admit(self._fused[label], label, layers)

    def _admit(self, plan: Plan, label: str, layers: int) -> None:
        programs = [plan.programs[index] for index in used_programs(plan, self.trains)]
        baked = sum(bool(program.constants) for program in programs) * layers
        alone = len({program.program.text for program in programs if not program.constants})
        sets = 2 if self._in_background else 1  # of programs: those in place, and those that are begun
        self._needs[label] = baked, sets * baked + alone
        budget, counters = self.budget(), self.device.counters()
        compiles = sets * budget.compiles
        if compiles > counters.compile_budget or budget.places > counters.live_budget:
            half = "Without programs made in the background (pipeline.background: false) it is half of it. "
            raise BudgetError(
                f"one update of this model takes {compiles} compiles and {budget.places} loaded programs, and "
                f"the budget of a process is {counters.compile_budget} compiles and {counters.live_budget} loaded "
                f"programs. {half if self._in_background else ''}Use the dynamic pipeline (pipeline.kind: dynamic), "
                "which compiles once for all layers and updates, or fewer layers"
            )
        done = sum(compiled.compiles for compiled in self._compiled)
        if compiles > budget.compiles_left + done or budget.places > budget.places_left:
            raise BudgetError(
                f"this model takes {compiles} compiles and {budget.places} loaded programs, and this process "
                f"has {budget.compiles_left} compiles and {budget.places_left} places left: unload what else there "
                "is, or start in a new process"
            )

    def _build(self, graphs: list[PartGraph], keys: list[object], firsts: dict[object, Derived]) -> list[Part]:
        self.model.check_weights({**self.weights, **self._first_baked})
        parts = super()._build(graphs, keys, firsts)
        compiled = zip(graphs, (item for _, item, _, _ in parts), strict=True)
        self._baked_names = [{own: graph.prefix + own for own in item.baked_names} for graph, item in compiled]
        self._check_baked({name for names in self._baked_names for name in names.values()})
        return parts

    def _check_baked(self, needed: set[str]) -> None:
        given = self._first_baked.keys()
        if given and given != needed:
            missing, unknown = (", ".join(sorted(names)) or "none" for names in (needed - given, given - needed))
            raise PlanError(
                "the programs to go on with were made of other weights than those that these bake in: missing "
                f"{missing}; unknown {unknown}. Go on with the settings that the run had (pipeline.extras, "
                "pipeline.granularity), or with pipeline.background: false"
            )

    def _given(self) -> list[dict[str, Array]] | None:
        first = self._first_baked
        return [{own: first[name] for own, name in names.items()} for names in self._baked_names] if first else None

    def _made_of(self, name: str) -> Array:
        return self._first_baked.get(name, self.weights[name])

    def _for_equal_layer(self, first: CompiledPlan, weights: Mapping[str, Array]) -> CompiledPlan:
        return self._compile(first.plan, weights, first.name, like=first)


def _count(changes: list[tuple[Layer, Changes]]) -> int:
    return sum(len(changed) for _, changed in changes)


def make_pipeline(
    device: Device,
    model: Model,
    weights: Mapping[str, Array] | None = None,
    *,
    layout: Layout = "stacked",
    **options: Any,
) -> Pipeline:
    """The pipeline that has this layout: static where weights are baked, else dynamic. `options` are those of it."""
    kind = StaticPipeline if layout in StaticPipeline.LAYOUTS else Pipeline
    return kind(device, model, weights, layout=layout, **options)
