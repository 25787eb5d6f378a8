"""Reads image files through libvips: upright rows from the top, 8 and 16 bits exactly.

What it does not read Pillow decodes, and pi-heif the HEVC in HEIC.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srflow_sdk.errors import ImageError
from srflow_sdk.files.animations import Animation
from srflow_sdk.files.formats import (
    MAX_PIXELS,
    RAISE_LIMIT,
    SNIFFED_BYTES,
    UNREAD,
    Format,
    PathLike,
    recognise,
)
from srflow_sdk.files.metadata import Metadata, read_metadata
from srflow_sdk.files.provenance import Provenance, parse_provenance
from srflow_sdk.files.tiff import PHOTOMETRIC, PLANAR, Tiff, read_tiff
from srflow_sdk.pixels.colour import PROFILE_FIELD
from srflow_sdk.pixels.in_memory import PILLOW_ERRORS, ImageKind, unpacked
from srflow_sdk.system import libvips
from srflow_sdk.system.hardware import is_installed
from srflow_sdk.system.local_files import file_sha256, open_regular

_NAME_RANGE = 'name the range of its values (--range 1% 99%, value_range=("1%", "99%"))'
_BAND_ROWS = 128  # decoded at a time: enough to be quick, small beside the network's memory
_KEPT_INTERPRETATIONS = ("srgb", "rgb", "rgb16", "b-w", "grey16", "scrgb")
_DTYPES = {"uchar": np.uint8, "ushort": np.uint16, "float": np.float32}
RAW_DTYPES = {name: np.dtype(dtype).name for name, dtype in _DTYPES.items()}
RAW_DTYPES |= {"char": "int8", "short": "int16", "int": "int32", "uint": "uint32"}
"""libvips' formats of pixels that can be read as they are, and numpy's names of their dtypes."""

_CHANGED = "the file changed while it was read; try again when nothing writes to it any more"
_Stamp = tuple[int, int, int, int]  # device, inode, size and time of a file
_ORDERED_ORIENTATIONS = (1, 2)  # orientations for which rows come from the top
# Of files that libvips does not decode:
_MM_PER_INCH = 25.4
_MAX_SIDE = 10_000_000  # libvips' own limit, in the versions where it is lowest
_MAX_RESOLUTION = 1e6  # libvips complains on standard error from here on
_KEPT = ("vips-loader", "resolution-unit", "icc-profile-data", "exif-data", "xmp-data")


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """An image as read from a file.

    Attributes:
        pixels: uint8, uint16 or float32 in [0, 1], upright: H×W×1 (gray), 2 (gray, alpha), 3 (RGB)
            or 4 (RGB, alpha), in the file's own colours.
        metadata: what else the file holds; pass it to :func:`~srflow_sdk.files.write_image`.
    """

    pixels: NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]
    metadata: Metadata = field(default_factory=Metadata)

    @property
    def icc_profile(self) -> bytes | None:
        """The values' colour profile; None means sRGB."""
        return self.metadata.icc_profile


def count_pixels(path: PathLike, *, max_pixels: int) -> int:
    """Number of pixels of a file, from its header; 0 for one that is refused. Nothing is logged."""
    try:
        source = _inspect(Path(path))
        image = _open_by_libvips(source)
        _check_supported(source, image, max_pixels)
        return int(image.width) * int(image.height)
    except (ImageError, OSError):
        return 0


def read_image(path: PathLike, *, max_pixels: int = MAX_PIXELS) -> ImageFile:
    """Read a whole file, with the conversions of :class:`ImageReader`.

    Args:
        path: of a PNG, JPEG, WebP, TIFF, still GIF, BMP, AVIF or HEIC file; its content decides,
            not its ending.
        max_pixels: largest width × height; a small file can claim any size.

    Returns:
        The pixels and their metadata.

    Raises:
        ImageError: if the file cannot be read, is no such picture, or is too large; one line with
            the path.
        MissingExtraError: if libvips cannot be loaded.

    Example:
        >>> file = read_image("photo.jpg")
        >>> write_image("copy.png", file.pixels, metadata=file.metadata)
    """
    with ImageReader(path, max_pixels=max_pixels) as reader:
        pixels = reader.read_rows(reader.height)
        reader.check_unchanged()
        return ImageFile(pixels=pixels, metadata=reader.metadata)


def read_provenance(path: PathLike) -> Provenance | None:
    """Read from a file's header how it was made.

    Args:
        path: of an image file of any size.

    Returns:
        The record, or None if the file has none, or one that is not complete.

    Raises:
        ImageError: if the file cannot be read.
    """
    source = _inspect(Path(path))
    packet = libvips.get_field(_open_by_libvips(source), "xmp-data")
    if packet is None and (animation := Animation.in_file(source.path)) is not None:
        packet = animation.info.get("comment")  # of a GIF
    return parse_provenance(packet) if isinstance(packet, bytes) else None


class ImageReader(contextlib.AbstractContextManager["ImageReader"]):
    """An open file whose upright rows are decoded on demand, in any thread; see :func:`read_image`.

    CMYK and Lab become sRGB (CMYK without a profile as browsers show it), palettes RGB; other
    colours stay in the file's own profile. Memory does not grow with the height, except for BMP,
    WebP, AVIF, HEIC, interlaced and progressive files, and those that are turned.

    raw: read values of 8, 16 or 32 bits as they are, in any number of channels.
    """

    def __init__(self, path: PathLike, *, max_pixels: int = MAX_PIXELS, raw: bool = False) -> None:
        path = Path(path)
        # its list of causes: successful calls leave some, too
        libvips.pyvips().vips_lib.vips_error_clear()
        source = _inspect(path, raw=raw)
        image = _open_by_libvips(source)
        _check_supported(source, image, max_pixels, raw=raw)
        orientation = libvips.get_field(image, "orientation") or 1
        bilevel = libvips.get_field(image, "bits-per-sample") == 1
        self._decoded_whole = bilevel or orientation not in _ORDERED_ORIENTATIONS
        if self._decoded_whole:
            image = _open_by_libvips(source, access="random")
        with _errors_in_one_line(path, source.stamp):
            upright = _decode(image, path, source.kind).autorot()
            converted = False
            if not raw:
                upright, converted = _convert(upright)
            geo = source.tiff.geo if orientation == 1 else None
            self.metadata = read_metadata(
                image, path, converted=converted, swapped=orientation > 4, geo=geo
            )
        self.path = path
        self.width: int = upright.width
        self.height: int = upright.height
        self.channels: int = upright.bands
        self.dtype: np.dtype[Any] = np.dtype(RAW_DTYPES[upright.format])
        self.kind = ImageKind(
            channels=upright.bands, dtype=self.dtype, icc_profile=self.metadata.icc_profile
        )
        self._stamp = source.stamp
        self._raw = raw
        self._image: Any = upright
        self._region: Any = None
        self._row = 0

    def close(self, *_: object) -> None:
        """Release the file. Closing twice is harmless."""
        self._image = self._region = None

    __exit__ = close

    def sha256(self) -> str:
        """The sha256 of the file's bytes, in 64 hexadecimal digits.

        Raises: ImageError if they have changed.
        """
        with _errors_in_one_line(self.path, self._stamp):
            digest = file_sha256(self.path)
        self.check_unchanged()
        return digest

    def check_unchanged(self) -> None:
        """Raises: ImageError if the file has changed since it was opened; also after
        :meth:`close`.
        """
        if _stamp(self.path) != self._stamp:
            raise ImageError(f"{self.path}: {_CHANGED}")

    def read_rows(self, count: int) -> NDArray[Any]:
        """Read the next rows from the top: count×width×channels.

        Raises: ImageError if that fails, or it was closed.
        """
        if self._image is None:
            raise ImageError(f"{self.path}: the file was closed")
        rows = np.empty((count, self.width, self.channels), self.dtype)
        for start in range(0, count, _BAND_ROWS):
            band = rows[start : start + _BAND_ROWS]
            with _errors_in_one_line(self.path, self._stamp):
                if self._region is None:
                    if self._decoded_whole:
                        libvips.start_threads()
                    self._region = libvips.pyvips().Region.new(self._image)
                data = self._region.fetch(0, self._row, self.width, len(band))
            # now: what is decoded whole would be drawn to its end, and then refused
            self.check_unchanged()
            band[...] = np.frombuffer(data, self.dtype).reshape(band.shape)
            self._row += len(band)
            if self.dtype == np.float32 and not self._raw:
                _check_range(self.path, band)
        return rows

    def reduced(self, most: int) -> NDArray[np.uint8]:
        """All of it in 8-bit sRGB, H×W×C, reduced to `most` pixels of its longer side."""
        small = self._image.thumbnail_image(most, size="down", export_profile="srgb")
        image = small.colourspace("srgb").cast("uchar")
        pixels = np.frombuffer(image.write_to_memory(), np.uint8)
        return pixels.reshape(image.height, image.width, -1)


open_image = ImageReader


@contextlib.contextmanager
def _errors_in_one_line(path: Path, stamp: _Stamp | None = None) -> Iterator[None]:
    """Turn errors of libvips and the system into an ImageError that begins with the path."""
    try:
        yield
    except FileNotFoundError as error:
        raise ImageError(f"{path}: {_CHANGED if stamp else 'there is no such file'}") from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None)
        raise ImageError(
            f"{path}: {f'the file cannot be read: {why}' if why else _explain(str(error))}"
        ) from error
    except libvips.pyvips().Error as error:
        # what libvips says about such a file is misleading
        changed = stamp is not None and _stamp(path) != stamp
        why = _CHANGED if changed else _explain(libvips.reason(error))
        # Frames of the cause would hold the file open as long as the error lives, and since Python
        # 3.12, in a cycle.
        traceback.clear_frames(error.__traceback__)
        raise ImageError(f"{path}: {why}") from error.with_traceback(None)


def _stamp(path: Path) -> _Stamp | None:
    """A mark that tells two states of a file apart without reading it; None if there is none."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@dataclass(frozen=True, kw_only=True)
class _Source:
    """A file before it is opened: what its first bytes, and the directories of a TIFF, say."""

    path: Path
    stamp: _Stamp | None
    kind: Format
    animated: bool
    tiff: Tiff


def _inspect(path: Path, *, raw: bool = False) -> _Source:
    """Raises: ImageError if it is not a regular file, is empty, or has an unsupported format."""
    stamp = _stamp(path)
    with _errors_in_one_line(path):
        if path.is_dir():
            raise ImageError(f"{path}: this is a directory; name the files in it")
        with open_regular(path) as file:
            head = file.read(SNIFFED_BYTES)
    if not head:
        raise ImageError(f"{path}: the file is empty")
    kind = recognise(head, name=path.name)
    if kind is None:
        name = UNREAD.get(path.suffix.lower())
        if name is None:
            raise ImageError(f"{path}: this is not an image file in a supported format")
        raise ImageError(f"{path}: {name} files are not supported; convert it to PNG or TIFF")
    tiff = read_tiff(path, raw=raw) if kind.has_directories else Tiff()
    animated = re.match(kind.animated, head, re.DOTALL) is not None
    return _Source(path=path, stamp=stamp, kind=kind, animated=animated, tiff=tiff)


def _open_by_libvips(source: _Source, *, access: str = "sequential") -> Any:
    """The libvips image of a file, with a TIFF's EXIF, which libvips misses."""
    with _errors_in_one_line(source.path):
        if source.kind.pillow:
            return _read_header_by_pillow(source.path, source.kind)
        pyvips = libvips.pyvips()
        options = {"access": access, "fail_on": "error"}
        if source.kind.mapped:  # a mapped file that becomes shorter ends the process
            image = pyvips.Image.new_from_buffer(source.path.read_bytes(), "", **options)
        else:
            load = getattr(pyvips.Image, f"{source.kind.loader}_source")
            with open_regular(source.path) as file:
                image = load(pyvips.Source.new_from_descriptor(file.fileno()), **options)
        if source.tiff.exif is not None and not image.get_typeof("exif-data"):
            image = image.copy()
            # libvips turns it by that
            image.set_type(pyvips.GValue.blob_type, "exif-data", source.tiff.exif)
        return image


def _check_supported(source: _Source, image: Any, max_pixels: int, *, raw: bool = False) -> None:
    """Raises: ImageError if the header shows that the file is unsupported."""
    path = source.path
    tiff = source.tiff.numbers
    pages = libvips.get_field(image, "n-pages") or 1
    if image.width * image.height > max_pixels:
        size = f"{image.width}×{image.height} pixels"
        raise ImageError(f"{path}: {size} exceed the limit of {max_pixels:,}; {RAISE_LIMIT}")
    if source.animated:
        raise ImageError(
            f"{path}: the file holds an animation; save the frame you want as its own file"
        )
    # The further images of a HEIC are variants of the first.
    if pages > 1 and source.kind.paged and not source.tiff.is_one_picture:
        raise ImageError(
            f"{path}: the file holds {pages} frames or pages; save the one you want as its own file"
        )
    if image.interpretation in ("lab", "labs", "labq", "cmyk"):
        return
    if image.format not in (RAW_DTYPES if raw else _DTYPES):
        fix = f"save it with 8 or 16 bits per channel or as float32, or {_NAME_RANGE}"
        raise ImageError(f"{path}: its pixels are of type {image.format}; {fix}")
    # libvips 8.18 mixes up the rows of such files that are gray with alpha or half floats.
    if tiff.get(PLANAR) == 2 and (image.bands == 2 or image.format == "float" or raw):
        raise ImageError(
            f"{path}: its channels are stored one after another (planar); save it interleaved"
        )
    if raw and tiff.get(PHOTOMETRIC) == 0:  # libvips turns such values round
        raise ImageError(
            f"{path}: zero is white in it, so its values would be turned round; save it with zero "
            "black"
        )
    if image.bands > 4 and not raw:
        fix = f"save it as gray or RGB, with or without alpha, or {_NAME_RANGE}"
        raise ImageError(f"{path}: it has {image.bands} channels; {fix}")


def _convert(image: Any) -> tuple[Any, bool]:
    """Make an image gray or RGB of a supported dtype; tell if that converted it to sRGB."""
    depth = 16 if image.format == "ushort" else 8
    if image.interpretation == "cmyk" and not image.get_typeof(PROFILE_FIELD):
        return _convert_plain_cmyk(image, depth), True
    if image.interpretation == "cmyk":
        return image.icc_transform("srgb", embedded=True, intent="perceptual", depth=depth), True
    if image.format == "float" and image.interpretation not in ("lab", "xyz"):
        return image, False
    if image.interpretation not in _KEPT_INTERPRETATIONS and image.bands >= 3:
        deep = depth == 16 or image.interpretation == "labs"
        image = image.colourspace("rgb16" if deep else "srgb")
        return image.cast("ushort" if deep else "uchar"), True
    return image.cast("ushort" if depth == 16 else "uchar"), False


def _convert_plain_cmyk(cmyk: Any, depth: int) -> Any:
    """CMYK without a profile as sRGB: light that each ink lets through, times that of black."""
    most = (1 << depth) - 1
    light = most - cmyk[:4]
    rgb = (light[:3] * light[3] / most).rint()
    rgb = rgb if cmyk.bands == 4 else rgb.bandjoin(cmyk[4:])
    kind, name = ("ushort", "rgb16") if depth == 16 else ("uchar", "srgb")
    return rgb.cast(kind).copy(interpretation=name)


def _check_range(path: Path, rows: NDArray[np.float32]) -> None:
    low, high = float(rows.min()), float(rows.max())
    if not (low >= 0 and high <= 1):  # also NaN
        raise ImageError(
            f"{path}: its values reach from {low:.4g} to {high:.4g}; floating-point files must be "
            f"in [0, 1]: scale it, save it with 16 bits per channel, or {_NAME_RANGE}"
        )


def _explain(cause: str) -> str:
    if "samples out of range" in cause:
        return (
            "its pixels are of a type that libvips cannot read (64 bits?); save it with 16 bits or "
            "as float32"
        )
    if "HEVC" in cause:
        return 'HEIC needs a decoder: pip install "srflow-sdk[heic]", or save the photo as JPEG'
    if "codec" in cause.lower() or "decoder" in cause.lower() or "plugin" in cause.lower():
        return f"this build of libvips cannot decode it ({cause})"
    if cause:
        return (
            f"the file is damaged, truncated or unsupported ({cause}); copy or download it again, "
            "or save it as PNG"
        )
    return "the file is damaged or truncated; copy or download it again"


def _read_header_by_pillow(path: Path, kind: Format) -> Any:
    """A libvips image of the file's size, with its resolution, but not its pixels.

    Raises: ValueError, OSError.
    """
    pyvips = libvips.pyvips()
    picture = _open_by_pillow(path, kind, decode=False)
    image = pyvips.Image.black(*picture.size)
    image.set_type(pyvips.GValue.gstr_type, "vips-loader", kind.name)
    x, y = (value / _MM_PER_INCH for value in picture.info.get("dpi", (0, 0)))
    if 0 < max(x, y) < _MAX_RESOLUTION:
        image = image.copy(xres=x, yres=y)
        image.set_type(pyvips.GValue.gstr_type, "resolution-unit", "in")
    return image


def _decode(header: Any, path: Path, kind: Format) -> Any:
    """The libvips image of a file, of which libvips may have the header alone.

    Raises: ValueError, OSError.
    """
    module = next(filter(is_installed, kind.decoders), None)
    if kind.pillow:
        pixels, _ = unpacked(_open_by_pillow(path, kind, decode=True))
    elif module is not None and libvips.get_field(header, "heif-compression") == "hevc":
        try:
            picture = importlib.import_module(module).open_heif(path, convert_hdr_to_8bit=False)
            pixels = np.array(picture)  # a copy: the memory is the picture's
        except (EOFError, RuntimeError, SyntaxError) as error:  # what damaged files raise besides
            raise ValueError(str(error) or "it ends too early") from error
        # 10 or 12 bits in the upper ones: white is white only if the lower are filled
        if pixels.dtype == np.uint16:
            pixels = pixels | pixels >> picture.info["bit_depth"]
    else:
        return header
    pyvips = libvips.pyvips()
    image = pyvips.Image.new_from_array(pixels, interpretation="auto").copy(
        xres=header.xres, yres=header.yres
    )
    for name in _KEPT:
        if field_type := header.get_typeof(name):
            image.set_type(field_type, name, header.get(name))
    # these decoders have turned it, whatever EXIF says
    image.set_type(pyvips.GValue.gint_type, "orientation", 1)
    return image


def _open_by_pillow(path: Path, kind: Format, *, decode: bool) -> Image.Image:
    """Raises: ValueError if the file is damaged or truncated; OSError."""
    with path.open("rb") as file:
        try:
            Image.init()
            # not Image.open, which has a limit of its own
            picture = Image.OPEN[kind.pillow][0](file, str(path))
            if not 0 < min(picture.size) <= max(picture.size) <= _MAX_SIDE:
                raise ValueError("its size is wrong")
            if decode:
                picture.load()
        except PILLOW_ERRORS as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise ValueError(str(error)) from error
    return picture
