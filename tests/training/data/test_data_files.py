"""Which photographs of a folder are used, at which sizes, and what becomes of files that are
broken, cached or odd."""

import os

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from srflow_sdk.errors import ImageError
from srflow_training.data import halve, loader, read_photo, size_of
from tests.training.crops import as_image, crops_of, equal, places, save, texture, three_photographs


@pytest.fixture
def folder(tmp_path):
    return three_photographs(tmp_path / "photos")


def damage_pixels(path):
    """Keep the header, lose most of the pixels."""
    path.write_bytes(path.read_bytes()[:200])


# Which photographs


def test_unreadable_and_small_files_are_reported_and_skipped(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n")
    reports = []
    with pytest.raises(ImageError, match=r"no photograph can be used.*broken\.png"):
        crops_of(tmp_path)
    save(tmp_path / "small.png", texture(30, 50))
    save(tmp_path / "good.png", texture(36, 36))
    crops = crops_of(tmp_path, crop=32, hr_shift=2, reports=reports)
    assert len(crops.photos) == 1
    assert len(reports) == 2
    assert "broken.png" in reports[0]
    assert "small.png: 50×30 px is too small for crops of 36 px: lower data.crop" in reports[1]


def test_many_skipped_files_are_summed_up(tmp_path):
    for index in range(25):
        (tmp_path / f"{index}.png").write_bytes(b"no image")
    save(tmp_path / "good.png", texture(16, 16))
    reports = []
    crops_of(tmp_path, reports=reports)
    assert len(reports) == 11
    assert "15 more files" in reports[-1]


@pytest.mark.parametrize(
    ("widest", "narrowest", "widths"),
    [
        (0, 0, [200]),
        (0, 40, [200, 100, 50]),
        (100, 0, [100]),
        (99, 25, [50, 25]),
        (0, 13, [200, 100, 50, 25]),
    ],
)
def test_photographs_are_used_at_the_sizes_asked_for(tmp_path, widest, narrowest, widths):
    pixels = texture(130, 200)
    save(tmp_path / "a.png", pixels)
    crops = crops_of(
        tmp_path,
        widest=widest,
        narrowest=narrowest,
        batch=40,
        flip="none",
        transposes=False,
    )
    assert [photo.width for photo in crops.photos.sizes] == widths
    assert len(crops.photos) == 1
    sizes = [pixels]
    for _ in range(3):
        sizes.append(halve(sizes[-1]))
    found = {size.shape[1] for hr in crops[0].hr for size in sizes if places(size, hr)}
    assert found == set(widths)


def test_large_photographs_are_drawn_by_the_square_root_of_their_area(tmp_path):
    save(tmp_path / "large.png", texture(90, 90))
    save(tmp_path / "small.png", texture(30, 30))
    photos = crops_of(tmp_path).photos
    rng = np.random.default_rng(0)
    large = sum(photos.draw(rng).width == 90 for _ in range(2000))
    assert large / 2000 == pytest.approx(0.75, abs=0.03)


def test_the_most_detailed_of_several_places_is_chosen(tmp_path):
    pixels = np.full((64, 64, 3), 128, np.uint8)
    pixels[:32, :32] = texture(32, 32)
    save(tmp_path / "a.png", pixels)

    def detail(choose_of):
        hr = crops_of(tmp_path, batch=32, choose_of=choose_of)[0].hr
        return float(hr.diff(dim=2).abs().mean() + hr.diff(dim=3).abs().mean())

    assert detail(6) > 1.5 * detail(1)


# Broken pixels


def test_a_photograph_that_cannot_be_decoded_is_passed_over_and_reported_once(folder):
    damage_pixels(folder / "0" / "0.png")
    reports = []
    batches = list(loader(crops_of(folder, iterations=8, reports=reports), start=0, workers=2))
    assert [batch.hr.shape[0] for batch in batches] == [4] * 8
    assert len(reports) == 1
    assert reports[0].startswith("skipped: ")
    assert "0.png: cannot be read" in reports[0]
    again = list(loader(crops_of(folder, iterations=8), start=3, workers=0))
    assert all(equal(a, b) for a, b in zip(batches[3:], again, strict=True))


# Cache


def test_a_cache_changes_nothing_and_spares_decoding(folder, tmp_path, monkeypatch):
    cache = tmp_path / "deep" / "cache"
    data = {"narrowest": 40, "batch": 16, "choose_of": 2}
    without = crops_of(folder, **data)
    crops_of(folder, cache=str(cache), **data)[0]
    assert list(cache.glob("*.npy"))
    assert all(path.suffix == ".npy" for path in cache.iterdir())
    with monkeypatch.context() as patched:
        patched.setattr(
            "srflow_training.data.photographs.read_photo", lambda path: pytest.fail("decoded again")
        )
        warm = crops_of(folder, cache=str(cache), **data)[0]
    assert equal(warm, without[0])


@pytest.mark.parametrize(
    "damage", [b"", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x01\x00\x02\x00{[", b"something else", None]
)
def test_a_damaged_cache_file_is_made_anew(folder, tmp_path, damage):
    cache = tmp_path / "cache"
    expected = crops_of(folder, cache=str(cache), batch=16)[0]
    files = sorted(cache.iterdir())
    sizes = [file.stat().st_size for file in files]
    for file in files:
        file.write_bytes(file.read_bytes()[:300] if damage is None else damage)
    assert equal(crops_of(folder, cache=str(cache), batch=16)[0], expected)
    assert [file.stat().st_size for file in sorted(cache.iterdir())] == sizes


def test_a_photograph_that_changes_is_cached_anew(tmp_path):
    photo = save(tmp_path / "photos" / "a.bmp", texture(32, 32))
    before = crops_of(photo.parent, cache=str(tmp_path / "cache"))[0]
    save(photo, texture(32, 32, seed=1))  # of the same size, in bytes too
    os.utime(photo, ns=(0, 12345))
    after = crops_of(photo.parent, cache=str(tmp_path / "cache"))[0]
    assert not torch.equal(before.hr, after.hr)
    assert equal(after, crops_of(photo.parent)[0])


# Formats


@pytest.mark.parametrize("mode", ["LA", "P", "CMYK"])
def test_any_colour_mode_becomes_rgb(tmp_path, mode):
    image = Image.fromarray(texture(20, 24)).convert(mode)
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    image.save(path, **({"quality": 100} if mode == "CMYK" else {}))
    photo = read_photo(path)
    assert photo.shape == (20, 24, 3)
    assert photo.dtype == np.uint8
    assert np.abs(photo.astype(int) - np.asarray(image.convert("RGB"))).mean() < 3
    assert crops_of(tmp_path)[0].hr.shape == (4, 3, 16, 16)


def test_of_16_bits_the_upper_8_are_kept(tmp_path):
    grey = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    Image.fromarray(grey).save(tmp_path / "a.png")
    assert np.array_equal(
        read_photo(tmp_path / "a.png"), np.repeat((grey >> 8)[..., None], 3, axis=2)
    )


@pytest.mark.parametrize(("suffix", "orientation"), [("png", 6), ("jpg", 3), ("tif", 6)])
def test_orientation_is_applied_and_known_from_the_header(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:16, :24] = 255
    path = save(tmp_path / f"a.{suffix}", pixels, exif=exif, quality=100)
    turned = np.rot90(pixels, 2 if orientation == 3 else 3)
    assert size_of(path) == turned.shape[:2]
    assert np.abs(read_photo(path).astype(int) - turned).mean() < 3
    assert crops_of(tmp_path)[0].problems == ()


def test_halving_is_the_bicubic_reduction():
    pixels = texture(33, 22)
    expected = F.interpolate(
        as_image(pixels)[..., :32, :],
        scale_factor=0.5,
        mode="bicubic",
        antialias=True,
    )
    difference = np.abs(
        halve(pixels).astype(float) - expected[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255
    )
    assert halve(pixels).shape == (16, 11, 3)
    assert difference[3:-3, 3:-3].max() < 0.51  # borders are mirrored, not cut
