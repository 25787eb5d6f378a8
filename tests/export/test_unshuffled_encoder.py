"""A bundle whose LR encoder has an unshuffled trunk: proved, padded, tiled, and turned back into a checkpoint."""

import numpy as np
import pytest

from srflow_export.exporter import ExportOptions, export_checkpoint
from srflow_sdk import Bundle
from srflow_training import save_checkpoint
from tests.export.odd_pictures import drawn_twice
from tests.networks import random_srflow, tiny_config

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model():
    return random_srflow(tiny_config(unshuffle=4, steps=1))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, model):
    folder, lines = tmp_path_factory.mktemp("unshuffled"), []
    save_checkpoint(folder / "tiny.safetensors", model)
    options = ExportOptions(fused=True, inverter=False)
    export_checkpoint(folder / "tiny.safetensors", folder / "tiny.srflow", options, say=lines.append)
    assert "2 RRDB blocks of 8 channels at LR/4 (stacked 0, 1)" in lines[0]
    return Bundle.open(folder / "tiny.srflow")


def test_the_manifest_says_what_sizes_the_graphs_take(bundle):
    manifest = bundle.manifest
    assert manifest.size_multiple == manifest.model["unshuffle"] == 4
    assert manifest.halo % 4 == 0
    assert {row["graph"] for row in manifest.parity} == {"encoder+sampler", "fused"}
    assert all(row["psnr_db"] >= 90 for row in manifest.parity)


def test_an_image_of_an_odd_size_is_padded_as_the_network_needs(bundle, model):
    actual, expected = drawn_twice(bundle, model)
    assert actual.shape == (44, 28, 3)
    np.testing.assert_allclose(actual, expected, atol=1e-4)
