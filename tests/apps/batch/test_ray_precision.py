"""Workers of a cluster draw in the precision that was asked for; what they do needs no Ray."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from srflow_apps.batch.jobs import Settings
from srflow_apps.batch.operations import Job
from srflow_apps.batch.ray import DoJobs
from srflow_sdk import read_provenance
from srflow_sdk.ray import UpscaleFiles
from tests.sdk.tiny_bundle import write_tiny_bundle


def test_the_files_of_a_pipeline_are_drawn_in_it(folder: Path, tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "int8.srflow", int8="near")
    batch = {"source": np.array([str(folder / "a.png")]), "target": np.array([str(tmp_path / "large.png")])}
    UpscaleFiles(bundle, device="cpu", threads=1, precision="int8")(batch)
    made = read_provenance(tmp_path / "large.png")
    assert made is not None
    assert made.precision == "int8"


def test_a_worker_draws_in_it_and_says_so(folder: Path, tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "int8.srflow", int8="near")
    target = tmp_path / "large.png"
    job = Job(source=folder / "a.png", targets=(target,), name=PurePosixPath("a.png"))
    worker = DoJobs(settings=Settings(), model=bundle, device="cpu", precision="int8", threads=1)
    assert worker.do([(job, True)])[:2] == ("cpu", "int8")
    made = read_provenance(target)
    assert made is not None
    assert made.precision == "int8"
