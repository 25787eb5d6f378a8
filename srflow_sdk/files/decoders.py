"""Formats that libvips does not decode: BMP by Pillow, and HEIC by pi-heif where libvips has no decoder for it."""

from __future__ import annotations

import importlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import BmpImagePlugin

from srflow_sdk.files import libvips
from srflow_sdk.pixels.in_memory import PILLOW_ERRORS, unpacked
from srflow_sdk.system.raising import is_installed

_BMP_HEADERS = {12: "<HH", **dict.fromkeys((40, 52, 56, 64, 108, 124), "<ii")}  # by its bytes: how it holds the size
_MM_PER_INCH = 25.4
_MAX_RESOLUTION = 1e6  # libvips complains on standard error from here on
_HEIC_DECODERS = ("pi_heif", "pillow_heif")  # the second has an encoder, too: what an app may have installed


def bmp_size(head: bytes) -> tuple[int, int]:
    """Width and height in the header of a BMP that begins with these bytes; (0, 0) if it ends too early."""
    form = _BMP_HEADERS.get(int.from_bytes(head[14:18], "little"))
    if form is None or len(head) < 26:
        return 0, 0
    width, height = struct.unpack_from(form, head, 18)
    return abs(width), abs(height)  # a negative height means that the rows are stored from the top


def decoded_bmp(path: Path) -> Any:
    """The file as a libvips image in memory, with its resolution. The caller has checked the size that it claims.

    Raises: ValueError if it is damaged or truncated, OSError.
    """
    pyvips = libvips.pyvips()
    with path.open("rb") as file:
        claimed = bmp_size(file.read(26))
        file.seek(0)
        try:
            image = BmpImagePlugin.BmpImageFile(file)  # not Image.open, which has a limit on pixels of its own
            if image.size != claimed or 0 in image.size:
                raise ValueError("its size is wrong")
            image.load()
        except PILLOW_ERRORS as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise ValueError(str(error)) from error
    pixels, kind = unpacked(image)
    loaded = pyvips.Image.new_from_memory(pixels.tobytes(), *image.size, kind.channels, "uchar")
    loaded = loaded.copy(interpretation="b-w" if kind.colours == 1 else "srgb")
    loaded.set_type(pyvips.GValue.gstr_type, "vips-loader", "bmp")
    x, y = (value / _MM_PER_INCH for value in image.info.get("dpi", (0, 0)))
    if 0 < max(x, y) < _MAX_RESOLUTION:
        loaded = loaded.copy(xres=x, yres=y)
        loaded.set_type(pyvips.GValue.gstr_type, "resolution-unit", "in")
    return loaded


def decoded_heic(image: Any, path: Path) -> Any:
    """The libvips image of a HEIC's header, with pixels if a decoder is installed: the extra `heic`.

    Raises: ValueError if the file is damaged; OSError.
    """
    module = next(filter(is_installed, _HEIC_DECODERS), None)
    if module is None or libvips.get_field(image, "heif-compression") != "hevc":
        return image
    try:
        picture = importlib.import_module(module).open_heif(path, convert_hdr_to_8bit=False)
        pixels = np.asarray(picture)
    except (EOFError, RuntimeError, SyntaxError) as error:  # what damaged files raise besides
        raise ValueError(str(error) or "it ends too early") from error
    if pixels.dtype == np.uint16:  # 10 or 12 bits in the upper ones: white is white only if the lower are filled
        pixels = pixels | pixels >> picture.info["bit_depth"]
    height, width, bands = np.atleast_3d(pixels).shape
    kinds = ("b-w", "srgb", "uchar") if pixels.dtype == np.uint8 else ("grey16", "rgb16", "ushort")
    loaded = libvips.pyvips().Image.new_from_memory(pixels.tobytes(), width, height, bands, kinds[2])
    loaded = loaded.copy(interpretation=kinds[bands > 2])
    for name in ("vips-loader", "icc-profile-data", "exif-data", "xmp-data"):
        if kind := image.get_typeof(name):
            loaded.set_type(kind, name, image.get(name))
    # The decoder has turned it, whatever EXIF says.
    loaded.set_type(libvips.pyvips().GValue.gint_type, "orientation", 1)
    return loaded
