"""Colour profiles: converts RGB pixels to sRGB, all that the network saw in training, and back.

Profiles of a matrix and three curves, as of Adobe RGB, Display P3, ProPhoto, most cameras and
screens, are converted by their formulas: libvips' engine resamples 16-bit transforms onto a grid of
33 levels, which loses up to 5/255 in shadows. libvips converts those that hold lookup tables.
Section numbers refer to ICC.1:2022, the specification.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.pixels.in_memory import Floats, Pixels, to_unit
from srflow_sdk.system.libvips import pyvips, start_threads

_LOGGER = logging.getLogger(__name__)

PROFILE_FIELD = "icc-profile-data"
"""libvips' name for an image's ICC profile."""

PROFILE_HEADER_BYTES = 128
"""Length of a profile's header (ICC.1:2022, section 7.2); the tag table follows."""

_REFUSED = "the image's colour profile %s; its values are taken as sRGB"
_STRIP = 1 << 15  # pixels
# how far an sRGB profile may be from sRGB: real ones differ by up to 0.9/255, others by over 7/255
_SAME = 1.5 / 255
_INTENT = {"intent": "relative", "black_point_compensation": True}
_WHITE = np.float32(65535)
_SINGULAR = 1e-5

# sRGB's primaries as its profiles hold them: columns of XYZ, adapted to D50.
_SRGB_TO_XYZ = np.array(
    [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]]
)


@dataclass(frozen=True)
class _Parametric:
    """A curve of ICC.1: (a·x + b)^g + e from x = d on, c·x + f below.

    All five kinds of section 10.18, and gammas.
    """

    g: float
    a: float = 1.0
    b: float = 0.0
    c: float = 0.0
    d: float = 0.0
    e: float = 0.0
    f: float = 0.0

    def linear(self, values: Floats) -> Floats:
        """Linear light from values of the profile, both in [0, 1]."""
        # absurd curves may leave the range of float32; they are clipped
        with np.errstate(over="ignore"):
            power = np.power(
                np.maximum(values * np.float32(self.a) + np.float32(self.b), 0), np.float32(self.g)
            )
        line = values * np.float32(self.c) + np.float32(self.f)
        return _clip(np.where(values >= self.d, power + np.float32(self.e), line))

    def values(self, linear: Floats) -> Floats:
        """Values of the profile from linear light, both in [0, 1]."""
        with np.errstate(over="ignore"):
            bend = np.power(np.float64(max(self.a * self.d + self.b, 0.0)), self.g) + self.e
            root = np.power(np.maximum(linear - np.float32(self.e), 0), np.float32(1 / self.g))
        power = (root - np.float32(self.b)) / np.float32(self.a)
        line = (
            (linear - np.float32(self.f)) / np.float32(self.c) if self.c > 0 else np.float32(self.d)
        )
        return _clip(np.where(linear >= bend, power, line))


@dataclass(frozen=True)
class _Sampled:
    """Linear light at evenly spaced values, with straight lines between them."""

    samples: NDArray[np.float64] = field(repr=False)

    def linear(self, values: Floats) -> Floats:
        return np.interp(values, np.linspace(0, 1, len(self.samples)), self.samples).astype(
            np.float32
        )

    def values(self, linear: Floats) -> Floats:
        return np.interp(linear, self.samples, np.linspace(0, 1, len(self.samples))).astype(
            np.float32
        )


Curve = _Parametric | _Sampled
"""A profile's curve of one colour."""

SRGB_CURVE = _Parametric(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
"""sRGB's, from IEC 61966-2-1."""


class ColourConversion:
    """Converts RGB pixels between a profile that is not sRGB, and sRGB.

    Relative colorimetric; thread-safe.
    """

    def __init__(self, icc_profile: bytes) -> None:
        self._icc_profile = icc_profile
        formulas = _formulas(icc_profile)
        self.curves: tuple[Curve, ...] = (SRGB_CURVE,) * 3 if formulas is None else formulas[0]
        """The curves between the profile's values and linear light; sRGB's if the profile holds
        lookup tables."""
        self._to_linear_srgb = None if formulas is None else formulas[1]

    def to_srgb(self, pixels: Pixels) -> Floats:
        """Convert h×w×3 of the profile to sRGB, float32 h×w×3 in [0, 1].

        Pixels are uint8, uint16 or float32 in [0, 1].
        """
        if (matrix := self._to_linear_srgb) is None:
            image = self._tag(_to_vips(pixels))
            return _from_vips(image.icc_transform("srgb", embedded=True, depth=16, **_INTENT))

        def convert(values: Floats) -> Floats:
            linear = np.stack(
                [curve.linear(values[..., c]) for c, curve in enumerate(self.curves)], axis=-1
            )
            return SRGB_CURVE.values(_times(linear, matrix))

        return _in_strips(convert, pixels)

    def from_srgb(self, srgb: Floats) -> Floats:
        """Convert sRGB, float32 h×w×3 in [0, 1], to RGB of the profile, in the same form."""
        if (matrix := self._to_linear_srgb) is None:
            colours = _to_vips(srgb).icc_import(input_profile="srgb", **_INTENT)
            # Without an output profile, libvips exports to the one that the image carries: no file
            # is needed.
            return _from_vips(self._tag(colours).icc_export(depth=16, **_INTENT))

        def convert(values: Floats) -> Floats:
            linear = _times(SRGB_CURVE.linear(values), np.linalg.inv(matrix))
            return np.stack(
                [curve.values(linear[..., c]) for c, curve in enumerate(self.curves)], axis=-1
            )

        return _in_strips(convert, srgb)

    def _tag(self, image: Any) -> Any:
        image = image.copy()  # metadata of an image that others may hold must not change
        image.set_type(pyvips().GValue.blob_type, PROFILE_FIELD, self._icc_profile)
        return image


@lru_cache(maxsize=8)
def conversion_for(icc_profile: bytes | None, *, channels: int) -> ColourConversion | None:
    """The conversion between a profile and sRGB.

    None for gray, for sRGB, and, logged, for what is no RGB profile.
    """
    if icc_profile is None or channels < 3:
        return None
    space = profile_space(icc_profile)
    if space != b"RGB ":
        _LOGGER.warning(
            _REFUSED, "is damaged" if space is None else f"is for {space!r} values, not for RGB"
        )
        return None
    conversion = ColourConversion(icc_profile)
    levels = np.linspace(0, 1, 16, dtype=np.float32)
    cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 3)
    grays = np.repeat(np.linspace(0, 1, 256, dtype=np.float32)[:, None], 3, axis=1)
    probe = np.concatenate([cube, grays])[None]
    try:
        # In this order: libvips silently reads a damaged profile as if it were sRGB, but does not
        # write to one.
        conversion.from_srgb(probe)
        difference = np.abs(conversion.to_srgb(probe) - probe).max()
    except pyvips().Error:
        _LOGGER.warning(_REFUSED, "is damaged, or works in one direction only")
        return None
    return None if difference <= _SAME else conversion


def profile_space(profile: bytes) -> bytes | None:
    """A profile's colour space, e.g. b"RGB " or b"GRAY".

    None if this is not a profile or has no room for a tag.
    """
    if len(profile) <= PROFILE_HEADER_BYTES + 4 or profile[36:40] != b"acsp":
        return None
    return profile[16:20]


def _formulas(icc_profile: bytes) -> tuple[tuple[Curve, ...], NDArray[np.floating[Any]]] | None:
    """The curves of an RGB profile and the matrix to linear sRGB.

    None if it is damaged or of another kind.
    """
    # so that a thousand tags that each claim the whole file take no memory
    whole = memoryview(icc_profile)
    try:
        (count,) = struct.unpack_from(">I", icc_profile, PROFILE_HEADER_BYTES)  # section 7.3
        entries = (PROFILE_HEADER_BYTES + 4 + 12 * n for n in range(count))
        rows = (struct.unpack_from(">4sII", icc_profile, entry) for entry in entries)
        tags = {name: whole[offset : offset + size] for name, offset, size in rows}
        # which the matrix approximates
        if icc_profile[16:24] != b"RGB XYZ " or b"A2B0" in tags or b"A2B1" in tags:
            return None
        columns = [struct.unpack_from(">8x3i", tags[name]) for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
        curves = [_curve(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC")]
    except (KeyError, struct.error):
        return None
    primaries = np.stack(columns, axis=1) / 65536
    usable = tuple(curve for curve in curves if curve is not None)
    if len(usable) < 3 or abs(np.linalg.det(primaries)) < _SINGULAR:
        return None
    return usable, np.linalg.inv(_SRGB_TO_XYZ) @ primaries


def _curve(tag: memoryview) -> Curve | None:
    """A curve that can be inverted; None for others."""
    kind, (count,) = bytes(tag[:4]), struct.unpack_from(">8xI", tag)
    if kind == b"para" and (form := count >> 16) <= 4:
        g, *rest = (
            number / 65536 for number in struct.unpack_from(f">12x{(1, 3, 4, 5, 7)[form]}i", tag)
        )
        if form in (1, 2):
            a, b, *offset = rest
            constant = offset[0] if offset else 0.0
            curve = _Parametric(g, a, b, d=-b / a if a else 0.0, e=constant, f=constant)
        else:
            curve = _Parametric(g, *rest)
        return curve if g > 0 and curve.a > 0 and curve.c >= 0 else None
    if kind != b"curv":
        return None
    if count <= 1:
        gamma = struct.unpack_from(">12xH", tag)[0] / 256 if count else 1.0
        return _Parametric(gamma) if gamma else None
    samples = np.array(struct.unpack_from(f">12x{count}H", tag)) / 65535
    rising = samples[-1] > samples[0] and np.all(np.diff(samples) >= 0)
    return _Sampled(samples) if rising else None


def _times(colours: Floats, matrix: NDArray[np.floating[Any]]) -> Floats:
    """Each colour multiplied by the matrix, clipped to [0, 1]."""
    return _clip((colours.reshape(-1, 3) @ matrix.T.astype(np.float32)).reshape(colours.shape))


def _clip(values: Floats) -> Floats:
    clipped: Floats = np.clip(values, 0, 1, dtype=np.float32)
    return clipped


def _in_strips(convert: Callable[[Floats], Floats], pixels: Pixels) -> Floats:
    """Convert a few rows at a time, so that intermediate values stay small."""
    result = np.empty(pixels.shape, np.float32)
    height = max(_STRIP // pixels.shape[1], 1)
    for top in range(0, len(pixels), height):
        result[top : top + height] = convert(np.clip(to_unit(pixels[top : top + height]), 0, 1))
    return result


def _to_vips(pixels: Pixels) -> Any:
    """Pixels of any dtype as a libvips image of 16 bits."""
    sixteen = np.rint(np.clip(to_unit(pixels), 0, 1) * _WHITE).astype(np.uint16)
    return pyvips().Image.new_from_array(sixteen, interpretation="rgb16")


def _from_vips(image: Any) -> Floats:
    """A libvips image of 16 bits as float32 in [0, 1]."""
    start_threads()
    values = np.frombuffer(image.write_to_memory(), np.uint16).reshape(image.height, image.width, 3)
    unit: Floats = np.divide(values, _WHITE, dtype=np.float32)
    return unit
