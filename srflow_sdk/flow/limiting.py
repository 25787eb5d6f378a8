"""Latents that are larger than a true photograph's become as large, and others stay: what restores a picture.

Where latent-space normalisation (:mod:`srflow_sdk.latents.normalising`) gives each collection of latents the mean and
deviation of true samples, limiting multiplies it by min(1, tau/r), where r is its root mean square. Nothing is drawn at
random and nothing is enlarged, so that a picture whose latents are no larger than tau is decoded as it was.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.latents import arrays
from srflow_sdk.latents.normalising import Collection, check_finite
from srflow_sdk.latents.picture_latents import Latents

_PLACE = 8  # positions a side
_BINS, _LARGEST = 8192, 16.0
_NORMAL_MEDIAN = 0.6744897501960817  # of the magnitude of standard normal numbers


def limited(latents: Latents, taus: Mapping[int, float], *, over: Collection) -> Latents:
    """Latents whose collections have a root mean square of at most `taus` of their level.

    over: the collections, as for :meth:`Latents.normalised`. Raises: NonFiniteError.
    """
    levels = dict(latents.levels)
    targets = arrays.like({level: levels[level] for level in taus})
    for level, target in targets.items():
        source = levels[level]
        squares = _mean_squares(latents, level)
        if over == "global":
            squares = np.full_like(squares, squares.mean())
        for chunk in arrays.row_chunks(source, source.shape[1]):
            values = source[:, chunk].astype(np.float64)
            found = np.square(values).mean(axis=0) if over == "local" else squares[:, None, None]
            target[:, chunk] = values * _scale(found, taus[level])
    levels.update(arrays.read_only(targets))
    return Latents(levels, height=latents.height, width=latents.width, model_sha256=latents.model_sha256)


def tails(latents: Latents, level: int) -> tuple[float, float]:
    """The root mean square of a level's latents, and their kurtosis about zero within places: the median over channels.

    Within places of 8×8 positions, without those at the right and bottom edges: the mean fourth power, divided by the
    mean of the places' squared mean squares. Normal numbers have 3, also if their size changes slowly over the picture,
    as that of noise does from sky to grass; dots and scratches have far more. 0 if a picture has no whole place.

    Raises: NonFiniteError.
    """
    source = latents.levels[level]
    rows, columns = arrays.picture_positions(level, height=latents.height, width=latents.width)
    size = math.sqrt(float(_mean_squares(latents, level).mean()))
    down, across = rows // _PLACE, columns // _PLACE
    fourth = np.zeros((len(source), down))
    squared = np.zeros_like(fourth)
    for row in range(down):
        band = source[:, row * _PLACE : (row + 1) * _PLACE, : across * _PLACE].astype(np.float64)
        squares = np.square(band).reshape(len(source), _PLACE, across, _PLACE)
        fourth[:, row] = np.square(squares).mean(axis=(1, 3)).sum(axis=1)
        squared[:, row] = np.square(squares.mean(axis=(1, 3))).sum(axis=1)
    sums, wholes = fourth.sum(axis=1), squared.sum(axis=1)
    return size, float(np.median(np.divide(sums, wholes, out=np.zeros_like(sums), where=wholes > 0)))


def typical_size(latents: Latents, level: int) -> float:
    """The median magnitude of a level's latents, divided by that of normal numbers: 1 for true latents, whatever a few
    far larger ones are. To 1/512; at most 16.
    """
    source = latents.levels[level]
    rows, columns = arrays.picture_positions(level, height=latents.height, width=latents.width)
    counts = np.zeros(_BINS, np.int64)
    for chunk in arrays.row_chunks(source, rows):
        size = np.minimum(np.abs(source[:, chunk, :columns]) * (_BINS / _LARGEST), _BINS - 1)
        counts += np.bincount(size.astype(np.int64).ravel(), minlength=_BINS)
    median = int(np.searchsorted(np.cumsum(counts), counts.sum() / 2)) + 0.5
    return median * _LARGEST / _BINS / _NORMAL_MEDIAN


def _scale(squares: NDArray[np.float64], tau: float) -> NDArray[np.float64]:
    """min(1, tau/r) for mean squares r²."""
    size = np.sqrt(squares)
    return np.divide(tau, size, out=np.ones_like(size), where=size > tau)


def _mean_squares(latents: Latents, level: int) -> NDArray[np.float64]:
    """The mean square over the picture's positions, by channel. The same for any cut into chunks."""
    rows, columns = arrays.picture_positions(level, height=latents.height, width=latents.width)
    source, by_row = latents.levels[level], list[NDArray[np.float64]]()  # the sums of each row of every channel
    for chunk in arrays.row_chunks(source, rows):
        with np.errstate(over="ignore", invalid="ignore"):
            by_row.extend((source[:, chunk, :columns].astype(np.float64) ** 2).sum(axis=2).T)
    sums = np.array([math.fsum(channel) for channel in zip(*by_row, strict=True)])
    check_finite(sums, level)
    return sums / (rows * columns)
