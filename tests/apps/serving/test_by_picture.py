"""A server with x4-small and x4-photo: the client looks at each picture and asks the one that suits it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result
from PIL import Image

from srflow_apps.commands import cli
from srflow_sdk import ArgumentError, RemoteError, Upscaler, read_provenance
from srflow_sdk.files import write_image
from srflow_sdk.triton import RemoteUpscaler
from tests.sdk.clean_and_noisy import noisy, smooth

from .inference_server import InferenceServer

MODELS = {"x4-small": "srflow_upscale-x4-small", "x4-photo": "srflow_upscale-x4-photo"}
PICTURES = {"x4-small": smooth(), "x4-photo": noisy(10)}


@pytest.fixture
def both(two_models: Path, tiny_bundle: Path) -> Iterator[InferenceServer]:
    others = {served: two_models / f"{name}.srflow" for name, served in MODELS.items()}
    server = InferenceServer(tiny_bundle, others=others)
    yield server
    server.stop()


def test_each_picture_is_drawn_by_the_model_that_suits_it(both: InferenceServer, tmp_path: Path) -> None:
    Image.fromarray(smooth()).save(tmp_path / "photo.jpg", quality=60)
    with RemoteUpscaler(both.url) as remote, Upscaler(device="cpu", threads=1) as here:
        for picture in (*PICTURES.values(), Image.open(tmp_path / "photo.jpg"), tmp_path / "photo.jpg"):
            assert np.array_equal(np.asarray(remote.upscale(picture)), np.asarray(here.upscale(picture)))  # type: ignore[call-overload]
        assert set(both.models) == set(MODELS.values())
        with pytest.raises(ArgumentError, match="name 'x4-small' or 'x4-photo'"):
            remote.bundle  # noqa: B018
        assert (remote.scale, remote.device) == (4, both.url)
        done = remote.upscale_file(tmp_path / "photo.jpg", tmp_path / "large.png")
        assert done.outputs[0].provenance.model == "x4-photo"


def test_the_scale_chooses_of_the_models_that_the_server_has(five_models: Path, tiny_bundle: Path) -> None:
    served = {f"srflow_upscale-{name}": five_models / f"{name}.srflow" for name in ("x8-small", "x4-photo", "x2-small")}
    server = InferenceServer(tiny_bundle, others={**served, "srflow_upscale-mine": tiny_bundle})
    try:
        with RemoteUpscaler(server.url) as remote, Upscaler("x8-small", device="cpu", threads=1) as here:
            assert np.array_equal(remote.upscale(smooth(32), scale=6), here.upscale(smooth(32), scale=6))
            remote.upscale(noisy(10), scale=3)
            assert set(server.models) == {"srflow_upscale-x8-small", "srflow_upscale-x4-photo"}
            with pytest.raises(ArgumentError, match="the models here enlarge 2, 4, 8 times: ask for at most 8"):
                remote.upscale(smooth(), scale=16)
    finally:
        server.stop()


def test_a_name_is_the_only_model(both: InferenceServer) -> None:
    with RemoteUpscaler(both.url, model=MODELS["x4-photo"]) as remote:
        assert remote.bundle.manifest.name == "x4-photo"
        remote.upscale(smooth())
    assert set(both.models) == {MODELS["x4-photo"]}
    with pytest.raises(
        RemoteError, match="no model 'srflow_upscale'; its models are srflow_upscale-x4-photo, srflow_upscale-x4"
    ):
        RemoteUpscaler(both.url, model="srflow_upscale")


def test_the_command_chooses_too_and_makes_pictures_again_and_numbers_by_the_model_for_clean_ones(
    both: InferenceServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, picture in PICTURES.items():
        write_image(f"{name}.png", picture)

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(cli.upscale, [*arguments])
        assert result.exit_code == 0, result.output
        return result

    there = "--server", both.url
    assert "x4-photo drew 1, x4-small drew 1" in run("x4-photo.png", "x4-small.png", "-o", "out", *there).stderr
    for name in PICTURES:
        assert (made := read_provenance(f"out/{name}.png")) is not None
        assert made.model == name
    run("--from-output", "out/x4-photo.png", "-o", "b.png", *there)
    tifffile.imwrite("in.tif", (np.indices((9, 9)).sum(axis=0) * 50 - 400).astype(np.int16), photometric="minisblack")
    run("in.tif", "--range", "-400", "400", "-o", "there.tif", *there)
    run("in.tif", "--range", "-400", "400", "-o", "here.tif", "--device", "cpu")
    assert np.array_equal(tifffile.imread("there.tif"), tifffile.imread("here.tif"))
