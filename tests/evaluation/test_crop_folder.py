"""The report's figures by crop: those that it prints, kept in a folder, with a crop of each photograph to compare."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

import srflow_evaluation as evaluation
from srflow_evaluation.crop_folder import MOST_SHOWN, measure_crops
from srflow_evaluation.crop_report import Networks
from srflow_evaluation.flows import LevelTaus
from srflow_evaluation.pictures import Cut, picture_files
from srflow_evaluation.subjects import open_subject
from srflow_sdk.errors import ImageError
from srflow_training._lpips import MISSING

TAUS = [LevelTaus((tau,)) for tau in (0.0, 0.8)]


def write_photo(path, height, width, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 6, width // 6, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(path)


@pytest.fixture
def wide(tmp_path):
    (tmp_path / "photos").mkdir()
    write_photo(tmp_path / "photos" / "wide.png", 300, 600)
    write_photo(tmp_path / "photos" / "small.png", 100, 100)
    return tmp_path / "photos"


@pytest.fixture
def measure(checkpoint, tmp_path):
    def run(photos, *, centre=None, metrics=(), progress=lambda _: None):
        subject, cut = open_subject(str(checkpoint)), Cut(scale=4, multiple=8, centre=centre)
        pictures = picture_files(photos, lr=None, others={}, cut=cut)
        networks = Networks.open(None)
        return measure_crops(
            subject,
            pictures,
            cut,
            TAUS,
            networks=networks,
            metrics=metrics,
            out=tmp_path / "out",
            settings={},
            progress=progress,
        )

    return run


def lines_of(folder):
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_figures_are_those_that_the_printed_report_has(measure, wide, checkpoint, tmp_path):
    found = measure(wide)
    assert found.rows == evaluation.report(str(checkpoint), wide, TAUS)
    assert (found.crops, found.names) == (2, ["wide"])
    lines = lines_of(tmp_path / "out")
    assert [(line["picture"], line["crop"], line["method"]) for line in lines] == [
        ("wide", crop, method) for crop in "12" for method in ("bicubic", "tau 0", "tau 0.8")
    ]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["rows"] == evaluation.to_json(found.rows)
    assert "Gaussian 11×11" in summary["convention"]
    smaller = "1 photograph is smaller than 256×256 pixels and not among these figures."
    assert summary["notes"] == [smaller, MISSING]


def test_the_crop_that_bicubic_renders_worst_is_kept_by_every_method(measure, wide, tmp_path):
    shown = measure(wide).shown[0]
    of_bicubic = [float(line["psnr"]) for line in lines_of(tmp_path / "out") if line["method"] == "bicubic"]
    assert shown.psnr["bicubic"] == min(of_bicubic) < max(of_bicubic)
    crop = evaluation.crops_of(wide)[of_bicubic.index(min(of_bicubic))]
    with Image.open(shown.images["photograph"]) as image:
        np.testing.assert_array_equal(np.asarray(image), np.rint(crop[0].permute(1, 2, 0).numpy() * 255))
    assert list(shown.images) == ["photograph", "bicubic", "tau 0", "tau 0.8"]
    contents = [path.read_bytes() for path in shown.images.values()]
    assert len(set(contents)) == len(contents)


def test_a_photograph_is_measured_again_only_if_its_crop_is_missing(measure, wide, tmp_path):
    first = measure(wide, centre=64)
    image = first.shown[1].images["tau 0.8"]
    content, table = image.read_bytes(), (tmp_path / "out" / "results.csv").read_bytes()
    said = []
    assert measure(wide, centre=64, progress=said.append).rows == first.rows
    assert said == ["2 of 2 pictures are already measured"]
    image.unlink()
    said.clear()
    measure(wide, centre=64, progress=said.append)
    assert said == ["1 of 2 pictures are already measured", "picture 1 of 1: wide"]
    assert image.read_bytes() == content
    assert (tmp_path / "out" / "results.csv").read_bytes() == table


def test_a_small_centre_is_one_smaller_crop(measure, wide, tmp_path):
    found = measure(wide, centre=64)
    assert (found.crops, found.names) == (2, ["small", "wide"])
    with Image.open(found.shown[0].images["bicubic"]) as image:
        assert image.size == (64, 64)
    assert "64×64 crops" in found.notes[0]


def test_of_many_photographs_some_are_shown(measure, tmp_path):
    (tmp_path / "many").mkdir()
    for number in range(MOST_SHOWN + 1):
        write_photo(tmp_path / "many" / f"{number:02}.png", 64, 64, number)
    found = measure(tmp_path / "many", centre=64)
    assert len(found.names) == MOST_SHOWN + 1
    assert len(found.shown) == MOST_SHOWN
    assert len({crop.images["bicubic"].read_bytes() for crop in found.shown}) == MOST_SHOWN


def test_photographs_that_are_all_too_small_are_refused(measure, photos, tmp_path):
    with pytest.raises(ImageError, match=r"no photograph is at least 256×256 pixels: .* --crop"):
        measure(photos)
    assert not (tmp_path / "out").exists()
