"""Image formats: how files are recognised by content, and what the writable formats can hold."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from srflow_sdk._checks import flag, whole
from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.files import bmp, libvips
from srflow_sdk.system.local_files import check_replaceable

PathLike = str | os.PathLike[str]

MAX_PIXELS = 100_000_000
"""Most pixels read by default, width × height: a small file can claim any size, and its output has scale² as many."""

RAISE_LIMIT = "if you trust the file, raise max_pixels (--max-pixels)"
"""How errors end about files that have more."""


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """How image files are read and written, for everything that makes files of files. Raises: ArgumentError.

    max_pixels: largest source, width × height.
    quality: of JPEG, WebP and AVIF, 1 … 100; None is the format's default.
    lossless: keep every visible pixel of WebP and AVIF.
    report: measure and hash what is written.
    """

    max_pixels: int = MAX_PIXELS
    quality: int | None = None
    lossless: bool = False
    report: bool = False

    def __post_init__(self) -> None:
        whole("max_pixels", self.max_pixels, least=1)
        check_quality(self.quality, lossless=self.lossless)
        flag("report", self.report)


READABLE = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".gif", ".bmp", ".avif", ".heic", ".heif")
WRITABLE = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".avif")
"""Endings that :class:`~srflow_sdk.files.ImageWriter` can write; .avif only where libvips is built with it."""

SNIFFED_BYTES = 1 << 16
"""How many bytes of a file :func:`loader_of`, :func:`foreign_format` and :func:`claimed_sizes` need."""

ANIMATIONS = (b"ftypavis", b"ftyphevc", b"ftypmsf1")
"""Bytes 4 to 11 of an AVIF or HEIC file that calls itself an animation: libheif silently reads its first picture."""

_MAX_WIDTH = 625_000  # libvips counts to 10^7, and rows reach the encoder as bytes: at most 16 a pixel
_RAW_ENDINGS = (".dng", ".nef", ".cr2", ".arw", ".srw", ".pef", ".3fr", ".iiq")  # TIFF inside: libvips sees a preview
_UNREAD_ENDINGS = {
    "TGA": ".tga",
    "JPEG 2000": ".jp2 .j2k .j2c .jpc .jpf .jpx",
    "JPEG XL": ".jxl",
    "SVG": ".svg .svgz",
    "camera raw": " ".join(_RAW_ENDINGS)
    + " .nrw .cr3 .crw .orf .raf .rw2 .rwl .sr2 .x3f .kdc .dcr .mrw .erf .mef .mos",
    "Photoshop": ".psd .psb",
    "OpenEXR": ".exr",
    "Radiance HDR": ".hdr",
    "PNM": ".pbm .pgm .ppm .pnm .pam .pfm",
    "icon": ".ico",
    "DDS": ".dds",
    "GIMP": ".xcf",
    "PCX": ".pcx",
    "QOI": ".qoi",
    "FITS": ".fits .fit .fts",
}
UNREAD = {ending: name for name, endings in _UNREAD_ENDINGS.items() for ending in endings.split()}
"""Endings of image files that are not read, and the names of their formats."""

_FOREIGN = {
    "a PDF": (b"%PDF",),
    "a PostScript": (b"%!PS",),
    "a Photoshop": (b"8BPS",),
    "a JPEG XL": (b"\xff\x0a", b"\0\0\0\x0cJXL "),
    "a JPEG 2000": (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"),
    "an OpenEXR": (b"\x76\x2f\x31\x01",),
    "a Radiance HDR": (b"#?RADIANCE", b"#?RGBE"),
    "an icon": (b"\0\0\1\0",),
    "a QOI": (b"qoif",),
    "a DDS": (b"DDS ",),
    "a FITS": (b"SIMPLE  =",),
    "a GIMP": (b"gimp xcf",),
    "an MNG": (b"\x8aMNG",),
    "a camera raw": (b"FUJIFILMCCD-RAW", b"IIU\0", b"IIRO"),
    "a ZIP": (b"PK\3\4",),
}


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format that can be written.

    saver: libvips' operation that writes it. bits: most bits per integer channel. max_side: largest side in pixels.
    holds_float: whether float32 stays float32. holds_gray: whether gray stays gray; otherwise it becomes RGB.
    options: keywords of the saver. losses: whether it always loses detail, never, or as asked for.
    """

    name: str
    saver: str
    bits: int
    max_side: int
    holds_float: bool = False
    holds_alpha: bool = True
    holds_gray: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)
    losses: Literal["always", "never", "optional"] = "never"

    def stored_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """The dtype in which a file stores pixels of this dtype."""
        if dtype == np.float32 and self.holds_float:
            return dtype
        return np.dtype(np.uint8 if dtype == np.uint8 or self.bits == 8 else np.uint16)


_JPEG = Format(
    name="JPEG",
    saver="jpegsave",
    bits=8,
    max_side=65_500,
    holds_alpha=False,
    losses="always",
    options={"Q": 95},  # optimised coding is 3 % smaller but holds the whole picture: 1.2 GB for 96 megapixels
)
_TIFF = Format(
    name="TIFF",
    saver="tiffsave",
    bits=16,
    max_side=_MAX_WIDTH,
    holds_float=True,
    options={"compression": "deflate", "level": 3, "predictor": "horizontal"},
)
_FORMATS = {
    # 6 % larger than the smallest that libvips can make, in half the time.
    ".png": Format(
        name="PNG", saver="pngsave", bits=16, max_side=_MAX_WIDTH, options={"compression": 3, "filter": "sub"}
    ),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": Format(
        name="WebP",
        saver="webpsave",
        bits=8,
        max_side=16_383,
        holds_gray=False,
        losses="optional",
        options={"Q": 95},
    ),
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".avif": Format(
        # More effort makes 2 % smaller files in 4 times the time.
        name="AVIF",
        saver="heifsave",
        bits=8,
        max_side=65_536,
        holds_gray=False,
        losses="optional",
        options={"Q": 85, "compression": "av1", "effort": 0},
    ),
}


def format_of(path: PathLike) -> Format:
    """The format of a name's ending. Raises: ArgumentError for endings that cannot be written."""
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMATS:
        raise ArgumentError(f"{path}: the ending of the name sets the format; it must be one of {', '.join(WRITABLE)}")
    return _FORMATS[suffix]


def save_options(path: PathLike, *, quality: int | None, lossless: bool) -> dict[str, Any]:
    """The keywords of the saver for a file of this name.

    quality: 1 … 100, None for the format's default; lossless: keep every visible pixel as it is.
    Raises: ArgumentError for unknown endings, other numbers, both at a time, and what the format does not offer.
    """
    kind = format_of(path)
    check_quality(quality, lossless=lossless)
    if quality is not None and kind.losses == "never":
        raise ArgumentError(f"{path}: {kind.name} is lossless and has no quality; use .jpg, .webp or .avif")
    if lossless and kind.losses == "always":
        raise ArgumentError(f"{path}: {kind.name} cannot be lossless; use .png, .webp or .tif")
    options = dict(kind.options)
    if quality is not None:
        options["Q"] = int(quality)
    if lossless and kind.losses == "optional":
        options["lossless"] = True
    return options


def check_quality(quality: object, *, lossless: object) -> None:
    """Raises: ArgumentError for what no format takes."""
    if quality is not None:
        whole("quality", quality, least=1, most=100, also="None or ")
    flag("lossless", lossless)
    if quality is not None and lossless:
        raise ArgumentError("a lossless picture has no quality; leave out one of them")


def check_writable(path: PathLike, *, channels: int = 3, size: tuple[int, int] | None = None) -> str:
    """Check before any work that a file of this name can be written, and return its lower-case ending.

    channels: of the pixels to write, 1 … 4; 2 and 4 have transparency. size: their width and height, if known.
    Raises: ArgumentError for other endings, ImageError if the format cannot hold the channels or the size, or this
    build of libvips cannot write it, or the name is that of a pipe or a device.
    """
    kind = format_of(path)
    try:
        check_replaceable(Path(path))
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {error.strerror}") from error
    if channels in (2, 4) and not kind.holds_alpha:
        raise ImageError(f"{path} cannot be written: {kind.name} has no transparency; use .png or .webp")
    if size is not None and max(size) > kind.max_side:
        fix = "; use .png or .tif" if kind.max_side < _MAX_WIDTH else "; write it smaller"
        raise ImageError(
            f"{path} cannot be written: it would have {size[0]}×{size[1]} pixels, but the sides of a {kind.name} file "
            f"are at most {kind.max_side:,}{fix}"
        )
    if kind.saver == "heifsave" and not libvips.pyvips().type_find("VipsOperation", "heifsave"):
        raise ImageError(f"{path} cannot be written: this build of libvips has no AVIF; use .png, .webp or .tif")
    return Path(path).suffix.lower()


def loader_of(head: bytes, *, name: str) -> str | None:
    """The loader for a file that begins with these bytes; None for formats that are not :data:`READABLE`.

    It is libvips' name, or "bmp" for what :mod:`srflow_sdk.files.bmp` reads.

    Only these loaders are ever called: libvips has others, for formats that can run programs or fetch files.
    name: the file's name; camera raws look like TIFF inside.
    """
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "pngload"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpegload"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webpload"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "gifload"
    if bmp.claimed_size(head) is not None:
        return "bmp"
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")) and not name.lower().endswith(_RAW_ENDINGS):
        return "tiffload"
    if head[4:8] == b"ftyp" and _is_heif(head):
        return "heifload"
    return None


def foreign_format(head: bytes, *, name: str) -> str | None:
    """Name the format of a file that :func:`loader_of` does not know, such as "a PDF"; None if this does not either."""
    for words, beginnings in _FOREIGN.items():
        if head.startswith(beginnings):
            return words
    if name.lower().endswith(_RAW_ENDINGS) or head[4:12] == b"ftypcrx ":
        return "a camera raw"
    if head[4:8] == b"ftyp":
        return "a video"
    if head[:1] == b"P" and head[1:2] in b"1234567" and head[2:3].isspace():
        return "a PNM"
    if b"<svg" in head[:1024]:
        return "an SVG"
    return None


def claimed_sizes(head: bytes, *, loader: str) -> list[tuple[int, int]]:
    """Widths and heights that the first bytes of a PNG, BMP or HEIF claim; none for other formats.

    Absurd sizes must not reach libvips: libpng would call the file damaged, and libheif complain on standard error.
    """
    if loader == "pngload":
        return [(int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big"))]
    if loader == "bmp":
        size = bmp.claimed_size(head)
        return [] if size is None else [size]
    if loader == "heifload":  # the images' spatial extents: box type, version and flags, width, height
        return [struct.unpack(">II", match[1]) for match in re.finditer(rb"ispe.{4}(.{8})", head, re.DOTALL)]
    return []


def _is_heif(head: bytes) -> bool:
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, min(int.from_bytes(head[:4], "big"), 256), 4))]
    return any(brand in (b"avif", b"avis", b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1") for brand in brands)


def as_stored(rows: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Rows in the dtype that the file holds. Raises: ValueError for values that are not finite."""
    stored = rows
    if rows.dtype == np.float32:
        if not np.isfinite(rows).all():
            raise ValueError("the pixels hold NaN or infinite values")
        stored = np.clip(rows, 0, 1)
        if dtype != np.float32:
            stored = np.rint(stored * np.iinfo(dtype).max)
    elif rows.dtype != dtype:
        stored = np.rint(rows / np.float32(257))
    return stored.astype(dtype, copy=False)
