"""Reads image files through libvips: upright rows from the top as they are decoded, 8 and 16 bits exactly."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srflow_sdk.errors import ImageError
from srflow_sdk.files import decoders, formats, libvips, tiff
from srflow_sdk.files.formats import MAX_PIXELS, RAISE_LIMIT, PathLike
from srflow_sdk.files.metadata import Metadata, exif_behind_pixels, metadata_of
from srflow_sdk.files.provenance import Provenance, provenance_in
from srflow_sdk.pixels.in_memory import ImageKind, check_dots
from srflow_sdk.system.local_files import file_sha256, open_regular

_NAME_RANGE = 'name the range of its values (--range 1% 99%, value_range=("1%", "99%"))'
_BAND_ROWS = 128  # decoded at a time: enough to be quick, small beside the network's memory
_KEPT_INTERPRETATIONS = ("srgb", "rgb", "rgb16", "b-w", "grey16", "scrgb")
_DTYPES = {"uchar": np.uint8, "ushort": np.uint16, "float": np.float32}
RAW_DTYPES = {name: np.dtype(dtype).name for name, dtype in _DTYPES.items()}
RAW_DTYPES |= {"char": "int8", "short": "int16", "int": "int32", "uint": "uint32"}
"""libvips' formats of pixels that can be read as they are, and numpy's names of their dtypes."""

_MAX_SIDE = 10_000_000  # libvips' own limit, in the versions where it is lowest
_PAGED = ("gifload", "webpload", "tiffload")
_HELD_WHOLE = ("jpegload", "webpload", "gifload")  # loaders that map a file into memory
_MAX_HELD_BYTES = 1 << 30
_CHANGED = "the file changed while it was read; try again when nothing writes to it any more"
_Stamp = tuple[int, int, int, int]  # device, inode, size and time of a file
_ORDERED_ORIENTATIONS = (1, 2)  # orientations for which rows come from the top


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """An image as read from a file.

    Attributes:
        pixels: uint8, uint16 or float32 in [0, 1], upright: H×W×1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha),
            in the file's own colours.
        metadata: what else the file holds; pass it to :func:`~srflow_sdk.files.write_image`.
    """

    pixels: NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]
    metadata: Metadata = field(default_factory=Metadata)

    @property
    def icc_profile(self) -> bytes | None:
        """The values' colour profile; None means sRGB."""
        return self.metadata.icc_profile


def open_image(
    path: PathLike, *, max_pixels: int = MAX_PIXELS, page: int | None = None, raw: bool = False
) -> ImageReader:
    """Open a PNG, JPEG, WebP, TIFF, still GIF, BMP or (where libvips has them) AVIF or HEIC file, whatever its ending.

    Nothing is decoded yet. 16-bit files give uint16; floating-point TIFFs (16 or 32 bits) give float32 and must be
    in [0, 1]. EXIF orientation is applied. CMYK and Lab become sRGB; RGB and gray values stay in the file's own
    profile. Palettes become RGB, gray stays gray.

    Rows are decoded on demand, in memory that does not grow with the height. The exceptions are BMP, WebP, AVIF, HEIC,
    interlaced and progressive files and files that their orientation rotates: they are decoded whole (rotated ones
    into a temporary file beyond 100 MB). Of JPEG, the file's own bytes are held.

    If a TIFF's further pages are smaller versions of the first, the first is read. TIFF's EXIF is read without maker's
    notes. Metadata that cannot be kept is logged.

    Args:
        path: of the file.
        max_pixels: largest width × height.
        page: of a GIF, WebP or TIFF, the one frame or page to read, from 1.
        raw: read values of 8, 16 or 32 bits as they are, in any range and in any number of channels.

    Raises:
        ImageError: in one line, if the file is missing, empty, truncated, damaged, of another format, holds several
            frames or pages, or more than max_pixels pixels.
        MissingExtraError: if libvips cannot be loaded.
    """
    source = Path(path)
    libvips.pyvips().vips_lib.vips_error_clear()  # its list of causes: successful calls leave some, too
    stamp, loader = _recognised(source, max_pixels)
    image = _opened(source, loader, page=page)
    _check_supported(source, image, max_pixels, page=page, raw=raw)
    return ImageReader(source, stamp, image, loader, page=page, raw=raw)


def count_pixels(path: PathLike, *, max_pixels: int) -> int:
    """Number of pixels of a file, from its header; 0 for one that :func:`open_image` refuses. Nothing is logged."""
    source = Path(path)
    try:
        _, loader = _recognised(source, max_pixels)
        if loader == "bmp":  # opening it would decode it
            with source.open("rb") as file:
                width, height = decoders.bmp_size(file.read(formats.SNIFFED_BYTES))
            return width * height
        image = _opened(source, loader)
        _check_supported(source, image, max_pixels)
        return int(image.width) * int(image.height)
    except (ImageError, OSError):
        return 0


def read_image(path: PathLike, *, max_pixels: int = MAX_PIXELS) -> ImageFile:
    """Read a whole file, with the conversions of :func:`open_image`.

    Args:
        path: of a PNG, JPEG, WebP, TIFF, still GIF, BMP, AVIF or HEIC file; its content decides, not its ending.
        max_pixels: largest width × height; a small file can claim any size.

    Returns:
        The pixels and their metadata.

    Raises:
        ImageError: if the file cannot be read, is no such picture, or is too large; one line with the path.
        MissingExtraError: if libvips cannot be loaded.

    Example:
        >>> file = read_image("photo.jpg")
        >>> write_image("copy.png", file.pixels, metadata=file.metadata)
    """
    with open_image(path, max_pixels=max_pixels) as reader:
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
    source = Path(path)
    _, loader = _recognised(source, None)
    if loader == "bmp":  # it has no metadata, and opening it would decode it
        return None
    packet = libvips.get_field(_opened(source, loader), "xmp-data")
    return provenance_in(packet) if isinstance(packet, bytes) else None


class ImageReader(contextlib.AbstractContextManager["ImageReader"]):
    """An open image file, from :func:`open_image`. Close it, or use it as a context manager.

    path: the file. width, height: upright, in pixels. channels: 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGB,
    alpha). dtype: uint8, uint16 or float32. metadata: what else the file holds.

    Any thread may read, one at a time.
    """

    def __init__(
        self, path: Path, stamp: _Stamp, image: Any, loader: str, *, page: int | None = None, raw: bool = False
    ) -> None:
        orientation = libvips.get_field(image, "orientation") or 1
        bilevel = libvips.get_field(image, "bits-per-sample") == 1
        self._decoded_whole = bilevel or orientation not in _ORDERED_ORIENTATIONS
        if self._decoded_whole:
            image = _opened(path, loader, access="random", page=page)
        with _errors_in_one_line(path, stamp):
            image = decoders.decoded_heic(image, path) if loader == "heifload" else image
            upright = image.autorot()
            upright, converted = (upright, False) if raw else _converted(upright)
            if bilevel and not raw:
                check_dots(upright.numpy(), what=f"{path}: it")
            self.metadata = metadata_of(image, path, converted=converted, swapped=orientation > 4)
        if loader == "tiffload" and orientation == 1:
            self.metadata = dataclasses.replace(self.metadata, geo=tiff.read_geo_tags(path, raw=raw))
        self.path = path
        self.width: int = upright.width
        self.height: int = upright.height
        self.channels: int = upright.bands
        self.dtype: np.dtype[Any] = np.dtype(RAW_DTYPES[upright.format])
        self.kind = ImageKind(channels=upright.bands, dtype=self.dtype, icc_profile=self.metadata.icc_profile)
        self._stamp, self._raw = stamp, raw
        self._image: Any = upright
        self._region: Any = None
        self._row = 0

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the file. Closing twice is harmless."""
        self._image = self._region = None

    def sha256(self) -> str:
        """The sha256 of the file's bytes, in 64 hexadecimal digits. Raises: ImageError if they have changed."""
        with _errors_in_one_line(self.path, self._stamp):
            digest = file_sha256(self.path)
        self.check_unchanged()
        return digest

    def check_unchanged(self) -> None:
        """Raises: ImageError if the file's size or time has changed since it was opened, or another has its name now.

        Call it before you rely on rows that were read: their metadata, or the hash, might be another version's. It may
        be called after the reader was closed.
        """
        if _stamp(self.path) != self._stamp:
            raise ImageError(f"{self.path}: {_CHANGED}")

    def read_rows(self, count: int) -> NDArray[Any]:
        """Read the next `count` rows, from top to bottom: count×width×channels of the dtype.

        Raises: ImageError if the file is damaged there, fewer rows are left, or it was closed.
        """
        if self._image is None:
            raise ImageError(f"{self.path}: the file was closed")
        if not 0 < count <= self.height - self._row:
            raise ImageError(f"{self.path}: {count} rows were requested with {self.height - self._row} left")
        rows = np.empty((count, self.width, self.channels), self.dtype)
        for start in range(0, count, _BAND_ROWS):
            band = rows[start : start + _BAND_ROWS]
            with _errors_in_one_line(self.path, self._stamp):
                if self._region is None:
                    if self._decoded_whole:
                        libvips.start_threads()
                    self._region = libvips.pyvips().Region.new(self._image)
                data = self._region.fetch(0, self._row, self.width, len(band))
            self.check_unchanged()  # now: what is decoded whole would be drawn to its end, and then refused
            band[...] = np.frombuffer(data, self.dtype).reshape(band.shape)
            self._row += len(band)
            if self.dtype == np.float32 and not self._raw:
                _check_range(self.path, band)
        return rows


@contextlib.contextmanager
def _errors_in_one_line(path: Path, stamp: _Stamp | None = None) -> Iterator[None]:
    """Turn errors of libvips and the system into an ImageError that begins with the path."""
    try:
        yield
    except FileNotFoundError as error:
        raise ImageError(f"{path}: {_CHANGED if stamp else 'there is no such file'}") from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None)
        raise ImageError(f"{path}: {f'the file cannot be read: {why}' if why else _explained(str(error))}") from error
    except libvips.pyvips().Error as error:
        changed = stamp is not None and _stamp(path) != stamp  # what libvips says about such a file is misleading
        raise ImageError(f"{path}: {_CHANGED if changed else _explained(libvips.reason(error))}") from error


def _stamp(path: Path) -> _Stamp | None:
    """A mark that tells two states of a file apart without reading it; None if there is none."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _recognised(source: Path, max_pixels: int | None) -> tuple[_Stamp, str]:
    """A file's stamp, and by its content the libvips loader for it.

    Raises: ImageError if it is not a regular file, is empty, or has an unsupported format or too many pixels.
    """
    if "\0" in str(source):
        raise ImageError(f"{source}: the file cannot be read: its name has a NUL")
    with _errors_in_one_line(source):
        status = source.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ImageError(f"{source}: this is a directory; name the files in it")
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{source}: this is not a regular file")
        if status.st_size == 0:
            raise ImageError(f"{source}: the file is empty")
        with open_regular(source) as file:
            head = file.read(formats.SNIFFED_BYTES)
    loader = formats.loader_of(head, name=source.name)
    if loader is None:
        name = formats.UNREAD.get(source.suffix.lower())
        if name is None:
            raise ImageError(f"{source}: this is not an image file in a supported format")
        raise ImageError(f"{source}: {name} files are not supported; convert it to PNG or TIFF")
    if max_pixels is not None and loader == "heifload" and head[4:12] in formats.ANIMATIONS:
        raise ImageError(f"{source}: the file holds an animation; save the frame you want as its own file")
    sizes = formats.claimed_sizes(head, loader=loader)
    if loader == "tiffload":
        first = tiff.first_page(source)
        sizes = [(first.get(tiff.WIDTH, 0), first.get(tiff.HEIGHT, 0))]
    for width, height in sizes:
        _check_size(source, width, height, max_pixels)
    if loader in _HELD_WHOLE and status.st_size > _MAX_HELD_BYTES:
        size = f"{status.st_size:,} bytes"
        raise ImageError(f"{source}: {size}, far more than such pictures have; convert it to PNG or TIFF")
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns), loader


def _opened(source: Path, loader: str, *, access: str = "sequential", page: int | None = None) -> Any:
    """The libvips image of a file, with EXIF that libvips misses: a TIFF's, and a PNG's behind its pixels."""
    pyvips = libvips.pyvips()
    with _errors_in_one_line(source):
        if loader == "bmp":
            return decoders.decoded_bmp(source)
        options: dict[str, Any] = {"access": access, "fail_on": "error"}
        content: tuple[Any, ...]
        if loader in _HELD_WHOLE:  # a mapped file that becomes shorter ends the process
            load, content = pyvips.Image.new_from_buffer, (source.read_bytes(), "")
        else:
            load = getattr(pyvips.Image, f"{loader}_source")
            with open_regular(source) as file:
                content = (pyvips.Source.new_from_descriptor(file.fileno()),)
        image = load(*content, **options)
        if page is not None and loader in _PAGED:
            options["page"] = min(max(page, 1), libvips.get_field(image, "n-pages") or 1) - 1
            image = load(*content, **options)
        missed = {"tiffload": tiff.read_exif, "pngload": exif_behind_pixels}.get(loader)
        block = None if missed is None or image.get_typeof("exif-data") else missed(source)
        if block is not None:
            image = image.copy()
            image.set_type(pyvips.GValue.blob_type, "exif-data", block)  # libvips takes the orientation from it
        return image


def _check_supported(source: Path, image: Any, max_pixels: int, *, page: int | None = None, raw: bool = False) -> None:
    """Raises: ImageError if the header shows that the file is unsupported."""
    _check_size(source, image.width, image.height, max_pixels)
    loader = image.get("vips-loader")
    pages = libvips.get_field(image, "n-pages") or 1
    if page is not None and not 1 <= page <= pages:
        raise ImageError(f"{source} has no frame {page}, but {pages}: the first is 1")
    is_variants = page is not None or loader.startswith("heifload")  # a HEIC's further images are variants of the first
    if pages > 1 and not is_variants and not (loader.startswith("tiffload") and tiff.is_one_picture(source)):
        raise ImageError(
            f"{source}: the file holds {pages} frames or pages; save the one you want as its own file, or let "
            "srflow-upscale --frame N take it"
        )
    if image.interpretation in ("lab", "labs", "labq", "cmyk"):
        return
    if image.format not in (RAW_DTYPES if raw else _DTYPES):
        fix = f"save it with 8 or 16 bits per channel or as float32, or {_NAME_RANGE}"
        raise ImageError(f"{source}: its pixels are of type {image.format}; {fix}")
    first = tiff.first_page(source) if loader.startswith("tiffload") else {}
    # libvips 8.18 mixes up the rows of such files that are gray with alpha or half floats.
    if first.get(tiff.PLANAR) == 2 and (image.bands == 2 or image.format == "float" or raw):
        raise ImageError(f"{source}: its channels are stored one after another (planar); save it interleaved")
    if raw and first.get(tiff.PHOTOMETRIC) == 0:  # libvips turns such values round
        raise ImageError(f"{source}: zero is white in it, so its values would be turned round; save it with zero black")
    if image.bands > 4 and not raw:
        fix = f"save it as gray or RGB, with or without alpha, or {_NAME_RANGE}"
        raise ImageError(f"{source}: it has {image.bands} channels; {fix}")


def _check_size(source: Path, width: int, height: int, max_pixels: int | None) -> None:
    if max_pixels is not None and width * height > max_pixels:
        raise ImageError(f"{source}: {width}×{height} pixels exceed the limit of {max_pixels:,}; {RAISE_LIMIT}")
    if max(width, height) > _MAX_SIDE:
        raise ImageError(f"{source}: {width}×{height} pixels; the file is damaged, or larger than libvips can read")


def _converted(image: Any) -> tuple[Any, bool]:
    """The image as gray or RGB of a supported dtype, and whether its values were converted to sRGB for that."""
    depth = 16 if image.format == "ushort" else 8
    if image.interpretation == "cmyk":
        return image.icc_transform("srgb", embedded=True, intent="perceptual", depth=depth), True
    if image.format == "float" and image.interpretation not in ("lab", "xyz"):
        return image, False
    if image.interpretation not in _KEPT_INTERPRETATIONS and image.bands >= 3:
        deep = depth == 16 or image.interpretation == "labs"
        image = image.colourspace("rgb16" if deep else "srgb")
        return image.cast("ushort" if deep else "uchar"), True
    return image.cast("ushort" if depth == 16 else "uchar"), False


def _check_range(path: Path, rows: NDArray[np.float32]) -> None:
    low, high = float(rows.min()), float(rows.max())
    if math.isnan(low):
        raise ImageError(f"{path}: some of its values are not numbers (NaN); save it without them")
    if low < 0 or high > 1:
        raise ImageError(
            f"{path}: its values reach from {low:.4g} to {high:.4g}; floating-point files must be in [0, 1]: scale it, "
            f"save it with 16 bits per channel, or {_NAME_RANGE}"
        )


def _explained(cause: str) -> str:
    if "samples out of range" in cause:
        return "its pixels are of a type that libvips cannot read (64 bits?); save it with 16 bits or as float32"
    if "labq" in cause:
        return "its colours are Lab with 8 bits, which libvips cannot read; save it as RGB"
    if "HEVC" in cause:
        return 'HEIC needs a decoder: pip install "srflow-sdk[heic]", or save the photo as JPEG'
    if "codec" in cause.lower() or "decoder" in cause.lower() or "plugin" in cause.lower():
        return f"this build of libvips cannot decode it ({cause})"
    if cause:
        return f"the file is damaged, truncated or unsupported ({cause}); copy or download it again, or save it as PNG"
    return "the file is damaged or truncated; copy or download it again"
