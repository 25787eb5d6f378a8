"""A tiny checkpoint, three small photographs, and a backbone of LPIPS."""

import numpy as np
import pytest
import torch
from PIL import Image

from srflow_training import save_checkpoint
from srflow_training.evaluation.options import Options
from tests.networks import random_srflow, tiny_config


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for name, (height, width) in {"a": (64, 72), "b": (70, 67), "c": (96, 64)}.items():
        coarse = rng.integers(0, 256, (height // 6, width // 6, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_checkpoint(path, random_srflow(tiny_config()))
    return path


@pytest.fixture
def options(photos, checkpoint, tmp_path):
    """Make the options of a protocol that writes to the folder `out`."""

    def make(**changes):
        return Options(**{"models": [str(checkpoint)], "hr": photos, "out": tmp_path / "out", "others": {}, **changes})

    return make


@pytest.fixture(scope="session")
def alexnet(tmp_path_factory):
    """A file of torchvision's AlexNet with random weights; skips without the extra [lpips]."""
    pytest.importorskip("lpips", reason="the extra [lpips] is not installed")
    import torchvision

    torch.manual_seed(0)
    network = torchvision.models.alexnet(weights=None).eval()
    for name in ("classifier.1", "classifier.4", "classifier.6"):  # a small file
        network.get_submodule(name).weight.data = torch.zeros(1)
    path = tmp_path_factory.mktemp("alexnet") / "alexnet.pth"
    torch.save(network.state_dict(), path)
    return path
