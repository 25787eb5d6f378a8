"""Settings of `data.degradation`: how LR images are damaged as photographs are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from srflow_training._section import Section, Share


def _ascending(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise PydanticCustomError("range", "the first number must not be above the second")
    return limits


def _two_numbers(limits: Any) -> Any:
    if not isinstance(limits, list | tuple) or len(limits) != 2:
        raise PydanticCustomError("range", "two numbers [from, to] were expected")
    return limits


_Two, _Ascending = BeforeValidator(_two_numbers), AfterValidator(_ascending)
_Positive = Annotated[float, Field(gt=0, le=1000)]
_Factor = Annotated[float, Field(ge=0.1, le=4)]
_Quality = Annotated[int, Field(ge=1, le=100)]
_Range = Annotated[tuple[_Positive, _Positive], _Two, _Ascending]
_Factors = Annotated[tuple[_Factor, _Factor], _Two, _Ascending]
_Qualities = Annotated[tuple[_Quality, _Quality], _Two, _Ascending]

_WIDEST_BLUR = 3.0  # LR pixels; wider ones reach beyond the window's margin, by more than 0.65 of an 8-bit level
_LARGEST_FACTOR = 4.0

_OFF = (None, False, "", "off")  # YAML reads off as false
PRESETS: dict[str, dict[str, Any]] = {
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
"""Fields that differ from the defaults, by name. "strong" has about the ranges of Real-ESRGAN (its Sec. 4.1)."""


class Degradation(Section):
    """Random damage between a crop and its LR image, in several passes of four operations in random order.

    Two passes ("second order"), the operations and sinc filters are those of Real-ESRGAN (arXiv:2107.10833, Sec. 3.1
    to 3.3), the random order that of BSRGAN (arXiv:2103.14006, Sec. 3), and WebP is added.
    The defaults are preset "photo": a telephone's JPEG, mildly noisy and soft. A name, or the field `preset`, takes
    another's values.

    passes: how often the four operations are drawn. clean: share of training crops whose LR is the plain reduction.
    direct: share of the others that are damaged as a camera does it, once and in this order: `data.reduction`, then
    blur, noise and compression of LR pixels. That is what an enlarged photo is whose pixels are still the camera's.
    blur, resize, noise, compression: probability of each operation in each pass. The last pass always resizes: to
    the LR size, so operations that come after it act on LR pixels, the others on larger ones.
    blur_sigma: of Gaussians, in LR pixels, at most 3/√passes. anisotropic: share of Gaussians that have two widths, at
    a random angle.
    sinc: share of blurs that cut frequencies sharply and so ring. sinc_cutoff: in cycles per LR pixel.
    resize_factor: new side over old side, before the last pass; under 1 reduces. From 0.1 to the
    (passes − 1)-th root of 4; no side gets smaller than 8 pixels. Area, bilinear or bicubic.
    noise_sigma: standard deviation in 8-bit levels, of pixels as large as they are then; of Poisson noise, at white.
    poisson: share of noise whose variance grows with brightness. gray: share of noise that is equal in R, G and B.
    quality: of JPEG and WebP. webp: share of compressions that are WebP.
    """

    passes: Annotated[int, Field(ge=1, le=4)] = 2
    clean: Share = 0.1
    direct: Share = 0.0
    blur: Share = 0.5
    blur_sigma: _Range = (0.05, 0.4)
    anisotropic: Share = 0.5
    sinc: Share = 0.1
    sinc_cutoff: _Range = (0.3, 0.5)
    resize: Share = 0.5
    resize_factor: _Factors = (0.4, 1.25)
    noise: Share = 0.5
    noise_sigma: _Range = (0.5, 6.0)
    poisson: Share = 0.5
    gray: Share = 0.4
    compression: Share = 0.75
    quality: _Qualities = (65, 95)
    webp: Share = 0.2

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, values: Any) -> Any:
        if isinstance(values, cls):
            return values
        fields = {"preset": values} if isinstance(values, str) else values
        names = ", ".join(PRESETS)
        if not isinstance(fields, Mapping):
            raise PydanticCustomError("preset", f"off, a preset ({names}) or fields were expected")
        preset = fields.get("preset", "photo")
        if preset in _OFF:
            raise PydanticCustomError("preset", "'off' has no fields: set data.degradation=off")
        if str(preset) not in PRESETS:
            raise PydanticCustomError("preset", f"there is no preset {str(preset)!r}; the presets are off, {names}")
        return {**PRESETS[preset], **{name: value for name, value in fields.items() if name != "preset"}}

    @model_validator(mode="after")
    def _fits_the_window(self) -> Degradation:
        blur, factor = _WIDEST_BLUR / math.sqrt(self.passes), _LARGEST_FACTOR ** (1 / max(1, self.passes - 1))
        for name, most, why in (
            ("blur_sigma", blur, "blurs would reach beyond what surrounds a crop"),
            ("resize_factor", factor, "images would grow too large for memory"),
        ):
            if getattr(self, name)[1] > most:
                largest = math.floor(100 * most) / 100
                raise ValueError(f"{name} is above {largest:g}, the most for passes={self.passes}: {why}: lower either")
        return self


def with_fields(inherited: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Fields in place of those of what a base has: off, a preset's name or fields. A preset in them starts anew."""
    if inherited in _OFF or "preset" in changes:
        return dict(changes)
    return {**(inherited if isinstance(inherited, Mapping) else {"preset": inherited}), **changes}


def _off(value: Any) -> Any:
    return None if value in _OFF else value


OptionalDegradation = Annotated[Degradation | None, BeforeValidator(_off)]
