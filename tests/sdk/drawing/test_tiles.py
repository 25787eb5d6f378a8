from __future__ import annotations

import itertools

import numpy as np
import pytest

from srflow_sdk.drawing.tiles import (
    AUTO_BUDGET_BYTES,
    MIN_TILE,
    TileSize,
    Window,
    check_tile,
    core_size,
    padded_size,
    plan_tiles,
    split_tile,
)
from srflow_sdk.errors import ArgumentError, DeviceError
from srflow_sdk.model.engine_records import LrProfile

SHAPES = [(2, 2), (2, 400), (46, 62), (128, 130), (254, 66), (512, 384)]


def auto(
    height: int, width: int, *, bytes_per_pixel: int = 34_000, halo: int = 16, multiple: int = 2, **memory: int
) -> int | None:
    return core_size(
        "auto",
        height=height,
        width=width,
        multiple=multiple,
        halo=halo,
        conditioning_bytes_per_pixel=bytes_per_pixel,
        **memory,
    )


@pytest.mark.parametrize(("height", "width"), SHAPES)
@pytest.mark.parametrize(("core", "halo", "multiple"), [(16, 6, 2), (64, 0, 2), (32, 7, 2), (None, 9, 2), (100, 5, 2)])
def test_cores_cover_every_pixel_once(height: int, width: int, core: int | None, halo: int, multiple: int) -> None:
    covered = np.zeros((height, width), int)
    for tile in plan_tiles(height, width, core=core, halo=halo, multiple=multiple):
        covered[tile.core.slices] += 1
    assert (covered == 1).all()


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_windows_hold_the_halo_and_stop_at_the_border(height: int, width: int) -> None:
    reach = 8  # 7, rounded up to the multiple
    for tile in plan_tiles(height, width, core=32, halo=7, multiple=2):
        core, window = tile.core, tile.window
        top, left = max(core.top - reach, 0), max(core.left - reach, 0)
        bottom, right = min(core.top + core.height + reach, height), min(core.left + core.width + reach, width)
        assert 0 <= window.top <= top
        assert 0 <= window.left <= left
        assert bottom <= window.top + window.height <= height
        assert right <= window.left + window.width <= width
        assert window.height <= 32 + 2 * reach
        assert window.width <= 32 + 2 * reach
        for value in (window.top, window.left, window.height, window.width, core.top, core.left):
            assert value % 2 == 0


@pytest.mark.parametrize(("height", "width", "count"), [(3000, 4000, 1), (866, 1156, 1), (500, 998, 2), (300, 400, 4)])
def test_windows_come_in_few_sizes(height: int, width: int, count: int) -> None:
    tiles = plan_tiles(height, width, core=96, halo=12, multiple=2)
    assert len({(tile.window.height, tile.window.width) for tile in tiles}) == count


@pytest.mark.parametrize("length", range(2, 400, 26))
def test_no_tile_is_a_sliver(length: int) -> None:
    for core in (16, 32, 62):
        sizes = {tile.core.width for tile in plan_tiles(2, length, core=core, halo=4, multiple=2)}
        assert max(sizes) <= core
        assert max(sizes) - min(sizes) <= 2


def test_latent_windows_are_the_absolute_place_at_each_level() -> None:
    tiles = plan_tiles(64, 96, core=32, halo=6, multiple=2)
    tile = tiles[4]
    assert tile.window == Window(top=26, left=26, height=38, width=44)
    assert tile.window.scaled(4, 2) == Window(top=52, left=52, height=76, width=88)
    assert tile.window.scaled(4, 4) == tile.window
    assert tile.window.scaled(4, 8) == Window(top=13, left=13, height=19, width=22)


def test_a_window_between_pixels_is_refused() -> None:
    with pytest.raises(ArgumentError, match="whole pixels"):
        Window(top=1, left=0, height=2, width=2).scaled(4, 8)


def test_a_small_image_is_one_tile_and_a_large_one_fits_the_budget() -> None:
    assert auto(64, 64) is None
    for bytes_per_pixel, halo in itertools.product((3_000, 10_000), (0, 8, 16)):
        core = auto(4000, 3000, bytes_per_pixel=bytes_per_pixel, halo=halo)
        assert core is not None
        assert (core + 2 * halo) ** 2 * 3 * bytes_per_pixel <= 1.02 * AUTO_BUDGET_BYTES


def test_auto_tiles_stay_within_sane_bounds() -> None:
    assert auto(4000, 3000, bytes_per_pixel=1 << 20) == MIN_TILE
    assert auto(40_000, 30_000, bytes_per_pixel=10) == 512


def test_auto_takes_more_for_a_tile_of_64_if_there_is_more() -> None:
    large = {"bytes_per_pixel": 34_000, "halo": 16}
    assert auto(4000, 3000, **large) == 32
    assert auto(4000, 3000, **large, most=4 << 30) == 64
    assert auto(4000, 3000, **large, most=1 << 30) == 48
    assert auto(4000, 3000, **large, budget=100 << 20, most=100 << 20) == MIN_TILE


@pytest.mark.parametrize("tile", ["all", "none", 15, 0, -64, 64.0, True, np.zeros(3)])
def test_other_tile_sizes_are_refused(tile: object) -> None:
    with pytest.raises(ArgumentError, match="tile is"):
        check_tile(tile)


def test_tile_sizes_are_rounded_up_to_the_multiple() -> None:
    options = {"height": 999, "width": 999, "halo": 4, "conditioning_bytes_per_pixel": 1}
    assert core_size(33, multiple=8, **options) == 40
    assert core_size(None, multiple=8, **options) is None
    assert padded_size(45, 2) == 46


def test_sizes_that_are_not_multiples_are_refused() -> None:
    with pytest.raises(ArgumentError, match="multiples of 2"):
        plan_tiles(45, 46, core=16, halo=2, multiple=2)


LIMITS = LrProfile(min=(24, 32), opt=(64, 80), max=(128, 160))


def limited(tile: TileSize, height: int, width: int, limits: LrProfile = LIMITS, *, halo: int = 7) -> int | None:
    return core_size(
        tile,
        height=height,
        width=width,
        multiple=2,
        halo=halo,
        conditioning_bytes_per_pixel=1000,
        budget=1 << 30,
        limits=limits,
    )


@pytest.mark.parametrize("tile", ["auto", 16, 48, 112])
@pytest.mark.parametrize(("height", "width"), [(24, 32), (128, 160), (130, 40), (26, 1000), (300, 162), (600, 700)])
def test_windows_stay_within_what_a_backend_takes(height: int, width: int, tile: TileSize) -> None:
    core = limited(tile, height, width)
    tiles = plan_tiles(height, width, core=core, halo=7, multiple=2, least=LIMITS.min)
    tops = [tile.window.top for tile in tiles]
    assert tops == sorted(tops), "rows are read once, from the top down"
    covered = np.zeros((height, width), int)
    for whole in tiles:
        covered[whole.core.slices] += 1
        size = whole.window.height, whole.window.width
        assert {part.window for part in split_tile(whole, core=16, halo=7, multiple=2, least=size)} == {whole.window}
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


def test_auto_takes_an_image_whole_if_it_may_and_else_what_the_backend_is_best_at() -> None:
    assert limited("auto", 128, 160) is None
    assert limited("auto", 130, 160) == 48  # windows of 64×64
    assert limited("auto", 2000, 3000) == 48
    assert limited("auto", 130, 160, LrProfile(min=(8, 8), opt=(20, 20), max=(100, 100))) == MIN_TILE
    assert limited("auto", 130, 160, LrProfile(min=(8, 8), opt=(20, 20), max=(24, 100))) == 8


def test_less_memory_makes_tiles_smaller_than_the_backends_best() -> None:
    options = {"height": 999, "width": 999, "multiple": 2, "halo": 7, "conditioning_bytes_per_pixel": 34_000}
    assert core_size("auto", **options, budget=300 << 20, limits=LIMITS) == 32
    assert core_size("auto", **options, budget=1 << 40, limits=LIMITS) == 48


def test_tiles_that_a_backend_does_not_take_are_refused_with_the_largest_and_the_fix() -> None:
    assert limited(None, 128, 160) is None
    with pytest.raises(DeviceError, match=r"the image, 160×130, is larger than the 160×128.*tile=112.*24x32,64x80,160"):
        limited(None, 130, 160)
    assert limited(112, 999, 999) == 112
    with pytest.raises(
        DeviceError, match=r"tile=114 with its halo, 130×130, .*or tile=112, .*--shapes 24x32,64x80,130"
    ):
        limited(114, 999, 999)
    assert limited(144, 128, 999) == 144  # only columns are cut


def test_a_backend_that_takes_nothing_but_halo_is_refused() -> None:
    with pytest.raises(DeviceError, match=r"the halo \(64 on every side\) fills all of it.*--shapes 24x32,64x80,272"):
        limited("auto", 999, 999, halo=64)
