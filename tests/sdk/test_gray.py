"""Gray in, gray out, also in RGB; and the hues of pictures with little colour."""

import numpy as np
import pytest
from PIL import Image

from srflow_sdk import Upscaler, read_image
from srflow_sdk.drawing.low_resolution import ChromaBounds
from srflow_sdk.drawing.tiles import Window

from .pixels.icc_writer import ADOBE_RGB, gamma_curve, matrix_profile


@pytest.fixture(scope="module")
def up():
    with Upscaler("x4-small", device="cpu", threads=1, tile=16) as upscaler:
        yield upscaler


@pytest.fixture(scope="module")
def gray():
    """24×36×3, of noise and steps."""
    picture = np.random.default_rng(0).normal(90, 25, (24, 36, 1)) + 60 * (np.arange(36) > 20)[None, :, None]
    return np.clip(picture, 0, 255).astype(np.uint8).repeat(3, axis=2)


def of_profile(gray):
    image = Image.fromarray(gray)
    image.info["icc_profile"] = matrix_profile(ADOBE_RGB, gamma_curve(2.2))
    return image


def files(up, gray, folder):
    Image.fromarray(gray).save(folder / "gray.png")
    targets = [folder / "picture.png", folder / "low.png", folder / "high.png"]
    up.upscale_file(folder / "gray.png", targets, interval=0.9)
    return [read_image(target).pixels for target in targets]


DOORS = {
    "array": lambda up, gray, _: up.upscale(gray, tau=1.2),
    "profile": lambda up, gray, _: up.upscale(of_profile(gray)),
    "float": lambda up, gray, _: up.upscale(gray / np.float32(255), scale=1.7, linear_light=True),
    "consistent": lambda up, gray, _: up.upscale(gray.astype(np.uint16) * 257, consistent=True),
    "samples": lambda up, gray, _: up.encode(gray).samples(2),
    "mean": lambda up, gray, _: up.encode(gray).mean(2),
    "std": lambda up, gray, _: up.encode(gray).std(2),
    "files": files,
    "restore": lambda up, gray, _: up.restore(gray, over="spatial", tau=0.5),
    "transfer": lambda up, gray, _: up.transfer(gray, gray[::-1].copy(), gray[..., 0] > 100, blend="none"),
}


@pytest.mark.parametrize("door", DOORS)
def test_a_gray_picture_comes_back_gray(up, gray, tmp_path, door):
    answers = DOORS[door](up, gray, tmp_path)
    for answer in answers if isinstance(answers, list) else [answers]:
        assert np.ptp(np.asarray(answer, np.float64), axis=2).max() == 0


def test_a_picture_of_one_hue_keeps_it_and_tiles_do_not_show(up, gray):
    sepia = np.clip(gray * 0.6 + (48, 40, 26), 0, 255).astype(np.uint8)
    with Upscaler("x4-small", device="cpu", threads=1, tile=None) as whole:
        drawn = whole.upscale(sepia, tau=1.2)
    assert np.abs(up.upscale(sepia, tau=1.2).astype(int) - drawn).max() <= 1
    luma = drawn @ [0.299, 0.587, 0.114]
    red, blue = ((drawn[..., channel] - luma)[(luma > 40) & (luma < 215)] for channel in (0, 2))  # none is clipped
    assert red.min() > -1
    assert blue.max() < -6


def test_colours_within_those_around_stay_as_they_were_to_the_bit():
    lr = np.random.default_rng(0).random((3, 12, 12), np.float32)
    bounds = ChromaBounds(lr, Window(top=2, left=2, height=8, width=8), 2)
    near = lr[:, 2:10, 2:10].transpose(1, 2, 0).repeat(4, axis=0).repeat(4, axis=1)
    assert bounds.bounded(near) is near
