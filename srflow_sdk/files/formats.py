"""Image formats, one a row: how files are recognised and read, and what they can hold."""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from srflow_sdk._checks import flag, whole
from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.files.tiff import forget_resolution
from srflow_sdk.system import libvips
from srflow_sdk.system.local_files import check_replaceable, writing_errors

PathLike = str | os.PathLike[str]

MAX_PIXELS = 100_000_000
"""Most pixels read by default, width × height: a small file can claim any size, and its output has
scale² as many."""

RAISE_LIMIT = "if you trust the file, raise max_pixels (--max-pixels)"
"""How errors end about files that have more."""

SNIFFED_BYTES = 1 << 16
"""How many bytes of a file tell what is in it."""

# libvips counts to 10^7, and rows reach the encoder as bytes: at most 16 a pixel
_MAX_WIDTH = 625_000
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEIF = rb".{4}ftyp(?:.{4}){0,60}?"
_NO_CHROMA = rb"colrnclx.{4}\0\0"  # RGB as it is
_ANIMATED_HEIF = rb".{4}ftyp(?:avis|hevc|msf1)"


def _forget_png_resolution(descriptor: int) -> None:
    """Make a complete PNG say that its pixels are square, without a resolution.

    Nothing has to move.
    """
    with os.fdopen(os.dup(descriptor), "r+b") as file:
        at = len(_PNG_SIGNATURE)
        square = b"pHYs" + struct.pack(">IIB", 1, 1, 0)
        while file.seek(at) and len(head := file.read(8)) == 8:
            if head[4:] == square[:4]:
                file.seek(-4, os.SEEK_CUR)
                file.write(square + struct.pack(">I", zlib.crc32(square)))
                break
            at += int.from_bytes(head[:4], "big") + 12


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format; a new one needs a row of :data:`FORMATS` and nothing else.

    Attributes:
        endings: of its files' names.
        begins: how its files begin, as a regular expression.
        animated: how those begin that call themselves an animation where libvips would silently
            read the first picture.
        loader: libvips' operation that reads it. Only these are ever called: libvips has others,
            for formats that can run programs or fetch files.
        pillow: instead, Pillow's name of the format, which Pillow then decodes whole.
        extra, decoders: the extra, and the modules like pi_heif, that decode what libvips cannot.
        paged: whether a file's further images are pictures of their own.
        mapped: whether the loader maps files, so that their bytes are read before.
        saver: libvips' operation that writes it; "" if none does.
        options: keywords of the saver.
        bits: most bits per integer channel.
        max_side: largest side in pixels.
        max_xmp: bytes of the largest XMP packet.
        holds_float: whether float32 stays float32.
        holds_gray: whether gray stays gray; otherwise it becomes RGB.
        holds_iptc: whether it has a place for IPTC's records.
        has_directories: whether its tags are in directories, which :mod:`srflow_sdk.files.tiff`
            reads and adds to. Such a file can hold values in their own units.
        forget_resolution: makes a complete file say that its pixels are square, by its
            descriptor; None: the format has no place for a resolution but EXIF.
        losses: whether it always loses detail, never, or as asked for.
        lossless: what is in the first bytes of files that lost nothing, as a regular expression.
            Of others the bits a pixel tell how much was lost.
    """

    name: str
    endings: tuple[str, ...]
    begins: bytes
    animated: bytes = rb"(?!)"
    loader: str = ""
    pillow: str = ""
    extra: str = ""
    decoders: tuple[str, ...] = ()
    paged: bool = False
    mapped: bool = False
    saver: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    bits: int = 8
    max_side: int = _MAX_WIDTH
    max_xmp: int = 1 << 20
    holds_float: bool = False
    holds_alpha: bool = True
    holds_gray: bool = True
    holds_iptc: bool = False
    has_directories: bool = False
    forget_resolution: Callable[[int], None] | None = None
    losses: Literal["always", "never", "optional"] = "never"
    lossless: bytes = b""


FORMATS = (
    Format(
        name="PNG",
        endings=(".png",),
        begins=_PNG_SIGNATURE,
        loader="pngload",
        saver="pngsave",
        # 6 % larger than the smallest, in half the time
        options={"compression": 3, "filter": "sub"},
        bits=16,
        forget_resolution=_forget_png_resolution,
    ),
    Format(
        name="JPEG",
        endings=(".jpg", ".jpeg"),
        begins=rb"\xff\xd8\xff",
        loader="jpegload",
        mapped=True,
        saver="jpegsave",
        # optimised coding is 3 % smaller but holds the whole picture: 1.2 GB for 96 megapixels
        options={"Q": 95},
        max_side=65_500,
        max_xmp=65_000,  # it has one segment for it
        holds_alpha=False,
        holds_iptc=True,
        losses="always",
    ),
    Format(
        name="WebP",
        endings=(".webp",),
        begins=rb"RIFF.{4}WEBP",
        loader="webpload",
        paged=True,
        mapped=True,
        saver="webpsave",
        options={"Q": 95},
        max_side=16_383,
        holds_gray=False,
        losses="optional",
        lossless=b"VP8L",
    ),
    Format(
        name="TIFF",
        endings=(".tif", ".tiff"),
        begins=rb"II[*+]\0|MM\0[*+]",
        loader="tiffload",
        paged=True,
        saver="tiffsave",
        options={"compression": "deflate", "level": 3, "predictor": "horizontal"},
        bits=16,
        holds_float=True,
        has_directories=True,
        forget_resolution=forget_resolution,
    ),
    Format(
        name="GIF",
        endings=(".gif",),
        begins=rb"GIF8[79]a",
        loader="gifload",
        paged=True,
        mapped=True,
    ),
    Format(
        name="BMP",
        endings=(".bmp",),
        begins=rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0",
        pillow="BMP",
    ),
    Format(
        name="AVIF",
        endings=(".avif",),
        begins=_HEIF + rb"(?:avif|avis)",
        animated=_ANIMATED_HEIF,
        loader="heifload",
        saver="heifsave",
        # more makes 2 % smaller files in 4 times the time
        options={"Q": 85, "compression": "av1", "effort": 0},
        max_side=65_536,
        holds_gray=False,
        losses="optional",
        lossless=_NO_CHROMA,
    ),
    Format(
        name="HEIC",
        endings=(".heic", ".heif"),
        begins=_HEIF + rb"(?:heic|heix|hevc|heim|heis|mif1)",
        animated=_ANIMATED_HEIF,
        loader="heifload",
        extra="heic",
        # the second has an encoder, too: what an app may have installed
        decoders=("pi_heif", "pillow_heif"),
        lossless=_NO_CHROMA,
    ),
)
READABLE = tuple(ending for each in FORMATS for ending in each.endings)
WRITABLE = tuple(ending for each in FORMATS if each.saver for ending in each.endings)
"""Endings that :class:`~srflow_sdk.files.ImageWriter` can write; .avif only where libvips is built
with it."""

_UNREAD_ENDINGS = {
    "TGA": ".tga",
    "JPEG 2000": ".jp2 .j2k .j2c .jpc .jpf .jpx",
    "JPEG XL": ".jxl",
    "SVG": ".svg .svgz",
    "camera raw": ".dng .nef .cr2 .arw .srw .pef .3fr .iiq .nrw .cr3 .crw .orf .raf .rw2 .rwl .sr2 "
    ".x3f .kdc .dcr .mrw .erf .mef .mos",
    "Photoshop": ".psd .psb",
    "OpenEXR": ".exr",
    "Radiance HDR": ".hdr",
    "PNM": ".pbm .pgm .ppm .pnm .pam .pfm",
    "GIMP": ".xcf",
}
UNREAD = {ending: name for name, endings in _UNREAD_ENDINGS.items() for ending in endings.split()}
"""Endings of image files that are not read, and the names of their formats."""


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """How image files are read and written, for everything that makes files of files.

    Raises: ArgumentError.

    Attributes:
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
        if self.quality is not None:
            whole("quality", self.quality, least=1, most=100, also="None or ")
        flag("lossless", self.lossless)
        flag("report", self.report)
        if self.quality is not None and self.lossless:
            raise ArgumentError("a lossless picture has no quality; leave out one of them")


def recognise(head: bytes, *, name: str) -> Format | None:
    """The format of a file of this name that begins with these bytes.

    None for those that are not :data:`READABLE`.
    """
    if UNREAD.get(Path(name).suffix.lower()) == "camera raw":
        return None
    return next((each for each in FORMATS if re.match(each.begins, head, re.DOTALL)), None)


def format_of(path: PathLike) -> Format:
    """The format of a name's ending. Raises: ArgumentError for endings that cannot be written."""
    suffix = Path(path).suffix.lower()
    kind = next((each for each in FORMATS if each.saver and suffix in each.endings), None)
    if kind is None:
        raise ArgumentError(
            f"{path}: the ending of the name sets the format; it must be one of "
            f"{', '.join(WRITABLE)}"
        )
    return kind


def save_options(path: PathLike, options: WriteOptions) -> dict[str, Any]:
    """The keywords of the saver for a file of this name.

    Raises: ArgumentError for what the format does not offer.
    """
    kind = format_of(path)
    if options.quality is not None and kind.losses == "never":
        raise ArgumentError(
            f"{path}: {kind.name} is lossless and has no quality; use .jpg, .webp or .avif"
        )
    if options.lossless and kind.losses == "always":
        raise ArgumentError(f"{path}: {kind.name} cannot be lossless; use .png, .webp or .tif")
    keywords = dict(kind.options)
    if options.quality is not None:
        keywords["Q"] = int(options.quality)
    if options.lossless and kind.losses == "optional":
        keywords["lossless"] = True
    return keywords


def check_writable(
    path: PathLike, *, channels: int = 3, size: tuple[int, int] | None = None
) -> str:
    """Check that a file of this name can hold such pixels.

    Return its ending. Raises: ArgumentError, ImageError.
    """
    kind = format_of(path)
    with writing_errors(path):
        check_replaceable(Path(path))
    if channels in (2, 4) and not kind.holds_alpha:
        raise ImageError(
            f"{path} cannot be written: {kind.name} has no transparency; use .png or .webp"
        )
    if size is not None and max(size) > kind.max_side:
        fix = "; use .png or .tif" if kind.max_side < _MAX_WIDTH else "; write it smaller"
        raise ImageError(
            f"{path} cannot be written: it would have {size[0]}×{size[1]} pixels, but the sides "
            f"of a {kind.name} file are at most {kind.max_side:,}{fix}"
        )
    if not libvips.pyvips().type_find("VipsOperation", kind.saver):
        raise ImageError(
            f"{path} cannot be written: this build of libvips has no {kind.name}; use another "
            "format"
        )
    return Path(path).suffix.lower()
