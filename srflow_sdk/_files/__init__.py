"""Image files: what is read, what is written, and what travels with the pixels.

Files stream: :class:`ImageReader` hands out rows from the top while it decodes, :class:`ImageWriter` encodes rows while
they come, so that memory depends on the width of an image and not on its height. :func:`read_image` and
:func:`write_image` are the same for whole arrays. libvips does the work; it is loaded when the first file is touched.
"""

from __future__ import annotations

from srflow_sdk._files.formats import MAX_PIXELS, READABLE, WRITABLE, check_writable
from srflow_sdk._files.metadata import Metadata
from srflow_sdk._files.provenance import Provenance
from srflow_sdk._files.reading import ImageFile, ImageReader, open_image, read_image, read_provenance
from srflow_sdk._files.whole import is_whole
from srflow_sdk._files.writing import ImageWriter, write_image
from srflow_sdk._system.atomic import remove_stale_parts

__all__ = [
    "MAX_PIXELS",
    "READABLE",
    "WRITABLE",
    "ImageFile",
    "ImageReader",
    "ImageWriter",
    "Metadata",
    "Provenance",
    "check_writable",
    "is_whole",
    "open_image",
    "read_image",
    "read_provenance",
    "remove_stale_parts",
    "write_image",
]
