"""examples/vapoursynth/upscale.py: a clip's frames are the SDK's pictures, in a script and through
vspipe."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from srflow_sdk import Upscaler

vs = pytest.importorskip(
    "vapoursynth", reason="Python 3.12 or newer: pip install vapoursynth vapoursynth-bestsource"
)
SCRIPT = Path(__file__).parents[2] / "examples" / "vapoursynth" / "upscale.py"
# odd sides, which are not a plane's stride
WIDTH = 25
HEIGHT = 18
FRAMES = 3


@pytest.fixture(scope="module")
def upscale():
    spec = importlib.util.spec_from_file_location("upscale", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.upscale


@pytest.fixture(scope="module")
def upscaler():
    with Upscaler("x4-small", device="cpu", threads=1) as opened:
        yield opened


def blank(**changes):
    options = {
        "format": vs.RGBS,
        "width": WIDTH,
        "height": HEIGHT,
        "length": FRAMES,
        "fpsnum": 25,
        **changes,
    }
    return vs.core.std.BlankClip(**options)


def pixels_of(frame):
    return np.stack([np.asarray(frame[plane]) for plane in range(3)], axis=-1)


@pytest.fixture(scope="module")
def clip():
    """Noise, another in each frame, that leaves [0, 1] as conversions from YUV do."""

    def fill(n, f):
        frame = f.copy()
        for plane, values in enumerate(
            np.random.default_rng(n).uniform(-0.1, 1.1, (3, HEIGHT, WIDTH))
        ):
            np.asarray(frame[plane])[:] = values
        frame.props["number"] = n
        return frame

    made = blank().std.SetFrameProps(_SARNum=4, _SARDen=3)
    return made.std.ModifyFrame(made, fill)


def test_frames_are_the_sdks_pictures_with_the_clips_properties(upscale, upscaler, clip):
    large = upscale(clip, upscaler, tau=0.6, seed=5)
    assert (large.format.id, large.width, large.height) == (vs.RGBS, 4 * WIDTH, 4 * HEIGHT)
    assert (large.num_frames, large.fps) == (FRAMES, 25)
    pairs = list(zip(clip.frames(), large.frames(prefetch=2), strict=True))
    for frame, drawn in pairs:
        picture = upscaler.upscale(np.clip(pixels_of(frame), 0, 1), tau=0.6, seed=5)
        assert picture.dtype == np.float32
        assert np.array_equal(pixels_of(drawn), picture)
        assert dict(drawn.props) == dict(frame.props)
    assert [drawn.props["number"] for _, drawn in pairs] == [0, 1, 2]
    assert not np.array_equal(pixels_of(pairs[0][1]), pixels_of(pairs[1][1]))


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"format": vs.YUV420P8, "width": 24}, "YUV420P8"),
        ({"format": vs.GRAYS}, "GrayS"),
        ({"format": vs.RGB24}, "RGB24"),
        ({}, "of several sizes"),
    ],
)
def test_other_clips_are_refused_with_the_call_that_converts_them(
    upscale, upscaler, changes, found
):
    clip = blank(**changes)
    if not changes:
        clip = vs.core.std.Splice([clip, blank(width=32)], mismatch=True)
    with pytest.raises(vs.Error, match=f"this one is {found}: use clip") as raised:
        upscale(clip, upscaler)
    message = str(raised.value)
    assert "\n" not in message
    converted = eval(message.partition("use ")[2], {"clip": clip, "vs": vs})
    assert converted.get_frame(0).format.id == upscale(converted, upscaler).format.id == vs.RGBS


def test_vspipe_enlarges_a_video_file(tmp_path):
    if not hasattr(vs.core, "bs"):
        pytest.skip("no source of video files: pip install vapoursynth-bestsource")
    with (tmp_path / "clip.y4m").open("wb") as file:
        blank(format=vs.YUV420P8, width=24, color=[150, 100, 160]).output(file, y4m=True)
    folder = Path(sys.executable).parent
    options = [
        "-c",
        "y4m",
        "-a",
        f"source={tmp_path / 'clip.y4m'}",
        "-a",
        "model=x4-small",
        "-a",
        "tau=0",
    ]
    # What vspipe and BestSource write to the home folder.
    environ = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    environ.update({name: str(tmp_path) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")})
    done = subprocess.run(
        [folder / "vspipe", *options, SCRIPT, "-"], capture_output=True, timeout=240, env=environ
    )
    if b"library path couldn't be determined" in done.stderr:
        pytest.skip("vspipe needs a Python that has a shared library")
    assert done.returncode == 0, done.stderr.decode()
    head, *frames = done.stdout.split(b"FRAME\n")
    assert {b"C420", b"W96", b"H72", b"F25:1"} <= {
        word.removesuffix(b"jpeg") for word in head.split()
    }
    assert [len(frame) for frame in frames] == [96 * 72 * 3 // 2] * FRAMES
