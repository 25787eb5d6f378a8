"""Transparent pixels: invisible colours must not affect visible ones."""

from __future__ import annotations

import numpy as np
from PIL import Image

from srflow_sdk.pixels.in_memory import Floats, Pixels, from_unit, to_unit

ENLARGE_CONTEXT = 3
"""Rows of the small picture above and below a cut that enlarging depends on."""


def fill_hidden(colour: Floats, alpha: Pixels, reach: int) -> Floats:
    """Give transparent pixels within `reach` of visible ones the mean of their neighbours.

    They grow outwards one pixel at a time, added in a fixed order: a crop with that much context
    gives the same bits.
    """
    # Many names: one loop over flat arrays, which no part of it could do without.
    visible = alpha > 0
    if visible.all() or not visible.any():
        return colour
    height, width, channels = colour.shape
    # With a frame of pixels without colour, neighbours of any pixel lie at fixed distances in the
    # flat array.
    has_colour = np.pad(visible, 1).ravel()
    inside = np.pad(np.ones_like(visible), 1).ravel()
    work = np.zeros((len(has_colour), channels), np.float32)
    work.reshape(height + 2, width + 2, channels)[1:-1, 1:-1][visible] = colour[visible]
    row = width + 2
    neighbours = np.array([-row - 1, -row, -row + 1, -1, 1, row - 1, row, row + 1])

    beside = np.logical_or.reduce([np.roll(has_colour, offset) for offset in neighbours])
    growing = np.flatnonzero(beside & inside & ~has_colour)
    for _ in range(reach):
        if not len(growing):
            break
        total = np.zeros((len(growing), channels), np.float32)
        count = np.zeros((len(growing), 1), np.float32)
        for offset in neighbours:
            total += work[growing + offset]  # zero where there is no colour yet
            count += has_colour[growing + offset, None]
        work[growing] = total / count
        has_colour[growing] = True
        around = (growing[:, None] + neighbours).ravel()
        growing = np.unique(around[inside[around] & ~has_colour[around]])
    result: Floats = colour.copy()
    grown = has_colour.reshape(height + 2, row)[1:-1, 1:-1] & ~visible
    result[grown] = work.reshape(height + 2, row, channels)[1:-1, 1:-1][grown]
    return result


def enlarge(plane: Floats, height: int, width: int) -> Floats:
    """Bicubic enlargement, H×W×C → height×width×C.

    Not clipped. Rows depend on ENLARGE_CONTEXT rows on each side.
    """
    result = np.empty((height, width, plane.shape[2]), np.float32)
    for c in range(plane.shape[2]):
        channel = Image.fromarray(np.ascontiguousarray(plane[..., c]))
        result[..., c] = np.asarray(channel.resize((width, height), Image.Resampling.BICUBIC))
    return result


def enlarge_alpha(alpha: Pixels, scale: int) -> Pixels:
    """Alpha, H×W of uint8, uint16 or float32 in [0, 1], enlarged in its own dtype.

    A constant stays that constant.
    """
    height, width = alpha.shape
    if alpha.min() == alpha.max():
        return np.full((height * scale, width * scale), alpha[0, 0], alpha.dtype)
    return from_unit(
        enlarge(to_unit(alpha[..., None]), height * scale, width * scale)[..., 0], alpha.dtype
    )
