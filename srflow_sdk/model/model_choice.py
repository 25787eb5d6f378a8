"""Which model suits a picture: by the scale that is wanted, and by the damage that its pixels show."""

from __future__ import annotations

import contextlib
import itertools
import math
import operator
import os
import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk._checks import file_path
from srflow_sdk.drawing.options import DrawOptions, OutputSize
from srflow_sdk.errors import ArgumentError
from srflow_sdk.files import MAX_PIXELS, PathLike, open_image
from srflow_sdk.files.formats import SNIFFED_BYTES, recognised
from srflow_sdk.files.passed_images import AnyImage, as_path_or_picture
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.pixels.in_memory import luma, to_unit, unpacked
from srflow_sdk.system.local_files import open_regular
from srflow_sdk.system.raising import stop_if_set

BY_PICTURE = "auto"  # the name under which a user asks for the model that suits each picture
_READ_ROWS, _STRIPS = 16, 8  # rows of a strip, and strips of a band: a multiple of _BLOCK and of JPEG's 8
_MOST_COLUMNS = 16_384  # of a wider picture its middle is measured, so that memory has a bound
_BLOCK = 16  # side of the blocks whose noise is measured
_EXTREMES = (3, 252)  # luma beyond these is clipped, so its noise is
_MOST_CLIPPED = 0.1  # share of a block
_QUIETEST = 0.1  # this share of the blocks shows the noise, the others also texture
_MIDDLE = 0.5  # where noise grows with brightness, the quietest blocks are dark ones
_MEDIAN_OF_NORMAL = 0.6745  # of the absolute value, in standard deviations
_CELL = 32  # side of the squares in which steps are compared
_LARGEST_STEP = 2.0  # 8-bit levels; larger ones are edges of things, not of blocks
_UNSEEN_STEP = 0.3  # 8-bit levels; smaller steps are no damage, however smooth the rest is
_LEAST_DOT = 30  # 8-bit levels between a dot and all pixels around it
_DOT_OVER_RANGE = 2  # how much farther from them than they lie apart: letters and twigs do not stand alone
_STANDARD_LUMA_SUM = 3688  # of JPEG's table K.1 (ITU-T T.81, Annex K), which is that of quality 50
_WHITE = 0.5  # answers of pixels one apart over those of pixels two apart, which are 1 for white noise
_NOISY_IN_THE_MIDDLE = 3.5  # as _NOISY, of the median block
# From these on, or below them, a picture is taken for damaged; from the second on, for a little damaged:
_NOISY, _FAINTLY_NOISY = 1.6, 1.2  # standard deviation in 8-bit levels, of its quietest tenth
_BLOCKY, _FAINTLY_BLOCKY = 1.2, 1.05  # steps between blocks of 8×8 over those elsewhere
_COARSE = 88  # quality of a JPEG: texture hides the blocks of coarser ones, whose pixels are as wrong
_FEW_BITS, _LITTLE_BITS = 1.0, 2.0  # a pixel of a lossy file; a GIF with more is no drawing but a photograph
_DOTTED = 0.03  # percentage of bright and of dark dots
_scale = operator.attrgetter("manifest.scale")
_FAINT_TAU = 0.4  # of "auto", at most: more draws what little there is, and x4-photo takes detail for it


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """An embedded model for a picture.

    Attributes:
        name: of the model, such as "x4-photo", for :class:`~srflow_sdk.Upscaler`.
        why: what was seen, in words; "" if only one model enlarges so much, whatever the picture shows.
        tau: the model's default temperature for this picture; None is its own.
        cleaner: the model that removes the damage first, at temperature 0 and in the picture's size; None: no model.
    """

    name: str
    why: str
    tau: float | None = None
    cleaner: str | None = None

    def of(self, bundles: Iterable[Bundle]) -> Bundle:
        """The model among these, with this default temperature, and with the cleaner that it needs, or none."""
        there = {one.manifest.name: one for one in bundles}
        bundle = there[self.name]
        tau = bundle.manifest.default_tau if self.tau is None else self.tau
        cleaner = None if self.cleaner is None else there.get(self.cleaner, bundle._cleaner)
        return replace(bundle, manifest=replace(bundle.manifest, default_tau=tau), _cleaner=cleaner)


@dataclass(frozen=True, kw_only=True)
class Damage:
    """The measurements of a picture.

    Attributes:
        quality: of its JPEG file, 1 to 100, by the sum of its luma table; None for others.
        lossy: "WebP", "AVIF" or "HEIC" unless it is lossless, or "GIF"; None for other formats. They hide their blocks.
        bits: of that file, for each pixel.
        noise: standard deviation in 8-bit levels, in the quietest tenth of the picture, or in its median block if only
            that is noisy; 0 if what is found there is texture.
        white: how white it is: its answers of pixels one apart over those of pixels two apart; texture has less.
        texture: standard deviation of the luma in the median block of 16×16 pixels, beyond that noise, in 8-bit levels.
        blocks: how much larger luma's steps are between the columns and rows where JPEG's blocks of 8×8 would meet than
            elsewhere; about 1 if there are none.
        dots: percentage of pixels that stand out alone from those around them, of the bright or of the dark ones,
            whichever are fewer.
        size: height and width in pixels.
    """

    quality: int | None
    lossy: str | None = None
    bits: float = 0
    noise: float
    white: float
    texture: float
    blocks: float
    dots: float
    size: tuple[int, int]


def bundles_of(model: PathLike | Bundle | Iterable[Bundle] | None = None) -> list[Bundle]:
    """The bundle of this name or path, or those given; for None and "auto" the embedded. Only manifests are read."""
    if model is None or (isinstance(model, str) and model == BY_PICTURE):
        return [Bundle._described(name) for name in Bundle.embedded_names()] or [Bundle.embedded()]
    if isinstance(model, (str, os.PathLike)) and model != "":
        return [Bundle._described(model)]
    given: Iterable[Any] = model if isinstance(model, Iterable) else [model]
    if (bundles := list(given)) and all(isinstance(one, Bundle) for one in bundles):
        return bundles
    what = '"auto", the path of a bundle, an embedded model\'s name, or one Bundle or several'
    raise ArgumentError(f"bundle is {model!r}; it must be {what}")


def needed(bundles: Iterable[Bundle], scale: float | OutputSize | None) -> list[Bundle]:
    """Those of the models that pictures may need, that for clean ones first; all if it sets the scale."""
    bundles = list(bundles)
    if len(bundles) == 1:
        return bundles
    if cleaner := max((one for one in bundles if one.manifest.removes_damage), key=_scale, default=None):
        bundles = [replace(one, _cleaner=cleaner) if _scale(one) > _scale(cleaner) else one for one in bundles]
    if isinstance(scale, OutputSize):
        return bundles
    scales = sorted(set(map(_scale, bundles)))
    if scale is not None and scale > scales[-1]:
        there = f"the models here enlarge {', '.join(map(str, scales))} times: ask for at most {scales[-1]}"
        raise ArgumentError(f"scale is {scale:g}, but {there}, upscale an output again, or name a bundle of your own")
    clean, damaged = _suiting(bundles, scale or bundles[0].manifest.scale)
    return [clean] if damaged is clean else [clean, damaged]


def _suiting(bundles: Sequence[Bundle], scale: float) -> list[Bundle]:
    """The models for clean and for damaged pictures: the smallest that enlarge so much, the largest if none does."""
    in_order = sorted(bundles, key=_scale)
    enough = [one for one in in_order if _scale(one) >= min(scale, _scale(in_order[-1]))]
    kinds = ([one for one in enough if one.manifest.removes_damage == damaged] for damaged in (False, True))
    return [(kind or enough)[0] for kind in kinds]


def choose_model(
    picture: AnyImage,
    *,
    scale: float | OutputSize | None = None,
    among: Iterable[Bundle] | None = None,
    max_pixels: int = MAX_PIXELS,
    cancel: threading.Event | None = None,
) -> ModelChoice:
    """Choose the smallest model that enlarges so much: for a noisy or compressed picture, of those that remove damage.

    Where the damage is faint, the model for clean pictures draws with a lower temperature. Where no model of its kind
    enlarges so much, the largest one that removes damage draws the picture first, in its own size.

    Args:
        picture: as for :meth:`Upscaler.upscale`: a path, a file's bytes, a file object (which is read to its end), a
            PIL image, array or tensor. A JPEG's tables show its quality, and other lossy files
            their bits a pixel; a PIL image too, of these if it was opened by their path.
        scale: as for :meth:`Upscaler.upscale`; a max_side asks for no more than None does, which is the first model's.
        among: the models; None is the embedded ones, x4-small first.
        max_pixels: larger files are refused.
        cancel: once this event is set, from any thread, the call ends within a band of rows.

    Returns:
        The model's name, why, the temperature, and what draws first.

    Raises:
        ImageError: the picture cannot be read.
        ArgumentError: an argument is out of range, or no model enlarges so much.
        CancelledError: `cancel` was set.

    Example:
        >>> with Upscaler(choose_model("photo.jpg").name) as upscaler: ...  # what Upscaler() does for each picture
    """
    DrawOptions(scale=scale)  # checks it
    bundles = needed(bundles_of(among), scale)
    if len(bundles) == 1 and bundles[0]._cleaner is None:
        return ModelChoice(name=bundles[0].manifest.name, why="")
    damage = measure_damage(picture, max_pixels=max_pixels, cancel=cancel)
    little, few = damage.lossy is not None and damage.bits < _LITTLE_BITS, damage.bits < _FEW_BITS
    if damage.lossy == "GIF":
        little, few = False, not little
    coarse = damage.quality is not None and damage.quality < _COARSE
    seen = (  # what it may be, whether it is, and whether it is a little
        (f"JPEG of quality {damage.quality}", coarse, False),
        (f"{damage.lossy} of {damage.bits:.1f} bits a pixel", damage.lossy is not None and few, little),
        ("blocks of 8×8, as of a JPEG", damage.blocks > _BLOCKY, damage.blocks > _FAINTLY_BLOCKY),
        (f"noise of {damage.noise:.1f}/255", damage.noise > _NOISY, damage.noise > _FAINTLY_NOISY),
        ("black and white dots", damage.dots > _DOTTED, False),
    )
    much, faint = (", ".join(one[0] for one in seen if one[which]) for which in (1, 2))
    if isinstance(scale, OutputSize):
        wanted = scale.scale_for(height=damage.size[0], width=damage.size[1])
        bundles = _suiting(bundles, min(wanted, bundles[0].manifest.scale) if scale.max_side else wanted)
    suits = bundles[-1 if much else 0]
    name, cleaner = suits.manifest.name, suits._cleaner
    if much or not faint or cleaner is not None:  # of clean thumbnails, most seem faintly damaged
        first = cleaner.manifest.name if much and cleaner is not None else None
        return ModelChoice(name=name, why=much or (faint and f"faint: {faint}") or "no damage found", cleaner=first)
    return ModelChoice(name=name, why=f"faint: {faint}; auto τ {_FAINT_TAU:g}", tau=_FAINT_TAU)


def measure_damage(picture: AnyImage, *, max_pixels: int = MAX_PIXELS, cancel: threading.Event | None = None) -> Damage:
    """Measure a picture, file or in memory. max_pixels, cancel, errors: as of :func:`choose_model`."""
    with contextlib.ExitStack() as stack:
        found = stack.enter_context(as_path_or_picture(picture, max_pixels=max_pixels))
        if isinstance(found, (str, os.PathLike)):
            path = file_path("picture", found)
            reader = stack.enter_context(open_image(path, max_pixels=max_pixels))
            height, width = reader.height, reader.width
            strips = (reader.read_rows(min(_READ_ROWS, height - row)) for row in range(0, height, _READ_ROWS))
            quality, lossy, nbytes = _of_file(path)
        else:
            pixels, _ = unpacked(found)
            height, width = pixels.shape[:2]
            strips = (pixels[row : row + _READ_ROWS] for row in range(0, height, _READ_ROWS))
            _, lossy, nbytes = _of_file(Path(os.fsdecode(getattr(found, "filename", "") or "")))
            quality = _quality_in(found)
        left = max(width - _MOST_COLUMNS, 0) // 2 // _CELL * _CELL  # a column at which JPEG's blocks may begin
        noises, deviations, steps, dots = [], [], [], np.zeros(3)
        while band := [strip[:, left : left + _MOST_COLUMNS].copy() for strip in itertools.islice(strips, _STRIPS)]:
            stop_if_set(cancel)
            levels = _luma(np.concatenate(band))
            noises.append(_noise_of_blocks(levels))
            deviations.append(_cells(levels, _BLOCK).std((1, 2)))
            steps.append(_steps(levels))
            dots += _dots(levels)
    bright, dark, measured = dots
    noise, white = _noise(noises)
    deviation = float(np.median(np.concatenate([np.zeros(1), *deviations])))
    return Damage(
        quality=quality,
        lossy=lossy,
        bits=8 * nbytes / (height * width),
        noise=noise,
        white=white,
        texture=math.sqrt(max(deviation**2 - noise**2, 0)),
        blocks=_blockiness(steps),
        dots=float(100 * min(bright, dark) / max(measured, 1)),
        size=(height, width),
    )


def _of_file(path: Path) -> tuple[int | None, str | None, int]:
    """:attr:`Damage.quality`, :attr:`Damage.lossy` and the bytes of a file. Errors are for the decoder."""
    from PIL.JpegImagePlugin import JpegImageFile  # Image.open warns of large pictures, whatever the limit is

    with contextlib.suppress(OSError, ValueError, SyntaxError), open_regular(path) as file:
        head, size = file.read(SNIFFED_BYTES), os.fstat(file.fileno()).st_size
        kind = recognised(head, name=path.name)
        lossless = b"VP8L" in head or re.search(rb"colrnclx.{4}\0\0", head, re.DOTALL)  # no chroma: of RGB as it is
        if kind is not None and kind.name == "JPEG":
            file.seek(0)
            with JpegImageFile(file) as image:
                return _quality_in(image), None, 0
        if kind is not None and (kind.name == "GIF" or (kind.name in ("WebP", "AVIF", "HEIC") and not lossless)):
            return None, kind.name, size
    return None, None, 0


def _quality_in(image: object) -> int | None:
    """The quality that libjpeg's scale gives the luma table that a PIL image has from its JPEG file; None without."""
    tables = getattr(image, "quantization", None)
    if not isinstance(tables, dict) or 0 not in tables:
        return None
    percent = 100 * sum(tables[0]) / _STANDARD_LUMA_SUM
    return int(np.clip(round((200 - percent) / 2 if percent <= 100 else 5000 / percent), 1, 100))


def _luma(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """H×W in 8-bit levels, from rows of any kind."""
    unit = to_unit(pixels if pixels.ndim == 3 else pixels[:, :, None])
    levels: NDArray[np.float32] = 255 * (luma(unit[:, :, :3]) if unit.shape[2] > 2 else unit[:, :, :1])[:, :, 0]
    if unit.shape[2] in (2, 4):
        levels[unit[:, :, -1] == 0] = 0  # nobody sees what lies below
    return levels


def _noise_of_blocks(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """N×2: standard deviation of the noise in each block that is not clipped, of pixels one and two apart."""
    cells = _cells(levels, _BLOCK)
    clipped = ((cells < _EXTREMES[0]) | (cells > _EXTREMES[1])).mean((1, 2))
    cells = cells[clipped < _MOST_CLIPPED]
    if not len(cells):
        return np.zeros((0, 2), np.float32)
    answers = []  # of Immerkær's mask (1996), which slopes do not answer; texture answers more at two
    for apart in (1, 2):
        second = cells[..., : -2 * apart] - 2 * cells[..., apart:-apart] + cells[..., 2 * apart :]
        answer = np.abs(second[:, : -2 * apart] - 2 * second[:, apart:-apart] + second[:, 2 * apart :])
        answers.append(np.median(answer.reshape(len(cells), -1), axis=1) / (6 * _MEDIAN_OF_NORMAL))
    noise: NDArray[np.float32] = np.stack(answers, axis=1)
    return noise


def _noise(found: Sequence[NDArray[np.float32]]) -> tuple[float, float]:
    """:attr:`Damage.noise` and `white`, of the quietest blocks, or of the median one if only that is noisy."""
    blocks = np.sort(np.concatenate([np.zeros((0, 2), np.float32), *found]), axis=0)
    if not len(blocks):
        return 0.0, 0.0
    quiet, middle = (blocks[int(share * len(blocks))] for share in (_QUIETEST, _MIDDLE))
    only_middle = quiet[0] <= _NOISY and middle[0] > _NOISY_IN_THE_MIDDLE and middle[0] > _WHITE * middle[1]
    one, two = middle if only_middle else quiet
    return (float(one), float(one / two)) if one > _WHITE * two else (0.0, 0.0)


def _dots(levels: NDArray[np.float32]) -> NDArray[np.float64]:
    """How many pixels are much brighter, how many much darker than all eight around them, and of how many."""
    counts = []
    for values in (levels, -levels):
        inner = values[1:-1, 1:-1]
        sides = np.maximum(values[1:-1, :-2], values[1:-1, 2:])
        rows, columns = np.nonzero(inner - sides > _LEAST_DOT)  # few, so that the rest costs nothing
        around = np.stack(
            [values[rows + down, columns + right] for down in range(3) for right in range(3) if (down, right) != (1, 1)]
        )
        highest, lowest = around.max(axis=0), around.min(axis=0)
        above = inner[rows, columns] - highest
        counts.append((above > np.maximum(_LEAST_DOT, _DOT_OVER_RANGE * (highest - lowest))).sum())
    return np.array([*counts, inner.size], float)


def _cells(values: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """All whole squares of this side, N×side×side, from the top left."""
    rows, columns = len(values) // side, values.shape[1] // side
    whole = values[: rows * side, : columns * side].reshape(rows, side, columns, side)
    cells: NDArray[np.float32] = whole.swapaxes(1, 2).reshape(-1, side, side)
    return cells


def _steps(levels: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """N×8, across columns and rows: how far steps exceed those around them, by their place modulo 8, in cells."""
    found = []
    for lines in (levels, levels.T):
        step = np.abs(np.diff(lines, axis=1))
        excess = np.clip(step[:, 1:-1] - (step[:, :-2] + step[:, 2:]) / 2, 0, _LARGEST_STEP)[:, 6:]  # begins at place 8
        found.append(_cells(excess.astype(np.float32), _CELL).reshape(-1, _CELL, _CELL // 8, 8).mean((1, 2)))
    return found[0], found[1]


def _blockiness(found: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> float:
    """Of the two directions the lesser, and of all cells the median: drawings have lines, but not everywhere."""
    ratios = []
    for cells in (np.concatenate(direction) for direction in zip(*found, strict=True)):
        if not len(cells):
            return 1.0
        place = cells.mean(axis=0).argmax()
        others = np.median(np.delete(cells, place, axis=1), axis=1)
        ratios.append(float(np.median((cells[:, place] + _UNSEEN_STEP) / (others + _UNSEEN_STEP))))
    return min(ratios, default=1.0)
