"""Clips that are killed, resumed and shared; pipes and folders of frames."""

from __future__ import annotations

import array
import fcntl
import io
import json
import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import av
import numpy as np
import pytest
from click.testing import Result

from srflow_sdk.clips import FrameUpscaler
from srflow_sdk.errors import ImageError
from srflow_sdk.files import read_image, read_provenance, write_image
from srflow_sdk.system.local_files import lock
from srflow_sdk.upscaler import Upscaler

from .clips import moving, seen, write_clip

Run = Callable[..., Result]

PROGRAM = """
from srflow_apps.batch import display
from srflow_apps.clips import segments
from srflow_apps.commands.cli import upscale
display.FIRST_AFTER_S, segments.SEGMENT, segments.KEYFRAMES = 3600, 2, 6
upscale()
"""


@pytest.fixture(autouse=True)
def _short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("srflow_apps.clips.segments.SEGMENT", 2)
    monkeypatch.setattr("srflow_apps.clips.segments.KEYFRAMES", 6)


@pytest.fixture
def whole(run: Run, tmp_path: Path) -> list[str]:
    """The frames of an uninterrupted run on clip.mp4, eight segments of three blocks."""
    write_clip(tmp_path / "clip.mp4", moving(15, width=16, height=16), sound=True)
    result = run("clip.mp4", "-o", "whole.mp4")
    assert result.exit_code == 0, result.output
    return seen(tmp_path / "whole.mp4").frames


def command(tiny_bundle: Path, *arguments: str) -> list[str]:
    model = ["--model", str(tiny_bundle), "--device", "cpu", "--threads", "1"]
    return [sys.executable, "-c", PROGRAM, *arguments, *model]


def test_a_clip_that_was_killed_is_resumed_with_equal_frames(
    run: Run, whole: list[str], tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = tmp_path / "large.mp4.parts"
    with subprocess.Popen(command(tiny_bundle, "clip.mp4", "-o", "large.mp4"), cwd=tmp_path) as process:
        while not list(parts.glob("0*.mkv")) and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    kept = {path: path.stat().st_mtime_ns for path in parts.glob("0*.mkv")}
    assert 1 <= len(kept) < 8
    assert not (tmp_path / "large.mp4").exists()
    monkeypatch.setattr(FrameUpscaler, "follow", None)  # costs nearly as much as drawing: the state is kept instead
    result = run("clip.mp4", "-o", "large.mp4", "--resume")
    assert result.exit_code == 0, result.output
    assert f"15 frames ({15 - 2 * len(kept)} of them now)" in result.stderr
    assert seen(tmp_path / "large.mp4").frames == whole
    assert not parts.exists()
    again = run("clip.mp4", "-o", "large.mp4", "--resume")
    assert "large.mp4 is finished: skipped" in again.stderr


def test_a_part_that_was_lost_is_drawn_again(run: Run, parts: Path, whole: list[str], tmp_path: Path) -> None:
    for number in (4, 5, 7):
        (parts / f"{number:06}.mkv").unlink()
    result = run("clip.mp4", "-o", "large.mp4", "--resume")
    assert "15 frames (5 of them now)" in result.stderr
    assert seen(tmp_path / "large.mp4").frames == whole


def fail() -> NoReturn:
    raise ImageError("no")


@pytest.fixture
def parts(run: Run, whole: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All parts of clip.mp4, which are not joined yet."""
    with monkeypatch.context() as patch:
        patch.setattr("srflow_apps.clips.writing.Joined.to_file", lambda *_, **__: fail())
        assert run("clip.mp4", "-o", "large.mp4").exit_code == 1
    return tmp_path / "large.mp4.parts"


@pytest.mark.parametrize("state", [None, b"PK damaged"])
def test_a_run_that_failed_goes_on_from_its_state_or_else_from_its_keyframe(
    run: Run, whole: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: bytes | None
) -> None:
    draw = FrameUpscaler.draw
    with monkeypatch.context() as patch:
        patch.setattr(FrameUpscaler, "draw", lambda *args: fail() if args[2] == 9 else draw(*args))
        failed = run("clip.mp4", "-o", "large.mp4")
    assert failed.exit_code == 1
    assert "error: clip.mp4: no" in failed.stderr
    assert "the same command with --resume goes on" in failed.stderr
    (kept,) = (tmp_path / "large.mp4.parts").glob("*.state")
    if state is None:
        monkeypatch.setattr(FrameUpscaler, "follow", None)  # costs nearly as much as drawing: the state is kept instead
    else:
        kept.write_bytes(state)
    assert "15 frames (7 of them now)" in run("clip.mp4", "-o", "large.mp4", "--resume").stderr
    assert seen(tmp_path / "large.mp4").frames == whole


def test_a_second_run_leaves_the_parts_of_the_first_alone(run: Run, parts: Path, tmp_path: Path) -> None:
    before = sorted(parts.iterdir())
    descriptor = os.open(parts, os.O_RDONLY)
    try:
        assert lock(descriptor)  # as the first run has it
        for more in ((), ("--resume",), ("--shard", "1/2")):
            result = run("clip.mp4", "-o", "large.mp4", *more)
            assert result.exit_code == 1
            assert "large.mp4.parts is in use: another run makes this clip" in result.stderr
    finally:
        os.close(descriptor)
    assert sorted(parts.iterdir()) == before
    assert run("clip.mp4", "-o", "large.mp4").exit_code == 0


def test_shards_make_the_same_clip_whichever_comes_last(run: Run, tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", moving(13, width=16, height=16))
    assert run("clip.mp4", "-o", "whole.mp4").exit_code == 0
    for index in (2, 3, 1):
        result = run("clip.mp4", "-o", "large.mp4", "--shard", f"{index}/3")
        assert result.exit_code == 0, result.output
    assert result.stdout == "large.mp4\n"
    assert seen(tmp_path / "large.mp4").frames == seen(tmp_path / "whole.mp4").frames
    assert not (tmp_path / "large.mp4.parts").exists()


def test_parts_of_other_settings_are_not_mixed_in(run: Run, tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", moving(8, width=16, height=16))
    run("clip.mp4", "-o", "large.mp4", "--shard", "1/2", "--seed", "1")
    assert list((tmp_path / "large.mp4.parts").glob("0*.mkv"))
    refused = run("clip.mp4", "-o", "large.mp4", "--shard", "2/2")
    assert refused.exit_code == 1
    assert "large.mp4.parts has parts of another clip, model or settings; remove it" in refused.stderr
    result = run("clip.mp4", "-o", "large.mp4", "--resume")
    assert "beginning anew" in result.stderr
    assert json.loads(seen(tmp_path / "large.mp4").comment)["seed"] == 0
    assert run("clip.mp4", "-o", "other.mp4").exit_code == 0
    assert seen(tmp_path / "large.mp4").frames == seen(tmp_path / "other.mp4").frames


def test_what_somebody_else_put_beside_the_parts_stays(run: Run, tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", moving(2))
    (tmp_path / "large.mp4.parts").mkdir()
    (tmp_path / "large.mp4.parts" / "letter.txt").write_text("mine")
    assert run("clip.mp4", "-o", "large.mp4").exit_code == 0
    assert (tmp_path / "large.mp4.parts" / "letter.txt").exists()


@pytest.mark.parametrize(("frames", "signals"), [(1, ["SIGTERM"]), (2, ["SIGINT", "SIGINT"])])
def test_signals_end_a_pipe_that_waits_or_is_drawn(
    tmp_path: Path, tiny_bundle: Path, frames: int, signals: list[str]
) -> None:
    said, numbers = tmp_path / "said.txt", [getattr(signal, each) for each in signals]
    arguments = command(tiny_bundle, "-", "-o", "large.mp4", "--tile", "none")
    with (
        said.open("wb") as errors,
        subprocess.Popen(arguments, cwd=tmp_path, stdin=subprocess.PIPE, stderr=errors) as process,
    ):
        assert process.stdin is not None
        process.stdin.write(b"YUV4MPEG2 W512 H384 F25:1 C420jpeg\n")
        process.stdin.write(frames * (b"FRAME\n" + bytes(range(256)) * 384 * 3))
        process.stdin.flush()
        try:
            for _ in range(6000):
                if b"s a frame" in said.read_bytes() or process.poll() is not None:
                    break
                time.sleep(0.01)
            time.sleep(0.3)
            for number in numbers:
                process.send_signal(number)
                time.sleep(0.02)
            process.wait(10)
        finally:
            process.kill()
    assert process.returncode in (128 + numbers[0], -numbers[-1])
    assert said.read_bytes().endswith(b"interrupted\n")
    assert not list(tmp_path.glob("*large*"))


@pytest.mark.slow
@pytest.mark.parametrize("pixel_format", ["yuv444p", "yuv420p10le"])
def test_a_pipe_gives_the_frames_of_a_clip(tmp_path: Path, tiny_bundle: Path, pixel_format: str) -> None:
    pictures = moving(3)
    options = {"strict": "unofficial"}
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="yuv4mpegpipe", options=options) as output:
        video = output.add_stream("rawvideo", rate=25)
        video.width, video.height, video.pix_fmt = 32, 24, pixel_format
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=pixel_format)
            frame.pts = number
            output.mux(video.encode(frame))
    arguments = command(tiny_bundle, "-", "-o", "-", "--tau", "0")
    done = subprocess.run(arguments, cwd=tmp_path, input=buffer.getvalue(), capture_output=True, check=True)
    assert done.stdout.startswith(b"YUV4MPEG2 W128 H96 F25:1")
    (tmp_path / "large.y4m").write_bytes(done.stdout)
    assert seen(tmp_path / "large.y4m").format == pixel_format
    assert len(set(seen(tmp_path / "large.y4m").frames)) == 3


@pytest.mark.slow
def test_a_clip_goes_through_a_pipe_into_another(tmp_path: Path, tiny_bundle: Path) -> None:
    write_clip(tmp_path / "clip.mp4", moving(3))
    first = subprocess.run(command(tiny_bundle, "clip.mp4", "-o", "-"), cwd=tmp_path, capture_output=True, check=True)
    second = command(tiny_bundle, "-", "-o", "large.mp4", "--scale", "1")
    done = subprocess.run(second, cwd=tmp_path, input=first.stdout, capture_output=True, check=True)
    assert done.stdout == b"large.mp4\n"
    second.append("--no-overwrite")
    kept = subprocess.run(second, cwd=tmp_path, input=first.stdout, capture_output=True, check=True)
    assert b"large.mp4 exists: skipped" in kept.stderr
    large = seen(tmp_path / "large.mp4")
    assert (len(large.frames), large.size) == (3, (128, 96))
    assert json.loads(large.comment)["model"] == "tiny"


Y4M = b"YUV4MPEG2 W32 H24 F25:1 Ip A1:1 C420jpeg\n"


@pytest.mark.parametrize("given", [Y4M[:20], Y4M + (b"FRAME\n" + bytes(32 * 24 * 3 // 2)) * 3])
def test_a_pipe_that_waits_for_input_can_be_stopped(tmp_path: Path, tiny_bundle: Path, given: bytes) -> None:
    with subprocess.Popen(
        command(tiny_bundle, "-", "-o", "-"), cwd=tmp_path, stdin=-1, stdout=-1, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        for part in (given[:12], given[12:]):  # the first is looked at, the second read as a clip
            process.stdin.write(part)
            process.stdin.flush()
            wait_for_reader(process)
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        finally:
            process.kill()
        assert process.returncode == 130
        assert process.stderr.read().splitlines()[-1] == b"interrupted"


def test_a_pipe_whose_reader_waits_can_be_stopped(tmp_path: Path, tiny_bundle: Path) -> None:
    head = Y4M.replace(b"W32 H24", b"W64 H48")  # of larger frames than a pipe holds
    (tmp_path / "clip.y4m").write_bytes(head + (b"FRAME\n" + bytes(64 * 48 * 3 // 2)) * 9)
    with (
        (tmp_path / "clip.y4m").open("rb") as clip,
        subprocess.Popen(
            command(tiny_bundle, "-", "-o", "-"), cwd=tmp_path, stdin=clip, stdout=-1, stderr=-1
        ) as process,
    ):
        assert process.stdout is not None
        while unread(process.stdout.fileno()) < 40_000 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        finally:
            process.kill()
        assert process.returncode == 143


def wait_for_reader(process: subprocess.Popen[bytes]) -> None:
    """Wait until a command has read what it was given."""
    assert process.stdin is not None
    while unread(process.stdin.fileno()) and process.poll() is None:
        time.sleep(0.01)


def unread(descriptor: int) -> int:
    count = array.array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, count)
    return count[0]


def test_a_piped_clip_keeps_to_the_limits_of_clips(tmp_path: Path, tiny_bundle: Path) -> None:
    for sides, words in (("W400 H300", "frames of 400×300 are too large"), ("W0 H24", "stdin cannot be read")):
        arguments = command(tiny_bundle, "-", "-o", "-", "--max-pixels", "100000")
        done = subprocess.run(arguments, input=f"YUV4MPEG2 {sides} F25:1\n".encode(), capture_output=True, cwd=tmp_path)
        assert done.returncode == 1
        assert words in done.stderr.decode()


def write_frames(folder: Path, count: int) -> None:
    folder.mkdir()
    for number, picture in enumerate(moving(count)):
        write_image(folder / f"f{number}.png", picture)


def test_a_folder_of_frames_is_a_clip_with_latents(run: Run, tmp_path: Path, upscaler: Upscaler) -> None:
    write_frames(tmp_path / "frames", 12)
    result = run("frames", "-o", "large", "--latents", "motion")
    assert result.exit_code == 0, result.output
    assert result.stdout == "large\n"
    assert sorted(path.name for path in (tmp_path / "large").iterdir()) == sorted(f"f{n}.png" for n in range(12))
    made = read_provenance(tmp_path / "large" / "f7.png")
    assert made is not None
    assert json.loads(made.settings or "")["latents"] == "motion"
    drawer = FrameUpscaler(upscaler, keyframes=6)
    for number, picture in enumerate(moving(11)):
        drawn = drawer.draw(picture, number)
    assert np.array_equal(drawn, read_image(tmp_path / "large" / "f10.png").pixels)  # not the third, as names sort
    recipe = run("--from-output", "large/f7.png", "-o", "again.png")
    assert "is a frame of a clip" in recipe.stderr


def test_frames_that_are_there_stay_and_the_others_are_the_same(run: Run, tmp_path: Path) -> None:
    write_frames(tmp_path / "frames", 7)
    assert run("frames", "-o", "large", "--latents", "motion").exit_code == 0
    files = {path.name: path.read_bytes() for path in (tmp_path / "large").iterdir()}
    for name in ("f2.png", "f5.png"):
        (tmp_path / "large" / name).unlink()
    stays = (tmp_path / "large" / "f4.png").stat().st_ino
    result = run("frames", "-o", "large", "--latents", "motion", "--resume")
    assert "7 frames (2 of them now)" in result.stderr
    assert {path.name: path.read_bytes() for path in (tmp_path / "large").iterdir()} == files
    assert (tmp_path / "large" / "f4.png").stat().st_ino == stays
    write_image(tmp_path / "frames" / "f0.png", moving(9)[8])
    assert "7 frames ->" in run("frames", "-o", "large", "--latents", "motion", "--resume").stderr


def test_a_frame_that_is_another_s_is_drawn_again(run: Run, tmp_path: Path) -> None:
    write_frames(tmp_path / "frames", 5)
    command = ("frames", "-o", "large", "--latents", "fresh", "--format", "jpg")
    assert run(*command).exit_code == 0
    files = {path.name: path.read_bytes() for path in (tmp_path / "large").iterdir()}
    (tmp_path / "large" / "f2.jpg").write_bytes(files["f3.jpg"])
    (tmp_path / "large" / "f3.jpg").write_bytes(files["f2.jpg"])
    assert "5 frames (2 of them now)" in run(*command, "--resume").stderr
    assert {path.name: path.read_bytes() for path in (tmp_path / "large").iterdir()} == files


def test_a_folder_is_one_clip_only_with_latents_and_into_a_folder_only(run: Run, tmp_path: Path) -> None:
    write_frames(tmp_path / "frames", 2)
    for wrong in (("-o", "large.mp4"), ("-o", "large", "--codec", "libx264")):
        result = run("frames", "--latents", "motion", *wrong)
        assert result.exit_code == 2
        assert "frames of a folder become files in a folder" in result.stderr
    (tmp_path / "large").mkdir()
    (tmp_path / "large" / "f0.png").write_text("mine")
    assert "(1 of them now)" in run("frames", "-o", "large", "--latents", "motion", "--no-overwrite").stderr
    assert (tmp_path / "large" / "f0.png").read_text() == "mine"
    write_image(tmp_path / "frames" / "f1.png", moving(1, width=40)[0])
    assert "frames of a clip have one size" in run("frames", "-o", "large", "--latents", "motion").stderr
    write_clip(tmp_path / "frames" / "clip.mp4", moving(2))
    result = run("frames", "-o", "pictures")
    assert result.stdout.split() == ["pictures/f0.png", "pictures/f1.png"]
    assert "left out: 1 clips; name them as INPUTs of a command of their own" in result.stderr
