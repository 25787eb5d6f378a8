"""ntire21: LR-PSNR and the diversity score of samples, by FLIP or by LPIPS."""

import csv
import json

import pytest
import torch

from srflow_evaluation.flows import LevelTaus
from srflow_evaluation.ntire21 import ntire21
from srflow_evaluation.pictures import Cut, picture_files, read_picture
from srflow_sdk.errors import ArgumentError, MissingExtraError
from srflow_training import figures, load_checkpoint
from srflow_training._lpips import LPIPS
from srflow_training._noise import runtime_noise


def test_figures_are_those_of_the_samples(options, photos, checkpoint, tmp_path):
    table = str(ntire21(options(samples=3)))
    network, cut = load_checkpoint(checkpoint), Cut(scale=4, multiple=8)
    worst, scores, means = [], [], []
    for files in picture_files(photos, lr=None, others={}, cut=cut):
        picture = read_picture(files, cut, "bicubic")
        samples = []
        with torch.no_grad():
            for seed in range(3):
                noise = runtime_noise(network, picture.lr, seed=seed)
                samples.append(network.decode(picture.lr, {level: 0.9 * z for level, z in noise.items()}))
        found = [figures.lr_psnr(sample, picture.lr) for sample in samples]
        worst.append(min(found))
        means.append(sum(found) / 3)
        scores.append(figures.space_diversity([figures.flip_map(sample, picture.hr) for sample in samples]))
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    (row,) = summary["rows"]
    assert row["tau"] == summary["tau"] == 0.9
    assert row["lr_psnr"] == pytest.approx(sum(means) / 3, abs=1e-3)
    assert row["lr_psnr_worst"] == pytest.approx(min(worst), abs=1e-3)
    assert row["diversity_score_flip"] == pytest.approx(sum(scores) / 3, rel=1e-3)
    assert row["diversity_score_flip"] > 1
    assert "| S₃ by FLIP ↑ |" in table
    assert "not comparable with published scores" in table
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "results.csv",
        "settings.json",
        "sheet_1_a.png",
        "summary.json",
    }


def test_the_distance_is_the_spatial_lpips_where_its_weights_are(options, lpips, photos, checkpoint, tmp_path):
    table = str(ntire21(options(samples=2, most=1)))
    assert "| S₂ by LPIPS ↑ |" in table
    assert "FLIP it is not comparable" not in table
    network = LPIPS.open("alex")
    cut = Cut(scale=4, multiple=8)
    picture = read_picture(picture_files(photos, lr=None, others={}, cut=cut)[0], cut, "bicubic")
    model, maps = load_checkpoint(checkpoint), []
    with torch.no_grad():
        for seed in range(2):
            noise = runtime_noise(model, picture.lr, seed=seed)
            image = model.decode(picture.lr, {level: 0.9 * z for level, z in noise.items()})
            maps.append(network.maps(figures.as_shown(image), picture.hr))
    assert maps[0].shape == (1, 1, 64, 72)
    (row,) = json.loads((tmp_path / "out" / "summary.json").read_text())["rows"]
    assert row["diversity_score_lpips"] == pytest.approx(figures.space_diversity(maps), rel=1e-3)


def test_two_runs_are_equal_to_the_byte_and_a_stopped_one_continues(options, tmp_path):
    ntire21(options(out=tmp_path / "one", samples=2))
    ntire21(options(samples=2, most=3))
    (tmp_path / "out" / "sheet_1_a.png").unlink()
    lines = []
    ntire21(options(samples=2, progress=lines.append))
    assert lines == ["2 of 3 pictures are already measured", "picture 1 of 1: a"]
    for name in ("results.csv", "summary.json", "sheet_1_a.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        assert [row["method"] for row in csv.DictReader(file)] == ["bicubic", "model"] * 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": 1}, "at least 2"),
        ({"taus": [LevelTaus((0.0,))]}, "all samples are the same"),
        ({"taus": [LevelTaus((0.5,)), LevelTaus((0.6,))]}, "one temperature"),
    ],
)
def test_samples_that_cannot_be_compared_are_refused(options, changes, message, tmp_path):
    with pytest.raises(ArgumentError, match=message):
        ntire21(options(**changes))
    assert not (tmp_path / "out").exists()


def test_without_any_distance_map_it_says_what_to_install(options, monkeypatch, tmp_path):
    monkeypatch.setattr(figures, "has_flip", lambda: False)
    with pytest.raises(MissingExtraError, match="pip install flip-evaluator"):
        ntire21(options())
    assert not (tmp_path / "out").exists()
