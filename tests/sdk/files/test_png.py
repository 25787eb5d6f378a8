"""PNG chunks behind the pixels, as ImageMagick writes them."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srflow_sdk.files import read_image
from tests.sdk.files.pictures import picture


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunks_at_the_end(*chunks: bytes) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture()).save(stream, "PNG")
    return stream.getvalue()[:-12] + b"".join(chunks) + stream.getvalue()[-12:]


def exif_chunk(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x011A], exif[0x011B], exif[0x0128] = orientation, "Acme", 150.0, 150.0, 2
    return chunk(b"eXIf", exif.tobytes()[6:])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_and_camera_are_found_behind_the_pixels(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(with_chunks_at_the_end(exif_chunk(orientation)))
    upright = np.rot90(picture(), {1: 0, 3: 2, 6: 3, 8: 1}.get(orientation, 0))
    upright = {
        2: picture()[:, ::-1],
        4: picture()[::-1],
        5: picture().swapaxes(0, 1),
        7: picture()[::-1, ::-1].swapaxes(0, 1),
    }.get(orientation, upright)
    file = read_image(path)
    np.testing.assert_array_equal(file.pixels, upright)
    assert file.metadata.resolution == pytest.approx((150 / 25.4, 150 / 25.4))
    exif = Image.Exif()
    exif.load(file.metadata.exif or b"")
    assert (exif[0x010F], exif[0x0112]) == ("Acme", 1)


@pytest.mark.parametrize(
    "bad",
    [
        chunk(b"eXIf", b""),
        chunk(b"eXIf", b"nonsense"),
        exif_chunk(6)[:-1] + b"?",
        exif_chunk(6).replace(struct.pack(">HHI", 0x0112, 3, 1), struct.pack(">HHI", 0x0112, 9, 1)),
        chunk(b"zzZz", b"") * 1000,
        struct.pack(">I4s", 0x7FFFFFFF, b"eXIf"),
    ],
    ids=range(6),
)
def test_damaged_chunks_behind_the_pixels_are_passed_over(tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(with_chunks_at_the_end(bad))
    file = read_image(path)
    assert file.metadata.xmp is None
    assert file.pixels.shape in ((40, 56, 3), (56, 40, 3))


def test_what_stands_before_the_pixels_counts_first(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(picture()).save(stream, "PNG")
    data = stream.getvalue()
    (tmp_path / "a.png").write_bytes(data[:33] + exif_chunk(1) + data[33:-12] + exif_chunk(6) + data[-12:])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, picture())


@pytest.mark.parametrize("frames", [struct.pack(">II", 3, 0), b"\xff" * 8, b""])
def test_of_an_animation_the_default_picture_is_read(tmp_path: Path, frames: bytes) -> None:
    stream = io.BytesIO()
    Image.fromarray(picture()).save(stream, "PNG")
    data = stream.getvalue()
    (tmp_path / "a.png").write_bytes(data[:33] + chunk(b"acTL", frames) + data[33:])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, picture())
