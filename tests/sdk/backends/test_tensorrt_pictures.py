"""The Upscaler over engines: the same picture as on the CPU, whatever the tiles, the threads and
the memory."""

import numpy as np
import pytest

from srflow_export.engines.bundles import default_profile
from srflow_sdk.errors import DeviceError
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.model.engine_records import LrProfile

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


@pytest.mark.slow
def test_memory_that_runs_out_makes_tiles_smaller(machine, engine_bundle, upscaler, caplog):
    image = picture(120, 120)
    machine.gpu.nbytes = (
        1_600_000  # of which activations of the encoder for 64×64 pixels alone would take 2.4 MB
    )
    with machine.upscaler(engine_bundle, 52) as engines:
        got = engines.upscale(image, seed=5)
    np.testing.assert_allclose(got, upscaler.upscale(image, seed=5), atol=2e-6)
    assert [record.getMessage() for record in caplog.records] == [
        "memory ran out with tiles of 40 pixels; continuing with 20"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("nbytes", [1 << 30, 2_300_000])
def test_windows_are_never_smaller_than_the_engines_take(
    machine, tiny_bundle, tmp_path, upscaler, nbytes
):
    profile = LrProfile(min=(36, 36), opt=(40, 40), max=(64, 64))
    bundle = write_engine_bundle(tiny_bundle, tmp_path / "b.srflow", profile=profile)
    image = picture(100, 64)
    machine.gpu.nbytes = nbytes  # the second: so little that tiles are divided
    with machine.upscaler(bundle, 16 if nbytes == 1 << 30 else 40) as engines:
        got = engines.upscale(image, seed=5)
    np.testing.assert_allclose(got, upscaler.upscale(image, seed=5), atol=2e-6)


@pytest.mark.parametrize(
    ("tile", "words"), [(None, r"the image, 100×70,"), (54, r"tile=54 with its halo, 66×66,")]
)
def test_tiles_larger_than_the_engines_take_are_refused_with_the_largest(
    machine, engine_bundle, tile, words
):
    image = picture(70, 100)
    with (
        machine.upscaler(engine_bundle, tile) as engines,
        pytest.raises(
            DeviceError, match=rf'{words}.*64×64.*tile="auto" or tile=52.*--shapes 20x20,40x40,\d+'
        ),
    ):
        engines.upscale(image)
    with machine.upscaler(engine_bundle, tile) as engines:
        engines.upscale(image[:64, :64])  # which fits whole
