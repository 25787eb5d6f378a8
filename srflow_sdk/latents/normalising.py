"""Latent-space normalisation: latents get the mean and deviation that true samples would have.

The publication's sections 4.3 and 4.5. A collection of N latents z with mean m and standard deviation s (over N - 1)
becomes (S/s)·(z - m) + M, with M and S drawn as :mod:`srflow_sdk.latents.draws` says, times the temperature. Sums are
in float64, of rows and then of those, so that they do not depend on how the rows are cut into chunks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.errors import NonFiniteError
from srflow_sdk.latents.arrays import row_chunks
from srflow_sdk.latents.draws import Collection, true_statistics


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """How the latents of a level are normalised.

    over: the collections. level: draws depend on it. tau: temperature. seed: of the drawn statistics.
    enlarge: deviations and means may grow.
    """

    over: Collection
    level: int
    tau: float
    seed: int
    enlarge: bool


def normalise(
    source: NDArray[np.float32], target: NDArray[np.float32], inside: NDArray[np.bool_], how: Normalisation
) -> None:
    """Write the normalised latents of a level, C×h×w, to target, which holds zeros.

    inside: the positions that count and change, as many rows and columns as hold pixels of the picture.
    Raises: NonFiniteError.
    """
    for rows in row_chunks(source, source.shape[1]):
        target[:, rows] = source[:, rows]
    (_over_channels if how.over == "local" else _over_positions)(source, target, inside, how)


def mean_and_deviation(
    source: NDArray[np.float32], inside: NDArray[np.bool_], *, level: int, whole_level: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Mean and standard deviation (over N - 1) over the positions inside, [C], or [1] over all channels; and N, ≥ 2.

    Raises: NonFiniteError.
    """
    size = int(np.count_nonzero(inside)) * (len(source) if whole_level else 1)
    mean = _sums(source, inside, whole_level=whole_level) / size
    if not np.isfinite(mean).all():
        raise not_finite(level)
    squares = _sums(source, inside, whole_level=whole_level, minus=mean)
    return mean, np.sqrt(squares / (size - 1)), size


def not_finite(level: int) -> NonFiniteError:
    """Make the error for latents that have no mean."""
    return NonFiniteError(f"the latents of level {level} hold NaN or infinite values, so they cannot be normalised")


def _over_positions(
    source: NDArray[np.float32], target: NDArray[np.float32], inside: NDArray[np.bool_], how: Normalisation
) -> None:
    whole_level = how.over == "global"
    channels = len(source)
    if np.count_nonzero(inside) * (channels if whole_level else 1) < 2:
        return
    mean, deviation, size = mean_and_deviation(source, inside, level=how.level, whole_level=whole_level)
    drawn = true_statistics(how.seed, how.level, how.over, size=size, count=1 if whole_level else channels)
    scale = _scale(mean, deviation, drawn.deviation, how)[:, None, None]
    shift, mean = _shift(mean, drawn.mean, how)[:, None, None], mean[:, None, None]
    columns = inside.shape[1]
    for rows in row_chunks(source, len(inside)):
        values = (np.where(inside[rows], source[:, rows, :columns], 0.0).astype(np.float64) - mean) * scale + shift
        np.copyto(target[:, rows, :columns], values.astype(np.float32), where=inside[rows])


def _over_channels(
    source: NDArray[np.float32], target: NDArray[np.float32], inside: NDArray[np.bool_], how: Normalisation
) -> None:
    channels = len(source)
    if channels < 2:
        return
    columns = inside.shape[1]
    for rows in row_chunks(source, len(inside)):
        if not inside[rows].any():
            continue
        values = np.where(inside[rows], source[:, rows, :columns], 0.0).astype(np.float64)
        with np.errstate(invalid="ignore"):  # infinity - infinity
            mean = values.sum(axis=0) / channels
        if not np.isfinite(mean).all():
            raise not_finite(how.level)
        deviation = np.sqrt(np.square(values - mean).sum(axis=0) / (channels - 1))
        drawn = true_statistics(
            how.seed, how.level, "local", size=channels, first=rows.start * columns, count=mean.size
        )
        scale = _scale(mean, deviation, drawn.deviation.reshape(mean.shape), how)
        values = (values - mean) * scale + _shift(mean, drawn.mean.reshape(mean.shape), how)
        np.copyto(target[:, rows, :columns], values.astype(np.float32), where=inside[rows])


def _scale(
    mean: NDArray[np.float64], deviation: NDArray[np.float64], drawn: NDArray[np.float64], how: Normalisation
) -> NDArray[np.float64]:
    """The factor of deviations from the mean: 0 where all numbers are equal, which have none."""
    equal = deviation == 0
    scale = np.where(equal, 0.0, how.tau * drawn / np.where(equal, 1.0, deviation))
    return scale if how.enlarge else np.minimum(scale, 1.0)


def _shift(mean: NDArray[np.float64], drawn: NDArray[np.float64], how: Normalisation) -> NDArray[np.float64]:
    """The new mean."""
    shift = how.tau * drawn
    return shift if how.enlarge else np.where(np.abs(mean) < np.abs(shift), mean, shift)


def _sums(
    source: NDArray[np.float32],
    inside: NDArray[np.bool_],
    *,
    whole_level: bool,
    minus: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Sums over the positions inside; with `minus`, of squared differences from it: [C], or [1] over all channels."""
    columns = inside.shape[1]
    by_row = np.empty((len(source), len(inside)))
    for rows in row_chunks(source, len(inside)):
        values = np.where(inside[rows], source[:, rows, :columns], 0.0).astype(np.float64)
        if minus is not None:
            values = np.where(inside[rows], np.square(values - minus[:, None, None]), 0.0)
        with np.errstate(invalid="ignore"):  # infinity - infinity
            by_row[:, rows] = values.sum(axis=2)
    with np.errstate(invalid="ignore"):
        sums = by_row.sum(axis=1)
        return np.asarray([sums.sum()] if whole_level else sums, np.float64)
