"""Files that are not what they seem: each is refused in one line that begins with its path."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srflow_sdk.errors import ImageError
from srflow_sdk.files import UNREAD, open_image, read_image, read_provenance, write_image
from tests.sdk.files.pictures import WRITTEN, noise, picture, png_claiming


def refusal(path):
    with pytest.raises(ImageError) as error:
        read_image(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ".replace("\0", "�"))  # as errors show control characters
    assert "\n" not in message
    return message


@pytest.mark.parametrize("suffix", WRITTEN)
def test_truncated(tmp_path, capfd, suffix):
    path = tmp_path / f"a{suffix}"
    write_image(path, noise(64, 64))
    whole = path.read_bytes()
    for part in (0.01, 0.2, 0.6, 0.95):
        path.write_bytes(whole[: int(len(whole) * part)])
        assert any(word in refusal(path) for word in ("damaged", "not an image", "cannot decode"))
    assert capfd.readouterr() == ("", ""), "libvips says nothing beside our line"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"not an image at all" * 50, "not an image file"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "not an image file"),
        (b"\0\0\0\x18ftypmp42" + bytes(90), "not an image file"),
        (b"\x89PNG\r\n\x1a\n", "damaged"),
        (b"BM" + bytes(12) + b"\x28" + bytes(30), "damaged"),
        (
            b"BM" + bytes(12) + b"\x28\0\0\0\x9c\xff\xff\xff\x09\0\0\0\1\0\x18" + bytes(30),
            "damaged",
        ),
        (b"BMX is not a bitmap" + bytes(30), "not an image file"),
        (b"II*\0\x08\0\0\0", "damaged"),
        (b"\0\0\0\x18ftypavif" + bytes(12), "damaged"),
        (png_claiming(100_000, 100_000), "100000×100000 pixels exceed the limit"),
        (png_claiming(2**31 - 1, 1), "damaged"),
        (png_claiming(2000, 2000), "damaged"),
    ],
)
def test_other_contents(tmp_path, content, words):
    (tmp_path / "a.png").write_bytes(content)
    assert words in refusal(tmp_path / "a.png")


def test_formats_that_are_not_read_are_called_by_their_name(tmp_path):
    for suffix in {".ppm", ".jp2"} & {*UNREAD}:
        Image.fromarray(picture()).save(tmp_path / f"a{suffix}")
        assert f"{UNREAD[suffix]} files are not supported" in refusal(tmp_path / f"a{suffix}")
    Image.fromarray(picture()).save(tmp_path / "a.dng", "TIFF")
    assert "camera raw" in refusal(tmp_path / "a.dng")


@pytest.mark.not_on_windows("links and FIFOs")
def test_what_is_no_regular_file(tmp_path):
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    assert "directory" in refusal(tmp_path / "folder.png")
    # and does not wait for someone to write to it
    assert "not a regular file" in refusal(tmp_path / "pipe.png")
    assert "not a regular file" in refusal(Path("/dev/zero"))
    assert "no such file" in refusal(tmp_path / "absent.png")
    assert "no such file" in refusal(tmp_path / "dangling.png")
    assert "cannot be read" in refusal(tmp_path / "loop.png")
    assert "cannot be read" in refusal(tmp_path / ("x" * 300))
    assert "null byte" in refusal(tmp_path / "a\0b.png")


def test_more_pixels_than_the_limit_are_refused_before_decoding(tmp_path):
    write_image(tmp_path / "a.png", picture())
    with pytest.raises(
        ImageError, match=r"56×40 pixels .* limit of 2,239; .* raise max_pixels \(--max-pixels\)"
    ):
        open_image(tmp_path / "a.png", max_pixels=40 * 56 - 1)
    assert read_image(tmp_path / "a.png", max_pixels=40 * 56).pixels.shape == (40, 56, 3)


def test_truncated_and_absurdly_large_bmps(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.bmp")
    whole = (tmp_path / "a.bmp").read_bytes()
    (tmp_path / "a.bmp").write_bytes(whole[:-500])
    assert "truncated" in refusal(tmp_path / "a.bmp")
    (tmp_path / "a.bmp").write_bytes(whole[:18] + struct.pack("<ii", 100_000, 100_000) + whole[26:])
    assert "--max-pixels" in refusal(tmp_path / "a.bmp")
    assert read_provenance(tmp_path / "a.bmp") is None


@pytest.mark.parametrize("block", [b"", b"x", b"Exif\0\0II*\0\xff\xff\xff\xff", bytes(50_000)])
def test_broken_metadata_does_not_stop_reading(tmp_path, block):
    for suffix in (".png", ".jpg", ".webp"):
        Image.fromarray(picture()).save(
            tmp_path / f"a{suffix}", exif=block, icc_profile=block or b"?", xmp=block
        )
        file = read_image(tmp_path / f"a{suffix}")
        write_image(tmp_path / f"b{suffix}", file.pixels, metadata=file.metadata)
        assert read_image(tmp_path / f"b{suffix}").metadata.icc_profile is None


def test_a_damaged_middle_is_an_error_where_it_is_reached(tmp_path):
    path = tmp_path / "a.png"
    write_image(path, noise(600, 600))
    data = bytearray(path.read_bytes())
    data[len(data) * 3 // 4] ^= 255
    path.write_bytes(data)
    with open_image(path) as reader:
        np.testing.assert_array_equal(reader.read_rows(200), noise(600, 600)[:200])
        with pytest.raises(ImageError, match="damaged"):
            reader.read_rows(400)
