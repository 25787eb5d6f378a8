from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srflow_apps.serving.remote_upscaler import ENVELOPE_BYTES, Limits
from srflow_sdk.drawing.tiles import padded_size, plan_tiles
from srflow_sdk.errors import ArgumentError

LIMITS = Limits(
    message_bytes=8_000_000, tile_pixels=1 << 24, answer_bytes=1 << 30, samples=16, scale=4, multiple=2, halo=10
)


@given(
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    multiple=st.sampled_from([1, 2, 3, 8]),
    halo=st.integers(0, 60),
    scale=st.sampled_from([1, 2, 4, 8]),
    tile=st.one_of(st.none(), st.just("auto"), st.integers(16, 900)),
    message_bytes=st.integers(1 << 16, 1 << 25),
)
def test_no_window_of_any_plan_needs_a_larger_message(
    height: int, width: int, multiple: int, halo: int, scale: int, tile: int | str | None, message_bytes: int
) -> None:
    changes = {"message_bytes": message_bytes, "scale": scale, "multiple": multiple, "halo": halo}
    try:
        limits = dataclasses.replace(LIMITS, **changes)
    except ArgumentError:
        return
    height, width = padded_size(height, multiple), padded_size(width, multiple)
    core = limits.core(tile, height=height, width=width, halo=halo)  # type: ignore[arg-type]
    for one in plan_tiles(height, width, core=core, halo=halo, multiple=multiple):
        pixels = one.window.height * one.window.width
        assert 16 * pixels + ENVELOPE_BYTES <= message_bytes
        samples = limits.samples_at_once(pixels)
        assert 1 <= samples <= limits.samples
        assert 12 * scale**2 * pixels * samples + ENVELOPE_BYTES <= message_bytes


def test_servers_limits_count_too() -> None:
    assert dataclasses.replace(LIMITS, tile_pixels=5000).pixels == 5000
    small = dataclasses.replace(LIMITS, answer_bytes=192_000, halo=0)
    assert small.pixels == 1000
    assert small.samples_at_once(500) == 2


def test_limits_without_room_for_the_smallest_tile_are_refused() -> None:
    for changes, reason in (
        ({"message_bytes": 70_000}, "needs 252,928"),
        ({"message_bytes": 1}, "needs 252,928"),
        ({"tile_pixels": 1000}, "at most 1,000 pixels"),
        ({"answer_bytes": 1000}, "answers of 1,000 bytes"),
    ):
        with pytest.raises(ArgumentError, match=reason):
            dataclasses.replace(LIMITS, **changes)
