"""upscale_folder: what the command does, as one call with results."""

from __future__ import annotations

import json
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from srflow_sdk import FolderFile, read_provenance, upscale_folder
from srflow_sdk.errors import ArgumentError, DeviceError
from srflow_sdk.files import read_image, write_image
from srflow_sdk.upscaler import Upscaler
from tests.sdk.tiny_bundle import hidden_files


@pytest.fixture
def photos(tmp_path: Path, photo: np.ndarray) -> Path:
    """Photos a, b and sub/c, and bad.png, which is none."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for number, name in enumerate(("a.png", "b.png", "sub/c.png")):
        write_image(folder / name, photo[number : number + 12, :16])
    (folder / "bad.png").write_bytes(b"not a picture")
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "large"


def files(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def test_every_file_has_a_result_and_a_bad_one_does_not_stop_the_others(
    photos: Path, out: Path, upscaler: Upscaler
) -> None:
    result = upscale_folder(photos, out, upscaler=upscaler, recursive=True, tau=0.5, seed=3)
    assert files(out) == ["a.png", "b.png", "sub/c.png"]
    assert str(result) == "3 done, 0 skipped, 1 failed"
    assert (result.total, result.remaining, result.interrupted, result.disk_full) == (
        4,
        1,
        False,
        False,
    )
    done = {file.source.name: file for file in result.files}
    assert done["a.png"].targets == (out / "a.png",)
    assert done["a.png"].size == (16, 12)
    assert done["a.png"].seconds is not None
    assert done["a.png"].outputs[0].provenance == read_provenance(out / "a.png")
    assert done["bad.png"].status == "failed"
    assert str(done["bad.png"].error).startswith(f"{photos / 'bad.png'}: ")
    picture = upscaler.upscale(read_image(photos / "a.png").pixels, tau=0.5, seed=3)
    assert np.array_equal(read_image(out / "a.png").pixels, picture)
    assert pickle.loads(pickle.dumps(result)) == result, "it comes from a worker's machine"


def test_the_callbacks_hear_of_every_file_and_of_all_pixels(
    photos: Path, out: Path, upscaler: Upscaler
) -> None:
    heard: list[FolderFile] = []
    pixels: list[tuple[int, int]] = []
    main = threading.current_thread()

    def on_file(file: FolderFile) -> None:
        assert threading.current_thread() is main
        assert all(target.exists() for target in file.targets) == (file.status == "done")
        heard.append(file)

    result = upscale_folder(
        photos,
        out,
        upscaler=upscaler,
        on_file=on_file,
        progress=lambda done, total: pixels.append((done, total)),
    )
    assert tuple(heard) == result.files
    assert [file.source.name for file in heard] == ["a.png", "b.png", "bad.png"]
    assert pixels[-1] == (2 * 12 * 16, 2 * 12 * 16)
    assert pixels == sorted(pixels)


def test_what_a_callback_raises_ends_the_run(photos: Path, out: Path, upscaler: Upscaler) -> None:
    def on_file(file: FolderFile) -> None:
        raise RuntimeError("the caller's own")

    with pytest.raises(RuntimeError, match="the caller's own"):
        upscale_folder(photos, out, upscaler=upscaler, on_file=on_file)
    assert not hidden_files(out)


def test_cancel_keeps_what_is_finished_and_says_so(
    photos: Path, out: Path, upscaler: Upscaler
) -> None:
    cancel = threading.Event()
    result = upscale_folder(
        photos, out, upscaler=upscaler, cancel=cancel, on_file=lambda _: cancel.set()
    )
    assert result.interrupted
    assert result.count("done") >= 1
    assert len(files(out)) == result.count("done") < 3
    assert not hidden_files(out)


def test_ctrl_c_is_raised_on_when_the_report_is_written(
    photos: Path, out: Path, upscaler: Upscaler, tmp_path: Path
) -> None:
    def on_file(file: FolderFile) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upscale_folder(photos, out, upscaler=upscaler, on_file=on_file, report=tmp_path / "r.json")
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["summary"]["interrupted"]
    assert report["files"][0]["status"] == "done"


def test_samples_names_formats_and_shards_are_those_of_the_command(
    photos: Path, out: Path, upscaler: Upscaler
) -> None:
    parts = [
        upscale_folder(
            [photos / "a.png", str(photos / "b.png")],
            out,
            upscaler=upscaler,
            samples=2,
            sample=5,
            name="{stem}-{sample:02}.webp",
            lossless=True,
            shard=(index, 2),
        )
        for index in (1, 2)
    ]
    assert sum(part.count("done") for part in parts) == 2
    assert files(out) == ["a-05.webp", "a-06.webp", "b-05.webp", "b-06.webp"]
    upscale_folder(photos / "a.png", out, upscaler=upscaler, format="jpg", quality=50)
    assert (out / "a.jpg").read_bytes().startswith(b"\xff\xd8")
    again = upscale_folder(photos / "a.png", out, upscaler=upscaler, format="jpg", overwrite=False)
    assert again.count("skipped") == 1


def test_a_folder_without_images_and_a_missing_file_are_results(
    out: Path, upscaler: Upscaler, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.tga").touch()
    result = upscale_folder([tmp_path / "empty", tmp_path / "gone.png"], out, upscaler=upscaler)
    assert [file.status for file in result.files] == ["failed", "failed"]
    assert files(out) == []


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"shard": (3, 2)}, r"shard is \(3, 2\)"),
        ({"format": "bmp"}, "the format; it must be one of .png"),
        ({"samples": 0}, "samples is 0; it must be a whole number from 1 to 1000$"),
        ({"inputs": []}, "there are no inputs"),
        ({"output": None}, "output is None; it must be the path of a directory"),
        ({"upscaler": "model.srflow"}, "must be an Upscaler"),
        ({"format": "jpg", "quality": 200}, "from 1 to 100"),
        ({"tau": np.zeros((12, 16))}, "tau is a map"),
    ],
)
def test_what_is_wrong_for_every_file_is_raised_and_nothing_is_written(
    photos: Path, out: Path, upscaler: Upscaler, wrong: dict[str, Any], says: str
) -> None:
    with pytest.raises(ArgumentError, match=says):
        upscale_folder(**{"inputs": photos, "output": out, "upscaler": upscaler, **wrong})
    assert not out.exists() or not files(out)


def test_a_wrong_keyword_names_the_right_ones(photos: Path, out: Path) -> None:
    with pytest.raises(TypeError, match=r"^'taus' is no keyword here.* tau, seed, "):
        upscale_folder(photos, out, taus=0.5)  # type: ignore[call-arg]


def test_a_closed_upscaler_is_an_error_and_not_that_of_every_file(
    photos: Path, out: Path, tiny_bundle: Path
) -> None:
    closed = Upscaler(tiny_bundle, device="cpu", threads=1)
    closed.close()
    with pytest.raises(DeviceError, match="was closed"):
        upscale_folder(photos, out, upscaler=closed)


def test_files_of_values_need_no_choice_of_a_model(two_models: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    values = (np.indices((9, 9)).sum(axis=0) * 50 - 400).astype(np.int16)
    tifffile.imwrite(tmp_path / "in" / "heights.tif", values, photometric="minisblack")
    (only,) = upscale_folder(tmp_path / "in", tmp_path / "out", value_range=(-400, 400)).files
    assert only.status == "done", only.error
    assert tifffile.imread(tmp_path / "out" / "heights.tif").dtype == np.int16
