"""Reading and writing image files, with the metadata that travels with the pixels.

Files stream: :class:`ImageReader` returns rows from the top while it decodes, :class:`ImageWriter`
encodes rows as they arrive, so memory depends on an image's width and not on its height.
:func:`read_image` and :func:`write_image` do the same for whole arrays. libvips does the work; it
is loaded on first use.
"""

from __future__ import annotations

from srflow_sdk.files.formats import (
    MAX_PIXELS,
    RAISE_LIMIT,
    READABLE,
    UNREAD,
    WRITABLE,
    PathLike,
    WriteOptions,
    check_writable,
)
from srflow_sdk.files.metadata import Metadata
from srflow_sdk.files.passed_images import spooled
from srflow_sdk.files.provenance import Provenance
from srflow_sdk.files.reading import (
    ImageFile,
    ImageReader,
    count_pixels,
    open_image,
    read_image,
    read_provenance,
)
from srflow_sdk.files.writing import ImageWriter, write_image

__all__ = [
    "MAX_PIXELS",
    "RAISE_LIMIT",
    "READABLE",
    "UNREAD",
    "WRITABLE",
    "ImageFile",
    "ImageReader",
    "ImageWriter",
    "Metadata",
    "PathLike",
    "Provenance",
    "WriteOptions",
    "check_writable",
    "count_pixels",
    "open_image",
    "read_image",
    "read_provenance",
    "spooled",
    "write_image",
]
