"""Conservative smoothing: no pixel may be much brighter or darker than those around it.

A sample of a flow has specks, single pixels far from their neighbours, long before its texture is
as rich as a photograph's. The luma of each pixel is limited to what lies between the second
smallest and the second largest of its eight neighbours; the filter of this name limits to the
smallest and the largest.
"""

from __future__ import annotations

import numpy as np

from srflow_sdk.pixels.in_memory import LUMA, Floats

_CACHED = 1 << 15  # pixels that are smoothed at a time: what lies between stays in the cache


def smooth(picture: Floats, rows: slice, columns: slice) -> Floats:
    """Limit the luma of each pixel of a part to its neighbours'; the colour's hue stays.

    Args:
        picture: float32 H×W×3. At its edges, the pixels beyond are those of the edge.
        rows, columns: The part, by numbers within the picture.

    Returns:
        The part, float32 h×w×3.
    """
    height, width = picture.shape[:2]
    left = max(columns.start - 1, 0)
    right = min(columns.stop + 1, width)
    beside = (left - columns.start + 1, columns.stop + 1 - right)
    result = np.empty((rows.stop - rows.start, columns.stop - columns.start, 3), np.float32)
    step = max(1, _CACHED // result.shape[1])
    for start in range(rows.start, rows.stop, step):
        stop = min(start + step, rows.stop)
        top = max(start - 1, 0)
        bottom = min(stop + 1, height)
        part = picture[top:bottom, left:right]
        luma = LUMA[0] * part[..., 0] + LUMA[1] * part[..., 1] + LUMA[2] * part[..., 2]
        around = np.pad(luma, ((top - start + 1, stop + 1 - bottom), beside), mode="edge")
        low, high = _second_of_neighbours(around)
        own = around[1:-1, 1:-1]
        change = np.clip(own, low, high) - own
        target = result[start - rows.start : stop - rows.start]
        np.add(picture[start:stop, columns], change[..., None], out=target)
    return result


def _second_of_neighbours(around: Floats) -> tuple[Floats, Floats]:
    """Find the second smallest and the second largest of each inner pixel's eight neighbours."""
    above = around[:-2]
    middle = around[1:-1]
    below = around[2:]
    # Of each column: its upper and lower pixel in order, and all three.
    less = np.minimum(above, below)
    more = np.maximum(above, below)
    least = np.minimum(less, middle)
    most = np.maximum(more, middle)
    median = np.maximum(np.minimum(more, middle), less)
    # Two of the six on the left and right, then of all eight.
    left = np.s_[:, :-2]
    inner = np.s_[:, 1:-1]
    right = np.s_[:, 2:]
    first = np.minimum(least[left], least[right])
    second = np.maximum(least[left], least[right])
    second = np.minimum(second, np.minimum(median[left], median[right]))
    low = np.minimum(np.maximum(first, less[inner]), np.minimum(second, more[inner]))
    first = np.maximum(most[left], most[right])
    second = np.minimum(most[left], most[right])
    second = np.maximum(second, np.maximum(median[left], median[right]))
    high = np.maximum(np.minimum(first, more[inner]), np.maximum(second, less[inner]))
    return low, high
