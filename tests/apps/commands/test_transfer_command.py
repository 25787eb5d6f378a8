from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from srflow_apps.commands.cli import transfer
from srflow_sdk.files import Metadata, read_image, read_provenance, write_image
from srflow_sdk.flow.transferring import transfer_pixels
from srflow_sdk.upscaler import Upscaler
from tests.sdk.flow.conftest import Pictures

Run = Callable[..., Result]


@pytest.fixture
def run(
    flow_bundle: Path, pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Run:
    """srflow-transfer in a folder with target.png, source.png, mask.png."""
    write_image(
        tmp_path / "target.png", pictures.target, metadata=Metadata(resolution=(10.0, 10.0))
    )
    write_image(tmp_path / "source.png", pictures.source)
    write_image(tmp_path / "mask.png", np.where(pictures.mask, 255, 0).astype(np.uint8))
    monkeypatch.chdir(tmp_path)
    machine = ["--model", str(flow_bundle), "--device", "cpu", "--threads", "1"]
    return lambda *arguments, **streams: CliRunner().invoke(
        transfer, [*arguments, *machine], **streams
    )


def digest(name: str) -> str:
    return hashlib.sha256(Path(name).read_bytes()).hexdigest()


def test_the_file_is_what_the_upscaler_makes(run: Run, flow: Upscaler, pictures: Pictures) -> None:
    result = run(
        "target.png",
        "source.png",
        "mask.png",
        "-o",
        "out.png",
        "--tau",
        "1=0.5,2=0.7",
        "--seed",
        "4",
    )
    assert (result.exit_code, result.stdout, result.stderr) == (0, "out.png\n", "")
    expected = flow.transfer(
        pictures.target, pictures.source, pictures.mask, tau={1: 0.5, 2: 0.7}, seed=4
    )
    written = read_image("out.png")
    assert np.array_equal(written.pixels, expected)
    assert written.metadata.resolution == pytest.approx((10, 10), rel=1e-3)


def test_a_true_lr_image_and_the_plain_way_can_be_chosen(
    run: Run, flow: Upscaler, pictures: Pictures
) -> None:
    lr = np.full((16, 14, 3), 60, np.uint8)
    write_image("lr.png", lr)
    assert (
        run(
            "target.png",
            "source.png",
            "mask.png",
            "-o",
            "o.png",
            "--lr",
            "lr.png",
            "--blend",
            "none",
        ).exit_code
        == 0
    )
    expected = flow.transfer(pictures.target, pictures.source, pictures.mask, lr, blend="none")
    assert np.array_equal(read_image("o.png").pixels, expected)


def test_the_picture_says_how_it_was_made(run: Run, flow: Upscaler) -> None:
    run("target.png", "source.png", "mask.png", "-o", "out.jpg", "--seed", "7")
    provenance = read_provenance("out.jpg")
    assert provenance is not None
    assert (provenance.operation, provenance.seed) == ("transfer", 7)
    assert provenance.model_sha256 == flow.bundle.model_sha256
    assert (provenance.source, provenance.source_sha256) == ("target.png", digest("target.png"))
    settings = json.loads(provenance.settings or "")
    assert settings["source"] == {"name": "source.png", "sha256": digest("source.png")}
    assert settings["mask"] == {"name": "mask.png", "sha256": digest("mask.png")}
    assert (settings["lr"], settings["blend"], settings["tau"]) == (None, "gradient", {"1": 0.8})


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (
            ["target.png", "source.png", "missing.png", "-o", "out.png"],
            1,
            "missing.png: there is no such file",
        ),
        (
            ["target.png", ".", "mask.png", "-o", "out.png"],
            2,
            ". is a folder, and SOURCE is one picture; name a file",
        ),
        (
            ["target.png", "source.png", "small.png", "-o", "out.png"],
            1,
            "mask has 9×9 pixels; for a target of 56×64",
        ),
        (
            ["target.png", "source.png", "mask.png", "-o", "mask.png"],
            2,
            "mask.png is the mask and would be overwritten",
        ),
        (["-", "source.png", "-", "-o", "out.png"], 2, "- is standard input, one picture"),
        (
            ["target.png", "source.png", "mask.png", "-o", "out.png", "--tau", "1=a"],
            2,
            "numbers by level",
        ),
        (
            ["target.png", "source.png", "mask.png", "-o", "out.png", "--tau", "8=0.5"],
            2,
            "tau names level 8",
        ),
    ],
)
def test_a_bad_input_is_one_line_and_nothing_is_written(
    run: Run, arguments: list[str], status: int, says: str
) -> None:
    write_image("small.png", np.full((9, 9), 255, np.uint8))
    before = {path.name: path.read_bytes() for path in Path().iterdir()}
    result = run(*arguments)
    assert result.exit_code == status
    assert says in result.stderr.splitlines()[-1]
    assert {path.name: path.read_bytes() for path in Path().iterdir()} == before


@pytest.mark.parametrize("name", ["target.png", "lr.png"])
def test_an_input_that_changes_during_the_work_is_noticed(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def changing(*arguments: Any) -> Any:
        result = transfer_pixels(*arguments)
        write_image("other.png", np.zeros((9, 9, 3), np.uint8))
        Path("other.png").replace(name)
        return result

    write_image("lr.png", np.full((16, 14, 3), 60, np.uint8))
    monkeypatch.setattr("srflow_sdk.flow.transferring.transfer_pixels", changing)
    result = run("target.png", "source.png", "mask.png", "-o", "out.png", "--lr", "lr.png")
    assert result.exit_code == 1
    assert f"{name}: the file changed while it was read" in result.stderr
    assert not Path("out.png").exists()


def test_resume_makes_again_what_has_another_mask(run: Run, pictures: Pictures) -> None:
    transferring = [
        "target.png",
        "source.png",
        "mask.png",
        "-o",
        "out.png",
        "--resume",
        "--report",
        "r.json",
    ]
    assert run(*transferring).exit_code == 0
    report = json.loads(Path("r.json").read_text(encoding="utf-8"))
    assert report["settings"]["blend"] == "gradient"
    assert report["files"][0]["outputs"][0]["sha256"] == digest("out.png")
    assert "1 skipped" in run(*transferring).stderr
    write_image("mask.png", np.zeros_like(pictures.mask, np.uint8))
    assert run(*transferring).stdout == "out.png\n"
    assert np.array_equal(read_image("out.png").pixels, pictures.target), "its mask is empty"


@pytest.mark.parametrize("piped", ["target.png", "lr.png"])
def test_one_input_and_the_output_may_be_pipes(run: Run, piped: str) -> None:
    write_image("lr.png", np.full((16, 14, 3), 60, np.uint8))
    names = ["target.png", "source.png", "mask.png", "--lr", "lr.png"]
    assert run(*names, "-o", "out.png").exit_code == 0
    given = ["-" if name == piped else name for name in names]
    result = run(*given, "-o", "-", "--format", "tif", input=Path(piped).read_bytes())
    assert (result.exit_code, result.stderr) == (0, "")
    Path("sent.tif").write_bytes(result.stdout_bytes)
    assert np.array_equal(read_image("sent.tif").pixels, read_image("out.png").pixels)
    provenance = read_provenance("sent.tif")
    assert provenance is not None
    assert "stdin" in f"{provenance.source} {provenance.settings}"


def test_errors_call_pipes_by_their_names(run: Run, pictures: Pictures) -> None:
    alpha = np.full_like(pictures.target[..., :1], 200)
    write_image("alpha.png", np.concatenate([pictures.target, alpha], axis=2))
    result = run("alpha.png", "source.png", "mask.png", "-o", "-", "--format", "jpg")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "error: alpha.png: stdout cannot be written: JPEG has no transparency" in result.stderr
    result = run("-", "source.png", "mask.png", "-o", "out.png", input=b"no picture")
    assert result.exit_code == 1
    assert "error: stdin" in result.stderr
