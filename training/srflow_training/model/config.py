"""The configuration of an SRFlow network: one frozen dataclass that determines every shape."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_type_hints

from pydantic import ConfigDict, Field, Strict, TypeAdapter, ValidationError

from srflow_sdk.errors import ArgumentError

Variant = Literal["paper", "published", "bounded"]
ScaleMap = Literal["exp", "sigmoid", "tanh"]
AffineOrder = Literal["scale_first", "shift_first"]
Resize = Literal["nearest", "bilinear"]
ImageBase = Literal["none", "bicubic", "nearest"]
TrunkSkip = Literal["last_block", "first_conv"]
EncoderKind = Literal["rrdb", "plain"]

Kernel = Literal[1, 3]
Count = Annotated[int, Field(ge=1, le=1024)]
Integers = Annotated[tuple[int, ...], Strict(False)]  # JSON and YAML have lists
Numbers = Annotated[tuple[float, ...], Strict(False)]
Counts = Count | Integers
"""One for all levels, or one for each."""

VARIANTS: tuple[Variant, ...] = get_args(Variant)
SCALES = (2, 4, 8, 16)
ENCODERS: tuple[EncoderKind, ...] = get_args(EncoderKind)
ENCODER_FIELDS: dict[EncoderKind, tuple[str, ...]] = {
    "rrdb": ("scale", "nf", "growth", "blocks", "trunk_skip", "image_base"),
    "plain": ("scale", "nf", "blocks", "image_base"),
}
"""The fields that describe an encoder of each kind, alone or in an SRFlow."""
UNUSED: dict[str, Any] = {
    "encoder": "rrdb",
    "condition": [],
    "condition_kernel": 3,
    "injector_hidden": None,
    "last_kernel": 3,
    "residual": False,
}
"""Options of later versions, which files leave out at these values, so that earlier versions read
them."""


@dataclass(frozen=True)
class LevelShape:
    """One level of the flow, in the encoding direction.

    Attributes:
        level: 1 … L; its tensors have HR/2^level pixels a side.
        channels: channels of the flow state inside the level's steps.
        latent_channels: channels that leave as this level's latent; 0 if none do.
        lr_exponent: the level has LR·2^lr_exponent pixels a side.
    """

    level: int
    channels: int
    latent_channels: int
    lr_exponent: int


@dataclass(frozen=True, kw_only=True)
class SRFlowConfig:
    """An SRFlow network.

    Build one with :meth:`of_variant`; each field can be set on its own, to mix variants.

    Steps and both are one for all levels, or L of them.

    Attributes:
        scale: HR size / LR size, 2, 4, 8 or 16.
        levels: L, number of flow levels.
        steps: K, conditional steps per level.
        transition_steps: unconditional ones.
        hidden: channels inside the conditional nets f.
        injector_hidden: the injectors' own; None: the same.
        encoder: of the LR image: rrdb (published), or plain (ours: small and fast).
        nf, growth, blocks: the encoder's channels, channels added by a dense layer (rrdb alone),
            number of blocks.
        trunk_skip: what the encoder adds to its trunk convolution: the last block's output
            (published), or the first convolution's (ESRGAN).
        stacked_blocks: indices of the RRDB blocks whose outputs condition the flow.
        level_feature: the condition u starts with the encoder's feature at the level's own
            resolution.
        feature_resize: how block outputs (the LR image's resolution) reach a level's resolution.
        condition: channels of u at levels 1 … L, which a 1×1 convolution computes from the features
            at the LR size; pixel shuffle or its inverse brings them to the level's. Empty: u is the
            features themselves (published).
        condition_kernel: kernel of f's first convolution where it sees u, 3 (published) or 1, which
            needs a `condition`.
        net_actnorm: f's first two convolutions have no bias and are followed by an actnorm.
        net_middle_kernel: kernel of f's second convolution, 1 or 3.
        last_kernel: of its last one, 3 (published) or 1.
        scale_map: how f's output s becomes the affine scale: exp(s), sigmoid(s + 2) + 1e-4,
            exp(c·tanh(s/c)).
        affine_order: encoding is scale·h + shift (scale_first) or (h + shift)·scale (shift_first).
        clamp: c of the tanh scale map; a step's scale stays in [exp(−c), exp(c)]. One for all
            levels, or L of them.
        split_clamp: bound b of the split's logs, b·tanh(logs/b); None: no bound.
        split_levels: levels after which half the channels leave as a latent (the last level always
            ends in one).
        image_base: image that the output of the encoder's own image head is added to.
        residual: the flow models HR less the encoder's own image, so that the image at τ = 0 begins
            as the encoder's. It needs a plain encoder, and an image_base other than bicubic, which
            exported graphs do not have.
    """

    scale: Literal[2, 4, 8, 16] = 4
    levels: Annotated[int, Field(ge=1, le=8)] = 3
    steps: Counts = 16
    transition_steps: Annotated[int, Field(ge=0, le=1024)] = 2
    hidden: Counts = 64
    injector_hidden: Counts | None = None
    encoder: EncoderKind = "rrdb"
    nf: Count = 64
    growth: Count = 32
    blocks: Count = 23
    trunk_skip: TrunkSkip = "last_block"
    stacked_blocks: Integers = (1, 8, 15, 22)
    level_feature: bool = True
    feature_resize: Resize = "nearest"
    condition: Integers = ()
    condition_kernel: Kernel = 3
    net_actnorm: bool = True
    net_middle_kernel: Kernel = 1
    last_kernel: Kernel = 3
    scale_map: ScaleMap = "tanh"
    affine_order: AffineOrder = "shift_first"
    clamp: float | Numbers = 0.7
    split_clamp: float | None = 2.0
    split_levels: Integers = (1, 2)
    image_base: ImageBase = "none"
    residual: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value = _check_field(field.name, getattr(self, field.name))
            object.__setattr__(self, field.name, value)
        for name in sorted({*ENCODER_FIELDS["rrdb"]} - {*ENCODER_FIELDS[self.encoder]}):
            if getattr(self, name) != getattr(type(self), name):
                raise ArgumentError(
                    f"{name} belongs to rrdb encoders: leave it out with encoder: {self.encoder}"
                )
        if len(set(self.stacked_blocks)) < len(self.stacked_blocks):
            raise ArgumentError(
                f"stacked_blocks is {list(self.stacked_blocks)}; it names a block twice"
            )
        if any(not 0 <= block < self.blocks for block in self.stacked_blocks):
            raise ArgumentError(
                f"stacked_blocks is {list(self.stacked_blocks)}, but the encoder has blocks 0 … "
                f"{self.blocks - 1}"
            )
        if any(not 1 <= level < self.levels for level in self.split_levels):
            raise ArgumentError(
                f"split_levels is {list(self.split_levels)}; splits can only follow levels 1 … L − "
                "1"
            )
        if not self.level_feature and not self.stacked_blocks:
            raise ArgumentError(
                "the flow has no condition: set level_feature or name stacked_blocks"
            )
        self._check_condition()
        clamps = self.clamp if isinstance(self.clamp, tuple) else (self.clamp,)
        if len(clamps) not in (1, self.levels):
            raise ArgumentError(
                f"clamp has {len(clamps)} values; give one, or one for each of {self.levels} levels"
            )
        if not all(
            0 < clamp < math.inf
            for clamp in (*clamps, 1.0 if self.split_clamp is None else self.split_clamp)
        ):
            raise ArgumentError("clamp and split_clamp must be positive and finite")

    def _check_condition(self) -> None:
        """Check what describes u and the nets on it, level by level."""
        for name in ("steps", "hidden", "injector_hidden", "condition"):
            value = getattr(self, name)
            if not isinstance(value, tuple) or (name == "condition" and not value):
                continue
            if len(value) != self.levels:
                raise ArgumentError(
                    f"{name} has {len(value)} values; {self.levels} levels need as many"
                )
            if not all(1 <= count <= 1024 for count in value):
                raise ArgumentError(
                    f"{name} is {list(value)}; each must be at least 1 and at most 1024"
                )
        if self.encoder == "plain" and not self.condition:
            raise ArgumentError(
                f"a plain encoder needs a condition, e.g. condition: {[self.nf] * self.levels}"
            )
        if self.residual and (self.encoder != "plain" or self.image_base == "bicubic"):
            raise ArgumentError("residual needs encoder: plain, and image_base: nearest or none")
        if self.condition_kernel == 1 and not self.condition:
            raise ArgumentError(
                "condition_kernel is 1, which needs a condition: the channels of u by level"
            )

    @classmethod
    def of_variant(cls, variant: Variant, **overrides: Any) -> SRFlowConfig:
        """Configure the network as a variant.

        `paper` is as the publication describes it, `published` as its checkpoints compute it,
        `bounded`, what we train, has bounded scales. Omitted fields follow from scale and blocks.
        """
        if variant not in VARIANTS:
            raise ArgumentError(f"variant is {variant!r}; it must be one of {', '.join(VARIANTS)}")
        _check_names(overrides)
        for name, value in overrides.items():
            overrides[name] = _check_field(name, value)
        scale = overrides.get("scale", 4)
        most = 4 if variant == "published" else 5
        # ×4: 3, ×8: 4, ×16: 5, or 4 as released
        levels = overrides.setdefault("levels", min(scale.bit_length(), most))
        blocks = overrides.setdefault("blocks", 23)
        last_split = levels - 2 if variant == "published" else levels - 1
        if overrides.get("encoder") == "plain":
            overrides.setdefault("stacked_blocks", (blocks - 1,) if variant == "paper" else ())
            overrides.setdefault("condition", (overrides.get("nf", cls.nf),) * levels)
        by_variant: dict[str, Any] = {
            "stacked_blocks": default_stacked_blocks(variant, scale=scale, blocks=blocks),
            "split_levels": tuple(range(1, last_split + 1)),
            **_VARIANT_FIELDS[variant],
        }
        return cls(**{**by_variant, **overrides})

    @property
    def variant(self) -> str:
        """`paper`, `published` or `bounded`; `mixed` if the fields match none of them."""
        for variant in VARIANTS:
            last_split = self.levels - 2 if variant == "published" else self.levels - 1
            same = all(
                getattr(self, name) == value for name, value in _VARIANT_FIELDS[variant].items()
            )
            if same and self.split_levels == tuple(range(1, last_split + 1)):
                return variant
        return "mixed"

    @property
    def feature_channels(self) -> int:
        """Channels of the encoder's features that condition the flow."""
        return self.nf * (int(self.level_feature) + len(self.stacked_blocks))

    def condition_channels_at(self, level: int) -> int:
        """Channels of u, the condition of a level, 1 … L."""
        return self.condition[level - 1] if self.condition else self.feature_channels

    def steps_at(self, level: int) -> int:
        """Conditional steps K of a level, 1 … L."""
        return _at(self.steps, level)

    def hidden_at(self, level: int) -> int:
        """Channels inside a coupling's f at a level, 1 … L."""
        return _at(self.hidden, level)

    def injector_hidden_at(self, level: int) -> int:
        """Channels inside an injector's f at a level, 1 … L."""
        return _at(self.hidden if self.injector_hidden is None else self.injector_hidden, level)

    @property
    def size_multiple(self) -> int:
        """LR height and width must be multiples of this."""
        return max(1, (1 << self.levels) // self.scale)

    def clamp_at(self, level: int) -> float:
        """Clamp c of a level, 1 … L."""
        if isinstance(self.clamp, tuple):
            return self.clamp[min(level, len(self.clamp)) - 1]
        return self.clamp

    @property
    def level_shapes(self) -> tuple[LevelShape, ...]:
        """Shapes of levels 1 … L."""
        shapes = []
        channels = 3
        exponent = self.scale.bit_length() - 1
        for level in range(1, self.levels + 1):
            channels *= 4
            if level == self.levels:
                leaving = channels
            else:
                leaving = channels - channels // 2 if level in self.split_levels else 0
            shapes.append(LevelShape(level, channels, leaving, exponent - level))
            channels -= leaving
        return tuple(shapes)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready fields without `UNUSED` ones; :meth:`from_dict` reads them back."""
        values = {}
        for name, value in asdict(self).items():
            if isinstance(value, tuple):
                value = list(value)
            if name not in UNUSED or value != UNUSED[name]:
                values[name] = value
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SRFlowConfig:
        """Read what :meth:`to_dict` returns.

        Raises:
            ArgumentError: for unknown fields or values out of range.
        """
        _check_names(values)
        return cls(**values)


def _at(counts: int | tuple[int, ...], level: int) -> int:
    return counts[level - 1] if isinstance(counts, tuple) else counts


@cache
def _validators() -> dict[str, TypeAdapter[Any]]:
    """A strict pydantic validator for each field: neither true nor "4" is a number."""
    hints = get_type_hints(SRFlowConfig, include_extras=True)
    return {name: TypeAdapter(hint, config=ConfigDict(strict=True)) for name, hint in hints.items()}


def _check_names(values: Iterable[str]) -> None:
    """Raises: ArgumentError for unknown fields."""
    known = sorted(field.name for field in fields(SRFlowConfig))
    for name in values:
        if name not in known:
            raise ArgumentError(
                f"unknown field {name!r}; the network's fields are {', '.join(known)}"
            )


def _check_field(name: str, value: object) -> Any:
    """Validate a field, with lists as tuples. Raises: ArgumentError for a wrong type or value."""
    try:
        return _validators()[name].validate_python(value)
    except ValidationError as error:
        raise ArgumentError(f"{name} is {value!r:.80}: {error.errors()[0]['msg']}") from error


_VARIANT_FIELDS: dict[str, dict[str, Any]] = {
    "paper": {
        "level_feature": False,
        "feature_resize": "bilinear",
        "net_actnorm": False,
        "net_middle_kernel": 3,
        "scale_map": "exp",
        "affine_order": "scale_first",
        "split_clamp": None,
    },
    "published": {
        "level_feature": True,
        "feature_resize": "nearest",
        "net_actnorm": True,
        "net_middle_kernel": 1,
        "scale_map": "sigmoid",
        "affine_order": "shift_first",
        "split_clamp": None,
    },
}
_VARIANT_FIELDS["bounded"] = {
    **_VARIANT_FIELDS["published"],
    "scale_map": "tanh",
    "split_clamp": 2.0,
}


def default_stacked_blocks(
    variant: Variant,
    *,
    scale: int,
    blocks: int,
    count: int | None = None,
) -> tuple[int, ...]:
    """Choose the RRDB blocks that condition the flow if nothing says which.

    There are `count` of them; if it is None, five in `paper`, four otherwise. They end with the
    last and have the largest equal gap that fits. The published ×8 network with 23 blocks uses 1,
    3, 5, 7, although these are only the first third.
    """
    if (variant, scale, blocks) == ("published", 8, 23) and count in (None, 4):
        return 1, 3, 5, 7
    count = min((5 if variant == "paper" else 4) if count is None else count, blocks)
    gap = max(1, (blocks - 1) // max(1, count - 1))
    return tuple(range(blocks - 1 - gap * (count - 1), blocks, gap))
