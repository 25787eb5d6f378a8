"""srflow-eval default-tau: which temperature it chooses, and what it writes."""

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from srflow_evaluation import default_tau
from srflow_evaluation.cli import evaluate
from srflow_evaluation.default_tau import TAUS, Point, choose
from srflow_evaluation.pictures import Cut
from srflow_sdk import Bundle, Upscaler
from tests.sdk.tiny_bundle import write_tiny_bundle


def points(
    lpips_of,
    *,
    kinds=("photographs", "text"),
    lr_psnr=lambda kind, tau, auto: 50.0,
    specks=lambda kind, tau: 0.0,
):
    """The figures of a model that has this LPIPS; bicubic has 0.4."""
    methods = [
        (None, False),
        (0.0, False),
        *((tau, auto) for tau in TAUS[1:] for auto in (False, True)),
    ]
    found = []
    for kind in kinds:
        for tau, auto in methods:
            of = {
                "psnr": 30.0,
                "lpips": 0.4 if tau is None else lpips_of(kind, tau, auto),
                "gmsd": 0.1,
                "haarpsi": 0.2,
            }
            of |= {"lr_psnr": lr_psnr(kind, tau or 0.0, auto), "specks": specks(kind, tau or 0.0)}
            found.append(Point(kind=kind, tau=tau, auto=auto, figures=of))
    return found


def falling_until(best, *, auto_is=0.0):
    """LPIPS that is least at a temperature; auto_is: what auto has more."""
    return lambda kind, tau, auto: 0.15 + 0.1 * abs(tau - best) + (auto_is if auto else 0)


def test_the_temperature_with_the_least_lpips_is_chosen():
    choice = choose(points(falling_until(0.8, auto_is=0.01)))
    assert (choice.tau, choice.auto) == (0.8, False)
    assert "the least LPIPS, 0.1500 on average, where 0 has 0.2300" in choice.reason
    choice = choose(points(falling_until(0.8, auto_is=-0.01)))
    assert (choice.tau, choice.auto) == (0.8, True)


def test_a_kind_on_which_the_lr_image_is_lost_forbids_a_temperature():
    def lr_psnr(kind, tau, auto):
        return 43.9 if kind == "text" and tau > 0.65 and not auto else 46.0

    choice = choose(points(falling_until(0.8, auto_is=0.04), lr_psnr=lr_psnr))
    assert (choice.tau, choice.auto) == (0.6, False)
    choice = choose(points(falling_until(0.8, auto_is=0.01), lr_psnr=lr_psnr))
    assert (choice.tau, choice.auto) == (0.8, True)
    # of a model that is nowhere so consistent, nobody can ask for it, but for what it keeps at 0,
    # or nearly
    for at_zero, slope, expected in ((31.0, 2.4, 0.8), (31.0, 3.6, 0.5), (45.1, 3.6, 0.5)):
        falling = points(
            falling_until(0.8, auto_is=0.01),
            lr_psnr=lambda kind, tau, auto, start=at_zero, by=slope: start - by * tau,
        )
        assert choose(falling).tau == expected
    choice = choose(points(falling_until(0.8, auto_is=0.01), lr_psnr=lr_psnr), removes_damage=True)
    assert (choice.tau, choice.auto) == (0.8, False)
    assert "LR-PSNR" not in choice.reason


def test_a_kind_on_which_it_is_worse_than_bicubic_forbids_a_temperature():
    def lpips(kind, tau, auto):
        return (
            0.41
            if kind == "text" and tau > 0.45 and not auto
            else falling_until(0.9, auto_is=0.2)(kind, tau, auto)
        )

    assert choose(points(lpips)).tau == 0.4
    # a difference that nobody sees does not count, nor what the model cannot do at any temperature
    assert (
        choose(points(lambda *point: 0.404 if lpips(*point) == 0.41 else lpips(*point))).tau == 0.4
    )
    assert (
        choose(points(lambda kind, tau, auto: 0.6 - 0.1 * tau if kind == "text" else 0.2)).tau
        == TAUS[-1]
    )


def test_specks_on_one_kind_forbid_a_temperature():
    def specks(kind, tau):
        return 5.5 if kind == "text" and tau > 0.65 else 4.5

    for removes_damage in (False, True):
        choice = choose(points(falling_until(0.9), specks=specks), removes_damage=removes_damage)
        assert (choice.tau, choice.auto) == (0.6, True)  # of equals, auto
    assert "at most 5 specks in 10,000 pixels" in choice.reason
    assert choice.reason.endswith("; tau 0.9 has 0.1500, but was left out: 5.5 specks on text")


def test_a_model_that_only_gets_worse_gets_zero():
    assert choose(points(falling_until(0.0))).tau == 0


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    coarse = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    for kind, image in (("blurred", coarse), ("flat", np.full((16, 16, 3), 200, np.uint8))):
        (folder / kind).mkdir(parents=True)
        Image.fromarray(image).resize((256, 256), Image.Resampling.BICUBIC).save(
            folder / kind / "a.png"
        )
    (folder / "notes").mkdir()
    return folder


def run(*arguments):
    return CliRunner().invoke(evaluate, ["default-tau", *map(str, arguments)])


@pytest.fixture
def two_temperatures(monkeypatch):
    monkeypatch.setattr(default_tau, "TAUS", (0.0, 0.8))
    monkeypatch.setattr(default_tau, "_METHODS", [(0.0, False), (0.8, True), (0.8, False)])


@pytest.mark.usefixtures("lpips", "two_temperatures")
def test_the_command_writes_the_choice_into_the_bundle(tmp_path, pictures):
    bundle = write_tiny_bundle(tmp_path / "m.srflow")
    before = Bundle.open(bundle)
    result = run("--model", bundle, "--hr", pictures)
    assert result.exit_code == 0, result.output
    assert (
        "RGB PSNR in dB, LPIPS, LR-PSNR in dB, specks in 10,000 pixels, GMSD, 1 - HaarPSI;"
        in result.stdout
    )
    assert [line.split(" | ")[0] for line in result.stdout.splitlines()[2:4]] == [
        "| blurred",
        "| flat",
    ]
    after = Bundle.open(bundle)
    assert f"default tau {after.manifest.default_tau:g}" in result.output
    assert after.manifest.provenance["default_tau"] in result.output
    assert after.manifest.files == before.manifest.files
    with Upscaler(after, device="cpu", threads=1) as upscaler:
        image = np.full((16, 16, 3), 90, np.uint8)
        tau = "auto" if after.manifest.auto_tau else after.manifest.default_tau
        np.testing.assert_array_equal(upscaler.upscale(image), upscaler.upscale(image, tau=tau))


@pytest.mark.usefixtures("lpips", "two_temperatures")
def test_another_bundle_or_none_is_written_if_that_is_asked_for(tmp_path, pictures):
    bundle = write_tiny_bundle(tmp_path / "m.srflow")
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    dry = run("--model", bundle, "--hr", pictures, "--crop", 64, "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert f"{bundle}, not changed: default tau " in dry.stdout
    result = run(
        "--model",
        bundle,
        "--hr",
        pictures,
        "--crop",
        64,
        "-o",
        tmp_path / "new" / "n.srflow",
    )
    assert result.exit_code == 0, result.output
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before
    written = Bundle.open(tmp_path / "new" / "n.srflow").manifest
    assert written.provenance["default_tau"] in result.stdout
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["n.srflow"]
    assert dry.stdout.splitlines()[:-1] == result.stdout.splitlines()[:-1]
    assert not written.smoothed
    smoothed = run("--model", bundle, "--hr", pictures, "-o", tmp_path / "s.srflow", "--smoothed")
    assert smoothed.exit_code == 0, smoothed.output
    assert Bundle.open(tmp_path / "s.srflow").manifest.smoothed
    again = run("--model", bundle, "--hr", pictures, "-o", tmp_path / "new" / "n.srflow")
    assert (
        again.output
        == f"error: -o {tmp_path}/new/n.srflow already exists: name another bundle, or delete it\n"
    )


def test_crops_are_centres_as_large_as_asked_for(tmp_path, pictures):
    for centre, shape in ((None, (1, 3, 256, 256)), (64, (1, 3, 64, 64))):
        kinds = default_tau.kinds_in(pictures, Cut(scale=4, multiple=8, centre=centre))
        assert {crop.shape for crops in kinds.values() for crop in crops} == {shape}


def test_without_lpips_or_pictures_the_bundle_is_left_alone(tmp_path, pictures, request):
    bundle = write_tiny_bundle(tmp_path / "m.srflow")
    before = (bundle / "manifest.json").read_bytes()
    result = run("--model", bundle, "--hr", pictures)
    assert result.exit_code == 1
    assert result.output.startswith(
        "error: the default temperature is chosen by LPIPS, whose weights are missing: python"
    )
    request.getfixturevalue("lpips")
    (tmp_path / "empty" / "text").mkdir(parents=True)
    result = run("--model", bundle, "--hr", tmp_path / "empty")
    assert (result.exit_code, "image" in result.output) == (1, True)
    assert (bundle / "manifest.json").read_bytes() == before
