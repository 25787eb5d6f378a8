"""Every format and kind of pixels: written by another library and read by ours, and the other way round."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps
from skimage.color import rgb2lab

from srflow_sdk.errors import ImageError
from srflow_sdk.files import READABLE, WRITABLE, count_pixels, open_image, read_image, write_image
from tests.sdk.files.pictures import LOSSLESS, LOSSY, WRITTEN, picture, profile, read_by_another_library

DTYPES = (np.uint8, np.uint16, np.float32)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_eight_bit_files_of_pillow_are_read_exactly(tmp_path: Path, suffix: str, mode: str) -> None:
    channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}[mode]
    pixels = picture(channels)
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    if suffix == ".webp" and channels <= 2:
        image = image.convert("RGB" if channels == 1 else "RGBA")
        pixels, channels = np.asarray(image), channels + 2
    image.save(tmp_path / f"a{suffix}", **({"lossless": True, "exact": True} if suffix == ".webp" else {}))
    file = read_image(tmp_path / f"a{suffix}")
    assert file.pixels.dtype == np.uint8
    np.testing.assert_array_equal(file.pixels, pixels)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "jpeg"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_compressed_tiffs_of_pillow(tmp_path: Path, compression: str | None, channels: int) -> None:
    name = {None: None, "zlib": "tiff_adobe_deflate", "lzw": "tiff_lzw", "jpeg": "jpeg"}[compression]
    if compression == "jpeg" and channels == 4:
        pytest.skip("not in TIFF")
    pixels = picture(channels)
    Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(tmp_path / "a.tif", compression=name)
    back = read_image(tmp_path / "a.tif").pixels
    assert np.abs(back.astype(int) - pixels).max() <= (20 if compression == "jpeg" else 0)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("layout", ["strips", "tiles", "planes", "big-endian"])
def test_tiffs_of_tifffile(tmp_path: Path, dtype: str, channels: int, layout: str) -> None:
    kind = np.float32 if dtype.startswith("float") else np.dtype(dtype).type
    pixels = picture(channels, kind).astype(dtype)
    options: dict[str, Any] = {"photometric": "minisblack" if channels <= 2 else "rgb", "planarconfig": "contig"}
    options["extrasamples"] = ["unassalpha"] if channels in (2, 4) else None
    if layout == "tiles":
        options["tile"] = (16, 16)
    if layout == "planes" and channels > 1:
        options["planarconfig"] = "separate"
    stored = np.moveaxis(pixels, -1, 0) if options["planarconfig"] == "separate" else pixels
    tifffile.imwrite(
        tmp_path / "a.tif",
        stored[..., 0] if channels == 1 else stored,
        byteorder=">" if layout == "big-endian" else "<",
        **options,
    )
    if layout == "planes" and (channels == 2 or (dtype.startswith("float") and channels > 1)):
        with pytest.raises(ImageError, match="interleaved"):  # libvips would mix the rows up
            read_image(tmp_path / "a.tif")
        return
    back = read_image(tmp_path / "a.tif").pixels
    assert back.dtype == kind
    np.testing.assert_array_equal(back, pixels)


def test_sixteen_bit_gray_png_of_pillow(tmp_path: Path) -> None:
    pixels = picture(1, np.uint16)
    Image.fromarray(pixels[..., 0]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, pixels)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpegs_of_pillow(tmp_path: Path, channels: int, progressive: bool) -> None:
    pixels = picture(channels)
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    image.save(tmp_path / "a.jpg", quality=97, progressive=progressive)
    back = read_image(tmp_path / "a.jpg").pixels
    assert back.shape == pixels.shape
    assert np.abs(back.astype(int) - pixels).mean() < 2


@pytest.mark.parametrize("channels", [3, 4])
def test_avifs_of_pillow(tmp_path: Path, channels: int) -> None:
    Image.fromarray(picture(channels)).save(tmp_path / "a.avif", quality=95)
    back = read_image(tmp_path / "a.avif").pixels
    assert back.shape == (40, 56, channels)
    assert np.abs(back.astype(int) - picture(channels)).mean() < 5


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_bmps_of_pillow(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(picture()).convert(mode)
    image.save(tmp_path / "a.bmp", dpi=(300, 150))
    file = read_image(tmp_path / "a.bmp")
    pixels = np.asarray(image)
    np.testing.assert_array_equal(file.pixels, pixels[..., None] if mode == "L" else pixels)
    assert file.metadata.resolution == pytest.approx((300 / 25.4, 150 / 25.4), rel=1e-3)


def test_bmps_with_rows_from_the_top_and_old_headers_are_read(tmp_path: Path) -> None:
    pixels = picture(height=4, width=8)
    rows = pixels[..., ::-1].tobytes()
    top_down = struct.pack("<IiiHHIIiiII", 40, 8, -4, 1, 24, 0, len(rows), 0, 0, 0, 0)
    (tmp_path / "a.bmp").write_bytes(b"BM" + struct.pack("<IHHI", 54 + len(rows), 0, 0, 54) + top_down + rows)
    old = struct.pack("<IHHHH", 12, 8, 4, 1, 24)
    upside_down = pixels[::-1, :, ::-1].tobytes()
    (tmp_path / "b.bmp").write_bytes(b"BM" + struct.pack("<IHHI", 26 + len(rows), 0, 0, 26) + old + upside_down)
    for name in ("a.bmp", "b.bmp"):
        file = read_image(tmp_path / name)
        np.testing.assert_array_equal(file.pixels, pixels)
        assert file.metadata.resolution is None
        assert count_pixels(tmp_path / name, max_pixels=100) == 32


@pytest.mark.parametrize("suffix", [".png", ".gif", ".bmp"])
def test_palettes_become_rgb(tmp_path: Path, suffix: str) -> None:
    image = Image.fromarray(picture()).quantize(16)
    image.save(tmp_path / f"p{suffix}")
    np.testing.assert_array_equal(read_image(tmp_path / f"p{suffix}").pixels, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("suffix", [".png", ".gif"])
def test_palettes_with_transparency_become_rgba(tmp_path: Path, suffix: str) -> None:
    image = Image.fromarray(picture()).quantize(16)
    image.save(tmp_path / f"p{suffix}", transparency=3)
    alpha = read_image(tmp_path / f"p{suffix}").pixels[..., 3]
    np.testing.assert_array_equal(alpha == 0, np.asarray(image) == 3)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_gray_stays_gray_also_of_one_bit(tmp_path: Path, suffix: str) -> None:
    image = Image.fromarray(picture()).convert("1", dither=Image.Dither.NONE)
    image.save(tmp_path / f"1{suffix}")
    back = read_image(tmp_path / f"1{suffix}").pixels
    np.testing.assert_array_equal(back[..., 0] > 0, np.asarray(image))
    assert back.shape == (40, 56, 1)
    assert set(np.unique(back)) == {0, 255}


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
@pytest.mark.parametrize("icc", [None, b"broken" * 100], ids=["untagged", "broken profile"])
def test_cmyk_becomes_srgb_and_loses_its_profile(tmp_path: Path, suffix: str, icc: bytes | None) -> None:
    Image.fromarray(picture()).convert("CMYK").save(tmp_path / f"c{suffix}", quality=95, icc_profile=icc)
    file = read_image(tmp_path / f"c{suffix}")
    assert file.pixels.shape == (40, 56, 3)
    assert file.pixels.dtype == np.uint8
    assert file.metadata.icc_profile is None
    assert np.corrcoef(file.pixels.ravel(), picture().ravel())[0, 1] > 0.9


def test_lab_becomes_srgb_and_loses_its_profile(tmp_path: Path) -> None:
    lab = rgb2lab(picture() / 255)
    light, rest = lab[..., :1] * 65535 / 100, lab[..., 1:] * 256
    stored = np.concatenate([np.rint(light).astype(np.uint16), np.rint(rest).astype(np.int16).view(np.uint16)], -1)
    tifffile.imwrite(tmp_path / "l.tif", stored, photometric="cielab", iccprofile=profile("LAB"))
    file = read_image(tmp_path / "l.tif")
    assert file.metadata.icc_profile is None
    assert np.abs(file.pixels / 257 - picture()).mean() < 1


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_and_reset(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100, "subsampling": 0} if suffix == ".jpg" else {}
    options |= {"lossless": True} if suffix == ".webp" else {}
    Image.fromarray(picture()).save(tmp_path / f"a{suffix}", exif=exif, **options)
    with Image.open(tmp_path / f"a{suffix}") as opened:
        upright = np.asarray(ImageOps.exif_transpose(opened)).astype(int)
    with open_image(tmp_path / f"a{suffix}") as reader:
        assert (reader.height, reader.width) == upright.shape[:2]
        halves = [reader.read_rows(reader.height // 2), reader.read_rows(reader.height - reader.height // 2)]
        metadata = reader.metadata
    assert np.abs(np.concatenate(halves) - upright).max() <= 2
    write_image(tmp_path / f"b{suffix}", np.concatenate(halves), metadata=metadata)
    with Image.open(tmp_path / f"b{suffix}") as opened:
        assert opened.getexif().get(0x0112, 1) == 1
        assert opened.size == upright.shape[1::-1]


@pytest.mark.parametrize("orientation", [2, 3, 6])
def test_orientation_of_pictures_that_libvips_does_not_keep_whole(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture(height=2000, width=90)).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as opened:
        upright = np.asarray(ImageOps.exif_transpose(opened))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, upright)


def test_a_file_is_known_by_its_content_whatever_its_name(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.png", "JPEG", quality=97)
    assert np.abs(read_image(tmp_path / "a.png").pixels.astype(int) - picture()).mean() < 2
    Image.fromarray(picture()).save(tmp_path / "noending", "PNG")
    np.testing.assert_array_equal(read_image(tmp_path / "noending").pixels, picture())


@pytest.mark.parametrize("suffix", LOSSLESS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.filterwarnings("ignore")
def test_lossless_formats_hold_the_exact_pixels(tmp_path: Path, suffix: str, dtype: type, channels: int) -> None:
    pixels = picture(channels, dtype, height=9, width=14)
    write_image(tmp_path / f"a{suffix}", pixels)
    if suffix == ".png" and dtype == np.float32:
        pixels, dtype = np.rint(pixels * 65535).astype(np.uint16), np.uint16
    back = read_by_another_library(tmp_path / f"a{suffix}", channels, dtype)
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, pixels)
    np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}").pixels, pixels)


@pytest.mark.parametrize("suffix", LOSSY)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_lossy_formats_come_close_in_eight_bits(tmp_path: Path, suffix: str, dtype: type, channels: int) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".jpg" and channels in (2, 4):
        with pytest.raises(ImageError, match="no transparency"):
            write_image(path, picture(channels, dtype))
        return
    write_image(path, picture(channels, dtype))
    kinds = {1: "L", 2: "RGBA", 3: "RGB", 4: "RGBA"}
    with Image.open(path) as image:
        back = np.asarray(image.convert(kinds[channels])).reshape(40, 56, -1).astype(int)
    expected = picture(channels)[..., [0, 0, 0, 1]] if channels == 2 else picture(channels)
    seen = expected[..., -1] > 32 if channels in (2, 4) else np.ones((40, 56), bool)  # colours under alpha 0 are free
    assert np.abs(back - expected)[seen].mean() < 3
    assert read_image(path).pixels.dtype == np.uint8


@pytest.mark.parametrize("suffix", WRITTEN)
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_smallest_images(tmp_path: Path, suffix: str, size: tuple[int, int], channels: int) -> None:
    pixels = picture(channels, height=size[0], width=size[1])
    write_image(tmp_path / f"a{suffix}", pixels)
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert image.size == size[::-1]
    back = read_image(tmp_path / f"a{suffix}").pixels
    assert np.abs(back[..., :channels].astype(int) - pixels).mean() <= (0 if suffix in LOSSLESS else 4)


def test_gray_alpha_and_profiles_of_gray_files(tmp_path: Path) -> None:
    Image.fromarray(picture(2)).save(tmp_path / "a.png", icc_profile=profile())  # an RGB profile fits no gray
    file = read_image(tmp_path / "a.png")
    assert file.pixels.shape == (40, 56, 2)
    assert file.metadata.icc_profile is None


def test_all_endings_named_are_endings_tested() -> None:
    assert {suffix.replace("jpeg", "jpg").replace("tiff", "tif") for suffix in WRITABLE} == set(WRITTEN)
    assert set(WRITABLE) < set(READABLE)
