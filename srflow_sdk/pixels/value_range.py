"""Pictures of numbers in any units: their values are drawn as those of a picture in [0, 1], and
written back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.pixels.transparency import enlarged, filled
from srflow_sdk.plain_text import short

_FARTHEST = 1e30  # times the range's width; the pixels beyond it are resized in float32

RangeKeyword = tuple[float | str, float | str]


def parsed_range(given: object) -> tuple[float, float, bool]:
    """Take (low, high) as numbers or texts, and tell if they are percentiles ("1%"). Raises:
    ArgumentError.
    """
    try:
        low, high = (f"{one}".strip() for one in (() if isinstance(given, str) else given))  # type: ignore[attr-defined]
        least, most = float(low.removesuffix("%")), float(high.removesuffix("%"))
        if low.endswith("%") != high.endswith("%") or not 0 < most - least < math.inf:
            raise ValueError
    except (TypeError, ValueError):
        fix = 'it must be two numbers, the smaller one first, or percentiles ("1%", "99%")'
        raise ArgumentError(f"value_range is {short(given)}; {fix}") from None
    percent = low.endswith("%")
    if percent and not 0 <= least < most <= 100:
        raise ArgumentError(f"value_range is from {low} to {high}; percentiles are from 0 to 100")
    return least, most, percent


def in_range(
    values: NDArray[Any],
    value_range: RangeKeyword,
    draw: Callable[[NDArray[np.float32], int, int], NDArray[np.float32]],
    *,
    nodata: float | None = None,
) -> NDArray[Any]:
    """Enlarge values, H×W×C of any real dtype, band by band, or three bands together as RGB; the
    answer has the dtype.

    draw: enlarges float32 in [0, 1], given the number of the picture and of all. nodata: values
    that are it or NaN are guessed for the network and written back. What lies beyond the range is
    enlarged by bicubic interpolation and added.
    """
    if values.dtype.kind not in "iuf" or not values.size:
        raise ImageError(
            f"the values are {values.dtype}, of shape {values.shape}; they must be real numbers"
        )
    (least, most, percent), bands = parsed_range(value_range), values.shape[2]
    parts = [slice(0, 3)] if bands == 3 else [slice(band, band + 1) for band in range(bands)]
    done = []
    empty = math.nan if nodata is None else nodata
    for number, part in enumerate(parts):
        numbers = values[..., part].astype(np.float64)
        missing = np.isnan(numbers) | np.isclose(numbers, empty, rtol=1e-6, atol=0)
        known = numbers[~missing]
        if not known.size or not np.isfinite(known).all():
            raise ImageError(
                f"band {part.start + 1} has infinite values, or none at all; replace or remove them"
            )
        low, high = np.percentile(known, (least, most)).tolist() if percent else (least, most)
        if low == high:
            raise ImageError(
                f"both percentiles of band {part.start + 1} are {low:g}; name two values instead"
            )
        unit = (numbers - low) / (high - low)
        unit[missing] = 0.5
        if np.abs(unit).max() > _FARTHEST:
            reach = f"band {part.start + 1} has values from {known.min():g} to {known.max():g}"
            raise ImageError(
                f"{reach}, too far beyond value_range, {low:g} to {high:g}; widen that, or clip "
                "them"
            )
        inside = np.clip(unit, 0, 1)
        seen = [
            filled(np.float32(inside[..., [band]]), ~missing[..., band], 32)
            for band in range(inside.shape[2])
        ]
        drawn = draw(np.concatenate(seen, axis=2), number, len(parts)).astype(np.float64)
        if (unit != inside).any():
            drawn += enlarged(np.float32(unit - inside), *drawn.shape[:2])
        drawn = low + (high - low) * drawn
        limits = np.finfo(values.dtype) if values.dtype.kind == "f" else np.iinfo(values.dtype)
        top = float(limits.max)
        drawn = np.clip(
            drawn, float(limits.min), top if top <= limits.max else np.nextafter(top, 0)
        )
        if values.dtype.kind != "f":
            drawn = np.rint(drawn)
            drawn[drawn == empty] += 1 if empty < (low + high) / 2 else -1  # or data would be lost
        if missing.any():
            rows, columns = (
                np.arange(to) * of // to
                for to, of in zip(drawn.shape[:2], missing.shape, strict=False)
            )
            drawn[missing[np.ix_(rows, columns)]] = empty
        done.append(drawn.astype(values.dtype))
    return np.concatenate(done, axis=2)
