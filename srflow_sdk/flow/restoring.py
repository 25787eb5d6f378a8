"""Restores pictures: reduce, encode, invert, make the latents as small as true ones, decode.

Latents that are larger than a true photograph's become as large, and others stay. Where latent-space normalisation
(:mod:`srflow_sdk.latents.normalising`) gives each collection of latents the mean and deviation of true samples,
limiting multiplies it by min(1, tau/r), where r is its root mean square. Nothing is drawn at random and nothing is
enlarged, so that a picture whose latents are no larger than tau is decoded as it was.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.drawing.file_upscaling import FileResult, finished, writer_for
from srflow_sdk.drawing.options import DrawOptions, Progress, pass_of
from srflow_sdk.drawing.painter import Painter
from srflow_sdk.drawing.tiles import padded_size
from srflow_sdk.encoding import ENCODING_BUDGET_BYTES, Encoding
from srflow_sdk.errors import ArgumentError
from srflow_sdk.files import ImageReader, WriteOptions, check_writable, open_image
from srflow_sdk.files.formats import save_options
from srflow_sdk.flow.inverting import opaque_image, reduced_image, round_trip_halo
from srflow_sdk.flow.options import RestoreOptions
from srflow_sdk.latents import arrays
from srflow_sdk.latents.normalising import Collection, check_finite
from srflow_sdk.latents.picture_latents import Latents, level_taus
from srflow_sdk.pixels.in_memory import ImageKind
from srflow_sdk.system.local_files import real_path
from srflow_sdk.system.raising import memory_errors_typed

DOTS_TAU = 1.0
"""The default temperature over "local"."""

# The default temperatures over "spatial" and "global": measured on photographs with noise of 5 to 40 of 255. The finest
# level says how much noise there is, and the others are limited more, the more there is.
_FINEST_TAU = 0.8
_COARSE_TAUS = (0.7, 1.15)
_COARSE_TAU, _BY_SIZE = 1.8, 0.41

# Which pictures are noisy, and which have dots. Measured on clean photographs, with captions too, pages and line art
# (typical sizes up to 0.68, size times kurtosis up to 4.1), photographs with noise of 2 of 255 (typical sizes up to
# 0.99) and 5 (from 1.31 on; kurtosis up to 3.1), and with 2 % of salt and pepper (kurtosis from 6.9 on, times size from
# 6.4 on).
_NOISY_SIZE = 1.15
_DOTS_KURTOSIS, _DOTS_TAILS = 5.0, 5.2
_PLACE = 8  # positions a side
_BINS, _LARGEST = 8192, 16.0
_NORMAL_MEDIAN = 0.6744897501960817  # of the magnitude of standard normal numbers


def restore_pixels(pixels: NDArray[Any], kind: ImageKind, painter: Painter, options: RestoreOptions) -> NDArray[Any]:
    """A restored picture, H×W×C, of the same kind. Alpha and hidden colours stay. Raises: as Upscaler.restore."""
    options.check(painter.manifest)
    painter.inverting_backend()  # before any work
    with memory_errors_typed("for the image and its latents; use a smaller image"):
        colours, their_kind = opaque_image(pixels, kind, painter.manifest)
        small = reduced_image(colours, painter.manifest)
        encoded, inverted, drawn = (pass_of(number, 3, options.progress) for number in range(3))
        encoding = encoded_for_both(small, their_kind, painter, progress=encoded, cancel=options.cancel)
        latents = encoding._inverted(colours, their_kind, progress=inverted, cancel=options.cancel)
        del colours
        latents = restored(latents, options)
        picture = encoding._decoded(latents, DrawOptions(tau=1.0, progress=drawn, cancel=options.cancel))
        if kind.has_alpha:
            hidden = pixels[..., -1] == 0
            picture = np.concatenate([picture, pixels[..., -1:]], axis=2)
            picture[hidden] = pixels[hidden]
        return picture


def restored(latents: Latents, options: RestoreOptions) -> Latents:
    """The latents of a degraded picture as those of a restored one. Raises: NonFiniteError, ArgumentError."""
    if (chosen := _chosen(latents, options)) is None:
        return latents
    over, taus = chosen
    if options.enlarge:
        return latents.normalised(taus, over=over, seed=int(options.seed))
    return limited(latents, taus, over=over)


def _chosen(latents: Latents, options: RestoreOptions) -> tuple[Collection, dict[int, float]] | None:
    """The collections and temperatures for a picture with these latents; None if there is nothing to restore."""
    levels = list(latents.levels)
    finest = min(levels)
    size, kurtosis = tails(latents, finest)
    over: Collection
    if options.over == "auto":
        # Where a few latents are far too large there are dots or scratches. Noise is everywhere: the typical latent
        # is too large. Edges of text and drawings are neither.
        dots = kurtosis > _DOTS_KURTOSIS and size * kurtosis > _DOTS_TAILS
        over = "local" if dots else "spatial"
        if not dots and not options.enlarge and options.tau is None and typical_size(latents, finest) < _NOISY_SIZE:
            return None
    else:
        over = options.over
    if options.tau is not None:
        return over, level_taus(options.tau, levels)
    if over == "local":
        return over, dict.fromkeys(levels, DOTS_TAU)
    low, high = _COARSE_TAUS
    coarse = min(max(_COARSE_TAU - _BY_SIZE * size, low), high)
    return over, {level: _FINEST_TAU if level == finest else coarse for level in levels}


def encoded_for_both(
    lr: NDArray[Any], kind: ImageKind, painter: Painter, *, progress: Progress | None, cancel: threading.Event | None
) -> Encoding[Any]:
    """Encode an LR image in tiles that do for inverting and for drawing, and keep as many as memory allows."""
    budget, halo = painter.conditioning_budget(ENCODING_BUDGET_BYTES), round_trip_halo(painter.manifest)
    return Encoding(lr, kind, painter, memory_budget=budget, halo=halo, progress=progress, cancel=cancel)


def restore_file(
    source: Path, target: Path, painter: Painter, options: RestoreOptions, writing: WriteOptions
) -> FileResult:
    """Do the work of :meth:`Upscaler.restore_file`."""

    def make(readers: Mapping[str, ImageReader]) -> tuple[NDArray[Any], dict[str, Any]]:
        reader, manifest = readers["source"], painter.manifest
        step = manifest.scale * manifest.size_multiple
        height, width = (padded_size(side, step) // manifest.scale for side in (reader.height, reader.width))
        fields = {"tile": painter.core(height, width, halo=round_trip_halo(manifest)), **options.provenance_fields()}
        return restore_pixels(reader.read_rows(reader.height), reader.kind, painter, options), fields

    return made_of_files({"source": source}, target, painter, writing, make)


def made_of_files(
    paths: Mapping[str, Path],
    output: Path,
    painter: Painter,
    writing: WriteOptions,
    make: Callable[[Mapping[str, ImageReader]], tuple[NDArray[Any], dict[str, Any]]],
) -> FileResult:
    """Write a picture of the first file's size and kind, with its metadata; every file must be as it was at the end.

    paths: by what they are. make: takes the opened files, and returns the pixels, and the record's other fields.
    """
    started = time.monotonic()
    for what, path in paths.items():
        if real_path(path) == real_path(output):
            raise ArgumentError(f"{path} is the {what} and would be overwritten by the result; name another output")
    save_options(output, quality=writing.quality, lossless=writing.lossless)  # before any work
    with memory_errors_typed(f"while making {output}; use smaller pictures"), ExitStack() as stack:
        most = writing.max_pixels
        readers = {what: stack.enter_context(open_image(path, max_pixels=most)) for what, path in paths.items()}
        first = next(iter(readers.values()))
        size = first.width, first.height
        check_writable(output, channels=first.channels, size=size)
        pixels, fields = make(readers)
        with writer_for(output, first, painter, writing, size=size, source_sha256=first.sha256(), **fields) as writer:
            writer.write_rows(pixels)
            made = finished(writer, output, writing)
            for reader in readers.values():
                reader.check_unchanged()
    return FileResult(source=first.path, size=size, outputs=(made,), seconds=time.monotonic() - started)


def limited(latents: Latents, taus: Mapping[int, float], *, over: Collection) -> Latents:
    """Latents whose collections have a root mean square of at most `taus` of their level. Raises: NonFiniteError."""

    def limit(level: int, source: NDArray[np.float32], target: NDArray[np.float32]) -> None:
        squares = _mean_squares(latents, level)
        if over == "global":
            squares = np.full_like(squares, squares.mean())
        for rows in arrays.row_chunks(source, source.shape[1]):
            values = source[:, rows].astype(np.float64)
            size = np.sqrt(np.square(values).mean(axis=0) if over == "local" else squares[:, None, None])
            target[:, rows] = values * np.divide(taus[level], size, out=np.ones_like(size), where=size > taus[level])

    return latents._changed(set(taus), limit)


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
    """The median magnitude of a level's latents, as a share of normal numbers': to 1/512; 1 for true latents."""
    source = latents.levels[level]
    rows, columns = arrays.picture_positions(level, height=latents.height, width=latents.width)
    counts = np.zeros(_BINS, np.int64)
    for chunk in arrays.row_chunks(source, rows):
        size = np.minimum(np.abs(source[:, chunk, :columns]) * (_BINS / _LARGEST), _BINS - 1)
        counts += np.bincount(size.astype(np.int64).ravel(), minlength=_BINS)
    median = int(np.searchsorted(np.cumsum(counts), counts.sum() / 2)) + 0.5
    return median * _LARGEST / _BINS / _NORMAL_MEDIAN


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
