"""The LR image of an HR image, as a network's training made them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.drawing.tiles import padded_size
from srflow_sdk.flow.inverting import round_trip_halo
from srflow_sdk.model.manifest import Manifest
from srflow_sdk.pixels import Floats
from srflow_sdk.pixels.in_memory import ImageKind, from_unit, to_unit
from srflow_sdk.pixels.resizing import RowReducer
from srflow_sdk.pixels.transparency import filled

_BAND = 256  # rows that are converted at a time
_REACH = 4  # pixels of the reduced image: as far as two pixels that one of its pixels is made of lie apart


def reduced_image(pixels: NDArray[Any], manifest: Manifest) -> NDArray[Any]:
    """Reduce an image, H×W×C, by the model's scale: ⌈H/scale⌉×⌈W/scale⌉×C of its dtype, rounded.

    By the manifest's `reduction`, in the image's own values. Sides that are no multiple of the scale are filled up with
    the last row and column. Two and four channels have alpha as the last: colours under full transparency come from
    their neighbours, so that they do not show in visible pixels.
    """
    height, width, channels = pixels.shape
    size = padded_size(height, manifest.scale), padded_size(width, manifest.scale)
    to = size[0] // manifest.scale, size[1] // manifest.scale
    reducer = RowReducer(size, to, manifest.reduction)
    result, done = np.empty((*to, channels), pixels.dtype), 0
    for top in range(0, size[0], _BAND):
        bottom = min(top + _BAND, size[0])
        band = _visible(pixels, min(top, height - 1), min(bottom, height), _REACH * manifest.scale)
        margins = (0, bottom - top - len(band)), (0, size[1] - width), (0, 0)
        band = np.pad(band, margins, mode="edge")
        reduced = reducer.push(band)
        result[done : done + len(reduced)] = from_unit(reduced, pixels.dtype)
        done += len(reduced)
    return result


def opaque_image(pixels: NDArray[Any], kind: ImageKind, manifest: Manifest) -> tuple[NDArray[Any], ImageKind]:
    """An image without its alpha: colours near visible ones are theirs where there was full transparency.

    So the image and its reduction agree at the edges of what is visible, too.
    """
    if not kind.has_alpha:
        return pixels, kind
    reach = manifest.scale * round_trip_halo(manifest)
    result = np.empty((*pixels.shape[:2], kind.colours), pixels.dtype)
    for top in range(0, len(pixels), _BAND):
        bottom = min(top + _BAND, len(pixels))
        result[top:bottom] = from_unit(_visible(pixels, top, bottom, reach)[..., :-1], pixels.dtype)
    return result, dataclasses.replace(kind, channels=kind.colours)


def _visible(pixels: NDArray[Any], top: int, bottom: int, reach: int) -> Floats:
    """Rows in [0, 1], nothing under transparency within reach of what is visible."""
    if pixels.shape[2] in (1, 3):
        return to_unit(pixels[top:bottom])
    above = max(top - reach, 0)
    part = pixels[above : bottom + reach]
    values = to_unit(part)
    values[..., :-1] = filled(values[..., :-1], part[..., -1], reach)
    return values[top - above : bottom - above]
