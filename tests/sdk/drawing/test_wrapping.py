"""Textures that tile: what is drawn with `wrap` goes on beyond its edges as its repetition does."""

import numpy as np
import pytest

from srflow_sdk import OutputSize
from srflow_sdk.clips import FrameUpscaler
from srflow_sdk.drawing.options import DrawOptions
from srflow_sdk.drawing.wrapping import cut_and_join_edges
from srflow_sdk.errors import ArgumentError
from srflow_sdk.latents.picture_latents import Latents
from srflow_sdk.latents.random_field import window_noise

TEXTURE = np.random.default_rng(5).random((24, 30, 3), np.float32)
ALPHA = np.where(np.hypot(*np.mgrid[-12:12, -12:18]) < 9, 1, 0).astype(np.float32)
ROLL = (6, -10)


def rolled(picture, times=1):
    return np.roll(picture, [round(shift * times) for shift in ROLL], (0, 1))


def difference(one, other):
    """In 255ths of the range."""
    full = 1 if one.dtype == np.float32 else np.iinfo(one.dtype).max
    return np.abs(one.astype(np.float64) - other).max() * 255 / full


@pytest.mark.parametrize(
    ("options", "times"),
    [
        ({"tau": 0}, 4),
        ({"tau": 0, "consistent": True}, 4),
        ({"tau": 0, "scale": 2}, 2),
        ({"tau": 0, "scale": 0.5, "reduction": "lanczos"}, 0.5),
        ({"tau": 0, "scale": OutputSize(width=75), "linear_light": True}, 2.5),
    ],
)
def test_a_rolled_texture_gives_the_rolled_picture(upscaler, options, times):
    picture = upscaler.upscale(TEXTURE, wrap="xy", **options)
    again = upscaler.upscale(rolled(TEXTURE), wrap="xy", **options)
    other = upscaler.upscale(rolled(TEXTURE), **options)
    assert difference(rolled(picture, times), again) < 1
    assert difference(rolled(picture, times), other) > 1


def test_transparent_textures_of_16_bits_roll_as_well(upscaler):
    texture = np.rint(np.dstack([TEXTURE, ALPHA]) * 65535).astype(np.uint16)
    picture, again = (upscaler.upscale(one, tau=0, wrap="xy") for one in (texture, rolled(texture)))
    visible = (again[..., 3:] > 0) | np.array([False, False, False, True])
    assert difference(rolled(picture, 4)[visible], again[visible]) <= 1


def test_a_map_of_temperatures_repeats_with_the_texture(upscaler):
    """The map alone decides here: where it is 0, so are the latents, which do not roll."""
    tau = np.zeros(TEXTURE.shape[:2])
    tau[:, :2] = 2  # at the left edge, and so next to the right one
    plain, picture = (upscaler.upscale(TEXTURE, wrap="xy", tau=one) for one in (0, tau))
    changed = np.abs(picture - plain).max(axis=(0, 2)) > 1e-3
    assert changed[:8].all()
    assert changed[-4:].any()
    assert not changed[60]


def test_the_picture_is_the_middle_of_its_repetition_with_latents_that_repeat(flow):
    """Gray, as colours of decoded latents are not held to the hues of the image."""
    texture = TEXTURE[..., :1]
    options = {"seed": 3, "sample": 2}
    manifest = flow.bundle.manifest
    noise = window_noise(
        manifest.latent_levels,
        scale=manifest.scale,
        height=24,
        width=30,
        **options,
    )
    levels = {level: np.float32(0.9) * np.tile(array, (1, 3, 3)) for level, array in noise.items()}
    size = {"height": 3 * 24 * manifest.scale, "width": 3 * 30 * manifest.scale}
    latents = Latents(levels, model_sha256=manifest.digest, **size)
    whole = flow.encode(np.tile(texture, (3, 3, 1))).decode(latents)
    picture = flow.upscale(texture, wrap="xy", tau=0.9, **options)
    height, width = picture.shape[:2]
    assert difference(picture, whole[height : 2 * height, width : 2 * width]) < 1


def test_one_direction_wraps_alone(upscaler):
    plain, picture = (upscaler.upscale(TEXTURE, tau=0.8, **how) for how in ({}, {"wrap": "x"}))
    middle = slice(56, 64)  # beyond the network's reach from the left and right edges
    assert difference(plain[:, middle], picture[:, middle]) < 0.1
    assert difference(plain, picture) > 1


@pytest.mark.parametrize("size", [(23, 29), (1, 3)])
def test_sides_that_are_no_whole_latent_pixels_tile_too(upscaler, size):
    """As two such textures do, but where they fade: those have whole latent pixels."""
    texture = TEXTURE[: size[0], : size[1]]
    picture = upscaler.upscale(texture, wrap="xy", tau=0)
    twice = upscaler.upscale(np.tile(texture, (2, 2, 1)), wrap="xy", tau=0)
    inside = tuple(slice(0, max(4 * side - 16, 1)) for side in size)
    assert picture.shape == (4 * size[0], 4 * size[1], 3)
    assert difference(picture[inside], twice[inside]) < 1


def test_the_last_pixels_fade_into_what_was_drawn_before_the_first():
    whole = np.tile(np.linspace(0, 1, 100, dtype=np.float32)[:, None, None], (1, 10, 1))
    picture = cut_and_join_edges(whole, (36, 10), (36, 10))  # 4 rows fade
    np.testing.assert_array_equal(picture[:32], whole[32:64])
    shares = (picture[32:] - whole[64:68]) / (whole[28:32] - whole[64:68])
    np.testing.assert_allclose(shares[:, 0, 0], [0.2, 0.4, 0.6, 0.8], rtol=1e-4)


def test_what_cannot_be_wrapped_is_refused(upscaler):
    with pytest.raises(ArgumentError, match="wrap is 'z'; it must be one of x, y, xy"):
        DrawOptions(wrap="z")
    with pytest.raises(
        ArgumentError,
        match="values in a range cannot be wrapped; omit wrap or value_range",
    ):
        DrawOptions(wrap="x", value_range=(0, 9))
    with pytest.raises(ArgumentError, match="frames of clips cannot be wrapped; omit wrap"):
        FrameUpscaler(upscaler, latents="fresh", wrap="xy")
