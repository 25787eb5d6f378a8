"""A tiny checkpoint, three small photographs, and weights of LPIPS."""

import numpy as np
import pytest
from PIL import Image

from srflow_evaluation import output
from srflow_evaluation.options import Options
from srflow_training import save_checkpoint
from tests.networks import random_srflow, tiny_config
from tests.training import lpips_files


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for name, (height, width) in {"a": (64, 72), "b": (70, 67), "c": (96, 64)}.items():
        coarse = rng.integers(0, 256, (height // 6, width // 6, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(
            folder / f"{name}.png"
        )
    return folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_checkpoint(path, random_srflow(tiny_config()))
    return path


@pytest.fixture
def options(photos, checkpoint, tmp_path):
    """Make the options of a protocol that writes to the folder `out`, with a few metrics, which are
    measured fast."""

    def make(**changes):
        output = changes.pop("out", tmp_path / "out")
        chosen = {
            "models": [str(checkpoint)],
            "hr": photos,
            "metrics": ("psnr", "ssim", "gmsd", "lr_psnr"),
        }
        return Options(**{**chosen, "output": output, **changes})

    return make


@pytest.fixture
def lpips(tmp_path_factory, monkeypatch):
    """Random weights of LPIPS in a cache folder, which it returns."""
    cache = tmp_path_factory.mktemp("cache")
    lpips_files.write_weights(cache, "alex")
    monkeypatch.setenv("SRFLOW_CACHE_DIR", str(cache))
    return cache


@pytest.fixture
def drawn_plots():
    """For tests that look at plots."""


@pytest.fixture(autouse=True)
def _plots_are_not_drawn(request):
    """A plot takes most of a test's time, a second or two.

    Its figure is made all the same, and an empty file.
    """
    with pytest.MonkeyPatch.context() as patch:
        if "drawn_plots" not in request.fixturenames:
            patch.setattr(output, "save", lambda figure, path: path.touch())
        yield
