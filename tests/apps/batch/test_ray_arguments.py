"""Arguments that a Ray cluster and its workers refuse, and their work on rows, without a cluster."""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from srflow_apps.batch.jobs import Settings
from srflow_apps.batch.operations import Job
from srflow_apps.batch.ray import Cluster, DoJobs, connected
from srflow_apps.commands import cli
from srflow_sdk import ArgumentError, BundleError, DeviceError, upscale_folder
from srflow_sdk.ray import UpscaleFiles

from .conftest import write_photos

ray = pytest.importorskip("ray")


@pytest.mark.parametrize(
    "address", ["head", "", "ray://head:10001", "head:x", "head:0", "head:65536", "localhost:99999"]
)
def test_an_address_that_cannot_be_is_refused(address: str) -> None:
    with pytest.raises(ArgumentError, match=r"host:port|Ray Client"):
        Cluster(address=address)


@pytest.mark.parametrize(
    "wrong",
    [
        {"gpus": "1"},
        {"gpus": True},
        {"gpus": -1},
        {"gpus": float("nan")},
        {"device": "foo"},
        {"precision": "fp16"},
        {"cpus": 1.5},
    ],
    ids=str,
)
def test_what_a_cluster_cannot_do_is_refused_at_once(wrong: Any) -> None:
    with pytest.raises(ArgumentError, match=f"{next(iter(wrong))} is .*; it must be"):
        Cluster(**wrong)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"quality": 200}, "quality is 200"),
        ({"quality": 50, "lossless": True}, "a lossless picture has no quality"),
        ({"max_pixels": -1}, "max_pixels is -1"),
        ({"tau": 7}, "tau is 7"),
        ({"scale": 9}, "scale is 9"),
    ],
    ids=str,
)
def test_what_is_wrong_for_all_rows_is_an_error_of_the_actor(wrong: Any, said: str, tiny_bundle: Path) -> None:
    with pytest.raises(ArgumentError, match=said):
        UpscaleFiles(tiny_bundle, device="cpu", threads=1, **wrong)


def test_a_row_that_names_no_file_to_read_or_write_does_not_end_the_pipeline(
    photos: Path, tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photos(photos, 1, 12)
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    good = "photos/0.png"
    rows = {
        (good, "x.gif"): "the ending of the name sets the format",
        (good, "folder"): "the ending of the name sets the format",
        (good, ""): "both must name a file",
        ("", "x.png"): "both must name a file",
        (good, "foo://place/x.png"): "foo",
        ("s3://", "x.png"): "s3:// names no place",
        (good, good): "would be overwritten by its own enlargement",
        (good, "good.png"): "",
    }
    sources, targets = (np.array(column, dtype=object) for column in zip(*rows, strict=True))
    made = UpscaleFiles(tiny_bundle, device="cpu", threads=1)({"source": sources, "target": targets})
    assert list(made["status"]) == ["failed"] * 7 + ["done"]
    for error, said in zip(made["error"], rows.values(), strict=True):
        assert said in error
        assert "\n" not in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "good.png", "photos"]


@pytest.mark.parametrize("address", ["127.0.0.1:1", "auto"])
def test_a_cluster_that_does_not_answer_is_one_line(
    address: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photos(photos, 1, 12)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(DeviceError, match=r"no Ray cluster answers at 127\.0\.0\.1:1 "):
        upscale_folder(photos, tmp_path / "out", ray=address)


def test_a_signal_while_ray_connects_is_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "init", lambda **_: sys.exit(signal.SIGTERM))  # as its handler does
    with pytest.raises(KeyboardInterrupt, match=str(int(signal.SIGTERM))), connected("local"):
        pass


def test_the_actor_class_does_the_rows_files_without_ray(photos: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    write_photos(photos, 2, 12)
    (photos / "bad.png").write_bytes(b"no picture")
    names = ["0.png", "bad.png", "1.png"]
    actor = UpscaleFiles(tiny_bundle, device="cpu", threads=1, tau=0.5)
    batch = {
        "source": np.array([str(photos / name) for name in names], dtype=object),
        "target": np.array([str(tmp_path / "new" / name) for name in names], dtype=object),
        "kept": np.arange(3),
    }
    made = actor(batch)
    assert list(made["status"]) == ["done", "failed", "done"]
    assert made["error"][1] == f"{photos / 'bad.png'}: this is not an image file in a supported format"
    assert (list(made["width"]), list(made["kept"])) == ([12, 0, 12], [0, 1, 2])
    assert np.isnan(made["seconds"]).tolist() == [False, True, False]
    assert Image.open(tmp_path / "new" / "1.png").size == (48, 48)
    with pytest.raises(ArgumentError, match="the rows have no column 'target'"):
        actor({"source": batch["source"]})


def test_a_machine_without_the_folder_says_which_it_is(photos: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    write_photos(photos, 1, 12)
    job = Job(source=photos / "0.png", targets=(tmp_path / "none" / "0.png",), name=PurePosixPath("0.png"))
    actor = DoJobs(settings=Settings(), model=tiny_bundle, device="cpu", threads=1)
    _, _, (file,) = actor.do([(job, True)])
    assert file.status == "failed"
    assert file.error is not None
    assert f"the machine {socket.gethostname()} does not have {tmp_path / 'none'}; every machine" in file.error


def test_a_worker_refuses_another_model_than_the_plan_was_made_for(tiny_bundle: Path) -> None:
    worker = DoJobs(settings=Settings(), model=tiny_bundle, sha256="0" * 64, device="cpu")
    job = Job(source=Path("a.png"), targets=(), name=PurePosixPath("a.png"))
    with pytest.raises(BundleError, match="has another model at"):
        worker.do([(job, True)])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("photos -o out --ray-workers 2", "--ray-workers and --ray-gpus are about a Ray cluster; name it with --ray"),
        ("- -o out.png --ray auto", "--ray needs files that other machines see; leave it out for standard input"),
        ("photos -o out --ray=", "the address of the Ray cluster is empty"),
        ("photos -o out --ray head", "'head' is no address of a Ray cluster"),
        ("photos -o out --ray auto --device cuda:1", "Ray chooses each worker's GPU: leave the number out"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    arguments: str, said: str, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photos(photos, 1, 12)
    monkeypatch.chdir(photos.parent)
    done = CliRunner().invoke(cli.upscale, arguments.split(), input=(photos / "0.png").read_bytes())
    assert done.exit_code == 2
    assert said in done.stderr
    assert not Path("out").exists()
