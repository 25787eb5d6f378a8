import numpy as np
import pytest
from click.testing import CliRunner

from srflow_apps.commands import cli
from srflow_sdk.files import write_image
from srflow_sdk.upscaler import Upscaler

from .tiny_bundle import write_tiny_bundle

UPSCALE = """
from srflow_apps.batch import display
from srflow_apps.commands.cli import upscale
display.FIRST_AFTER_S = 3600
upscale()
"""
"""srflow-upscale as a program for `python -c`, without progress lines, as in these tests."""


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny.srflow")


@pytest.fixture(scope="session")
def upscaler(tiny_bundle):
    with Upscaler(tiny_bundle, device="cpu", threads=1) as opened:
        yield opened


@pytest.fixture
def tiled(tiny_bundle):
    with Upscaler(tiny_bundle, device="cpu", threads=1, tile=16) as opened:
        yield opened


@pytest.fixture(scope="session")
def embedded():
    with Upscaler("x4-small", device="cpu", tile=None) as opened:
        yield opened


@pytest.fixture(scope="session")
def flow_bundle(tmp_path_factory):
    from .flow_bundle import write_flow_bundle  # which imports torch

    return write_flow_bundle(tmp_path_factory.mktemp("flow") / "flow.srflow")


@pytest.fixture(scope="session")
def flow(flow_bundle):
    with Upscaler(flow_bundle, device="cpu", threads=1) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _no_progress_lines(monkeypatch):
    """On a slow machine, progress would stand between the lines that tests look for."""
    monkeypatch.setattr("srflow_apps.batch.display.FIRST_AFTER_S", 3600)


@pytest.fixture
def two_models(tmp_path, monkeypatch):
    """Two embedded models, whose pictures and default temperatures differ."""
    folder = tmp_path / "installed"
    folder.mkdir()
    write_tiny_bundle(folder / "x4-small.srflow", name="x4-small")
    write_tiny_bundle(
        folder / "x4-photo.srflow", name="x4-photo", gain=0.9, default_tau=0.5, removes_damage=True
    )
    monkeypatch.setattr("srflow_sdk.model.bundle._EMBEDDED", folder)
    return folder


@pytest.fixture
def five_models(two_models):
    """Those two, and clean ones for other scales."""
    for scale in (2, 8, 16):
        write_tiny_bundle(
            two_models / f"x{scale}-small.srflow", name=f"x{scale}-small", scale=scale
        )
    return two_models


@pytest.fixture
def photo():
    """A smooth uint8 picture with an odd size, H×W×3."""
    y, x = np.mgrid[0:45, 0:61]
    waves = [np.sin(x / 7 + shift) * np.cos(y / 5 - shift) for shift in (0, 1, 2)]
    return np.rint(127.5 + 90 * np.stack(waves, -1)).astype(np.uint8)


@pytest.fixture
def floats(photo):
    """That picture, float32 in [0, 1]."""
    return (photo / np.float32(255)).astype(np.float32)


@pytest.fixture
def folder(tmp_path, photo):
    """Two photos, a.png and b.png, and bad.png, which is none."""
    write_image(tmp_path / "a.png", photo)
    write_image(tmp_path / "b.png", photo[::-1])
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    return tmp_path


@pytest.fixture
def run(tiny_bundle, folder, monkeypatch):
    """srflow-upscale with the tiny bundle, in the folder of photos."""
    monkeypatch.chdir(folder)
    model = ["--model", str(tiny_bundle), "--device", "cpu", "--threads", "1"]
    return lambda *arguments: CliRunner().invoke(cli.upscale, [*arguments, *model])
