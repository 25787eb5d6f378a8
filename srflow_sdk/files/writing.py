"""Writes image files through libvips, row by row: the file appears complete or not at all."""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import threading
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.files import tiff
from srflow_sdk.files.formats import (
    PathLike,
    WriteOptions,
    check_writable,
    format_of,
    save_options,
)
from srflow_sdk.files.metadata import Metadata, attach
from srflow_sdk.files.provenance import Provenance, add_provenance, remove_stale
from srflow_sdk.files.reading import RAW_DTYPES
from srflow_sdk.pixels.in_memory import from_unit
from srflow_sdk.system import libvips
from srflow_sdk.system.local_files import content_sha256, replacing, writing_errors

_LOGGER = logging.getLogger(__name__)

_PICTURE_DTYPES = ("uint8", "uint16", "float32")
_RAW_FORMATS = {name: form for form, name in RAW_DTYPES.items()}
_CHUNK_BYTES = 4 << 20
_PROBE_BYTES = 1 << 20
_BIGTIFF_BYTES = 2 << 30  # compressed data can be larger than the pixels


def write_image(
    path: PathLike,
    pixels: NDArray[Any],
    *,
    metadata: Metadata | None = None,
    provenance: Provenance | None = None,
    quality: int | None = None,
    lossless: bool = False,
) -> None:
    """Write an image file in the format of the name's ending; it appears complete, or not at all.

    Args:
        path: .png, .jpg, .jpeg, .webp, .tif, .tiff, or .avif where libvips has it. An older file is
            replaced.
        pixels: uint8, uint16 or float32 in [0, 1], H×W or H×W×1 (gray), 2 (gray, alpha), 3 (RGB) or
            4 (RGB, alpha). PNG and TIFF keep uint16; TIFF keeps float32, which becomes uint16 in
            PNG; the others hold 8 bits.
        metadata: for pixels of this size (see :meth:`Metadata.enlarged`). What the format cannot
            hold is logged.
        provenance: how they were made; it is added to the XMP packet.
        quality: of JPEG, WebP and AVIF, 1 … 100; None is 95, for AVIF 85.
        lossless: keep every visible pixel of WebP and AVIF, as PNG and TIFF do.

    Raises:
        ArgumentError: for unknown endings and dtypes, and what the format does not offer.
        ImageError: if the pixels do not fit the format, or the file cannot be written; an older one
            is as before.

    Example:
        >>> write_image("gray.tif", np.zeros((480, 640), np.uint16))
    """
    target = Path(path)
    hwc = pixels[..., None] if pixels.ndim == 2 else pixels
    if hwc.ndim != 3:
        raise ImageError(
            f"{target} cannot be written: pixels of shape {pixels.shape} are not an image"
        )
    height, width, channels = hwc.shape
    with ImageWriter(
        target,
        width=width,
        height=height,
        channels=channels,
        dtype=hwc.dtype,
        metadata=metadata,
        provenance=provenance,
        options=WriteOptions(quality=quality, lossless=lossless),
    ) as writer:
        writer.write_rows(hwc)


class ImageWriter:
    """Writes an image file row by row, inside a with-block, at whose end it appears.

    See :func:`write_image`.

    Memory does not grow with the height, except for WebP and AVIF, whose encoders hold the whole
    picture. raw: into a TIFF, write values of 8, 16 or 32 bits as they are.
    """

    def __init__(
        self,
        target: Path,
        *,
        width: int,
        height: int,
        channels: int,
        dtype: np.dtype[Any] | type,
        metadata: Metadata | None = None,
        provenance: Provenance | None = None,
        options: WriteOptions = WriteOptions(),  # noqa: B008, frozen
        raw: bool = False,
    ) -> None:
        libvips.start_threads()
        self._target = Path(target)
        self._options = save_options(self._target, options)
        self._format = format_of(self._target)
        self._dtype = np.dtype(dtype)
        self._raw = raw
        self._stored = self._dtype
        if not (raw or (self._dtype == np.float32 and self._format.holds_float)):
            self._stored = np.dtype(
                np.uint8 if self._dtype == np.uint8 or self._format.bits == 8 else np.uint16
            )
        if raw and not self._format.has_directories:
            raise ArgumentError(
                f"{target}: values in their own units are written as TIFF; end its name in .tif"
            )
        if self._dtype.name not in (_RAW_FORMATS if raw else _PICTURE_DTYPES):
            raise self._error(f"pixels are {self._dtype}; files hold uint8, uint16 or float32")
        if not (raw or channels in (1, 2, 3, 4)) or width < 1 or height < 1:
            raise self._error(f"{height}×{width}×{channels} is not the shape of an image")
        check_writable(self._target, channels=channels, size=(width, height))
        self._shape = (height, width, channels)
        self._metadata = metadata or Metadata()
        packet = None if self._metadata.xmp is None else remove_stale(self._metadata.xmp)
        if provenance is not None:
            packet = add_provenance(packet, provenance, max_bytes=self._format.max_xmp)
        self._metadata = replace(self._metadata, xmp=packet)
        self.provenance = provenance
        self._rows = 0
        self._open = contextlib.ExitStack()
        self._thread: threading.Thread | None = None
        self._failure: str | None = None
        self._abandoned = threading.Event()
        self._finished = False

    def __enter__(self) -> ImageWriter:
        # libvips pulls pixels and we push them. From a pipe it can only pull a file in a format
        # that it loads row by row: an uncompressed 8-bit gray PNG, as wide as a row has bytes,
        # which is then split into channels again.
        height, width, channels = self._shape
        header = struct.pack(
            ">IIBBBBB", width * channels * self._stored.itemsize, height, 8, 0, 0, 0, 0
        )
        with contextlib.ExitStack() as stack:
            with writing_errors(self._target):
                self._descriptor = stack.enter_context(replacing(self._target))
            self._deflate = zlib.compressobj(0)
            self._read_end, self._write_end = os.pipe()
            self._thread = threading.Thread(target=self._run, name="srflow-encoder", daemon=True)
            self._thread.start()
            stack.callback(self._end, abandoned=True)
            self._put(b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header))
            self._open = stack.pop_all()
        return self

    def __exit__(self, *raised: Any) -> None:
        if raised[0] is not None:
            self._open.__exit__(*raised)
            return
        with writing_errors(self._target), self._open:
            self.finish()

    def write_rows(self, rows: NDArray[Any]) -> None:
        """Write the next rows, h×width×channels. Raises: ImageError once the encoder has failed."""
        step = max(1, _CHUNK_BYTES // (self._shape[1] * self._shape[2] * self._dtype.itemsize))
        for start in range(0, len(rows), step):
            stored = rows[start : start + step]
            if stored.dtype == np.float32 and not self._raw:
                if not np.isfinite(stored).all():
                    raise self._error("the pixels hold NaN or infinite values")
                stored = from_unit(stored, self._stored)
            elif stored.dtype != self._stored:
                stored = np.rint(stored / np.float32(257)).astype(self._stored)
            flat = np.ascontiguousarray(stored).reshape(len(stored), -1).view(np.uint8)
            # a row begins with its filter: 0, none
            filtered = np.zeros((flat.shape[0], flat.shape[1] + 1), np.uint8)
            filtered[:, 1:] = flat
            self._put(_chunk(b"IDAT", self._deflate.compress(filtered.data)))
            if self._failure is not None:
                raise self._error(self._failure)
        self._rows += len(rows)

    def finish(self) -> None:
        """Wait until all rows are on disk; the end of the block then renames the hidden file.

        Raises: ImageError.
        """
        if self._finished:
            return
        if self._rows != self._shape[0]:
            raise self._error(f"only {self._rows} of {self._shape[0]} rows were written")
        self._put(_chunk(b"IDAT", self._deflate.flush()) + _chunk(b"IEND", b""))
        self._end()
        if self._failure is not None:
            raise self._error(self._failure)
        block = self._metadata.exif
        geo = self._metadata.geo
        forget_resolution = self._format.forget_resolution
        # change what libvips wrote: no resolution if there is none, and EXIF and a place in TIFF
        with writing_errors(self._target):
            if self._metadata.resolution is None and forget_resolution is not None:
                forget_resolution(self._descriptor)
            if not self._format.has_directories:
                if geo is not None:
                    _LOGGER.warning(
                        "%s: GeoTIFF's tags left out: only TIFF holds them", self._target
                    )
            elif block is not None or geo is not None:
                size = self._shape[1::-1]
                is_srgb = self._metadata.icc_profile is None
                if not tiff.append_tags(self._descriptor, block, geo, size=size, is_srgb=is_srgb):
                    what = "EXIF block" if geo is None else "EXIF block and GeoTIFF's tags"
                    _LOGGER.warning(
                        "%s: %s left out: it is damaged, or the file would exceed 4 GB",
                        self._target,
                        what,
                    )
            os.fsync(self._descriptor)
        self._finished = True

    def content(self) -> tuple[int, str]:
        """Length in bytes and sha256 of the finished file.

        Raises: ImageError if it cannot be read again.
        """
        with writing_errors(self._target), os.fdopen(os.dup(self._descriptor), "rb") as file:
            file.seek(0)
            digest = content_sha256(file)
            return file.tell(), digest

    def _error(self, why: str) -> ImageError:
        return ImageError(f"{self._target} cannot be written: {why}")

    def _put(self, data: bytes) -> None:
        """Hand bytes to the encoder, as long as it works."""
        view = memoryview(data)
        while view and self._failure is None:
            view = view[os.write(self._write_end, view[: 1 << 20]) :]

    def _end(self, *, abandoned: bool = False) -> None:
        """Wait until everything is encoded, or end the thread at once."""
        if abandoned:
            self._abandoned.set()
        if self._write_end >= 0:
            if abandoned:
                # wake the thread, also if a forked process keeps this end open
                with contextlib.suppress(OSError):
                    os.write(self._write_end, b"\0")
            os.close(self._write_end)
            self._write_end = -1
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        """Encode what comes through the pipe, and keep the cause if that fails."""
        try:
            self._encode()
        except Exception as error:  # whatever it is, the writing thread must know
            is_full = not self._abandoned.is_set() and _is_full(self._descriptor)
            cause = libvips.reason(error) or "the encoder failed"
            self._failure = "the disk is full, or a limit is reached" if is_full else cause
            # Read what is still written until the writer has stopped, so that it does not wait for
            # a full pipe. libvips holds a descriptor of its own, so closing ours would not tell the
            # writer.
            while os.read(self._read_end, 1 << 20) and not self._abandoned.is_set():
                pass
        os.close(self._read_end)

    def _encode(self) -> None:
        pyvips = libvips.pyvips()
        channels = self._shape[2]
        dtype = self._stored
        gray = channels <= 2
        deep = dtype == np.uint16
        interpretation = ("grey16" if gray else "rgb16") if deep else ("b-w" if gray else "srgb")
        if dtype == np.float32:
            interpretation = "b-w" if gray else "scrgb"
        if self._raw and (channels != 3 or dtype.name not in _PICTURE_DTYPES):
            interpretation = "multiband"
        options = dict(self._options)
        if self._format.has_directories:
            options["bigtiff"] = int(np.prod(self._shape)) * dtype.itemsize > _BIGTIFF_BYTES
        source = pyvips.Source.new_from_descriptor(self._read_end)
        image = pyvips.Image.pngload_source(
            source, access="sequential", unlimited=True, fail_on="error"
        )
        image = image.bandfold(factor=channels * dtype.itemsize)
        image = image.copy(
            format=_RAW_FORMATS[dtype.name], bands=channels, interpretation=interpretation
        )
        image, options["keep"] = attach(image, self._metadata, self._target, kind=self._format)
        target = pyvips.Target.new_to_descriptor(self._descriptor)
        getattr(image, f"{self._format.saver}_target")(target, **options)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return b"".join(
        [
            struct.pack(">I", len(data)),
            kind,
            data,
            struct.pack(">I", zlib.crc32(data, zlib.crc32(kind))),
        ]
    )


def _is_full(descriptor: int) -> bool:
    """Tell if a file failed because no more can be written: encoders rarely say so."""
    try:
        os.lseek(descriptor, 0, os.SEEK_END)
        return os.write(descriptor, bytes(_PROBE_BYTES)) < _PROBE_BYTES
    except OSError:
        return True
