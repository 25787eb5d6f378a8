"""The mean and deviation that N standard normal numbers would have: drawn for every collection of latents.

Collection `i` of kind `k` (1: a channel, i = its number; 2: a position, i = row·columns + column, of the positions that
hold pixels of the picture; 3: a level, i = 0) of level `l`, for seed `s`. Bits, words and the transform `normal` are
those of scheme 1 in :mod:`srflow_sdk.latents.random_field`, as are its rules of rounding; the logarithm is the one
there.

Statistics 1
------------
    block(b) = philox4x64_10(counter = (i + 1, b, 0, k·2^32 + l), key = (s, 0))      eight uint32 words

No number of the latent field is made from such a counter: the last word is a level there, below 2^32.

    mean       = normal(word 0 of block 0) / sqrt(N)
    deviation  = sqrt(2·g / (N - 1)),  g from the gamma distribution of shape a = (N - 1)/2 and scale 1

by Marsaglia and Tsang ("A simple method for generating gamma variables", ACM TOMS 26, 2000), with a + 1 in place of a
where N = 2:

    d = a - 1/3;  c = 1 / (3·sqrt(d))
    attempts j = 0, 1, 2 in block 0, then in block 1, …:
        x = normal(word 2 + 2j);  u = (word 3 + 2j + 0.5)·2^-32
        t = 1 + c·x;  w = t·t·t
        accepted where t > 0 and log(u) < ((0.5·(x·x) + d) - d·w) + d·log(w)
    g = d·w of the first accepted attempt; where N = 2, times v·v with v = (word 1 of block 0 + 0.5)·2^-32
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.latents.random_field import _natural_log, normal_from_words

Collection = Literal["spatial", "local", "global"]

STATISTICS_SCHEME = 1
"""Version of the scheme above; a change of any bit is a new version."""

KINDS: dict[str, int] = {"spatial": 1, "local": 2, "global": 3}

_ATTEMPTS = 3
_WORDS = 8


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Drawn mean and standard deviation (over N - 1) of n collections, [n] in float64, for temperature 1."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]


def true_statistics(
    seed: int, level: int, over: Collection, *, size: int, first: int = 0, count: int = 1
) -> Statistics:
    """Draw for collections first … first + count - 1, each of `size` (2 or more) standard normal numbers."""
    words = _words(seed, level, over, first=first, count=count, block=0)
    mean = normal_from_words(words[:, 0]).astype(np.float64) / math.sqrt(size)
    shape = (size - 1) / 2
    gamma = np.empty(count)
    pending = np.arange(count)
    block = 0
    while True:
        drawn = _first_accepted(words, shape if size > 2 else shape + 1)
        gamma[pending] = drawn
        pending = pending[np.isnan(drawn)]
        if not pending.size:
            break
        block += 1
        words = np.concatenate(
            [_words(seed, level, over, first=first + int(index), count=1, block=block) for index in pending]
        )
    if size == 2:
        v = _uniform(_words(seed, level, over, first=first, count=count, block=0)[:, 1])
        gamma *= v * v
    return Statistics(mean=mean, deviation=np.sqrt(2.0 * gamma / (size - 1)))


def _first_accepted(words: NDArray[np.uint32], shape: float) -> NDArray[np.float64]:
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


def _uniform(words: NDArray[np.uint32]) -> NDArray[np.float64]:
    return (words.astype(np.float64) + 0.5) * 2.0**-32


def _words(seed: int, level: int, over: Collection, *, first: int, count: int, block: int) -> NDArray[np.uint32]:
    """The eight words of each collection's block: count×8."""
    counter = np.array([first, block, 0, (KINDS[over] << 32) + level], np.uint64)
    generator = np.random.Philox(counter=counter, key=np.array([seed, 0], np.uint64))
    blocks = generator.random_raw(count * (_WORDS // 2)).astype("<u8", copy=False)
    return np.asarray(blocks.view("<u4").reshape(count, _WORDS), dtype=np.uint32)
