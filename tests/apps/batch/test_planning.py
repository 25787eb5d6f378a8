"""Which files a batch takes from folders, and which file each picture is written to."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srflow_apps.batch.jobs import Job
from srflow_apps.batch.operations import FIELDS
from srflow_apps.batch.plan import Naming, Shard, check_targets, find_inputs, plan_outputs, say_unread
from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.files import READABLE, UNREAD

from .conftest import tree


def found(folder: Path, *, out: str | Path = "elsewhere", recursive: bool = False) -> list[str]:
    return [job.name.as_posix() for job in find_inputs([folder], out=Path(out), recursive=recursive)[0]]


def refused(folder: Path, **options: Any) -> str:
    ((_, why),) = find_inputs([folder], out=folder / "large", **options)[1]
    return why


def test_folders_give_their_images_sorted_whatever_the_case_of_their_endings(tmp_path: Path) -> None:
    tree(tmp_path, "b.JPG", "a.png", "c.Tiff", "notes.txt", "none", ".hidden.png", "sub/d.png")
    assert found(tmp_path) == ["a.png", "b.JPG", "c.Tiff"]


def test_recursive_keeps_the_structure(tmp_path: Path) -> None:
    tree(tmp_path, "b.png", "a/c.png", "a/a/d.png", ".git/e.png", "a b/f.png")
    assert found(tmp_path, recursive=True) == ["a/a/d.png", "a/c.png", "a b/f.png", "b.png"]
    files, _, _ = find_inputs([tmp_path], out=Path("out"), recursive=True)
    jobs = plan_outputs(files, Path("out"), naming=Naming(numbers=range(2)), inputs=[tmp_path])
    assert [target.as_posix() for target in jobs[1].targets] == ["out/a/c_s0.png", "out/a/c_s1.png"]
    assert jobs[1].source == tmp_path / "a/c.png"


def test_links_do_not_make_folders_endless(tmp_path: Path) -> None:
    tree(tmp_path, "a/b.png")
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "self.png").symlink_to("self.png")
    assert found(tmp_path, recursive=True) == ["a/b.png", "self.png"]
    files, _, _ = find_inputs([tmp_path], out=Path("out"), recursive=True)
    assert len(plan_outputs(files, Path("out"), naming=Naming(), inputs=[tmp_path])) == 2


def test_earlier_outputs_are_no_inputs(tmp_path: Path) -> None:
    tree(tmp_path, "a.png", "large/a.png", "large/sub/b.png", "larger/c.png")
    (tmp_path / "newest.png").symlink_to("large/a.png")
    assert found(tmp_path, out=tmp_path / "large", recursive=True) == ["a.png", "larger/c.png"]
    assert found(tmp_path / "large", out=tmp_path / "large/sub/..", recursive=True) == ["a.png", "sub/b.png"]


@pytest.mark.parametrize("recursive", [False, True])
def test_a_folder_without_images_is_an_error(tmp_path: Path, recursive: bool) -> None:
    tree(tmp_path, "notes.txt", "large/a.png")
    why = refused(tmp_path, recursive=recursive)
    assert "there are no images" in why
    assert ("--recursive" in why) is not recursive


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
    taken, told, _ = find_inputs(inputs, out=Path("out"), recursive=True)
    assert [job.name.as_posix() for job in taken] == ["a.png", "sub/c.png"]
    assert [folder.name for folder, _ in told] == ["empty", "locked", "locked"]
    denied = "the folder cannot be listed: Permission denied"
    assert [line.startswith("there are no images") or line for _, line in told] == [True, denied, denied]


def test_images_that_are_left_out_are_counted_and_named_by_format(tmp_path: Path) -> None:
    tree(
        tmp_path, "a.png", "b.bmp", "c.TGA", "d.tga", "e.nef", "sub/f.cr3", "sub/g.xcf", "notes.txt", "i.mp4", ".j.tga"
    )
    tree(tmp_path, "large/k.tga")
    taken, _, unread = find_inputs([tmp_path], out=tmp_path / "large", recursive=True)
    assert [job.name.as_posix() for job in taken] == ["a.png", "b.bmp"]
    assert say_unread(unread) == (
        "left out, because such images are not read: 2 TGA, 2 camera raw, 1 GIMP; convert them to PNG or TIFF"
    )
    assert not set(UNREAD) & set(READABLE)


def named(path: str | Path, name: str | None = None) -> Job:
    return Job(source=Path(path), targets=(), name=PurePosixPath(name or Path(path).name))


VALUES = {"seed": 7, "tau": 0.5, "scale": 4}


def targets(inputs: list[str], out: str | Path, *, directory: bool = False, **naming: Any) -> list[str]:
    jobs = plan_outputs(
        [named(path) for path in inputs],
        Path(out),
        naming=Naming(**naming),
        directory=directory,
    )
    return [target.as_posix() for job in jobs for target in job.targets]


@pytest.mark.parametrize(
    ("inputs", "out", "samples", "expected"),
    [
        (["a.jpg"], "big.webp", 1, ["big.webp"]),
        (["a.jpg"], "new/big.png", 2, ["new/big_s0.png", "new/big_s1.png"]),
        (["a.jpg"], "out", 1, ["out/a.png"]),
        (["a.jpg"], "out", 2, ["out/a_s0.png", "out/a_s1.png"]),
        (["x/a.jpg", "y/b.tar.png"], "out", 1, ["out/a.png", "out/b.tar.png"]),
        (["a.jpg", "b.jpg"], "out", 2, ["out/a_s0.png", "out/a_s1.png", "out/b_s0.png", "out/b_s1.png"]),
    ],
)
def test_names_of_outputs(inputs: list[str], out: str, samples: int, expected: list[str]) -> None:
    assert targets(inputs, out, numbers=range(samples)) == expected


def test_samples_are_numbered_from_the_first_on() -> None:
    assert targets(["a.jpg"], "big.png", numbers=range(5, 7)) == ["big_s5.png", "big_s6.png"]
    assert targets(["a.jpg"], "out", numbers=range(5, 7)) == ["out/a_s5.png", "out/a_s6.png"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("{stem}_x4.jpg", "a.b_x4.jpg"),
        ("{stem}_{ending}.png", "a.b_JPG.png"),
        ("{stem}_{seed}_{sample:03}_t{tau:.2f}.WEBP", "a.b_7_005_t0.50.WEBP"),
        ("{model}-{stem}.tif", "my-model-4x-a.b.tif"),
        ("{{{stem}}}.png", "{a.b}.png"),
    ],
)
def test_patterns_name_the_outputs(pattern: str, expected: str) -> None:
    naming: Any = {"pattern": pattern, "numbers": [5], "values": VALUES, "model": lambda _: "my/model 4x"}
    Naming(**naming).check(FIELDS)
    assert targets(["x/a.b.JPG"], "out", **naming) == [f"out/{expected}"]


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("{stem}_{size}.png", r"\{size\} cannot be filled in; the fields are \{stem\}, .*\{sample\}"),
        ("{}.png", "cannot be filled in"),
        ("{stem.__class__}.png", "cannot be filled in"),
        ("{stem!r}.png", "cannot be filled in"),
        ("{seed:{stem}}.png", "cannot be filled in"),
        ("{seed:999999999}.png", "cannot be filled in"),
        ("{stem:d}.png", "Unknown format code 'd'"),
        ("{stem}_{tau:d}.png", r"Unknown format code 'd' .*; the fields are .* numbers also \{seed:06\}"),
        ("{stem.png", "expected '}'"),
        ("sub/{stem}.png", "and the folder with -o"),
        ("..\\{stem}.png", "and the folder with -o"),
        ("{stem}", "the ending of the name sets the format"),
        ("{stem}.{ending}", "the ending of the name sets the format"),
        ("{stem}.bmp", "the ending of the name sets the format"),
    ],
)
def test_patterns_that_name_nothing_are_refused(pattern: str, says: str) -> None:
    with pytest.raises(ArgumentError, match=says):
        Naming(pattern=pattern, values=VALUES).check(FIELDS)


def test_a_pattern_for_several_samples_needs_their_number() -> None:
    Naming(pattern="{stem}-{sample}.png", numbers=range(2)).check(FIELDS)
    with pytest.raises(ArgumentError, match=r"same name; add \{sample\}"):
        Naming(pattern="{stem}.png", numbers=range(2)).check(FIELDS)


def test_a_pattern_and_one_file_are_two_names() -> None:
    with pytest.raises(ArgumentError, match="both name the file"):
        targets(["a.jpg"], "big.png", pattern="{stem}.png")


def test_an_existing_directory_or_a_trailing_slash_is_a_directory_whatever_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "set.png"
    assert targets(["a.jpg"], "v1.2", directory=True) == ["v1.2/a.png"]
    folder.mkdir()
    assert targets(["a.jpg"], folder) == [f"{folder.as_posix()}/a.png"]


def test_an_ending_that_no_image_has_is_a_directorys_for_several_inputs_or_a_folder(tmp_path: Path) -> None:
    assert targets(["a.jpg", "b.jpg"], "large.v2") == ["large.v2/a.png", "large.v2/b.png"]
    (job,) = plan_outputs([named("a.jpg")], Path("large.v2"), naming=Naming(), inputs=[tmp_path])
    assert job.targets == (Path("large.v2/a.png"),)
    for name in ("large.bmp", "large.gif", "large.tga"):
        with pytest.raises(ArgumentError, match="is one file"):
            targets(["a.jpg", "b.jpg"], name)


def test_several_inputs_or_a_folder_cannot_go_to_one_file(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"big\.png is one file and there are 2 inputs; .* -o new/big/$"):
        targets(["a.jpg", "b.jpg"], "new/big.png")
    with pytest.raises(ArgumentError, match=r"big\.png is one file and .* is a folder"):
        plan_outputs([named("a.jpg")], Path("big.png"), naming=Naming(), inputs=[tmp_path])


@pytest.mark.parametrize("out", [".", "..", "sub/.."])
def test_outputs_among_the_inputs_are_refused(tmp_path: Path, out: str) -> None:
    folder = tree(tmp_path / "photos", "a.png", "sub/b.png", "photos/photos/c.png")
    place = folder / out
    files, _, _ = find_inputs([folder], out=place, recursive=True)
    with pytest.raises(ArgumentError, match=r"among the inputs|overwrite the input"):
        plan_outputs(files, place, naming=Naming(pattern="{stem}_x4.png"), inputs=[folder])
    inside = folder / "large"
    assert plan_outputs(files, inside, naming=Naming(), inputs=[folder])


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (["a.gif", "a.webp", "b.gif"], ["a_gif.png", "a_webp.png", "b.png"]),
        (["a.webp", "b.gif", "a.gif"], ["a_webp.png", "b.png", "a_gif.png"]),
        (["A.jpg", "a.png"], ["A_jpg.png", "a_png.png"]),
        (["x/a.png", "y/a.png", "y/a.jpg"], ["x_a_png.png", "y_a_png.png", "a_jpg.png"]),
        (["x/a", "x/a.png"], ["a.png", "a_png.png"]),
        (["x/a.gif", "x/a.webp", "x/a_gif.png"], ["x_a_gif.png", "a_webp.png", "x_a_gif_png.png"]),
        (["x/Stra\u00dfe.jpg", "y/STRASSE.jpg"], ["x_Stra\u00dfe_jpg.png", "y_STRASSE_jpg.png"]),
        (["x/caf\u00e9.jpg", "y/cafe\u0301.jpg"], ["x_caf\u00e9_jpg.png", "y_cafe\u0301_jpg.png"]),
    ],
)
def test_inputs_of_one_output_get_different_ones(inputs: list[str], expected: list[str]) -> None:
    assert targets(inputs, "out") == [f"out/{name}" for name in expected]


def test_inputs_of_one_stem_keep_the_pattern_and_their_samples() -> None:
    assert targets(["a.gif", "a.tif"], "out", pattern="{stem}_x4_{sample}.jpg", numbers=range(2)) == [
        "out/a_gif_x4_0.jpg",
        "out/a_gif_x4_1.jpg",
        "out/a_tif_x4_0.jpg",
        "out/a_tif_x4_1.jpg",
    ]
    assert targets(["a.gif", "a.tif"], "out", pattern="{stem}.{ending}.png") == ["out/a.gif.png", "out/a.tif.png"]


def test_equal_names_in_different_subfolders_stay_as_they_are(tmp_path: Path) -> None:
    tree(tmp_path, "a.png", "sub/a.png", "sub/a.gif")
    files, _, _ = find_inputs([tmp_path], out=Path("out"), recursive=True)
    jobs = plan_outputs(files, Path("out"), naming=Naming())
    assert [job.targets[0].as_posix() for job in jobs] == ["out/a.png", "out/sub/a_gif.png", "out/sub/a_png.png"]


@pytest.mark.parametrize(
    ("first", "second", "pattern", "fix"),
    [
        ("A.jpg", "a.jpg", "{sample}.png", r"add \{stem\} to --name"),
        ("x/p/a.jpg", "y/p/a.jpg", None, "two directories"),
        ("a.jpg", "b.jpg", "{seed}.png", r"add \{stem\} to --name"),
    ],
)
def test_two_inputs_that_cannot_be_named_apart_are_refused(
    tmp_path: Path, first: str, second: str, pattern: str | None, fix: str
) -> None:
    with pytest.raises(ArgumentError, match=f"would both be written to .*; .*{fix}"):
        targets([first, second], tmp_path / "out", pattern=pattern)


def test_names_that_some_disks_take_for_one_are_told_apart_everywhere(tmp_path: Path) -> None:
    planned = targets(["A.jpg", "a.jpg", "b.jpg"], tmp_path / "out")
    names = [Path(path).name for path in planned]
    assert names[2] == "b.png"
    assert len({name.casefold() for name in names}) == 3
    assert [name[: len("a_jpg_")] for name in names[:2]] == ["A_jpg_", "a_jpg_"]
    assert sorted(targets(["b.jpg", "a.jpg", "A.jpg"], tmp_path / "out")) == sorted(planned)
    tree(tmp_path / "out", *names)
    assert targets(["A.jpg", "a.jpg", "b.jpg"], tmp_path / "out") == planned


def test_a_file_that_is_named_twice_is_one_job(tmp_path: Path) -> None:
    tree(tmp_path, "a.png", "b.png")
    files, _, _ = find_inputs([tmp_path / "b.png", tmp_path], out=Path("out"))
    jobs = plan_outputs(files, Path("out"), naming=Naming())
    assert [job.source.name for job in jobs] == ["b.png", "a.png"]


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
    files = [named(tmp_path / "other.jpg"), named(tmp_path / "photo.png")]
    with pytest.raises(ArgumentError, match="would overwrite the input"):
        plan_outputs(files, out, naming=Naming())


def test_a_file_to_keep_is_not_overwritten(tmp_path: Path) -> None:
    tree(tmp_path, "a.jpg", "large.png")
    with pytest.raises(ArgumentError, match="would overwrite"):
        plan_outputs(
            [named(tmp_path / "a.jpg")], tmp_path / "large.png", naming=Naming(), keep=[tmp_path / "large.png"]
        )


@settings(max_examples=25)  # each of up to seven shards
@given(names=st.lists(st.text(min_size=1, max_size=20), max_size=4), count=st.integers(1, 7))
def test_every_input_is_in_exactly_one_shard(names: list[str], count: int) -> None:
    shards = [Shard(index=index, count=count) for index in range(1, count + 1)]
    for name in map(PurePosixPath, names):
        assert sum(shard.holds(name) for shard in shards) == 1


def test_shards_are_the_same_on_every_machine() -> None:
    parts = [next(i for i in (1, 2, 3) if Shard(index=i, count=3).holds(PurePosixPath(f"a/{n}.png"))) for n in range(9)]
    assert parts == [3, 1, 1, 3, 2, 2, 2, 1, 3]
    composed, decomposed = PurePosixPath("caf\u00e9.png"), PurePosixPath("cafe\u0301.png")
    for index in range(1, 8):
        shard = Shard(index=index, count=7)
        assert shard.holds(composed) == shard.holds(decomposed)


def test_targets_are_checked_before_the_work(tmp_path: Path) -> None:
    tree(tmp_path, "file")
    (tmp_path / "dir.png").mkdir()

    def check(target: str, report: str | None = None) -> None:
        jobs = plan_outputs([named(tmp_path / "a.jpg")], tmp_path / target, naming=Naming())
        check_targets(jobs, report=None if report is None else tmp_path / report)

    check("new/deep/big.png", "reports/r.json")
    assert not (tmp_path / "new").exists(), "nothing is created by looking"
    with pytest.raises(ArgumentError, match="the ending of the name sets the format"):
        check("big.bmp")
    with pytest.raises(ImageError, match=r"the directory .*file cannot be created"):
        check("file/big.png")
    with pytest.raises(ImageError, match="it is a directory"):
        check("big.png", "dir.png")
    with pytest.raises(ArgumentError, match=r"the report .* would replace"):
        check("big.png", "a.jpg")
