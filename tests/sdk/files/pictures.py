"""Pictures for the tests of files, and other libraries' readings of what we write."""

from __future__ import annotations

import functools
import struct
import zlib
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, ImageCms

LOSSLESS = (".png", ".tif")
LOSSY = (".jpg", ".webp", ".avif")
WRITTEN = (*LOSSLESS, *LOSSY)


def picture(channels: int = 3, dtype: type = np.uint8, *, height: int = 40, width: int = 56) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    planes = [(np.sin(x / 9 + shift) * np.cos(y / 7) + 1) / 2 for shift in range(channels)]
    unit = np.stack(planes, -1)
    return unit.astype(dtype) if dtype == np.float32 else np.rint(unit * np.iinfo(dtype).max).astype(dtype)


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def chunk(kind: bytes, data: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@functools.cache  # its header holds the second in which it was made
def profile(name: str = "sRGB") -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()


def read_by_another_library(path: Path, channels: int, dtype: type) -> np.ndarray:
    """H×W×C: by tifffile for TIFF, by hand for 16-bit PNG (Pillow keeps 8 bits of colour), else by Pillow."""
    if path.suffix == ".tif":
        array = tifffile.imread(path)
    elif path.suffix == ".png" and dtype == np.uint16:
        array = read_deep_png(path)
    else:
        with Image.open(path) as image:
            array = np.asarray(image)
    return array.reshape(*array.shape[:2], channels)


def read_deep_png(path: Path) -> np.ndarray:
    """A 16-bit PNG that is not interlaced, H×W×C: chunks, zlib and the five filters of the specification."""
    data, at, pixels = path.read_bytes(), 8, b""
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert struct.unpack_from(">I", data, at + 8 + size)[0] == zlib.crc32(kind + body)
        if kind == b"IHDR":
            width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", body)
        pixels += body if kind == b"IDAT" else b""
        at += size + 12
    assert (depth, interlaced) == (16, 0)
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    step, stride = 2 * channels, 2 * channels * width
    raw, above = zlib.decompress(pixels), bytes(stride)
    rows = []
    for y in range(height):
        kind, line = raw[y * (stride + 1)], bytearray(raw[y * (stride + 1) + 1 : (y + 1) * (stride + 1)])
        for i in range(stride):
            left, up = line[i - step] if i >= step else 0, above[i]
            corner = above[i - step] if i >= step else 0
            nearest = min((left, up, corner), key=lambda value: abs(left + up - corner - value))
            line[i] = (line[i] + (0, left, up, (left + up) // 2, nearest)[kind]) & 255
        above = bytes(line)
        rows.append(above)
    return np.frombuffer(b"".join(rows), ">u2").reshape(height, width, channels).astype(np.uint16)
