"""srflow-upscale --dry-run: what would be done, without doing it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from click.testing import Result

Run = Callable[..., Result]


def everything(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_dry_run_says_what_would_be_made_and_writes_nothing(run: Run, folder: Path) -> None:
    before = everything(folder)
    result = run(".", "-o", "out", "--samples", "2", "--report", "r.json", "--dry-run")
    first, second, last = result.stdout.splitlines()
    assert first == "a.png (61×45) -> out/a_s0.png, out/a_s1.png (244×180)"
    assert second.startswith("b.png (61×45) -> ")
    assert last.startswith(
        "dry run, nothing was written: 2 files, 0.0055 megapixels to upscale, at most 0.5 MB, 1 would fail"
    )
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
    assert last.endswith("1 file, 0.0027 megapixels to upscale, at most 0.1 MB, 1 to skip")
    assert result.exit_code == 0
    assert Path("out", "b.png").read_bytes() == b"broken"
    result = run("a.png", "b.png", "-o", "out", "--no-overwrite", "--dry-run")
    assert result.stdout.splitlines()[-1] == (
        "dry run, nothing was written: 0 files, 0 megapixels to upscale, 2 to skip"
    )


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
