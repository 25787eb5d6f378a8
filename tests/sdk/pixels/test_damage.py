"""What is measured in a picture's pixels: each kind of damage alone, and what only looks like
it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from srflow_sdk.pixels.damage import measure_damage, strips_of

from ..clean_and_noisy import noisy, smooth

PHOTOS = Path(__file__).parents[3] / "examples" / "photos"


def measured(pixels):
    return measure_damage(strips_of(np.asarray(pixels)))


def cat():
    return Image.open(PHOTOS / "cat.png").convert("RGB")


def texture():
    """Detail everywhere, as of gravel: neighbouring pixels are alike, as in no noise."""
    field = np.random.default_rng(3).normal(0, 1, (258, 258))
    for _ in range(2):
        field = field + np.roll(field, 1, 0) + np.roll(field, 1, 1) + np.roll(field, (1, 1), (0, 1))
    pixels = np.clip(128 + 24 * field / field.std(), 0, 255)
    return np.repeat(np.rint(pixels)[1:-1, 1:-1, None], 3, axis=2).astype(np.uint8)


@pytest.mark.parametrize("sigma", [5, 12])
def test_noise_is_measured(sigma):
    luma = sigma * np.sqrt(0.299**2 + 0.587**2 + 0.114**2)
    assert measured(noisy(sigma)).noise == pytest.approx(luma, rel=0.25)
    assert measured(noisy(sigma)).white == pytest.approx(1, abs=0.25)


def test_noise_that_grows_with_brightness_is_found_where_it_is():
    dark_first = np.repeat(np.linspace(4, 230, 256)[:, None, None], 256, axis=1).repeat(3, axis=2)
    speckled = dark_first * (1 + 0.1 * np.random.default_rng(0).standard_normal(dark_first.shape))
    assert measured(dark_first.astype(np.uint8)).noise < 0.5
    assert measured(np.clip(speckled, 0, 255).astype(np.uint8)).noise > 3.5


def test_lines_of_drawings_are_no_grid():
    boxes = np.full((256, 256, 3), 200, np.uint8)
    # On a grid of eight pixels, as user interfaces are
    boxes[32:128, 40:200] = 90
    boxes[136:224, 16:120] = 30
    assert measured(boxes).grid < 2


def test_the_sharpest_edges_tell_a_soft_picture():
    soft = cat().filter(ImageFilter.GaussianBlur(1))
    assert measured(soft).sharp < 0.03 < 0.13 < measured(cat()).sharp
    label = soft.copy()
    label.paste(cat().resize((112, 75)), (0, 0))
    assert measured(label).sharp > 0.1, "something sharp before what is out of focus"
    assert measured(smooth()).sharp == 1, "a slope is no edge"


def test_small_and_empty_pictures_show_nothing():
    for shape in ((1, 1, 3), (1, 300, 3), (300, 5, 1), (7, 40, 4), (40, 7, 2)):
        damage = measured(np.full(shape, 255, np.uint8))
        assert (damage.noise, damage.grid, damage.dots, damage.sharp, damage.sharp_at_half) == (
            0,
            0,
            0,
            1,
            1,
        ), shape
