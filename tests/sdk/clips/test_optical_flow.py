"""Motion between frames: what is found, what is taken for new, and what is carried along."""

import numpy as np
import pytest

from srflow_sdk.clips.optical_flow import Motion, motion_between

SCENE = (
    np.rint(255 * np.random.default_rng(1).random((20, 24)))
    .astype(np.uint8)
    .repeat(6, 0)
    .repeat(6, 1)
)
BEFORE = np.ascontiguousarray(SCENE[10:90, 10:110])
NOW = np.ascontiguousarray(SCENE[13:93, 8:108])


def moved(columns, rows, *, height=20, width=30):
    flow = np.ones((height, width, 2), np.float32) * np.array([columns, rows], np.float32)
    return Motion(flow=flow, seen=np.ones((height, width), np.bool_))


def test_motion_is_found_and_what_appears_is_not_seen():
    found = motion_between(BEFORE, NOW, height=80, width=100)
    assert np.abs(np.median(found.flow, axis=(0, 1)) - [-2, 3]).max() < 0.1
    assert found.seen.mean() > 0.8
    assert not found.is_cut
    assert motion_between(
        BEFORE, np.ascontiguousarray(SCENE.T[10:90, 10:110]), height=80, width=100
    ).is_cut


def test_a_fade_is_one_shot_and_a_flash_is_a_cut():
    dark = NOW // 2
    assert motion_between(dark, dark + np.uint8(10), height=80, width=100).seen.mean() > 0.95
    assert motion_between(dark, dark + np.uint8(60), height=80, width=100).is_cut


@pytest.mark.parametrize("band", [80, 32])
def test_pictures_are_carried_by_whole_pixels_exactly(band):
    picture = np.random.default_rng(2).random((80, 120, 3)).astype(np.float32)
    parts = [
        moved(-0.5, 1).carried(picture, top=top, bottom=min(top + band, 80))
        for top in range(0, 80, band)
    ]
    came = np.concatenate([pictures[0] for pictures, _ in parts])
    seen = np.concatenate([there for _, there in parts])
    assert np.abs(came[:76, 2:] - picture[4:, :-2]).max() < 1e-5
    assert seen[:76, 2:].all()
    assert not seen[77:].any()
    assert not seen[:, :1].any()
