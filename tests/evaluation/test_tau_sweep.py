"""tau-sweep and perception-distortion: what they measure, and what they write."""

import csv
import importlib
import itertools
import shutil

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from srflow_evaluation import plots
from srflow_evaluation.best_of_n import best_of_n
from srflow_evaluation.cli import evaluate
from srflow_evaluation.flows import LevelTaus
from srflow_evaluation.options import Options
from srflow_evaluation.pictures import Cut, picture_files, read_picture
from srflow_evaluation.plots import write_plane
from srflow_evaluation.tau_sweep import perception_distortion, tau_sweep
from srflow_sdk.errors import ArgumentError
from srflow_training import figures, load_checkpoint, save_checkpoint
from srflow_training._noise import runtime_noise
from tests.evaluation.outputs import summary_of
from tests.networks import random_srflow, tiny_config

TAUS = [LevelTaus((tau,)) for tau in (0.0, 0.8)]


def rows_of(folder):
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def swept(photos, checkpoint, tmp_path_factory):
    """Folder of the three photographs, measured at TAUS with two samples; tests only read it, or copy it."""
    out = tmp_path_factory.mktemp("swept") / "out"
    tau_sweep(Options(models=[str(checkpoint)], hr=photos, out=out, others={}, taus=TAUS, samples=2))
    return out


def test_figures_are_means_over_samples_and_pictures(swept, photos, checkpoint):
    model, cut = load_checkpoint(checkpoint), Cut(scale=4, multiple=8)
    psnr, diversity, variance = [], [], []
    for files in picture_files(photos, lr=None, others={}, cut=cut):
        picture = read_picture(files, cut, "bicubic")
        with torch.no_grad():
            samples = []
            for seed in range(2):
                noise = runtime_noise(model, picture.lr, seed=seed)
                samples.append(model.decode(picture.lr, {level: 0.8 * z for level, z in noise.items()}))
        psnr += [figures.psnr(sample, picture.hr, border=4) for sample in samples]
        diversity.append(figures.diversity(samples))
        variance.append(figures.variance(samples))
    summary = summary_of(swept)
    smooth, sampled = summary["rows"]
    assert (smooth["tau"], sampled["tau"]) == (0.0, 0.8)
    assert smooth["diversity"] == smooth["variance"] == 0
    assert sampled["psnr"] == pytest.approx(np.mean(psnr), abs=1e-4)
    assert sampled["diversity"] == pytest.approx(np.mean(diversity), rel=1e-4)
    assert sampled["variance"] == pytest.approx(np.mean(variance), rel=1e-4)
    assert list(summary["references"]) == ["bicubic"]
    assert len(rows_of(swept)) == 3 * 3
    for name in ("tau_sweep.png", "sheet_1_a.png"):
        with Image.open(swept / name) as picture:
            assert np.asarray(picture.convert("L")).std() > 1


def test_psnr_falls_and_diversity_rises_with_the_temperature(options, tmp_path):
    taus = [LevelTaus((tau,)) for tau in (0.0, 0.5, 1.0)]
    tau_sweep(options(models=[], taus=taus, samples=2, centre=64))
    summary = summary_of(tmp_path / "out")
    psnr, diversity = ([row[name] for row in summary["rows"]] for name in ("psnr", "diversity"))
    assert psnr == sorted(psnr, reverse=True)
    assert psnr[0] > psnr[-1] + 0.1
    assert diversity == sorted(diversity)
    assert list(summary["references"]) == ["bicubic"]
    assert any("only if --reference names its file" in note for note in summary["notes"])


@pytest.mark.slow
@pytest.mark.usefixtures("drawn_plots")
def test_two_runs_are_equal_to_the_byte(options, swept, tmp_path):
    tau_sweep(options(taus=TAUS, samples=2))
    for name in ("results.csv", "summary.json", "tau_sweep.png", "sheet_1_a.png"):
        assert (tmp_path / "out" / name).read_bytes() == (swept / name).read_bytes(), name


def test_references_and_other_methods_have_their_figures(options, photos, tmp_path):
    save_checkpoint(tmp_path / "gan.safetensors", random_srflow(tiny_config(), seed=3).encoder)
    tau_sweep(
        options(most=1, taus=TAUS[1:], samples=2, references=[tmp_path / "gan.safetensors"], others={"truth": photos})
    )
    found = summary_of(tmp_path / "out")["references"]
    assert list(found) == ["bicubic", "gan", "truth"]
    assert found["truth"]["psnr"] == 100
    assert found["truth"]["gmsd"] == pytest.approx(0, abs=1e-6)


def test_methods_that_do_not_fit_are_refused(options, tmp_path):
    save_checkpoint(tmp_path / "x8.safetensors", random_srflow(tiny_config(scale=8, levels=4)).encoder)
    save_checkpoint(tmp_path / "rrdb.safetensors", random_srflow(tiny_config()).encoder)
    with pytest.raises(ArgumentError, match="enlarges ×8, the model ×4"):
        tau_sweep(options(references=[tmp_path / "x8.safetensors"]))
    with pytest.raises(ArgumentError, match="two methods are called rrdb"):
        tau_sweep(options(references=[tmp_path / "rrdb.safetensors"] * 2))
    with pytest.raises(ArgumentError, match="is an RRDB"):
        tau_sweep(options(models=[str(tmp_path / "rrdb.safetensors")]))
    with pytest.raises(ArgumentError, match="at least 2"):
        tau_sweep(options(samples=1))
    assert not (tmp_path / "out").exists()


def test_results_among_the_photographs_are_refused(options, photos):
    for out in (photos, photos / "out"):
        with pytest.raises(ArgumentError, match="is inside --hr"):
            tau_sweep(options(out=out))
    assert {path.suffix for path in photos.iterdir()} == {".png"}


def test_a_temperature_that_is_named_twice_is_measured_once(options, tmp_path):
    table = tau_sweep(options(taus=[LevelTaus((0.8,)), LevelTaus((0.5,)), LevelTaus((0.8,))], samples=2, most=1))
    assert [row[0] for row in table.rows] == ["bicubic", "τ 0.8", "τ 0.5"]
    assert len((tmp_path / "out" / "results.csv").read_text().splitlines()) == 1 + 3


def test_perception_distortion_uses_what_tau_sweep_measured(options, swept, tmp_path):
    shutil.copytree(swept, tmp_path / "out")
    before = (tmp_path / "out" / "results.csv").read_bytes()
    lines = []
    table = perception_distortion(options(taus=TAUS, samples=2, progress=lines.append))
    assert lines == ["3 of 3 pictures are already measured"]
    assert (tmp_path / "out" / "results.csv").read_bytes() == before
    assert (tmp_path / "out" / "perception_distortion.png").is_file()
    assert summary_of(tmp_path / "out")["protocol"] == "tau-sweep"  # that is what the folder holds
    assert "| τ 0.8 |" in str(table)


@pytest.mark.slow
@pytest.mark.usefixtures("drawn_plots")
def test_several_models_are_curves_of_one_plot(options, checkpoint, tmp_path, monkeypatch):
    other = tmp_path / "other.safetensors"
    save_checkpoint(other, random_srflow(tiny_config(), seed=1))
    drawn = {}
    module = importlib.import_module("srflow_evaluation.tau_sweep")
    monkeypatch.setattr(module, "write_plane", lambda path, title, labels, curves, references: drawn.update(curves))
    table = perception_distortion(options(models=[str(checkpoint), str(other)], taus=TAUS, samples=2, most=1))
    assert list(drawn) == ["tiny", "other"]
    assert [[caption for caption, _, _ in points] for points in drawn.values()] == [["τ 0", "τ 0.8"]] * 2
    assert drawn["tiny"][1][1] != drawn["other"][1][1]
    assert [row[0] for row in table.rows[1:]] == ["tiny, τ 0", "tiny, τ 0.8", "other, τ 0", "other, τ 0.8"]
    monkeypatch.undo()
    tau_sweep(options(models=[str(checkpoint), str(other)], taus=TAUS, samples=2, most=1))
    with Image.open(tmp_path / "out" / "tau_sweep.png") as picture:
        colours = {pixel for _, pixel in picture.convert("RGB").getcolors(1 << 24)}
    assert {(31, 119, 180), (255, 127, 14)} <= colours  # the first two of a plot


@pytest.fixture
def figure_of(monkeypatch):
    """The last figure that was to be saved."""
    saved = []
    monkeypatch.setattr(plots, "save", lambda figure, path, title: saved.append(figure))
    return lambda: saved[-1]


def shown_in(figure):
    """Titles of the panels that are seen, and the names in the legend."""
    titles = [axes.get_title() for axes in figure.axes if axes.get_visible()]
    return titles, [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_a_plot_over_the_temperature_has_the_publications_panels_and_no_bicubic(options, tmp_path, figure_of):
    reference = tmp_path / "reference.safetensors"
    save_checkpoint(reference, random_srflow(tiny_config(), seed=3).encoder)
    chosen = {"taus": TAUS, "samples": 2, "most": 1, "references": [reference]}
    tau_sweep(options(**chosen))
    panels = ["PSNR, dB ↑", "GMSD ↓", "LR-PSNR, dB ↑", "variance, /255²"]
    assert shown_in(figure_of()) == (panels, ["tiny", "reference"])
    perception_distortion(options(**chosen))
    assert shown_in(figure_of())[1] == ["tiny", "reference"]
    tau_sweep(options(figure="all", **chosen))
    titles, names = shown_in(figure_of())
    assert {*panels, "SSIM ↑", "HaarPSI ↑", "diversity, /255"} < {*titles}
    assert names == ["tiny", "bicubic", "reference"]


def test_a_plot_also_has_the_panels_of_metrics_that_are_named(options, figure_of):
    tau_sweep(options(taus=TAUS, samples=2, most=1, metrics=("psnr", "ssim", "haarpsi")))
    assert shown_in(figure_of())[0] == ["PSNR, dB ↑", "SSIM ↑", "HaarPSI ↑", "variance, /255²"]


def test_captions_of_two_models_do_not_overlap(tmp_path, figure_of):
    points = [(f"τ 0.{number}", 20 + number / 10, number / 10) for number in range(5)]
    near = [(caption, x + 0.002, y + 0.002) for caption, x, y in points]
    far = [("far", 40.0, 5.0)]
    write_plane(tmp_path / "plane.png", "", ("x", "y"), {"one": points, "two": near, "far": far}, {})
    figure = figure_of()
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) > 3
    assert not [1 for one, other in itertools.combinations(boxes, 2) if one.overlaps(other)]
    assert {text.get_color() for text in figure.axes[0].texts} >= {"C0", "C2"}


def test_a_sheet_of_several_models_names_all_of_them(options, checkpoint, tmp_path, monkeypatch):
    save_checkpoint(tmp_path / "other.safetensors", random_srflow(tiny_config(), seed=1))
    titles = []
    module = importlib.import_module("srflow_evaluation.tau_sweep")
    monkeypatch.setattr(module, "write_sheet", lambda path, title, *_: titles.append(title))
    models = [str(checkpoint), str(tmp_path / "other.safetensors")]
    tau_sweep(options(models=models, taus=TAUS, samples=2, most=1))
    assert titles == ["a: tiny, other"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sides", "cells"), [((256, 200), (256, 200)), ((96, 160), (192, 320)), ((264, 264), (256, 256))]
)
def test_a_sheet_shows_whole_pictures_of_at_most_256_pixels(options, tmp_path, sides, cells):
    folder = tmp_path / "hr"
    folder.mkdir()
    for name in "ab":
        Image.effect_noise(sides[::-1], 60).convert("RGB").save(folder / f"{name}.png")
    for count in (1, 2):
        tau_sweep(options(hr=folder, taus=TAUS[:1], samples=2, sheets=count))
        assert len(list((tmp_path / "out").glob("sheet_*.png"))) == count
    with Image.open(tmp_path / "out" / "sheet_2_b.png") as sheet:
        assert sheet.width == 4 * (cells[1] + 6) + 6  # LR, bicubic, τ 0, HR
        assert cells[0] < sheet.height < cells[0] + 90


def test_the_command_prints_its_table_with_the_convention(photos, checkpoint, tmp_path):
    arguments = ["tau-sweep", "--model", str(checkpoint), "--hr", str(photos), "--tau", "0.5", "--samples", "2"]
    arguments += ["--pictures", "1", "--convention", "published", "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(evaluate, arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("| method | PSNR, dB ↑ |")
    assert "| τ 0.5 |" in result.stdout
    assert "uniform 7×7" in result.stdout
    assert "uniform 7×7" in summary_of(tmp_path / "out")["convention"]
    assert "picture 1 of 1: a" in result.stderr
    other = CliRunner().invoke(evaluate, [*arguments, "--tau", "0.6"])
    assert other.exit_code == 1
    assert other.output.startswith("error: -o ")
    assert "different: taus" in other.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tau-sweep"], "error: tau-sweep writes a folder of results: name it with -o OUT\n"),
        (["tau-sweep", "-o", "OUT", "--other", "gan"], "error: --other is 'gan'; it must be NAME=DIR"),
        (["report", "--crop", "64"], "error: report takes --crop only with a folder for its page"),
        (["report", "--reference", "x.pth"], "error: report takes --reference only with a folder for its page"),
    ],
)
def test_wrong_options_are_one_line(photos, arguments, message):
    result = CliRunner().invoke(evaluate, [*arguments, "--hr", str(photos)])
    assert result.exit_code == 1
    assert result.output.startswith(message)
    assert result.output.count("\n") == 1


@pytest.mark.parametrize("protocol", [tau_sweep, best_of_n])
def test_values_that_are_not_finite_are_counted_and_said(options, tmp_path, protocol):
    model = random_srflow(tiny_config())
    model.encoder.conv_first.bias.data[0] = float("nan")
    save_checkpoint(tmp_path / "broken.safetensors", model)
    table = protocol(options(models=[str(tmp_path / "broken.safetensors")], taus=TAUS[1:], samples=2, most=1))
    broken = 2 * 3 * 64 * 72  # every value of both samples
    expected = f"{broken} values of pictures are not finite (NaN or infinite): they are measured as black."
    assert expected in str(table)
    assert summary_of(tmp_path / "out")["notes"][0] == expected
    assert np.isfinite(summary_of(tmp_path / "out")["rows"][0]["psnr"])
