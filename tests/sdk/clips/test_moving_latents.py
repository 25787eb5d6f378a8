"""Coordinates that move along motion: no place is used twice, and fractions of a pixel add up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srflow_sdk.clips.moving_latents import MovingLatents, Places, moved_places, still_places
from srflow_sdk.clips.optical_flow import CUT, BackwardFlow, backward_flow
from srflow_sdk.drawing.temperature import Temperature
from srflow_sdk.drawing.tiles import Window
from srflow_sdk.latents.random_field import LatentLevel, standard_normal


def moved(shift: tuple[float, float], times: int, *, height: int = 24, width: int = 32) -> Places:
    """The places after a whole frame moved several times."""
    places, flow = still_places(height, width), np.ones((2, height, width), np.float32)
    flow *= np.array(shift, np.float32)[:, None, None]
    for age in range(1, times + 1):
        places = moved_places(places, flow, np.ones((height, width), np.bool_), age=age)
    return places


def rounded(places: Places) -> np.ndarray:
    return np.floor(places + 0.5).astype(np.int64)


def test_whole_positions_move_exactly() -> None:
    places = moved((2, -1), 3)
    assert np.array_equal(places[:, :18, 3:], still_places(24, 32)[:, 6:, :-3])
    assert (places[0, 18:] >= 1 << 18).all()
    assert (places[0, :, :3] >= 1 << 18).all()


@pytest.mark.parametrize("times", [3, 10, 39])
def test_fractions_of_a_position_add_up(times: int) -> None:
    places = moved((0.3, 0.125), times)
    inner = rounded(places)[:, :8, :24]
    expected = still_places(24, 32)[:, :8, :24] + np.array([0.3, 0.125])[:, None, None] * times
    assert np.abs(inner - expected).max() <= 0.5 + 1e-5


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 6), st.integers(1, 6))
def test_no_place_is_used_twice_in_a_frame(seed: int, size: float, frames: int) -> None:
    random = np.random.default_rng(seed)
    places = still_places(12, 17)
    for age in range(1, frames + 1):
        flow = random.normal(0, size, (2, 12, 17)).astype(np.float32)
        places = moved_places(places, flow, random.random((12, 17)) < 0.9, age=age)
        assert len(np.unique(rounded(places).reshape(2, -1), axis=1).T) == 12 * 17


def test_of_positions_that_share_a_place_the_nearest_keeps_it() -> None:
    """A zoom by two: each place is wanted by up to three positions."""
    own = still_places(9, 9)
    places = moved_places(own, (-0.5 * own + 0.1).astype(np.float32), np.ones((9, 9), np.bool_), age=1)
    kept = np.argwhere(places[0] < 1 << 18)
    assert np.array_equal(kept, np.argwhere((own % 2 == 0).all(0)))
    assert np.array_equal(rounded(places)[:, ::2, ::2], still_places(5, 5))


def test_windows_are_those_of_the_field_and_independent_standard_normals() -> None:
    levels = (LatentLevel(level=1, channels=6), LatentLevel(level=3, channels=48))
    temperature = Temperature(0.5, default=0.8, height=128, width=160, multiple=2)
    still = {1: still_places(256, 320), 3: still_places(64, 80)}
    made = {"levels": levels, "temperature": temperature, "seed": 9, "sample": 2}
    drawn = MovingLatents(places=still, **made).window(Window(top=8, left=4, height=32, width=20), 4)
    expected = standard_normal(9, 2, 3, channels=48, top=4, left=2, height=16, width=10)
    assert np.array_equal(drawn[3], expected * np.float32(0.5))

    random = np.random.default_rng(0)
    places = dict(still)
    for age in range(1, 6):
        for level, before in places.items():
            flow = np.cumsum(random.normal(0, 0.2, before.shape), axis=2).astype(np.float32)
            places[level] = moved_places(before, flow, random.random(before.shape[1:]) < 0.95, age=age)
    latents = MovingLatents(places=places, **made).window(Window(top=0, left=0, height=128, width=160), 4)
    for normal in (2 * array.astype(np.float64) for array in latents.values()):
        assert abs(normal.mean()) < 4 / np.sqrt(normal.size)
        assert abs(normal.var() - 1) < 4 * np.sqrt(2 / normal.size)
        for other in (normal[:, 1:] * normal[:, :-1], normal[:, :, 1:] * normal[:, :, :-1], normal[1:] * normal[:-1]):
            assert abs(other.mean()) < 4 / np.sqrt(other.size)


def test_motion_is_found_and_what_appears_is_not_seen() -> None:
    random = np.random.default_rng(1)
    scene = np.rint(255 * random.random((20, 24))).astype(np.uint8).repeat(6, 0).repeat(6, 1)
    before, now = np.ascontiguousarray(scene[10:90, 10:110]), np.ascontiguousarray(scene[13:93, 8:108])
    found = backward_flow(before, now, height=80, width=100)
    assert np.abs(np.median(found.flow, axis=(1, 2)) - [3, -2]).max() < 0.1
    assert found.seen.mean() > 0.8
    assert not found.is_cut
    assert backward_flow(before, np.ascontiguousarray(scene.T[10:90, 10:110]), height=80, width=100).is_cut
    half = BackwardFlow(flow=found.flow, seen=np.arange(10)[None] >= 10 * CUT)
    assert half.is_cut
