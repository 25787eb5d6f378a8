"""Animations among the pictures of a batch: GIF, WebP and PNG, drawn frame by frame."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from srflow_sdk.files import read_provenance
from srflow_sdk.files.animations import Animation
from srflow_sdk.upscaler import Upscaler

Run = Callable[..., Result]

KINDS = (".gif", ".webp", ".png")
LOOPS = {".gif": 0, ".webp": 2, ".png": 3}
SHOWN_MS = [100, 80, 120]


@pytest.fixture
def moving(photo: np.ndarray) -> list[np.ndarray]:
    """Frames of which the left half stands still, RGBA; the two right columns are transparent."""
    frames = []
    for number in range(3):
        frame = np.full((12, 16, 4), 255, np.uint8)
        frame[..., :3] = photo[:12, :16]
        frame[:, 8:, :3] = photo[number + 2 : number + 14, 10:18]
        frame[:, 14:, 3] = 0
        frames.append(frame)
    return frames


@pytest.fixture
def folder(tmp_path: Path, moving: list[np.ndarray]) -> Path:
    """An animation of each kind, by Pillow, and a picture."""
    (tmp_path / "in").mkdir()
    for ending in KINDS:
        write(tmp_path / "in" / f"{ending[1:]}{ending}", moving)
    Image.fromarray(moving[0]).save(tmp_path / "in" / "still.png")
    return tmp_path


def write(path: Path, frames: list[np.ndarray]) -> None:
    first, *others = map(Image.fromarray, frames)
    more = {"disposal": 2} if path.suffix == ".gif" else {"lossless": True}
    loop = LOOPS[path.suffix]
    first.save(path, save_all=True, append_images=others, duration=SHOWN_MS, loop=loop, **more)


def frames_of(path: Path) -> list[np.ndarray]:
    animation = Animation.in_file(path)
    assert animation is not None, f"{path} is one picture"
    return [rgba for rgba, _ in animation.frames()]


def test_animations_of_a_folder_become_animations_of_their_kind(run: Run, folder: Path) -> None:
    result = run("in", "-o", "out")
    assert result.exit_code == 0, result.output
    names = ["gif.gif", "png.png", "still.png", "webp.webp"]
    assert result.stdout.splitlines() == [os.path.normpath(f"out/{name}") for name in names]
    for ending in KINDS:
        source, made = (
            Image.open(folder / place / f"{ending[1:]}{ending}") for place in ("in", "out")
        )
        assert (made.format, made.size) == (source.format, (64, 48))
        assert made.info["loop"] == LOOPS[ending]
        animation = Animation.in_file(folder / "out" / f"{ending[1:]}{ending}")
        assert animation is not None
        drawn = list(animation.frames())
        assert [shown_ms for _, shown_ms in drawn] == SHOWN_MS
        for rgba, _ in drawn:
            hidden = rgba[..., 3] < 128
            assert hidden[:, 58:].all()
            assert not hidden[:, :54].any()
    assert not getattr(Image.open(folder / "out" / "still.png"), "is_animated", False)


def test_the_first_frame_is_what_the_upscaler_draws(
    run: Run, folder: Path, upscaler: Upscaler, moving: list[np.ndarray]
) -> None:
    assert run("in/png.png", "-o", "large.png", "--tau", "0.5", "--seed", "3").exit_code == 0
    expected = upscaler.upscale(moving[0], tau=0.5, seed=3)
    assert np.array_equal(frames_of(folder / "large.png")[0], expected)


def test_a_gif_has_the_sources_colours_and_stands_still_where_that_does(
    run: Run, folder: Path
) -> None:
    for name in ("gif.gif", "png.png"):
        assert run(f"in/{name}", "-o", name, "--tau", "0").exit_code == 0
    gif, exact = (np.stack(frames_of(folder / name)).astype(int) for name in ("gif.gif", "png.png"))
    used = {tuple(colour) for colour in gif[..., :3][gif[..., 3] > 0]}
    assert 16 < len(used) <= 255, "all frames share a palette"
    still = (slice(None), slice(None), slice(0, 16), slice(0, 3))
    changes = [np.abs(np.diff(one[still], axis=0)).mean() for one in (gif, exact)]
    assert changes[0] < changes[1] + 1, "no dithering"


def test_resume_and_dry_run_know_animations(run: Run, folder: Path) -> None:
    dry = run("in", "-o", "out", "--dry-run")
    assert (dry.exit_code, (folder / "out").exists()) == (0, False)
    assert os.path.normpath("in/gif.gif (16×12) -> out/gif.gif (64×48)") in dry.stdout
    assert run("in", "-o", "out").exit_code == 0
    made = read_provenance(folder / "out" / "gif.gif")
    assert made is not None
    assert (made.source, made.operation) == ("gif.gif", "upscale")
    again = run("in", "-o", "out", "--resume")
    assert (again.exit_code, again.stdout) == (0, "")
    assert "0 done, 4 skipped" in again.stderr
    (folder / "out" / "webp.webp").write_bytes((folder / "out" / "webp.webp").read_bytes()[:-200])
    assert run("in", "-o", "out", "--resume").stdout == os.path.normpath("out/webp.webp\n"), (
        "it was cut"
    )
    assert run(
        "in/gif.gif", "-o", "out/gif.gif", "--resume", "--seed", "1"
    ).stdout == os.path.normpath("out/gif.gif\n")
    assert run("out", "-o", "larger").exit_code == 1, "what the command made itself is left out"


def test_samples_of_an_animation_differ(run: Run, folder: Path) -> None:
    assert run("in/gif.gif", "--samples", "2", "--tau", "0.9").stdout.split() == [
        os.path.normpath(f"in/gif_x4_tau0.9_s{number}.gif") for number in (0, 1)
    ]
    one, other = (frames_of(folder / "in" / f"gif_x4_tau0.9_s{number}.gif") for number in (0, 1))
    assert not np.array_equal(one[1], other[1])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("in/gif.gif", "-o", "a.png"), "in/gif.gif is an animation; end a.png in .gif, too"),
        (
            ("in/gif.gif", "-o", "out", "--max-pixels", "500"),
            "in/gif.gif: its 3 frames have too many pixels",
        ),
    ],
)
def test_what_cannot_be_drawn_is_one_line(
    run: Run, folder: Path, arguments: tuple[str, ...], says: str
) -> None:
    result = run(*arguments)
    assert (result.exit_code, os.path.normpath(says) in result.stderr) == (1, True)
    assert not list(folder.glob("*.png")) + list(folder.glob("out/*"))


def test_without_opencv_only_animations_fail(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    result = run("in/still.png", "in/gif.gif", "-o", "out")
    assert (result.exit_code, result.stdout) == (1, os.path.normpath("out/still.png\n"))
    assert (
        f"{os.path.normpath('in/gif.gif')} is an animation: cv2 is not installed" in result.stderr
    )
