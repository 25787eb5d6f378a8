"""Which files a batch takes from folders, and which file each picture is written to."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from srflow_apps.batch.choices import FORMATS, FileChoices
from srflow_apps.batch.jobs import Job
from srflow_apps.batch.plan import (
    Inputs,
    Naming,
    check_targets,
    choose_destination,
    find_inputs,
    part_of,
    plan_outputs,
)
from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.files import formats

from .conftest import tree


def find(folder: Path, *, out: str | Path = "elsewhere", **options: Any) -> Inputs:
    return find_inputs([folder], out=Path(out), **options)


def names(found: Inputs) -> list[str]:
    return [job.name.as_posix() for job in found.jobs]


def test_folders_give_their_images_sorted_flat_or_with_their_structure(tmp_path: Path) -> None:
    tree(
        tmp_path,
        "b.JPG",
        "a.png",
        "notes.txt",
        "none",
        ".hidden.png",
        "a/c.Tiff",
        "a/a/d.png",
        ".git/e.png",
    )
    assert names(find(tmp_path)) == ["a.png", "b.JPG"]
    found = find(tmp_path, recursive=True)
    assert names(found) == ["a/a/d.png", "a/c.Tiff", "a.png", "b.JPG"]
    jobs = plan_outputs(found.jobs, Path("out"), naming=Naming(numbers=range(2)), inputs=[tmp_path])
    assert [target.as_posix() for target in jobs[1].targets] == ["out/a/c_s0.png", "out/a/c_s1.png"]
    assert jobs[1].source == tmp_path / "a/c.Tiff"


@pytest.mark.not_on_windows("links and FIFOs")
def test_links_do_not_make_folders_endless(tmp_path: Path) -> None:
    tree(tmp_path, "a/b.png")
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "self.png").symlink_to("self.png")
    found = find(tmp_path, recursive=True)
    assert names(found) == ["a/b.png", "self.png"]
    assert len(plan_outputs(found.jobs, Path("out"), naming=Naming(), inputs=[tmp_path])) == 2


def test_earlier_outputs_are_no_inputs(tmp_path: Path) -> None:
    tree(tmp_path, "a.png", "large/a.png", "large/sub/b.png", "larger/c.png")
    assert names(find(tmp_path, out=tmp_path / "large", recursive=True)) == [
        "a.png",
        "larger/c.png",
    ]
    assert names(find(tmp_path / "large", out=tmp_path / "large/sub/..", recursive=True)) == [
        "a.png",
        "sub/b.png",
    ]


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
    found = find_inputs(inputs, out=Path("out"), recursive=True)
    assert names(found) == ["a.png", "sub/c.png"]
    empty, *denied = (str(file.error) for file in found.refused)
    assert empty.startswith(f"{tmp_path / 'empty'}: there are no images")
    assert "--recursive" not in empty
    assert (
        denied
        == [f"{tmp_path / 'photos/locked'}: the folder cannot be listed: Permission denied"] * 2
    )
    assert "--recursive" in str(find(tmp_path / "empty").refused[0].error)
    outputs = tmp_path / "photos" / "locked"
    assert not find(tmp_path / "photos", out=outputs, recursive=True).refused, (
        "that of the outputs is not searched"
    )


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    left_out = (
        "c.TGA",
        "d.tga",
        "e.nef",
        "sub/f.cr3",
        "sub/g.xcf",
        "notes.txt",
        "i.mp4",
        ".j.tga",
        "large/k.tga",
    )
    tree(tmp_path, "a.png", "b.bmp", *left_out)
    found = find(tmp_path, out=tmp_path / "large", recursive=True)
    assert names(found) == ["a.png", "b.bmp"]
    counts = {
        what.partition(";")[0].removesuffix(", which is not read"): n
        for what, n in found.others.items()
    }
    assert counts == {"GIMP": 1, "TGA": 2, "camera raw": 2, "clips": 1}


def named(path: str | Path, name: str | None = None) -> Job:
    return Job(source=Path(path), targets=(), name=PurePosixPath(name or Path(path).name))


VALUES = {"seed": 7, "tau": 0.5, "scale": 4}


def targets(inputs: str, out: str | Path, **naming: Any) -> str:
    """The outputs of some inputs, between spaces as these are."""
    names = Naming(**{"values": VALUES, **naming})
    if names.pattern is not None:
        names.check(names.pattern)
    names, folder = choose_destination(names, [*map(Path, inputs.split())], str(out))
    jobs = plan_outputs([named(path) for path in inputs.split()], folder, naming=names)
    return " ".join(target.as_posix() for job in jobs for target in job.targets)


@pytest.mark.parametrize(
    ("inputs", "out", "naming", "expected"),
    [
        ("a.jpg", "{big}.webp", {}, "{big}.webp"),
        ("a.jpg", "./big.png", {"numbers": range(2)}, "big_s0.png big_s1.png"),
        ("a.jpg", "big.png", {"numbers": range(5, 7)}, "big_s5.png big_s6.png"),
        ("a.jpg", "out", {}, "out/a.png"),
        ("x/a.jpg y/b.tar.png", "out", {}, "out/a.png out/b.tar.png"),
        (
            "a.jpg b.jpg",
            "out",
            {"numbers": range(2)},
            "out/a_s0.png out/a_s1.png out/b_s0.png out/b_s1.png",
        ),
        ("a.jpg b.jpg", "large.v2", {}, "large.v2/a.png large.v2/b.png"),
        ("x/a.b.JPG", "out", {"pattern": "{stem}_{ending}.png"}, "out/a.b_JPG.png"),
        (
            "a.JPG",
            "out",
            {"pattern": "{seed}_{sample:03}_t{tau:.2f}.WEBP", "numbers": [5]},
            "out/7_005_t0.50.WEBP",
        ),
        ("a.JPG", "out", {"pattern": "{{{stem}}}.png"}, "out/{a}.png"),
        # inputs of one output get different ones
        ("a.gif a.webp b.gif", "out", {}, "out/a_gif.png out/a_webp.png out/b.png"),
        ("a.webp b.gif a.gif", "out", {}, "out/a_webp.png out/b.png out/a_gif.png"),
        ("A.jpg a.png", "out", {}, "out/A_jpg.png out/a_png.png"),
        ("x/a x/a.png", "out", {}, "out/a.png out/a_png.png"),
        ("a.gif a.tif", "out", {"pattern": "{stem}_x4.jpg"}, "out/a_gif_x4.jpg out/a_tif_x4.jpg"),
        ("a.gif a.tif", "out", {"pattern": "{stem}.{ending}.png"}, "out/a.gif.png out/a.tif.png"),
    ],
)
def test_names_of_outputs(inputs: str, out: str, naming: dict[str, Any], expected: str) -> None:
    assert targets(inputs, out, **naming) == expected


@pytest.mark.parametrize(
    ("inputs", "out", "naming", "says"),
    [
        *(
            ("a.jpg", "out", {"pattern": pattern}, says)
            for pattern, says in (
                (
                    "{stem}_{size}.png",
                    r"cannot be filled in \('size'\); the fields are \{stem\}, .*\{sample\}",
                ),
                ("{}.png", "cannot be filled in"),
                ("{stem.x}.png", "cannot be filled in"),
                (
                    "{stem}_{tau:d}.png",
                    r"Unknown format code 'd' .*; the fields are .* numbers also \{sample:03\}",
                ),
                ("{stem.png", "expected '}'"),
                ("sub/{stem}.png", "and the folder with -o"),
                ("..\\{stem}.png", "and the folder with -o"),
                ("{stem}.bmp", "the ending of the name sets the format"),
            )
        ),
        (
            "a.jpg",
            "out",
            {"pattern": "{stem}.png", "numbers": range(2)},
            r"same name; add \{sample\}",
        ),
        ("a.jpg", "big.png", {"pattern": "{stem}.png"}, "--name names the files of a directory"),
        (
            "a.jpg b.jpg",
            "new/big.png",
            {},
            r"big\.png is one file and there are 2 inputs; .* -o new.big.$",
        ),
        (
            "a.jpg b.jpg",
            "out",
            {"pattern": "{sample}.png"},
            r"would both be written to .*; add \{stem\} to --name",
        ),
        (
            "x/Stra\u00dfe.jpg y/STRASSE.jpg",
            "out",
            {},
            "would both be written to .*; take two directories",
        ),
        (
            "Stra\u00dfe.jpg STRASSE.jpg b.jpg",
            "out",
            {},
            "STRASSE.jpg would both be written to .*; rename one of them",
        ),
        (
            "x/a.gif x/a.webp x/a_gif.png",
            "out",
            {},
            "would both be written to .*; rename one of them",
        ),
    ],
)
def test_names_that_cannot_be_given_are_refused(
    inputs: str, out: str, naming: dict[str, Any], says: str
) -> None:
    with pytest.raises(ArgumentError, match=says):
        targets(inputs, out, **naming)


def test_an_existing_directory_or_a_trailing_slash_is_a_directory_whatever_its_name(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "set.png"
    assert targets("a.jpg", "v1.2/") == "v1.2/a.png"
    folder.mkdir()
    assert targets("a.jpg", folder) == f"{folder.as_posix()}/a.png"
    assert choose_destination(Naming(), [tmp_path], "large.v2")[1] == Path("large.v2")
    with pytest.raises(ArgumentError, match=r"big\.png is one file and .* is a folder"):
        choose_destination(Naming(), [tmp_path], "big.png")


@pytest.mark.parametrize("out", [".", "..", "sub/.."])
def test_outputs_among_the_inputs_are_refused(tmp_path: Path, out: str) -> None:
    folder = tree(tmp_path / "photos", "a.png", "sub/b.png", "photos/photos/c.png")
    place = folder / out
    files = find(folder, out=place, recursive=True).jobs
    with pytest.raises(ArgumentError, match=r"among the inputs|overwrite the input"):
        plan_outputs(files, place, naming=Naming(pattern="{stem}_x4.png"), inputs=[folder])
    assert plan_outputs(files, folder / "large", naming=Naming(), inputs=[folder])


def test_equal_names_in_different_subfolders_stay_as_they_are(tmp_path: Path) -> None:
    tree(tmp_path, "a.png", "sub/a.png", "sub/a.gif")
    jobs = plan_outputs(find(tmp_path, recursive=True).jobs, Path("out"), naming=Naming())
    assert [job.targets[0].as_posix() for job in jobs] == [
        "out/a.png",
        "out/sub/a_gif.png",
        "out/sub/a_png.png",
    ]


def test_a_file_that_is_named_twice_is_one_job(tmp_path: Path) -> None:
    tree(tmp_path, "a.png", "b.png")
    files = find_inputs([tmp_path / "b.png", tmp_path], out=Path("out")).jobs
    jobs = plan_outputs(files, Path("out"), naming=Naming())
    assert [job.source.name for job in jobs] == ["b.png", "a.png"]


@pytest.mark.not_on_windows("links and FIFOs")
@pytest.mark.parametrize("link", [None, os.symlink, os.link])
def test_no_input_is_overwritten_by_any_output_under_any_name(
    tmp_path: Path, link: Callable[[Path, Path], None] | None
) -> None:
    tree(tmp_path, "photo.png", "other.jpg", "out/nothing")
    out = tmp_path / "out"
    if link is not None:
        link(tmp_path / "photo.png", out / "photo.png")
    else:
        out = tmp_path / "out" / ".."
    photo = tmp_path / "photo.png"
    with pytest.raises(ArgumentError, match="would overwrite the input"):
        plan_outputs([named(tmp_path / "other.jpg"), named(photo)], out, naming=Naming())
    with pytest.raises(ArgumentError, match="would overwrite"):
        plan_outputs([named(tmp_path / "photo.jpg")], out, naming=Naming(), keep=[photo])


def test_every_input_is_in_one_shard_the_same_on_every_machine() -> None:
    names = [PurePosixPath(f"a/{number}.png") for number in range(9)]
    assert [part_of(name, 3) for name in names] == [3, 1, 1, 3, 2, 2, 2, 1, 3]
    assert part_of(PurePosixPath("caf\u00e9.png"), 7) == part_of(PurePosixPath("cafe\u0301.png"), 7)


def test_targets_are_checked_before_the_work(tmp_path: Path) -> None:
    tree(tmp_path, "file")
    (tmp_path / "dir.png").mkdir()

    def check(target: str, report: str | None = None) -> None:
        names, folder = choose_destination(Naming(), [tmp_path / "a.jpg"], f"{tmp_path}/{target}")
        jobs = plan_outputs([named(tmp_path / "a.jpg")], folder, naming=names)
        check_targets(jobs, FileChoices(report=None if report is None else tmp_path / report))

    check("new/", "reports/r.json")
    assert not (tmp_path / "new").exists(), "nothing is created by looking"
    with pytest.raises(
        ImageError, match=r"deep.big.png cannot be written: there is no folder .*deep; correct"
    ):
        check("new/deep/big.png")
    with pytest.raises(ArgumentError, match="the ending of the name sets the format"):
        check("big.bmp")
    with pytest.raises(ImageError, match=r"the directory .*file.new cannot be created"):
        check("file/new/")
    with pytest.raises(ImageError, match="it is a directory"):
        check("big.png", "dir.png")
    with pytest.raises(ArgumentError, match=r"the report .* would replace"):
        check("big.png", "a.jpg")


def test_the_formats_to_choose_from_are_those_that_have_a_saver() -> None:
    written = [row.endings[0] for row in formats.FORMATS if row.saver]
    assert [f".{name}" for name in FORMATS] == written
