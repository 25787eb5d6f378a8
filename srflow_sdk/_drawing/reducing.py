"""The LR image of an HR image, as a network's training made them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk._images import from_unit, to_unit
from srflow_sdk._pixels.resizing import RowReducer
from srflow_sdk.manifest import Manifest
from srflow_sdk.tiles import padded_size

_BAND = 256  # rows that are converted at a time


def reduced_image(pixels: NDArray[Any], manifest: Manifest) -> NDArray[Any]:
    """Reduce an image, H×W×C, by the model's scale: ⌈H/scale⌉×⌈W/scale⌉×C of its dtype, rounded.

    By the manifest's `reduction`, in the image's own values. Sides that are no multiple of the scale are filled up with
    the last row and column.
    """
    height, width, channels = pixels.shape
    size = padded_size(height, manifest.scale), padded_size(width, manifest.scale)
    to = size[0] // manifest.scale, size[1] // manifest.scale
    reducer = RowReducer(size, to, manifest.reduction)
    result, done = np.empty((*to, channels), pixels.dtype), 0
    for top in range(0, size[0], _BAND):
        rows = np.minimum(np.arange(top, min(top + _BAND, size[0])), height - 1)
        band = np.pad(to_unit(pixels[rows]), ((0, 0), (0, size[1] - width), (0, 0)), mode="edge")
        reduced = reducer.push(band)
        result[done : done + len(reduced)] = from_unit(reduced, pixels.dtype)
        done += len(reduced)
    return result
