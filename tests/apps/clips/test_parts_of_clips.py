"""Clips that are killed and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from click.testing import Result

from srflow_sdk.clips import FrameUpscaler
from srflow_sdk.errors import ImageError
from srflow_sdk.system.local_files import lock

from .clips import moving, seen, write_clip

Run = Callable[..., Result]

PROGRAM = """
from srflow_apps.batch import display
from srflow_apps.clips import command
from srflow_apps.commands.cli import upscale
display.FIRST_AFTER_S, command.SEGMENT, command.KEYFRAMES = 3600, 2, 6
upscale()
"""


@pytest.fixture(autouse=True)
def _short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("srflow_apps.clips.command.SEGMENT", 2)
    monkeypatch.setattr("srflow_apps.clips.command.KEYFRAMES", 6)


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
    with subprocess.Popen(
        command(tiny_bundle, "clip.mp4", "-o", "large.mp4"), cwd=tmp_path
    ) as process:
        while not list(parts.glob("0*.mkv")) and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    kept = {path: path.stat().st_mtime_ns for path in parts.glob("0*.mkv")}
    assert 1 <= len(kept) < 8
    assert not (tmp_path / "large.mp4").exists()
    # costs nearly as much as drawing: the state is kept instead
    monkeypatch.setattr(FrameUpscaler, "follow", None)
    result = run("clip.mp4", "-o", "large.mp4", "--resume")
    assert result.exit_code == 0, result.output
    assert f"15 frames ({15 - 2 * len(kept)} of them now)" in result.stderr
    assert seen(tmp_path / "large.mp4").frames == whole
    assert not parts.exists()
    again = run("clip.mp4", "-o", "large.mp4", "--resume")
    assert "large.mp4 is finished: skipped" in again.stderr


def test_a_part_that_was_lost_is_drawn_again(
    run: Run, parts: Path, whole: list[str], tmp_path: Path
) -> None:
    for number in (4, 5, 7):
        (parts / f"{number:06}.mkv").unlink()
    result = run("clip.mp4", "-o", "large.mp4", "--resume")
    assert "15 frames (7 of them now)" in result.stderr, "all from the first that is missing"
    assert seen(tmp_path / "large.mp4").frames == whole


def fail() -> NoReturn:
    raise ImageError("no")


@pytest.fixture
def parts(run: Run, whole: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All parts of clip.mp4, which are not joined yet."""
    with monkeypatch.context() as patch:
        patch.setattr("srflow_apps.clips.command.join", lambda *_, **__: fail())
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
        # costs nearly as much as drawing: the state is kept instead
        monkeypatch.setattr(FrameUpscaler, "follow", None)
    else:
        kept.write_bytes(state)
    assert "15 frames (7 of them now)" in run("clip.mp4", "-o", "large.mp4", "--resume").stderr
    assert seen(tmp_path / "large.mp4").frames == whole


def test_a_clip_that_failed_before_its_first_part_was_done_begins_again_and_blames_no_other_clip(
    run: Run, whole: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(FrameUpscaler, "draw", lambda *_: fail())
        assert run("clip.mp4", "-o", "large.mp4").exit_code == 1
    assert (tmp_path / "large.mp4.parts" / "settings.json").exists()
    again = run("clip.mp4", "-o", "large.mp4", "--resume")
    assert (again.exit_code, "another clip" in again.stderr) == (0, False)
    assert seen(tmp_path / "large.mp4").frames == whole


def test_a_second_run_leaves_the_parts_of_the_first_alone(
    run: Run, parts: Path, tmp_path: Path
) -> None:
    before = sorted(parts.iterdir())
    descriptor = os.open(parts, os.O_RDONLY)
    try:
        assert lock(descriptor)  # as the first run has it
        for more in ((), ("--resume",)):
            result = run("clip.mp4", "-o", "large.mp4", *more)
            assert result.exit_code == 1
            assert "large.mp4.parts is in use: another run makes this clip" in result.stderr
    finally:
        os.close(descriptor)
    assert sorted(parts.iterdir()) == before
    assert run("clip.mp4", "-o", "large.mp4").exit_code == 0


def test_parts_of_other_settings_are_not_mixed_in(
    run: Run, parts: Path, whole: list[str], tmp_path: Path
) -> None:
    result = run("clip.mp4", "-o", "large.mp4", "--resume", "--seed", "1")
    assert (
        "large.mp4.parts has parts of another clip, model or settings: beginning anew"
        in result.stderr
    )
    assert json.loads(seen(tmp_path / "large.mp4").comment)["seed"] == 1
    assert not set(seen(tmp_path / "large.mp4").frames) & set(whole)


def test_what_somebody_else_put_beside_the_parts_stays(run: Run, tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", moving(2))
    (tmp_path / "large.mp4.parts").mkdir()
    (tmp_path / "large.mp4.parts" / "letter.txt").write_text("mine")
    assert run("clip.mp4", "-o", "large.mp4").exit_code == 0
    assert (tmp_path / "large.mp4.parts" / "letter.txt").exists()
