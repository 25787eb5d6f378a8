"""diagnose: what it measures of a checkpoint and of a bundle, what it says, and how it continues."""

import csv
import math

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from srflow_evaluation.cli import evaluate
from srflow_evaluation.diagnose import diagnose
from srflow_evaluation.flows import LevelTaus
from srflow_evaluation.options import Options
from srflow_evaluation.pictures import Cut, picture_files, read_picture
from srflow_sdk.errors import ArgumentError, BundleError
from srflow_sdk.flow.inverting import dequantised
from srflow_training import figures, load_checkpoint, save_checkpoint
from srflow_training.resampling import enlarge_bicubic
from tests.evaluation.outputs import summary_of
from tests.networks import random_srflow, tiny_config
from tests.sdk.tiny_bundle import write_tiny_bundle

FILES = {"calibration.png", "latents.png", "results.csv", "settings.json", "sheet.png", "summary.json"}


def rows_of(folder):
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def pictures(photos):
    cut = Cut(scale=4, multiple=8)
    return [read_picture(files, cut, "bicubic") for files in picture_files(photos, lr=None, others={}, cut=cut)]


@pytest.fixture(scope="module")
def measured(photos, checkpoint, tmp_path_factory):
    """Folder of the three photographs' measurement with four samples; tests only read it."""
    out = tmp_path_factory.mktemp("diagnose") / "out"
    diagnose(Options(models=[str(checkpoint)], hr=photos, out=out, others={}, samples=4))
    return out


def test_latents_and_bits_are_the_networks(measured, photos, checkpoint):
    summary, network = summary_of(measured), load_checkpoint(checkpoint)
    deviations, squares, bits = [], [], {}
    with torch.no_grad():
        for picture in pictures(photos):
            latents, _ = network.encode(picture.hr, picture.lr)
            deviations.append(float(latents[1].std(correction=0)))
            spread = torch.from_numpy(dequantised(picture.hr[0].numpy()))[None]
            bits[picture.name] = figures.bits_per_dimension(network.encode(spread, picture.lr)[1], picture.hr)
            squares.append((spread - (255 * enlarge_bicubic(picture.lr, 4) + 0.5) / 256).double().square().flatten())
    assert [row["level"] for row in summary["rows"]] == [1, 2, 3]
    assert "uniform dequantisation" in summary["convention"]
    assert summary["rows"][0]["deviation"] == pytest.approx(np.mean(deviations), rel=1e-4)
    variance = float(torch.cat(squares).mean())
    assert summary["bicubic"]["deviation"] == pytest.approx(255 * math.sqrt(variance), rel=1e-4)
    for name, square in zip("abc", squares, strict=True):
        assert summary["bits_per_dimension"][name]["flow"] == pytest.approx(bits[name], rel=1e-4)
        density = torch.distributions.Normal(0.0, math.sqrt(variance)).log_prob(square.sqrt().float()).double()
        expected = 8 - float(density.mean()) / math.log(2)
        assert summary["bits_per_dimension"][name]["gaussian"] == pytest.approx(expected, abs=1e-3)
    assert max(trip["max"] for trip in summary["round_trip"].values()) < 0.1
    assert {path.name for path in measured.iterdir()} == FILES


def test_the_laplacian_is_that_of_the_mean_absolute_error(measured, photos):
    errors = {}
    for picture in pictures(photos):
        spread = torch.from_numpy(dequantised(picture.hr[0].numpy()))[None]
        errors[picture.name] = (spread - (255 * enlarge_bicubic(picture.lr, 4) + 0.5) / 256).double().flatten()
    size = float(torch.cat(list(errors.values())).abs().mean())
    for name, error in errors.items():
        density = torch.distributions.Laplace(0.0, size).log_prob(error)
        found = summary_of(measured)["bits_per_dimension"][name]["laplacian"]
        assert found == pytest.approx(8 - float(density.mean()) / math.log(2), abs=1e-3)


@pytest.mark.slow
@pytest.mark.usefixtures("drawn_plots")
def test_a_bundle_is_measured_alike(options, tmp_path):
    table = str(diagnose(options(models=[], samples=4, most=2)))
    summary = summary_of(tmp_path / "out")
    assert summary["model"] == "the embedded model"
    assert [found["tau"] for found in summary["calibration"]] == ["0.8", "1"]
    narrow, wide = (found["deviation"] for found in summary["calibration"])
    assert narrow < wide
    inputs = summary["inputs"]
    assert inputs["shuffled pixels"]["bits_per_dimension"] > inputs["photograph"]["bits_per_dimension"] + 1
    assert inputs["constant"]["deviation"]["1"] < inputs["photograph"]["deviation"]["1"] / 2
    assert inputs["constant"]["outside_deviation"] == 2
    assert inputs["photograph"]["outside_deviation"] == 0
    assert "every 8-bit value comes back" in table
    for name in FILES:
        if name.endswith(".png"):
            with Image.open(tmp_path / "out" / name) as picture:
                assert np.asarray(picture.convert("L")).std() > 1


@pytest.mark.slow
@pytest.mark.usefixtures("drawn_plots")
def test_a_run_that_was_stopped_continues_with_the_same_bytes(options, measured, tmp_path):
    class StopError(Exception):
        pass

    def stop_at_the_second(line):
        if line.startswith("picture 2"):
            raise StopError

    with pytest.raises(StopError):
        diagnose(options(samples=4, progress=stop_at_the_second))
    lines = []
    diagnose(options(samples=4, progress=lines.append))
    assert lines[:2] == ["1 of 3 pictures are already measured", "picture 1 of 2: b"]
    for name in FILES - {"settings.json"}:
        assert (tmp_path / "out" / name).read_bytes() == (measured / name).read_bytes(), name


def test_a_network_whose_latents_are_not_finite_is_called_so(options, tmp_path):
    model = random_srflow(tiny_config())
    model.encoder.conv_first.bias.data[0] = float("nan")
    save_checkpoint(tmp_path / "broken.safetensors", model)
    table = str(diagnose(options(models=[str(tmp_path / "broken.safetensors")], samples=4, most=1)))
    assert "The latents of a are not finite" in table
    assert "photograph (1 not finite)" in table
    summary = summary_of(tmp_path / "out")
    assert summary["photographs_not_finite"] == ["a"]
    assert summary["values_not_finite"] == 2 * 4 * 3 * 64 * 72
    assert summary["bits_per_dimension"]["a"]["flow"] is None
    assert "NaN" not in (tmp_path / "out" / "summary.json").read_text().replace("(NaN or infinite)", "")


def test_a_bundle_without_an_inverter_is_refused_with_what_it_lacks(options, tmp_path):
    bundle = write_tiny_bundle(tmp_path / "tiny.srflow")
    with pytest.raises(BundleError, match=r"has no inverter.*without --no-inverter"):
        diagnose(options(models=[str(bundle)]))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"), [({"samples": 3}, "at least 4"), ({"taus": [LevelTaus((0.0,))]}, "samples are the same")]
)
def test_samples_that_say_nothing_are_refused(options, changes, message, tmp_path):
    with pytest.raises(ArgumentError, match=message):
        diagnose(options(**changes))
    assert not (tmp_path / "out").exists()


def test_the_command_prints_all_tables_and_refuses_what_means_nothing_to_it(photos, checkpoint, tmp_path):
    arguments = ["diagnose", "--model", str(checkpoint), "--hr", str(photos), "--pictures", "1", "--samples", "4"]
    arguments += ["-o", str(tmp_path / "out")]
    result = CliRunner().invoke(evaluate, arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("### Latents\n\n| latents of | mean | deviation |")
    assert "×4, 1 photograph.\n" in result.stdout
    for heading in (
        "### Calibration\n\n| τ | deviation, /255 |",
        "### Round trip\n\n| photograph | mean error, /255 |",
        "### Bits per dimension\n\n| photograph | flow |",
        "### Other inputs\n\n| input |",
    ):
        assert heading in result.stdout
    refused = CliRunner().invoke(evaluate, [*arguments, "--convention", "published"])
    assert refused.exit_code == 1
    assert refused.output.startswith("error: diagnose has no --convention: leave it out, or take one of ")
    assert "transfer" not in refused.output
