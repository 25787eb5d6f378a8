from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srflow_sdk.drawing.temperature import Temperature
from srflow_sdk.drawing.tiles import Window
from srflow_sdk.errors import ArgumentError
from srflow_sdk.upscaler import Upscaler


def test_a_constant_map_gives_what_the_number_gives(upscaler: Upscaler, photo: np.ndarray) -> None:
    number = upscaler.upscale(photo, tau=0.7, seed=2)
    for dtype in (np.float32, np.float64):
        np.testing.assert_array_equal(upscaler.upscale(photo, tau=np.full((45, 61), 0.7, dtype), seed=2), number)


def test_a_mask_is_smooth_where_it_is_zero_and_textured_where_it_is_not(upscaler: Upscaler, photo: np.ndarray) -> None:
    mask = np.zeros((45, 61))
    mask[:, 30:] = 0.9
    mixed = upscaler.upscale(photo, tau=mask, seed=2)
    reach = 4 * 8  # of the tiny network, in HR pixels
    np.testing.assert_array_equal(mixed[:, : 120 - reach], upscaler.upscale(photo, tau=0)[:, : 120 - reach])
    np.testing.assert_array_equal(mixed[:, 120 + reach :], upscaler.upscale(photo, tau=0.9, seed=2)[:, 120 + reach :])


@pytest.mark.parametrize("tile", [16, 22])
def test_a_map_gives_the_same_picture_for_any_tile(tiny_bundle: Path, photo: np.ndarray, tile: int) -> None:
    tau = np.random.default_rng(0).random((45, 61))
    image = (photo / np.float32(255)).astype(np.float32)
    with Upscaler(tiny_bundle, tile=None, threads=1) as whole, Upscaler(tiny_bundle, tile=tile, threads=1) as tiled:
        np.testing.assert_allclose(tiled.upscale(image, tau=tau), whole.upscale(image, tau=tau), atol=2e-6)


@pytest.mark.parametrize(("level", "side"), [(1, 8), (2, 4), (3, 2)])
def test_the_map_lies_on_every_levels_grid(level: int, side: int) -> None:
    tau = np.array([[0.0, 1.0, 0.5, 0.5]] * 4)
    maps, factor = Temperature(tau, default=0.8, height=4, width=4, multiple=2).on_levels(
        [level], Window(top=0, left=0, height=4, width=4), 4
    )
    assert factor == 1.0
    expected = {1: [0, 0, 1, 1, 0.5, 0.5, 0.5, 0.5], 2: [0, 1, 0.5, 0.5], 3: [0.5, 0.5]}[level]
    np.testing.assert_array_equal(maps[level], np.broadcast_to(expected, (side, side)).astype(np.float32))


@pytest.mark.parametrize(
    "tau",
    [
        np.zeros((61, 45)),
        np.zeros((45, 61, 1)),
        np.zeros((0, 0)),
        np.full((45, 61), np.nan),
        np.full((45, 61), -0.1),
        np.full((45, 61), 2.1),
        np.full((45, 61), np.inf),
        np.zeros((45, 61), complex),
        np.zeros((45, 61), bool),
        np.full((45, 61), "0.8"),
    ],
)
def test_maps_that_are_none_are_typed_errors(upscaler: Upscaler, photo: np.ndarray, tau: Any) -> None:
    with pytest.raises(ArgumentError, match="tau map"):
        upscaler.upscale(photo, tau=tau)
