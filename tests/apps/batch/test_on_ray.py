"""Folders on a real Ray cluster of two machines, which are raylets of this one: what is done, what
kills leave."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import psutil
import pytest
from moto.server import ThreadedMotoServer

from srflow_apps.batch.ray import Cluster
from srflow_apps.commands.signals import kept_handlers
from srflow_sdk import Upscaler, upscale_folder
from tests.sdk.tiny_bundle import hidden_files

from .conftest import write_photos

ray = pytest.importorskip("ray")

ENVIRON = {
    # so that workers find what this process finds
    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_NUM_THREADS": "1",
}
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "us",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}
DEADLINE_S = 240
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of one machine with one CPU, and an S3 server; starting takes seconds, so all tests
    share them."""
    from ray.cluster_utils import Cluster as Machines

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch, kept_handlers():  # Ray takes SIGTERM
        for name, value in {
            **ENVIRON,
            **CREDENTIALS,
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        }.items():
            patch.setenv(name, value)
        machines = Machines(
            initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
        )
        yield machines
        machines.shutdown()
    server.stop()


@pytest.fixture
def start(cluster: Any, tmp_path: Path) -> Iterator[Start]:
    """srflow-upscale of the folder `photos` into `out` on the cluster, as a process of its own."""
    running: list[subprocess.Popen[str]] = []

    def started(*arguments: str) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "-m",
            "srflow_sdk",
            "photos",
            "-o",
            "out",
            "--ray",
            cluster.address,
            *arguments,
        ]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**os.environ, **ENVIRON},
        )
        running.append(process)
        return process

    yield started
    for process in running:
        process.kill()
        process.communicate()


# of which a picture has several rows: its file is there from the first one on
TILES = ("--device", "cpu", "--tile", "16")


def drawing(out: Path) -> dict[int, str]:
    """The processes that write into the folder now, by their ids, with the names of their files."""
    found: dict[int, str] = {}
    for process in psutil.process_iter(["name"]):
        if not str(process.info["name"]).startswith("ray::"):
            continue
        with contextlib.suppress(psutil.Error):
            for file in process.open_files():
                if file.path.startswith(f"{out}{os.sep}") and file.path.endswith(".part"):
                    found[process.pid] = file.path
    return found


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    """Wait until the condition holds. Fails if the process ends first, or never gets there."""
    deadline = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.05)
    return value


@pytest.mark.slow
def test_a_folder_is_done_and_resumed_as_without_ray(
    start: Start, photos: Path, tmp_path: Path, tiny_bundle: Path
) -> None:
    write_photos(photos, 3, 12)
    (photos / "bad.png").write_bytes(b"no picture")
    options = ("--model", str(tiny_bundle), "--report", "r.json", "--resume", "none.png")
    first = start(*options)
    out, err = first.communicate(timeout=DEADLINE_S)
    assert first.returncode == 1
    assert sorted(out.splitlines()) == ["out/0.png", "out/1.png", "out/2.png"]
    # how far it is, after two seconds
    lines = [line for line in err.splitlines() if not line.startswith("[")]
    assert lines == [
        "error: photos/bad.png: this is not an image file in a supported format",
        "error: none.png: there is no such file",
        "3 done, 0 skipped, 2 failed",
    ]
    report = json.loads((tmp_path / "r.json").read_text())
    assert [file["source"] for file in report["files"]] == [
        *(f"photos/{name}.png" for name in ("0", "1", "2", "bad")),
        "none.png",
    ]
    assert report["settings"]["device"] == "ray"
    with Upscaler(tiny_bundle, device="cpu", threads=1) as upscaler:
        upscale_folder(photos, tmp_path / "here", upscaler=upscaler)
    for name in ("0.png", "1.png", "2.png"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    (tmp_path / "out" / "1.png").unlink()
    again = start(*options)
    assert (
        again.communicate(timeout=DEADLINE_S)[1].splitlines()[-1] == "1 done, 2 skipped, 2 failed"
    )


@pytest.mark.slow
def test_a_program_that_uses_ray_shares_out_a_folder_of_a_store_and_stays_connected(
    cluster: Any, photos: Path, upscaler: Upscaler
) -> None:
    write_photos(photos, 2, 12)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    store = fsspec.filesystem("s3", use_listings_cache=False)
    store.mkdir("pictures")
    store.put(f"{photos}/", "pictures/photos/", recursive=True)
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        heard: list[str] = []
        result = upscale_folder(
            "s3://pictures/photos",
            "s3://pictures/large",
            upscaler=upscaler,
            ray=Cluster(cpus=1, device="cpu"),
            on_file=lambda file: heard.append(str(file.targets[0])),
        )
        assert ray.is_initialized()
    finally:
        ray.shutdown()
    assert str(result) == "2 done, 0 skipped, 0 failed"
    assert sorted(heard) == ["s3://pictures/large/0.png", "s3://pictures/large/1.png"]
    assert store.find("pictures/large") == ["pictures/large/0.png", "pictures/large/1.png"]


@pytest.mark.slow
def test_a_machine_that_dies_in_the_middle_loses_nothing(
    cluster: Any, start: Start, photos: Path, tmp_path: Path
) -> None:
    write_photos(photos, 6, 96)
    second = cluster.add_node(num_cpus=1)
    out = tmp_path / "out"
    process = start(*TILES)
    workers = wait_for(lambda: len(found := drawing(out)) == 2 and found, process)
    mine = {child.pid for child in psutil.Process(raylet_of(second)).children(recursive=True)}
    assert len(mine & set(workers)) == 1, "one of the two draws on the machine that dies"
    cluster.remove_node(second, allow_graceful=False)
    printed, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, err
    assert sorted(printed.splitlines()) == [f"out/{number}.png" for number in range(6)]
    assert err.splitlines()[-1].startswith("6 done, 0 skipped, 0 failed")
    assert "Traceback" not in err
    assert not hidden_files(out)


def raylet_of(node: Any) -> int:
    (info,) = node.all_processes["raylet"]
    return int(info.process.pid)


@pytest.mark.slow
def test_a_file_that_kills_its_worker_again_and_again_is_a_failed_file(
    start: Start, photos: Path, tmp_path: Path
) -> None:
    write_photos(photos, 2, 96)
    process = start(*TILES, "--quiet")
    killed = 0
    while process.poll() is None:
        for pid, path in drawing(tmp_path / "out").items():
            if ".1.png." in path:
                killed += 1
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.05)
    printed, err = process.communicate(timeout=DEADLINE_S)
    assert killed >= 3
    assert process.returncode == 1
    assert printed == ""
    (line,) = err.splitlines()
    assert line.startswith("error: photos/1.png: its worker was killed 3 times")
    assert (tmp_path / "out" / "0.png").is_file()


@pytest.mark.slow
def test_a_signal_keeps_what_is_finished_and_leaves_nothing_else(
    start: Start, photos: Path, tmp_path: Path
) -> None:
    write_photos(photos, 6, 96)
    out = tmp_path / "out"
    process = start(*TILES, "--report", "r.json")
    wait_for(lambda: (out / "0.png").exists() and drawing(out), process)
    process.send_signal(signal.SIGTERM)
    printed, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 128 + signal.SIGTERM, err
    finished = sorted(path.name for path in out.iterdir())
    assert sorted(printed.splitlines()) == [f"out/{name}" for name in finished]
    assert 1 <= len(finished) < 6
    assert (
        f"interrupted: {len(finished)} of 6 done; the same command with --resume"
        in err.splitlines()[-1]
    )
    assert "Traceback" not in err
    assert "***" not in err
    assert json.loads((tmp_path / "r.json").read_text())["summary"]["done"] == len(finished)
    assert not hidden_files(out)


@pytest.mark.slow
def test_a_raylet_that_dies_is_one_line_and_resume_completes(photos: Path, tmp_path: Path) -> None:
    """In a cluster of its own."""
    write_photos(photos, 4, 96)
    out = tmp_path / "out"
    err = tmp_path / "err.txt"
    resumed = [sys.executable, "-m", "srflow_sdk", "photos", "-o", "out"]
    resumed += ["--device", "cpu", "--report", "r.json", "--resume"]
    environment = {**os.environ, **ENVIRON}
    with (
        err.open("w") as errors,
        subprocess.Popen(
            [*resumed, "--ray", "local"],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        ) as running,
    ):
        try:
            deadline = time.monotonic() + 2 * DEADLINE_S
            while not (out / "0.png").exists():
                if "timed out during startup" in err.read_text():
                    pytest.skip(
                        "Ray allows its raylet 30 s to start, and this machine is busier than that"
                    )
                assert running.poll() is None, err.read_text()
                assert time.monotonic() < deadline, err.read_text()
                time.sleep(0.05)
            children = psutil.Process(running.pid).children(recursive=True)
            (raylet,) = (child for child in children if child.name() == "raylet")
            raylet.kill()
            running.wait(DEADLINE_S)
        finally:
            running.kill()
    assert running.returncode == 1
    *before, line = err.read_text().splitlines()
    report = json.loads((tmp_path / "r.json").read_text())
    done = report["summary"]["done"]
    assert done < 4  # its results were perhaps still on their way
    assert line == (
        "stopped because Ray's raylet on this machine died, perhaps for want of memory: "
        f"{done} of 4 done; run the same command with --resume"
    )
    # what draws each is said
    assert not [other for other in before if not other.startswith(("[", "photos/"))]
    again = subprocess.run(
        resumed, cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE_S
    )
    assert again.returncode == 0, again.stderr
    # and nothing of the worker, which may have lived a little longer
    assert len(list(out.iterdir())) == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "status", "says"),
    [
        ("--tau=7", 2, "Error: tau is 7"),
        (
            "--threads=99",
            1,
            "error: no machine of the Ray cluster has 99 CPUs for a worker; ask for less",
        ),
    ],
)
def test_what_is_wrong_for_every_file_is_one_line(
    start: Start, photos: Path, tiny_bundle: Path, option: str, status: int, says: str
) -> None:
    write_photos(photos, 2, 12)
    process = start("--model", str(tiny_bundle), option, "--quiet")
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == status
    assert err.splitlines()[-1].startswith(says)
    assert "Traceback" not in err


@pytest.mark.slow
def test_the_example_of_a_table_of_files_gives_a_table_of_results(tmp_path: Path) -> None:
    """On a cluster of its own: the one above has no CPU for Ray's reading beside the worker's."""
    write_photos(tmp_path / "in", 1, 12)
    (tmp_path / "in" / "bad.png").write_bytes(b"no image")
    rows = [
        ("source", "target"),
        *((tmp_path / "in" / name, tmp_path / "large" / name) for name in ("0.png", "bad.png")),
    ]
    (tmp_path / "photos.csv").write_text("\n".join(f"{source},{target}" for source, target in rows))
    example = Path(__file__).parents[3] / "examples" / "ray_batch.py"
    environment = {**os.environ, **ENVIRON, "RAY_ADDRESS": "local"}
    command = [sys.executable, example, tmp_path / "photos.csv", tmp_path / "made"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=DEADLINE_S, env=environment
    )
    assert done.returncode == 0, done.stderr
    made = [
        row
        for path in (tmp_path / "made").glob("*.csv")
        for row in csv.DictReader(path.open(newline=""))
    ]
    assert {Path(row["source"]).name: row["status"] for row in made} == {
        "0.png": "done",
        "bad.png": "failed",
    }
    assert any("this is not an image file" in row["error"] for row in made)
    assert (tmp_path / "large" / "0.png").is_file()
