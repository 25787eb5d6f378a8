"""Image files, through libvips: 8 and 16 bits exactly, EXIF orientation applied, written whole or not at all."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.errors import ArgumentError, ImageError, MissingExtraError

MAX_PIXELS = 100_000_000
"""Largest file read by default, width × height: a small file can claim any size, and its output has scale² as many."""

READABLE = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".gif", ".avif", ".heic", ".heif")
WRITABLE = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")

_LOADERS = ("pngload", "jpegload", "webpload", "tiffload", "gifload", "heifload")
_RGB_LIKE = ("srgb", "rgb", "rgb16", "b-w", "grey16")
_SAVERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("pngsave", {}),
    ".jpg": ("jpegsave", {"Q": 95, "optimize_coding": True}),
    ".jpeg": ("jpegsave", {"Q": 95, "optimize_coding": True}),
    ".webp": ("webpsave", {"Q": 95}),
    ".tif": ("tiffsave", {"compression": "deflate", "predictor": "horizontal", "bigtiff": False}),
    ".tiff": ("tiffsave", {"compression": "deflate", "predictor": "horizontal", "bigtiff": False}),
}
_EIGHT_BITS_ONLY = (".jpg", ".jpeg", ".webp")
_NO_ALPHA = (".jpg", ".jpeg")


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """An image as read from a file.

    pixels: uint8 or uint16, H×W×1 (gray), H×W×2 (gray, alpha), H×W×3 (RGB) or H×W×4 (RGB, alpha), upright.
    icc_profile: the colour profile that the values are in; None means sRGB. Hand it to :func:`write_image`.
    """

    pixels: NDArray[np.uint8] | NDArray[np.uint16]
    icc_profile: bytes | None


def read_image(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> ImageFile:
    """Read a PNG, JPEG, WebP, TIFF, still GIF or (where libvips has them) AVIF or HEIC file.

    16-bit files give uint16. EXIF orientation is applied. CMYK and Lab become sRGB; RGB and gray values stay in the
    file's own profile. Palettes become RGB.

    Raises: ImageError, one line, if the file is missing, empty, truncated, damaged, of another format, floating-point,
    holds several frames or pages, or more than max_pixels pixels. MissingExtraError where libvips cannot be loaded.
    """
    source = Path(path)
    pyvips = _pyvips()
    try:
        if source.is_dir():
            raise ImageError(f"{source}: this is a directory; name the files in it")
        if not source.is_file():
            raise ImageError(f"{source}: there is no such file")
        if source.stat().st_size == 0:
            raise ImageError(f"{source}: the file is empty")
        # A Source, because vips caches by file name otherwise, and would read options out of one like "a[1]".
        opened = pyvips.Source.new_from_file(str(source))
        image = pyvips.Image.new_from_source(opened, "", access="sequential", fail_on="error")
        _refuse(source, image, max_pixels)
        return _decoded(image)
    except pyvips.Error as error:
        raise ImageError(f"{source}: {_reason(error)}") from error
    except (OSError, ValueError) as error:
        raise ImageError(f"{source}: the file cannot be read: {error}") from error


def write_image(path: str | os.PathLike[str], pixels: NDArray[Any], *, icc_profile: bytes | None = None) -> None:
    """Write an image file; its format follows from the name: .png, .jpg, .jpeg, .webp, .tif, .tiff.

    pixels: uint8 or uint16, H×W or H×W×1, 2, 3, 4 as in :class:`ImageFile`. 16 bits stay 16 in PNG and TIFF; JPEG and
    WebP hold 8. icc_profile: of the values; None means sRGB.

    The file appears whole: it is written beside the target under a hidden name, flushed, then renamed.

    Raises: ArgumentError for unknown endings, ImageError if pixels do not fit the format or the file cannot be written.
    """
    target = Path(path)
    suffix = check_writable(target)
    pyvips = _pyvips()
    image = _as_vips(pyvips, target, suffix, pixels)
    if icc_profile is not None:
        image = image.copy()
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", icc_profile)
    temporary = target.parent / f".{target.stem[:64]}.{secrets.token_hex(6)}{suffix}"
    saver, options = _SAVERS[suffix]
    if saver == "tiffsave" and pixels.nbytes > 1 << 31:
        options = {**options, "bigtiff": True}
    try:
        getattr(image, saver)(str(temporary), **options)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    except pyvips.Error as error:
        raise ImageError(f"{target} cannot be written: {_reason(error)}") from error
    except OSError as error:
        raise ImageError(f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: str | os.PathLike[str], *, channels: int = 3) -> str:
    """The lower-case ending of a name that :func:`write_image` can write.

    channels: of the pixels to come, 1 … 4; 2 and 4 have transparency.
    Raises: ArgumentError for other endings, ImageError if the format cannot hold the channels.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _SAVERS:
        raise ArgumentError(f"{path}: the ending says the format; it can be {', '.join(WRITABLE)}")
    if channels in (2, 4) and suffix in _NO_ALPHA:
        raise ImageError(f"{path} cannot be written: JPEG has no transparency; use .png or .webp")
    return suffix


def _pyvips() -> Any:
    """The module, imported when the first file is touched: an app that has its images in memory never pays for it."""
    try:
        import pyvips
    except (ImportError, OSError) as error:
        raise MissingExtraError(
            f"libvips, which reads and writes image files, cannot be loaded ({error}): pip install pyvips pyvips-binary"
        ) from error
    return pyvips


def _refuse(source: Path, image: Any, max_pixels: int) -> None:
    """Raises: ImageError for what is known from the header alone."""
    loader = image.get("vips-loader")
    if not loader.startswith(_LOADERS):
        raise ImageError(f"{source}: this is not a PNG, JPEG, WebP, TIFF, GIF, AVIF or HEIC file ({loader})")
    if image.width * image.height > max_pixels:
        raise ImageError(
            f"{source}: {image.width}×{image.height} pixels are more than the limit of {max_pixels:,}; raise the limit "
            "if you trust the file, or reduce the image"
        )
    pages = image.get("n-pages") if "n-pages" in image.get_fields() else 1
    if pages > 1 and not loader.startswith("heifload"):  # a HEIC's further images are variants of the first
        raise ImageError(f"{source}: the file holds {pages} frames or pages; save the one you want as its own file")
    if image.format not in ("uchar", "ushort") and image.interpretation != "lab":
        raise ImageError(f"{source}: its pixels are of type {image.format}; save it with 8 or 16 bits per channel")


def _decoded(image: Any) -> ImageFile:
    depth = 16 if image.format == "ushort" else 8
    image = image.copy_memory().autorot()  # rotating needs the pixels in any order
    if image.interpretation == "cmyk":
        image = image.icc_transform("srgb", embedded=True, intent="perceptual", depth=depth)
    elif image.interpretation not in _RGB_LIKE:
        image = image.colourspace("rgb16" if depth == 16 else "srgb")
    else:
        profile = image.get("icc-profile-data") if "icc-profile-data" in image.get_fields() else None
        return ImageFile(pixels=_as_array(image, depth), icc_profile=profile)
    return ImageFile(pixels=_as_array(image, depth), icc_profile=None)


def _as_array(image: Any, depth: int) -> Any:
    array = image.cast("ushort" if depth == 16 else "uchar").numpy()
    return array[..., None] if array.ndim == 2 else array


def _as_vips(pyvips: Any, target: Path, suffix: str, pixels: NDArray[Any]) -> Any:
    hwc = pixels[..., None] if pixels.ndim == 2 else pixels
    if hwc.ndim != 3 or hwc.shape[2] not in (1, 2, 3, 4) or hwc.size == 0:
        raise ImageError(f"{target} cannot be written: pixels of shape {pixels.shape} are not an image")
    if hwc.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"{target} cannot be written: pixels are {hwc.dtype}; files hold uint8 or uint16")
    check_writable(target, channels=hwc.shape[2])
    if hwc.dtype == np.uint16 and suffix in _EIGHT_BITS_ONLY:
        hwc = np.rint(hwc / 257.0).astype(np.uint8)
    deep, gray = hwc.dtype == np.uint16, hwc.shape[2] <= 2
    interpretation = ("grey16" if gray else "rgb16") if deep else ("b-w" if gray else "srgb")
    return pyvips.Image.new_from_array(np.ascontiguousarray(hwc), interpretation=interpretation)


def _reason(error: Exception) -> str:
    """The first line that vips gave as the cause, for people."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    causes = [line for line in lines if not line.startswith("unable to ")]
    if causes:
        return f"damaged, truncated or unsupported ({causes[0]})"
    return "not an image file of a format that can be read"
