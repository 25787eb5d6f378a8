"""The Upscaler over engines: the same picture as on the CPU, whatever the tiles, the threads and
the memory."""

import numpy as np
import pytest

from srflow_export.engines.bundles import default_profile
from srflow_sdk.model.bundle import Bundle

from .fake_tensorrt import write_engine_bundle


def picture(*shape):
    return np.random.default_rng(7).random((*shape, 3), np.float32)


@pytest.mark.parametrize(
    ("shape", "tile"),
    [((45, 61), "auto"), ((45, 61), 16), ((64, 64), "auto"), ((110, 70), 40)],
)
def test_pictures_are_those_of_the_cpu(machine, engine_bundle, upscaler, shape, tile):
    image = picture(*shape)
    with machine.upscaler(engine_bundle, tile) as engines:
        assert engines.device == "tensorrt"
        encoding = engines.encode(image)
        got = encoding.samples(2, seed=5)
        assert encoding.kept_tiles == encoding.tiles
    expected = upscaler.encode(image).samples(2, seed=5)
    np.testing.assert_allclose(got, expected, atol=2e-6)


@pytest.mark.parametrize("shape", [(1, 1), (3, 20), (20, 20)])
def test_engines_of_the_default_sizes_take_any_small_picture(
    machine, tiny_bundle, tmp_path, upscaler, shape
):
    profile = default_profile(Bundle.open(tiny_bundle).manifest, "tensorrt")
    bundle = write_engine_bundle(tiny_bundle, tmp_path / "b.srflow", profile=profile)
    image = picture(*shape)
    with machine.upscaler(bundle) as engines:
        got = engines.upscale(image, seed=5)
    np.testing.assert_allclose(got, upscaler.upscale(image, seed=5), atol=2e-6)
