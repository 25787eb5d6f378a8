"""Measures a picture's damage: noise, JPEG's blocks, black and white dots, blur."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.pixels.in_memory import Floats, Pixels, luma, to_unit
from srflow_sdk.system.interrupts import stop_if_set

STRIP_ROWS = 16
"""Rows that :func:`measure_damage` takes at a time, a multiple of JPEG's 8."""

_STRIPS = 8  # of a band, which is measured at once
_MOST_COLUMNS = 16_384  # of a wider picture its middle is measured, so that memory has a bound
_BLOCK = 16  # side of the blocks whose noise is measured
_EXTREMES = (3, 252)  # luma beyond these is clipped, so its noise is
_MOST_CLIPPED = 0.1  # share of a block
_QUIETEST = 0.1  # this share of the blocks shows the noise, the others also texture
_MIDDLE = 0.5  # where noise grows with brightness, the quietest blocks are dark ones
_NOISY = 1.6  # 8-bit levels: less in the quietest blocks is not noise of the whole picture
_NOISY_IN_THE_MIDDLE = 3.5  # the same of the median block
# answers of pixels one apart over those of pixels two apart, which are 1 for white noise
_WHITE = 0.5
_MEDIAN_OF_NORMAL = 0.6745  # of the absolute value, in standard deviations
_GRID = 8  # side of JPEG's blocks
# 8-bit levels: what a step counts at most; larger ones are no blocks
_LARGEST_STEP = 2.0
_STEP_OF_THINGS = 40.0003
_ROUNDING = 0.001  # 8-bit levels; thresholds are no fractions that whole levels meet
# standard errors: how much surer a grid is that begins at the picture's corner
_FOR_ANY_PLACE = 1.3
_LEAST_DOT = 30  # 8-bit levels between a dot and all pixels around it
# how much farther from them than they lie apart: letters and twigs do not stand alone
_DOT_OVER_RANGE = 2
_EDGE_STEPS = 5  # between pixels, over which an edge rises
_LEAST_EDGE = 24.0003  # 8-bit levels
_RAMP = 0.253  # share of the rise: less is a slope, which no lens has blurred
_SHARP = 0.703  # share of the rise between the two pixels in the middle
_FEWEST_EDGES = 50  # of fewer, nothing is known: they are taken for sharp


@dataclass(frozen=True, kw_only=True)
class Damage:
    """The measurements of a picture.

    Attributes:
        noise: Standard deviation in 8-bit levels, in the quietest tenth of the picture, or in its
            median block if only that is noisy; 0 if what is found there is texture.
        white: How white it is: its answers of pixels one apart over those of pixels two apart;
            texture has less.
        texture: Standard deviation of the luma in the median block of 16×16 pixels, beyond that
            noise, in 8-bit levels.
        grid: By how many standard errors luma's steps are more often larger where JPEG's blocks of
            8×8 would meet than elsewhere; of the corner's grid, or of the strongest of those that
            begin elsewhere, less 1.3.
        dots: Percentage of pixels that stand out alone from those around them, of the bright or of
            the dark ones, whichever are fewer.
        sharp: The share of the edges of which most of the rise lies between two pixels; 1 without
            edges.
        sharp_at_half: The same of the picture reduced to half of its sides.
    """

    noise: float
    white: float
    texture: float
    grid: float
    dots: float
    sharp: float
    sharp_at_half: float


def strips_of(pixels: Pixels) -> Iterator[Pixels]:
    """Cut a picture, H×W×C, into what :func:`measure_damage` takes."""
    return (pixels[row : row + STRIP_ROWS] for row in range(0, len(pixels), STRIP_ROWS))


def measure_damage(strips: Iterable[Pixels], *, cancel: threading.Event | None = None) -> Damage:
    """Measure a picture in bands of rows, so that memory has a bound.

    Args:
        strips: Of :data:`STRIP_ROWS` rows each, the last one of fewer, h×W×C of any kind, from the
            top.

    Raises:
        CancelledError: `cancel` was set.
    """
    # Many names: each measure adds up over the bands.
    strips = iter(strips)
    noises = []
    deviations = [np.zeros(1)]
    steps = np.zeros((2, _GRID + 1))
    dots = np.zeros(3)
    edges = np.zeros((2, 2))
    while band := list(itertools.islice(strips, _STRIPS)):
        stop_if_set(cancel)
        levels = _take_luma(np.concatenate(band))
        noises.append(_measure_blocks(levels))
        deviations.append(_cut_squares(levels, _BLOCK).std((1, 2)))
        dots += _count_dots(levels)
        half = _cut_squares(levels, 2).mean((1, 2)).reshape(len(levels) // 2, levels.shape[1] // 2)
        for direction, lines in enumerate((levels, levels.T)):
            steps[direction] += _count_larger_steps(lines)
            edges[0] += _count_edges(lines)
        edges[1] += np.add(_count_edges(half), _count_edges(half.T))
    sharp, sharp_at_half = (
        1.0 if count < _FEWEST_EDGES else float(steep / count) for count, steep in edges
    )
    noise, white = _choose_noise(noises)
    deviation = float(np.median(np.concatenate(deviations)))
    return Damage(
        noise=noise,
        white=white,
        texture=math.sqrt(max(deviation**2 - noise**2, 0)),
        grid=_rate_grid(steps),
        dots=float(100 * min(dots[:2]) / max(dots[2], 1)),
        sharp=sharp,
        sharp_at_half=sharp_at_half,
    )


def _take_luma(pixels: Pixels) -> Floats:
    """H×W in 8-bit levels, from the middle of rows of any kind."""
    left = max(pixels.shape[1] - _MOST_COLUMNS, 0) // 2 // 32 * 32  # where JPEG's blocks may begin
    unit = to_unit(pixels[:, left : left + _MOST_COLUMNS])
    levels: Floats = 255 * (luma(unit[:, :, :3]) if unit.shape[2] > 2 else unit)[:, :, 0]
    if unit.shape[2] in (2, 4):
        levels[unit[:, :, -1] == 0] = 0  # nobody sees what lies below
    return levels


def _measure_blocks(levels: Floats) -> Floats:
    """N×2: deviation of the noise in each block not clipped, of pixels one and two apart."""
    cells = _cut_squares(levels, _BLOCK)
    clipped = ((cells < _EXTREMES[0]) | (cells > _EXTREMES[1])).mean((1, 2))
    cells = cells[clipped < _MOST_CLIPPED]
    if not len(cells):
        return np.zeros((0, 2), np.float32)
    # of Immerkær's mask (1996), which slopes do not answer; texture answers more at two
    answers = []
    for apart in (1, 2):
        second = cells[..., : -2 * apart] - 2 * cells[..., apart:-apart] + cells[..., 2 * apart :]
        answer = np.abs(
            second[:, : -2 * apart] - 2 * second[:, apart:-apart] + second[:, 2 * apart :]
        )
        answers.append(np.median(answer.reshape(len(cells), -1), axis=1) / (6 * _MEDIAN_OF_NORMAL))
    return np.stack(answers, axis=1)


def _choose_noise(noises: Sequence[Floats]) -> tuple[float, float]:
    """Choose :attr:`Damage.noise` and `white`, of the quietest blocks or the median one."""
    blocks = np.sort(np.concatenate(noises), axis=0)
    if not len(blocks):
        return 0.0, 0.0
    quiet, middle = (blocks[int(share * len(blocks))] for share in (_QUIETEST, _MIDDLE))
    only_middle = (
        quiet[0] <= _NOISY and middle[0] > _NOISY_IN_THE_MIDDLE and middle[0] > _WHITE * middle[1]
    )
    one, two = middle if only_middle else quiet
    return (float(one), float(one / two)) if one > _WHITE * two else (0.0, 0.0)


def _count_dots(levels: Floats) -> NDArray[np.float64]:
    """Count pixels much brighter, and much darker, than all eight around them; and all."""
    if min(levels.shape) < 3:
        return np.zeros(3)
    counts = []
    for values in (levels, -levels):
        windows = np.lib.stride_tricks.sliding_window_view(values, (3, 3))
        left, middle, right = np.moveaxis(windows[..., 1, :], -1, 0)
        # so that the rest costs nothing
        some = windows[middle - np.maximum(left, right) > _LEAST_DOT].reshape(-1, 9)
        # of those around it, where it is itself above them
        lowest, *_, highest, _ = np.sort(some).T
        above = some[:, 4] - highest
        counts.append((above > np.maximum(_LEAST_DOT, _DOT_OVER_RANGE * (highest - lowest))).sum())
    return np.array([*counts, middle.size], float)


def _cut_squares(values: Floats, side: int) -> Floats:
    """All whole squares of this side, N×side×side, from the top left."""
    rows, columns = len(values) // side, values.shape[1] // side
    whole = values[: rows * side, : columns * side].reshape(rows, side, columns, side)
    cells: Floats = whole.swapaxes(1, 2).reshape(-1, side, side)
    return cells


def _count_larger_steps(lines: Floats) -> NDArray[np.float64]:
    """Count squares of 8×8 with larger steps at each place than elsewhere, and all."""
    step = np.abs(np.diff(lines, axis=1))
    excess = (step[:, 1:-1] - (step[:, :-2] + step[:, 2:]) / 2)[:, 6:]  # begins at place 8
    excess[excess > _STEP_OF_THINGS] = 0
    squares = _cut_squares(excess.clip(0, _LARGEST_STEP), _GRID).mean(axis=1)
    larger = np.trunc((squares - squares.mean(axis=1, keepdims=True)) / _ROUNDING)
    return np.array([*np.sign(larger).sum(axis=0), len(squares)])


def _rate_grid(steps: NDArray[np.float64]) -> float:
    """:attr:`Damage.grid`, of the sums of :func:`_count_larger_steps` in both directions."""
    # of signs, if larger and smaller are as frequent
    errors = steps[:, :-1] / np.sqrt(np.maximum(steps[:, -1:], 1))
    corner, strongest = (
        float(each.sum()) / math.sqrt(2) for each in (errors[:, 0], errors.max(axis=1))
    )
    return max(corner, strongest - _FOR_ANY_PLACE)


def _count_edges(lines: Floats) -> tuple[int, int]:
    """How many edges there are, and how many of them are sharp."""
    if lines.shape[1] <= _EDGE_STEPS:
        return 0, 0
    steps = np.lib.stride_tricks.sliding_window_view(
        np.abs(np.diff(lines, axis=1)), _EDGE_STEPS, axis=1
    )
    rise = np.abs(lines[:, _EDGE_STEPS:] - lines[:, :-_EDGE_STEPS])
    middle = steps[..., _EDGE_STEPS // 2]
    edges = (
        (rise > _LEAST_EDGE) & (middle > _RAMP * rise) & (middle > steps.max(axis=-1) - _ROUNDING)
    )
    return int(edges.sum()), int((edges & (middle > _SHARP * rise)).sum())
