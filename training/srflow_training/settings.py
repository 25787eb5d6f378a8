"""Settings of a training run: a YAML file of five sections, validated before anything starts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from srflow_sdk._checks import MAX_TAU
from srflow_sdk.errors import ArgumentError
from srflow_sdk.model.manifest import Reduction
from srflow_training.model import Encoder, SRFlow, SRFlowConfig
from srflow_training.model.config import ENCODER_FIELDS, ENCODERS

ITERATIONS = 200_000
ITERATIONS_FROM_SCRATCH = 300_000

Share = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1, le=10**9)]
CountOrZero = Annotated[int, Field(ge=0, le=10**9)]
Crops = Annotated[int, Field(ge=1, le=1 << 16)]
Pixels = Annotated[int, Field(ge=1, le=1 << 14)]
PixelsOrZero = Annotated[int, Field(ge=0, le=1 << 14)]
Machines = Annotated[int, Field(ge=1, le=1 << 16)]
Processes = Annotated[int, Field(ge=0, le=1 << 12)]


def _check_ascending(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError("the first number must not be above the second")
    return limits


_Ascending = AfterValidator(_check_ascending)
_Positive = Annotated[float, Field(gt=0, le=1000)]
_Sigma = Annotated[float, Field(gt=0, le=2)]
_Factor = Annotated[float, Field(ge=0.1, le=4)]
_Quality = Annotated[int, Field(ge=1, le=100)]
_Decay = Annotated[float, Field(ge=0, lt=1)]
Range = Annotated[tuple[_Positive, _Positive], _Ascending]
Sigmas = Annotated[tuple[_Sigma, _Sigma], _Ascending]
Factors = Annotated[tuple[_Factor, _Factor], _Ascending]
Qualities = Annotated[tuple[_Quality, _Quality], _Ascending]


class Section(BaseModel):
    """Fields of one section.

    Errors name a field that is unknown, missing, of the wrong type or out of range.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


# LR pixels; wider ones reach beyond the window's margin, by more than 0.65 of an 8-bit level
_WIDEST_BLUR = 3.0
_LARGEST_FACTOR = 4.0

OFF = (None, False, "", "off")  # YAML reads off as false
DEGRADATIONS: dict[str, dict[str, Any]] = {
    "photo": {},
    "strong": {
        "blur": 0.8,
        "blur_sigma": (0.05, 0.75),
        "resize": 0.9,
        "resize_factor": (0.15, 1.5),
        "noise": 0.8,
        "noise_sigma": (1.0, 25.0),
        "compression": 0.9,
        "quality": (30, 95),
    },
}
"""Fields that differ from the defaults, by name. "strong" has about the ranges of Real-ESRGAN (its
Sec. 4.1)."""


class Degradation(Section):
    """Random damage between a crop and its LR image.

    It has several passes of four operations in random order. Two passes ("second order"), the
    operations and sinc filters are those of Real-ESRGAN (arXiv:2107.10833, Sec. 3.1 to 3.3), the
    random order that of BSRGAN (arXiv:2103.14006, Sec. 3), and WebP is added. The defaults are
    preset "photo": a telephone's JPEG, mildly noisy and soft. A name, or the field `preset`, takes
    another's values.

    Attributes:
        passes: how often the four operations are drawn.
        clean: share of training crops whose LR is the plain reduction.
        direct: share of the others that are damaged as a camera does it, once and in this order:
            `data.reduction`, then blur, noise and compression of LR pixels. That is what an
            enlarged photo is whose pixels are still the camera's.
        soft: share of all crops, clean ones too, that are out of focus first: a Gaussian of
            soft_sigma LR pixels.
        mild: share of the damaged crops that are compressed once, in LR pixels, at mild_quality,
            and no more than that.
        blur, resize, noise, compression: probability of each operation in each pass. The last pass
            always resizes: to the LR size, so operations that come after it act on LR pixels, the
            others on larger ones.
        blur_sigma: of Gaussians, in LR pixels, at most 3/√passes.
        anisotropic: share of Gaussians that have two widths, at a random angle.
        sinc: share of blurs that cut frequencies sharply and so ring.
        sinc_cutoff: in cycles per LR pixel.
        resize_factor: new side over old side, before the last pass; under 1 reduces. From 0.1 to
            the (passes − 1)-th root of 4; no side gets smaller than 8 pixels. Area, bilinear or
            bicubic.
        noise_sigma: standard deviation in 8-bit levels, of pixels as large as they are then; of
            Poisson noise, at white.
        poisson: share of noise whose variance grows with brightness.
        gray: share of noise that is equal in R, G and B.
        quality: of JPEG and WebP.
        webp: share of compressions that are WebP.
    """

    passes: Annotated[int, Field(ge=1, le=4)] = 2
    clean: Share = 0.1
    direct: Share = 0.0
    soft: Share = 0.0
    soft_sigma: Sigmas = (0.4, 1.6)
    mild: Share = 0.0
    mild_quality: Qualities = (80, 98)
    blur: Share = 0.5
    blur_sigma: Range = (0.05, 0.4)
    anisotropic: Share = 0.5
    sinc: Share = 0.1
    sinc_cutoff: Range = (0.3, 0.5)
    resize: Share = 0.5
    resize_factor: Factors = (0.4, 1.25)
    noise: Share = 0.5
    noise_sigma: Range = (0.5, 6.0)
    poisson: Share = 0.5
    gray: Share = 0.4
    compression: Share = 0.75
    quality: Qualities = (65, 95)
    webp: Share = 0.2

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, values: Any) -> Any:
        if not isinstance(values, str | Mapping):
            return values
        fields = {"preset": values} if isinstance(values, str) else dict(values)
        preset = fields.pop("preset", "photo")
        if preset in OFF or str(preset) not in DEGRADATIONS:
            raise ValueError(
                f"{preset!r} is no preset: take {' or '.join(DEGRADATIONS)} (or "
                "data.degradation=off)"
            )
        return {**DEGRADATIONS[preset], **fields}

    @model_validator(mode="after")
    def _fits_the_window(self) -> Degradation:
        blur = _WIDEST_BLUR / math.sqrt(self.passes)
        factor = _LARGEST_FACTOR ** (1 / max(1, self.passes - 1))
        for name, most, why in (
            ("blur_sigma", blur, "blurs would reach beyond what surrounds a crop"),
            ("resize_factor", factor, "images would grow too large for memory"),
        ):
            if getattr(self, name)[1] > most:
                largest = math.floor(100 * most) / 100
                raise ValueError(
                    f"{name} is above {largest:g}, the most for passes={self.passes}: {why}: lower "
                    "either"
                )
        return self


class DataSettings(Section):
    """How training crops are taken.

    Attributes:
        crop: HR side in pixels, a multiple of scale·size_multiple.
        batch: crops per iteration, over all devices.
        choose_of: each crop is the most detailed of this many candidates in its photograph (sky and
            blur teach little).
        widest: photographs wider than this are halved until they are not (large ones are soft at
            full size); 0: never.
        narrowest: halved copies at least this wide are used as well as the photograph itself; 0:
            only the photograph.
        flip: random mirroring: "horizontal" (left and right), "both" (upside down, too) or "none".
        transposes: random exchange of rows and columns.
        hr_shift: HR is shifted by up to this many pixels against its LR image, in both axes (for
            content transfer).
        reduction: how LR images are made, "bicubic" (MATLAB's) or "bilinear" (for comparisons with
            work on faces).
        degradation: damages LR images as photographs are: "photo", "strong" or fields
            (`Degradation`); "off": never.
        lr: folder of LR images to use instead of making them, named like the HR ones (or with the
            scale appended: "x4").
        teacher: folder of pictures that another network made of the photographs' reductions
            (`benchmarks/teacher.py`), for an LR encoder's `objective.teacher`; named like the
            photographs, halved ones with "-halved1", "-halved2", … .
        workers: processes that decode photographs, per device.
        cache: folder that keeps decoded photographs, so that crops need no decoding (3 bytes per
            pixel); "auto": the user's cache, for as long as half of its free disk is left; "off":
            none.
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
    degradation: Annotated[
        Degradation | None, BeforeValidator(lambda value: None if value in OFF else value)
    ] = None
    lr: str = ""
    teacher: str = ""
    workers: Processes = 2
    cache: Annotated[str, BeforeValidator(lambda value: "off" if value in OFF else value)] = "auto"

    @model_validator(mode="after")
    def _files_fit_their_photographs(self) -> DataSettings:
        if self.lr and (self.widest or self.narrowest):
            raise ValueError(
                "lr: LR files only fit photographs at full size: set widest and narrowest to 0"
            )
        if self.lr and self.degradation:
            raise ValueError(
                "lr: LR files are used as they are: set data.degradation=off, or leave out data.lr"
            )
        return self


LEAST_PERCEPTUAL = 16
"""Side in pixels of the smallest image that perceptual distances take, at each of their sizes."""


class Objective(Section):
    """The loss of a flow, in bits per HR pixel and channel, or of an LR encoder.

    A flow's is its negative log-likelihood, an encoder's its L1 error. The other terms are a
    flow's, in weights (0: off). Each costs a decoding and its gradient in the iterations that have
    it.

    Attributes:
        noise: standard deviation of the Gaussian noise on HR, in 8-bit levels (4/√3 as published;
            an LR encoder: 0).
        teacher: share of an LR encoder's loss that is the difference to the pictures of
            `data.teacher`, 0 … 1; the rest is the difference to the photographs.
        l1: mean absolute error of the decoding at τ = 0, for images in [0, 1]; it keeps fidelity.
        l1_every: add it only in iterations 0, n, 2n, …
        grid: mean amplitude of the waves that repeat every `scale` pixels in what is decoded for
            other terms: what is left of the squeezes' regular grid, and the weave that a perceptual
            loss makes.
        perceptual: a perceptual distance, 0 for equality, between HR and a sample whose latents
            are the iteration's noise.
        perceptual_tau: the sample's temperature, 0 … 2.
        smoothed: the sample is smoothed first, as the runtime then smooths those of the bundle.
        perceptual_loss: its kind. gmsd: GMSD, which clips the sample to [0, 1], so values outside
            get no gradient from it; lpips_vgg: LPIPS with VGG16, whose weights `python -m
            srflow_training.lpips_weights` gets; ms_lpips_vgg: the mean of that at three sizes, for
            large scales. LPIPS with AlexNet is not among them, because models are judged by it.
        lr_consistency: mean absolute error between the reductions (`data.reduction`) of HR and of
            the sample, or of the decoding at τ = 0 without one; iterations that decode nothing do
            not have it.
    """

    noise: NotNegative = 4 / math.sqrt(3)
    teacher: Share = 0.0
    l1: NotNegative = 0.0
    l1_every: Count = 1
    grid: NotNegative = 0.0
    perceptual: NotNegative = 0.0
    perceptual_loss: Literal["lpips_vgg", "ms_lpips_vgg", "gmsd"] = "gmsd"
    perceptual_tau: Annotated[float, Field(ge=0, le=MAX_TAU)] = 0.8
    smoothed: bool = False
    lr_consistency: NotNegative = 0.0

    def needs_noise(self, kind: str) -> bool:
        """True if training draws noise.

        Args:
            kind: of the network that is trained.
        """
        return kind == "srflow" or self.noise > 0

    def has_l1_at(self, iteration: int) -> bool:
        """True if this iteration's loss has the term `l1`, counted from 0."""
        return self.l1 > 0 and iteration % self.l1_every == 0


class Schedule(Section):
    """Optimisation by Adam.

    Attributes:
        start: checkpoint that the whole network starts from (fine-tuning; actnorms stay as they
            are).
        encoder: RRDB, ESRGAN-family, plain or SRFlow file that the LR encoder starts from, instead
            of start's own, which may then be another one. Empty: random weights.
        iterations: length of the run; default 200,000, or 300,000 with neither start nor encoder
            (as published).
        freeze_encoder: first share of the iterations, without training the LR encoder; default 0.5,
            or 0 with neither.
        learning_rate: initial value.
        betas: Adam's.
        decay: "steps" halves the rate at 50, 75, 90 and 95 % (as published), "cosine" goes to zero.
        warmup: iterations in which the rate rises from zero.
        accumulate: number of parts in which each process computes its share of an iteration's
            batch, one after the other, so that a large batch fits into memory. `data.batch` stays
            the batch of an update, and the result is the same up to rounding. At most one part for
            each crop.
        clip_norm: gradients are scaled down to this norm; 0: never.
        ema: decay of the moving average of the weights, which is validated and saved for export; 0:
            no average.
        best: validation metric, e.g. gmsd_tau0.8, of which best.safetensors is the best checkpoint;
            empty: none is kept.
        validate_crops: how many crops of the validation folder are measured, spread over all its
            photographs: one of each at most, or several if there are fewer photographs.
        validate_size: their side in pixels, at most.
        save_every, log_every, validate_every: in iterations.
        keep: how many saved states stay on disk.
        seed: for the weights, the crops and the noise.
    """

    iterations: Count = ITERATIONS
    encoder: str = ""
    start: str = ""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 5e-4
    betas: tuple[_Decay, _Decay] = (0.9, 0.99)
    decay: Literal["steps", "cosine"] = "steps"
    warmup: CountOrZero = 0
    freeze_encoder: Share = 0.5
    accumulate: Crops = 1
    clip_norm: NotNegative = 5.0
    ema: _Decay = 0.999
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

    Attributes:
        accelerator: cpu, cuda, or auto: cuda if there is a GPU.
        devices: per node.
        nodes: machines; start each with the same command, as for Lightning Fabric or torchrun.
        precision: fp32, bf16 (convolutions of the encoder and of the conditional nets in bfloat16,
            the flow's state in float32), or auto: the one whose steps are faster on this processor;
            a resumed run keeps its own.
        threads: CPU threads per process; 0: as many as PyTorch takes.
    """

    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: Machines = 1
    nodes: Machines = 1
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    threads: Processes = 0


class RunSettings(Section):
    """A whole run: network, data, objective, schedule and hardware.

    The network is an SRFlow, or an LR encoder to start it from.
    """

    network: dict[str, Any]
    data: DataSettings
    objective: Objective = Objective()
    schedule: Schedule = Schedule()
    hardware: Hardware = Hardware()

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> RunSettings:
        """Validate raw sections. Raises: ArgumentError naming a field that is wrong or unknown."""
        # YAML reads a section without fields as None
        raw = {
            name: {} if section is None else section
            for name, section in {"schedule": {}, **raw}.items()
        }
        network = raw.get("network")
        objective = raw.setdefault("objective", {})
        if (
            isinstance(network, dict)
            and network.get("kind") in ENCODERS
            and isinstance(objective, dict)
        ):
            raw["objective"] = {"noise": 0.0, **objective}  # L1 does not need a noisy target
        try:
            settings = cls.model_validate(raw)
        except ValidationError as error:
            raise ArgumentError(_first_problem(error)) from error
        config = settings.config()
        if problem := next(settings._problems(), ""):
            raise ArgumentError(problem)
        if settings.kind == "srflow":  # saved with the run, because the default may change
            settings.network["stacked_blocks"] = list(config.stacked_blocks)
        return settings

    @property
    def kind(self) -> str:
        """`srflow`, or for an LR encoder alone `rrdb` or `plain`."""
        return str(self.network.get("kind"))

    def config(self) -> SRFlowConfig:
        """The SRFlow's configuration; for an encoder, that of an SRFlow with it.

        Raises:
            ArgumentError.
        """
        values = {
            name: value for name, value in self.network.items() if name not in ("kind", "variant")
        }
        if encoder := next((kind for kind in ENCODERS if kind == self.kind), None):
            if others := set(values) - {*ENCODER_FIELDS[encoder]}:
                known = ", ".join(ENCODER_FIELDS[encoder])
                raise ArgumentError(
                    f"unknown field network.{min(others)}; of kind {encoder} there are {known}"
                )
            values["encoder"] = encoder
        elif self.kind != "srflow":
            raise ArgumentError(
                f"network.kind is {self.network.get('kind')!r}; it must be srflow, rrdb or plain"
            )
        try:
            return SRFlowConfig.of_variant(self.network.get("variant", "bounded"), **values)
        except ArgumentError as error:
            raise ArgumentError(f"network: {error}") from error

    def build(self) -> SRFlow | Encoder:
        """Build the network with fresh weights. Raises: ArgumentError."""
        model = SRFlow(self.config())
        model.encoder.initialize()
        return model if self.kind == "srflow" else model.encoder

    @property
    def crop_multiple(self) -> int:
        """HR crops must be multiples of this."""
        config = self.config()
        return config.scale * (config.size_multiple if self.kind == "srflow" else 1)

    @property
    def ranks(self) -> int:
        """Processes of the run, one per device."""
        return self.hardware.devices * self.hardware.nodes

    def _problems(self) -> Iterator[str]:
        """Settings that contradict each other or the network, and how to fix it."""
        data = self.data
        objective = self.objective
        is_flow = self.kind == "srflow"
        if data.crop % self.crop_multiple:
            yield f"data.crop is {data.crop}; this network needs multiples of {self.crop_multiple}"
        if data.batch % self.ranks:
            yield f"data.batch is {data.batch}; it must be a multiple of the {self.ranks} devices"
        if data.teacher and is_flow:
            yield "data.teacher is for LR encoders, and this network is a flow: leave it out"
        if bool(data.teacher) != (objective.teacher > 0):
            why = (
                "data.teacher is the folder of its pictures, objective.teacher their share of the "
                "loss"
            )
            yield f"{why}: set both, e.g. objective.teacher=0.5, or neither"
        for name in ("perceptual", "lr_consistency", "grid", "l1"):
            if getattr(objective, name) and not is_flow:
                yield (
                    f"objective.{name} is for flows, and an LR encoder's whole loss is L1: set it "
                    "to 0"
                )
        for name in ("grid", "lr_consistency"):
            if getattr(objective, name) and not objective.l1 and not objective.perceptual:
                yield (
                    f"objective.{name} is for images that objective.l1 or perceptual decodes: set "
                    "one of them"
                )
        side = LEAST_PERCEPTUAL * (4 if objective.perceptual_loss == "ms_lpips_vgg" else 1)
        if objective.perceptual and data.crop < side:
            yield (
                f"objective.perceptual needs crops of at least {side} pixels, not {data.crop}: set "
                "data.crop"
            )


def field_names(section: str) -> list[str]:
    """The fields of a section, those of a run if it is empty; none if there is no such section."""
    if section == "network":
        return ["kind", "variant", *(field.name for field in dataclasses.fields(SRFlowConfig))]
    if section == "data.degradation":
        return ["preset", *Degradation.model_fields]
    if not section:
        return [*RunSettings.model_fields]
    if section not in RunSettings.model_fields:
        return []
    model: Any = RunSettings.model_fields[section].annotation
    return [*model.model_fields]


def _first_problem(error: ValidationError) -> str:
    """One line: the field, and pydantic's reason."""
    problem = error.errors()[0]
    parts = [str(part) for part in problem["loc"]]
    name = ".".join(parts)[:200]
    if problem["type"] == "extra_forbidden":
        known = ", ".join(field_names(".".join(parts[:-1])))
        return f"unknown field {name}; the fields are {known}"
    reason = problem["msg"].removeprefix("Value error, ")
    value = (
        ""
        if problem["type"] in ("missing", "value_error")
        else f" (it is {problem['input']!r:.80})"
    )
    return f"{name}: {reason}{value}"


def dump_settings(settings: RunSettings) -> str:
    """Write all settings as YAML, including omitted ones with the values used."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)
