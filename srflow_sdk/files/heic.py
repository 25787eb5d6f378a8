"""HEIC photographs where libvips has no decoder for them: pi-heif decodes them, whole. It is the extra `heic`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from srflow_sdk.files import libvips
from srflow_sdk.system.raising import is_installed

_DECODERS = ("pi_heif", "pillow_heif")  # the second has an encoder, too: what an app may have installed


def decoded(image: Any, path: Path) -> Any:
    """The libvips image of a file's header, with pixels if it is a HEIC and a decoder is installed.

    Raises: ValueError if the file is damaged; OSError.
    """
    module = next(filter(is_installed, _DECODERS), None)
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
