"""What a training run is: a YAML file of three sections, checked before anything starts."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from srflow_sdk.errors import ArgumentError
from srflow_training.data import CropSettings
from srflow_training.model import RRDB, SRFlow, SRFlowConfig

Decay = Literal["steps", "cosine"]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Optimisation.

    iterations: length of the run. learning_rate: Adam's, at the start; betas: Adam's.
    decay: "steps" halves the rate at 50, 75, 90 and 95 % (as published), "cosine" goes to zero.
    freeze_encoder: share of the iterations in which the LR encoder is not trained.
    noise: standard deviation of the Gaussian noise on HR, in 8-bit levels (4/√3 as published).
    clip_norm: gradients are scaled down to this norm. encoder: file to start the LR encoder from; none if empty.
    save_every, log_every, validate_every: in iterations. seed: of the weights, the crops and the noise.
    """

    iterations: int
    learning_rate: float = 5e-4
    betas: tuple[float, float] = (0.9, 0.99)
    decay: Decay = "steps"
    freeze_encoder: float = 0.5
    noise: float = 4 / math.sqrt(3)
    clip_norm: float = 5.0
    encoder: str = ""
    save_every: int = 500
    log_every: int = 50
    validate_every: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas) if isinstance(self.betas, (list, tuple)) else ())
        for name in ("iterations", "save_every", "log_every", "validate_every"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"schedule.{name} is {getattr(self, name)}; it must be at least 1")
        ranges = {
            "learning_rate": 0 < self.learning_rate <= 1,
            "betas": len(self.betas) == 2 and all(isinstance(b, (int, float)) and 0 <= b < 1 for b in self.betas),
            "freeze_encoder": 0 <= self.freeze_encoder <= 1,
            "noise": 0 <= self.noise < math.inf,
            "clip_norm": 0 < self.clip_norm < math.inf,
            "seed": 0 <= self.seed < 2**31,
        }
        for name, good in ranges.items():
            if not good:
                raise ArgumentError(f"schedule.{name} is {getattr(self, name)}, which is out of range")
        if self.decay not in get_args(Decay):
            raise ArgumentError(f"schedule.decay is {self.decay!r}; it is one of {', '.join(get_args(Decay))}")

    def learning_rate_at(self, iteration: int) -> float:
        """Learning rate of this iteration, counted from 0."""
        progress = iteration / self.iterations
        if self.decay == "cosine":
            return self.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
        return self.learning_rate * 0.5 ** sum(progress >= step for step in (0.5, 0.75, 0.9, 0.95))


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """A whole run: the network (an SRFlow, or an RRDB to start one from), its crops, its schedule."""

    network: Mapping[str, Any]
    crops: CropSettings
    schedule: Schedule
    raw: Mapping[str, Any] = field(repr=False)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> RunSettings:
        """Raises: ArgumentError naming the field that is wrong or unknown."""
        unknown = set(raw) - {"network", "data", "schedule"}
        if unknown:
            raise ArgumentError(f"unknown sections {', '.join(sorted(unknown))}; there are network, data, schedule")
        for name, section in raw.items():
            if section is not None and not isinstance(section, Mapping):
                raise ArgumentError(f"section {name} is {section!r}; fields were expected")
        network, data, schedule = (dict(raw.get(name) or {}) for name in ("network", "data", "schedule"))
        for name in ("scale", "seed"):
            if name in data:
                raise ArgumentError(f"data.{name} cannot be set: it follows from network.scale and schedule.seed")
        if network.get("kind") not in ("srflow", "rrdb"):
            raise ArgumentError(f"network.kind is {network.get('kind')!r}; it is srflow or rrdb")
        seed = schedule.get("seed", 0)
        settings = cls(
            network=network,
            crops=_checked(CropSettings, "data", {**data, "scale": network.get("scale", 4), "seed": seed}),
            schedule=_checked(Schedule, "schedule", schedule),
            raw=raw,
        )
        multiple = settings.crops.scale * (settings.flow_config().size_multiple if network["kind"] == "srflow" else 1)
        if settings.crops.crop < multiple or settings.crops.crop % multiple:
            raise ArgumentError(f"data.crop is {settings.crops.crop}; this network needs multiples of {multiple}")
        return settings

    def flow_config(self) -> SRFlowConfig:
        """The SRFlow network. Raises: ArgumentError."""
        values = {name: value for name, value in self.network.items() if name not in ("kind", "variant")}
        return SRFlowConfig.of_variant(self.network.get("variant", "bounded"), **values)

    def build(self) -> SRFlow | RRDB:
        """The network, freshly initialised. Raises: ArgumentError."""
        if self.network["kind"] == "srflow":
            model = SRFlow(self.flow_config())
            model.encoder.initialize()
            return model
        values = {name: value for name, value in self.network.items() if name != "kind"}
        self.flow_config()  # for its checks: the fields have the same names and ranges
        try:
            encoder = RRDB(**values)
        except TypeError as error:
            raise ArgumentError(f"network: {error}") from error
        encoder.initialize()
        return encoder


def _checked(kind: type[Any], section: str, values: Mapping[str, Any]) -> Any:
    known = {item.name: str(item.type) for item in fields(kind)}
    checked = {}
    for name, value in values.items():
        if name not in known:
            raise ArgumentError(f"unknown field {section}.{name}; {section} has {', '.join(known)}")
        checked[name] = _number(f"{section}.{name}", known[name], value)
    try:
        return kind(**checked)
    except TypeError as error:
        raise ArgumentError(f"{section}: {error}") from error


def _number(name: str, annotation: str, value: Any) -> Any:
    """The value as its field's type. YAML reads 1e-3 (without a point) as text: a number is meant."""
    if annotation == "float" and isinstance(value, (str, int)) and not isinstance(value, bool):
        with contextlib.suppress(ValueError):
            value = float(value)
    kind = {"int": int, "float": float, "str": str}.get(annotation)
    if kind is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        wanted = {int: "a whole number", float: "a number", str: "a text"}[kind]
        raise ArgumentError(f"{name} is {value!r}; {wanted} was expected")
    return value


def preset_names() -> list[str]:
    """Names that `--config` knows without a file."""
    folder = resources.files("srflow_training") / "presets"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_settings(config: str, overrides: tuple[str, ...] = ()) -> RunSettings:
    """A preset by name or a YAML file by path, with `section.field=value` overrides. Raises: ArgumentError."""
    if config in preset_names():
        text = (resources.files("srflow_training") / "presets" / f"{config}.yaml").read_text(encoding="utf-8")
    elif Path(config).is_file():
        try:
            text = Path(config).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ArgumentError(f"{config}: cannot be read as YAML: {error}") from error
    else:
        raise ArgumentError(f"no configuration {config!r}: name a YAML file or a preset ({', '.join(preset_names())})")
    try:
        raw = yaml.safe_load(text)
        if not isinstance(raw, dict):
            raise ArgumentError(f"{config}: sections network, data and schedule were expected")
        for override in overrides:
            name, separator, value = override.partition("=")
            section, dot, key = name.partition(".")
            if not separator or not dot or not key:
                raise ArgumentError(
                    f"--set {override}: section.field=value was expected, e.g. schedule.iterations=2000"
                )
            fields_of_section = raw.setdefault(section, {})
            if not isinstance(fields_of_section, dict):
                raise ArgumentError(f"{config}: section {section} holds no fields")
            fields_of_section[key] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ArgumentError(f"{config}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    return RunSettings.from_dict(raw)


def dump_settings(settings: RunSettings) -> str:
    """YAML of the resolved run: what was left out is written with the value that was used."""
    resolved = {
        "network": dict(settings.network),
        "data": {name: value for name, value in asdict(settings.crops).items() if name not in ("scale", "seed")},
        "schedule": {**asdict(settings.schedule), "betas": list(settings.schedule.betas)},
    }
    return yaml.safe_dump(resolved, sort_keys=False)
