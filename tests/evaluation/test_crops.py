"""The crops of a report: their figures, printed and in a folder, with some to compare."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from srflow_evaluation.cli import evaluate
from srflow_evaluation.crops import crops_of, measure_crops
from srflow_evaluation.metrics import Convention
from srflow_evaluation.models import open_subject
from srflow_evaluation.options import LevelTaus
from srflow_evaluation.pictures import Cut, picture_files
from srflow_sdk.errors import CheckpointError
from srflow_training import save_checkpoint
from srflow_training.resampling import enlarge_bicubic, reduce_bicubic, round_to_8_bit
from srflow_training.validation import runtime_noise
from tests.evaluation.outputs import lines_of, summary_of
from tests.networks import random_srflow, tiny_config
from tests.photos import write_photo
from tests.sdk.tiny_bundle import write_tiny_bundle

TAUS = [LevelTaus((tau,)) for tau in (0.0, 0.8)]
ALWAYS = "difference of two samples, /255 | colour shift, /255 | not finite |"


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_photo(folder / "wide.png", 300, 600)
    write_photo(folder / "small.png", 100, 100)
    return folder


@pytest.fixture
def measure(options, tmp_path):
    def run(photos, *, model=None, centre=None, taus=TAUS, **changes):
        subject = open_subject(str(model)) if model else open_subject(options().model)
        cut = Cut(scale=4, multiple=8, centre=centre)
        chosen = options(taus=taus, **changes)
        return measure_crops(
            subject,
            picture_files(photos, cut=cut),
            cut,
            chosen,
            out=tmp_path / "out",
            settings={},
        )

    return run


def run(*arguments):
    return CliRunner().invoke(evaluate, ["report", *map(str, arguments)])


def test_crops_are_whole_and_do_not_overlap(wide):
    crops = crops_of(wide)
    assert [tuple(crop.shape) for crop in crops] == [(1, 3, 256, 256)] * 2
    assert not torch.equal(crops[0], crops[1])


def test_bicubics_row_is_what_psnr_on_8_bit_values_without_a_border_gives(measure, wide, tmp_path):
    found = measure(wide)
    assert (found.count, found.names) == (2, ["wide"])
    bicubic, smooth, sampled = summary_of(tmp_path / "out")["rows"]
    expected = []
    for crop in crops_of(wide):
        lr = round_to_8_bit(reduce_bicubic(crop, 4))
        levels = [
            np.rint(image.numpy().clip(0, 1) * 255)[..., 4:-4, 4:-4]
            for image in (enlarge_bicubic(lr, 4), crop)
        ]
        expected.append(
            10 * np.log10(255**2 / np.mean((levels[0].astype(np.float64) - levels[1]) ** 2))
        )
    assert bicubic["psnr"] == pytest.approx(np.mean(expected), abs=1e-3)
    assert bicubic["colour_shift"] < 1
    assert 0 < bicubic["ssim"] < 1
    assert "ms_ssim" not in bicubic
    assert smooth["sample_difference"] == 0 < sampled["sample_difference"]
    lines = lines_of(tmp_path / "out")
    assert [(line["picture"], line["crop"], line["method"]) for line in lines] == [
        ("wide", crop, method) for crop in "12" for method in ("bicubic", "tau 0", "tau 0.8")
    ]
    shown = found.shown[0]
    of_bicubic = [float(line["psnr"]) for line in lines_of(tmp_path / "out", method="bicubic")]
    assert shown.psnr["bicubic"] == min(of_bicubic) < max(of_bicubic)
    crop = crops_of(wide)[of_bicubic.index(min(of_bicubic))]
    with Image.open(shown.images["photograph"]) as image:
        np.testing.assert_array_equal(
            np.asarray(image), np.rint(crop[0].permute(1, 2, 0).numpy() * 255)
        )
    assert list(shown.images) == ["photograph", "bicubic", "tau 0", "tau 0.8"]
    assert len({path.read_bytes() for path in shown.images.values()}) == 4


def test_an_encoder_has_a_row_and_a_reduction_of_a_newer_version_is_refused(
    measure, photos, tmp_path
):
    path = tmp_path / "rrdb.safetensors"
    encoder = random_srflow(tiny_config()).encoder
    save_checkpoint(path, encoder)
    assert [row[0] for row in measure(photos, model=path, centre=64).table.rows] == [
        "bicubic",
        "encoder (L1)",
    ]
    save_checkpoint(path, encoder, notes={"reduction": "nearest"})
    with pytest.raises(CheckpointError, match="reduction 'nearest'"):
        open_subject(str(path))


def test_every_level_can_have_its_own_temperature(checkpoint):
    tau = LevelTaus.parse("0.9:0.5:0")
    model = random_srflow(tiny_config())
    lr = torch.rand(1, 3, 16, 16)
    noise = runtime_noise(model, lr, seed=1)
    with torch.no_grad():
        expected = model.decode(lr, {1: 0.9 * noise[1], 2: 0.5 * noise[2], 3: 0 * noise[3]})
        found = open_subject(str(checkpoint)).sampler(lr)(tau, 1)
    torch.testing.assert_close(found, expected)
    assert str(tau) == "0.9:0.5:0"


def test_the_command_without_a_folder_only_prints_a_table(checkpoint, wide, tmp_path):
    result = run("--model", checkpoint, "--hr", wide, "--tau", "0", "--tau", "0.9:0.8:0.7")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    headings = [
        metric.heading
        for metric in Convention(scale=4).metrics()
        if metric.name not in ("ms_ssim", "flip")
    ]
    assert lines[0] == " | ".join(["| method", *headings, ALWAYS])
    assert lines[1] == "|---" * (len(headings) + 4) + "|"
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| bicubic", "| τ 0", "| τ 0.9:0.8:0.7"]
    empty = run("--hr", tmp_path)
    assert (empty.exit_code, "no images found" in empty.output) == (1, True)
    assert "has 3 levels" not in run("--hr", tmp_path, "--tau", "0.9:0.8").output


def test_tau_auto_is_measured_for_bundles(measure, tmp_path):
    (tmp_path / "photos").mkdir()
    half_flat = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    half_flat[32:] = 128
    Image.fromarray(half_flat).save(tmp_path / "photos" / "half-flat.png")
    taus = [LevelTaus.parse(text) for text in ("auto", "0.8", "0")]
    measure(
        tmp_path / "photos",
        model=write_tiny_bundle(tmp_path / "tiny.srflow"),
        centre=64,
        taus=taus,
    )
    auto, fixed, smooth = (
        row["sample_difference"] for row in summary_of(tmp_path / "out")["rows"][-3:]
    )
    assert smooth == 0 < auto < fixed


def test_a_photograph_is_measured_again_only_if_its_crop_is_missing(measure, wide, tmp_path):
    first = measure(wide, centre=64)
    assert (first.count, first.names) == (2, ["small", "wide"])
    assert "64×64 crops" in first.table.notes[0]
    image = first.shown[1].images["tau 0.8"]
    content = image.read_bytes()
    table = (tmp_path / "out" / "results.csv").read_bytes()
    said = []
    assert measure(wide, centre=64, progress=said.append).table == first.table
    assert said == ["2 of 2 pictures are already measured"]
    image.unlink()
    said.clear()
    measure(wide, centre=64, progress=said.append)
    assert said == ["1 of 2 pictures are already measured", "picture 1 of 1: wide"]
    assert image.read_bytes() == content
    assert (tmp_path / "out" / "results.csv").read_bytes() == table
