"""Upscales an image file into image files, in memory that does not grow with the picture."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from srflow_sdk._version import __version__
from srflow_sdk.drawing.finishing import Write, warn_if_inconsistent
from srflow_sdk.drawing.low_resolution import ArrayRows, LowResolution, RowBuffer
from srflow_sdk.drawing.options import DrawOptions, Request, make_request, part_progress
from srflow_sdk.drawing.painter import KeptTiles, Painter, clean_pixels, draw_tiles
from srflow_sdk.drawing.wrapping import add_margins
from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.files import (
    ImageReader,
    ImageWriter,
    Provenance,
    WriteOptions,
    check_writable,
    open_image,
)
from srflow_sdk.files.provenance import INTERVAL
from srflow_sdk.model.manifest import Manifest
from srflow_sdk.system.interrupts import memory_errors_typed
from srflow_sdk.system.local_files import is_writable, real_path, writing_errors

InRange = Callable[[NDArray[Any], DrawOptions, float | None], NDArray[Any]]
"""Enlarges values in a range: takes them, the options and nodata."""

INTERVAL_SAMPLES = 8
"""Samples of an interval in files."""


@dataclass(frozen=True, kw_only=True)
class FileOutput:
    """One picture that was written.

    Attributes:
        path: The file.
        provenance: As it is stored in the file.
        lr_psnr: In dB; see :func:`~srflow_sdk.lr_psnr`. It is the one of the picture that the model
            made, before it was reduced to a smaller `scale`.
        size_bytes, sha256: Of the file. These and `lr_psnr` are None without `report`.
    """

    path: Path
    provenance: Provenance
    lr_psnr: float | None
    size_bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class FileResult:
    """The result of upscaling a file.

    Attributes:
        source: The file that was read.
        size: Its width and height in pixels.
        outputs: The pictures, in the order of the targets.
        seconds: The total time.
        note: What was decided about the picture, such as "noise of 9/255: spatial, τ 0.7"; "" if
            nothing was.
    """

    source: Path
    size: tuple[int, int]
    outputs: tuple[FileOutput, ...]
    seconds: float
    note: str = ""


def upscale_file(
    chosen: Callable[[], tuple[Painter, Painter | None]],
    source: Path,
    targets: Sequence[Path],
    options: DrawOptions,
    writing: WriteOptions,
    *,
    interval: float | None = None,
    in_range: InRange,
) -> FileResult:
    """Do the work of :meth:`Upscaler.upscale_file`.

    Args:
        chosen: Gives the painter, and the one that cleans before.
        in_range: Takes values, options and nodata.
    """
    # Long, as all of it happens while the files are open.
    started = time.monotonic()
    raw = options.value_range is not None
    _check_targets(source, targets, interval=interval, raw=raw)
    with (
        memory_errors_typed(
            f"while upscaling {source}; use smaller tiles, or fewer samples at a time"
        ),
        ExitStack() as stack,
    ):
        painter, cleaner = chosen()
        manifest = painter.manifest
        reader = stack.enter_context(open_image(source, max_pixels=writing.max_pixels, raw=raw))
        request = make_request(
            replace(options, value_range=None),
            manifest,
            height=reader.height,
            width=reader.width,
            n=len(targets) if interval is None else INTERVAL_SAMPLES,
            reduce=None if interval is None else "interval",
            coverage=interval,
        )
        size = (request.width, request.height)
        for target in targets:
            check_writable(target, channels=3 if raw else reader.channels, size=size)
        lr = _open_rows(painter, cleaner, reader, request, stack)
        core = painter.choose_core(*lr.network_size)
        writers: list[ImageWriter] = []

        def open_writers() -> Iterator[Write]:
            """Open the files one by one, once their first rows are there."""
            times = manifest.scale if request.scale is None else request.scale
            source_sha256 = reader.sha256()
            for place, target in enumerate(targets):
                sample = request.samples[place if interval is None else 0]
                fields = options.provenance_fields(manifest, sample=sample, scale=request.scale)
                if interval is not None:
                    fields |= interval_fields(manifest, interval, place)
                record = record_provenance(
                    painter,
                    source=reader.path,
                    source_sha256=source_sha256,
                    tile=core,
                    cleaner=cleaner,
                    **fields,
                )
                writer = open_writer(
                    target, reader, record, writing, size=size, times=times, raw=raw
                )
                writers.append(stack.enter_context(writer))
                yield writer.write_rows

        decibels: list[float | None] = [None] * len(targets)
        if raw:
            _write_in_range(lr, reader, open_writers(), options, in_range)
        else:
            # not how near the picture is to a cleaned one
            measure = writing.report and cleaner is None
            tiles = painter.plan(*lr.network_size, core)
            decibels = draw_tiles(
                lr, painter, tiles, request, open_writers(), KeptTiles(), measure=measure
            )
        outputs = [  # all of them before the first appears under its name
            finish_file(writer, target, writing, lr_psnr=value)
            for writer, target, value in zip(writers, targets, decibels, strict=True)
        ]
        reader.check_unchanged()
    if writing.report:
        warn_if_inconsistent(str(source), decibels, options=options, manifest=manifest)
    return FileResult(
        source=source,
        size=(reader.width, reader.height),
        outputs=tuple(outputs),
        seconds=time.monotonic() - started,
    )


def _open_rows(
    painter: Painter,
    cleaner: Painter | None,
    reader: ImageReader,
    request: Request,
    stack: ExitStack,
) -> LowResolution:
    """Take the rows of a file as they are decoded.

    To be cleaned or wrapped it is held whole, which is little beside what is drawn of it.
    """
    source: ArrayRows | RowBuffer
    if cleaner is None and request.options.wrap is None:
        source = RowBuffer(reader.read_rows, height=reader.height)
        stack.callback(source.close)
    else:
        pixels = add_margins(reader.read_rows(reader.height), request.margins)
        if cleaner is not None:
            pixels = clean_pixels(pixels, reader.kind, painter, cleaner, request.options.cancel)
        source = ArrayRows(pixels)
    return LowResolution(
        source=source,
        kind=reader.kind,
        height=reader.height + 2 * request.margins[0],
        width=reader.width + 2 * request.margins[1],
        multiple=painter.manifest.size_multiple,
        reach=painter.manifest.halo,
    )


def _write_in_range(
    lr: LowResolution,
    reader: ImageReader,
    writes: Iterable[Write],
    options: DrawOptions,
    in_range: InRange,
) -> None:
    """Enlarge values in a range, which are held whole, into one file for each sample."""
    values = lr.source.rows(0, lr.height)
    geo = reader.metadata.geo
    writes = list(writes)
    for place, write in enumerate(writes):
        progress = part_progress(place, len(writes), options.progress)
        sample = replace(options, sample=options.sample + place, progress=progress)
        write(in_range(values, sample, None if geo is None else geo.nodata))


def _check_targets(
    source: Path, targets: Sequence[Path], *, interval: float | None, raw: bool
) -> None:
    """Raises: ArgumentError for too few or too many, and for files that would overwrite another;
    ImageError for a folder that takes no files.
    """
    if not targets:
        raise ArgumentError("there is no target; name a file for each sample")
    if interval is not None and len(targets) != 3:
        raise ArgumentError(
            f"an interval needs three targets, not {len(targets)}: the picture's, the low and the "
            "high"
        )
    if interval is not None and raw:
        raise ArgumentError(
            "intervals are calibrated for photographs, not for values in a range; omit value_range"
        )
    names = [real_path(target) for target in targets]
    if real_path(source) in names:
        raise ArgumentError(
            f"{source} would be overwritten by its own enlargement; name another target"
        )
    if len(set(names)) < len(names):
        raise ArgumentError("two samples would be written to the same file; name a target for each")
    for target, name in zip(targets, names, strict=True):
        with writing_errors(target):  # its file is opened when its first rows are drawn
            name.parent.stat()
        if not is_writable(name.parent):
            raise ImageError(f"{target} cannot be written: {name.parent} is not writable")


def interval_fields(manifest: Manifest, coverage: float, place: int) -> dict[str, Any]:
    """The fields of provenance that make a bound of an interval one.

    place: of the picture (0), the low, the high.
    """
    if not place or manifest.intervals is None:
        return {}
    factors = " ".join(
        f"{factor:.4g}" for factor in manifest.intervals.factors_of(INTERVAL_SAMPLES, coverage)
    )
    what = ("", "low", "high")[place]
    return {
        "operation": INTERVAL,
        "settings": f"{what}, {coverage:g} of {INTERVAL_SAMPLES} samples, factors {factors}",
    }


def open_writer(
    target: Path,
    reader: ImageReader,
    provenance: Provenance,
    options: WriteOptions,
    *,
    size: tuple[int, int],
    times: float = 1,
    raw: bool = False,
) -> ImageWriter:
    """Open a writer of a picture, so many times as large, of a file's kind, with its metadata."""
    sides = size[0] / reader.width, size[1] / reader.height
    return ImageWriter(
        target,
        width=size[0],
        height=size[1],
        channels=reader.channels,
        dtype=reader.dtype,
        metadata=reader.metadata.enlarged(times, sides=sides),
        provenance=provenance,
        options=options,
        raw=raw,
    )


def finish_file(
    writer: ImageWriter, target: Path, options: WriteOptions, *, lr_psnr: float | None = None
) -> FileOutput:
    """Finish a file of :func:`open_writer`, which appears when its block ends."""
    writer.finish()
    size_bytes, sha256 = writer.content() if options.report else (None, None)
    assert writer.provenance is not None  # for the type checker: these writers have one
    return FileOutput(
        path=target,
        provenance=writer.provenance,
        lr_psnr=lr_psnr,
        size_bytes=size_bytes,
        sha256=sha256,
    )


def record_cleaner(manifest: Manifest) -> str:
    """What provenance records of a model that cleaned a picture."""
    return f"{manifest.name} {manifest.digest}"


def record_provenance(
    painter: Painter,
    *,
    source: Path,
    source_sha256: str,
    tile: int | None,
    cleaner: Painter | None = None,
    **others: Any,
) -> Provenance:
    """The record of how a picture of a file is made here.

    Args:
        tile: The side of the cores.
        others: What the operation decides.
    """
    manifest = painter.manifest
    backend = painter.backend
    return Provenance(
        model=manifest.name,
        model_sha256=manifest.digest,
        latent_scheme=manifest.latent_scheme,
        sdk_version=__version__,
        tile=tile,
        source=source.name,
        source_sha256=source_sha256,
        precision=backend.precision,
        device=None if backend.precision == "bundle" else backend.device,
        cleaned_by=None if cleaner is None else record_cleaner(cleaner.manifest),
        **others,
    )
