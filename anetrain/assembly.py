"""What a config describes, made: the data, the model, the device, the trainer.

Everything that can be wrong with a config and the files that it names is found by `find_data` and `find_model`, before
the device is opened and before anything is written.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anetrain.device
from anetrain import events, formats
from anetrain.config import BUILTIN, Config, ConfigError, ModelSection
from anetrain.cpu import largest
from anetrain.data import Sampler, Windows, tokenizers
from anetrain.data.builtin import builtin_tokens
from anetrain.data.shards import open_tokens, read_info, split
from anetrain.data.tokenizers import builtin_tokenizer
from anetrain.device import Device
from anetrain.lower import Granularity, LadderMemory
from anetrain.mil.types import Array
from anetrain.model import PRESETS, Model
from anetrain.optim import SGD, AdamW, Group, Optimizer
from anetrain.pipeline import make_pipeline
from anetrain.scaler import LossScaler
from anetrain.schedule import Schedule
from anetrain.spec import ModelSpec
from anetrain.tokens import Tokens
from anetrain.trainer import Trainer

# ---------------------------------------------------------------- the model


@dataclass(frozen=True)
class Found:
    """`weights`: None where it begins at random; `notes`: what to tell the user; `tokenizer`: the hash, if known.
    `baked`, `rungs`: of a run that goes on, what its programs were made of, if not of these weights, and how large they
    were; `only_rungs`: it must not be with others."""

    model: Model
    weights: dict[str, Array] | None = None
    notes: tuple[str, ...] = ()
    tokenizer: str | None = None
    baked: dict[str, Array] | None = None
    rungs: Mapping[str, Granularity] = field(default_factory=dict)
    only_rungs: bool = False


def find_model(config: Config) -> Found:
    section = config.model
    if section.weights is not None:
        return _finetuned(section, section.weights, config.train.batch)
    return Found(_model(section, _spec(section, config.train.batch)))


def _spec(section: ModelSection, batch: int) -> ModelSpec:
    sizes = section.sizes | {"batch": batch}
    try:
        if section.preset is not None:
            return replace(Model.preset(section.preset).spec, **sizes)
        missing = [name for name in _NEEDED if name not in sizes]
        if missing:
            raise ValueError(f"without a preset ({', '.join(PRESETS)}) also needs {', '.join(missing)}")
        return ModelSpec(**sizes)
    except ValueError as error:
        raise ConfigError(f"model: {error}") from error


_NEEDED = ("dim", "hidden", "layers", "heads", "kv_heads", "head_dim", "vocab", "seq")


def _finetuned(section: ModelSection, path: str, batch: int) -> Found:
    loaded = formats.load(path)
    assert section.seq is not None  # the config checks it
    model = _model(section, replace(loaded.spec, seq=section.seq, batch=batch))
    weights = dict(loaded.weights)
    try:
        model.check_weights(weights)
    except ValueError as error:
        raise ConfigError(f"model.weights, {path}: {error}") from error
    notes = (f"weights: {path} ({loaded.format})", *loaded.notes)
    return Found(model, weights, notes, _tokenizer_of(Path(path), loaded))


def _tokenizer_of(path: Path, loaded: formats.Loaded) -> str | None:
    """The hash, where the model says which tokenizer its ids are of."""
    if loaded.format == "huggingface" and tokenizers.within(path) is not None:
        return tokenizers.load(path).hash
    return loaded.tokenizer


def _model(section: ModelSection, spec: ModelSpec) -> Model:
    return Model(spec) if section.import_ is None else imported_model(section.import_, spec)


def imported_model(name: str, spec: ModelSpec) -> Model:
    """What the function package.module:build makes of a spec."""
    build = _imported(name)
    try:
        model = build(spec)
    except Exception as error:
        raise ConfigError(f"model.import: {name} raised {type(error).__name__}: {error}") from error
    if not isinstance(model, Model):
        raise ConfigError(f"model.import: {name} returned {type(model).__name__}; expected a Model")
    return model


def _imported(name: str) -> Callable[[ModelSpec], object]:
    module_name, colon, attribute = name.partition(":")
    if not colon or not module_name or not attribute:
        raise ConfigError(f"model.import is {name!r}; expected package.module:function")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise ConfigError(f"model.import: {module_name}: {type(error).__name__}: {error}") from error
    build = getattr(module, attribute, None)
    if not callable(build):
        raise ConfigError(f"model.import: {module_name} has no function {attribute!r}")
    return build  # type: ignore[no-any-return]


# ---------------------------------------------------------------- the data


@dataclass(frozen=True)
class Data:
    """`source`: what was used, for people. `warning`: that it is not what was asked for. `tokenizer`: its hash."""

    train: Tokens
    validation: Tokens
    source: str
    tokenizer: str | None
    warning: str = ""

    def sampler(self, config: Config, spec: ModelSpec) -> Sampler:
        return Sampler(self.train, spec.batch, spec.seq, vocab=spec.vocab, seed=config.train.seed)

    def windows(self, spec: ModelSpec) -> Windows:
        return Windows(self.validation, spec.batch, spec.seq, vocab=spec.vocab)


def find_data(config: Config, spec: ModelSpec) -> Data:
    section = config.data
    if section.path == BUILTIN:
        data = _builtin(section.stories, spec)
    elif section.fallback is not None and not Path(section.path).exists():
        data = _builtin(section.stories, spec)
        warning = f"there is no {section.path}: training on the builtin stories instead, as data.fallback says"
        data = replace(data, warning=warning)
    else:
        data = _shards(config, spec)
    if section.validation is not None and section.path == BUILTIN:
        validation = open_tokens(Path(section.validation), vocab=spec.vocab, tokenizer=data.tokenizer)
        data = replace(data, validation=validation)
    if len(data.train) <= spec.seq:
        raise ConfigError(
            f"data: {len(data.train)} tokens; a sequence of {spec.seq} needs {spec.seq + 1}: use more data"
        )
    return replace(data, validation=data.validation[: section.validation_tokens])


def _builtin(count: int, spec: ModelSpec) -> Data:
    tokenizer = builtin_tokenizer()
    if spec.vocab < tokenizer.vocab:
        raise ConfigError(
            f"model.vocab is {spec.vocab}, and the builtin stories need {tokenizer.vocab}: make it larger, or give "
            "data.path"
        )
    train, validation = builtin_tokens(count, max(1, count // 50))
    return Data(train, validation, f"{count} builtin stories, {len(train):,} tokens", tokenizer.hash)


def _shards(config: Config, spec: ModelSpec) -> Data:
    section, path = config.data, Path(config.data.path)
    beside = path / "validation.bin" if path.is_dir() else None
    path = path / "train.bin" if path.is_dir() else path
    tokens = open_tokens(path, vocab=spec.vocab, least=spec.seq + 1)
    info = read_info(path)
    held_out = Path(section.validation) if section.validation is not None else beside
    if held_out is not None and (section.validation is not None or held_out.exists()):
        validation = open_tokens(held_out, vocab=spec.vocab, tokenizer=info.tokenizer)
    else:
        tokens, validation = split(tokens, section.validation_fraction, document_start=info.document_start)
    return Data(tokens, validation, f"{path}, {len(tokens):,} tokens", info.tokenizer)


# ---------------------------------------------------------------- device and trainer


def open_device(config: Config) -> Device:
    section = config.device
    return anetrain.device.open(
        section.kind,
        executor=section.executor,
        fp32=config.precision.arithmetic == "fp32",
        allow_unproven=section.allow_unproven,
        live_budget=section.live_budget,
        compile_budget=section.compile_budget,
        watchdog_s=section.watchdog_s,
    )


def make_schedule(config: Config) -> Schedule:
    section, lr, updates = config.schedule, config.optim.lr, config.train.updates
    try:
        return Schedule(section.kind, lr, updates, section.warmup, section.min_ratio, section.cooldown)
    except ValueError as error:
        raise ConfigError(f"schedule: {error}") from error


def make_scaler(config: Config) -> LossScaler:
    try:
        return LossScaler(config.precision.loss_scale, config.precision.growth_interval)
    except ValueError as error:
        raise ConfigError(f"precision.loss_scale: {error}") from error


def make_optimizer(
    config: Config, model: Model, weights: Mapping[str, Array], gradients: Mapping[str, Array]
) -> Optimizer:
    section = config.optim
    options: dict[str, Any] = {
        "groups": [Group(item.patterns, item.lr_factor, item.decay) for item in section.groups],
        "weight_decay": section.weight_decay,
        "decay_embedding": section.decay_embedding,
        "clip": section.clip,
    }
    arrays = model.parameters, weights, gradients
    if section.kind == "sgd":
        return SGD(*arrays, **options)
    return AdamW(*arrays, betas=(section.betas[0], section.betas[1]), eps=section.eps, **options)


def make_trainer(
    config: Config,
    found: Found,
    device: Device,
    listeners: Iterable[events.Listener] = (),
    memory: LadderMemory | None = None,
) -> Trainer:
    static = config.pipeline.kind == "static"
    options = {"background": config.pipeline.background, "baked": found.baked} if static else {}
    pipeline = make_pipeline(
        device,
        found.model,
        found.weights,
        seed=config.train.seed,
        layout="baked" if static else config.pipeline.layout,
        granularity=config.pipeline.granularity,
        extras=config.pipeline.extras,
        precision=config.precision.arithmetic,
        save_probabilities_up_to=config.pipeline.save_probabilities_up_to,
        overlap=config.pipeline.overlap,
        memory=memory,
        rungs=found.rungs,
        only_rungs=found.only_rungs,
        **options,
    )
    optimizer = make_optimizer(config, pipeline.model, pipeline.weights, pipeline.gradients)
    return Trainer(
        pipeline,
        optimizer,
        make_schedule(config),
        scaler=make_scaler(config),
        accumulation=config.train.accumulation,
        listeners=listeners,
    )


def check_telemetry(config: Config) -> None:
    """That the file that the config names can be made. It is not made here."""
    wanted = config.log.telemetry
    if not isinstance(wanted, str) or wanted in ("stdout", "stderr"):
        return
    path = Path(wanted)
    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise ConfigError(f"log.telemetry is {wanted}: {what}; expected true, stdout, stderr or the path of a file")


def all_finite(weights: Mapping[str, Array]) -> bool:
    return all(math.isfinite(largest(array)) for array in weights.values())
