"""The config of a run: a YAML file with one section per concern, checked whole before anything else happens.

    config = load(Path("configs/stories110m.yaml"), ["optim.lr=1e-4"])
    config.optim.lr

Every refusal names the field: `optim.lrr: no such setting; did you mean 'lr'?`. docs/config.md lists all fields; it is
written from the classes here, as is the JSON Schema for editors.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from anetrain.graph.builder import Precision as Arithmetic
from anetrain.lower import Granularity
from anetrain.pipeline.extras import Extra, chosen
from anetrain.schedule import Kind
from anetrain.spec import Rope

BUILTIN = "builtin"


class ConfigError(ValueError):
    """What is wrong with a config: where, what was found, what is expected."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, populate_by_name=True)


class ModelSection(Section):
    """What is trained. The sizes come from a preset, from `weights`, or are all given here."""

    preset: str | None = Field(default=None, description="one of anetrain.model.PRESETS, such as stories110m")
    weights: str | None = Field(
        default=None, description="finetune: a llama2.c file, a Hugging Face folder, a checkpoint; needs `seq`"
    )
    import_: str | None = Field(
        default=None, alias="import", description="package.module:build, a function that makes a Model of a ModelSpec"
    )
    seq: int | None = Field(default=None, ge=1, description="tokens of a sequence")
    dim: int | None = Field(default=None, ge=1, description="width of the residual stream")
    hidden: int | None = Field(default=None, ge=1, description="width of the feed-forward network")
    layers: int | None = Field(default=None, ge=1, description="how many blocks")
    heads: int | None = Field(default=None, ge=1, description="query heads")
    kv_heads: int | None = Field(default=None, ge=1, description="key and value heads; divides `heads`")
    head_dim: int | None = Field(default=None, ge=1, description="width of a head")
    vocab: int | None = Field(default=None, ge=1, description="rows of the embedding; every token id is less")
    norm_eps: float | None = Field(default=None, gt=0, description="added under the root of RMSNorm")
    rope: Rope | None = Field(default=None, description="which elements of a head RoPE pairs")
    rope_base: float | None = Field(default=None, gt=0, description="RoPE's base")
    qk_norm: bool | None = Field(default=None, description="norms of q and k, as Qwen3 has")
    tied: bool | None = Field(default=None, description="the classifier is the embedding")
    residual_scale: float | None = Field(default=None, gt=0, description="factor of what blocks add to the stream")

    @property
    def sizes(self) -> dict[str, Any]:
        """The fields of ModelSpec that are given."""
        return self.model_dump(exclude={"preset", "weights", "import_"}, exclude_none=True)

    @model_validator(mode="after")
    def _one_source(self) -> ModelSection:
        if self.weights is None:
            return self
        if self.preset is not None:
            raise ValueError("has both `preset` and `weights`; a file of weights says its sizes itself")
        if set(self.sizes) != {"seq"}:
            raise ValueError("with `weights`, `seq` must be given and no other size: the file has them")
        return self


class DataSection(Section):
    """What it is trained on."""

    path: str = Field(
        default=BUILTIN,
        description="builtin (generated stories), a token shard, or a folder with train.bin and validation.bin",
    )
    fallback: Literal["builtin"] | None = Field(
        default=None, description="what is used, and said so, where there is nothing at `path`"
    )
    stories: int = Field(default=4000, ge=20, description="how many builtin stories, about 230 tokens each")
    validation: str | None = Field(
        default=None, description="a token shard; else one beside the data, or the data's end"
    )
    validation_fraction: float = Field(
        default=0.01, gt=0, lt=1, description="held out where there is no other validation data"
    )
    validation_tokens: int = Field(default=8192, ge=2, description="how many of them a validation takes, at most")


class TrainSection(Section):
    """How long, and in which portions."""

    updates: int = Field(default=1000, ge=1, description="updates of the weights in all; the schedule is over these")
    batch: int = Field(default=1, ge=1, description="sequences of a micro-step")
    accumulation: int = Field(default=1, ge=1, description="micro-steps of an update")
    seed: int = Field(default=0, ge=0, description="of first weights and of the order of data")
    validate_every: int | None = Field(default=100, ge=1, description="updates between validations; null: none")


class GroupItem(Section):
    """Parameters that are treated otherwise."""

    patterns: str | list[str] = Field(description="names such as layers.*.attention.*")
    lr_factor: float = Field(default=1.0, ge=0, description="multiplies the learning rate")
    decay: float | None = Field(default=None, ge=0, description="replaces weight_decay")


class OptimSection(Section):
    """The optimizer."""

    kind: Literal["adamw", "sgd"] = Field(default="adamw", description="sgd has no momentum, and no betas and eps")
    lr: float = Field(default=3e-4, gt=0, description="the highest learning rate")
    betas: list[float] = Field(
        default=[0.9, 0.95], min_length=2, max_length=2, description="decay of the running means"
    )
    eps: float = Field(default=1e-8, gt=0, description="AdamW's epsilon")
    weight_decay: float = Field(default=0.1, ge=0, description="of matrices; gains and biases have none")
    decay_embedding: bool = Field(default=False, description="the embedding decays, too")
    clip: float | None = Field(default=1.0, gt=0, description="the largest norm of the gradient; null: not clipped")
    groups: list[GroupItem] = Field(
        default=[], description="lists of patterns, lr_factor, decay; the first that matches counts"
    )

    @model_validator(mode="after")
    def _check_betas(self) -> OptimSection:
        if not all(0.0 <= beta < 1.0 for beta in self.betas):
            raise ValueError(f"betas is {self.betas}; expected two numbers, at least 0 and below 1")
        return self


class ScheduleSection(Section):
    """The learning rate by update."""

    kind: Kind = Field(default="cosine", description="what follows the warm-up")
    warmup: int = Field(default=0, ge=0, description="updates until the highest rate")
    min_ratio: float = Field(default=0.1, ge=0, le=1, description="the last rate, as a share of the highest")
    cooldown: int | None = Field(default=None, ge=0, description="wsd: updates of the fall at the end; null: a fifth")


class PrecisionSection(Section):
    """Numbers on the device."""

    arithmetic: Arithmetic = Field(default="fp16", description="fp32: emulator only, nothing is rounded")
    loss_scale: float = Field(default=65536.0, ge=1, description="the first one, a power of two")
    growth_interval: int = Field(default=200, ge=1, description="good updates before it may double")


class PipelineSection(Section):
    """How the model becomes programs."""

    kind: Literal["dynamic", "static"] = Field(
        default="dynamic",
        description="dynamic: weights are inputs of programs that are compiled once; static: weights are baked into "
        "programs, which are compiled anew at each update",
    )
    layout: Literal["stacked", "separate", "packed"] = Field(
        default="stacked", description="how weights reach the device in a dynamic pipeline"
    )
    granularity: Granularity = Field(default="fused", description="the largest programs to try")
    extras: Literal["none", "all"] | Extra | list[Extra] = Field(
        default="none", description="also on the device: norms, final_norm, classifier, or a list of them"
    )
    save_probabilities_up_to: int = Field(default=512, ge=0, description="sequences beyond it compute attention again")
    overlap: bool | None = Field(default=None, description="weight gradients beside the device; null: on a real one")
    background: bool = Field(
        default=False,
        description="static: programs of an update are compiled while those before them run, so that baked weights are "
        "one update behind",
    )
    restart: bool = Field(
        default=True, description="go on in a new process when this one may not compile what the next update needs"
    )

    @field_validator("extras", mode="before")
    @classmethod
    def _known_extras(cls, given: Any) -> Any:
        chosen(given)  # says what is wrong better than a mismatch with three types
        return given

    @model_validator(mode="after")
    def _of_this_kind(self) -> PipelineSection:
        if self.kind == "static" and self.layout != "stacked":
            raise ValueError(f"layout is {self.layout}, which is for kind dynamic; static has no choice of a layout")
        if self.kind == "dynamic" and self.background:
            raise ValueError("background is true, which is for kind static: dynamic compiles nothing at an update")
        return self


class DeviceSection(Section):
    """Where it runs."""

    kind: str = Field(default="auto", description="auto, ane, emulator or emulator:PROFILE")
    executor: Literal["fast", "reference", "audit"] = Field(default="fast", description="of the emulator")
    allow_unproven: bool = Field(
        default=False, description="operations without direct evidence compile, with a warning"
    )
    live_budget: int = Field(default=100, ge=1, description="programs loaded at once")
    compile_budget: int = Field(default=100, ge=1, description="compiles of a process")
    watchdog_s: float | None = Field(default=30.0, gt=0, description="the longest evaluation; null: wait for ever")


class CheckpointSection(Section):
    """What is saved. One more is saved at the end, at a signal, and where a validation is the best so far."""

    every: int = Field(default=100, ge=1, description="updates between checkpoints")
    keep: int | None = Field(default=3, ge=1, description="how many stay, and the best one; null: all")


class LogSection(Section):
    """What is shown."""

    every: int = Field(
        default=10, ge=1, description="updates between lines where there is no terminal for a progress bar"
    )
    telemetry: bool | str | None = Field(
        default=None,
        description="lines of JSON as earlier trainers wrote them: true (telemetry.jsonl in the run's folder), stdout, "
        "stderr, or the path of a file",
    )


class Config(Section):
    """A whole run."""

    model: ModelSection
    data: DataSection = DataSection()
    train: TrainSection = TrainSection()
    optim: OptimSection = OptimSection()
    schedule: ScheduleSection = ScheduleSection()
    precision: PrecisionSection = PrecisionSection()
    pipeline: PipelineSection = PipelineSection()
    device: DeviceSection = DeviceSection()
    checkpoint: CheckpointSection = CheckpointSection()
    log: LogSection = LogSection()

    def plain(self) -> dict[str, Any]:
        """As JSON and YAML have it, defaults included."""
        return self.model_dump(by_alias=True)

    def text(self) -> str:
        """YAML that `load` gives this config of."""
        return str(yaml.safe_dump(self.plain(), sort_keys=False))

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        if self.schedule.warmup > self.train.updates:
            raise ValueError(
                f"schedule.warmup is {self.schedule.warmup}; expected at most train.updates, {self.train.updates}"
            )
        return self


SECTIONS: dict[str, type[Section]] = {
    name: info.annotation
    for name, info in Config.model_fields.items()
    if isinstance(info.annotation, type) and issubclass(info.annotation, Section)
}

# ---------------------------------------------------------------- reading


def load(path: Path, changes: Iterable[str] = ()) -> Config:
    """`changes` are "section.key=value", the value in YAML."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8: {error.reason} at byte {error.start}") from error
    return parse(text, changes, name=str(path))


def parse(text: str, changes: Iterable[str] = (), *, name: str = "config") -> Config:
    content = _yaml(text, name)
    if not isinstance(content, dict):
        raise ConfigError(f"{name}: expected sections such as `model:`, found {_short(content)}")
    for change in changes:
        _apply(content, change)
    return check(content, name)


def check(content: Mapping[str, Any], name: str = "config") -> Config:
    """The config of plain data, such as `plain` gives."""
    # "mode before" of pydantic would take `model: null` for a section that is missing
    filled = {key: {} if value is None and key in SECTIONS else value for key, value in content.items()}
    try:
        return Config.model_validate(filled)
    except ValidationError as error:
        found = [_sentence(item["loc"], item["type"], item["msg"], item.get("input")) for item in error.errors()]
        raise ConfigError(f"{name}: {'; '.join(found)}") from None


def _apply(content: dict[str, Any], change: str) -> None:
    place, equals, value = change.partition("=")
    names = place.strip().split(".")
    if not equals or len(names) != 2 or not all(names):
        raise ConfigError(f"--set {change}: expected section.key=value, such as optim.lr=1e-4")
    section = content.get(names[0])
    if section is None:
        section = content[names[0]] = {}
    if not isinstance(section, dict):
        raise ConfigError(f"--set {change}: {names[0]} is {_short(section)} in the file; expected a section")
    section[names[1]] = _yaml(value, f"--set {change}")


def _sentence(place: tuple[int | str, ...], kind: str, message: str, found: Any) -> str:
    where = ".".join(map(str, place))
    if kind == "extra_forbidden":
        known = _names_at(place[:-1])
        near = difflib.get_close_matches(str(place[-1]), known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
        return f"{where}: no such {'setting' if len(place) > 1 else 'section'}; {hint}"
    if kind == "missing":
        return f"{where}: is missing"
    if kind == "value_error":
        return f"{where}: {message.removeprefix('Value error, ')}".removeprefix(": ")
    return f"{where} is {_short(found)}: {message[:1].lower()}{message[1:]}"


def _names_at(place: tuple[int | str, ...]) -> list[str]:
    section: type[BaseModel] = Config
    if place:
        section = GroupItem if len(place) > 1 else SECTIONS[str(place[0])]
    return [info.alias or name for name, info in section.model_fields.items()]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


# ---------------------------------------------------------------- YAML


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML 1.2's scalars: 1e-5 is a number, `on` and `no` are texts, 010 is ten; a key may be there once."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML's own; empty here, filled below)


for _tag, _pattern, _first in (
    ("bool", r"true|false", "tf"),
    ("null", r"~|null|", ["~", "n", ""]),
    ("int", r"[-+]?[0-9][0-9_]*", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), list(_first))


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node))


def _construct_map(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        if not isinstance(key, str) or key in seen:
            problem = f"{key!r} is there twice" if isinstance(key, str) else f"the key {key!r} is no text"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
        seen.add(key)
    return dict(loader.construct_mapping(node, deep=True))


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_constructor("tag:yaml.org,2002:map", _construct_map)


def _yaml(text: str, name: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{name}{where}: not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(f"{name}: not valid YAML: {' '.join(str(error).split())}") from error


# ---------------------------------------------------------------- for people and editors


def json_schema() -> dict[str, Any]:
    return Config.model_json_schema(by_alias=True)


def tables() -> str:
    """All sections in Markdown."""
    parts = []
    for name, section in SECTIONS.items():
        lines = [f"### {name}", _flat(section.__doc__ or ""), "", "| field | default | meaning |", "|---|---|---|"]
        for field_name, info in section.model_fields.items():
            default = yaml.safe_dump(info.default, default_flow_style=True).split("\n")[0]
            choices = _choices(info.annotation)
            meaning = f"{info.description}{f' ({choices})' if choices else ''}"
            lines.append(f"| `{info.alias or field_name}` | {default} | {meaning} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _choices(annotation: Any) -> str:
    """Of a Literal, or of one that may be None."""
    for kind in (annotation, *getattr(annotation, "__args__", ())):
        if getattr(kind, "__origin__", None) is Literal:
            return ", ".join(f"`{choice}`" for choice in kind.__args__)
    return ""


def _flat(text: str) -> str:
    return " ".join(text.split())
