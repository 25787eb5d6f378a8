"""Restores pictures: reduce, encode, invert, make the latents as small as true ones, decode.

Latents that are larger than a true photograph's become as large, and others stay. Where
latent-space normalisation (:mod:`srflow_sdk.latents.normalising`) gives each collection of latents
the mean and deviation of true samples, limiting multiplies it by min(1, tau/r), where r is its root
mean square. Nothing is drawn at random and nothing is enlarged, so that a picture whose latents are
no larger than tau is decoded as it was.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection as Set, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk._checks import level_taus
from srflow_sdk.drawing.file_upscaling import (
    FileResult,
    finish_file,
    open_writer,
    record_provenance,
)
from srflow_sdk.drawing.inverting import opaque_image, reduced_image, round_trip_halo
from srflow_sdk.drawing.options import DrawOptions, part_progress
from srflow_sdk.drawing.painter import Painter
from srflow_sdk.encoding import EncodedPicture
from srflow_sdk.errors import ArgumentError
from srflow_sdk.files import ImageReader, WriteOptions, check_writable, open_image
from srflow_sdk.files.formats import save_options
from srflow_sdk.flow.options import RestoreOptions
from srflow_sdk.latents import arrays
from srflow_sdk.latents.normalising import Collection, check_finite
from srflow_sdk.latents.picture_latents import Latents, change_levels
from srflow_sdk.pixels.damage import measure_damage, strips_of
from srflow_sdk.pixels.in_memory import Floats, ImageKind, Pixels, gray_if_all_are
from srflow_sdk.system.interrupts import memory_errors_typed
from srflow_sdk.system.local_files import real_path

DOTS_TAU = 0.9
"""The default temperature over "local"."""

# Measured on photographs with noise of 3 to 30 of 255, in colour, in gray and shared by the
# channels. The stronger the noise, and the weaker the texture, the more the levels above the finest
# are limited. Faint noise comes back as it was.
_NOISY = 2.2  # of 255, in the luma
_WHITE = 0.7  # fine texture has at most 0.61, and 0.66 with noise of 2
_DOTTED = 0.2  # percent of the pixels; strong noise has 0.07
_FINEST_TAU = 0.8
# weaker noise than that of 255 gets, and strong noise at least
_WEAK = 4.0
_WEAK_TAU = 1.15
_LEAST_TAU = 0.6
# for noise and texture of 1 of 255; times their logarithms
_COARSE_TAU = 1.12
_BY_NOISE = -0.21
_BY_TEXTURE = 0.12


@dataclass(frozen=True)
class Decision:
    """How a degraded picture is restored: not at all if `over` is None.

    taus: by level. why: a line for people.
    """

    over: Collection | None
    taus: Mapping[int, float]
    why: str


def decide(pixels: Pixels, options: RestoreOptions, levels: Set[int]) -> Decision:
    """Decide by the noise and the dots in the pixels, H×W×C, what the options leave open.

    levels: of the model. Raises: ArgumentError for temperatures of others.
    """
    chosen = None if options.tau is None else level_taus(options.tau, levels)  # before any work
    damage = measure_damage(strips_of(pixels), cancel=options.cancel)
    finest = min(levels)
    dotted = damage.dots > _DOTTED
    noisy = damage.noise > _NOISY and damage.white > _WHITE
    if options.over == "auto" and not (dotted or noisy or chosen):
        return Decision(None, {}, "no damage found: copied unchanged")
    over: Collection = options.over if options.over != "auto" else "local" if dotted else "spatial"
    coarse = (
        _COARSE_TAU
        + _BY_NOISE * math.log(max(damage.noise, 1))
        + _BY_TEXTURE * math.log(max(damage.texture, 1))
    )
    coarse = _WEAK_TAU if damage.noise < _WEAK else min(max(coarse, _LEAST_TAU), _WEAK_TAU)
    if chosen is not None:
        taus = chosen
    elif over == "local":
        taus = dict.fromkeys(levels, DOTS_TAU)
    else:
        taus = {level: _FINEST_TAU if level == finest else coarse for level in levels}
    seen = (
        "black and white dots"
        if dotted
        else f"noise of {damage.noise:.0f}/255"
        if noisy
        else "no damage found"
    )
    return Decision(over, taus, f"{seen}: {over}, τ {taus[max(taus)]:.2g}")


def restore_pixels(
    pixels: Pixels, kind: ImageKind, painter: Painter, options: RestoreOptions
) -> tuple[Pixels, int | None, str]:
    """A restored picture, H×W×C, of the same kind, its tiles' cores, and what was decided.

    Alpha and hidden colours stay.
    """
    painter.inverting_backend()  # before any work
    decision = decide(pixels, options, [entry.level for entry in painter.manifest.latent_levels])
    if decision.over is None:
        return pixels.copy(), None, decision.why
    with memory_errors_typed("for the image and its latents; use a smaller image"):
        colours, their_kind = opaque_image(pixels, kind, painter.manifest)
        small = reduced_image(colours, painter.manifest)
        passes = [part_progress(number, 3, options.progress) for number in range(3)]
        encoded = EncodedPicture(
            small,
            their_kind,
            painter,
            memory_budget=None,
            halo=round_trip_halo(painter.manifest),
            progress=passes[0],
            cancel=options.cancel,
        )
        latents = encoded.invert(colours, their_kind, progress=passes[1], cancel=options.cancel)
        latents = limit_latents(latents, decision.taus, over=decision.over)
        picture = encoded.decode(
            latents, DrawOptions(tau=1.0, progress=passes[2], cancel=options.cancel)
        )
        picture = gray_if_all_are(picture, colours)
        del colours
        if kind.has_alpha:
            hidden = pixels[..., -1] == 0
            picture = np.concatenate([picture, pixels[..., -1:]], axis=2)
            picture[hidden] = pixels[hidden]
        return picture, encoded.core, decision.why


def restore_file(
    source: Path, target: Path, painter: Painter, options: RestoreOptions, writing: WriteOptions
) -> FileResult:
    """Do the work of :meth:`Upscaler.restore_file`."""

    def make(readers: Mapping[str, ImageReader]) -> tuple[Pixels, dict[str, Any], str]:
        reader = readers["source"]
        pixels, tile, why = restore_pixels(
            reader.read_rows(reader.height), reader.kind, painter, options
        )
        return pixels, {"tile": tile, **options.provenance_fields()}, why

    return make_file({"source": source}, target, painter, writing, make)


def make_file(
    paths: Mapping[str, Path],
    output: Path,
    painter: Painter,
    writing: WriteOptions,
    make: Callable[[Mapping[str, ImageReader]], tuple[Pixels, dict[str, Any], str]],
) -> FileResult:
    """Write a picture of the first file's size, kind and metadata.

    make: gives pixels, fields of the record, a note.
    """
    started = time.monotonic()
    for what, path in paths.items():
        if real_path(path) == real_path(output):
            raise ArgumentError(
                f"{path} is the {what} and would be overwritten by the result; name another output"
            )
    save_options(output, writing)  # before any work
    with memory_errors_typed(f"while making {output}; use smaller pictures"), ExitStack() as stack:
        most = writing.max_pixels
        readers = {
            what: stack.enter_context(open_image(path, max_pixels=most))
            for what, path in paths.items()
        }
        first = next(iter(readers.values()))
        size = first.width, first.height
        check_writable(output, channels=first.channels, size=size)
        pixels, fields, note = make(readers)
        provenance = record_provenance(
            painter, source=first.path, source_sha256=first.sha256(), **fields
        )
        with open_writer(output, first, provenance, writing, size=size) as writer:
            writer.write_rows(pixels)
            result = finish_file(writer, output, writing)
            for reader in readers.values():
                reader.check_unchanged()
    return FileResult(
        source=first.path,
        size=size,
        outputs=(result,),
        seconds=time.monotonic() - started,
        note=note,
    )


def limit_latents(latents: Latents, taus: Mapping[int, float], *, over: Collection) -> Latents:
    """Latents whose collections have a root mean square of at most `taus` of their level.

    Raises: NonFiniteError.
    """

    def limit(level: int, source: Floats, target: Floats) -> None:
        squares = _mean_squares(latents, level)
        if over == "global":
            squares = np.full_like(squares, squares.mean())
        for rows in arrays.row_chunks(source, source.shape[1]):
            values = source[:, rows].astype(np.float64)
            size = np.sqrt(
                np.square(values).mean(axis=0) if over == "local" else squares[:, None, None]
            )
            target[:, rows] = values * np.divide(
                taus[level], size, out=np.ones_like(size), where=size > taus[level]
            )

    return change_levels(latents, set(taus), limit)


def _mean_squares(latents: Latents, level: int) -> NDArray[np.float64]:
    """The mean square over the picture's positions, by channel.

    The same for any cut into chunks.
    """
    rows, columns = (-(-side >> level) for side in (latents.height, latents.width))
    # the sums of each row of every channel
    source = latents.levels[level]
    by_row = list[NDArray[np.float64]]()
    for chunk in arrays.row_chunks(source, rows):
        with np.errstate(over="ignore", invalid="ignore"):
            by_row.extend((source[:, chunk, :columns].astype(np.float64) ** 2).sum(axis=2).T)
    sums = np.array([math.fsum(channel) for channel in zip(*by_row, strict=True)])
    check_finite(sums, level)
    return sums / (rows * columns)
