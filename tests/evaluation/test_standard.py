"""standard: the field's test sets, each with its own HR and LR files, whole, in one table."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from srflow_evaluation.cli import evaluate
from srflow_evaluation.flows import LevelTaus, padded
from srflow_evaluation.standard import standard
from srflow_evaluation.subjects import open_subject
from srflow_training import figures
from srflow_training._lpips import MISSING
from srflow_training.data import read_photo, to_image
from srflow_training.resampling import enlarge_bicubic
from tests.evaluation.outputs import rows_of


@pytest.fixture
def sets(tmp_path):
    """Set14 and Set5 of a picture each, LR sides 17 and 19, which the network (multiple 2) does not take; Kodak's."""
    rng = np.random.default_rng(0)
    for name in ("Set14", "Set5", "Kodak"):
        for part, size in {"HR": (76, 68), "LR": (19, 17)}.items():
            if (name, part) != ("Kodak", "LR"):
                (tmp_path / "sets" / name / part).mkdir(parents=True)
                pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "sets" / name / part / "one.png")
    return tmp_path / "sets"


def picture(path):
    return to_image(read_photo(path))


def test_whole_pictures_are_measured_of_the_sets_own_lr_files_without_a_border(options, sets):
    table = standard(options(hr=sets, models=[], metrics=["y_psnr", "ssim"]))
    assert table.headings == ["method", "Set5 (1)", "Set14 (1)", "Kodak (1)"]
    hr, lr = (picture(sets / "Set5" / part / "one.png") for part in ("HR", "LR"))
    bicubic = enlarge_bicubic(lr, 4)
    expected = f"{figures.y_psnr(bicubic, hr, border=4):.2f} / {figures.ssim(bicubic, hr, border=4):.4f}"
    assert list(table.rows[0][:2]) == ["bicubic", expected]
    assert [row[0] for row in table.rows] == ["bicubic", "the embedded model, τ 0", "the embedded model, τ auto"]


def test_a_checkpoint_gets_an_lr_image_that_is_reflected_to_its_multiple(options, sets, checkpoint, tmp_path):
    subject, tau = open_subject(str(checkpoint)), LevelTaus((0.0,))
    assert subject.multiple == 2
    standard(options(hr=sets / "Set5", taus=[tau], metrics=["y_psnr"]))  # the folder of a set itself
    hr, lr = (picture(sets / "Set5" / part / "one.png") for part in ("HR", "LR"))
    with torch.no_grad():
        image = subject.condition(padded(lr, 2))(tau, 0)[..., :68, :76]
    row = rows_of(tmp_path / "out" / "Set5")["one", "tiny"]
    assert float(row["y_psnr"]) == pytest.approx(figures.y_psnr(image, hr, border=4), abs=1e-6)


def test_another_methods_folder_has_one_for_each_set(options, sets, tmp_path):
    for name in ("Set5", "Set14", "Kodak"):
        (tmp_path / "theirs" / name).mkdir(parents=True)
        Image.open(sets / name / "HR" / "one.png").save(tmp_path / "theirs" / name / "one.png")
    table = standard(options(hr=sets, others={"theirs": tmp_path / "theirs"}, metrics=["y_psnr"]))
    assert list(table.rows[1]) == ["theirs", "100.00", "100.00", "100.00"]


def test_lpips_is_in_the_table_where_its_weights_are(options, sets, lpips):
    table = standard(options(hr=sets / "Set5", models=[], taus=[LevelTaus((0.0,))]))
    assert table.notes[0].startswith("Y-PSNR, dB ↑ / LPIPS ↓, ×4. PSNR of the luma Y")


def test_without_the_weights_of_lpips_a_note_says_how_to_get_them(options, sets, tmp_path, monkeypatch):
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path / "empty"))
    table = standard(options(hr=sets / "Set5", models=[], taus=[LevelTaus((0.0,))]))
    assert table.notes[0].startswith("Y-PSNR, dB ↑, ×4. ")
    assert table.notes[1] == MISSING


def test_a_folder_without_sets_is_refused(photos, checkpoint, tmp_path):
    arguments = ["standard", "--hr", str(photos), "--model", str(checkpoint), "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(evaluate, arguments)
    said = f"error: --hr {photos} has no SET/HR with photographs: make it by benchmarks/standard_sets.py\n"
    assert (result.exit_code, result.output) == (1, said)
