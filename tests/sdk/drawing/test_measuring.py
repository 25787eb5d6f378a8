from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from srflow_sdk import Upscaler, lr_psnr
from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.files import write_image

from ..pixels.reference import reduced


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("size", [(5, 7), (64, 3), (65, 3), (200, 9)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_it_is_the_psnr_of_the_reduction(size: tuple[int, int], dtype: type) -> None:
    white = 1 if dtype is np.float32 else np.iinfo(dtype).max
    image = (np.random.default_rng(0).random((*size, 3)) * white).astype(dtype)
    answer = (np.random.default_rng(1).random((size[0] * 3, size[1] * 3, 3)) * white).astype(dtype)
    reduction = reduced((answer / np.float32(white)).astype(np.float32), 3)
    error = np.mean((reduction.astype(np.float64) - image / white) ** 2)
    assert lr_psnr(answer, image) == pytest.approx(-10 * np.log10(error), abs=1e-4)


def test_black_pictures_are_infinitely_alike() -> None:
    assert lr_psnr(np.zeros((8, 8), np.uint8), np.zeros((4, 4), np.uint8)) == float("inf")


def test_invisible_pixels_do_not_count() -> None:
    image, answer = noise(6, 8, 4), noise(24, 32, 4)
    image[..., 3] = 255
    image[:3, :, 3] = 0
    other = image.copy()
    other[:3, :, :3] = 255 - other[:3, :, :3]
    assert lr_psnr(answer, image) == lr_psnr(answer, other)
    assert lr_psnr(answer, image) != lr_psnr(answer, image[..., :3])
    image[..., 3] = 0
    assert np.isnan(lr_psnr(answer, image))


def test_paths_and_pil_images_are_taken(tmp_path: Path, upscaler: Upscaler) -> None:
    photo = noise(9, 11, 3)
    write_image(tmp_path / "lr.png", photo)
    answer = upscaler.upscale(photo)
    write_image(tmp_path / "sr.png", answer)
    expected = lr_psnr(answer, photo)
    assert lr_psnr(tmp_path / "sr.png", str(tmp_path / "lr.png")) == expected
    assert lr_psnr(Image.fromarray(answer), Image.fromarray(photo)) == expected


@pytest.mark.parametrize(
    ("answer", "image", "error", "says"),
    [
        (noise(10, 8, 3), noise(4, 4, 3), ImageError, "8×10 pixels does not match an image of 4×4"),
        (noise(8, 12, 3), noise(4, 4, 3), ImageError, "not the same multiple"),
        (noise(2, 2, 3), noise(4, 4, 3), ImageError, "does not match"),
        (noise(8, 8, 3), noise(4, 4, 1), ImageError, "3 colour channels"),
        (noise(4, 4, 3), noise(4, 4, 3), ArgumentError, "scale is 1"),
        ("", noise(4, 4, 3), ArgumentError, "path"),
        (3, noise(4, 4, 3), ImageError, "int"),
    ],
)
def test_what_does_not_belong_together_is_a_typed_error(
    answer: Any, image: np.ndarray, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        lr_psnr(answer, image)
