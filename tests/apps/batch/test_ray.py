"""What a Ray cluster and its workers refuse, and a worker's job, without a cluster."""

from __future__ import annotations

import dataclasses
import socket
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from srflow_apps.batch.jobs import Settings
from srflow_apps.batch.ray import Cluster, JobWorker
from srflow_apps.commands import cli
from srflow_sdk import ArgumentError, BundleError, DeviceError, read_provenance, upscale_folder
from srflow_sdk.model.bundle import Bundle
from tests.sdk.tiny_bundle import write_tiny_bundle

from .conftest import job, write_photos

ray = pytest.importorskip("ray")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        *(
            ({"address": text}, "the address of the Ray cluster is ")
            for text in ("head", "", "head:x")
        ),
        ({"address": "ray://head:10001"}, "Ray Client"),
        ({"address": 3}, "the address of the Ray cluster is 3"),
        ({"cpus": 1.5}, "cpus is .*; it must be"),
    ],
    ids=str,
)
def test_what_a_cluster_cannot_be_is_refused_at_once(wrong: Any, said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        Cluster(**wrong)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "auto"])
def test_a_cluster_that_does_not_answer_is_one_line(
    address: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photos(photos, 1, 12)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(DeviceError, match=r"no Ray cluster answers at 127\.0\.0\.1:1 "):
        upscale_folder(photos, tmp_path / "out", ray=address)


def worker_of(bundle: Path, **machine: Any) -> JobWorker:
    sha256 = Bundle.open(bundle).manifest.digest
    return JobWorker(
        settings=Settings(),
        model=bundle,
        sha256=sha256,
        cluster=Cluster(device="cpu", cpus=1, **machine),
    )


def test_a_worker_draws_in_the_precision_asked_for(photos: Path, tmp_path: Path) -> None:
    write_photos(photos, 1, 12)
    bundle = write_tiny_bundle(tmp_path / "int8.srflow", int8="near")
    worker = worker_of(bundle, precision="int8")
    done = worker.do(job(photos / "0.png", tmp_path / "large.png"))
    assert done is not None
    made = read_provenance(tmp_path / "large.png")
    assert made is not None
    assert made.precision == "int8"


def test_a_machine_without_the_folder_says_which_it_is(
    photos: Path, tmp_path: Path, tiny_bundle: Path
) -> None:
    write_photos(photos, 1, 12)
    worker = worker_of(tiny_bundle)
    done = worker.do(job(photos / "0.png", tmp_path / "none" / "0.png"))
    assert done is not None
    said = f"the machine {socket.gethostname()} does not have {tmp_path / 'none'}; every machine"
    assert said in str(done.error)


def test_a_worker_refuses_another_model_than_the_plan_was_made_for(tiny_bundle: Path) -> None:
    worker = dataclasses.replace(worker_of(tiny_bundle), sha256="0" * 64)
    with pytest.raises(BundleError, match="has another model at"):
        worker.do(job(Path("a.png")))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("- -o out.png --ray auto", "--ray needs files that other machines see"),
        ("photos -o out --ray=", "the address of the Ray cluster is ''"),
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
