"""A crop that is drawn alone has the pixels that the whole picture has there; and where a picture has most detail."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srflow_apps.demo import page_pictures
from srflow_apps.demo.live import LivePhoto
from srflow_apps.demo.page_pictures import busiest, most_detailed, preview
from srflow_sdk import read_image
from srflow_sdk.drawing.options import DrawOptions
from srflow_sdk.files import write_image

ALL = 10**8


def live_crop(upscaler, path: Path, *, left: int = 0, top: int = 0, side: int = 24) -> LivePhoto:
    live = LivePhoto(upscaler, path, max_pixels=ALL)
    live.show(left=left, top=top, side=side)
    return live


def part(whole: np.ndarray, live: LivePhoto, shape: tuple[int, ...]) -> np.ndarray:
    top, left = live.crop.top * 4, live.crop.left * 4
    return whole[top : top + shape[0], left : left + shape[1]]


@pytest.mark.parametrize("tau", [0.8, "auto"])
@pytest.mark.parametrize("place", [(13, 7), (999, 999), (-5, 20)], ids=str)
def test_a_crop_is_that_part_of_the_file_that_the_sdk_writes(upscaler, uploaded, tmp_path, tau, place) -> None:
    upscaler.upscale_file(uploaded, tmp_path / "large.png", tau=tau, seed=3, sample=2)
    live = live_crop(upscaler, uploaded, left=place[0], top=place[1])
    drawn = live.draw(DrawOptions(tau=tau, seed=3, sample=2))
    assert drawn.shape[0] >= 24 * 4 - 4
    expected = part(read_image(tmp_path / "large.png").pixels, live, drawn.shape)
    assert np.abs(drawn.astype(int) - expected).max() <= 1
    assert (drawn != expected).mean() < 0.001


def test_the_same_crop_is_encoded_once(upscaler, uploaded, monkeypatch) -> None:
    encoded: list[object] = []
    encode = upscaler._painter.encode
    monkeypatch.setattr(upscaler._painter, "encode", lambda *a, **k: (encoded.append(a), encode(*a, **k))[1])
    live = live_crop(upscaler, uploaded, left=4, top=4)
    for tau in (0.1, 0.5, 0.9):
        live.show(left=4, top=4, side=24)
        live.draw(DrawOptions(tau=tau))
    assert len(encoded) == 1
    live.show(left=8, top=4, side=24)
    assert len(encoded) == 2


def test_samples_of_a_photo_smaller_than_the_crop_are_those_of_an_encoding(upscaler, uploaded, photo) -> None:
    options = DrawOptions(tau=0.8, seed=5)
    drawn, std = live_crop(upscaler, uploaded, side=128).samples(4, options)
    encoding = upscaler.encode(photo)
    for picture, expected in zip(drawn, encoding.samples(4, tau=0.8, seed=5), strict=True):
        np.testing.assert_array_equal(picture, expected)
    np.testing.assert_allclose(std, encoding.std(4, tau=0.8, seed=5), atol=1e-6)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA"])
def test_gray_and_transparent_photos_keep_their_channels(upscaler, tmp_path, photo, mode) -> None:
    path = tmp_path / "photo.png"
    image = Image.fromarray(photo).convert(mode)
    if mode != "L":
        alpha = np.full(photo.shape[:2], 255, np.uint8)
        alpha[:, 12:] = 0
        image.putalpha(Image.fromarray(alpha))
    image.save(path)
    live = live_crop(upscaler, path)
    upscaler.upscale_file(path, tmp_path / "large.png", tau=0.8)
    saved = read_image(tmp_path / "large.png").pixels[:96, :96]
    drawn = live.draw(DrawOptions(tau=0.8))
    assert np.abs(drawn.astype(int) - saved)[:, :44].max() <= 1  # what is transparent has any colour
    assert live.bicubic().shape == drawn.shape == (96, 96, len(mode))
    if mode != "L":
        for picture in (drawn, live.bicubic(), *live.samples(2, DrawOptions(tau=0.8))[0]):
            np.testing.assert_array_equal(picture[..., -1], saved[..., -1])
        assert set(np.unique(preview(path, most=30)[0][:, 20:, -1])) == {0}


def test_bicubic_is_that_of_the_whole_photo(upscaler, uploaded, photo) -> None:
    live = live_crop(upscaler, uploaded, left=10, top=12, side=20)
    height, width = photo.shape[:2]
    whole = np.asarray(Image.fromarray(photo).resize((4 * width, 4 * height), Image.Resampling.BICUBIC))
    shown = live.bicubic()
    assert np.abs(shown.astype(int) - part(whole, live, shown.shape)).max() <= 1


def test_an_overview_of_a_large_photo_shows_it(tmp_path: Path) -> None:
    pixels = np.zeros((300, 2000, 3), np.uint8)
    pixels[:, 1000:] = (200, 100, 50)
    write_image(tmp_path / "wide.png", pixels)
    seen, width = preview(tmp_path / "wide.png", most=100)
    assert (seen.shape, width) == ((15, 100, 3), 2000)
    assert seen[7, 10].tolist() == [0, 0, 0]
    assert np.abs(seen[7, 90].astype(int) - (200, 100, 50)).max() <= 1


def test_a_result_of_any_size_is_shown(tmp_path: Path) -> None:
    Image.new("L", (12_500, 8_100), 77).save(tmp_path / "large.png")  # more pixels than files may have by themselves
    assert preview(tmp_path / "large.png", most=100)[0].shape[:2] == (65, 100)


def test_the_busiest_rectangle_has_the_largest_sum() -> None:
    values = np.random.default_rng(0).random((40, 30))
    sums = np.lib.stride_tricks.sliding_window_view(values, (7, 12)).sum((2, 3))
    assert busiest(values, 7, 12) == np.unravel_index(sums.argmax(), sums.shape)
    assert busiest(values, 99, 12)[0] == 0
    assert busiest(values, 99, 99) == (0, 0)


def with_noise_at(top: int, left: int, *, shape: tuple[int, int, int], dtype: type = np.uint8) -> np.ndarray:
    picture = np.full(shape, 100, dtype)
    picture[top : top + 20, left : left + 20] = np.random.default_rng(1).integers(0, 255, (20, 20, 1))
    if shape[2] in (2, 4):
        picture[..., -1] = 255
    return picture


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("searched", [10**6, 1000])
def test_the_most_detailed_square_is_found_in_a_gray_or_coloured_picture(monkeypatch, channels, searched) -> None:
    monkeypatch.setattr(page_pictures, "_SEARCHED_PIXELS", searched)
    top, left = most_detailed(with_noise_at(61, 33, shape=(100, 80, channels)), 22)
    every = -(-8000 // searched)
    assert 61 - 2 - every <= top <= 61 + every
    assert 31 <= left <= 33


def test_what_is_transparent_has_no_detail_and_deep_or_small_pictures_have_some() -> None:
    for dtype in (np.uint16, np.float32):
        assert most_detailed(with_noise_at(10, 50, shape=(60, 90, 3), dtype=dtype), 20) == (10, 50)
    picture = with_noise_at(10, 50, shape=(60, 90, 4))
    picture[30:50, 5:25, 1] = with_noise_at(0, 0, shape=(20, 20, 1))[..., 0] // 4
    picture[10:30, 50:70, 3] = 0
    assert most_detailed(picture, 20) == (30, 5)
    for shape in ((1, 1, 3), (1, 50, 3), (50, 1, 1), (5, 7, 3)):
        assert most_detailed(np.zeros(shape, np.uint8), 64) == (0, 0)
