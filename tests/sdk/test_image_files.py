from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.image_files import read_image, write_image


def picture(channels: int = 3, dtype: type = np.uint8, *, height: int = 40, width: int = 56) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    planes = [(np.sin(x / 9 + shift) * np.cos(y / 7) + 1) / 2 for shift in range(channels)]
    return np.rint(np.stack(planes, -1) * np.iinfo(dtype).max).astype(dtype)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_lossless_formats_give_the_exact_pixels_back(tmp_path: Path, suffix: str, dtype: type, channels: int) -> None:
    pixels = picture(channels, dtype)
    write_image(tmp_path / f"a{suffix}", pixels)
    back = read_image(tmp_path / f"a{suffix}").pixels
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, pixels)


def test_another_library_reads_what_is_written(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", picture())
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), picture())
    write_image(tmp_path / "g.png", picture(1, np.uint16)[..., 0])
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "g.png")), picture(1, np.uint16)[..., 0])


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_lossy_formats_come_close_in_eight_bits(tmp_path: Path, suffix: str, dtype: type) -> None:
    write_image(tmp_path / f"a{suffix}", picture(3, dtype))
    back = read_image(tmp_path / f"a{suffix}").pixels
    assert back.dtype == np.uint8
    assert np.abs(back.astype(int) - picture()).mean() < 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture()).save(tmp_path / "a.jpg", exif=exif, quality=100, subsampling=0)
    from PIL import ImageOps

    with Image.open(tmp_path / "a.jpg") as opened:
        upright = np.asarray(ImageOps.exif_transpose(opened)).astype(int)
    back = read_image(tmp_path / "a.jpg").pixels
    assert back.shape == upright.shape
    assert np.abs(back - upright).max() <= 2


def test_palette_gray_and_bilevel_files(tmp_path: Path) -> None:
    image = Image.fromarray(picture())
    image.quantize(16).save(tmp_path / "p.png")
    assert read_image(tmp_path / "p.png").pixels.shape == (40, 56, 3)
    image.convert("L").save(tmp_path / "l.jpg")
    assert read_image(tmp_path / "l.jpg").pixels.shape == (40, 56, 1)
    image.convert("1").save(tmp_path / "1.png")
    assert set(np.unique(read_image(tmp_path / "1.png").pixels)) == {0, 255}


def test_cmyk_becomes_srgb_and_loses_its_profile(tmp_path: Path) -> None:
    Image.fromarray(picture()).convert("CMYK").save(tmp_path / "c.jpg", quality=95)
    file = read_image(tmp_path / "c.jpg")
    assert file.pixels.shape == (40, 56, 3)
    assert file.icc_profile is None
    assert np.corrcoef(file.pixels.ravel(), picture().ravel())[0, 1] > 0.9


def test_the_profile_goes_from_file_to_file(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(picture()).save(tmp_path / "a.png", icc_profile=profile)
    file = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(file.pixels, picture())
    assert file.icc_profile == profile
    for suffix in (".png", ".jpg", ".webp", ".tif"):
        write_image(tmp_path / f"b{suffix}", file.pixels, icc_profile=file.icc_profile)
        assert read_image(tmp_path / f"b{suffix}").icc_profile == profile
    write_image(tmp_path / "c.png", file.pixels)
    assert read_image(tmp_path / "c.png").icc_profile is None


def test_a_file_that_changed_is_read_anew(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", picture())
    read_image(tmp_path / "a.png")
    write_image(tmp_path / "a.png", 255 - picture())
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, 255 - picture())


@pytest.mark.parametrize("name", ["a[1].png", "a.png[page=1].png", "ü 写真.png", "-o.png", "%d.png"])
def test_odd_file_names_are_only_names(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / name, picture())
    assert names(tmp_path) == [name]
    np.testing.assert_array_equal(read_image(tmp_path / name).pixels, picture())


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("part", [0.2, 0.6, 0.95])
def test_truncated_files_are_refused_in_one_line(tmp_path: Path, suffix: str, part: float) -> None:
    path = tmp_path / f"a{suffix}"
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    write_image(path, pixels)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(ImageError, match=str(path)) as error:
        read_image(path)
    assert "\n" not in str(error.value)


def test_other_files_are_refused_in_one_line(tmp_path: Path) -> None:
    contents = {
        "empty.png": b"",
        "text.png": b"not an image at all" * 50,
        "vector.png": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><circle r="4"/></svg>',
        "document.png": b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n" * 20,
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.png").mkdir()
    for name in [*contents, "folder.png", "absent.png"]:
        with pytest.raises(ImageError, match=name) as error:
            read_image(tmp_path / name)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".tif"])
def test_animations_and_pages_are_refused(tmp_path: Path, suffix: str) -> None:
    frames = [Image.fromarray(picture(3) // divisor) for divisor in (1, 2, 3)]
    frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="3 frames"):
        read_image(tmp_path / f"a{suffix}")


def test_a_still_gif_is_read(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.gif")
    assert read_image(tmp_path / "a.gif").pixels.shape[:2] == (40, 56)


def test_more_pixels_than_the_limit_are_refused_before_decoding(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", picture())
    with pytest.raises(ImageError, match=r"56×40 pixels are more than the limit of 2,239"):
        read_image(tmp_path / "a.png", max_pixels=40 * 56 - 1)
    assert read_image(tmp_path / "a.png", max_pixels=40 * 56).pixels.shape == (40, 56, 3)


def test_float_files_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((5, 5), np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(ImageError, match="float"):
        read_image(tmp_path / "f.tif")


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    write_image(path, picture())
    before = path.read_bytes()
    with pytest.raises(ImageError, match="cannot be written"):
        write_image(path, np.zeros((1, 17_000, 3), np.uint8))  # wider than WebP can be
    assert path.read_bytes() == before
    assert names(tmp_path) == ["a.webp"]


@pytest.mark.parametrize(
    "pixels", [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 5), np.uint8), np.zeros((0, 4), np.uint8)]
)
def test_pixels_that_files_cannot_hold_are_refused(tmp_path: Path, pixels: np.ndarray) -> None:
    with pytest.raises(ImageError, match="cannot be written"):
        write_image(tmp_path / "a.png", pixels)
    assert names(tmp_path) == []


def test_transparency_is_not_dropped_in_silence(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no transparency"):
        write_image(tmp_path / "a.jpg", picture(4))


def test_unknown_endings_and_absent_folders_are_typed_errors(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"\.png, \.jpg"):
        write_image(tmp_path / "a.bmp", picture())
    with pytest.raises(ImageError, match="cannot be written"):
        write_image(tmp_path / "absent" / "a.png", picture())
