"""Pictures of numbers in any units, drawn as those of a picture in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.pixels.in_memory import Floats
from srflow_sdk.pixels.transparency import enlarge, fill_hidden
from srflow_sdk.plain_text import short

_FARTHEST = 1e30  # times the range's width; the pixels beyond it are resized in float32

RangeKeyword = tuple[float | str, float | str]


def parsed_range(given: object) -> tuple[float, float, bool]:
    """Take (low, high) as numbers or texts, and tell if they are percentiles ("1%").

    Raises: ArgumentError.
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


def enlarge_in_range(
    values: NDArray[Any],
    value_range: RangeKeyword,
    draw: Callable[[Floats, int, int], Floats],
    *,
    nodata: float | None = None,
) -> NDArray[Any]:
    """Enlarge values, H×W×C of any real dtype, band by band, or three bands together as RGB.

    The answer has the dtype. What lies beyond the range is enlarged by bicubic interpolation and
    added.

    Args:
        draw: Enlarges float32 in [0, 1], given the number of the picture and of all.
        nodata: Values that are it or NaN are guessed for the network and written back.
    """
    # Many names, as each step is of one band.
    if values.dtype.kind not in "iuf" or not values.size:
        raise ImageError(
            f"the values are {values.dtype}, of shape {values.shape}; they must be real numbers"
        )
    limits = parsed_range(value_range)
    channels = values.shape[2]
    bands = [slice(0, 3)] if channels == 3 else [slice(at, at + 1) for at in range(channels)]
    empty = math.nan if nodata is None else nodata
    enlarged_bands = []
    for number, band in enumerate(bands):
        numbers = values[..., band].astype(np.float64)
        missing = np.isnan(numbers) | np.isclose(numbers, empty, rtol=1e-6, atol=0)
        low, high = _find_range(numbers[~missing], limits, f"band {band.start + 1}")
        unit = (numbers - low) / (high - low)
        unit[missing] = 0.5
        inside = np.clip(unit, 0, 1)
        seen = [
            fill_hidden(np.float32(inside[..., [at]]), ~missing[..., at], 32)
            for at in range(inside.shape[2])
        ]
        large = draw(np.concatenate(seen, axis=2), number, len(bands)).astype(np.float64)
        if (unit != inside).any():
            large += enlarge(np.float32(unit - inside), *large.shape[:2])
        large = _to_dtype(low + (high - low) * large, values.dtype)
        if values.dtype.kind != "f":
            large[large == empty] += 1 if empty < (low + high) / 2 else -1  # or data would be lost
        if missing.any():
            rows, columns = (
                np.arange(to) * of // to
                for to, of in zip(large.shape[:2], missing.shape, strict=False)
            )
            large[missing[np.ix_(rows, columns)]] = empty
        enlarged_bands.append(large.astype(values.dtype))
    return np.concatenate(enlarged_bands, axis=2)


def _find_range(
    known: NDArray[np.float64], limits: tuple[float, float, bool], band: str
) -> tuple[float, float]:
    """Find the values of a band that are black and white. Raises: ImageError."""
    if not known.size or not np.isfinite(known).all():
        raise ImageError(f"{band} has infinite values, or none at all; replace or remove them")
    low, high, percent = limits
    if percent:
        low, high = np.percentile(known, (low, high)).tolist()
    if low == high:
        raise ImageError(f"both percentiles of {band} are {low:g}; name two values instead")
    least, most = known.min(), known.max()
    if max(low - least, most - high) / (high - low) > _FARTHEST:
        raise ImageError(
            f"{band} has values from {least:g} to {most:g}, too far beyond value_range, {low:g} "
            f"to {high:g}; widen that, or clip them"
        )
    return low, high


def _to_dtype(values: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[np.float64]:
    """Clip values to what a dtype holds, and round them for integers."""
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    top = float(limits.max)
    top = top if top <= limits.max else np.nextafter(top, 0)
    clipped = np.clip(values, float(limits.min), top)
    return clipped if dtype.kind == "f" else np.rint(clipped)
