"""MATLAB's bicubic convention, against an independent implementation of it."""

import numpy as np
import pytest
import torch
from PIL import Image

from srflow_training.resampling import enlarge_bicubic, mirror_pad, reduce_bicubic


def pillow_on_a_mirrored_border(channel, scale, *, enlarge=False):
    """Pillow's float bicubic with a symmetric pad of 4·scale pixels, then cropped: within
    1.6e-5/255 of imresize."""
    pad = 4 * scale
    padded = np.pad(channel, pad, mode="symmetric")
    size = [side * scale if enlarge else side // scale for side in padded.shape]
    resized = np.asarray(
        Image.fromarray(padded.astype(np.float32)).resize(size[::-1], Image.Resampling.BICUBIC)
    )
    margin = pad * scale if enlarge else pad // scale
    return resized[margin:-margin, margin:-margin]


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_reduction_is_matlabs_up_to_the_border(scale):
    image = np.random.default_rng(0).random((6 * scale, 9 * scale), dtype=np.float32)
    expected = pillow_on_a_mirrored_border(image, scale)
    actual = reduce_bicubic(torch.from_numpy(image)[None, None], scale)[0, 0].numpy()
    assert np.abs(actual - expected).max() < 1e-4 / 255 * 10


@pytest.mark.parametrize("scale", [4, 8])
def test_enlargement_is_matlabs_up_to_the_border(scale):
    image = np.random.default_rng(0).random((7, 5), dtype=np.float32)
    expected = pillow_on_a_mirrored_border(image, scale, enlarge=True)
    actual = enlarge_bicubic(torch.from_numpy(image)[None, None], scale)[0, 0].numpy()
    assert actual.shape == (7 * scale, 5 * scale)
    assert np.abs(actual - expected).max() < 1e-4 / 255 * 10


def test_padding_wider_than_the_image_goes_on_mirroring():
    image = np.arange(6, dtype=np.float32).reshape(2, 3)
    expected = np.pad(image, 7, mode="symmetric")
    assert np.array_equal(
        mirror_pad(torch.from_numpy(image)[None, None], 7)[0, 0].numpy(), expected
    )
