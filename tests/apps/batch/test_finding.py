"""Which files a command takes from folders."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from srflow_apps.batch.find import find_inputs, say_unread
from srflow_apps.batch.plan import Naming, plan_outputs
from srflow_sdk.files import READABLE, UNREAD

from .conftest import tree


def found(folder: Path, *, out: str | Path = "elsewhere", recursive: bool = False) -> list[str]:
    return [file.name.as_posix() for file in find_inputs([folder], out=Path(out), recursive=recursive).files]


def test_folders_give_their_images_sorted_whatever_the_case_of_their_endings(tmp_path: Path) -> None:
    tree(tmp_path, "b.JPG", "a.png", "c.Tiff", "notes.txt", "none", ".hidden.png", "sub/d.png")
    assert found(tmp_path) == ["a.png", "b.JPG", "c.Tiff"]


def test_recursive_keeps_the_structure(tmp_path: Path) -> None:
    tree(tmp_path, "b.png", "a/c.png", "a/a/d.png", ".git/e.png", "a b/f.png")
    assert found(tmp_path, recursive=True) == ["a/a/d.png", "a/c.png", "a b/f.png", "b.png"]
    files = find_inputs([tmp_path], out=Path("out"), recursive=True).files
    jobs = plan_outputs(files, Path("out"), naming=Naming(samples=2), inputs=[tmp_path])
    assert [target.as_posix() for target in jobs[1].targets] == ["out/a/c_s0.png", "out/a/c_s1.png"]
    assert jobs[1].source == tmp_path / "a/c.png"


def test_links_do_not_make_folders_endless(tmp_path: Path) -> None:
    tree(tmp_path, "a/b.png")
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "self.png").symlink_to("self.png")
    assert found(tmp_path, recursive=True) == ["a/b.png", "self.png"]
    files = find_inputs([tmp_path], out=Path("out"), recursive=True).files
    assert len(plan_outputs(files, Path("out"), naming=Naming(), inputs=[tmp_path])) == 2


def test_earlier_outputs_are_no_inputs(tmp_path: Path) -> None:
    tree(tmp_path, "a.png", "large/a.png", "large/sub/b.png", "larger/c.png")
    (tmp_path / "newest.png").symlink_to("large/a.png")
    assert found(tmp_path, out=tmp_path / "large", recursive=True) == ["a.png", "larger/c.png"]
    assert found(tmp_path / "large", out=tmp_path / "large/sub/..", recursive=True) == ["a.png", "sub/b.png"]


@pytest.mark.parametrize("recursive", [False, True])
def test_a_folder_without_images_is_an_error(tmp_path: Path, recursive: bool) -> None:
    tree(tmp_path, "notes.txt", "large/a.png")
    ((_, why),) = find_inputs([tmp_path], out=tmp_path / "large", recursive=recursive).refused
    assert "there are no images" in why
    assert ("--recursive" in why) is not recursive


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    ((_, why),) = find_inputs([tmp_path], out=Path("out")).refused
    assert "cannot be listed: Permission denied" in why


def test_folders_that_cannot_be_taken_are_told_of_and_the_others_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree(tmp_path, "photos/a.png", "photos/locked/b.png", "photos/sub/c.png", "empty/notes.txt")
    list_folder = os.scandir

    def scandir(path: str) -> Any:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return list_folder(path)

    monkeypatch.setattr(os, "scandir", scandir)
    inputs = [tmp_path / "empty", tmp_path / "photos", tmp_path / "photos" / "locked"]
    taken = find_inputs(inputs, out=Path("out"), recursive=True)
    told = taken.refused
    assert [file.name.as_posix() for file in taken.files] == ["a.png", "sub/c.png"]
    assert [folder.name for folder, _ in told] == ["empty", "locked", "locked"]
    assert all(line.startswith(f"{folder}: ") for folder, line in told)
    assert ["there are no images" in line for _, line in told] == [True, False, False]


def test_a_folder_of_links_to_folders_says_that_they_are_not_followed(tmp_path: Path) -> None:
    tree(tmp_path, "photos/a.png", "links/notes.txt")
    (tmp_path / "links" / "album").symlink_to(tmp_path / "photos", target_is_directory=True)
    ((_, why),) = find_inputs([tmp_path / "links"], out=Path("out"), recursive=True).refused
    assert "links to folders, such as album, are not followed" in why


def test_images_that_are_left_out_are_counted_and_named_by_format(tmp_path: Path) -> None:
    tree(
        tmp_path, "a.png", "b.bmp", "c.TGA", "d.tga", "e.nef", "sub/f.cr3", "sub/g.jp2", "notes.txt", "i.mp4", ".j.tga"
    )
    tree(tmp_path, "large/k.tga")
    taken = find_inputs([tmp_path], out=tmp_path / "large", recursive=True)
    assert [file.name.as_posix() for file in taken.files] == ["a.png", "b.bmp"]
    assert say_unread(taken.unread) == (
        "left out, because such images are not read: 2 TGA, 2 camera raw, 1 JPEG 2000; convert them to PNG or TIFF"
    )
    assert not set(UNREAD) & set(READABLE)


def test_nothing_left_out_is_not_told_of(tmp_path: Path) -> None:
    taken = find_inputs([tree(tmp_path, "a.png", "notes.txt")], out=Path("out"))
    assert say_unread(taken.unread) is None
