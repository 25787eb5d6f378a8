"""samples: a sheet of random samples with their deviation, at each scale."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from srflow_evaluation.flows import LevelTaus
from srflow_evaluation.pictures import Cut, picture_files, read_picture
from srflow_evaluation.random_samples import random_samples
from srflow_evaluation.sheets import heat_map
from srflow_evaluation.subjects import open_subject
from srflow_sdk.errors import ArgumentError
from srflow_training import figures, save_checkpoint
from tests.networks import random_srflow, tiny_config

TAU = LevelTaus((0.7,))


@pytest.mark.parametrize("scale", [4, 16])
def test_each_picture_has_the_means_and_the_deviation_of_its_samples(options, photos, tmp_path, scale):
    path = tmp_path / "flow.safetensors"
    save_checkpoint(path, random_srflow(tiny_config(scale=scale)))
    random_samples(options(models=[str(path)], taus=[TAU], samples=3))
    subject = open_subject(str(path))
    cut = Cut(scale=scale, multiple=scale * subject.multiple)
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        rows = {(row["picture"], row["method"]): row for row in csv.DictReader(file)}
    assert len(rows) == 3 * 2
    diversity = []
    for files in picture_files(photos, lr=None, others={}, cut=cut):
        picture = read_picture(files, cut, "bicubic")
        with torch.no_grad():
            drawn = [subject.condition(picture.lr)(TAU, seed) for seed in range(3)]
        levels_8_bit = np.stack([(image[0].clamp(0, 1) * 255).round().numpy() for image in drawn])
        diversity.append(levels_8_bit.std(axis=0, ddof=1).mean() / (np.pi**0.5 / 2))  # c4 of 3 samples
        row = rows[files.name, "model"]
        assert float(row["diversity"]) == pytest.approx(diversity[-1], rel=1e-4)
        psnr = [figures.psnr(image, picture.hr, border=scale) for image in drawn]
        assert float(row["psnr"]) == pytest.approx(np.mean(psnr), abs=1e-4)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["rows"][0]["diversity"] == pytest.approx(np.mean(diversity), rel=1e-4)
    assert list(summary["references"]) == ["bicubic"]
    assert summary["scale"] == scale
    most, least = ("abc"[place] for place in (np.argmax(diversity), np.argmin(diversity)))
    assert f"The samples of {most} differ most" in summary["notes"][-1]
    assert f"those of {least} least" in summary["notes"][-1]


def test_the_first_pictures_have_sheets_with_all_samples(options, tmp_path):
    table = random_samples(options(taus=[TAU], samples=2))
    sheets = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert sheets == ["sheet_1_a.png", "sheet_2_b.png", "sheet_3_c.png"]
    with Image.open(tmp_path / "out" / "sheet_1_a.png") as sheet:
        width, height = sheet.size
    assert width == 4 * (2 * 72 + 6) + 6  # LR, bicubic, HR, deviation
    assert height > 2 * 2 * 64  # and the samples below
    assert "| τ 0.7, mean of 2 samples |" in str(table)


def test_a_missing_sheet_is_drawn_again_and_one_of_another_picture_is_deleted(options, tmp_path):
    out = tmp_path / "out"
    random_samples(options(taus=[TAU], samples=2))
    sheet = (out / "sheet_2_b.png").read_bytes()
    (out / "sheet_2_b.png").rename(out / "sheet_2_z.png")
    lines = []
    random_samples(options(taus=[TAU], samples=2, progress=lines.append))
    assert lines == ["2 of 3 pictures are already measured", "picture 1 of 1: b"]
    assert (out / "sheet_2_b.png").read_bytes() == sheet
    assert not (out / "sheet_2_z.png").exists()


def test_colours_of_a_map_are_dark_for_nothing_and_bright_from_the_top():
    colours = heat_map(torch.tensor([[[[0.0, 5.0, 10.0, 99.0]]]]), 10)[0, :, 0]
    brightness = colours.sum(dim=0)
    assert brightness[0] < 0.05
    assert brightness[0] < brightness[1] < brightness[2] == brightness[3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": 1}, "at least 2"),
        ({"taus": [LevelTaus((0.0,))]}, "all samples are the same"),
        ({"taus": [TAU, LevelTaus((0.6,))]}, "one temperature"),
        ({"models": ["a", "b"]}, "measures one model, not 2"),
    ],
)
def test_samples_that_do_not_differ_are_refused(options, changes, message, tmp_path):
    with pytest.raises(ArgumentError, match=message):
        random_samples(options(**changes))
    assert not (tmp_path / "out").exists()
