"""srflow-eval: figures that mean what they say."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from srflow_training import evaluation, save_checkpoint
from srflow_training.cli import evaluate
from srflow_training.resampling import enlarge_bicubic, reduce_bicubic, round_to_8_bit
from tests.networks import random_srflow, tiny_config


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    coarse = np.random.default_rng(0).integers(0, 256, (40, 80, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((600, 300), Image.Resampling.BICUBIC).save(folder / "wide.png")
    Image.fromarray(coarse).save(folder / "small.png")
    return folder


def test_crops_are_whole_and_do_not_overlap(photos):
    crops = evaluation.crops_of(photos)
    assert [tuple(crop.shape) for crop in crops] == [(1, 3, 256, 256)] * 2
    assert not torch.equal(crops[0], crops[1])


def test_bicubics_row_is_what_psnr_on_8_bit_values_without_a_border_gives(photos, tmp_path):
    save_checkpoint(tmp_path / "tiny.safetensors", random_srflow(tiny_config()))
    rows = evaluation.report(str(tmp_path / "tiny.safetensors"), photos, [0.0, 0.8])
    assert [row.method for row in rows] == ["bicubic", "encoder (L1)", "tau 0", "tau 0.8"]
    expected = []
    for crop in evaluation.crops_of(photos):
        lr = round_to_8_bit(reduce_bicubic(crop, 4))
        levels = [np.rint(image.numpy().clip(0, 1) * 255)[..., 4:-4, 4:-4] for image in (enlarge_bicubic(lr, 4), crop)]
        expected.append(10 * np.log10(255**2 / np.mean((levels[0].astype(np.float64) - levels[1]) ** 2)))
    assert rows[0].psnr == pytest.approx(np.mean(expected), abs=1e-3)
    assert rows[2].diversity == 0
    assert rows[3].diversity > 0


def test_values_that_are_not_finite_are_counted(photos):
    crop = evaluation.crops_of(photos)[0]
    image = crop.clone()
    image[0, 0, 0, :7] = float("nan")
    row = evaluation._row("broken", [image], [crop], [round_to_8_bit(reduce_bicubic(crop, 4))])
    assert row.nonfinite == 7


def test_the_command_prints_a_table_and_writes_json(photos, tmp_path):
    save_checkpoint(tmp_path / "tiny.safetensors", random_srflow(tiny_config()))
    arguments = ["report", "--model", str(tmp_path / "tiny.safetensors"), "--hr", str(photos), "--tau", "0"]
    result = CliRunner().invoke(evaluate, [*arguments, "-o", str(tmp_path / "figures.json")])
    assert result.exit_code == 0, result.output
    assert "| bicubic |" in result.stdout
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures[0]["method"] == "bicubic"
    empty = CliRunner().invoke(evaluate, ["report", "--hr", str(tmp_path)])
    assert empty.exit_code == 1
    assert "no images found" in empty.output
