"""Sheets, plots and tables."""

import numpy as np
import pytest
import torch
from PIL import Image

from srflow_evaluation.output import choose_place, choose_places, write_sheet


def test_the_most_detailed_places_come_first_and_do_not_overlap():
    torch.manual_seed(0)
    hr = torch.full((1, 3, 128, 264), 0.5)
    hr[..., 64:96, 192:224] = torch.rand(1, 3, 32, 32)
    hr[..., 16:48, 16:48] += 0.2 * torch.rand(1, 3, 32, 32)
    places = choose_places(hr, 3, 32)
    assert places[0] == (slice(64, 96), slice(192, 224))
    assert places[1] == (slice(16, 48), slice(16, 48))
    covered = torch.zeros(128, 264)
    for rows, columns in places:
        covered[rows, columns] += 1
    assert covered.max() == 1
    assert choose_places(hr, 3, 999) == [(slice(0, 128), slice(0, 264))]


def test_rows_show_all_methods_at_each_place_and_lr_images_enlarged(tmp_path):
    hr = torch.zeros(1, 3, 64, 128)
    hr[..., 64:] = 1
    lr = hr[..., ::4, ::4]
    places = [(slice(0, 64), slice(0, 64)), (slice(0, 64), slice(64, 128))]
    write_sheet(tmp_path / "rows.png", "title", [("LR", lr), ("HR", hr)], places)
    pixels = np.asarray(Image.open(tmp_path / "rows.png").convert("L"))
    assert pixels.shape[1] == 2 * (128 + 6) + 6
    first = pixels[40:150]
    second = pixels[40 + 152 : 150 + 152]
    for left in (6, 140):
        assert (first[:, left : left + 128] == 0).all()
        assert (second[:, left : left + 128] == 255).all()


@pytest.mark.parametrize(
    ("sides", "cell"),
    [((256, 200), (256, 200)), ((96, 160), (192, 320)), ((264, 264), (256, 256))],
)
def test_a_sheet_shows_whole_pictures_of_at_most_256_pixels(tmp_path, sides, cell):
    hr = torch.rand(1, 3, *sides)
    write_sheet(tmp_path / "sheet.png", "title", [("LR", hr), ("HR", hr)], [choose_place(hr)])
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == 2 * (cell[1] + 6) + 6
        assert cell[0] < sheet.height < cell[0] + 90
