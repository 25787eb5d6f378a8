"""The protocols that draw samples: over the temperature, the best of n, all of them, models side by
side."""

import importlib
from itertools import combinations

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from srflow_evaluation import output
from srflow_evaluation.models import open_subject
from srflow_evaluation.options import LevelTaus, Options
from srflow_evaluation.sampling import best_of_n, ntire21, random_samples, tau_sweep
from srflow_sdk.errors import ArgumentError
from srflow_training import figures, load_checkpoint, save_checkpoint
from srflow_training.lpips import LPIPS
from tests.evaluation.outputs import (
    drawn_in,
    lines_of,
    pictures_of,
    rows_of,
    samples_by,
    summary_of,
)
from tests.networks import random_srflow, tiny_config

TAUS = [LevelTaus((tau,)) for tau in (0.0, 0.8)]
FEW = ("psnr", "ssim", "gmsd", "lr_psnr")


@pytest.fixture(scope="module")
def swept(photos, checkpoint, tmp_path_factory):
    """Folder of the three photographs, measured at TAUS with two samples.

    Tests only read it, or copy it.
    """
    out = tmp_path_factory.mktemp("swept") / "out"
    tau_sweep(
        Options(models=[str(checkpoint)], hr=photos, output=out, taus=TAUS, samples=2, metrics=FEW)
    )
    return out


def test_figures_are_means_over_samples_and_pictures(swept, photos, checkpoint):
    psnr = []
    diversity = []
    variance = []
    for picture in pictures_of(photos):
        samples = samples_by(load_checkpoint(checkpoint), picture.lr, 0.8, 2)
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
    assert len(lines_of(swept)) == 3 * 3
    for name in ("tau_sweep.png", "sheet_1_a.png"):
        with Image.open(swept / name) as picture:
            assert np.asarray(picture.convert("L")).std() > 1


def test_methods_that_do_not_fit_are_refused(options, tmp_path):
    save_checkpoint(
        tmp_path / "x8.safetensors", random_srflow(tiny_config(scale=8, levels=4)).encoder
    )
    save_checkpoint(tmp_path / "rrdb.safetensors", random_srflow(tiny_config()).encoder)
    with pytest.raises(ArgumentError, match="enlarges ×8, the model ×4"):
        tau_sweep(options(references=[tmp_path / "x8.safetensors"]))
    with pytest.raises(ArgumentError, match="two methods are called rrdb"):
        tau_sweep(options(references=[tmp_path / "rrdb.safetensors"] * 2))
    with pytest.raises(ArgumentError, match="is an RRDB"):
        tau_sweep(options(models=[str(tmp_path / "rrdb.safetensors")]))
    assert not (tmp_path / "out").exists()


def test_several_models_are_curves_of_one_plot(options, checkpoint, tmp_path, monkeypatch):
    other = tmp_path / "other.safetensors"
    save_checkpoint(other, random_srflow(tiny_config(), seed=1))
    drawn = {}
    module = importlib.import_module("srflow_evaluation.sampling")
    monkeypatch.setattr(
        module,
        "write_plot",
        lambda path, title, panels: drawn.update({path.stem: panels[0].curves}),
    )
    table = tau_sweep(options(models=[str(checkpoint), str(other)], taus=TAUS, samples=2, most=1))
    assert (
        list(drawn["tau_sweep"])
        == list(plane := drawn["perception_distortion"])
        == ["tiny", "other"]
    )
    assert [[caption for _, _, caption in points] for points in plane.values()] == [
        ["τ 0", "τ 0.8"]
    ] * 2
    assert plane["tiny"][1][0] != plane["other"][1][0]
    assert [row[0] for row in table.rows[1:]] == [
        "tiny, τ 0",
        "tiny, τ 0.8",
        "other, τ 0",
        "other, τ 0.8",
    ]


@pytest.fixture
def figure_of(monkeypatch):
    """The figure that was to be saved last under a name."""
    saved = {}
    monkeypatch.setattr(output, "save", lambda figure, path: saved.update({path.stem: figure}))
    return saved.pop


def shown_in(figure):
    """Titles of the panels that are seen, and the names in the legend."""
    titles = [axes.get_title() for axes in figure.axes if axes.get_visible()]
    return titles, [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_a_plot_over_the_temperature_has_the_publications_panels_and_no_bicubic(
    options, tmp_path, figure_of
):
    reference = tmp_path / "reference.safetensors"
    save_checkpoint(reference, random_srflow(tiny_config(), seed=3).encoder)
    chosen = {"taus": TAUS, "samples": 2, "most": 1, "references": [reference], "metrics": ()}
    tau_sweep(options(**chosen))
    panels = ["PSNR, dB ↑", "SSIM ↑", "GMSD ↓", "diversity: variance, /255²"]
    assert shown_in(figure_of("tau_sweep")) == (panels, ["tiny", "reference"])
    assert shown_in(figure_of("perception_distortion"))[1] == ["tiny", "reference"]
    tau_sweep(options(**{**chosen, "metrics": ("haarpsi", "gmsd")}, out=tmp_path / "named"))
    assert shown_in(figure_of("tau_sweep"))[0] == [
        "GMSD ↓",
        "diversity: variance, /255²",
        "HaarPSI ↑",
    ]
    assert figure_of("perception_distortion", None) is None, "it is a metric over PSNR"


def test_the_best_of_n_stands_beside_a_line_of_each_other_method_in_each_panel(
    options, tmp_path, figure_of
):
    reference = tmp_path / "ESRGAN.safetensors"
    save_checkpoint(reference, random_srflow(tiny_config(), seed=3).encoder)
    best_of_n(options(samples=2, most=1, references=[reference]))
    means = summary_of(tmp_path / "out")["references"]["ESRGAN"]
    figure = figure_of("best_of_n")
    assert shown_in(figure)[1] == ["tiny", "ESRGAN"], "bicubic would flatten the curves"
    levels = [
        line.get_ydata()[0]
        for axes in figure.axes
        for line in axes.lines
        if line.get_label() == "ESRGAN"
    ]
    assert levels == [means[name] for name in FEW]


@pytest.mark.parametrize("count", [2, 9, 30])
def test_captions_of_points_cover_neither_each_other_nor_a_point(tmp_path, figure_of, count):
    path = tmp_path / "plane.png"
    curves = {
        name: [
            (28 - 2.5 * at**2 + more, 0.4 - 0.2 * at + 0.08 * at**3, f"τ {at:.2f}")
            for at in np.linspace(0, 1, count)
        ]
        for name, more in {"one": 0.0, "two": 0.05}.items()
    }
    output.write_plot(
        path,
        "title",
        [output.Panel("", "PSNR", "LPIPS", curves=curves, points={"RRDB": (29, 0.25)})],
    )
    figure = figure_of("plane")
    figure.draw_without_rendering()
    (axes,) = figure.axes
    captions = [caption for caption in axes.texts if caption.get_visible()]
    boxes = [Text.get_window_extent(caption) for caption in captions]
    assert len(boxes) > 1.5 * count
    assert not [1 for one, other in combinations(boxes, 2) if one.overlaps(other)]
    points = [axes.transData.transform(point) for line in axes.lines for point in line.get_xydata()]
    assert not [1 for box in boxes for point in points if box.contains(*point)]
    assert all(axes.bbox.contains(*corner) for box in boxes for corner in (box.min, box.max))


def test_values_that_are_not_finite_are_counted_and_said(options, tmp_path):
    model = random_srflow(tiny_config())
    model.encoder.conv_first.bias.data[0] = float("nan")
    save_checkpoint(tmp_path / "broken.safetensors", model)
    table = tau_sweep(
        options(models=[str(tmp_path / "broken.safetensors")], taus=TAUS[1:], samples=2, most=1)
    )
    broken = 2 * 3 * 64 * 72  # every value of both samples
    expected = (
        f"{broken} values of pictures are not finite (NaN or infinite): they are measured as black."
    )
    assert expected in str(table)
    assert summary_of(tmp_path / "out")["notes"][0] == expected
    assert np.isfinite(summary_of(tmp_path / "out")["rows"][0]["psnr"])


def test_the_best_is_that_of_each_picture_and_metric(options, tmp_path):
    table = best_of_n(options(samples=4))
    summary = summary_of(tmp_path / "out")
    rows = lines_of(tmp_path / "out", method="model")
    assert [row["n"] for row in summary["rows"]] == [1, 2, 3, 4]
    for name, best in (("psnr", max), ("gmsd", min)):
        for n in (1, 3):
            of_pictures = [
                best(
                    float(row[name])
                    for row in rows
                    if row["picture"] == picture and int(row["sample"]) < n
                )
                for picture in "abc"
            ]
            assert summary["rows"][n - 1][name] == pytest.approx(sum(of_pictures) / 3)
    for name, metric in summary["metrics"].items():
        figures = [row[name] for row in summary["rows"]]
        assert figures == sorted(figures, reverse=metric["better"] == "lower"), name
    assert summary["rows"][3]["psnr"] > summary["rows"][0]["psnr"]
    assert list(summary["references"]) == ["bicubic"]
    assert "| best of 4 |" in str(table)
    assert drawn_in(tmp_path / "out") == {"best_of_n.png", "sheet_1_a.png"}


TAU = LevelTaus((0.7,))


@pytest.mark.parametrize("scale", [4, 16])
def test_each_picture_has_the_means_and_the_deviation_of_its_samples(
    options,
    photos,
    tmp_path,
    scale,
):
    path = tmp_path / "flow.safetensors"
    save_checkpoint(path, random_srflow(tiny_config(scale=scale)))
    random_samples(options(models=[str(path)], taus=[TAU], samples=3))
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 3 * 2
    diversity = []
    for picture in pictures_of(photos, scale, scale * open_subject(str(path)).multiple):
        drawn = samples_by(load_checkpoint(path), picture.lr, 0.7, 3)
        levels_8_bit = np.stack([(image[0].clamp(0, 1) * 255).round().numpy() for image in drawn])
        # c4 of 3 samples
        diversity.append(levels_8_bit.std(axis=0, ddof=1).mean() / (np.pi**0.5 / 2))
        row = rows[picture.name, "model"]
        assert float(row["diversity"]) == pytest.approx(diversity[-1], rel=1e-4)
        psnr = [figures.psnr(image, picture.hr, border=scale) for image in drawn]
        assert float(row["psnr"]) == pytest.approx(np.mean(psnr), abs=1e-4)
    summary = summary_of(tmp_path / "out")
    assert summary["rows"][0]["diversity"] == pytest.approx(np.mean(diversity), rel=1e-4)
    assert list(summary["references"]) == ["bicubic"]
    assert summary["scale"] == scale
    most, least = ("abc"[place] for place in (np.argmax(diversity), np.argmin(diversity)))
    assert f"The samples of {most} differ most" in summary["notes"][-1]
    assert f"those of {least} least" in summary["notes"][-1]


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


@pytest.mark.parametrize("distance", ["flip", "lpips"])
def test_ntire21_is_of_all_samples_by_the_spatial_lpips_or_flip(
    options,
    photos,
    checkpoint,
    tmp_path,
    request,
    distance,
):
    if distance == "lpips":
        request.getfixturevalue("lpips")
        network = LPIPS.open("alex")
    table = str(ntire21(options(samples=3)))
    worst = []
    scores = []
    means = []
    for picture in pictures_of(photos):
        samples = samples_by(load_checkpoint(checkpoint), picture.lr, 0.9, 3)
        lr_psnrs = [figures.lr_psnr(sample, picture.lr) for sample in samples]
        worst.append(min(lr_psnrs))
        means.append(sum(lr_psnrs) / 3)
        if distance == "flip":
            maps = [figures.flip_map(sample, picture.hr) for sample in samples]
        else:
            maps = [network.maps(figures.as_shown(sample), picture.hr) for sample in samples]
        scores.append(figures.space_diversity(maps))
    summary = summary_of(tmp_path / "out")
    (row,) = summary["rows"]
    assert row["tau"] == summary["tau"] == 0.9
    assert row["lr_psnr"] == pytest.approx(sum(means) / 3, abs=1e-3)
    assert row["lr_psnr_worst"] == pytest.approx(min(worst), abs=1e-3)
    assert row[f"diversity_score_{distance}"] == pytest.approx(sum(scores) / 3, rel=1e-3)
    assert row[f"diversity_score_{distance}"] > 1
    assert f"| S₃ by {distance.upper()} ↑ |" in table
    assert ("not comparable with published scores" in table) == (distance == "flip")
    assert drawn_in(tmp_path / "out") == {"sheet_1_a.png"}
