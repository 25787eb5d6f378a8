"""Reading and writing image files, with the metadata that travels with the pixels.

Files stream: :class:`ImageReader` returns rows from the top while it decodes, :class:`ImageWriter`
encodes rows as they arrive, so memory depends on an image's width and not on its height.
:func:`read_image` and :func:`write_image` do the same for whole arrays. libvips does the work; it
is loaded on first use.
"""

from __future__ import annotations

from srflow_sdk.files.formats import (
    MAX_PIXELS as MAX_PIXELS,
    RAISE_LIMIT as RAISE_LIMIT,
    READABLE as READABLE,
    UNREAD as UNREAD,
    WRITABLE as WRITABLE,
    PathLike as PathLike,
    WriteOptions as WriteOptions,
    check_writable as check_writable,
)
from srflow_sdk.files.metadata import Metadata as Metadata
from srflow_sdk.files.passed_images import spooled as spooled
from srflow_sdk.files.provenance import Provenance as Provenance
from srflow_sdk.files.reading import (
    ImageFile as ImageFile,
    ImageReader as ImageReader,
    count_pixels as count_pixels,
    open_image as open_image,
    read_image as read_image,
    read_provenance as read_provenance,
)
from srflow_sdk.files.writing import ImageWriter as ImageWriter, write_image as write_image
from srflow_sdk.system.local_files import remove_stale_parts as remove_stale_parts
