"""Conservative smoothing: no pixel may be much brighter or darker than those around it.

A sample of a flow has specks, single pixels far from their neighbours, long before its texture is
as rich as a photograph's. The luma of each pixel is limited to what lies between the second
smallest and the second largest of its eight neighbours; the filter of this name limits to the
smallest and the largest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from srflow_sdk.pixels.in_memory import LUMA, Floats

NEIGHBOURS = [(down, right) for down in range(3) for right in range(3) if (down, right) != (1, 1)]
"""Where a pixel's neighbours begin in an array that has one more row and column on each side."""

_CACHED = 1 << 15  # pixels that are smoothed at a time: what lies between stays in the cache


def smooth(picture: Floats, rows: slice, columns: slice) -> Floats:
    """Limit the luma of each pixel of a part to its neighbours'; the colour's hue stays.

    Args:
        picture: float32 H×W×3. At its edges, the pixels beyond are those of the edge.
        rows, columns: The part, by numbers within the picture.

    Returns:
        The part, float32 h×w×3.
    """
    red, green, blue = LUMA
    luma = red * picture[..., 0] + green * picture[..., 1] + blue * picture[..., 2]
    luma = np.pad(luma, 1, mode="edge")
    smoothed = np.array(picture[rows, columns])
    step = max(1, _CACHED // smoothed.shape[1])
    for top in range(rows.start, rows.stop, step):
        bottom = min(top + step, rows.stop)
        around = [
            luma[top + y : bottom + y, columns.start + x : columns.stop + x] for y, x in NEIGHBOURS
        ]
        own = luma[top + 1 : bottom + 1, columns.start + 1 : columns.stop + 1]
        low, high = second_least_and_most(around, np.minimum, np.maximum)
        part = smoothed[top - rows.start : bottom - rows.start]
        part += (np.clip(own, low, high) - own)[..., None]
    return smoothed


def second_least_and_most(
    values: Sequence[Any], minimum: Callable[[Any, Any], Any], maximum: Callable[[Any, Any], Any]
) -> tuple[Any, Any]:
    """Find the second smallest and the second largest of arrays, tensors, or names in a graph.

    Args:
        values: Two at least.
        minimum, maximum: Of two of them.
    """
    least = minimum(values[0], values[1])
    most = maximum(values[0], values[1])
    second_least = most
    second_most = least
    for value in values[2:]:
        second_least = minimum(second_least, maximum(least, value))
        least = minimum(least, value)
        second_most = maximum(second_most, minimum(most, value))
        most = maximum(most, value)
    return second_least, second_most
