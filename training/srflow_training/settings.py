"""Settings of a training run: a YAML file of five sections, validated before anything starts."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from srflow_sdk.errors import ArgumentError
from srflow_sdk.model.manifest import Reduction
from srflow_sdk.system.local_files import real_path
from srflow_training._degradation_settings import Degradation, OptionalDegradation, with_fields
from srflow_training._objective_settings import Objective
from srflow_training._section import (
    Count,
    CountOrZero,
    Crops,
    Machines,
    Pixels,
    PixelsOrZero,
    Processes,
    Section,
    Share,
)
from srflow_training._yaml import parse_yaml, read_yaml
from srflow_training.model import Encoder, SRFlow, SRFlowConfig
from srflow_training.model.config import ENCODER_FIELDS, ENCODERS

Stage = Literal["flow", "encoder"]
ITERATIONS, ITERATIONS_FROM_SCRATCH = 200_000, 300_000


class DataSettings(Section):
    """How training crops are taken.

    crop: HR side in pixels, a multiple of scale·size_multiple. batch: crops per iteration, over all devices.
    choose_of: each crop is the most detailed of this many candidates in its photograph (sky and blur teach little).
    widest: photographs wider than this are halved until they are not (large ones are soft at full size); 0: never.
    narrowest: halved copies at least this wide are used as well as the photograph itself; 0: only the photograph.
    flip: random mirroring: "horizontal" (left and right), "both" (upside down, too) or "none".
    transposes: random exchange of rows and columns.
    hr_shift: HR is shifted by up to this many pixels against its LR image, in both axes (for content transfer).
    reduction: how LR images are made, "bicubic" (MATLAB's) or "bilinear" (for comparisons with work on faces).
    degradation: damages LR images as photographs are: "photo", "strong" or fields (`Degradation`); "off": never.
    lr: folder of LR images to use instead of making them, named like the HR ones (or with the scale appended: "x4").
    teacher: folder of pictures that another network made of the photographs' reductions (`benchmarks/teacher.py`), for
    an LR encoder's `objective.teacher`; named like the photographs, halved ones with "-halved1", "-halved2", … .
    late_crop, late_share: side of the crops in the last share of the iterations, with fewer per batch for the same
    cost; 0: never. Useful because the inverse is used on larger images than it was trained on.
    workers: processes that decode photographs, per device. cache: folder that keeps decoded photographs, so that
    crops need no decoding (3 bytes per pixel); "auto": the user's cache, if at most half of its free disk is needed;
    "off": none.
    """

    crop: Pixels
    batch: Crops
    choose_of: Crops = 1
    widest: CountOrZero = 0
    narrowest: CountOrZero = 0
    flip: Literal["horizontal", "both", "none"] = "both"
    transposes: bool = True
    hr_shift: PixelsOrZero = 0
    reduction: Reduction = "bicubic"
    degradation: OptionalDegradation = None
    lr: str = ""
    teacher: str = ""
    late_crop: PixelsOrZero = 0
    late_share: Share = 0.1
    workers: Processes = 2
    cache: str = "auto"

    @field_validator("cache", mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        return "off" if value in (False, "") else value  # YAML reads off as false; "" is off in older files

    @model_validator(mode="after")
    def _files_fit_their_photographs(self) -> DataSettings:
        if self.lr and (self.widest or self.narrowest):
            raise ValueError("lr: LR files only fit photographs at full size: set widest and narrowest to 0")
        if self.lr and self.degradation:
            raise ValueError("lr: LR files are used as they are: set data.degradation=off, or leave out data.lr")
        return self

    def at(self, progress: float) -> tuple[int, int]:
        """Crop and batch when this share of the iterations is done."""
        if self.late_crop and progress >= 1 - self.late_share:
            return self.late_crop, max(1, round(self.batch * (self.crop / self.late_crop) ** 2))
        return self.crop, self.batch


class Schedule(Section):
    """Optimisation by Adam.

    start: checkpoint that the whole network starts from (fine-tuning; actnorms stay as they are). encoder: RRDB,
    ESRGAN-family, plain or SRFlow file that the LR encoder starts from, instead of start's own, which may then be
    another one. Empty: random weights.
    iterations: length of the run; default 200,000, or 300,000 with neither start nor encoder (as published).
    freeze_encoder: first share of the iterations, without training the LR encoder; default 0.5, or 0 with neither.
    learning_rate: initial value. betas: Adam's. decay: "steps" halves the rate at 50, 75, 90 and 95 % (as published),
    "cosine" goes to zero. warmup: iterations in which the rate rises from zero.
    accumulate: number of parts in which each process computes its share of an iteration's batch, one after the other,
    so that a large batch fits into memory. `data.batch` stays the batch of an update, and the result is the same up to
    rounding. At most one part for each crop.
    clip_norm: gradients are scaled down to this norm; 0: never.
    ema: decay of the moving average of the weights, which is validated and saved for export; 0: no average.
    best: validation metric, e.g. gmsd_tau0.8, of which best.safetensors is the best checkpoint; empty: none is kept.
    validate_crops: how many crops of the validation folder are measured, spread over all its photographs: one of each
    at most, or several if there are fewer photographs. validate_size: their side in pixels, at most.
    save_every, log_every, validate_every: in iterations. keep: how many saved states stay on disk.
    seed: for the weights, the crops and the noise.
    """

    iterations: Count = ITERATIONS
    encoder: str = ""
    start: str = ""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 5e-4
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.99)
    decay: Literal["steps", "cosine"] = "steps"
    warmup: CountOrZero = 0
    freeze_encoder: Share = 0.5
    accumulate: Crops = 1
    clip_norm: Annotated[float, Field(ge=0)] = 5.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999
    best: str = ""
    save_every: Count = 500
    log_every: Count = 50
    validate_every: Count = 1000
    validate_crops: Crops = 8
    validate_size: Annotated[int, Field(ge=64, le=1 << 14)] = 256
    keep: Count = 3
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @model_validator(mode="before")
    @classmethod
    def _from_scratch(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and not values.get("encoder") and not values.get("start"):
            return {"iterations": ITERATIONS_FROM_SCRATCH, "freeze_encoder": 0.0, **values}
        return values

    def learning_rate_at(self, iteration: int) -> float:
        """Learning rate of this iteration, counted from 0."""
        progress = iteration / self.iterations
        rate = self.learning_rate * min(1.0, (iteration + 1) / (self.warmup + 1))
        if self.decay == "cosine":
            return rate * 0.5 * (1 + math.cos(math.pi * progress))
        return rate * 0.5 ** sum(progress >= step for step in (0.5, 0.75, 0.9, 0.95))


class Hardware(Section):
    """Where and how a run computes; apart from rounding, it does not affect what is learned.

    accelerator: cpu, cuda, or auto: cuda if there is a GPU. devices: per node. nodes: machines; start each with the
    same command, as for Lightning Fabric or torchrun. precision: fp32, bf16 (convolutions of the encoder and of the
    conditional nets in bfloat16, the flow's state in float32), or auto: the one whose steps are faster on this
    processor; a resumed run keeps its own. channels_last: memory layout of images. compile: use torch.compile for
    the loss, which takes minutes at first. threads: CPU threads per process; 0: those with
    which steps are fastest, timed at the start and again when they become slower.
    """

    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: Machines = 1
    nodes: Machines = 1
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    channels_last: bool = True
    compile: bool = False
    threads: Processes = 0


class RunSettings(Section):
    """A whole run: the network (an SRFlow, or an LR encoder to start it from), data, objective, schedule, hardware."""

    network: dict[str, Any]
    data: DataSettings
    objective: Objective = Objective()
    schedule: Schedule = Schedule()
    hardware: Hardware = Hardware()

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> RunSettings:
        """Validate raw sections. Raises: ArgumentError naming the field that is wrong or unknown."""
        # YAML reads a section without fields as None
        raw = {name: {} if section is None else section for name, section in {"schedule": {}, **raw}.items()}
        network, objective = raw.get("network"), raw.get("objective", {})
        if isinstance(network, dict) and network.get("kind") in ENCODERS and isinstance(objective, dict):
            raw["objective"] = {"noise": 0.0, **objective}  # L1 does not need a noisy target
        try:
            settings = cls.model_validate(raw)
        except ValidationError as error:
            raise ArgumentError(_first_problem(error)) from error
        config = settings.config()
        settings._check_sizes()
        if settings.kind == "srflow":  # saved with the run, because the default may change
            settings.network["stacked_blocks"] = list(config.stacked_blocks)
        return settings

    @property
    def kind(self) -> str:
        """`srflow`, or for an LR encoder alone `rrdb` or `plain`."""
        return str(self.network.get("kind"))

    def config(self) -> SRFlowConfig:
        """The SRFlow's configuration; for an encoder, that of an SRFlow with it. Raises: ArgumentError."""
        values = {name: value for name, value in self.network.items() if name not in ("kind", "variant")}
        if encoder := next((kind for kind in ENCODERS if kind == self.kind), None):
            if others := set(values) - {*ENCODER_FIELDS[encoder]}:
                known = ", ".join(ENCODER_FIELDS[encoder])
                raise ArgumentError(f"unknown field network.{min(others)}; of kind {encoder} there are {known}")
            values["encoder"] = encoder
        elif self.kind != "srflow":
            raise ArgumentError(f"network.kind is {self.network.get('kind')!r}; it must be srflow, rrdb or plain")
        for name in ("clamp", "split_clamp"):
            with contextlib.suppress(KeyError, TypeError, ValueError):  # YAML reads 1e-1, without a point, as text
                values[name] = float(values[name])
        try:
            return SRFlowConfig.of_variant(self.network.get("variant", "bounded"), **values)
        except ArgumentError as error:
            named = "stacked_blocks" in self.network and str(error).startswith("stacked_blocks is")
            fix = ": --set network.stacked_blocks= chooses them" if named else ""
            raise ArgumentError(f"network: {error}{fix}") from error

    def build(self) -> SRFlow | Encoder:
        """Build the network with fresh weights. Raises: ArgumentError."""
        model = SRFlow(self.config())
        model.encoder.initialize()
        return model if self.kind == "srflow" else model.encoder

    @property
    def crop_multiple(self) -> int:
        """HR crops must be multiples of this."""
        config = self.config()
        return config.scale * (config.size_multiple if self.kind == "srflow" else config.unshuffle)

    @property
    def ranks(self) -> int:
        """Processes of the run, one per device."""
        return self.hardware.devices * self.hardware.nodes

    def _check_sizes(self) -> None:
        multiple, ranks = self.crop_multiple, self.ranks
        for name in ("crop", "late_crop"):
            size = getattr(self.data, name)
            if size % multiple:
                raise ArgumentError(f"data.{name} is {size}; this network needs multiples of {multiple}")
        for progress in (0.0, 1.0):
            if self.data.at(progress)[1] % ranks:
                raise ArgumentError(
                    f"data.batch gives {self.data.at(progress)[1]} crops, not a multiple of the {ranks} devices: "
                    "choose another data.batch (or data.late_crop)"
                )
        if self.data.teacher and self.kind == "srflow":
            raise ArgumentError("data.teacher is for LR encoders, and this network is a flow: leave it out")
        if bool(self.data.teacher) != (self.objective.teacher > 0):
            raise ArgumentError(
                "data.teacher is the folder of its pictures, objective.teacher their share of the loss: set both, "
                "e.g. objective.teacher=0.5, or neither"
            )
        smallest = min(self.data.crop, self.data.late_crop or self.data.crop)
        if problem := self.objective.problem(
            kind=self.kind,
            crop=smallest,
            noise_conditional=self.config().noise_conditional,
            iterations=self.schedule.iterations,
        ):
            raise ArgumentError(problem)


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = [str(part) for part in problem["loc"]]
    name = ".".join(where) or "the configuration"
    if problem["type"] == "extra_forbidden":
        section: Any = RunSettings
        for part in where[:-1]:
            section = section.model_fields[part].annotation
            section = next(kind for kind in (*get_args(section), section) if hasattr(kind, "model_fields"))
        return f"unknown field {name}; the fields are {', '.join(section.model_fields)}"
    if problem["type"] == "missing":
        return f"{name} is missing"
    if problem["type"] == "value_error":
        return f"{name}.{problem['ctx']['error']}"
    return f"{name} is {problem['input']!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}"


def preset_names() -> list[str]:
    """The presets that `--config` takes by name, sorted."""
    folder = resources.files("srflow_training") / "presets"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_settings(config: str, overrides: Sequence[str] = (), *, stage: Stage = "flow") -> RunSettings:
    """Load a preset by name or a YAML file by path, with `section.field=value` overrides. Raises: ArgumentError.

    stage: "encoder" takes the flow's LR encoder alone, with `encoder_data` and `encoder_schedule` in place of fields of
    `data` and `schedule`.

    `base: PRESET|FILE.yaml` at the top of a file (by a path relative to it) takes all fields of another, except those
    that the file sets. A field without a value returns to its default, not the base's: `section.field=`, or null in a
    file (but `network.split_clamp: null` is no bound). `data.degradation.field=value` sets one of its fields.
    """
    raw = _at_stage(_read_sections(config), stage, config)
    for name, section in raw.items():
        if isinstance(section, dict):
            raw[name] = _without_nulls(name, section)
    for override in overrides:
        _override(raw, override, config)
    return RunSettings.from_dict(raw)


def _at_stage(raw: dict[str, Any], stage: Stage, config: str) -> dict[str, Any]:
    """The sections of a stage's run. A run of an encoder alone has no other stage."""
    own = {name: raw.pop(f"encoder_{name}", None) or {} for name in ("data", "schedule")}
    network = raw.get("network")
    if stage == "flow" or not isinstance(network, dict) or network.get("kind") in ENCODERS:
        return raw
    kind = network.get("encoder", "rrdb")
    if kind not in ENCODERS or not all(isinstance(section, dict) for section in own.values()):
        raise ArgumentError(f"{config}: --stage encoder needs network.encoder: rrdb or plain, and sections of fields")
    stages = {name: {**(raw.get(name) or {}), **fields} for name, fields in own.items()}
    encoder = {name: network[name] for name in ENCODER_FIELDS[kind] if name in network}
    return {**raw, **stages, "network": {"kind": kind, **encoder}, "objective": {}}


def _override(raw: dict[str, Any], override: str, config: str) -> None:
    """Set a field of raw sections, or remove it if there is no value."""
    name, separator, value = override.partition("=")
    section, dot, key = name.partition(".")
    if not separator or not dot or not key:
        raise ArgumentError(f"--set {override}: section.field=value was expected, e.g. schedule.iterations=2000")
    fields_of_section = raw.get(section)
    if fields_of_section is None:
        fields_of_section = raw[section] = {}
    if not isinstance(fields_of_section, dict):
        raise ArgumentError(f"{config}: section {section} must hold fields")
    if name.startswith("data.degradation."):
        section, key = "data.degradation", name.removeprefix("data.degradation.")
        inherited = fields_of_section.get("degradation")
        if value.strip():
            fields_of_section["degradation"] = with_fields(inherited, {key: parse_yaml(value, where="--set")})
            return
        fields_of_section = inherited if isinstance(inherited, dict) else {}
    elif value.strip():
        fields_of_section[key] = parse_yaml(value, where="--set")
        return
    if (known := _field_names(section)) and key not in known:
        raise ArgumentError(f"unknown field {name}; the fields are {', '.join(known)}")
    fields_of_section.pop(key, None)


def _without_nulls(name: str, section: dict[str, Any]) -> dict[str, Any]:
    """A section's fields without those that are to have their default. Unknown ones stay, to be refused."""
    meant = {*section} - {*_field_names(name)} | ({"split_clamp"} if name == "network" else set())
    kept = {key: value for key, value in section.items() if value is not None or key in meant}
    if name == "data" and isinstance(nested := kept.get("degradation"), dict):
        kept["degradation"] = _without_nulls("data.degradation", nested)
    return kept


def _read_sections(config: str, *, heirs: tuple[str, ...] = ()) -> dict[str, Any]:
    """Read a preset or file, with its fields in place of those of its `base`. heirs: those whose base it is."""
    if config in preset_names():
        text = (resources.files("srflow_training") / "presets" / f"{config}.yaml").read_text(encoding="utf-8")
        raw = parse_yaml(text, where=config)
    elif Path(config).exists():
        raw = read_yaml(Path(config))
    else:
        where = f"{heirs[-1]}: base: " if heirs else ""
        names = ", ".join(preset_names())
        raise ArgumentError(f"{where}no configuration {config!r}: name a YAML file or a preset ({names})")
    if not isinstance(raw, dict):
        raise ArgumentError(f"{config}: the sections {', '.join(RunSettings.model_fields)} were expected")
    base = raw.pop("base", None)
    if base is None:
        return raw
    if not isinstance(base, str):
        raise ArgumentError(f"{config}: base is {base!r}; the name of a preset or a YAML file was expected")
    if base not in preset_names():
        base = str(Path(config).parent / base)
    if Path(base).exists() and any(_same_source(base, other) for other in (*heirs, config)):
        raise ArgumentError(f"{config}: base {base} is based on this file itself: name another base")
    merged = _read_sections(base, heirs=(*heirs, config))
    for name, section in raw.items():
        inherited = merged.get(name)
        if isinstance(inherited, dict) and isinstance(section, dict):
            merged[name] = {**inherited, **section}
            if name == "data" and isinstance(own := section.get("degradation"), dict):
                merged[name]["degradation"] = with_fields(inherited.get("degradation"), own)
        elif section is not None or inherited is None:  # YAML reads a section without fields as None
            merged[name] = section
    return merged


def _same_source(one: str, other: str) -> bool:
    """True if two names are the same preset, or paths of the same file."""
    if one in preset_names() or other in preset_names():
        return one == other
    return real_path(Path(one)) == real_path(Path(other))


def _field_names(section: str) -> list[str]:
    """The fields of a section; none if there is no such section."""
    if section == "network":
        return ["kind", "variant", *(field.name for field in dataclasses.fields(SRFlowConfig))]
    if section == "data.degradation":
        return ["preset", *Degradation.model_fields]
    fields = RunSettings.model_fields.get(section)
    return [] if fields is None else list(fields.annotation.model_fields)  # type: ignore[union-attr]


def dump_settings(settings: RunSettings) -> str:
    """Write all settings as YAML, including omitted ones with the values used."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)
