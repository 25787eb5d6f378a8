"""Every format and kind of pixels: written by another library and read by ours, and the other way
round."""

import struct

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps
from skimage.color import rgb2lab

from srflow_sdk.errors import ImageError
from srflow_sdk.files import count_pixels, open_image, read_image, write_image
from tests.sdk.files.pictures import (
    LOSSLESS,
    LOSSY,
    WRITTEN,
    picture,
    profile,
    read_by_another_library,
)

DTYPES = (np.uint8, np.uint16, np.float32)
EXACT_WEBP = {"lossless": True, "exact": True}


def pillow(channels=3, **size):
    """The picture as Pillow's image; L for one channel."""
    pixels = picture(channels, **size)
    return Image.fromarray(pixels[..., 0] if channels == 1 else pixels)


@pytest.mark.parametrize(
    ("image", "name", "options"),
    [
        *((pillow(channels), "a.png", {}) for channels in (1, 2, 3, 4)),
        *((pillow(channels), "a.webp", EXACT_WEBP) for channels in (3, 4)),
        *(
            (pillow(channels), "a.tif", {"compression": "tiff_adobe_deflate"})
            for channels in (1, 4)
        ),
        (pillow(3), "a.tif", {"compression": "tiff_lzw"}),
        (pillow(), "a.bmp", {}),
        (pillow(1), "a.bmp", {}),
        (Image.fromarray(picture(1, np.uint16)[..., 0]), "a.png", {}),
        (pillow(), "noending", {"format": "PNG"}),
    ],
)
def test_lossless_files_of_pillow_are_read_exactly(tmp_path, image, name, options):
    image.save(tmp_path / name, **options)
    expected = np.asarray(image)
    pixels = read_image(tmp_path / name).pixels
    assert pixels.dtype == expected.dtype
    np.testing.assert_array_equal(pixels, expected.reshape(40, 56, -1))


@pytest.mark.parametrize(
    ("channels", "name", "options"),
    [
        (1, "a.jpg", {"quality": 97}),
        (3, "a.jpg", {"quality": 97, "progressive": True}),
        (3, "a.png", {"quality": 97, "format": "JPEG"}),  # a file is known by its content
        (3, "a.tif", {"compression": "jpeg"}),
        (3, "a.avif", {"quality": 95}),
        (4, "a.avif", {"quality": 95}),
    ],
)
def test_lossy_files_of_pillow_come_close(tmp_path, channels, name, options):
    pillow(channels).save(tmp_path / name, **options)
    pixels = read_image(tmp_path / name).pixels
    assert pixels.shape == (40, 56, channels)
    assert np.abs(pixels.astype(int) - picture(channels)).mean() < 5


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("layout", ["strips", "tiles", "planes", "big-endian"])
def test_tiffs_of_tifffile(tmp_path, dtype, channels, layout):
    kind = np.float32 if dtype.startswith("float") else np.dtype(dtype).type
    pixels = picture(channels, kind).astype(dtype)
    options = {"photometric": "minisblack" if channels <= 2 else "rgb", "planarconfig": "contig"}
    options["extrasamples"] = ["unassalpha"] if channels in (2, 4) else None
    options["byteorder"] = ">" if layout == "big-endian" else "<"
    if layout == "tiles":
        options["tile"] = (16, 16)
    planes = layout == "planes" and channels > 1
    if planes:
        options["planarconfig"] = "separate"
    stored = np.moveaxis(pixels, -1, 0) if planes else pixels
    tifffile.imwrite(tmp_path / "a.tif", stored[..., 0] if channels == 1 else stored, **options)
    if planes and (channels == 2 or dtype.startswith("float")):
        with pytest.raises(ImageError, match="interleaved"):  # libvips would mix the rows up
            read_image(tmp_path / "a.tif")
        return
    back = read_image(tmp_path / "a.tif").pixels
    assert back.dtype == kind
    np.testing.assert_array_equal(back, pixels)


def test_bmps_with_rows_from_the_top_are_read(tmp_path):
    pixels = picture(height=4, width=8)
    rows = pixels[..., ::-1].tobytes()
    top_down = struct.pack("<IiiHHIIiiII", 40, 8, -4, 1, 24, 0, len(rows), 0, 0, 0, 0)
    (tmp_path / "a.bmp").write_bytes(
        b"BM" + struct.pack("<IHHI", 54 + len(rows), 0, 0, 54) + top_down + rows,
    )
    file = read_image(tmp_path / "a.bmp")
    np.testing.assert_array_equal(file.pixels, pixels)
    assert file.metadata.resolution is None
    assert count_pixels(tmp_path / "a.bmp", max_pixels=100) == 32
    pillow().save(tmp_path / "c.bmp", dpi=(300, 150))
    assert read_image(tmp_path / "c.bmp").metadata.resolution == pytest.approx(
        (300 / 25.4, 150 / 25.4),
        rel=1e-3,
    )


@pytest.mark.parametrize("suffix", [".png", ".gif", ".bmp"])
def test_palettes_become_rgb_and_with_transparency_rgba(tmp_path, suffix):
    image = pillow().quantize(16)
    image.save(tmp_path / f"p{suffix}")
    np.testing.assert_array_equal(
        read_image(tmp_path / f"p{suffix}").pixels,
        np.asarray(image.convert("RGB")),
    )
    if suffix != ".bmp":
        image.save(tmp_path / f"p{suffix}", transparency=3)
        alpha = read_image(tmp_path / f"p{suffix}").pixels[..., 3]
        np.testing.assert_array_equal(alpha == 0, np.asarray(image) == 3)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_gray_stays_gray_also_of_one_bit(tmp_path, suffix):
    image = pillow().convert("1", dither=Image.Dither.NONE)
    image.save(tmp_path / f"1{suffix}")
    np.testing.assert_array_equal(
        read_image(tmp_path / f"1{suffix}").pixels[..., 0],
        np.where(image, 255, 0),
    )


@pytest.mark.parametrize(("suffix", "icc"), [(".jpg", None), (".tif", b"broken" * 100)])
def test_cmyk_becomes_srgb_and_loses_its_profile(tmp_path, suffix, icc):
    pillow().convert("CMYK").save(tmp_path / f"c{suffix}", quality=95, icc_profile=icc)
    file = read_image(tmp_path / f"c{suffix}")
    assert (file.pixels.shape, file.pixels.dtype, file.metadata.icc_profile) == (
        (40, 56, 3),
        np.uint8,
        None,
    )
    assert np.corrcoef(file.pixels.ravel(), picture().ravel())[0, 1] > 0.9


@pytest.mark.parametrize(("suffix", "most"), [(".jpg", 255), (".tif", 255), (".tif", 65535)])
def test_cmyk_without_a_profile_has_the_colours_that_chromium_shows_and_says_so(
    tmp_path, suffix, most, caplog
):
    inks = ((0, 0, 0, 0), (255, 0, 0, 0), (0, 255, 255, 0), (0, 0, 0, 255), (60, 120, 30, 40))
    # by Chromium 156
    shown = ((255, 255, 255), (0, 255, 255), (255, 0, 0), (0, 0, 0), (164, 113, 189))
    path = tmp_path / f"c{suffix}"
    pixels = np.repeat(np.array([inks], np.uint8), 16, axis=1).repeat(16, axis=0)
    if most == 255:
        Image.fromarray(pixels, "CMYK").save(path, quality=100, subsampling=0)
    else:
        tifffile.imwrite(path, pixels.astype(np.uint16) * 257, photometric="separated")
    seen = read_image(path).pixels[8, 8::16]
    assert np.abs(seen / (most / 255) - shown).max() <= 1
    assert caplog.messages == [
        f"{path}: CMYK without a colour profile: its colours are those that browsers show"
    ]


def test_lab_becomes_srgb_and_loses_its_profile(tmp_path):
    lab = rgb2lab(picture() / 255)
    light = lab[..., :1] * 65535 / 100
    rest = lab[..., 1:] * 256
    stored = np.concatenate(
        [np.rint(light).astype(np.uint16), np.rint(rest).astype(np.int16).view(np.uint16)],
        -1,
    )
    tifffile.imwrite(tmp_path / "l.tif", stored, photometric="cielab", iccprofile=profile("LAB"))
    file = read_image(tmp_path / "l.tif")
    assert file.metadata.icc_profile is None
    assert np.abs(file.pixels / 257 - picture()).mean() < 1


@pytest.mark.parametrize(
    ("suffix", "orientation"),
    [
        *((".png", orientation) for orientation in range(1, 9)),
        (".jpg", 6),
        (".tif", 5),
        (".webp", 8),
    ],
)
def test_orientation_is_applied_and_reset(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {".jpg": {"quality": 100, "subsampling": 0}, ".webp": {"lossless": True}}.get(
        suffix,
        {},
    )
    pillow().save(tmp_path / f"a{suffix}", exif=exif, **options)
    with Image.open(tmp_path / f"a{suffix}") as opened:
        upright = np.asarray(ImageOps.exif_transpose(opened)).astype(int)
    with open_image(tmp_path / f"a{suffix}") as reader:
        assert (reader.height, reader.width) == upright.shape[:2]
        halves = [
            reader.read_rows(reader.height // 2),
            reader.read_rows(reader.height - reader.height // 2),
        ]
        metadata = reader.metadata
    assert np.abs(np.concatenate(halves) - upright).max() <= 2
    write_image(tmp_path / f"b{suffix}", np.concatenate(halves), metadata=metadata)
    with Image.open(tmp_path / f"b{suffix}") as opened:
        assert opened.getexif().get(0x0112, 1) == 1
        assert opened.size == upright.shape[1::-1]


@pytest.mark.parametrize("suffix", LOSSLESS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.filterwarnings("ignore")
def test_lossless_formats_hold_the_exact_pixels(tmp_path, suffix, dtype, channels):
    pixels = picture(channels, dtype, height=9, width=14)
    write_image(tmp_path / f"a{suffix}", pixels)
    if suffix == ".png" and dtype == np.float32:
        pixels = np.rint(pixels * 65535).astype(np.uint16)
        dtype = np.uint16
    back = read_by_another_library(tmp_path / f"a{suffix}", channels, dtype)
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, pixels)
    np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}").pixels, pixels)


@pytest.mark.parametrize("suffix", LOSSY)
@pytest.mark.parametrize(
    ("dtype", "channels"),
    [(np.uint8, 1), (np.uint16, 2), (np.uint8, 3), (np.float32, 4)],
)
def test_lossy_formats_come_close_in_eight_bits(tmp_path, suffix, dtype, channels):
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
    # colours under alpha 0 are free
    seen = expected[..., -1] > 32 if channels in (2, 4) else np.ones((40, 56), bool)
    assert np.abs(back - expected)[seen].mean() < 3
    assert read_image(path).pixels.dtype == np.uint8


@pytest.mark.parametrize("suffix", WRITTEN)
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
def test_the_smallest_images(tmp_path, suffix, size):
    pixels = picture(height=size[0], width=size[1])
    write_image(tmp_path / f"a{suffix}", pixels)
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert image.size == size[::-1]
    back = read_image(tmp_path / f"a{suffix}").pixels
    assert np.abs(back.astype(int) - pixels).mean() <= (0 if suffix in LOSSLESS else 4)
