"""FrameUpscaler: what becomes of a clip's frames, on a tiny bundle."""

import subprocess
import sys
import threading
from itertools import pairwise

import numpy as np
import pytest

from srflow_sdk.clips import FrameUpscaler
from srflow_sdk.errors import ArgumentError, CancelledError, MissingExtraError
from srflow_sdk.upscaler import Upscaler


def scene(seed, height=400, width=500):
    """A picture with texture of several sizes, far from black and white, uint8 H×W×3."""
    random = np.random.default_rng(seed)
    coarse = random.random((height // 10, width // 10, 3))
    fine = random.random((height // 4, width // 4, 3))
    large = sum(part.repeat(size, 0).repeat(size, 1) for part, size in ((coarse, 10), (fine, 4)))
    return np.rint(70 + large[:height, :width] * 60).astype(np.uint8)


@pytest.fixture(scope="module")
def pan():
    """Frame t of a camera that moves by two pixels down and one to the right, 40×48."""
    picture = scene(0)
    return lambda t: picture[2 * t : 2 * t + 40, t : t + 48]


def drawn(upscaler, frames, numbers, first=None, **options):
    """These frames; those from `first` on are only followed before."""
    clip = FrameUpscaler(upscaler, **options)
    for number in range(numbers.start if first is None else first, numbers.start):
        clip.follow(frames(number), number)
    return [clip.draw(frames(number), number) for number in numbers]


def test_a_keyframe_is_what_upscale_draws(upscaler, pan):
    for options in (
        {"tau": 0.6, "seed": 3, "sample": 2},
        {"tau": "auto", "scale": 2, "consistent": True},
    ):
        (frame,) = drawn(upscaler, pan, range(1), **options)
        assert np.array_equal(frame, upscaler.upscale(pan(0), **options)), options
    first, second = drawn(upscaler, pan, range(2), keyframes=1)
    assert np.array_equal(second, upscaler.upscale(pan(1)))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("latents", ["motion", "screen"])
def test_of_several_models_the_one_that_is_named_draws_every_frame(latents, two_models, pan):
    with Upscaler(two_models / "x4-photo.srflow", device="cpu", threads=1) as alone:
        expected = alone.upscale(pan(0))
    with Upscaler(device="cpu", threads=1) as upscaler:
        (frame,) = drawn(upscaler, pan, range(1), latents=latents, model="x4-photo")
        for model in (None, "x4-large"):
            with pytest.raises(ArgumentError, match="name 'x4-small' or 'x4-photo'"):
                FrameUpscaler(upscaler, model=model)
    assert np.array_equal(frame, expected)


def test_what_is_drawn_moves_with_the_picture(upscaler, pan):
    smooth = [upscaler.upscale(pan(number), tau=0.0).astype(float) for number in range(6)]
    changes = {}
    for latents in ("motion", "screen", "fresh"):
        frames = drawn(upscaler, pan, range(6), tau=0.1, latents=latents)
        detail = [frame - mean for frame, mean in zip(frames, smooth, strict=True)]
        pairs = [(before[8:, 4:], now[:-8, :-4]) for before, now in pairwise(detail)]
        changes[latents] = np.mean(
            [np.abs(before - now)[24:-24, 24:-24].mean() for before, now in pairs]
        )
    assert changes["motion"] < 0.5 * min(changes["fresh"], changes["screen"])


def test_detail_neither_fades_nor_grows_where_nothing_moves(upscaler, pan):
    smooth = upscaler.upscale(pan(0)[:24], tau=0.0).astype(float)
    frames = drawn(upscaler, lambda t: pan(0)[:24], range(24), tau=0.1)
    spread = [np.std(frame - smooth) for frame in frames]
    assert np.mean(spread[14:]) == pytest.approx(spread[0], rel=0.05)
    assert np.abs(np.mean(frames[14:], axis=0) - smooth).mean() < spread[0]


def test_frames_that_see_the_same_are_averaged(upscaler, pan):
    random = np.random.default_rng(4)
    noisy = [
        np.clip(pan(0) + random.normal(0, 4, pan(0).shape), 0, 255).astype(np.uint8)
        for _ in range(5)
    ]
    changes = []
    for latents in ("motion", "screen"):
        frames = drawn(upscaler, lambda t: noisy[t], range(5), tau=0.0, latents=latents)
        changes.append(
            np.mean([np.abs(now - before) for before, now in pairwise(np.asarray(frames, float))])
        )
    assert changes[0] < 0.6 * changes[1]


def test_a_run_may_start_anywhere(upscaler, pan):
    options = {"keyframes": 4, "tau": "auto"}
    whole = drawn(upscaler, pan, range(8), **options)
    clip = FrameUpscaler(upscaler, **options)
    assert clip.start(6) == 4
    for number, part in (
        (6, drawn(upscaler, pan, range(6, 8), first=4, **options)),
        (2, drawn(upscaler, pan, range(2, 4), first=0, **options)),
    ):
        for frame, expected in zip(part, whole[number : number + 2], strict=True):
            assert np.array_equal(frame, expected)


def test_tiles_do_not_show(tiny_bundle, pan):
    with (
        Upscaler(tiny_bundle, device="cpu", threads=1, tile=16) as tiled,
        Upscaler(tiny_bundle, device="cpu", threads=1, tile=None) as one,
    ):
        options = {"tau": "auto", "scale": 3, "consistent": True}
        pairs = zip(
            drawn(tiled, pan, range(2), **options),
            drawn(one, pan, range(2), **options),
            strict=True,
        )
        assert all(np.abs(a.astype(int) - b).max() <= 1 for a, b in pairs)


def test_a_cut_begins_anew(upscaler, pan):
    other = scene(1)[100:140, 100:148]
    frames = drawn(upscaler, lambda t: pan(t) if t < 2 else other, range(3))
    assert np.array_equal(frames[2], upscaler.upscale(other))


def test_other_latents_are_those_of_pictures(upscaler, pan):
    screen = FrameUpscaler(upscaler, latents="screen", sample=4)
    fresh = FrameUpscaler(upscaler, latents="fresh", seed=5)
    assert screen.start(300) == fresh.start(300) == 300
    assert np.array_equal(screen.draw(pan(7), 7), upscaler.upscale(pan(7), sample=4))
    assert np.array_equal(fresh.draw(pan(7), 7), upscaler.upscale(pan(7), seed=5, sample=7))


def test_sixteen_bits_and_odd_sizes_come_back(upscaler, pan):
    frames = drawn(upscaler, lambda t: pan(t)[:37, :41].astype(np.uint16) * 257, range(2))
    assert [(frame.dtype, frame.shape) for frame in frames] == [(np.uint16, (148, 164, 3))] * 2
    tiny = drawn(upscaler, lambda t: pan(t)[:3, :5], range(2))
    assert tiny[1].shape == (12, 20, 3)


def test_frames_that_do_not_follow_are_refused(upscaler, pan):
    clip = FrameUpscaler(upscaler, keyframes=10)
    with pytest.raises(
        ArgumentError,
        match=r"frame 13 needs those before it, and none was: follow them from 10 on",
    ):
        clip.draw(pan(3), 13)
    clip.follow(pan(0), 10)
    for number in (10 + 2, 11 + 2, 9):
        with pytest.raises(ArgumentError, match="the last was 10"):
            clip.follow(pan(2), number)
    with pytest.raises(ArgumentError, match="frame 11 has 47×40 pixels, and the last one 48×40"):
        clip.draw(pan(1)[:, :-1], 11)
    with pytest.raises(ArgumentError, match="must be"):
        clip.draw(pan(0).astype(np.float32), 11)
    clip.draw(pan(1), 11)
    clip.draw(pan(0), 20)  # a keyframe needs no other
    with pytest.raises(ArgumentError):
        FrameUpscaler(upscaler, keyframes=0)


def test_after_an_error_the_frame_is_drawn_again(upscaler, pan):
    cancel = threading.Event()
    clip = FrameUpscaler(upscaler, cancel=cancel)
    clip.draw(pan(0), 0)
    cancel.set()
    with pytest.raises(CancelledError):
        clip.draw(pan(1), 1)
    cancel.clear()
    assert np.array_equal(clip.draw(pan(1), 1), drawn(upscaler, pan, range(2))[1])


def test_without_opencv_one_line_says_what_to_install(upscaler, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(
        MissingExtraError,
        match=r'^cv2 is not installed.*pip install "srflow-sdk\[video\]"$',
    ):
        FrameUpscaler(upscaler)
    FrameUpscaler(upscaler, latents="fresh")
    code = "import sys, srflow_sdk.clips; sys.exit('cv2' in sys.modules or 'torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("tau", [0.8, "auto"])
def test_another_upscaler_goes_on_after_the_last_frame(upscaler, pan, tmp_path, tau):
    frames = [pan(number)[:24, :32] for number in range(4)]
    first = FrameUpscaler(upscaler, tau=tau)
    assert first.state() == {}
    drawn = [first.draw(frame, number) for number, frame in enumerate(frames[:3])]
    np.savez(tmp_path / "state.npz", **first.state())
    drawn.append(first.draw(frames[3], 3))
    second = FrameUpscaler(upscaler, tau=tau)
    with np.load(tmp_path / "state.npz") as state:
        second.go_on(state)
    assert np.array_equal(second.draw(frames[3], 3), drawn[3])
    assert not np.array_equal(
        FrameUpscaler(upscaler, tau=tau, keyframes=3).draw(frames[3], 3),
        drawn[3],
    )
