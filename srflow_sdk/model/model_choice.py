"""Which model suits a picture: by the scale, and by the kind of picture that it shows to be.

A model for a new kind of pictures is a folder in `models/`, whose manifest names the kind, and a
row of :data:`KINDS`.
"""

from __future__ import annotations

import contextlib
import operator
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from srflow_sdk._checks import file_path
from srflow_sdk.errors import ArgumentError
from srflow_sdk.files import MAX_PIXELS, PathLike, open_image
from srflow_sdk.files.formats import SNIFFED_BYTES, recognise
from srflow_sdk.files.passed_images import AnyImage, as_path_or_picture
from srflow_sdk.geometry.sizes import OutputSize, check_scale
from srflow_sdk.model.bundle import Bundle, open_unverified
from srflow_sdk.pixels.damage import STRIP_ROWS, Damage, measure_damage, strips_of
from srflow_sdk.pixels.in_memory import Pixels, unpacked
from srflow_sdk.system.local_files import open_regular

BY_PICTURE = "auto"  # the name under which a user asks for the model that suits each picture
CLEAN = "clean"
DAMAGED = "damaged"
NO_DAMAGE = "no damage found"
STAYS_SOFT = "; it stays soft"
_STANDARD_LUMA_SUM = 3688  # of JPEG's table K.1 (ITU-T T.81, Annex K), which is that of quality 50
_scale = operator.attrgetter("manifest.scale")

# Where x4-photo begins to draw the better picture, by LPIPS and specks: benchmarks/model_choice.py
# measures it.
_GOOD_QUALITY = 94  # of a JPEG; those below are damaged
_GOOD_BITS = 2.5  # a pixel of another lossy file
_NOISY = 1.3  # standard deviation in 8-bit levels
_DOTTED = 0.03  # percentage of bright and of dark dots
_SOFT = 0.1  # share of the edges that are sharp
_STAYS_SOFT = 0.02  # the same at half size; below, x4-photo draws no sharp edge either
# What pixels must show beyond that, so that textures and small pictures are not taken for damaged
# ones:
_CERTAIN_GRID = 2.0  # standard errors
_WHITE = 0.7  # of noise; texture has less


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """An embedded model for a picture.

    Attributes:
        name: of the model, such as "x4-photo", for :class:`~srflow_sdk.Upscaler`.
        why: what was seen, in words; "" if only one model enlarges so much, whatever the picture
            shows.
        cleaner: the model that removes the damage first, at temperature 0 and in the picture's
            size; None: no model.
    """

    name: str
    why: str
    cleaner: str | None = None


def bundles_of(model: PathLike | Bundle | Iterable[Bundle] | None = None) -> list[Bundle]:
    """The bundle of this name or path, or those given; for None and "auto" the embedded ones.

    Only manifests are read.
    """
    if model is None or (isinstance(model, str) and model == BY_PICTURE):
        return [open_unverified(name) for name in Bundle.embedded_names()] or [Bundle.embedded()]
    if isinstance(model, (str, os.PathLike)) and model != "":
        return [open_unverified(model)]
    given: Iterable[Any] = model if isinstance(model, Iterable) else [model]
    if (bundles := list(given)) and all(isinstance(one, Bundle) for one in bundles):
        return bundles
    what = '"auto", the path of a bundle, an embedded model\'s name, or one Bundle or several'
    raise ArgumentError(f"bundle is {model!r}; it must be {what}")


def bundles_for(bundles: Iterable[Bundle], scale: float | OutputSize | None) -> list[Bundle]:
    """Those of the models that pictures may need, that for clean ones first.

    All of them, if the picture sets the scale.
    """
    bundles = list(bundles)
    if len(bundles) == 1:
        return bundles
    if cleaner := max(
        (one for one in bundles if one.manifest.kind == DAMAGED), key=_scale, default=None
    ):
        bundles = [
            replace(one, cleaner=cleaner) if _scale(one) > _scale(cleaner) else one
            for one in bundles
        ]
    if isinstance(scale, OutputSize):
        return bundles
    scales = sorted(set(map(_scale, bundles)))
    if scale is not None and scale > scales[-1]:
        offer = (
            f"the models here enlarge {', '.join(map(str, scales))} times: ask for at most "
            f"{scales[-1]}"
        )
        raise ArgumentError(
            f"scale is {scale:g}, but {offer}, upscale an output again, or name a bundle of your "
            "own"
        )
    chosen = _choose_by_kind(bundles, scale or bundles[0].manifest.scale)
    return list({id(one): one for one in chosen.values()}.values())


def _choose_by_kind(bundles: Sequence[Bundle], scale: float) -> dict[str, Bundle]:
    """Choose a model for each kind of pictures, the smallest that enlarges so much.

    The largest if none does; for kinds that none of these is made for, that for clean ones.
    """
    in_order = sorted(bundles, key=_scale)
    enough = [one for one in in_order if _scale(one) >= min(scale, _scale(in_order[-1]))]
    smallest = {one.manifest.kind: one for one in reversed(enough)}
    clean = smallest.get(CLEAN, enough[0])
    return {kind: smallest.get(kind, clean) for kind in (CLEAN, *KINDS)}


def choose_model(
    picture: AnyImage,
    *,
    scale: float | OutputSize | None = None,
    among: Iterable[Bundle] | None = None,
    max_pixels: int = MAX_PIXELS,
    cancel: threading.Event | None = None,
) -> ModelChoice:
    """Choose the smallest model that enlarges so much, of those for this kind of picture.

    A damaged or soft picture is a kind. Where no model for it enlarges so much, the largest one
    for damaged pictures draws the picture first, in its own size.

    Args:
        picture: as for :meth:`Upscaler.upscale`: a path, a file's bytes, a file object (which is
            read to its end), a PIL image, array or tensor. A JPEG's tables show its quality, and
            other lossy files their bits a pixel; a PIL image too, of these if it was opened by
            their path.
        scale: as for :meth:`Upscaler.upscale`; a max_side asks for no more than None does, which is
            the first model's.
        among: the models; None is the embedded ones, x4-small first.
        max_pixels: larger files are refused.
        cancel: once this event is set, from any thread, the call ends within a band of rows.

    Returns:
        The model's name, why, and what draws first.

    Raises:
        ImageError: the picture cannot be read.
        ArgumentError: an argument is out of range, or no model enlarges so much.
        CancelledError: `cancel` was set.

    Example:
        >>> with Upscaler(choose_model("photo.jpg").name) as upscaler:
        ...     ...  # what Upscaler() does for each picture
    """
    check_scale(scale)
    bundles = bundles_for(bundles_of(among), scale)
    if len(bundles) == 1 and bundles[0].cleaner is None:
        return ModelChoice(name=bundles[0].manifest.name, why="")
    seen = look_at(picture, max_pixels=max_pixels, cancel=cancel)
    shown = ((kind, shown_by(seen)) for kind, shown_by in KINDS.items())
    kind, why = next((one for one in shown if one[1]), (CLEAN, NO_DAMAGE))
    usual = bundles[0].manifest.scale
    times = scale or usual
    if isinstance(times, OutputSize):
        asked = times.scale_for(height=seen.height, width=seen.width)
        times = min(asked, usual) if times.max_side else asked
    suits = _choose_by_kind(bundles, times)[kind]
    cleaner = None
    if kind == DAMAGED and suits.cleaner is not None:
        cleaner = suits.cleaner.manifest.name
    return ModelChoice(name=suits.manifest.name, why=why, cleaner=cleaner)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a picture and its file show.

    Attributes:
        quality: of a JPEG.
        lossy: the format of another file that lost detail.
        bits: of such a file, a pixel.
    """

    height: int
    width: int
    damage: Damage
    quality: int | None
    lossy: str | None
    bits: float


def look_at(
    picture: AnyImage, *, max_pixels: int = MAX_PIXELS, cancel: threading.Event | None = None
) -> Seen:
    """Measure a picture. Arguments, and what is raised, are as of :func:`choose_model`."""
    strips: Iterator[Pixels]
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(as_path_or_picture(picture, max_pixels=max_pixels))
        if isinstance(source, (str, os.PathLike)):
            path = file_path("picture", source)
            reader = stack.enter_context(open_image(path, max_pixels=max_pixels))
            height, width = reader.height, reader.width
            strips = (
                reader.read_rows(min(STRIP_ROWS, height - row))
                for row in range(0, height, STRIP_ROWS)
            )
            quality, lossy, nbytes = _of_file(path)
        else:
            pixels, _ = unpacked(source)
            height, width = pixels.shape[:2]
            strips = strips_of(pixels)
            _, lossy, nbytes = _of_file(Path(os.fsdecode(getattr(source, "filename", "") or "")))
            quality = _quality_in(source)
        return Seen(
            height=height,
            width=width,
            damage=measure_damage(strips, cancel=cancel),
            quality=quality,
            lossy=lossy,
            bits=8 * nbytes / (height * width),
        )


def name_damage(seen: Seen) -> str:
    """Say in a few words what is wrong with a picture, "" if nothing certainly is."""
    damage = seen.damage
    if seen.quality is not None and seen.quality < _GOOD_QUALITY:
        words = f"JPEG of quality {seen.quality}"
    elif seen.lossy is not None and seen.bits < _GOOD_BITS:
        words = f"{seen.lossy} of {seen.bits:.1f} bits a pixel"
    elif seen.lossy is None and damage.grid > _CERTAIN_GRID:  # the others have blocks of their own
        words = "blocks of 8×8, as of a JPEG"
    elif damage.noise > _NOISY and damage.white > _WHITE:
        words = f"noise of {damage.noise:.0f}/255"
    elif damage.dots > _DOTTED:
        words = "black and white dots"
    elif damage.sharp < _SOFT:
        words = "soft: no sharp edge"
    else:
        return ""
    stays_soft = damage.sharp < _SOFT and damage.sharp_at_half < _STAYS_SOFT
    return f"{words}{STAYS_SOFT}" if stays_soft else words


KINDS: dict[str, Callable[[Seen], str]] = {DAMAGED: name_damage}
"""Kinds of pictures that models are made for, besides clean ones. Each says by what a picture shows
to be of it, "" if it does not; the first that does decides."""


def _of_file(path: Path) -> tuple[int | None, str | None, int]:
    """The quality of a JPEG; of another lossy file, the format and its bytes.

    Errors are for the decoder.
    """
    # Image.open warns of large pictures, whatever the limit is
    from PIL.JpegImagePlugin import JpegImageFile

    with contextlib.suppress(OSError, ValueError, SyntaxError), open_regular(path) as file:
        head = file.read(SNIFFED_BYTES)
        size = os.fstat(file.fileno()).st_size
        kind = recognise(head, name=path.name)
        if kind is not None and kind.name == "JPEG":
            file.seek(0)
            with JpegImageFile(file) as image:
                return _quality_in(image), None, 0
        if kind is not None and not re.search(kind.lossless, head, re.DOTALL):
            return None, kind.name, size
    return None, None, 0


def _quality_in(image: object) -> int | None:
    """The quality of a JPEG by its luma table, on libjpeg's scale; None without."""
    tables = getattr(image, "quantization", None)
    if not isinstance(tables, dict) or 0 not in tables:
        return None
    percent = 100 * sum(tables[0]) / _STANDARD_LUMA_SUM
    return int(np.clip(round((200 - percent) / 2 if percent <= 100 else 5000 / percent), 1, 100))
