import itertools

import numpy as np
import pytest

from srflow_sdk.errors import ArgumentError, DeviceError
from srflow_sdk.geometry.tiles import (
    AUTO_BUDGET_BYTES,
    MIN_TILE,
    Window,
    core_size,
    padded_size,
    plan_tiles,
    split_tile,
)
from srflow_sdk.model.engine_records import LrProfile


def core_of(height, width, tile="auto", **options):
    return core_size(tile, height=height, width=width, multiple=2, **options)


@pytest.mark.parametrize(
    ("height", "width"),
    [(2, 2), (2, 400), (46, 62), (128, 130), (254, 66), (512, 384), (866, 1156)],
)
@pytest.mark.parametrize(("core", "halo"), [(16, 6), (64, 0), (32, 7), (None, 9), (100, 5)])
def test_cores_cover_every_pixel_once_and_windows_hold_the_halo(height, width, core, halo):
    covered = np.zeros((height, width), int)
    reach = padded_size(halo, 2)
    tiles = plan_tiles(height, width, core=core, halo=halo, multiple=2)
    for tile in tiles:
        inner = tile.core
        window = tile.window
        covered[inner.slices] += 1
        bottom = min(inner.top + inner.height + reach, height)
        right = min(inner.left + inner.width + reach, width)
        assert 0 <= window.top <= max(inner.top - reach, 0)
        assert 0 <= window.left <= max(inner.left - reach, 0)
        assert bottom <= window.top + window.height <= height
        assert right <= window.left + window.width <= width
        assert all(value % 2 == 0 for value in (*vars(window).values(), *vars(inner).values()))
        if core is not None:
            assert max(window.height, window.width) <= core + 2 * reach
    assert (covered == 1).all()
    assert len({(tile.window.height, tile.window.width) for tile in tiles}) <= 4, (
        "windows come in few sizes"
    )
    for side in ("height", "width"):
        sizes = {getattr(tile.core, side) for tile in tiles}
        assert max(sizes) - min(sizes) <= 2, "no tile is a sliver"


def test_a_small_image_is_one_tile_and_a_large_one_fits_the_budget():
    usual = {"conditioning_bytes_per_pixel": 34_000, "halo": 16}
    assert core_of(64, 64, **usual) is None
    for nbytes, halo in itertools.product((3_000, 10_000), (0, 8, 16)):
        core = core_of(4000, 3000, conditioning_bytes_per_pixel=nbytes, halo=halo)
        assert core is not None
        assert (core + 2 * halo) ** 2 * 3 * nbytes <= 1.02 * AUTO_BUDGET_BYTES
    assert core_of(4000, 3000, conditioning_bytes_per_pixel=1 << 20, halo=16) == MIN_TILE
    assert core_of(40_000, 30_000, conditioning_bytes_per_pixel=10, halo=16) == 512
    found = [
        core_of(4000, 3000, **usual, **memory)
        for memory in ({}, {"most": 4 << 30}, {"most": 1 << 30})
    ]
    assert found == [32, 64, 48], "more for a tile of 64 if there is more"
    assert core_of(4000, 3000, **usual, budget=100 << 20, most=100 << 20) == MIN_TILE


def test_sizes_are_multiples():
    options = {"height": 999, "width": 999, "halo": 4, "conditioning_bytes_per_pixel": 1}
    assert core_size(33, multiple=8, **options) == 40
    with pytest.raises(ArgumentError, match="whole pixels"):
        Window(top=1, left=0, height=2, width=2).scaled(4, 8)


LIMITS = LrProfile(min=(24, 32), opt=(64, 80), max=(128, 160))


def limited(tile, height, width, limits=LIMITS, *, halo=7):
    memory = {"conditioning_bytes_per_pixel": 1000, "budget": 1 << 30}
    return core_of(height, width, tile, halo=halo, limits=limits, **memory)


@pytest.mark.parametrize("tile", ["auto", 16, 48, 112])
@pytest.mark.parametrize(
    ("height", "width"),
    [(24, 32), (128, 160), (130, 40), (26, 1000), (300, 162), (600, 700)],
)
def test_windows_stay_within_what_a_backend_takes(height, width, tile):
    core = limited(tile, height, width)
    tiles = plan_tiles(height, width, core=core, halo=7, multiple=2, least=LIMITS.min)
    tops = [tile.window.top for tile in tiles]
    assert tops == sorted(tops), "rows are read once, from the top down"
    covered = np.zeros((height, width), int)
    for whole in tiles:
        covered[whole.core.slices] += 1
        size = whole.window.height, whole.window.width
        assert {
            part.window for part in split_tile(whole, core=16, halo=7, multiple=2, least=size)
        } == {whole.window}
        for each in (whole, *split_tile(whole, core=16, halo=7, multiple=2, least=LIMITS.min)):
            assert LIMITS.holds(each.window.height, each.window.width), each
            inside = each.window.within(whole.window)
            assert min(inside.top, inside.left) >= 0
            assert inside.top + inside.height <= whole.window.height
            assert inside.left + inside.width <= whole.window.width
            rows, columns = each.window.slices
            assert rows.start <= max(each.core.top - 8, 0)
            assert rows.stop >= min(each.core.top + each.core.height + 8, height)
            assert columns.start <= max(each.core.left - 8, 0)
            assert columns.stop >= min(each.core.left + each.core.width + 8, width)
    assert (covered == 1).all()


def test_auto_takes_an_image_whole_if_it_may_and_else_what_the_backend_is_best_at():
    assert limited("auto", 128, 160) is None
    assert limited("auto", 130, 160) == 48  # windows of 64×64
    assert limited("auto", 2000, 3000) == 48
    scarce = {"conditioning_bytes_per_pixel": 34_000, "budget": 300 << 20}
    assert core_of(999, 999, halo=7, limits=LIMITS, **scarce) == 32, (
        "less memory makes them smaller"
    )
    assert (
        limited("auto", 130, 160, LrProfile(min=(8, 8), opt=(20, 20), max=(100, 100))) == MIN_TILE
    )
    assert limited("auto", 130, 160, LrProfile(min=(8, 8), opt=(20, 20), max=(24, 100))) == 8


def test_tiles_that_a_backend_does_not_take_are_refused_with_the_largest_and_the_fix():
    assert limited(None, 128, 160) is None
    with pytest.raises(
        DeviceError,
        match=r"the image, 160×130, is larger than the 160×128.*tile=112.*24x32,64x80,160",
    ):
        limited(None, 130, 160)
    assert limited(112, 999, 999) == 112
    with pytest.raises(
        DeviceError,
        match=r"tile=114 with its halo, 130×130, .*or tile=112, .*--shapes 24x32,64x80,130",
    ):
        limited(114, 999, 999)
    assert limited(144, 128, 999) == 144  # only columns are cut
    with pytest.raises(
        DeviceError,
        match=r"the halo \(64 on every side\) fills all of it.*--shapes 24x32,64x80,272",
    ):
        limited("auto", 999, 999, halo=64)
