"""A photograph gets the same picture through every door: command, folder, API, pipe, samples, demo,
server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from srflow_apps.commands import cli
from srflow_apps.demo.sessions import Session
from srflow_apps.demo.tabs import Tabs
from srflow_sdk import Upscaler, upscale_folder
from srflow_sdk.files import read_image
from tests.sdk.clean_and_noisy import noisy, smooth

from .demo.conftest import clock, copied, finished, session, sessions
from .demo.visitor import CONTROLS
from .serving.inference_server import InferenceServer

__all__ = ["clock", "session", "sessions"]

PHOTOGRAPHS = {  # with the model that suits each
    "clean.png": (smooth(), None, "x4-small"),
    "damaged.png": (noisy(10), None, "x4-photo"),
    "faint.jpg": (smooth(), 90, "x4-photo"),
    "fine.jpg": (smooth(), 99, "x4-small"),
}
CPU = ("--device", "cpu", "--threads", "1")
Draw = Callable[[Path, Path, list[str]], None]


@pytest.fixture
def server(two_models: Path, tiny_bundle: Path) -> Iterator[InferenceServer]:
    others = {
        f"srflow_upscale-{name}": two_models / f"{name}.srflow" for name in ("x4-small", "x4-photo")
    }
    started = InferenceServer(tiny_bundle, others=others)
    yield started
    started.stop()


def command(*arguments: str, piped: bytes | None = None) -> bytes:
    """What the command writes to standard output."""
    result = CliRunner().invoke(cli.upscale, [*arguments], input=piped)
    assert result.exit_code == 0, result.output
    return result.stdout_bytes


def pixels(path: Path) -> NDArray[np.uint8]:
    return np.asarray(read_image(path).pixels)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_every_door_draws_the_same_picture(
    name: str, two_models: Path, server: InferenceServer, session: Session, tmp_path: Path
) -> None:
    picture, quality, model = PHOTOGRAPHS[name]
    source = tmp_path / name
    large = tmp_path / "large.png"
    Image.fromarray(picture).save(source, **({} if quality is None else {"quality": quality}))
    with Upscaler(two_models / f"{model}.srflow", device="cpu", threads=1) as alone:
        expected, second, half = (
            np.asarray(alone.upscale(source, **options))
            for options in ({}, {"sample": 1}, {"scale": 2})
        )
    drawn = {}
    with Upscaler(device="cpu", threads=1) as upscaler:
        drawn["API"] = np.asarray(upscaler.upscale(source))
        upscaler.upscale_file(source, large)
        drawn["upscale_file"] = pixels(large)
        upscale_folder(source, tmp_path / "folder", upscaler=upscaler)
        drawn["upscale_folder"] = pixels(tmp_path / "folder" / f"{source.stem}.png")
        tabs = Tabs(upscaler, max_pixels=10**8)
        tabs.take(session, "enlarge", copied(session, source))
        said = {**CONTROLS, "seed": 0, "format": "png"}
        said["tau"] = tabs.show(session, said)["tau"]  # where the slider stands
        drawn["demo"] = pixels(finished(tabs, session, "enlarge", said).target)
    command(str(source), "-o", str(large), *CPU)
    drawn["command"] = pixels(large)
    other = tmp_path / "other.png"
    Image.fromarray(smooth(40)).save(other)
    command(str(source), str(other), "-o", str(tmp_path / "two"), *CPU)
    drawn["command, two files"] = pixels(tmp_path / "two" / f"{source.stem}.png")
    large.write_bytes(command("-", "-o", "-", *CPU, piped=source.read_bytes()))
    drawn["pipe"] = pixels(large)
    command(str(source), "-o", str(large), "--server", server.url, "--tile", "96")
    drawn["server"] = pixels(large)
    for door, its in drawn.items():
        assert np.abs(its.astype(int) - expected).max() <= 1, door
    command(str(source), "-o", str(tmp_path / "several"), "--samples", "2", *CPU)
    for number, its in enumerate((expected, second)):
        assert np.array_equal(pixels(tmp_path / "several" / f"{source.stem}_s{number}.png"), its)
    command(str(source), "-o", str(large), "--scale", "2", *CPU)
    assert np.array_equal(pixels(large), half)
