"""srflow-eval: figures that mean what they say."""

import json
import shutil

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import srflow_evaluation as evaluation
from srflow_evaluation import LevelTaus
from srflow_evaluation.cli import evaluate
from srflow_evaluation.protocols import PROTOCOLS
from srflow_sdk.errors import ArgumentError, CheckpointError
from srflow_training import _vgg16 as vgg16
from srflow_training import figures, save_checkpoint
from srflow_training._noise import runtime_noise
from srflow_training.cli import train
from srflow_training.resampling import enlarge_bicubic, reduce_bicubic, reduce_bilinear, round_to_8_bit
from tests.networks import random_srflow, tiny_config
from tests.sdk.tiny_bundle import write_tiny_bundle
from tests.training.metrics.test_vgg16 import SMALL, small_network, write_pth


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


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_checkpoint(path, random_srflow(tiny_config()))
    return path


@pytest.fixture(scope="module")
def rows(checkpoint, photos):
    return evaluation.report(str(checkpoint), photos, [LevelTaus((0.0,)), LevelTaus((0.8,))])


def test_bicubics_row_is_what_psnr_on_8_bit_values_without_a_border_gives(rows, photos):
    assert [row.method for row in rows] == ["bicubic", "tau 0", "tau 0.8"]
    expected = []
    for crop in evaluation.crops_of(photos):
        lr = round_to_8_bit(reduce_bicubic(crop, 4))
        levels = [np.rint(image.numpy().clip(0, 1) * 255)[..., 4:-4, 4:-4] for image in (enlarge_bicubic(lr, 4), crop)]
        expected.append(10 * np.log10(255**2 / np.mean((levels[0].astype(np.float64) - levels[1]) ** 2)))
    assert rows[0].psnr == pytest.approx(np.mean(expected), abs=1e-3)
    assert rows[0].colour_shift < 1
    assert 0 < rows[0].ssim < 1
    assert rows[0].vgg16_feature_distance is None
    assert rows[1].sample_difference == 0
    assert rows[2].sample_difference > 0


def test_a_model_is_measured_on_the_reduction_it_was_trained_for(photos, tmp_path):
    path = tmp_path / "rrdb.safetensors"
    save_checkpoint(path, random_srflow(tiny_config()).encoder, notes={"reduction": "bilinear"})
    lrs = [round_to_8_bit(reduce_bilinear(crop, 4)) for crop in evaluation.crops_of(photos)]
    expected = [figures.lr_psnr(enlarge_bicubic(lr, 4), lr, reduction="bilinear") for lr in lrs]
    assert evaluation.report(str(path), photos)[0].lr_psnr == pytest.approx(np.mean(expected))
    save_checkpoint(path, random_srflow(tiny_config()).encoder, notes={"reduction": "nearest"})
    with pytest.raises(CheckpointError, match="reduction 'nearest'"):
        evaluation.report(str(path), photos)


def test_values_that_are_not_finite_are_counted_in_all_crops_together(photos, tmp_path):
    model = random_srflow(tiny_config())
    model.encoder.conv_last.bias.data[0] = float("nan")
    save_checkpoint(tmp_path / "broken.safetensors", model.encoder)
    rows = evaluation.report(str(tmp_path / "broken.safetensors"), photos, [])
    assert [row.nonfinite for row in rows] == [0, 2 * 256 * 256]


def test_every_level_can_have_its_own_temperature(checkpoint, photos):
    tau = LevelTaus.parse("0.9:0.5:0")
    model = random_srflow(tiny_config())
    lr = round_to_8_bit(reduce_bicubic(evaluation.crops_of(photos)[0], 4))
    noise = runtime_noise(model, lr, seed=1)
    with torch.no_grad():
        expected = model.decode(lr, {1: 0.9 * noise[1], 2: 0.5 * noise[2], 3: 0 * noise[3]})
        found = evaluation.open_subject(str(checkpoint)).condition(lr)(tau, 1)
    torch.testing.assert_close(found, expected)
    assert str(tau) == "0.9:0.5:0"


@pytest.mark.parametrize("text", ["", "warm", "0.8:", "2.5", "-1", "nan", "0.8,0.7"])
def test_temperatures_are_numbers_from_0_to_2(text):
    with pytest.raises(ArgumentError, match="0 to 2"):
        LevelTaus.parse(text)


def test_temperatures_that_the_model_cannot_take_are_refused_before_anything_is_computed(checkpoint, photos):
    with pytest.raises(ArgumentError, match="3 levels"):
        evaluation.report(str(checkpoint), photos, [LevelTaus((0.9, 0.8))])
    bundle = CliRunner().invoke(evaluate, ["report", "--hr", str(photos), "--tau", "0.9:0.8:0.7"])
    assert bundle.exit_code == 1
    assert bundle.output == (
        "error: tau 0.9:0.8:0.7: a bundle takes one tau for all levels: give one, or name a checkpoint\n"
    )


@pytest.mark.parametrize("unshuffle", [1, 4])
def test_an_rrdb_has_one_image_and_no_temperature(photos, tmp_path, unshuffle):
    save_checkpoint(tmp_path / "rrdb.safetensors", random_srflow(tiny_config(unshuffle=unshuffle)).encoder)
    rows = evaluation.report(str(tmp_path / "rrdb.safetensors"), photos)
    assert [row.method for row in rows] == ["bicubic", "encoder (L1)"]


def test_a_bundles_samples_are_drawn_as_the_sdk_draws_them(photos):
    from srflow_sdk import Upscaler

    lr = round_to_8_bit(reduce_bicubic(evaluation.crops_of(photos)[0][..., :64, :64], 4))
    found = evaluation.open_subject(None).condition(lr)(LevelTaus((0.8,)), 1)
    with Upscaler("x4-small", device="cpu", tile=None) as upscaler:
        expected = upscaler.upscale(lr[0].permute(1, 2, 0).contiguous().numpy(), tau=0.8, seed=1)
    np.testing.assert_array_equal(found[0].permute(1, 2, 0).numpy(), expected)


def test_the_command_without_a_folder_only_prints_a_table(checkpoint, photos, tmp_path):
    arguments = ["report", "--model", str(checkpoint), "--hr", str(photos), "--tau", "0", "--tau", "0.9:0.8:0.7"]
    result = CliRunner().invoke(evaluate, arguments)
    assert result.exit_code == 0, result.output
    heading = (
        "| method | PSNR, dB ↑ | Y-PSNR, dB ↑ | SSIM ↑ | GMSD ↓ | HaarPSI ↑ | LR-PSNR, dB ↑ | "
        "difference of two samples, /255 | colour shift, /255 | not finite |"
    )
    lines = result.stdout.splitlines()
    assert lines[0] == heading
    assert lines[1] == "|---" * 10 + "|"
    assert [line.split(" | ")[0] for line in lines[2:]] == [
        "| bicubic",
        "| τ 0",
        "| τ 0.9:0.8:0.7",
    ]
    empty = CliRunner().invoke(evaluate, ["report", "--hr", str(tmp_path)])
    assert empty.exit_code == 1
    assert "no images found" in empty.output


def test_vgg16_convolutions_add_a_column(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(vgg16, "WIDTHS", SMALL)
    save_checkpoint(tmp_path / "rrdb.safetensors", random_srflow(tiny_config()).encoder)
    write_pth(tmp_path / "vgg16.pth", small_network())
    (tmp_path / "photos").mkdir()
    shutil.copy(photos / "wide.png", tmp_path / "photos")
    arguments = ["report", "--model", str(tmp_path / "rrdb.safetensors"), "--hr", str(tmp_path / "photos")]
    arguments += ["--vgg16", str(tmp_path / "vgg16.pth"), "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(evaluate, arguments)
    assert result.exit_code == 0, result.output
    assert "| HaarPSI ↑ | VGG16 feature distance ↓ | LR-PSNR, dB ↑ |" in result.stdout
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert "vgg16_feature_distance" in summary["metrics"]
    bicubic = summary["rows"][0]["vgg16_feature_distance"]
    features = vgg16.VGG16Features.open(tmp_path / "vgg16.pth")
    crops = evaluation.crops_of(photos)
    images = [round_to_8_bit(enlarge_bicubic(round_to_8_bit(reduce_bicubic(crop, 4)), 4)) for crop in crops]
    distances = [figures.vgg16_distance(features, image, crop) for image, crop in zip(images, crops, strict=True)]
    assert bicubic == pytest.approx(np.mean(distances))
    assert bicubic > 0
    (tmp_path / "vgg16.pth").write_bytes(b"no weights")
    wrong = CliRunner().invoke(evaluate, arguments)
    assert wrong.exit_code == 1
    assert wrong.output.startswith("error: ")
    assert wrong.output.count("\n") == 1
    assert "vgg16.pth" in wrong.output


def test_tau_auto_is_measured_for_bundles_and_refused_for_checkpoints(checkpoint, tmp_path):
    bundle = write_tiny_bundle(tmp_path / "tiny.srflow")
    photos = tmp_path / "photos"
    photos.mkdir()
    half_flat = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    half_flat[128:] = 128
    Image.fromarray(half_flat).save(photos / "half-flat.png")
    taus = [LevelTaus.parse(text) for text in ("auto", "0.8", "0")]
    auto, fixed, smooth = evaluation.report(str(bundle), photos, taus)[-3:]
    assert auto.method == "tau auto"
    assert smooth.sample_difference == 0 < auto.sample_difference < fixed.sample_difference
    with pytest.raises(ArgumentError, match="tau auto is a bundle's"):
        evaluation.report(str(checkpoint), photos, taus)


def test_help_fits_80_columns_and_lists_every_protocol_in_one_line():
    result = CliRunner().invoke(evaluate, ["--help"], prog_name="srflow-eval", terminal_width=80)
    lines = result.output.splitlines()
    assert lines[0] == "Usage: srflow-eval PROTOCOL [OPTIONS]"
    assert [line for line in lines if len(line) > 80] == []
    listed = result.output.split("Protocols:\n")[1].split("\n\n")[0].splitlines()
    assert [line.split()[0] for line in listed] == list(evaluate.commands)
    assert {"report", "default-tau", "calibrate", "coverage", *PROTOCOLS} == set(evaluate.commands)


def test_a_protocols_help_has_its_own_options_under_headings_the_needed_ones_first():
    result = CliRunner().invoke(evaluate, ["transfer", "--help"], prog_name="srflow-eval", terminal_width=80)
    found = [line.split()[0] for line in result.output.splitlines() if line.startswith("  -")]
    assert found[:5] == ["--hr", "--model", "-o,", "--tau", "--source"]
    assert "--normalise" in found
    assert not {"--degradation", "--convention"} & {*found}
    assert "\nOptions that most people need:\n" in result.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--hr", "photos", "report"], "name the protocol first, then --hr"),
        (["resample", "--hr", "photos"], "there is no protocol 'resample': choose one of report, default-tau, "),
        ([], "name a protocol: report, default-tau, "),
        (["samples"], "Missing option '--hr'"),
        (["samples", "--hr", "photos", "--smaples", "2"], "No such option"),
    ],
)
def test_what_no_protocol_takes_is_a_usage_error(arguments, says):
    result = CliRunner().invoke(evaluate, arguments)
    assert (result.exit_code, says in result.output) == (2, True), result.output


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (evaluate, ["{url}"]),
        (evaluate, ["tau-sweep", "--model", "{url}"]),
        (evaluate, ["samples", "--samples", "{url}"]),
        (train, ["--data", ".", "--out", "runs", "{url}"]),
        (train, ["--data", "{url}", "--out", "runs"]),
    ],
)
def test_what_commands_do_not_take_shows_no_secrets_of_urls(command, arguments):
    url = "https://somebody:s3cr3t@h/a?sig=s1gned"
    wrong = CliRunner().invoke(command, [text.format(url=url) for text in arguments])
    assert (wrong.exit_code, "https://h/a" in wrong.output) == (2, True)
    assert not [secret for secret in ("somebody", "s3cr3t", "s1gned") if secret in wrong.output]
