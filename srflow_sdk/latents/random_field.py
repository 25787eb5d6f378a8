"""Latents as one infinite random field: a number for every (seed, sample, level, channel, y, x).

The field does not depend on tiles, batches, order or device: any window of it can be drawn alone,
bit for bit. Manifests carry the scheme's version, :data:`LATENT_SCHEME`; a change of any bit below
is a new version.

Scheme 1
--------
**Bits.** Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011;
Random123's constants). Channel `c` at row `y`, column `x` of level `level` takes its bits from one
block of four uint64:

    block = philox4x64_10(counter = (x + 1, y, c // 8, level), key = (seed, sample))

(`x + 1`, because numpy increments word 0 of the counter before every block; a window's first block
is therefore made from the counter `left + 1`.) The four uint64 are eight uint32 words, low half
first: word `2i` is `block[i] & 0xFFFFFFFF`, word `2i + 1` is `block[i] >> 32`. Channel `c` uses
word `c % 8`.

**Normal.** All in IEEE-754 double, every operation rounded separately: compile with
`-ffp-contract=off` (nvcc: `-fmad=false`). Only +, -, ×, ÷, sqrt and frexp occur, so any conforming
machine gives the same bits.

    u = (word + 0.5) · 2^-32                          exact, in [2^-33, 1 - 2^-33]
    q = u - 0.5                                       exact
    |q| <= 0.425:  r = 0.180625 - q·q;                z = q · (A(r) / B(r))
    otherwise:     p = min(u, 1 - u);                 1 - u is exact
                   r = sqrt(-log(p)) - 1.6;           z = C(r) / D(r), negated where q < 0

A, B, C, D are AS 241's PPND16 polynomials (Wichura, Applied Statistics 37, 1988) by Horner's rule
from the highest coefficient: `v = v·r + coefficient`. Its third branch (p < exp(-25)) cannot be
reached from 32 bits. The logarithm:

    (m, e) = frexp(p)                                 p = m · 2^e
    where m < sqrt(1/2): m = m + m, e = e - 1         m in [0.707, 1.415)
    s = (m - 1) / (m + 1);  t = s·s
    v = 1/23;  v = v·t + 1/(2k+1) for k = 10 … 0      Horner; the quotients rounded to double
    log(p) = e·LN2 + (s + s)·v

z is rounded to float32, nearest even. Its magnitude is at most 6.338.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.errors import ArgumentError
from srflow_sdk.geometry.sizes import LATENT_SCHEME, LatentLevel

__all__ = [
    "LATENT_SCHEME",
    "LatentLevel",
    "normal_from_words",
    "standard_normal",
    "window_noise",
]

_CHANNELS_PER_BLOCK = 8
_WORDS_PER_BLOCK = 4
_COORDINATE_LIMIT = 1 << 32
# numbers transformed at a time, so that the intermediate arrays stay in the processor's cache
_CHUNK = 1 << 15

_LN2 = 0.6931471805599453
_SQRT_HALF = 0.7071067811865476
_LOG_SERIES = tuple(1.0 / (2 * k + 1) for k in range(11, -1, -1))

# AS 241 PPND16, highest power first.
_A, _B, _C, _D = (
    tuple(map(float, row.split()))
    for row in (
        "2.5090809287301226727e3 3.3430575583588128105e4 6.7265770927008700853e4 "
        "4.5921953931549871457e4 1.3731693765509461125e4 1.9715909503065514427e3 "
        "1.3314166789178437745e2 3.3871328727963666080e0",
        "5.2264952788528545610e3 2.8729085735721942674e4 3.9307895800092710610e4 "
        "2.1213794301586595867e4 "
        "5.3941960214247511077e3 6.8718700749205790830e2 4.2313330701600911252e1 1.0",
        "7.74545014278341407640e-4 2.27238449892691845833e-2 2.41780725177450611770e-1 "
        "1.27045825245236838258e0 3.64784832476320460504e0 5.76949722146069140550e0 "
        "4.63033784615654529590e0 1.42343711074968357734e0",
        "1.05075007164441684324e-9 5.47593808499534494600e-4 1.51986665636164571966e-2 "
        "1.48103976427480074590e-1 "
        "6.89767334985100004550e-1 1.67638483018380384940e0 2.05319162663775882187e0 1.0",
    )
)


def window_noise(
    levels: Iterable[LatentLevel],
    *,
    scale: int,
    seed: int,
    sample: int,
    height: int,
    width: int,
    top: int = 0,
    left: int = 0,
    periods: Sequence[int] | None = None,
) -> dict[int, NDArray[np.float32]]:
    """The standard normal latents of a window of an image, by level, as graphs take them for τ = 1.

    Args:
        levels: The model's levels.
        scale: HR size / LR size.
        seed, sample: 0 … 2^64 - 1; each pair is a field of its own.
        height, width, top, left: The window in LR pixels of the whole image. All four must fall on
            whole latent pixels, as multiples of the model's size multiple do. A window may begin
            before the image: there its latents come from the field's end, so that coordinate -1
            stands for 2^32 - 1.
        periods: LR rows and columns, after which, rounded up to whole latent pixels, each level
            repeats.

    Returns:
        Float32 arrays C×h×w by level.

    Raises:
        ArgumentError: The window splits latent pixels.
    """
    place = {"top": top, "left": left, "height": height, "width": width}
    noise = {}
    for entry in levels:
        if odd := [name for name, value in place.items() if value * scale % (1 << entry.level)]:
            raise ArgumentError(
                f"{odd[0]} is {place[odd[0]]} LR pixels, not a whole number of latent pixels at "
                f"level {entry.level}; it must be a multiple of the model's size multiple"
            )
        latent = {name: value * scale >> entry.level for name, value in place.items()}
        ends = (
            None if periods is None else [-(-period * scale >> entry.level) for period in periods]
        )
        noise[entry.level] = standard_normal(
            seed, sample, entry.level, channels=entry.channels, ends=ends, **latent
        )
    return noise


def standard_normal(
    seed: int,
    sample: int,
    level: int,
    *,
    channels: int,
    top: int,
    left: int,
    height: int,
    width: int,
    ends: Sequence[int] | None = None,
) -> NDArray[np.float32]:
    """A window of the standard normal latent field of one level.

    Deterministic to the bit on every machine (scheme 1, in the module's docstring); a window equals
    the same window cut out of any larger one.

    Args:
        seed, sample: 0 … 2^64 - 1; each pair is an independent field.
        level: Flow level, 1 … 63; its latents have HR/2^level pixels a side.
        channels: Latent channels, from channel 0 on.
        top, left, height, width: The window in the level's own latent pixels; coordinates are -2^32
            … 2^32 - 1, and -1 stands for 2^32 - 1.
        ends: The rows and columns after which the field repeats, so that -1 stands for the last
            one; None: 2^32.

    Returns:
        Float32, channels×height×width.
    """
    # Many names: the arguments, and the generator's state, set by hand.
    groups = -(-channels // _CHANNELS_PER_BLOCK)
    rows, columns = ends or (_COORDINATE_LIMIT, _COORDINATE_LIMIT)
    # of columns up to the field's last one
    runs = []
    end = 0
    while end < width:
        first = end
        start = (left + end) % columns
        end = min(first + columns - start, width)
        runs.append((start, first, end))
    counter = np.array([0, 0, 0, level], np.uint64)
    generator = np.random.Philox(counter=counter, key=np.array([seed, sample], np.uint64))
    # Setting the state is cheaper than a new generator per row. buffer_pos 4 means: no block is
    # left over.
    state: Any = generator.state
    state["buffer_pos"] = _WORDS_PER_BLOCK
    blocks = np.empty((groups, height, width * _WORDS_PER_BLOCK), np.uint64)
    for group, row, (start, first, end) in itertools.product(range(groups), range(height), runs):
        counter[:3] = start, (top + row) % rows, group
        state["state"]["counter"] = counter
        generator.state = state
        drawn = generator.random_raw((end - first) * _WORDS_PER_BLOCK)
        blocks[group, row, first * _WORDS_PER_BLOCK : end * _WORDS_PER_BLOCK] = drawn
    words = (
        blocks.astype("<u8", copy=False)
        .view("<u4")
        .reshape(groups, height, width, _CHANNELS_PER_BLOCK)
    )
    by_channel = words.transpose(0, 3, 1, 2).reshape(groups * _CHANNELS_PER_BLOCK, height, width)
    return normal_from_words(np.asarray(by_channel[:channels], dtype=np.uint32))


def normal_from_words(words: NDArray[np.uint32]) -> NDArray[np.float32]:
    """Standard normal numbers, float32, from uniform 32-bit words, by scheme 1's transform.

    Same shape.

    Odd to the bit: the normal of `~word` is minus the normal of `word`.
    """
    flat = np.ascontiguousarray(words).reshape(-1)
    normal = np.empty(flat.size, np.float32)
    for start in range(0, flat.size, _CHUNK):
        q = flat[start : start + _CHUNK].astype(np.float64) + 0.5
        q *= 2.0**-32
        q -= 0.5  # probability less 1/2; it has 33 bits, so subtractions from it are exact
        r = 0.180625 - q * q
        z = q * (_polynomial(_A, r) / _polynomial(_B, r))
        tail = np.flatnonzero(np.abs(q) > 0.425)
        q = q[tail]
        r = np.sqrt(-_natural_log(0.5 - np.abs(q))) - 1.6
        z[tail] = np.copysign(_polynomial(_C, r) / _polynomial(_D, r), q)
        normal[start : start + _CHUNK] = z
    return normal.reshape(words.shape)


def _natural_log(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """The natural logarithm by scheme 1's series: numpy's differs between processors."""
    m, e = np.frexp(p)
    small = m < _SQRT_HALF
    m = np.where(small, m + m, m)
    exponent = (e - small).astype(np.float64)
    s = (m - 1.0) / (m + 1.0)
    return exponent * _LN2 + (s + s) * _polynomial(_LOG_SERIES, s * s)


def _polynomial(coefficients: tuple[float, ...], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Horner's rule, highest power first."""
    value = coefficients[0] * x
    for coefficient in coefficients[1:-1]:
        value += coefficient
        value *= x
    value += coefficients[-1]
    return value
