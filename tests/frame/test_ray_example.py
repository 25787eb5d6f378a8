"""examples/ray_batch.py on a cluster of this one machine, if Ray is installed."""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from srflow_sdk import upscale_folder
from tests.sdk.tiny_bundle import write_tiny_bundle

from .bare_environment import ROOT

ray = pytest.importorskip("ray")

EXAMPLE = ROOT / "examples" / "ray_batch.py"
# This passes the driver's import paths to the workers; Ray reports usage to its makers unless told not to.
ENVIRON = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "RAY_USAGE_STATS_ENABLED": "0"}


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ray_batch", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["ray_batch"] = module
    spec.loader.exec_module(module)
    ray.cloudpickle.register_pickle_by_value(module)
    return module


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Address of a cluster that this process started and belongs to; starting takes seconds, so all tests share it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRON.items():
            patch.setenv(name, value)
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield ray.get_runtime_context().gcs_address
        ray.shutdown()


def write_photos(folder: Path) -> None:
    (folder / "deep").mkdir(parents=True)
    for name in ("a.png", "deep/a.png"):
        pixels = np.random.default_rng(len(name)).integers(0, 256, (12, 10, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    (folder / "broken.png").write_bytes(b"no image")


def test_a_folder_is_done_but_for_its_broken_file_and_resumes(address: str, tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    write_photos(photos)
    model = write_tiny_bundle(tmp_path / "tiny.srflow")

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, EXAMPLE, "photos", "-o", "out", "--address", address, "--model", model.name]
        command += ["--cpus", "1", *more]
        environ = {**os.environ, **ENVIRON}
        return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environ, cwd=tmp_path)

    first = run()
    assert first.returncode == 1, first.stderr
    assert first.stdout.splitlines()[-1] == "2 done, 0 skipped, 1 failed"
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png")) == ["a.png", "deep/a.png"]
    assert Image.open(out / "deep" / "a.png").size == (40, 48)
    assert any("failed: " in line and "broken.png" in line for line in first.stdout.splitlines())
    (out / "a.png").unlink()
    second = run("--resume")
    assert second.stdout.splitlines()[-1] == "1 done, 1 skipped, 1 failed", second.stderr


def test_what_is_wrong_for_every_file_is_one_line(address: str, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos")
    model = write_tiny_bundle(tmp_path / "tiny.srflow")
    command = [sys.executable, EXAMPLE, tmp_path / "photos", "-o", tmp_path / "out", "--address", address]
    command += ["--model", model, "--cpus", "1", "--tau", "7"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **ENVIRON})
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: tau is 7")
    assert "Traceback" not in done.stderr


def test_a_folder_without_photos_is_one_line(address: str, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    command = [sys.executable, EXAMPLE, tmp_path / "photos", "-o", tmp_path / "out", "--address", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **ENVIRON})
    assert done.returncode == 1
    said, counted = done.stdout.splitlines()
    assert "there are no images in this folder" in said
    assert counted == "0 done, 0 skipped, 1 failed"


def test_a_part_whose_worker_dies_is_done_again(
    address: str, example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photos(tmp_path / "photos")
    model, mark, upscale = write_tiny_bundle(tmp_path / "tiny.srflow"), tmp_path / "mark", upscale_folder

    def dies_at_first(*arguments: Any, **keywords: Any) -> Any:
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        assert keywords["resume"], "a part that is done again leaves alone what was done"
        return upscale(*arguments, **keywords)

    monkeypatch.setattr(example, "upscale_folder", dies_at_first)
    task = ray.remote(num_cpus=1, max_retries=0)(example.upscale_part)
    options = argparse.Namespace(
        photos=tmp_path / "photos", output=tmp_path / "out", model=model, cpus=1, gpus=0, samples=1, tau=None, seed=0
    )
    (result,) = example.share_out(task, 1, options, resume=False)
    assert sorted(file.status for file in result.files) == ["done", "done", "failed"]
    assert mark.exists()
