"""best-of-n: the best of more samples is never worse."""

import csv
import json

import pytest

from srflow_evaluation import plots
from srflow_evaluation.best_of_n import best_of_n
from srflow_evaluation.flows import LevelTaus
from srflow_sdk.errors import ArgumentError


def test_the_best_is_that_of_each_picture_and_metric(options, tmp_path):
    table = best_of_n(options(samples=4))
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == "model"]
    assert [row["n"] for row in summary["rows"]] == [1, 2, 3, 4]
    for name, best in (("psnr", max), ("gmsd", min)):
        for n in (1, 3):
            of_pictures = [
                best(float(row[name]) for row in rows if row["picture"] == picture and int(row["sample"]) < n)
                for picture in "abc"
            ]
            assert summary["rows"][n - 1][name] == pytest.approx(sum(of_pictures) / 3)
    for name, metric in summary["metrics"].items():
        figures = [row[name] for row in summary["rows"]]
        assert figures == sorted(figures, reverse=metric["better"] == "lower"), name
    assert summary["rows"][3]["psnr"] > summary["rows"][0]["psnr"]
    assert list(summary["references"]) == ["bicubic"]
    assert "| best of 4 |" in str(table)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "best_of_n.png",
        "results.csv",
        "settings.json",
        "sheet_1_a.png",
        "summary.json",
    }


def test_the_plot_begins_with_a_tick_at_1_and_has_the_scale_of_its_samples_alone(options, monkeypatch):
    saved = []
    monkeypatch.setattr(plots, "save", lambda figure, path, title: saved.append((figure, title)))
    best_of_n(options(samples=3, most=1))
    figure, title = saved[-1]
    assert [axes.get_title().split("\n") for axes in figure.axes] == [
        [heading, "of the sample best by it"] for heading in ("PSNR, dB ↑", "SSIM ↑", "GMSD ↓", "LR-PSNR, dB ↑")
    ]
    assert list(figure.axes[0].get_xticks()) == [1, 2, 3]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["tiny"]
    assert "whole pictures against HR" in title
    best_of_n(options(samples=3, most=1, figure="all"))
    assert [text.get_text() for text in saved[-1][0].legends[0].get_texts()] == ["tiny", "bicubic"]


def test_a_sheet_that_is_missing_is_drawn_again_from_its_picture_alone(options, tmp_path):
    best_of_n(options(samples=2, most=2))
    sheet = (tmp_path / "out" / "sheet_1_a.png").read_bytes()
    (tmp_path / "out" / "sheet_1_a.png").unlink()
    lines = []
    best_of_n(options(samples=2, most=2, progress=lines.append))
    assert lines == ["1 of 2 pictures are already measured", "picture 1 of 1: a"]
    assert (tmp_path / "out" / "sheet_1_a.png").read_bytes() == sheet


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
        best_of_n(options(**changes))
    assert not (tmp_path / "out").exists()
