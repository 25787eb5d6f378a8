"""Which columns there are: LPIPS after PSNR where its weights are, and those of --metrics."""

import csv
import json

import pytest
from click.testing import CliRunner

import srflow_evaluation as evaluation
from srflow_evaluation.cli import evaluate
from srflow_evaluation.convention import METRICS, Convention, parse_metrics
from srflow_evaluation.damaged import damaged
from srflow_evaluation.flows import LevelTaus
from srflow_evaluation.full_report import full_report
from srflow_evaluation.ntire21 import ntire21
from srflow_evaluation.random_samples import random_samples
from srflow_evaluation.tau_sweep import perception_distortion, tau_sweep
from srflow_sdk.errors import ArgumentError
from srflow_training._lpips import MISSING
from tests.training import lpips_files

TAUS = [LevelTaus((0.8,))]


def columns(folder):
    with (folder / "results.csv").open(newline="") as file:
        return next(csv.reader(file))


def test_lpips_is_the_second_column_where_its_weights_are(options, lpips, tmp_path):
    table = tau_sweep(options(taus=TAUS, samples=2, most=1))
    assert table.headings[:4] == ["method", "PSNR, dB ↑", "LPIPS ↓", "Y-PSNR, dB ↑"]
    assert MISSING not in table.notes
    assert "LPIPS, version 0.1, with AlexNet; " in table.notes[0]
    assert "lpips" in columns(tmp_path / "out")


def test_without_the_weights_a_sentence_says_how_to_get_them(options):
    table = tau_sweep(options(taus=TAUS, samples=2, most=1))
    assert MISSING in table.notes
    assert "python -m srflow_training.lpips_weights" in MISSING
    assert not any("LPIPS" in heading for heading in table.headings)
    assert "LPIPS" not in table.notes[0]


def test_figures_of_other_weights_are_not_continued(options, lpips):
    tau_sweep(options(taus=TAUS, samples=2, most=1))
    lpips_files.write_weights(lpips, "alex", seed=1)
    with pytest.raises(ArgumentError, match=r"different: lpips\)"):
        tau_sweep(options(taus=TAUS, samples=2, most=1))


def test_only_the_metrics_that_are_named_are_measured(options, lpips, tmp_path):
    table = random_samples(options(samples=2, most=1, metrics=("lpips", "psnr")))
    assert table.headings == ["method", "PSNR, dB ↑", "LPIPS ↓", "diversity, /255"]
    assert columns(tmp_path / "out") == [
        "picture",
        "method",
        "tau",
        "psnr",
        "lpips",
        "diversity",
        "variance",
        "nonfinite",
    ]


def test_one_metric_is_enough_and_unnamed_ones_need_no_notes(options, tmp_path):
    table = random_samples(options(samples=2, most=1, metrics=("ssim",)))
    assert table.headings == ["method", "SSIM ↑", "diversity, /255"]
    assert MISSING not in table.notes


def test_damaged_measures_what_is_named_even_what_it_leaves_out_otherwise(options, tmp_path):
    table = damaged(options(samples=None, most=1, centre=64, metrics=("ssim",), degradations=["noise:10"], taus=TAUS))
    assert table.headings == ["method", "SSIM ↑"]


def test_the_crops_of_a_report_have_the_same_choice(checkpoint, photos, tmp_path, lpips, options):
    found = full_report(options(centre=64, most=1, metrics=("lpips", "haarpsi"), taus=TAUS), ["samples"])
    assert found.table.headings[:4] == ["method", "PSNR, dB ↑", "LPIPS ↓", "HaarPSI ↑"]
    assert not found.failed
    named = set(json.loads((tmp_path / "out" / "samples" / "summary.json").read_text())["metrics"])
    assert named == {"lpips", "haarpsi"}


def test_the_printed_report_has_lpips_too(checkpoint, tmp_path, lpips):
    from tests.evaluation.test_crop_folder import write_photo

    write_photo(tmp_path / "a.png", 256, 256)
    lines = []
    rows = evaluation.report(str(checkpoint), tmp_path, TAUS, progress=lines.append)
    assert all(0 < row.lpips < 2 for row in rows)
    assert evaluation.markdown(rows).startswith("| method | PSNR, dB ↑ | LPIPS ↓ | Y-PSNR, dB ↑ | SSIM ↑ |")
    assert lines == ["crop 1 of 1"]
    chosen = evaluation.report(str(checkpoint), tmp_path, TAUS, metrics=("lpips",))
    assert [(row.psnr, row.lpips) for row in chosen] == [(row.psnr, row.lpips) for row in rows]
    assert all(row.ssim is None and row.lr_psnr is None for row in chosen)


def test_names_are_those_of_the_columns(lpips, options):
    convention = Convention(name="default", scale=4, reduction="bicubic")
    there = [metric.name for metric in convention.metrics()]
    assert set(there) < set(METRICS)
    assert there == [name for name in METRICS if name in there]
    (option,) = (option for option in evaluate.commands["report"].params if option.name == "metrics")
    assert f"{', '.join(METRICS)}." in option.help


@pytest.mark.parametrize(
    ("text", "message"), [("psnr,best", "'best'; there are psnr, lpips, y_psnr"), ("", "names ''"), ("psnr,", "''")]
)
def test_unknown_names_are_refused_in_one_line(text, message, photos, checkpoint, tmp_path):
    with pytest.raises(ArgumentError, match=message):
        parse_metrics(text)
    for arguments in (["report"], ["samples", "-o", str(tmp_path / "out")]):
        result = CliRunner().invoke(evaluate, [*arguments, "--hr", str(photos), "--metrics", text])
        assert (result.exit_code, result.output.count("\n")) == (1, 1)
        assert message.replace("\\", "") in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("protocol", "metrics", "message"),
    [
        (random_samples, ("lpips",), r"lpips: it cannot be measured here: its weights are not on this machine: python"),
        (random_samples, ("vgg16_feature_distance",), "it needs --vgg16 FILE"),
        (perception_distortion, ("psnr",), "name both"),
        (perception_distortion, ("ssim", "gmsd"), "name both"),
        (ntire21, ("psnr",), "add lr_psnr"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_written(options, tmp_path, protocol, metrics, message):
    with pytest.raises(ArgumentError, match=message):
        protocol(options(samples=2, metrics=metrics))
    assert not (tmp_path / "out").exists()
