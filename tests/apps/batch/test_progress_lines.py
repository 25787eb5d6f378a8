"""Progress where standard error is no terminal."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from srflow_apps.batch import display as display_module
from srflow_apps.batch.display import Display, ProgressLines
from srflow_apps.batch.jobs import FolderFile
from srflow_apps.batch.operations import Job
from srflow_sdk.files import write_image

from .conftest import job

FIRST_AFTER_S = display_module.FIRST_AFTER_S  # before a fixture of all tests switches the lines off


class _Listening(Display):
    """A display that remembers its lines. heard: set by each."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.heard = threading.Event()

    def say(self, line: str) -> None:
        self.lines.append(line)
        self.heard.set()

    def next_line(self) -> str:
        self.heard.clear()
        assert self.heard.wait(60)
        return self.lines[-1]


def test_a_line_says_how_much_is_done_and_how_long_the_rest_takes() -> None:
    now = 100.0
    lines = ProgressLines(print, clock=lambda: now)
    assert lines.line() == "preparing"
    lines.begin(length=4000, label="photo.jpg")
    now += 60
    assert lines.line() == "photo.jpg, 0%"
    lines.update(39)  # of little, nothing follows
    assert lines.line() == "photo.jpg, 0%"
    lines.update(-39)
    lines.label = "photo.jpg tile 1/4"
    lines.update(1000)
    assert lines.line() == "photo.jpg tile 1/4, 25%, about 0:03:00 left"
    lines.update(2999)
    now += 3600 * 4000
    assert lines.line().startswith("photo.jpg tile 1/4, 99%, about 1:00:")


def test_the_first_line_comes_within_three_seconds_and_more_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    assert FIRST_AFTER_S + 1 <= 3, "a second is for Python's imports"
    monkeypatch.setattr(display_module, "FIRST_AFTER_S", 0)
    monkeypatch.setattr(display_module, "THEN_EVERY_S", 0)
    with _Listening() as display:
        assert display.next_line() == "preparing"
        assert display.next_line() == "preparing"


def test_the_lines_follow_the_jobs(jobs: list[Job], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display_module, "FIRST_AFTER_S", 0)
    monkeypatch.setattr(display_module, "THEN_EVERY_S", 0)
    with _Listening() as display, display.progress(jobs, max_pixels=10_000):
        display.progressed(1, 3, 6)
        assert display.next_line().startswith("[1/3] a.png tile 3/6, 15%, about ")  # of 12, 13 and 14 rows
        display.finished(1, FolderFile(source=jobs[0].source, targets=jobs[0].targets, status="skipped"))
        assert display.next_line().startswith("[2/3] b.png, 18%, about ")


def test_long_names_are_whole_in_lines(tmp_path: Path, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display_module, "FIRST_AFTER_S", 0)
    monkeypatch.setattr(display_module, "THEN_EVERY_S", 0)
    source = tmp_path / f"{'a' * 100}.png"
    write_image(source, photo)
    with _Listening() as display, display.progress([job(source, tmp_path / "b.png")], max_pixels=10_000):
        assert display.next_line() == f"{source.name}, 0%"
