"""srflow-upscale --dry-run: what would be done, without doing it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from click.testing import Result

from srflow_apps.batch.command import about, measure_time
from srflow_apps.batch.jobs import Job, Settings
from srflow_sdk.upscaler import Upscaler

Run = Callable[..., Result]


def everything(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_dry_run_says_what_would_be_made_and_writes_nothing(run: Run, folder: Path) -> None:
    before = everything(folder)
    result = run(".", "-o", "out", "--samples", "2", "--report", "r.json", "--dry-run")
    first, second, last = result.stdout.splitlines()
    assert first == "a.png (61×45) -> out/a_s0.png, out/a_s1.png (244×180)"
    assert second.startswith("b.png (61×45) -> ")
    assert last.startswith("dry run, nothing was written: 2 files, 0.0055 megapixels to upscale, 1 would fail; about ")
    assert "of disk (" in last
    assert result.stderr == "error: bad.png: this is not an image file in a supported format\n"
    assert result.exit_code == 1
    assert everything(folder) == before


def test_a_dry_run_says_what_resume_would_skip_and_what_would_be_replaced(run: Run) -> None:
    run("a.png", "b.png", "-o", "out")
    Path("out", "b.png").write_bytes(b"broken")
    result = run("a.png", "b.png", "-o", "out", "--resume", "--dry-run")
    first, second, last = result.stdout.splitlines()
    assert first == "a.png: would be skipped"
    assert second == "b.png (61×45) -> out/b.png (244×180), replacing what is there"
    assert re.search(r"1 file, 0\.0027 megapixels to upscale, 1 to skip; about \d+ seconds?, at most ", last)
    assert result.exit_code == 0
    assert Path("out", "b.png").read_bytes() == b"broken"
    result = run("a.png", "b.png", "-o", "out", "--no-overwrite", "--dry-run")
    assert result.stdout.splitlines()[-1] == (
        "dry run, nothing was written: 0 files, 0 megapixels to upscale, 2 to skip"
    )


def test_an_input_that_is_damaged_behind_its_header_does_not_spoil_the_estimate(run: Run, photo: np.ndarray) -> None:
    whole = Path("a.png").read_bytes()
    Path("0.png").write_bytes(whole[:900] + bytes(200) + whole[1100:])
    result = run("0.png", "a.png", "-o", "out", "--dry-run")
    assert (result.exit_code, result.stderr) == (0, "")
    assert re.search(r"2 files, 0\.0055 megapixels to upscale; about \d+ seconds?, at most ", result.stdout)
    result = run("0.png", "-o", "out", "--dry-run")
    assert result.stdout.splitlines()[-1].endswith("1 file, 0.0027 megapixels to upscale")


def test_a_dry_run_says_that_the_disk_is_too_small(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Disk:
        free = 10

    monkeypatch.setattr("shutil.disk_usage", lambda _: Disk)
    result = run("a.png", "-o", "out/deep/a.png", "--dry-run")
    assert result.stdout.rstrip().endswith("free, which may not be enough)")


def test_a_dry_run_refuses_what_a_run_refuses(run: Run, folder: Path) -> None:
    for arguments, says in (
        (("a.png", "-o", "a.png"), "would overwrite the input"),
        (("a.png", "-o", "bad.png/b.png"), "bad.png is not a directory"),
        (("a.png", "-o", "-"), "--dry-run"),
    ):
        result = run(*arguments, "--dry-run")
        assert result.exit_code in (1, 2)
        assert says in result.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["a.png", "b.png", "bad.png"]


def test_times_are_in_words() -> None:
    seconds = {0.2: "1 second", 75: "75 seconds", 720: "12 minutes", 9000: "2.5 hours", 90_000: "25 hours"}
    assert {number: about(number) for number in seconds} == {n: f"about {words}" for n, words in seconds.items()}


def test_the_time_is_measured_by_doing_it_elsewhere(
    upscaler: Upscaler, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything(folder)
    job = Job(source=folder / "a.png", targets=(folder / "out" / "a.png",), name=PurePosixPath("a.png"))
    whole = measure_time(job, upscaler, Settings(overwrite=False))
    monkeypatch.setattr("srflow_apps.batch.command._ENOUGH_S", 0)
    with Upscaler(upscaler.bundle, device="cpu", threads=1, tile=16) as tiled:
        part = measure_time(job, tiled, Settings())
    assert 0 < whole < 60
    assert 0 < part < 60
    assert everything(folder) == before, "nothing is written there"
