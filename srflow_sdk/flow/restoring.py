"""Restores pictures: reduce, encode, invert, make the latents as small as true ones, decode."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.drawing.file_upscaling import FileResult, finished, kind_of, made_of, writer_for
from srflow_sdk.drawing.options import DrawOptions, Progress
from srflow_sdk.drawing.painter import Painter
from srflow_sdk.drawing.passes import pass_of
from srflow_sdk.drawing.tiles import padded_size
from srflow_sdk.encoding import ENCODING_BUDGET_BYTES, Encoding
from srflow_sdk.errors import ArgumentError
from srflow_sdk.files import WriteOptions, check_writable, open_image
from srflow_sdk.flow.flow_options import RestoreOptions
from srflow_sdk.flow.inverting import opaque_image, reduced_image, round_trip_halo
from srflow_sdk.pixels.in_memory import ImageKind
from srflow_sdk.system.local_files import real_path
from srflow_sdk.system.raising import memory_errors_typed


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
        latents = options.restored(latents)
        restored = encoding._decoded(latents, DrawOptions(tau=1.0, progress=drawn, cancel=options.cancel))
        if kind.has_alpha:
            hidden = pixels[..., -1] == 0
            restored = np.concatenate([restored, pixels[..., -1:]], axis=2)
            restored[hidden] = pixels[hidden]
        return restored


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
    started = time.monotonic()
    if real_path(source) == real_path(target):
        raise ArgumentError(f"{source} would be overwritten by its own restoration; name another target")
    manifest = painter.manifest
    with (
        memory_errors_typed(f"while restoring {source}; use a smaller picture"),
        open_image(source, max_pixels=writing.max_pixels) as reader,
    ):
        size = reader.width, reader.height
        check_writable(target, channels=reader.channels, size=size)
        step = manifest.scale * manifest.size_multiple
        height, width = (padded_size(side, step) // manifest.scale for side in (reader.height, reader.width))
        tile = painter.core(height, width, halo=round_trip_halo(manifest))
        digest = reader.sha256()
        fields = options.provenance_fields()
        provenance = made_of(manifest, source=source, source_sha256=digest, tile=tile, **fields)
        with writer_for(target, reader, painter, provenance, writing, size=size) as writer:
            writer.write_rows(restore_pixels(reader.read_rows(reader.height), kind_of(reader), painter, options))
            output = finished(writer, target, writing)
            reader.check_unchanged()
    return FileResult(source=source, size=size, outputs=(output,), seconds=time.monotonic() - started)
