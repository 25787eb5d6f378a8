from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from click.testing import Result

from .clips import moving, seen, write_clip, write_sound

Run = Callable[..., Result]


def refused(run: Run, *arguments: str, status: int = 1) -> str:
    """The last line of a run that fails, which leaves nothing under the name of its output."""
    result = run(*arguments)
    assert result.exit_code == status, result.output
    lines = [line for line in result.stderr.splitlines() if "rror: " in line]
    assert len(lines) == 1, result.stderr
    assert not list(Path().glob("large*")), result.stderr
    return lines[0]


def sound(clip: Path, whole: bytes) -> None:
    with av.open(str(clip), "w") as output:
        write_sound(output, output.add_stream("aac", rate=48000), seconds=0.2)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (sound, "clip.mp4: there are no moving pictures in this file, only audio"),
        (
            lambda clip, _: clip.write_text("ffconcat version 1.0\nfile whole.mp4\n"),
            "clip.mp4 cannot be read: Invalid",
        ),
        (lambda clip, _: os.mkfifo(clip), "clip.mp4 cannot be read: it is not a regular file"),
        (
            lambda clip, whole: clip.write_bytes(whole[: len(whole) // 2]),
            "clip.mp4 cannot be read: Invalid",
        ),
        (lambda clip, _: clip.touch(), "clip.mp4 cannot be read"),
        (
            lambda clip, whole: clip.write_bytes(
                whole.replace(b"avc1\0\0\0\0\0\0\0\1", b"zzzz\0\0\0\0\0\0\0\1")
            ),
            "clip.mp4 cannot be read: its codec is not known here",
        ),
    ],
)
def test_what_is_no_clip_is_one_line(
    run: Run, tmp_path: Path, make: Callable[[Path, bytes], object], says: str
) -> None:
    make(tmp_path / "clip.mp4", write_clip(tmp_path / "whole.mp4", moving(3)).read_bytes())
    assert refused(run, "clip.mp4", "-o", "large.mp4").startswith(f"error: {says}")


@pytest.mark.parametrize(
    "name", ["concat:secret.mp4", "http:127.0.0.1:9?x.mp4", "12:30.mp4", "\udcff.mp4"]
)
def test_a_name_is_that_of_a_file_whatever_ffmpeg_would_take_it_for(
    run: Run, tmp_path: Path, name: str
) -> None:
    write_clip(tmp_path / "secret.mp4", moving(2))
    write_clip(tmp_path / "clip.mp4", moving(3)).rename(name)
    result = run(name, "-o", "large.mp4")
    assert result.exit_code == 0, result.output
    assert len(seen(tmp_path / "large.mp4").frames) == 3


def test_a_pipe_is_no_output(run: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "clip.mp4")
    write_clip(tmp_path / "whole.mp4", moving(2))
    assert "clip.mp4 cannot be written: it is a pipe" in refused(run, "whole.mp4", "-o", "clip.mp4")


def test_of_a_clip_that_breaks_off_the_frames_that_it_has_are_made(
    run: Run, tmp_path: Path
) -> None:
    whole = write_clip(
        tmp_path / "whole.mkv", moving(40), options={"g": "5", "crf": "5"}
    ).read_bytes()
    (tmp_path / "clip.mkv").write_bytes(whole[: len(whole) * 6 // 10])
    result = run("clip.mkv", "-o", "large.mkv")
    assert result.exit_code == 1
    assert "error: clip.mkv is damaged" in result.stderr
    assert 15 < len(seen(tmp_path / "large.mkv").frames) < 40


def test_an_mp4_that_lacks_its_last_bytes_is_damaged(run: Run, tmp_path: Path) -> None:
    write_clip(tmp_path / "whole.mp4", moving(6))
    faststart = {"movflags": "faststart"}
    with av.open("whole.mp4") as source, av.open("clip.mp4", "w", options=faststart) as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            packet.stream = stream
            output.mux([packet] * (packet.size > 0))
    whole = (tmp_path / "clip.mp4").read_bytes()
    assert run("clip.mp4", "--dry-run").exit_code == 0
    (tmp_path / "clip.mp4").write_bytes(whole[:-20])
    result = run("clip.mp4", "--dry-run")
    assert result.exit_code == 1
    assert "error: clip.mp4 is damaged: it breaks off" in result.stderr


def test_a_size_that_changes(run: Run, tmp_path: Path) -> None:
    with av.open("clip.avi", "w") as output:
        stream = output.add_mux_stream("mjpeg", rate=25, width=32, height=24)
        for number, width in enumerate((32, 32, 32, 64)):
            packet = av.Packet(
                cv2.imencode(".jpg", np.zeros((24, width, 3), np.uint8))[1].tobytes()
            )
            packet.stream = stream
            packet.pts = number
            packet.dts = number
            packet.is_keyframe = True
            packet.time_base = Fraction(1, 25)
            output.mux(packet)
    line = refused(run, "clip.avi", "-o", "large.mp4")
    assert "its frames change from 32×24 to 64×24 at frame 3" in line


def test_odd_sides(run: Run, tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", moving(2, width=34))
    line = refused(run, "clip.mp4", "-o", "large.mp4", "--scale", "1.5", status=2)
    assert "51×36" in line
    assert "choose another --size" in line
    assert run("clip.mp4", "-o", "large.mp4", "--size", "48x").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-o", "large.gif"), "clips are written as .mp4, .m4v, .mov, .mkv, .webm"),
        (("-o", "large.mp4", "--codec", "nonsense"), "no encoder nonsense"),
        (("-o", "large.webm", "--codec", "libx264"), "webm files cannot hold such libx264"),
        (
            ("-o", "large.mkv", "--codec", "ffv1", "--quality", "5"),
            "--quality is not for the codec ffv1",
        ),
        (("-o", "large.mp4", "--samples", "2"), "--samples cannot be chosen with a clip"),
        (("-o", "-"), "a clip is a file on this machine, and so is its output"),
        (("-o", "s3://bucket/large.mp4"), "a clip is a file on this machine, and so is its output"),
        (("-o", "clip.mp4"), "would overwrite an input"),
        (("a.png", "-o", "large"), "a.png is not a clip"),
    ],
)
def test_wrong_usage(run: Run, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    write_clip(tmp_path / "clip.mp4", moving(2))
    assert words in refused(run, "clip.mp4", *arguments, status=2)
    assert "--latents and --codec are for clips, and no INPUT is a clip" in refused(
        run, "a.png", "--latents", "fresh", status=2
    )


def test_a_name_that_nobody_chose_replaces_nothing(run: Run, tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", moving(2))
    (tmp_path / "clip_x4.mp4").write_text("mine")
    assert "clip_x4.mp4 exists; remove it" in refused(run, "clip.mp4")
    assert (tmp_path / "clip_x4.mp4").read_text() == "mine"


def test_without_pyav_or_opencv_or_with_an_old_one(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clip(tmp_path / "clip.mp4", moving(2))
    with monkeypatch.context() as patch:
        patch.setattr(av, "__version__", "17.0.0")
        assert "(this is PyAV 17.0.0)" in refused(run, "clip.mp4", "-o", "large.mp4")
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert 'pip install "srflow-sdk[video]"' in refused(run, "clip.mp4", "-o", "large.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    fresh = refused(run, "clip.mp4", "-o", "large.mp4", "--latents", "fresh")
    assert 'run: pip install -U "srflow-sdk[video]"' in fresh


def test_a_disk_that_is_full(run: Run, tmp_path: Path) -> None:
    write_clip(
        tmp_path / "clip.mp4",
        [np.random.default_rng(n).integers(0, 255, (24, 32, 3), np.uint8) for n in range(30)],
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # no disk is needed to be full
    try:
        result = run("clip.mp4", "-o", "large.mp4", "--quality", "100")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert result.exit_code == 1
    assert "large.mp4.parts/000000.mkv cannot be written: File too large" in result.stderr
    assert "the same command with --resume goes on" in result.stderr
    assert not (tmp_path / "large.mp4").exists()


def test_interlaced_clips_are_told_of(run: Run, tmp_path: Path) -> None:
    options = {"crf": "8", "x264-params": "tff=1:interlaced=1"}
    write_clip(tmp_path / "clip.mp4", moving(3, height=32), options=options)
    result = run("clip.mp4")
    assert result.exit_code == 0, result.output
    assert "warning: clip.mp4 is interlaced" in result.stderr
