"""srflow-eval default-tau: which temperature it chooses, and what it writes."""

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from srflow_sdk import Bundle, Upscaler
from srflow_training._lpips import MISSING
from srflow_training.cli import evaluate
from srflow_training.default_tau import TAUS, Point, choose, markdown
from tests.sdk.tiny_bundle import write_tiny_bundle
from tests.training import lpips_files


def points(error_of, *, kinds=("photographs", "text"), psnr=lambda kind, tau, auto: 30.0):
    """What a model measures that has these errors; bicubic has 1."""
    methods = [(None, False), (0.0, False), *((tau, auto) for tau in TAUS[1:] for auto in (False, True))]
    return [
        Point(
            kind=kind,
            tau=tau,
            auto=auto,
            psnr=psnr(kind, tau, auto),
            error={"GMSD": 1.0 if tau is None else error_of(kind, tau, auto)},
        )
        for kind in kinds
        for tau, auto in methods
    ]


def test_the_largest_temperature_that_keeps_the_gain_on_every_kind_is_chosen():
    limit = {"photographs": 0.75, "text": 0.45}
    choice = choose(points(lambda kind, tau, auto: 0.5 if tau < limit[kind] else 0.6))
    assert (choice.tau, choice.auto) == (0.4, False)


def test_auto_wins_if_it_allows_a_larger_one():
    limit = {"photographs": 0.75, "text": 0.45}
    choice = choose(points(lambda kind, tau, auto: 0.5 if tau < (0.75 if auto else limit[kind]) else 0.6))
    assert (choice.tau, choice.auto) == (0.7, True)
    assert "up to 0.4" in choice.reason


def test_auto_loses_if_it_is_worse_than_the_same_fixed_temperature():
    def error(kind, tau, auto):
        return 0.52 if auto and kind == "photographs" else 0.6 if tau > 0.65 and kind == "text" and not auto else 0.5

    choice = choose(points(error))
    assert (choice.tau, choice.auto) == (0.6, False)
    assert "worse than 0.9 on photographs" in choice.reason

    def psnr(kind, tau, auto):
        return 29.9 if auto and kind == "photographs" else 30.0

    choice = choose(points(lambda *point: min(error(*point), 0.6 if point[0] == "text" else 0.5), psnr=psnr))
    assert not choice.auto
    assert "on photographs" in choice.reason


def test_content_on_which_the_model_is_no_better_than_bicubic_does_not_count():
    choice = choose(points(lambda kind, tau, auto: 0.95 + tau if kind == "text" else 0.5))
    assert choice.tau == TAUS[-1]


def test_the_table_shows_the_choice_and_the_next_temperature_beside_bicubic():
    choice = choose(points(lambda kind, tau, auto: 0.5 if tau < 0.65 else 0.6 + 0.01 * auto))
    heading, _, *rows = markdown(choice).splitlines()
    assert heading == "| kind | bicubic | tau 0 | tau 0.6 | auto 0.6 | tau 0.7 | auto 0.7 |"
    figures = ["30.00, 1.0000", *["30.00, 0.5000"] * 3, "30.00, 0.6000", "30.00, 0.6100"]
    assert rows == [f"| {kind} | {' | '.join(figures)} |" for kind in ("photographs", "text")]


def test_a_model_that_only_gets_worse_gets_zero():
    assert choose(points(lambda kind, tau, auto: 0.5 + tau)).tau == 0


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    coarse = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    for kind, image in (("blurred", coarse), ("flat", np.full((16, 16, 3), 200, np.uint8))):
        (folder / kind).mkdir(parents=True)
        Image.fromarray(image).resize((256, 256), Image.Resampling.BICUBIC).save(folder / kind / "a.png")
    (folder / "notes").mkdir()
    return folder


def test_the_command_writes_the_choice_into_the_bundle(tmp_path, pictures):
    bundle = write_tiny_bundle(tmp_path / "m.srflow")
    before = Bundle.open(bundle)
    result = CliRunner().invoke(
        evaluate,
        ["default-tau", "--model", str(bundle), "--hr", str(pictures), "-o", str(tmp_path / "figures.json")],
    )
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines()[0] == MISSING
    assert "RGB PSNR in dB, GMSD, 1 - HaarPSI;" in result.stdout
    after = Bundle.open(bundle)
    assert f"default tau {after.manifest.default_tau:g}" in result.output
    assert after.manifest.provenance["default_tau"] in result.output
    assert after.manifest.files == before.manifest.files
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert {point["kind"] for point in figures} == {"blurred", "flat"}
    with Upscaler(after, device="cpu", threads=1) as upscaler:
        image = np.full((16, 16, 3), 90, np.uint8)
        tau = "auto" if after.manifest.auto_tau else after.manifest.default_tau
        np.testing.assert_array_equal(upscaler.upscale(image), upscaler.upscale(image, tau=tau))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name it with --model"),
        (["--model", "m.srflow", "--tau", "0.5"], "leave out --tau"),
        (["--model", "nothing.srflow"], "there is no such bundle"),
    ],
)
def test_wrong_usage_is_one_line(arguments, message, pictures):
    result = CliRunner().invoke(evaluate, ["default-tau", "--hr", str(pictures), *arguments])
    assert result.exit_code == 1
    assert result.output.startswith("error: ")
    assert message in result.output
    assert result.output.count("\n") == 1


def test_lpips_is_the_first_measure_where_its_weights_are(tmp_path, pictures, monkeypatch):
    bundle = write_tiny_bundle(tmp_path / "m.srflow")
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(tmp_path / "cache"))
    lpips_files.write_weights(tmp_path / "cache", "alex")
    folder, figures = pictures / "blurred", tmp_path / "figures.json"
    arguments = ["default-tau", "--model", str(bundle), "--hr", str(folder), "-o", str(figures)]
    result = CliRunner().invoke(evaluate, arguments)
    assert result.exit_code == 0, result.output
    assert MISSING not in result.stderr
    assert "RGB PSNR in dB, LPIPS, GMSD, 1 - HaarPSI;" in result.stdout
    errors = [point["error"] for point in json.loads(figures.read_text())]
    assert all(next(iter(error)) == "LPIPS" for error in errors)
    assert max(error["LPIPS"] for error in errors) > 0


def test_a_temperature_at_which_lpips_alone_loses_the_gain_is_not_chosen():
    found = points(lambda kind, tau, auto: 0.5)
    found = [
        replace(point, error={"LPIPS": 1.0 if point.tau is None else 0.5 if point.tau < 0.55 else 0.6, **point.error})
        for point in found
    ]
    assert choose(found).tau == 0.5


def test_a_folder_without_pictures_leaves_the_bundle_alone(tmp_path):
    bundle = write_tiny_bundle(tmp_path / "m.srflow")
    before = (bundle / "manifest.json").read_bytes()
    (tmp_path / "empty" / "text").mkdir(parents=True)
    result = CliRunner().invoke(evaluate, ["default-tau", "--model", str(bundle), "--hr", str(tmp_path / "empty")])
    assert result.exit_code == 1
    assert "image" in result.output
    assert (bundle / "manifest.json").read_bytes() == before
