"""Encoded pictures that are not files: kept as one meanwhile, because several readers look at a picture's file."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.files.formats import MAX_PIXELS, RAISE_LIMIT, SNIFFED_BYTES, loader_of

_CHUNK_BYTES = 1 << 20
_BYTES_PER_PIXEL = 16  # RGB with alpha as float32, uncompressed
_METADATA_BYTES = 64 << 20


@contextlib.contextmanager
def spooled(picture: bytes | BinaryIO, *, name: str, max_pixels: int = MAX_PIXELS) -> Iterator[Path]:
    """The path of a file with an encoded picture's bytes, in a temporary folder that is removed at the end.

    picture: its bytes, or a file object opened for reading in binary mode, read from where it stands to its end.
    name: the file's name, which also stands for it in errors.

    Raises: ArgumentError for a text file, ImageError if there are more bytes than max_pixels can take, or the folder
    has no room. Errors of the block that name the file are raised again with its bare name.
    """
    with tempfile.TemporaryDirectory(prefix="srflow-") as folder:
        path = Path(folder) / name
        try:
            with path.open("wb") as file:
                _copy(picture, file, name=name, limit=max_pixels * _BYTES_PER_PIXEL + _METADATA_BYTES)
        except OSError as error:
            where, why = tempfile.gettempdir(), error.strerror or error
            raise ImageError(f"{name} cannot be copied to {where}: {why}; TMPDIR names another folder") from error
        try:
            yield path
        except ImageError as error:
            raise ImageError(str(error).replace(str(path), name)) from error


def _copy(picture: bytes | BinaryIO, file: BinaryIO, *, name: str, limit: int) -> None:
    source = io.BytesIO(picture) if isinstance(picture, (bytes, bytearray, memoryview)) else picture
    head, written = b"", 0
    while chunk := source.read(_CHUNK_BYTES):
        if not isinstance(chunk, bytes):
            raise ArgumentError(f'{name} is read as text; open its file in binary mode: open(path, "rb")')
        file.write(chunk)
        written += len(chunk)
        if len(head) < SNIFFED_BYTES:
            head += chunk
            if len(head) >= SNIFFED_BYTES and loader_of(head, name=name) is None:
                return  # whoever opens the file says why; the source may never end
        if written > limit:
            raise ImageError(f"{name}: over {limit:,} bytes; {RAISE_LIMIT}")
