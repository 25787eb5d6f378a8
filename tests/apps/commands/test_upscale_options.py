"""srflow-upscale's --scale, --size, --max-size, --interval, --precision and --range.

What they make, what their files say of it, what --resume and --from-output do then, and what they
refuse.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result

from srflow_apps.commands import cli
from srflow_sdk.files import read_image, read_provenance, write_image
from srflow_sdk.upscaler import Upscaler
from tests.sdk.calibrated import INTERVALS, calibrated
from tests.sdk.tiny_bundle import with_manifest, write_tiny_bundle

Run = Callable[..., Result]


@pytest.fixture
def small(folder: Path, photo: np.ndarray) -> np.ndarray:
    """The pixels of small.png, in the folder of photos."""
    write_image(folder / "small.png", photo[:13, :17])
    return photo[:13, :17]


@pytest.fixture(scope="module")
def calibrated_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return calibrated(tiny_bundle, tmp_path_factory.mktemp("calibrated") / "tiny.srflow")


def running(bundle: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """srflow-upscale with a bundle, in the folder of photos."""
    monkeypatch.chdir(folder)
    model = ["--model", str(bundle), "--device", "cpu", "--threads", "1"]
    return lambda *arguments: CliRunner().invoke(cli.upscale, [*arguments, *model])


@pytest.fixture
def run_calibrated(
    calibrated_bundle: Path, folder: Path, small: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> Run:
    return running(calibrated_bundle, folder, monkeypatch)


@pytest.fixture
def run_int8(
    tmp_path_factory: pytest.TempPathFactory, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Run:
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(folder / "cache"))
    bundle = write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "int8.srflow", int8="near")
    return running(bundle, folder, monkeypatch)


@pytest.fixture
def heights(folder: Path) -> str:
    values = (np.indices((12, 15)).sum(axis=0) * 50 - 400).astype(np.int16)
    tifffile.imwrite(folder / "heights.tif", values, photometric="minisblack")
    return "heights.tif"


def made_again(run: Run, name: str, *arguments: str) -> bool:
    """True if --from-output makes a file again to the byte."""
    again = f"again{Path(name).suffix}"
    result = run(*arguments, "--from-output", name, "-o", again)
    assert result.exit_code == 0, result.output
    return Path(again).read_bytes() == Path(name).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        (["--scale", "x1.5"], (92, 68)),
        (["--scale", "4"], (244, 180)),
        (["--size", "100x"], (100, 74)),
        (["--size", "X100"], (136, 100)),
        (["--size", "100×100"], (100, 74)),
        (["--max-size", "99"], (99, 73)),
        (["--max-size", "999"], (244, 180)),
    ],
)
def test_options_set_the_size(run: Run, arguments: list[str], size: tuple[int, int]) -> None:
    result = run("a.png", "-o", "sr.png", *arguments)
    assert (result.exit_code, result.stdout) == (0, "sr.png\n"), result.output
    assert read_image("sr.png").pixels.shape == (size[1], size[0], 3)


def test_a_photo_that_is_too_small_for_the_size_does_not_stop_the_others(
    run: Run, small: np.ndarray
) -> None:
    result = run("small.png", "a.png", "-o", "out", "--size", "200x")
    assert (result.exit_code, result.stdout) == (1, os.path.normpath("out/a.png\n"))
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error")]
    assert "small.png: a width of 200 pixels would be 11.76 times the image's 17×13" in line
    assert not Path("out/small.png").exists()


def test_a_smaller_picture_is_made_again_from_itself_alone(run: Run) -> None:
    run(
        "a.png",
        "-o",
        "sr.png",
        "--size",
        "101x",
        "--reduction",
        "lanczos",
        "--linear-light",
        "--consistent",
    )
    assert made_again(run, "sr.png")
    for option in (["--scale", "2"], ["--size", "9x"], ["--max-size", "9"], ["--linear-light"]):
        result = run("--from-output", "sr.png", "-o", "again.png", *option)
        assert result.exit_code == 2
        assert f"{option[0]} cannot be chosen with --from-output" in " ".join(result.stderr.split())


def test_resume_keeps_pictures_of_this_size_and_makes_others_again(run: Run) -> None:
    def resumed(*arguments: str) -> str:
        return run("a.png", "-o", "out/", "--resume", *arguments).stdout

    for arguments in (
        [],
        ["--scale", "2"],
        ["--scale", "2", "--reduction", "lanczos"],
        ["--size", "100x"],
        ["--max-size", "101", "--linear-light"],
    ):
        assert resumed(*arguments) == os.path.normpath("out/a.png\n"), arguments
        assert resumed(*arguments) == "", arguments
    assert resumed("--size", "101x", "--linear-light") == ""  # the same picture
    run("a.png", "-o", "out/")
    for arguments in (
        ["--scale", "4"],
        ["--size", "244x"],
        ["--max-size", "300"],
        ["--linear-light"],
    ):
        assert resumed(*arguments) == "", arguments


def test_the_scale_can_be_in_names_and_is_in_the_report_and_in_files_that_were_reduced(
    run: Run,
) -> None:
    name = ["--name", "{stem}_x{scale}.png"]
    for arguments, expected in (([], "a_x4"), (["--scale", "1.5"], "a_x1.5")):
        assert run("a.png", "-o", "out", *name, *arguments).stdout == os.path.normpath(
            f"out/{expected}.png\n"
        )
    for size, scale in (
        ("--scale=1.5", 1.5),
        ("--size=99x", {"width": 99, "height": None, "max_side": None}),
    ):
        run("a.png", "-o", "sr.png", "--report", "r.json", size, "--linear-light")
        settings = json.loads(Path("r.json").read_text(encoding="utf-8"))["settings"]
        assert (settings["scale"], settings["reduction"], settings["linear_light"]) == (
            scale,
            "bicubic",
            True,
        )
    run("a.png", "-o", "sr.png", "--scale", "4", "--linear-light")
    assert b"linear_light" not in Path("sr.png").read_bytes()
    assert (made := read_provenance("sr.png")) is not None
    assert made.scale is None


def test_the_bounds_of_an_interval_stand_beside_the_picture_and_are_not_made_again(
    run_calibrated: Run, calibrated_bundle: Path, small: np.ndarray
) -> None:
    result = run_calibrated("small.png", "--interval", "0.9")
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == ["small_x4.png", "small_x4_low.png", "small_x4_high.png"]
    with Upscaler(calibrated_bundle, device="cpu", threads=1) as upscaler:
        expected = upscaler.upscale(small), *upscaler.encode(small).interval(8, coverage=0.9)
    for name, pixels in zip(result.stdout.split(), expected, strict=True):
        np.testing.assert_array_equal(read_image(name).pixels, pixels)
    again = run_calibrated("small.png", "--from-output", "small_x4_low.png", "-o", "again.png")
    assert "small_x4_low.png was made by srflow-upscale --interval; run that again" in again.stderr


def test_resume_makes_intervals_again_that_are_not_whole_or_of_another_coverage(
    run_calibrated: Run, calibrated_bundle: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def done(run: Run, interval: str) -> int:
        result = run(
            "small.png", "-o", "out", "--resume", "--report", "report.json", "--interval", interval
        )
        assert result.exit_code == 0, result.output
        report = json.loads(Path("report.json").read_text("utf-8"))
        assert report["settings"]["interval"] == float(interval)
        assert [one["sample"] for one in report["files"][0]["outputs"]] == [0] * 3
        return int(report["summary"]["done"])

    assert [done(run_calibrated, interval) for interval in ("0.9", "0.9", "0.8")] == [1, 0, 1]
    Path("out/small_high.png").unlink()
    assert done(run_calibrated, "0.8") == 1
    other = dataclasses.replace(INTERVALS, factors=(INTERVALS.factors[0],) * 2)
    changed = with_manifest(calibrated_bundle, folder / "changed.srflow", intervals=other)
    assert done(running(changed, folder, monkeypatch), "0.8") == 1, "after another calibration"


def test_a_model_without_calibration_names_the_command_for_it(run: Run) -> None:
    result = run("a.png", "--interval", "0.9")
    assert result.exit_code == 1
    assert "srflow-eval calibrate" in result.stderr


def test_a_picture_says_what_it_was_computed_in_and_is_made_again_in_that(run_int8: Run) -> None:
    assert run_int8("a.png", "-o", "plain.png").exit_code == 0
    assert run_int8("a.png", "-o", "int8.png", "--precision", "int8").exit_code == 0
    made = [read_provenance(name) for name in ("plain.png", "int8.png")]
    assert [(one.precision, one.device) for one in made if one] == [
        ("bundle", None),
        ("int8", "cpu"),
    ]
    pixels = [read_image(name).pixels for name in ("plain.png", "int8.png")]
    assert not np.array_equal(*pixels)
    for name, expected in zip(("plain.png", "int8.png"), pixels, strict=True):
        made_again(run_int8, name)
        np.testing.assert_array_equal(read_image("again.png").pixels, expected)
    kept = ("a.png", "-o", "int8.png", "--resume")
    assert "0 done, 1 skipped" in run_int8(*kept, "--precision", "int8").stderr
    assert run_int8(*kept).stdout == "int8.png\n"
    assert "would be skipped" not in run_int8(*kept, "--dry-run", "--precision", "int8").stdout


def test_fastest_says_what_it_measured_once(run_int8: Run) -> None:
    first = run_int8("a.png", "-o", "large.png", "--precision", "fastest")
    assert first.exit_code == 0
    assert "measuring what is fastest on this processor" in first.stderr
    assert "measured in" in first.stderr
    assert "warning" not in first.stderr
    assert "measur" not in run_int8("a.png", "-o", "large.png", "--precision", "fastest").stderr


def test_a_precision_that_the_bundle_lacks_is_one_line_and_writes_nothing(run: Run) -> None:
    result = run("a.png", "-o", "new.png", "--precision", "int8")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "--also int8" in result.stderr
    assert not Path("new.png").exists()


def test_a_file_of_numbers_is_enlarged_resumed_and_made_again(run: Run, heights: str) -> None:
    assert "--range 1% 99%" in run(heights, "-o", "out.tif").stderr
    done = run(heights, "--range", "-400", "850", "-o", "out.tif", "--report", "report.json")
    assert done.exit_code == 0, done.stderr
    written = tifffile.imread("out.tif")
    assert (written.shape, written.dtype) == ((48, 60), np.int16)
    assert written.min() < -300
    assert "1 skipped" in run(heights, "--range", "-400", "850", "-o", "out.tif", "--resume").stderr
    assert "skipped" not in run(heights, "--range", "1%", "99%", "-o", "out.tif", "--resume").stderr
    assert made_again(run, "out.tif")
    assert run(heights, "--range", "1%", "99%").stdout == "heights_x4.tif\n", (
        "what nobody named is TIFF"
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--interval", "0.9", "--samples", "2"], "three files; leave out samples"),
        (["--interval", "0.9", "--consistent"], "omit consistent"),
        (["--interval", "0.9", "--scale", "2"], "omit scale"),
        (["--interval", "90"], "coverage is 90; it must be a finite number from 0.5 to 0.9"),
        (
            ["--range", "9", "1"],
            "value_range is ('9', '1'); it must be two numbers, the smaller one",
        ),
        (["--range", "0", "1", "-o", "out.png"], "end its name in .tif"),
        (["--range", "0", "1", "--wrap"], "omit wrap or value_range"),
        (["--wrap=z"], "'z' is not one of 'x', 'y', 'xy'"),
        (["--tau-map", "none.png"], "none.png: there is no such file"),
        (["--tau-map", "a.png", "--resume"], "--resume cannot be chosen with --tau-map"),
    ],
)
def test_what_options_cannot_do_together_is_one_line(
    run_calibrated: Run, arguments: list[str], says: str
) -> None:
    before = sorted(Path().iterdir())
    result = run_calibrated("small.png", *arguments)
    assert result.exit_code in (1, 2)
    assert says in " ".join(result.stderr.split())
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "wrap"), [("--wrap small.png", "xy"), ("--wrap x small.png", "x")]
)
def test_a_texture_is_wrapped_with_or_without_a_direction(
    run: Run, small: np.ndarray, upscaler: Upscaler, arguments: str, wrap: str
) -> None:
    run("small.png", "-o", "out/")
    again = run(*arguments.split(), "-o", "out/", "--resume")  # as it was not wrapped
    assert again.stdout == os.path.normpath("out/small.png\n")
    expected = upscaler.upscale(small, wrap=wrap)  # type: ignore[call-overload]
    np.testing.assert_array_equal(read_image("out/small.png").pixels, expected)
    assert made_again(run, "out/small.png")


@pytest.fixture
def masks(folder: Path) -> None:
    """white.png, and half.png, of 16 bits and black on the left, of the photos' size."""
    white = np.full((45, 61, 1), 65535, np.uint16)
    write_image(folder / "white.png", white)
    write_image(folder / "half.png", white * (np.arange(61) >= 30)[:, None])


@pytest.mark.parametrize("tau", ["auto", "0.7"])
def test_a_map_protects_what_it_has_black(run: Run, masks: None, tau: str) -> None:
    pictures = []
    for options in (["0"], [tau], [tau, "--tau-map", "white.png"], [tau, "--tau-map", "half.png"]):
        assert run("a.png", "-o", "sr.png", "--tau", *options).exit_code == 0
        pictures.append(read_image("sr.png").pixels.astype(int))
    smooth, plain, white, half = pictures
    # the last column of odd ones pads the map
    np.testing.assert_array_equal(white[:160, :220], plain[:160, :220])
    assert np.abs(half - smooth)[:, :64].max() <= 1
    assert np.abs(half - white)[:, -64:].max() <= 1
    assert np.abs(plain - smooth)[:, :64].max() > 3
    again = run("--from-output", "sr.png", "-o", "again.png")
    assert "made with a map of temperatures, which its file does not contain" in again.stderr


def test_one_map_is_for_every_photo_of_its_size(run: Run, masks: None, small: np.ndarray) -> None:
    result = run(
        "a.png",
        "small.png",
        "b.png",
        "-o",
        "out",
        "--tau-map",
        "half.png",
        "--report",
        "report.json",
    )
    assert (result.exit_code, result.stdout) == (1, os.path.normpath("out/a.png\nout/b.png\n"))
    assert (
        "small.png: it has 17×13 pixels, and --tau-map 61×45; make the map as large"
        in result.stderr
    )
    assert (
        json.loads(Path("report.json").read_text(encoding="utf-8"))["settings"]["tau_map"]
        == "half.png"
    )
