"""One image is one random field: the same seed gives the same picture, however it is cut, ordered
and counted."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from srflow_sdk.files import read_image, write_image
from srflow_sdk.model.bundle import Bundle
from srflow_sdk.upscaler import Upscaler

from ..tiny_bundle import REACH, write_tiny_bundle

PICTURE = np.random.default_rng(7).random((70, 70, 3), np.float32)
SEEDS = st.integers(0, 2**64 - 1)
slow_fixtures = settings(
    max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def upscalers(tmp_path_factory):
    """By overlap beyond the network's reach, and tile size (None: untiled).

    Those with an overlap of 12 smooth their pictures, for which a tile needs a pixel more.
    """
    folder = tmp_path_factory.mktemp("overlaps")
    opened = {}
    for overlap in (0, 5, 12):
        bundle = write_tiny_bundle(
            folder / f"{overlap}.srflow", halo=REACH + overlap, smoothed=overlap == 12
        )
        for tile in (None, 16, 18, 26, 33, 64):
            opened[overlap, tile] = Upscaler(bundle, device="cpu", threads=1, tile=tile)
    return opened


@slow_fixtures
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    tile=st.sampled_from([16, 18, 26, 33, 64]),
    overlap=st.sampled_from([0, 5, 12]),
    seed=SEEDS,
    sample=st.integers(0, 1000),
    tau=st.floats(0, 2),
    consistent=st.booleans(),
    wrap=st.sampled_from([None, "x", "xy"]),
)
def test_any_tile_and_overlap_give_the_same_picture(
    upscalers, height, width, tile, overlap, **options
):
    image = PICTURE[:height, :width]
    whole, tiled = (upscalers[overlap, size].upscale(image, **options) for size in (None, tile))
    assert np.abs(np.clip(whole, 0, 1) - np.clip(tiled, 0, 1)).max() < 2e-5


@settings(slow_fixtures, max_examples=4)
@given(
    first=st.integers(0, 50),
    count=st.integers(2, 4),
    seed=SEEDS,
    wrap=st.sampled_from([None, "xy"]),
)
def test_a_sample_does_not_know_its_company(upscalers, first, count, **options):
    image = PICTURE[:10, :20]
    together = upscalers[0, 16].encode(image).samples(count, sample=first, **options)
    for index, picture in enumerate(together):
        alone = upscalers[0, 16].upscale(image, sample=first + index, **options)
        np.testing.assert_array_equal(picture, alone)


@slow_fixtures
@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    channels=st.integers(1, 4),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    seed=SEEDS,
    tile=st.sampled_from([None, 16, 26]),
    consistent=st.booleans(),
    scale=st.sampled_from([None, 1.5]),
    wrap=st.sampled_from([None, "y"]),
)
def test_a_streamed_file_is_the_picture_in_memory(
    upscalers, tmp_path, height, width, channels, dtype, tile, seed, **options
):
    pixels = np.random.default_rng(seed % 1000).integers(
        0, np.iinfo(dtype).max, (height, width, channels), dtype, endpoint=True
    )
    write_image(tmp_path / "lr.png", pixels)
    upscaler = upscalers[0, tile]
    upscaler.upscale_file(tmp_path / "lr.png", tmp_path / "sr.png", seed=seed, **options)
    expected = upscaler.upscale(pixels, seed=seed, **options)
    np.testing.assert_array_equal(read_image(tmp_path / "sr.png").pixels, expected)


def test_the_embedded_model_keeps_its_promise():
    """At most 2/255 anywhere, 0.02/255 on average, on a photograph, whatever the tiles."""
    photo = read_image(Path(__file__).parents[3] / "examples/photos/cat.png").pixels[30:80, 90:150]
    image = (photo / np.float32(255)).astype(np.float32)
    bundle = Bundle.embedded()
    with Upscaler(bundle, device="cpu", tile=None) as upscaler:
        whole = upscaler.upscale(image, tau=1.0, seed=1)
    for tile in (20, 30):
        with Upscaler(bundle, device="cpu", tile=tile) as upscaler:
            difference = np.abs(upscaler.upscale(image, tau=1.0, seed=1) - whole)
        assert difference.max() <= 2 / 255
        assert difference.mean() <= 0.02 / 255
