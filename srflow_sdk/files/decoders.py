"""Decodes what libvips does not: whole formats by Pillow, and the HEVC in HEIC by pi-heif where libvips cannot."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from srflow_sdk.files import libvips
from srflow_sdk.files.formats import Format
from srflow_sdk.pixels.in_memory import PILLOW_ERRORS, unpacked
from srflow_sdk.system.raising import is_installed

_MM_PER_INCH = 25.4
_MAX_SIDE = 10_000_000  # libvips' own limit, in the versions where it is lowest
_MAX_RESOLUTION = 1e6  # libvips complains on standard error from here on
_KEPT = ("vips-loader", "resolution-unit", "icc-profile-data", "exif-data", "xmp-data")


def header_by_pillow(path: Path, kind: Format) -> Any:
    """A libvips image of the file's size, with its resolution, but not its pixels. Raises: ValueError, OSError."""
    pyvips, picture = libvips.pyvips(), _by_pillow(path, kind, decode=False)
    image = pyvips.Image.black(*picture.size)
    image.set_type(pyvips.GValue.gstr_type, "vips-loader", kind.name)
    x, y = (value / _MM_PER_INCH for value in picture.info.get("dpi", (0, 0)))
    if 0 < max(x, y) < _MAX_RESOLUTION:
        image = image.copy(xres=x, yres=y)
        image.set_type(pyvips.GValue.gstr_type, "resolution-unit", "in")
    return image


def decoded(header: Any, path: Path, kind: Format) -> Any:
    """The libvips image of a file, of which libvips may have the header alone. Raises: ValueError, OSError."""
    module = next(filter(is_installed, kind.decoders), None)
    if kind.pillow:
        pixels, _ = unpacked(_by_pillow(path, kind, decode=True))
    elif module is not None and libvips.get_field(header, "heif-compression") == "hevc":
        try:
            picture = importlib.import_module(module).open_heif(path, convert_hdr_to_8bit=False)
            pixels = np.array(picture)  # a copy: the memory is the picture's
        except (EOFError, RuntimeError, SyntaxError) as error:  # what damaged files raise besides
            raise ValueError(str(error) or "it ends too early") from error
        if pixels.dtype == np.uint16:  # 10 or 12 bits in the upper ones: white is white only if the lower are filled
            pixels = pixels | pixels >> picture.info["bit_depth"]
    else:
        return header
    pyvips = libvips.pyvips()
    image = pyvips.Image.new_from_array(pixels, interpretation="auto").copy(xres=header.xres, yres=header.yres)
    for name in _KEPT:
        if field_type := header.get_typeof(name):
            image.set_type(field_type, name, header.get(name))
    image.set_type(pyvips.GValue.gint_type, "orientation", 1)  # these decoders have turned it, whatever EXIF says
    return image


def _by_pillow(path: Path, kind: Format, *, decode: bool) -> Image.Image:
    """Raises: ValueError if the file is damaged or truncated; OSError."""
    with path.open("rb") as file:
        try:
            Image.init()
            picture = Image.OPEN[kind.pillow][0](file, str(path))  # not Image.open, which has a limit of its own
            if not 0 < min(picture.size) <= max(picture.size) <= _MAX_SIDE:
                raise ValueError("its size is wrong")
            if decode:
                picture.load()
        except PILLOW_ERRORS as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise ValueError(str(error)) from error
    return picture
