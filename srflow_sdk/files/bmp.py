"""BMP files, which libvips reads only with ImageMagick: Pillow decodes them, whole."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from PIL import BmpImagePlugin

from srflow_sdk.errors import ImageError
from srflow_sdk.files import libvips
from srflow_sdk.pixels.in_memory import unpacked

HEAD_BYTES = 26
"""How many bytes of a file :func:`claimed_size` needs."""

_HEADERS = {12: "<HH", **dict.fromkeys((40, 52, 56, 64, 108, 124), "<ii")}  # bytes of the header: how it holds the size
_MM_PER_INCH = 25.4
_MAX_RESOLUTION = 1e6  # libvips complains on standard error from here on
_DAMAGE = (SyntaxError, ValueError, EOFError, OverflowError, IndexError, KeyError, TypeError, struct.error)


def claimed_size(head: bytes) -> tuple[int, int] | None:
    """Width and height in the header of a BMP that begins with these bytes; None if this is no BMP."""
    form = _HEADERS.get(int.from_bytes(head[14:18], "little")) if head.startswith(b"BM") else None
    if form is None or len(head) < HEAD_BYTES:
        return None
    width, height = struct.unpack_from(form, head, 18)
    return abs(width), abs(height)  # a negative height means that the rows are stored from the top


def load(path: Path) -> Any:
    """The file as a libvips image in memory, with its resolution. The caller has checked the size that it claims.

    Raises: ImageError if it is damaged or truncated, OSError.
    """
    pyvips = libvips.pyvips()
    with path.open("rb") as file:
        claimed = claimed_size(file.read(HEAD_BYTES))
        file.seek(0)
        try:
            image = BmpImagePlugin.BmpImageFile(file)  # not Image.open, which has a limit on pixels of its own
            if image.size != claimed or 0 in image.size:
                raise ValueError("its size is wrong")
            image.load()
        except (*_DAMAGE, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise ImageError(
                f"{path}: the file is damaged, truncated or unsupported ({error}); copy or download it again, or save "
                "it as PNG"
            ) from error
    pixels, kind = unpacked(image)
    loaded = pyvips.Image.new_from_memory(pixels.tobytes(), *image.size, kind.channels, "uchar")
    loaded = loaded.copy(interpretation="b-w" if kind.colours == 1 else "srgb")
    loaded.set_type(pyvips.GValue.gstr_type, "vips-loader", "bmp")
    x, y = (value / _MM_PER_INCH for value in image.info.get("dpi", (0, 0)))
    if 0 < max(x, y) < _MAX_RESOLUTION:
        loaded = loaded.copy(xres=x, yres=y)
        loaded.set_type(pyvips.GValue.gstr_type, "resolution-unit", "in")
    return loaded
