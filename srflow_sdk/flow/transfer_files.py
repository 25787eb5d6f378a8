"""Transfers content between image files."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from srflow_sdk._version import __version__
from srflow_sdk.drawing.file_upscaling import FileResult, finished, kind_of, writer_for
from srflow_sdk.drawing.painter import Painter
from srflow_sdk.errors import ArgumentError
from srflow_sdk.files import ImageReader, Provenance, WriteOptions, check_writable, open_image
from srflow_sdk.files.formats import save_options
from srflow_sdk.files.provenance import TRANSFER
from srflow_sdk.flow.transfer_inputs import Inputs, Picture, mask_in
from srflow_sdk.flow.transfer_options import TransferOptions
from srflow_sdk.flow.transferring import transferred
from srflow_sdk.system.paths import real_path
from srflow_sdk.system.raising import memory_errors_typed


def transfer_file(
    painter: Painter,
    target: Path,
    source: Path,
    mask: Path,
    output: Path,
    *,
    lr: Path | None,
    options: TransferOptions,
    writing: WriteOptions,
    before_writing: Callable[[], None] = lambda: None,
) -> FileResult:
    """Do the work of :meth:`Upscaler.transfer_file`. Every input must be the same when the output is complete.

    before_writing: called once all other work is done.
    """
    started = time.monotonic()
    paths = {"target": target, "source": source, "mask": mask, **({} if lr is None else {"lr": lr})}
    for what, path in paths.items():
        if real_path(path) == real_path(output):
            raise ArgumentError(f"{path} is the {what} and would be overwritten by the result; name another output")
    save_options(output, quality=writing.quality, lossless=writing.lossless)  # before any work
    manifest = painter.manifest
    with memory_errors_typed(f"while transferring into {target}; use smaller pictures"):
        read = {what: _File.read(path, max_pixels=writing.max_pixels) for what, path in paths.items()}
        goal, of = read["target"], {what: file.picture for what, file in read.items()}
        size = goal.picture.width, goal.picture.height
        check_writable(output, channels=goal.picture.kind.channels, size=size)
        inputs = Inputs.of(goal.picture, of["source"], mask_in(of["mask"]), of.get("lr"), scale=manifest.scale)
        result = transferred(inputs, painter, options)
        others = {what: {"name": paths[what].name, "sha256": read[what].sha256} for what in paths if what != "target"}
        provenance = Provenance(
            model=manifest.name,
            model_sha256=manifest.digest,
            tau=options.number(manifest),
            seed=int(options.seed),
            sample=0,
            latent_scheme=manifest.latent_scheme,
            sdk_version=__version__,
            tile=result.tile,
            consistent=False,
            source=target.name,
            source_sha256=goal.sha256,
            operation=TRANSFER,
            settings=options.recorded(manifest, {"lr": None, **others}),
        )
        before_writing()
        with writer_for(output, goal.reader, painter, provenance, writing, size=size) as writer:
            writer.write_rows(result.pixels)
            made = finished(writer, output, writing)
            for file in read.values():
                file.reader.check_unchanged()
    return FileResult(source=target, size=size, outputs=(made,), seconds=time.monotonic() - started)


@dataclass(frozen=True, kw_only=True)
class _File:
    """A file that was read. reader: closed; it has the metadata, and can tell whether the file changed since."""

    picture: Picture
    reader: ImageReader
    sha256: str

    @classmethod
    def read(cls, path: Path, *, max_pixels: int) -> _File:
        """Raises: ImageError."""
        with open_image(path, max_pixels=max_pixels) as reader:
            pixels = reader.read_rows(reader.height)
            digest = reader.sha256()
            reader.check_unchanged()
        return cls(picture=Picture(pixels=pixels, kind=kind_of(reader)), reader=reader, sha256=digest)
