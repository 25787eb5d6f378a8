"""A crop that is drawn alone has the pixels that the whole picture has there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srflow_apps.demo.live import LivePhoto
from srflow_apps.demo.page_pictures import preview
from srflow_sdk import read_image
from srflow_sdk.errors import ImageError
from srflow_sdk.files import write_image

ALL = 10**8


def part(whole: np.ndarray, live: LivePhoto, shape: tuple[int, ...], scale: int) -> np.ndarray:
    top, left = live.crop.top * scale, live.crop.left * scale
    return whole[top : top + shape[0], left : left + shape[1]]


@pytest.mark.parametrize("tau", [0.8, "auto"])
@pytest.mark.parametrize("place", [(0, 0), (13, 7), (999, 999), (-5, 20)], ids=str)
def test_a_crop_is_that_part_of_the_file_that_the_sdk_writes(upscaler, uploaded, tmp_path, tau, place) -> None:
    upscaler.upscale_file(uploaded, tmp_path / "large.png", tau=tau, seed=3, sample=2)
    whole = read_image(tmp_path / "large.png").pixels
    live = LivePhoto(upscaler, uploaded, max_pixels=ALL)
    live.show(left=place[0], top=place[1], side=24)
    drawn = live.draw(tau=tau, seed=3, sample=2)
    assert drawn.shape[0] >= 24 * 4 - 4
    expected = part(whole, live, drawn.shape, upscaler.scale)
    assert np.abs(drawn.astype(int) - expected).max() <= 1
    assert (drawn != expected).mean() < 0.001


def test_a_crop_of_another_seed_differs(upscaler, uploaded) -> None:
    live = LivePhoto(upscaler, uploaded, max_pixels=ALL)
    live.show(left=0, top=0, side=24)
    assert (live.draw(tau=0.8, seed=0, sample=0) != live.draw(tau=0.8, seed=1, sample=0)).mean() > 0.5


def test_a_photo_smaller_than_the_crop_is_shown_whole(upscaler, uploaded, photo) -> None:
    live = LivePhoto(upscaler, uploaded, max_pixels=ALL)
    live.show(left=0, top=0, side=128)
    np.testing.assert_array_equal(live.draw(tau=0.8, seed=1, sample=0), upscaler.upscale(photo, tau=0.8, seed=1))


def test_the_same_crop_is_encoded_once(upscaler, uploaded, monkeypatch) -> None:
    live = LivePhoto(upscaler, uploaded, max_pixels=ALL)
    encoded: list[object] = []
    encode = upscaler._painter.encode
    monkeypatch.setattr(upscaler._painter, "encode", lambda *a, **k: (encoded.append(a), encode(*a, **k))[1])
    for tau in (0.1, 0.5, 0.9):
        live.show(left=4, top=4, side=24)
        live.draw(tau=tau, seed=0, sample=0)
    assert len(encoded) == 1
    live.show(left=8, top=4, side=24)
    assert len(encoded) == 2


def test_samples_and_their_deviation_are_those_of_an_encoding(upscaler, uploaded, photo) -> None:
    live = LivePhoto(upscaler, uploaded, max_pixels=ALL)
    live.show(left=0, top=0, side=128)
    drawn, std = live.samples(4, tau=0.8, seed=5)
    encoding = upscaler.encode(photo)
    for picture, expected in zip(drawn, encoding.samples(4, tau=0.8, seed=5), strict=True):
        np.testing.assert_array_equal(picture, expected)
    np.testing.assert_allclose(std, encoding.std(4, tau=0.8, seed=5), atol=1e-6)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA"])
def test_gray_and_transparent_photos_are_shown_as_rgb(upscaler, tmp_path, photo, mode) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(photo).convert(mode).save(path)
    live = LivePhoto(upscaler, path, max_pixels=ALL)
    live.show(left=0, top=0, side=24)
    drawn, std = live.samples(2, tau=0.8, seed=0)
    shapes = [drawn[0].shape, std.shape, live.bicubic().shape]
    assert shapes == [(96, 96, 3)] * 3
    assert preview(path, most=30)[0].shape == (22, 30, 3)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_what_is_transparent_shows_a_chequerboard(upscaler, tmp_path, photo, mode) -> None:
    path = tmp_path / "photo.png"
    image = Image.fromarray(photo).convert(mode)
    alpha = np.full(photo.shape[:2], 255, np.uint8)
    alpha[:, 12:] = 0
    image.putalpha(Image.fromarray(alpha))
    image.save(path)
    live = LivePhoto(upscaler, path, max_pixels=ALL)
    live.show(left=0, top=0, side=24)
    upscaler.upscale_file(path, tmp_path / "large.png", tau=0.8, seed=0)
    saved = read_image(tmp_path / "large.png").pixels[:96, :96]
    board = np.where(np.add.outer(np.arange(96) // 8, np.arange(96) // 8) % 2, 204, 255)[..., None]
    drawn = live.draw(tau=0.8, seed=0, sample=0)
    over = saved[..., -1:] / 255
    assert np.abs(drawn - (saved[..., :-1] * over + board * (1 - over))).max() <= 1.01
    for picture in (drawn, live.bicubic(), *live.samples(2, tau=0.8, seed=0)[0]):
        np.testing.assert_array_equal(picture[:, 60:], np.repeat(board[:, 60:], 3, axis=2))
        assert len(np.unique(picture[:, :40])) > 20
    assert set(np.unique(preview(path, most=30)[0][:, 20:])) == {204, 255}


def test_bicubic_is_that_of_the_whole_photo(upscaler, uploaded, photo) -> None:
    live = LivePhoto(upscaler, uploaded, max_pixels=ALL)
    live.show(left=10, top=12, side=20)
    height, width = photo.shape[:2]
    whole = np.asarray(Image.fromarray(photo).resize((4 * width, 4 * height), Image.Resampling.BICUBIC))
    shown = live.bicubic()
    assert np.abs(shown.astype(int) - part(whole, live, shown.shape, 4)).max() <= 1


def test_an_overview_of_a_large_photo_shows_it(tmp_path: Path) -> None:
    pixels = np.zeros((300, 2000, 3), np.uint8)
    pixels[:, 1000:] = (200, 100, 50)
    write_image(tmp_path / "wide.png", pixels)
    seen, _ = preview(tmp_path / "wide.png", most=100)
    assert seen.shape == (15, 100, 3)
    assert seen[7, 10].tolist() == [0, 0, 0]
    assert np.abs(seen[7, 90].astype(int) - (200, 100, 50)).max() <= 1


def test_a_result_of_any_size_is_shown(tmp_path: Path) -> None:
    Image.new("L", (12_500, 8_100), 77).save(tmp_path / "large.png")  # more pixels than files may have by themselves
    shown, width = preview(tmp_path / "large.png", most=100)
    assert shown.shape == (65, 100, 3)
    assert width == 12_500


def test_a_photo_with_too_many_pixels_is_refused(upscaler, uploaded) -> None:
    with pytest.raises(ImageError, match="pixels"):
        LivePhoto(upscaler, uploaded, max_pixels=1000)
