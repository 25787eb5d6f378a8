"""srflow-upscale --scale, --size, --max-size: outputs that are smaller than the model's picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from srflow_sdk.files import read_image, read_provenance, write_image

Run = Callable[..., Result]


@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        (["--scale", "2"], (122, 90)),
        (["--scale", "x1.5"], (92, 68)),
        (["--size", "100x"], (100, 74)),
        (["--size", "X100"], (136, 100)),
        (["--size", "100×100"], (100, 74)),
        (["--max-size", "99"], (99, 73)),
        (["--max-size", "999"], (244, 180)),
        (["--scale", "4"], (244, 180)),
    ],
)
def test_options_set_the_size(run: Run, arguments: list[str], size: tuple[int, int]) -> None:
    result = run("a.png", "-o", "sr.png", *arguments)
    assert (result.exit_code, result.stdout) == (0, "sr.png\n"), result.output
    assert read_image("sr.png").pixels.shape == (size[1], size[0], 3)


def test_a_photo_that_is_too_small_for_the_size_does_not_stop_the_others(run: Run, photo: np.ndarray) -> None:
    write_image("small.png", photo[:20, :20])
    result = run("small.png", "a.png", "-o", "out", "--size", "200x")
    assert (result.exit_code, result.stdout) == (1, "out/a.png\n")
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error")]
    assert "small.png: a width of 200 pixels would be 10 times the image's 20×20" in line
    assert not Path("out/small.png").exists()


def test_a_smaller_picture_is_made_again_from_itself_alone(run: Run) -> None:
    run("a.png", "-o", "sr.png", "--size", "101x", "--reduction", "lanczos", "--linear-light", "--consistent")
    result = run("--from-output", "sr.png", "-o", "again.png")
    assert result.exit_code == 0, result.output
    assert Path("again.png").read_bytes() == Path("sr.png").read_bytes()
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
        ["--scale", "2", "--linear-light"],
        ["--size", "100x"],
        ["--size", "101x"],
        ["--max-size", "101", "--linear-light"],
    ):
        assert resumed(*arguments) == "out/a.png\n", arguments
        assert resumed(*arguments) == "", arguments
    assert resumed("--size", "101x", "--linear-light") == ""  # the same picture
    run("a.png", "-o", "out/")
    for arguments in (["--scale", "4"], ["--size", "244x"], ["--max-size", "300"], ["--linear-light"]):
        assert resumed(*arguments) == "", arguments


def test_the_scale_can_be_in_names_and_is_in_the_report(run: Run) -> None:
    name = ["--name", "{stem}_x{scale}.png"]
    for arguments, expected in (([], "a_x4"), (["--scale", "2"], "a_x2"), (["--scale", "1.5"], "a_x1.5")):
        assert run("a.png", "-o", "out", *name, *arguments).stdout == f"out/{expected}.png\n"
    run("a.png", "-o", "sr.png", "--report", "r.json", "--scale", "1.5", "--linear-light")
    settings = json.loads(Path("r.json").read_text())["settings"]
    assert (settings["scale"], settings["reduction"], settings["linear_light"]) == (1.5, "bicubic", True)
    run("a.png", "-o", "sr.png", "--report", "r.json", "--size", "99x")
    settings = json.loads(Path("r.json").read_text())["settings"]
    assert settings["scale"] == {"width": 99, "height": None, "max_side": None}


def test_a_model_s_own_size_says_nothing_of_a_scale(run: Run) -> None:
    run("a.png", "-o", "sr.png", "--scale", "4", "--linear-light")
    assert b"linear_light" not in Path("sr.png").read_bytes()
    made = read_provenance("sr.png")
    assert made is not None
    assert made.scale is None
