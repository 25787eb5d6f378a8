"""Exact ICC profiles of a matrix and three curves, as of Adobe RGB, Display P3, ProPhoto, most cameras and screens.

libvips' engine resamples 16-bit transforms onto a grid of 33 levels, which loses up to 5/255 in shadows; nearly all RGB
profiles are of this simple kind, and their formulas are short. Section numbers refer to ICC.1:2022, the specification.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.files.metadata import icc
from srflow_sdk.pixels import Floats

_TAG_TABLE = icc.HEADER_BYTES  # section 7.3
_LOOKUP_TABLES = (b"A2B0", b"A2B1")  # in profiles that have these, the matrix is only an approximation
_SINGULAR = 1e-5
_MOST_SAMPLES = 65536
_MOST_TAGS = 1000

# sRGB's primaries as its profiles hold them: columns of XYZ, adapted to D50.
_SRGB_TO_XYZ = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])


@dataclass(frozen=True)
class MatrixProfile:
    """An RGB profile: curves to linear light, then a matrix. Colours beyond the target's range are clipped."""

    curves: tuple[Curve, Curve, Curve]
    to_linear_srgb: NDArray[np.floating[Any]] = field(repr=False)  # 3×3

    def to_srgb(self, values: Floats) -> Floats:
        """sRGB from values of the profile, float32 h×w×3 in [0, 1]."""
        linear = np.stack([curve.linear(values[..., c]) for c, curve in enumerate(self.curves)], axis=-1)
        return SRGB_CURVE.values(_times(linear, self.to_linear_srgb))

    def from_srgb(self, srgb: Floats) -> Floats:
        """Values of the profile from sRGB, float32 h×w×3 in [0, 1]."""
        linear = _times(SRGB_CURVE.linear(srgb), np.linalg.inv(self.to_linear_srgb))
        return np.stack([curve.values(linear[..., c]) for c, curve in enumerate(self.curves)], axis=-1)


def read_matrix_profile(icc_profile: bytes) -> MatrixProfile | None:
    """Read the formulas of an RGB profile; None if it is damaged or of another kind."""
    try:
        tags = _tags(icc_profile)
        if icc_profile[16:24] != b"RGB XYZ " or any(name in tags for name in _LOOKUP_TABLES):
            return None
        columns = [struct.unpack_from(">8x3i", tags[name]) for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
        primaries = np.stack(columns, axis=1) / 65536
        red, green, blue = (_curve(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC"))
    except (KeyError, struct.error):
        return None
    if red is None or green is None or blue is None or abs(np.linalg.det(primaries)) < _SINGULAR:
        return None
    return MatrixProfile(curves=(red, green, blue), to_linear_srgb=np.linalg.inv(_SRGB_TO_XYZ) @ primaries)


@dataclass(frozen=True)
class _Parametric:
    """Linear light = (a·x + b)^g + e from x = d on, c·x + f below: all five kinds of section 10.18, and gammas."""

    g: float
    a: float = 1.0
    b: float = 0.0
    c: float = 0.0
    d: float = 0.0
    e: float = 0.0
    f: float = 0.0

    def linear(self, values: Floats) -> Floats:
        """Linear light from values of the profile, both in [0, 1]."""
        with np.errstate(over="ignore"):  # absurd curves may leave the range of float32; they are clipped
            power = np.power(np.maximum(values * np.float32(self.a) + np.float32(self.b), 0), np.float32(self.g))
        line = values * np.float32(self.c) + np.float32(self.f)
        return _clipped(np.where(values >= self.d, power + np.float32(self.e), line))

    def values(self, linear: Floats) -> Floats:
        """Values of the profile from linear light, both in [0, 1]."""
        with np.errstate(over="ignore"):
            bend = np.power(np.float64(max(self.a * self.d + self.b, 0.0)), self.g) + self.e
            root = np.power(np.maximum(linear - np.float32(self.e), 0), np.float32(1 / self.g))
        power = (root - np.float32(self.b)) / np.float32(self.a)
        line = (linear - np.float32(self.f)) / np.float32(self.c) if self.c > 0 else np.float32(self.d)
        return _clipped(np.where(linear >= bend, power, line))


@dataclass(frozen=True)
class _Sampled:
    """Linear light at evenly spaced values, with straight lines between them."""

    samples: NDArray[np.float64] = field(repr=False)

    def linear(self, values: Floats) -> Floats:
        return np.interp(values, np.linspace(0, 1, len(self.samples)), self.samples).astype(np.float32)

    def values(self, linear: Floats) -> Floats:
        return np.interp(linear, self.samples, np.linspace(0, 1, len(self.samples))).astype(np.float32)


Curve = _Parametric | _Sampled
"""A profile's curve of one colour."""

SRGB_CURVE = _Parametric(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
"""sRGB's, from IEC 61966-2-1."""


def _tags(icc_profile: bytes) -> dict[bytes, memoryview]:
    """Tag names and their data; data beyond the end are cut short."""
    whole = memoryview(icc_profile)  # so that a thousand tags that each claim the whole file take no memory
    (count,) = struct.unpack_from(">I", icc_profile, _TAG_TABLE)
    tags = {}
    for n in range(min(count, _MOST_TAGS)):
        name, offset, size = struct.unpack_from(">4sII", icc_profile, _TAG_TABLE + 4 + 12 * n)
        tags[name] = whole[offset : offset + size]
    return tags


def _curve(tag: memoryview) -> Curve | None:
    """A curve that can be inverted; None for others."""
    kind = bytes(tag[:4])
    if kind == b"para":
        return _parametric(tag)
    if kind != b"curv":
        return None
    (count,) = struct.unpack_from(">8xI", tag)
    if count == 0:
        return _Parametric(1.0)
    if count == 1:
        (gamma,) = struct.unpack_from(">12xH", tag)
        return _Parametric(gamma / 256) if gamma else None
    if count > _MOST_SAMPLES:
        return None
    samples = np.array(struct.unpack_from(f">12x{count}H", tag)) / 65535
    rising = samples[-1] > samples[0] and np.all(np.diff(samples) >= 0)
    return _Sampled(samples) if rising else None


def _parametric(tag: memoryview) -> Curve | None:
    (kind,) = struct.unpack_from(">8xH", tag)
    if kind > 4:
        return None
    g, *rest = (number / 65536 for number in struct.unpack_from(f">12x{(1, 3, 4, 5, 7)[kind]}i", tag))
    if kind == 0:
        curve = _Parametric(g)
    elif kind < 3:
        a, b, *offset = rest
        constant = offset[0] if offset else 0.0
        curve = _Parametric(g, a, b, d=-b / a if a else 0.0, e=constant, f=constant)
    else:
        curve = _Parametric(g, *rest)
    rising = g > 0 and curve.a > 0 and curve.c >= 0
    return curve if rising else None


def _times(colours: Floats, matrix: NDArray[np.floating[Any]]) -> Floats:
    """Each colour multiplied by the matrix, clipped to [0, 1]."""
    flat = colours.reshape(-1, 3) @ matrix.T.astype(np.float32)
    return _clipped(flat.reshape(colours.shape))


def _clipped(values: Floats) -> Floats:
    clipped: Floats = np.clip(values, 0, 1, dtype=np.float32)
    return clipped
