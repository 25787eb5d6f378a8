"""Colour profiles: converts RGB pixels to sRGB, all that the network saw in training, and back."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.files.libvips import pyvips, start_threads
from srflow_sdk.files.metadata import icc
from srflow_sdk.pixels import Floats
from srflow_sdk.pixels.in_memory import to_unit
from srflow_sdk.pixels.matrix_profiles import SRGB_CURVE, Curve, read_matrix_profile

_LOGGER = logging.getLogger(__name__)
_LOCK = threading.Lock()  # so that images with one profile that arrive at once are examined once, and warn once

_REFUSED = "the image's colour profile %s; its values are taken as sRGB"
_STRIP = 1 << 15  # pixels
_LARGEST = 64 << 20  # bytes; real profiles stay under a tenth of it
_SAME = 1.5 / 255  # how far an sRGB profile may be from sRGB: real ones differ by up to 0.9/255, others by over 7/255
_INTENT = {"intent": "relative", "black_point_compensation": True}
_WHITE = np.float32(65535)


class ColourConversion:
    """Converts RGB pixels between a profile that is not sRGB, and sRGB. Relative colorimetric; thread-safe.

    Colours outside the target's gamut move to its edge. Others come back from sRGB as they were: to float32 precision
    with profiles of a matrix and curves, to a few 1/255 in shadows with profiles that hold lookup tables, which libvips
    converts in 16 bits.
    """

    def __init__(self, icc_profile: bytes) -> None:
        self._icc_profile = icc_profile
        self._formulas = read_matrix_profile(icc_profile)

    def to_srgb(self, pixels: NDArray[Any]) -> Floats:
        """Convert h×w×3 of the profile, uint8, uint16 or float32 in [0, 1], to sRGB, float32 h×w×3 in [0, 1]."""
        if self._formulas is not None:
            return _in_strips(self._formulas.to_srgb, pixels)
        image = self._tagged(_to_vips(pixels))
        return _from_vips(image.icc_transform("srgb", embedded=True, depth=16, **_INTENT))

    def from_srgb(self, srgb: Floats) -> Floats:
        """Convert sRGB, float32 h×w×3 in [0, 1], to RGB of the profile, in the same form."""
        if self._formulas is not None:
            return _in_strips(self._formulas.from_srgb, srgb)
        colours = _to_vips(srgb).icc_import(input_profile="srgb", **_INTENT)
        # Without an output profile, libvips exports to the one that the image carries: no file is needed.
        return _from_vips(self._tagged(colours).icc_export(depth=16, **_INTENT))

    @property
    def curves(self) -> tuple[Curve, Curve, Curve]:
        """The curves between the profile's values and linear light; sRGB's if the profile holds lookup tables."""
        return (SRGB_CURVE,) * 3 if self._formulas is None else self._formulas.curves

    def _tagged(self, image: Any) -> Any:
        image = image.copy()  # metadata of an image that others may hold must not change
        image.set_type(pyvips().GValue.blob_type, icc.VIPS_FIELD, self._icc_profile)
        return image


def conversion_for(icc_profile: bytes | None, *, channels: int) -> ColourConversion | None:
    """The conversion between a profile and sRGB; None: use the values as they are.

    channels: of the pixels, 1 … 4; 2 and 4 have alpha. None for images without a profile, for gray ones, for an sRGB
    profile in any of its many forms (it moves no colour by more than 1.5/255), and for profiles that cannot be used
    because they are damaged, not for RGB, or of one direction only. These are logged once.

    Raises: MissingExtraError if a profile holds lookup tables and libvips cannot be loaded.
    """
    if icc_profile is None or channels < 3:
        return None
    with _LOCK:
        return _conversion(icc_profile)


@lru_cache(maxsize=8)
def _conversion(icc_profile: bytes) -> ColourConversion | None:
    space, reason = icc.colour_space(icc_profile), None
    if len(icc_profile) > _LARGEST:
        reason = f"is larger than {_LARGEST >> 20} MB"
    elif space != b"RGB ":
        reason = "is damaged" if space is None else f"is for {space!r} values, not for RGB"
    if reason is not None:
        _LOGGER.warning(_REFUSED, reason)
        return None
    conversion, probe = ColourConversion(icc_profile), _probe()
    try:
        # In this order: libvips silently reads a damaged profile as if it were sRGB, but does not write to one.
        conversion.from_srgb(probe)
        difference = np.abs(conversion.to_srgb(probe) - probe).max()
    except pyvips().Error:
        _LOGGER.warning(_REFUSED, "is damaged, or works in one direction only")
        return None
    return None if difference <= _SAME else conversion


def _probe() -> Floats:
    """A cube of colours and a gray ramp, 1×n×3."""
    levels = np.linspace(0, 1, 16, dtype=np.float32)
    cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 3)
    ramp = np.repeat(np.linspace(0, 1, 256, dtype=np.float32)[:, None], 3, axis=1)
    return np.concatenate([cube, ramp])[None]


def _in_strips(convert: Callable[[Floats], Floats], pixels: NDArray[Any]) -> Floats:
    """Convert a few rows at a time, so that intermediate values stay small, and in the processor's caches."""
    result = np.empty(pixels.shape, np.float32)
    height = max(_STRIP // pixels.shape[1], 1)
    for top in range(0, len(pixels), height):
        result[top : top + height] = convert(np.clip(to_unit(pixels[top : top + height]), 0, 1))
    return result


def _to_vips(pixels: NDArray[Any]) -> Any:
    """Pixels of any dtype as a libvips image of 16 bits."""
    sixteen = np.rint(np.clip(to_unit(pixels), 0, 1) * _WHITE).astype(np.uint16)
    height, width, channels = sixteen.shape
    image = pyvips().Image.new_from_memory(sixteen.data, width, height, channels, "ushort")
    return image.copy(interpretation="rgb16")


def _from_vips(image: Any) -> Floats:
    """A libvips image of 16 bits as float32 in [0, 1]."""
    start_threads()
    values = np.frombuffer(image.write_to_memory(), np.uint16).reshape(image.height, image.width, 3)
    unit: Floats = np.divide(values, _WHITE, dtype=np.float32)
    return unit
