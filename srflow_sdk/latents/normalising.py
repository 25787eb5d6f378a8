"""Latent-space normalisation: latents get the mean and deviation that true samples would have.

The publication's sections 4.3 and 4.5. A collection of N latents z with mean m and standard
deviation s (over N - 1) becomes (S/s)·(z - m) + M; M and S are drawn as below, times the
temperature. Sums are in float64, of rows and then of those, so that they do not depend on how the
rows are cut into chunks.

Collection `i` of kind `k` (1: a channel, i = its number; 2: a position, i = row·columns + column,
of the positions that hold pixels of the picture; 3: a level, i = 0) of level `l`, for seed `s`.
Bits, words and the transform `normal` are those of scheme 1 in
:mod:`srflow_sdk.latents.random_field`, as are its rules of rounding; the logarithm is the one
there.

Statistics 1
------------
    block(b) = philox4x64_10(counter = (i + 1, b, 0, k·2^32 + l), key = (s, 0))      eight
                                                                                     uint32 words

No number of the latent field is made from such a counter: the last word is a level there, below
2^32.

    mean       = normal(word 0 of block 0) / sqrt(N)
    deviation  = sqrt(2·g / (N - 1)),  g from the gamma distribution of shape a = (N - 1)/2 and
                                       scale 1

by Marsaglia and Tsang ("A simple method for generating gamma variables", ACM TOMS 26, 2000), with a
+ 1 in place of a where N = 2:

    d = a - 1/3;  c = 1 / (3·sqrt(d))
    attempts j = 0, 1, 2 in block 0, then in block 1, …:
        x = normal(word 2 + 2j);  u = (word 3 + 2j + 0.5)·2^-32
        t = 1 + c·x;  w = t·t·t
        accepted where t > 0 and log(u) < ((0.5·(x·x) + d) - d·w) + d·log(w)
    g = d·w of the first accepted attempt;
        where N = 2, times v·v with v = (word 1 of block 0 + 0.5)·2^-32
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.errors import NonFiniteError
from srflow_sdk.latents.arrays import row_chunks
from srflow_sdk.latents.random_field import _natural_log, normal_from_words

Collection = Literal["spatial", "local", "global"]

STATISTICS_SCHEME = 1
"""Version of the statistics above; a change of any bit is a new version."""

KINDS: dict[str, int] = {"spatial": 1, "local": 2, "global": 3}

_ATTEMPTS = 3
_WORDS = 8

Doubles = NDArray[np.float64]
Level = NDArray[np.float32]
Inside = NDArray[np.bool_]


class Statistics(NamedTuple):
    """Means and standard deviations (over N - 1) of collections, for temperature 1."""

    mean: Doubles
    deviation: Doubles


def true_statistics(
    seed: int, level: int, over: Collection, *, size: int, first: int = 0, count: int = 1
) -> Statistics:
    """Draw the statistics of `count` collections of `size` numbers, from number `first` on."""
    words = _words(seed, level, over, first=first, count=count)
    mean = normal_from_words(words[:, 0]).astype(np.float64) / math.sqrt(size)
    factor = np.square(_uniform(words[:, 1])) if size == 2 else 1.0
    shape = (size - 1) / 2 + (size == 2)
    gamma = np.full(count, np.nan)
    block = 0
    pending = np.arange(count)
    while True:
        gamma[pending] = _first_accepted(words, shape)
        pending = pending[np.isnan(gamma[pending])]
        if not pending.size:
            return Statistics(mean, np.sqrt(2.0 * (gamma * factor) / (size - 1)))
        block += 1
        words = np.concatenate(
            [_words(seed, level, over, first=first + int(i), block=block) for i in pending]
        )


def normalise(
    source: Level,
    target: Level,
    inside: Inside,
    *,
    over: Collection,
    level: int,
    tau: float,
    seed: int,
) -> None:
    """Write a level's normalised latents, C×h×w, to target, where those inside count.

    Raises: NonFiniteError.
    """
    np.copyto(target, source)
    channels = len(source)
    columns = inside.shape[1]
    whole_level = over == "global"
    size = (
        channels
        if over == "local"
        else int(np.count_nonzero(inside)) * (channels if whole_level else 1)
    )
    if size < 2:
        return
    if over != "local":
        mean = _sums(source, inside, whole_level=whole_level) / size
        check_finite(mean, level)
        squares = _sums(source, inside, whole_level=whole_level, minus=mean)
        deviation = np.sqrt(squares / (size - 1))[:, None, None]
        mean = mean[:, None, None]
        drawn = true_statistics(seed, level, over, size=size, count=mean.size)
    for rows in row_chunks(source, len(inside)):
        if not inside[rows].any():
            continue
        values = _values(source, inside, rows)
        if over == "local":
            with np.errstate(invalid="ignore"):  # infinity - infinity
                mean = values.sum(axis=0) / channels
            check_finite(mean, level)
            deviation = np.sqrt(np.square(values - mean).sum(axis=0) / (channels - 1))
            drawn = true_statistics(
                seed, level, over, size=size, first=rows.start * columns, count=mean.size
            )
        equal = deviation == 0
        drawn_deviation = tau * drawn.deviation.reshape(mean.shape)
        scale = np.where(equal, 0.0, drawn_deviation / np.where(equal, 1.0, deviation))
        values = (values - mean) * scale + tau * drawn.mean.reshape(mean.shape)
        np.copyto(target[:, rows, :columns], values.astype(np.float32), where=inside[rows])


def check_finite(mean: Doubles, level: int) -> None:
    """Raises: NonFiniteError if latents have no mean, or mean square."""
    if not np.isfinite(mean).all():
        raise NonFiniteError(
            f"the latents of level {level} hold NaN or infinite values, so they cannot be "
            "normalised"
        )


def _values(source: Level, inside: Inside, rows: slice) -> Doubles:
    """A chunk of a level, 0 where nothing counts, which may be NaN."""
    return np.where(inside[rows], source[:, rows, : inside.shape[1]], 0.0).astype(np.float64)


def _sums(
    source: Level, inside: Inside, *, whole_level: bool, minus: Doubles | None = None
) -> Doubles:
    """Sums over the positions inside.

    With `minus`, of squared differences from it: [C], or [1] over all channels.
    """
    by_row = np.empty((len(source), len(inside)))
    with np.errstate(invalid="ignore"):  # infinity - infinity
        for rows in row_chunks(source, len(inside)):
            values = _values(source, inside, rows)
            if minus is not None:
                values = np.where(inside[rows], np.square(values - minus[:, None, None]), 0.0)
            by_row[:, rows] = values.sum(axis=2)
        sums = by_row.sum(axis=1)
        return np.asarray([sums.sum()] if whole_level else sums, np.float64)


def _first_accepted(words: NDArray[np.uint32], shape: float) -> Doubles:
    """A gamma number for each row of eight words; NaN where all three attempts were rejected."""
    gamma = np.full(len(words), np.nan)
    d = shape - 1.0 / 3.0
    c = 1.0 / (3.0 * math.sqrt(d))
    open_rows = np.arange(len(words))
    for attempt in range(_ATTEMPTS):
        pair = words[open_rows, 2 + 2 * attempt : 4 + 2 * attempt]
        x = normal_from_words(pair[:, 0]).astype(np.float64)
        t = 1.0 + c * x
        w = t * t * t
        log_w = _natural_log(np.where(t > 0.0, w, 1.0))
        bound = 0.5 * (x * x) + d - d * w + d * log_w
        accepted = (t > 0.0) & (_natural_log(_uniform(pair[:, 1])) < bound)
        gamma[open_rows[accepted]] = d * w[accepted]
        open_rows = open_rows[~accepted]
    return gamma


def _uniform(words: NDArray[np.uint32]) -> Doubles:
    return (words.astype(np.float64) + 0.5) * 2.0**-32


def _words(
    seed: int, level: int, over: Collection, *, first: int, count: int = 1, block: int = 0
) -> NDArray[np.uint32]:
    """The eight words of each collection's block: count×8."""
    counter = np.array([first, block, 0, (KINDS[over] << 32) + level], np.uint64)
    generator = np.random.Philox(counter=counter, key=np.array([seed, 0], np.uint64))
    blocks = generator.random_raw(count * (_WORDS // 2)).astype("<u8", copy=False)
    return np.asarray(blocks.view("<u4").reshape(count, _WORDS), dtype=np.uint32)
