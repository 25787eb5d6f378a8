"""Files that are not what they seem: each is refused in one line that begins with its path."""

from __future__ import annotations

import base64
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srflow_sdk.errors import ImageError
from srflow_sdk.files import UNREAD, open_image, read_image, read_provenance, write_image
from tests.sdk.files.pictures import WRITTEN, noise, picture

_HEIC = (  # 8×8 pixels, HEVC
    "c-muNV30{GsVvAy%}izhg51nBLl8SRGck>Ufw3kxwIq=N0u(b+a*CjAhJwuG5(YG&l$nzcHpIn&fe{FSfN=qY1_Cu8R?f`KO9S&jqM|@fDif5K"
    "QI>27V)7MamgK^f{K+gRDge@VG7FOPfpjTQnKL6ZNN56Bk=zG{KYxGxU|`^9P5|nVaA4$N{Qn=MfElEM8HD6^F*zgxB{iKG8PQ}GC^WK8d$n%X"
    "vj>U`4m2<@@HBvgTatjP*<2V879Z>c+98~rpHq~VoKpc5<z-+4Dq#@GEG|feddvZeHIj1@K@Q`9x*bga|Ns94kY<9>KrB#@S&<3S$jre3QX`RB"
    "kP8cAV6d?^GBLBZ0NHxEDT$ykR?=Wx&mtu3^WewJLmBo@TYqf|vskbGcD43n&-vvWB_^%>zW@Lf?qAO"
)


def refusal(path: Path) -> str:
    with pytest.raises(ImageError) as error:
        read_image(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ".replace("\0", "�"))  # as errors show control characters
    assert "\n" not in message
    return message


def png_claiming(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("suffix", WRITTEN)
@pytest.mark.parametrize("part", [0.01, 0.2, 0.6, 0.95])
def test_truncated(tmp_path: Path, suffix: str, part: float) -> None:
    path = tmp_path / f"a{suffix}"
    write_image(path, noise(64, 64))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    assert any(word in refusal(path) for word in ("damaged", "not an image", "cannot decode"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"not an image at all" * 50, "not an image file"),
        (bytes(3000), "not an image file"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "not an image file"),
        (b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n" * 20, "not an image file"),
        (b"\0\0\0\x18ftypmp42" + bytes(90), "not an image file"),
        (b"\xff\xd8\xff\xe0", "damaged"),
        (b"\x89PNG\r\n\x1a\n", "damaged"),
        (b"RIFF\x10\0\0\0WEBP", "damaged"),
        (b"GIF89a", "damaged"),
        (b"BM" + bytes(12) + b"\x28" + bytes(30), "damaged"),
        (b"BM" + bytes(12) + b"\x28\0\0\0\x9c\xff\xff\xff\x09\0\0\0\1\0\x18" + bytes(30), "damaged"),
        (b"BMX is not a bitmap" + bytes(30), "not an image file"),
        (b"II*\0\x08\0\0\0", "damaged"),
        (b"\0\0\0\x18ftypavif" + bytes(12), "damaged"),
    ],
)
def test_other_contents(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    assert words in refusal(tmp_path / "a.png")


def test_formats_that_are_not_read_are_called_by_their_name(tmp_path: Path) -> None:
    for suffix in {".ppm", ".jp2"} & {*UNREAD}:
        Image.fromarray(picture()).save(tmp_path / f"a{suffix}")
        assert f"{UNREAD[suffix]} files are not supported" in refusal(tmp_path / f"a{suffix}")
    Image.fromarray(picture()).save(tmp_path / "a.dng", "TIFF")
    assert "camera raw" in refusal(tmp_path / "a.dng")


def test_a_heic_without_a_decoder_says_what_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("srflow_sdk.files.decoders.is_installed", lambda module: False)
    (tmp_path / "a.heic").write_bytes(zlib.decompress(base64.b85decode(_HEIC)))
    try:
        read_image(tmp_path / "a.heic")
    except ImageError as error:
        said = str(error)
    else:
        pytest.skip("this build of libvips has the decoder")
    assert said.endswith('HEIC needs a decoder: pip install "srflow-sdk[heic]", or save the photo as JPEG')


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    assert "directory" in refusal(tmp_path / "folder.png")
    assert "not a regular file" in refusal(tmp_path / "pipe.png")  # and does not wait for someone to write to it
    assert "not a regular file" in refusal(Path("/dev/zero"))
    assert "no such file" in refusal(tmp_path / "absent.png")
    assert "no such file" in refusal(tmp_path / "dangling.png")
    assert "cannot be read" in refusal(tmp_path / "loop.png")
    assert "cannot be read" in refusal(tmp_path / ("x" * 300))
    assert "cannot be read" in refusal(tmp_path / "a\0b.png")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", picture())
    (tmp_path / "a.png").chmod(0)
    assert "Permission denied" in refusal(tmp_path / "a.png")


def test_more_pixels_than_the_limit_are_refused_before_decoding(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", picture())
    with pytest.raises(ImageError, match=r"56×40 pixels .* limit of 2,239; .* raise max_pixels \(--max-pixels\)"):
        open_image(tmp_path / "a.png", max_pixels=40 * 56 - 1)
    assert read_image(tmp_path / "a.png", max_pixels=40 * 56).pixels.shape == (40, 56, 3)


def test_truncated_and_absurdly_large_bmps(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.bmp")
    whole = (tmp_path / "a.bmp").read_bytes()
    (tmp_path / "a.bmp").write_bytes(whole[:-500])
    assert "truncated" in refusal(tmp_path / "a.bmp")
    (tmp_path / "a.bmp").write_bytes(whole[:18] + struct.pack("<ii", 100_000, 100_000) + whole[26:])
    assert "--max-pixels" in refusal(tmp_path / "a.bmp")
    assert read_provenance(tmp_path / "a.bmp") is None


@pytest.mark.parametrize(
    ("size", "says"), [((100_000, 100_000), "100000×100000 pixels exceed the limit"), ((2**31 - 1, 1), "damaged")]
)
def test_absurd_sizes_are_refused(tmp_path: Path, size: tuple[int, int], says: str) -> None:
    (tmp_path / "bomb.png").write_bytes(png_claiming(*size))
    assert says in refusal(tmp_path / "bomb.png")


def test_a_size_within_the_limit_without_the_data_is_damage(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_claiming(2000, 2000))
    assert "damaged" in refusal(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(png_claiming(0, 7))
    assert "damaged" in refusal(tmp_path / "b.png")


@pytest.mark.parametrize(
    "block",
    [b"", b"x", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff" + bytes(40), bytes(50_000)],
)
def test_broken_metadata_does_not_stop_reading(tmp_path: Path, block: bytes) -> None:
    for suffix in (".png", ".jpg", ".webp"):
        Image.fromarray(picture()).save(tmp_path / f"a{suffix}", exif=block, icc_profile=block or b"?", xmp=block)
        file = read_image(tmp_path / f"a{suffix}")
        write_image(tmp_path / f"b{suffix}", file.pixels, metadata=file.metadata)
        assert read_image(tmp_path / f"b{suffix}").metadata.icc_profile is None


def test_blocks_of_absurd_size_are_dropped(tmp_path: Path) -> None:
    huge = bytes(6 << 20)
    Image.fromarray(picture()).save(tmp_path / "a.webp", icc_profile=huge, xmp=huge, exif=b"Exif\0\0II*\0" + huge)
    metadata = read_image(tmp_path / "a.webp").metadata
    assert (metadata.icc_profile, metadata.xmp, metadata.exif) == (None, None, None)


def test_libvips_says_nothing_beside_our_line(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", noise(64, 64))
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:2000])
    code = (
        "import logging, sys; logging.basicConfig(); from srflow_sdk.files import read_image\n"
        "try: read_image(sys.argv[1])\n"
        "except Exception as error: print(type(error).__name__)"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.jpg")], capture_output=True, check=True)
    assert (run.stdout.strip(), run.stderr) == (b"ImageError", b"")


def test_a_damaged_middle_is_an_error_where_it_is_reached(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_image(path, noise(600, 600))
    data = bytearray(path.read_bytes())
    data[len(data) * 3 // 4] ^= 255
    path.write_bytes(data)
    with open_image(path) as reader:
        np.testing.assert_array_equal(reader.read_rows(200), noise(600, 600)[:200])
        with pytest.raises(ImageError, match="damaged"):
            reader.read_rows(400)
