from __future__ import annotations

import os
from pathlib import Path

import pytest

from srflow_sdk.errors import ArgumentError
from srflow_sdk.outputs import plan_outputs


def targets(inputs: list[str], out: str | Path, *, samples: int = 1, directory: bool = False) -> list[str]:
    jobs = plan_outputs([Path(name) for name in inputs], Path(out), samples=samples, directory=directory)
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
    assert targets(inputs, out, samples=samples) == expected


def test_an_existing_directory_or_a_trailing_slash_is_a_directory_whatever_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "set.png"
    assert targets(["a.jpg"], "v1.2", directory=True) == ["v1.2/a.png"]
    folder.mkdir()
    assert targets(["a.jpg"], folder) == [f"{folder.as_posix()}/a.png"]


def test_several_inputs_cannot_go_to_one_file() -> None:
    with pytest.raises(ArgumentError, match=r"big\.png is one file and there are 2 inputs"):
        targets(["a.jpg", "b.jpg"], "big.png")


@pytest.mark.parametrize("second", ["b/photo.png", "a/photo.jpg"])
def test_two_inputs_of_one_output_are_refused(second: str) -> None:
    with pytest.raises(ArgumentError, match=r"would both be written to out/photo\.png"):
        targets(["a/photo.jpg", second], "out")


@pytest.mark.parametrize("link", [None, os.symlink, os.link])
def test_no_input_is_overwritten_by_any_output_under_any_name(tmp_path: Path, link: object) -> None:
    source, other = tmp_path / "photo.png", tmp_path / "other.jpg"
    source.touch()
    other.touch()
    out = tmp_path / "out"
    out.mkdir()
    if callable(link):
        link(source, out / "photo.png")
    else:
        out = tmp_path / "out" / ".."
    with pytest.raises(ArgumentError, match="would overwrite the input"):
        plan_outputs([other, source], out, samples=1)
