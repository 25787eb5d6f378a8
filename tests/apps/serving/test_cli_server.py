from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from srflow_apps.batch.run import upscale_folder
from srflow_apps.commands import cli
from srflow_sdk.errors import ArgumentError
from srflow_sdk.files import read_image, read_provenance, write_image
from srflow_sdk.triton import RemoteUpscaler

from .inference_server import InferenceServer


@pytest.fixture
def remotely(
    server: InferenceServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """srflow-upscale with the server, in the folder of photos; a server that is lost is soon given
    up."""
    monkeypatch.chdir(folder)
    monkeypatch.setitem(RemoteUpscaler.__init__.__kwdefaults__, "retry_for", 0.5)
    return lambda *arguments: CliRunner().invoke(cli.upscale, [*arguments, "--server", server.url])


def pixels(path: Path) -> NDArray[Any]:
    return read_image(path).pixels


def test_folder_becomes_what_it_becomes_here(
    remotely: Callable[..., Result],
    run: Callable[..., Result],
    folder: Path,
    server: InferenceServer,
) -> None:
    result = remotely(
        ".", "-o", "there", "--tau", "auto", "--samples", "2", "--report", "there.json"
    )
    assert result.exit_code == 1
    assert result.stderr.count("error: ") == 1  # bad.png
    assert run(".", "-o", "here", "--tau", "auto", "--samples", "2").exit_code == 1
    names = sorted(path.name for path in (folder / "here").iterdir())
    assert names == ["a_s0.png", "a_s1.png", "b_s0.png", "b_s1.png"]
    assert sorted(path.name for path in (folder / "there").iterdir()) == names
    for name in names:
        assert np.array_equal(pixels(folder / "there" / name), pixels(folder / "here" / name))
        assert read_provenance(folder / "there" / name) == read_provenance(folder / "here" / name)
    report = json.loads((folder / "there.json").read_text())
    assert report["settings"]["device"] == server.url
    assert report["summary"] == {
        "inputs": 3,
        "done": 2,
        "skipped": 0,
        "failed": 1,
        "interrupted": False,
    }


def test_outputs_are_kept_or_made_again_by_the_servers_model(
    remotely: Callable[..., Result],
    run: Callable[..., Result],
    folder: Path,
    server: InferenceServer,
    other_bundle: Path,
) -> None:
    assert (
        run("a.png", "-o", "a4.png", "--seed", "7", "--consistent", "--tile", "16").exit_code == 0
    )
    kept = "a.png", "-o", "a4.png", "--seed", "7", "--consistent", "--resume"
    assert "0 done, 1 skipped, 0 failed" in remotely(*kept).stderr
    assert not server.requests
    again = "--from-output", "a4.png", "-o", "again.png"
    assert remotely(*again).exit_code == 0
    assert (folder / "again.png").read_bytes() == (folder / "a4.png").read_bytes()
    server.load(other_bundle)
    result = remotely(*again)
    assert result.exit_code == 1
    assert "was made with the model tiny" in result.stderr
    assert "name its bundle, or its name on the server, with --model" in result.stderr
    assert remotely(*kept).stdout == "a4.png\n"


def test_server_that_is_lost_ends_the_folder_and_what_is_done_stays(
    remotely: Callable[..., Result],
    folder: Path,
    server: InferenceServer,
    tiny_bundle: Path,
    photo: NDArray[np.uint8],
) -> None:
    for name in ("c.png", "d.png"):
        write_image(folder / name, photo)
    server.before = lambda inputs: server.stop() if len(server.requests) == 2 else None
    names = ["a.png", "b.png", "c.png", "d.png"]
    result = remotely(*names, "-o", "out", "--report", "report.json")
    assert result.exit_code == 1
    assert [path.name for path in (folder / "out").iterdir()] == ["a.png"]
    errors = [line for line in result.stderr.splitlines() if not line.startswith("warning: a.png")]
    assert [line.split(":")[0] for line in errors] == [
        "warning",
        "error",
        "stopped because the server is lost",
    ]
    assert errors[1].startswith(f"error: b.png: {server.url} is not available: ")
    assert errors[2].endswith("1 of 4 done; once it is back, run the same command with --resume")
    assert json.loads((folder / "report.json").read_text())["summary"]["failed"] == 1
    back = InferenceServer(tiny_bundle, port=server.port)
    again = remotely(*names, "-o", "out", "--resume")
    back.stop()
    assert "3 done, 1 skipped, 0 failed" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (["--device", "cpu"], 2, "--device cannot be chosen with --server: the server has its own"),
        (["--threads", "1"], 2, "--threads cannot be chosen with --server"),
        (
            ["--ray", "auto"],
            2,
            "--ray draws on the cluster's machines, --server on the server's; leave one of them "
            "out",
        ),
        (["--model", "nope"], 1, "has no model 'nope'; its models are srflow_upscale"),
    ],
)
def test_options_of_this_machine_and_unknown_models_are_refused(
    arguments: list[str], status: int, line: str, remotely: Callable[..., Result], folder: Path
) -> None:
    result = remotely("a.png", "-o", "out.png", *arguments)
    assert result.exit_code == status
    assert line in result.stderr
    assert not (folder / "out.png").exists()


def test_a_cluster_cannot_draw_with_a_servers_model(folder: Path, server: InferenceServer) -> None:
    with (
        RemoteUpscaler(server.url) as remote,
        pytest.raises(ArgumentError, match="upscaler is a server's"),
    ):
        upscale_folder(folder, folder / "out", upscaler=remote, ray="auto")
    assert not (folder / "out").exists()
