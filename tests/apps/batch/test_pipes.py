"""srflow-upscale between two programs: standard input and standard output instead of files."""

from __future__ import annotations

import io
import json
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from srflow_apps.commands import cli
from srflow_sdk.files import read_image, read_provenance, write_image
from srflow_sdk.upscaler import Upscaler

Run = Callable[..., Result]


@pytest.fixture
def run(
    tiny_bundle: Path, tmp_path: Path, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> Run:
    """srflow-upscale in a folder with a.png and b.png, with bytes as standard input."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    write_image(tmp_path / "a.png", photo)
    write_image(tmp_path / "b.png", photo[::-1])
    model = ["--model", str(tiny_bundle), "--device", "cpu", "--threads", "1"]
    return lambda *arguments, input=b"": CliRunner().invoke(
        cli.upscale, [*arguments, *model], input=input
    )


def test_a_picture_goes_from_standard_input_to_standard_output(
    run: Run, upscaler: Upscaler, photo: np.ndarray
) -> None:
    result = run("-", "-o", "-", "--seed", "3", input=Path("a.png").read_bytes())
    assert (result.exit_code, result.stderr) == (0, "")
    Path("large.png").write_bytes(result.stdout_bytes)
    assert np.array_equal(read_image("large.png").pixels, upscaler.upscale(photo, seed=3))
    provenance = read_provenance("large.png")
    assert provenance is not None
    assert (provenance.source, provenance.seed) == ("stdin", 3)
    assert not list(Path("temporary").iterdir())


@pytest.mark.parametrize(("name", "format"), [("jpg", "JPEG"), ("avif", "AVIF")])
def test_the_format_of_standard_output_can_be_chosen(run: Run, name: str, format: str) -> None:
    result = run("a.png", "-o", "-", "--format", name)
    assert result.exit_code == 0
    assert Image.open(io.BytesIO(result.stdout_bytes)).format == format


def test_either_side_may_be_a_file(run: Run) -> None:
    piped = run("a.png", "-o", "-", "--report", "report.json").stdout_bytes
    assert (
        json.loads(Path("report.json").read_text(encoding="utf-8"))["files"][0]["outputs"][0][
            "path"
        ]
        == "stdout"
    )
    result = run("-", "-o", "out", "--report", "report.json", input=Path("a.png").read_bytes())
    assert result.stdout == os.path.normpath("out/stdin.png\n")
    Path("piped.png").write_bytes(piped)
    assert np.array_equal(read_image("piped.png").pixels, read_image("out/stdin.png").pixels)
    assert (
        json.loads(Path("report.json").read_text(encoding="utf-8"))["files"][0]["source"] == "stdin"
    )


def test_a_picture_is_made_again_from_what_was_piped(run: Run) -> None:
    photo = Path("a.png").read_bytes()
    Path("large.png").write_bytes(run("-", "-o", "-", "--seed", "3", input=photo).stdout_bytes)
    assert run("--from-output", "large.png", "-", "-o", "again.png", input=photo).exit_code == 0
    assert np.array_equal(read_image("again.png").pixels, read_image("large.png").pixels)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_one_line_and_standard_output_stays_empty(
    run: Run, content: bytes
) -> None:
    result = run("-", "-o", "-", input=content)
    assert (result.exit_code, result.stdout_bytes) == (1, b"")
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: stdin: ")
    assert not list(Path("temporary").iterdir())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-", "a.png", "-o", "out"], "must be the only input"),
        (["a.png", "b.png", "-o", "-"], "one picture"),
        ([".", "-o", "-"], "which is no folder"),
        (["a.png", "-o", "-", "--samples", "2"], "leave out --samples"),
        (["a.png", "-o", "-", "--format", "gif"], "'gif' is not one of"),
        (["a.png", "-o", "big.png", "--format", "jpg"], "big.png and --format jpg are two formats"),
        (["a.png", "-o", "out", "--name", "{stem}.png", "--format", "jpg"], "are two formats"),
    ],
)
def test_wrong_usage_is_refused_before_the_work(run: Run, arguments: list[str], says: str) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout_bytes) == (2, b"")
    assert says in result.stderr
    assert not Path("out").exists()


def assert_interrupted(result: Result, number: int) -> None:
    """The signal ended the command, which left nothing."""
    ended = result.exit_code, result.stdout_bytes, result.stderr
    assert ended == (128 + number, b"", "interrupted\n")
    assert not list(Path("temporary").iterdir())
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.not_on_windows("signals")
def test_a_signal_while_the_model_is_loaded_leaves_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*arguments: object, **options: object) -> None:
        assert list(Path("temporary").iterdir())
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("srflow_sdk.upscaler.open_backend", load)
    result = run("-", "-o", "-", input=Path("a.png").read_bytes())
    assert_interrupted(result, signal.SIGTERM)


@pytest.mark.not_on_windows("signals")
def test_a_signal_while_standard_input_is_read_leaves_nothing(run: Run) -> None:
    class Interrupted(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if size == 0:  # click looks whether it gives bytes
                return b""
            assert list(Path("temporary").iterdir())
            signal.raise_signal(signal.SIGHUP)
            return b""

    result = run("-", "-o", "-", input=Interrupted())
    assert_interrupted(result, signal.SIGHUP)
