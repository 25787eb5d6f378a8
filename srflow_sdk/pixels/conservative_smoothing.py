"""Conservative smoothing: no pixel may be much brighter or darker than those around it.

A sample of a flow has specks, single pixels far from their neighbours, long before its texture is
as rich as a photograph's. The luma of each pixel is limited to what lies between the second
smallest and the second largest of its eight neighbours; the filter of this name limits to the
smallest and the largest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
    height, width = picture.shape[:2]
    first = max(columns.start - 1, 0)
    last = min(columns.stop + 1, width)
    beside = (first - columns.start + 1, columns.stop + 1 - last)
    result = np.empty((rows.stop - rows.start, columns.stop - columns.start, 3), np.float32)
    step = max(1, _CACHED // result.shape[1])
    for start in range(rows.start, rows.stop, step):
        stop = min(start + step, rows.stop)
        top = max(start - 1, 0)
        bottom = min(stop + 1, height)
        part = picture[top:bottom, first:last]
        luma = LUMA[0] * part[..., 0] + LUMA[1] * part[..., 1] + LUMA[2] * part[..., 2]
        around = np.pad(luma, ((top - start + 1, stop + 1 - bottom), beside), mode="edge")
        neighbours = [
            around[down : down + stop - start, right : right + result.shape[1]]
            for down, right in NEIGHBOURS
        ]
        low, high = second_least_and_most(neighbours, np.minimum, np.maximum)
        own = around[1:-1, 1:-1]
        change = np.clip(own, low, high) - own
        target = result[start - rows.start : stop - rows.start]
        np.add(picture[start:stop, columns], change[..., None], out=target)
    return result


def second_least_and_most(
    eight: Sequence[Any], minimum: Callable[[Any, Any], Any], maximum: Callable[[Any, Any], Any]
) -> tuple[Any, Any]:
    """Find the second smallest and the second largest of eight values.

    Args:
        eight: Arrays, tensors, or names of a graph's values.
        minimum, maximum: Of two of them.
    """
    pairs = [(minimum(one, other), maximum(one, other)) for one, other in _in_twos(eight)]
    reversed_pairs = [(more, less) for less, more in pairs]
    return _second_least(pairs, minimum, maximum), _second_least(reversed_pairs, maximum, minimum)


def _second_least(
    pairs: Sequence[tuple[Any, Any]],
    minimum: Callable[[Any, Any], Any],
    maximum: Callable[[Any, Any], Any],
) -> Any:
    """The second smallest of ordered pairs, a power of two: the two of each two pairs play on."""
    while len(pairs) > 1:
        pairs = [
            (minimum(a, b), minimum(maximum(a, b), minimum(next_a, next_b)))
            for (a, next_a), (b, next_b) in _in_twos(pairs)
        ]
    return pairs[0][1]


def _in_twos(values: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(values[::2], values[1::2], strict=True)
