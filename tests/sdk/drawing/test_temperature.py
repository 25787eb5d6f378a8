import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from srflow_sdk import Bundle
from srflow_sdk.drawing.temperature import REACH, texture
from srflow_sdk.errors import ArgumentError
from srflow_sdk.upscaler import Upscaler


def test_a_constant_map_gives_what_the_number_gives(upscaler, photo):
    number = upscaler.upscale(photo, tau=0.7, seed=2)
    for dtype in (np.float32, np.float64):
        np.testing.assert_array_equal(
            upscaler.upscale(photo, tau=np.full((45, 61), 0.7, dtype), seed=2),
            number,
        )


def test_a_mask_is_smooth_where_it_is_zero_and_textured_where_it_is_not(upscaler, photo):
    mask = np.zeros((45, 61))
    mask[:, 30:] = 0.9
    mixed = upscaler.upscale(photo, tau=mask, seed=2)
    reach = 4 * 8  # of the tiny network, in HR pixels
    np.testing.assert_array_equal(
        mixed[:, : 120 - reach],
        upscaler.upscale(photo, tau=0)[:, : 120 - reach],
    )
    np.testing.assert_array_equal(
        mixed[:, 120 + reach :],
        upscaler.upscale(photo, tau=0.9, seed=2)[:, 120 + reach :],
    )


@pytest.mark.parametrize(
    "tau",
    [
        np.zeros((61, 45)),
        np.zeros((0, 0)),
        np.full((45, 61), np.nan),
        np.full((45, 61), -0.1),
        np.full((45, 61), 2.1),
        np.zeros((45, 61), bool),
    ],
)
def test_maps_that_are_none_are_typed_errors(upscaler, photo, tau):
    with pytest.raises(ArgumentError, match="tau map"):
        upscaler.upscale(photo, tau=tau)


# tau="auto": where it is high and low, and that it is the same for any tiles.


def with_surroundings(levels):
    """An 8-bit image H×W×3 as :func:`texture` takes it."""
    rgb = (levels / np.float32(255)).astype(np.float32).transpose(2, 0, 1)
    return np.pad(rgb, ((0, 0), (REACH, REACH), (REACH, REACH)), mode="edge")


def noise(deviation, *, height=64, width=64):
    values = np.random.default_rng(0).normal(128, deviation, (height, width, 1))
    return np.clip(np.rint(np.repeat(values, 3, axis=2)), 0, 255).astype(np.uint8)


def page(size, *, side=96, ink="black", paper="white"):
    drawn = Image.new("RGB", (side * 4, side * 4), paper)
    for top in range(8, side * 4, round(1.4 * size)):
        ImageDraw.Draw(drawn).text(
            (8, top),
            "sphinx of black quartz judge my vow",
            ink,
            ImageFont.load_default(size),
        )
    return np.asarray(drawn.resize((side, side), Image.Resampling.BOX))


def test_texture_and_text_get_all_of_the_temperature_and_flat_areas_none():
    assert texture(with_surroundings(noise(25))).min() == 1
    assert texture(with_surroundings(page(24, ink="#dcdcdc", paper="#1e1e24")))[8:24].min() == 1
    assert texture(with_surroundings(np.full((40, 50, 3), 255, np.uint8))).max() == 0
    assert 0.4 < texture(with_surroundings(noise(1))).mean() < 0.6


def test_it_is_half_the_deviation_of_the_window_around_each_pixel():
    levels = noise(2, height=20, width=22)
    found = texture(with_surroundings(levels))
    padded = np.pad(levels[..., 0].astype(np.float64), REACH, mode="edge")
    for row, column in ((0, 0), (7, 12), (19, 21)):
        window = padded[row : row + 2 * REACH + 1, column : column + 2 * REACH + 1]
        assert found[row, column] == pytest.approx(min(window.std() / 2, 1), abs=1e-6)


@pytest.fixture
def mixed():
    """Text beside texture, an odd size, and larger than a few tiles."""
    return np.concatenate([page(24, side=75), noise(40, height=75, width=68)], axis=1)


@pytest.mark.parametrize(
    "tau",
    ["auto", np.random.default_rng(0).random((75, 143))],
    ids=["auto", "map"],
)
def test_it_gives_the_same_picture_for_any_tile(tiny_bundle, mixed, tau):
    image = (mixed / np.float32(255)).astype(np.float32)
    with (
        Upscaler(tiny_bundle, tile=None, threads=1) as whole,
        Upscaler(tiny_bundle, tile=22, threads=1) as tiled,
    ):
        np.testing.assert_allclose(
            tiled.upscale(image, tau=tau),
            whole.upscale(image, tau=tau),
            atol=2e-6,
        )


def test_it_is_the_map_of_the_whole_picture_times_the_models_default(upscaler, mixed):
    image = mixed[:74, :142]  # multiples of the network's, so that nothing is padded
    temperature = np.float32(upscaler.bundle.manifest.default_tau) * texture(
        with_surroundings(image)
    )
    np.testing.assert_array_equal(
        upscaler.upscale(image, tau="auto"),
        upscaler.upscale(image, tau=temperature),
    )


def test_flat_white_has_no_grain_and_texture_stays_as_sharp_as_at_the_fixed_temperature(embedded):
    encoding = embedded.encode(np.full((48, 48, 3), 255, np.uint8))
    np.testing.assert_array_equal(
        encoding.sample(tau="auto"), encoding.sample(tau=np.zeros((48, 48)))
    )
    assert encoding.sample(tau="auto").std() < encoding.sample(tau=0.8).std() / 2
    photo = np.asarray(
        Image.open(Path(__file__).parents[3] / "examples" / "photos" / "cat.png").convert("RGB")
    )
    height, width = (side // 2 for side in photo.shape[:2])
    fur = photo[height - 24 : height + 24, width - 24 : width + 24]
    encoding = embedded.encode(fur)
    number = embedded.bundle.manifest.default_tau

    def variety(tau):
        return float(
            np.abs(
                encoding.sample(tau=tau).astype(float) - encoding.sample(tau=tau, seed=1)
            ).mean(),
        )

    assert variety("auto") > 0.95 * variety(number)


def test_a_manifests_auto_tau_makes_it_the_default(tiny_bundle, mixed):
    mixed = mixed[:40, 40:90]
    opened = Bundle.open(tiny_bundle)
    for auto, tau in ((True, "auto"), (False, opened.manifest.default_tau)):
        bundle = Bundle(
            path=tiny_bundle,
            manifest=dataclasses.replace(opened.manifest, auto_tau=auto),
        )
        with Upscaler(bundle, threads=1) as upscaler:
            np.testing.assert_array_equal(upscaler.upscale(mixed), upscaler.upscale(mixed, tau=tau))
