"""Photographs for the tests of the trainer."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for index, (height, width) in enumerate([(90, 120), (100, 80), (64, 64)]):
        coarse = rng.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
        (folder / str(index)).mkdir()
        Image.fromarray(coarse).resize((width, height)).save(folder / str(index) / f"{index}.png")
    return folder
