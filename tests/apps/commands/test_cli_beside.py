"""Commands without -o: outputs lie beside their inputs, named by what was asked for, and nothing is replaced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from tests.sdk.tiny_bundle import hidden_files

Run = Callable[..., Result]


@pytest.fixture
def photos(folder: Path) -> Path:
    """A folder of two photos, in the current directory."""
    (folder / "photos").mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).rename(folder / "photos" / name)
    (folder / "bad.png").unlink()
    return folder / "photos"


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["a.png"], ["a_x4.png"]),
        (["a.png", "--scale", "1.5"], ["a_x1.5.png"]),
        (["a.png", "--size", "40x", "--tau", "0.4"], ["a_40x_tau0.4.png"]),
        (["a.png", "--max-size", "40", "--tau", "auto"], ["a_max40.png"]),
        (["a.png", "--samples", "2", "--sample", "3", "--format", "webp"], ["a_x4_s3.webp", "a_x4_s4.webp"]),
        (["a.png", "--name", "{stem}-{seed}.tif"], ["a-0.tif"]),
        (["a.png", "b.png"], ["a_x4.png", "b_x4.png"]),
        (["photos"], ["photos_x4/a.png", "photos_x4/b.png"]),
        (["photos/", "--scale", "2"], ["photos_x2/a.png", "photos_x2/b.png"]),
    ],
)
def test_names_say_what_was_asked_for(
    arguments: list[str], names: list[str], run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos.parent if arguments[0].startswith("photos") else photos)
    before = {*photos.parent.rglob("*.*")}
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    made = {*photos.parent.rglob("*.*")} - before
    assert sorted(path.relative_to(Path.cwd()).as_posix() for path in made) == names


def test_no_file_is_replaced_and_those_with_the_same_settings_are_kept(run: Run, photos: Path) -> None:
    made = photos / "a_x4.png"
    assert run("photos/a.png").exit_code == 0
    first = made.read_bytes()
    for again in ([], ["--seed", "1", "--resume"], ["--dry-run"]):
        result = run("photos/a.png", *again)
        assert result.exit_code == 1
        assert "photos/a_x4.png exists; remove it, or name it with -o" in result.stderr
    for kept in ("--resume", "--no-overwrite"):
        assert "1 skipped" in run("photos/a.png", kept).stderr
    assert made.read_bytes() == first
    assert run("photos/a.png", "--tau", "0", "-o", "photos/a_x4.png").exit_code == 0
    assert made.read_bytes() != first
    assert hidden_files(photos) == []


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_folder_does_not_enlarge_its_own_outputs_again(run: Run, photos: Path, ending: str) -> None:
    assert run("photos/a.png", "-o", f"photos/a_x4.{ending}").exit_code == 0
    (photos / "c.png").write_bytes((photos / "b.png").read_bytes())
    left = run("photos", "--exclude", "c.*", "--exclude", "d/*")
    assert sorted(path.name for path in Path("photos_x4").iterdir()) == ["a.png", "b.png"]
    assert "left out: 1 of srflow-upscale's own outputs; --include-own takes them" in left.stderr
    assert run("photos", "-o", "all", "--include-own").exit_code == 0
    assert len([*Path("all").iterdir()]) == 4
    assert run(f"photos/a_x4.{ending}", "-o", "again.png").exit_code == 0  # what is named is meant
    assert run("photos_x4").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-"], "- is standard input, which lies in no folder; name the output"),
        (["photos", "photos/a.png"], "the inputs are several folders, or lie in several"),
        (["photos/a.png", "c.png"], "the inputs are several folders, or lie in several"),
        (["photos/a.png", "--name", "{stem}.png"], "would overwrite the input"),
        (["/"], "/ has no name to which _x4 could be added"),
        (["--from-output", "photos/a.png"], "--from-output makes a picture again; name the file for it with -o"),
    ],
)
def test_where_there_is_no_place_beside_the_fix_is_one_line(
    arguments: list[str], says: str, run: Run, photos: Path
) -> None:
    Path("c.png").write_bytes((photos / "a.png").read_bytes())
    result = run(*arguments)
    assert result.exit_code == 2
    assert says in result.stderr.splitlines()[-1]
