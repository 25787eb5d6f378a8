"""Textures that tile: a picture is drawn with margins of its own repetition, which are cut off.

The latents repeat with the picture, so what lies beyond an edge is drawn as what lies at the
opposite one. Where a side is no whole number of a level's latent pixels, that level repeats after
the next whole number, and both differ a little. So the last pixels of a side fade into those that
were drawn before its first one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from srflow_sdk.geometry.tiles import padded_size
from srflow_sdk.model.manifest import Manifest
from srflow_sdk.pixels.in_memory import Pixels, from_unit, to_unit
from srflow_sdk.pixels.resizing import CONTEXT


def margins_for(
    wrap: str, size: Sequence[int], output: Sequence[int], manifest: Manifest
) -> tuple[int, ...]:
    """The LR rows and columns of its repetition that a picture needs.

    output: its size, enlarged.
    """
    margins = []
    for axis, side, to in zip("yx", size, output, strict=True):
        # Whole latent pixels, and whole pixels of the output.
        step = math.lcm(manifest.size_multiple, side // math.gcd(side, to))
        # a reduction reaches three pixels of the output
        needed = manifest.halo + CONTEXT + 3 * side // to
        margins.append(padded_size(needed, step) if axis in wrap else 0)
    return tuple(margins)


def add_margins(values: Pixels, margins: Sequence[int]) -> Pixels:
    """Values, H×W or H×W×C, with so many rows and columns of their repetition on each side."""
    return np.pad(
        values, [(margin, margin) for margin in (*margins, 0)][: values.ndim], mode="wrap"
    )


def cut_and_join_edges(whole: Pixels, size: Sequence[int], lr_size: Sequence[int]) -> Pixels:
    """The picture of this height and width inside of margins, H×W×C; it fades in 4 LR pixels."""
    picture = to_unit(whole)
    for axis, (side, lr_side) in enumerate(zip(size, lr_size, strict=True)):
        lines = picture.swapaxes(0, axis)
        start = (len(lines) - side) // 2
        end = start + side
        fade = min(start, side, 4 * side // lr_side)
        last = lines[end - fade : end]
        last += np.linspace(0, 1, fade + 2)[1:-1, None, None] * (lines[start - fade : start] - last)
        picture = lines[start:end].swapaxes(0, axis)
    return from_unit(picture, whole.dtype)
