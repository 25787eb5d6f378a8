"""Files with URLs, against a real S3 server on this machine, and a connection that breaks in the
middle."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from click.testing import CliRunner, Result
from moto.server import ThreadedMotoServer

from srflow_apps.batch import storage
from srflow_apps.batch.results import FolderFile
from srflow_apps.batch.storage import UrlPath
from srflow_apps.commands import cli
from srflow_sdk import read_provenance, upscale_folder
from srflow_sdk.errors import ArgumentError, ImageError
from srflow_sdk.files import write_image
from srflow_sdk.upscaler import Upscaler


class Server:
    """An S3 server, and the file system of fsspec that looks at it."""

    def __init__(self, moto: ThreadedMotoServer, patch: pytest.MonkeyPatch) -> None:
        self.address = moto.get_host_and_port()
        reset = urllib.request.Request(
            f"http://{self.address[0]}:{self.address[1]}/moto-api/reset", method="POST"
        )
        urllib.request.urlopen(reset, timeout=20).close()  # moto keeps its buckets for the process
        self._patch = patch
        self.use(*self.address)
        self.store: Any = fsspec.filesystem(
            "s3", skip_instance_cache=True, use_listings_cache=False
        )

    def use(self, host: str, port: int) -> None:
        """Let the SDK talk to this address."""
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        self._patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")


@pytest.fixture(scope="module")
def moto() -> Iterator[ThreadedMotoServer]:
    started = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    started.start()
    yield started
    started.stop()


@pytest.fixture
def server(moto: ThreadedMotoServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server with an empty bucket, `bucket`."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/nowhere",
        "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
    }.items():
        monkeypatch.setenv(name, value)
    started = Server(moto, monkeypatch)
    started.store.mkdir("bucket")
    yield started
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture
def pictures(server: Server, photo: np.ndarray, tmp_path: Path) -> str:
    """The URL of a folder with three small photos, one of them in a subfolder."""
    for name in ("a.png", "b.png", "sub/a.png"):
        write_image(tmp_path / "one.png", photo[: 12 + len(name), :16])
        server.store.put_file(str(tmp_path / "one.png"), f"bucket/photos/{name}")
    return "s3://bucket/photos"


def names(server: Server) -> list[str]:
    return [key.removeprefix("bucket/") for key in server.store.find("bucket")]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(model: Path, *arguments: str) -> Result:
    return CliRunner().invoke(
        cli.upscale, [*arguments, "--model", str(model), "--device", "cpu", "--threads", "1"]
    )


def test_a_folder_goes_from_store_to_store_with_names_provenance_and_report_and_resumes(
    server: Server, pictures: str, tiny_bundle: Path, tmp_path: Path
) -> None:
    for name, content in {
        "bad.png": b"no",
        ".hidden.png": b"no",
        "x.tga": b"no",
        "sub/": b"",
    }.items():
        server.store.pipe_file(f"bucket/photos/{name}", content)
    command = (
        pictures,
        "-o",
        "s3://bucket/large",
        "--recursive",
        "--resume",
        "--report",
        "s3://bucket/r.json",
    )
    first = run(tiny_bundle, *command)
    assert first.exit_code == 1
    assert first.stdout.splitlines() == [
        f"s3://bucket/large/{name}" for name in ("a.png", "b.png", "sub/a.png")
    ]
    bad = "s3://bucket/photos/bad.png"
    left_out, *told, summary = first.stderr.splitlines()
    assert left_out == "left out: 1 TGA, which is not read; convert it to PNG or TIFF"
    told.remove(f"error: {bad}: this is not an image file in a supported format")
    assert len(told) == 3  # a random network's pictures do not reduce to their inputs
    assert all(line.startswith("warning: s3://bucket/photos/") for line in told)
    assert summary == "3 done, 0 skipped, 1 failed"
    assert [name for name in names(server) if name.startswith(("large", "r"))] == [
        "large/a.png",
        "large/b.png",
        "large/sub/a.png",
        "r.json",
    ]
    server.store.get_file("bucket/large/sub/a.png", str(tmp_path / "got.png"))
    provenance = read_provenance(tmp_path / "got.png")
    assert provenance is not None
    assert provenance.source == "a.png"
    report = json.loads(server.store.cat_file("bucket/r.json"))
    assert report["files"][0]["outputs"][0]["path"] == "s3://bucket/large/a.png"
    assert report["files"][0]["outputs"][0]["bytes"] == server.store.size("bucket/large/a.png")
    server.store.pipe_file("bucket/large/b.png", server.store.cat_file("bucket/large/b.png")[:-40])
    assert run(tiny_bundle, *command).stderr.splitlines()[-1] == "1 done, 2 skipped, 1 failed"


def test_a_dry_run_of_a_store_writes_nothing_and_names_the_urls(
    server: Server, pictures: str, tiny_bundle: Path
) -> None:
    before = names(server)
    done = run(tiny_bundle, f"{pictures}/a.png", "-o", "s3://bucket/x.jpg", "--dry-run")
    assert (
        done.stdout.splitlines()[0]
        == "s3://bucket/photos/a.png (16×17) -> s3://bucket/x.jpg (64×68)"
    )
    assert names(server) == before


def test_outputs_below_an_input_folder_are_no_inputs_the_next_time(
    server: Server, pictures: str, upscaler: Upscaler
) -> None:
    for _ in range(2):
        result = upscale_folder(pictures, f"{pictures}/large", upscaler=upscaler, recursive=True)
        assert result.count("done") == 3
    for same in (pictures, pictures.replace("s3:", "s3a:")):
        with pytest.raises(
            ArgumentError, match=r"would overwrite the input s3://bucket/photos/a\.png"
        ):
            upscale_folder(pictures, same, upscaler=upscaler)


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        (
            "s3://nowhere/photos -o out",
            1,
            "s3://nowhere/photos: the file cannot be read: the bucket does not exist",
        ),
        (
            "{photo} -o s3://nowhere/out/",
            1,
            "s3://nowhere/out: the bucket does not exist; create it, or name another",
        ),
        (
            "s3://bucket/none.png -o out.png",
            1,
            "s3://bucket/none.png: the file cannot be read: there is no such file",
        ),
        (
            "foo://bucket/a.png -o out.png",
            2,
            "foo://bucket/a.png: Protocol not known: foo; known are s3://",
        ),
        ("{photo} -o https://example.org/a.png", 2, "https:// can only be read; name a path, or"),
        ("{photo} -o sftp://example.org/a.png", 2, "sftp:// can only be read; name a path, or"),
        (
            "-o out.png --from-output s3://bucket/a.png",
            2,
            "--from-output s3://bucket/a.png is a URL; copy the file",
        ),
    ],
)
def test_what_is_wrong_with_a_url_is_one_line(
    command: str,
    status: int,
    said: str,
    server: Server,
    tiny_bundle: Path,
    tmp_path: Path,
    photo: np.ndarray,
) -> None:
    write_image(tmp_path / "photo.png", photo[:12, :16])
    done = run(tiny_bundle, *command.format(photo=tmp_path / "photo.png").split())
    assert done.exit_code == status
    assert said in done.stderr.splitlines()[-1]
    assert names(server) == []


def test_without_credentials_the_error_says_which_are_missing(
    server: Server, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    done = run(tiny_bundle, "s3://bucket/photos", "-o", "out")
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        "error: s3://bucket/photos: the store said Unable to locate credentials; check "
    )
    assert "AWS_ACCESS_KEY_ID" in line


@pytest.mark.parametrize(
    ("missing", "line"),
    [
        ("fsspec", 'URLs need fsspec; run: pip install "srflow-sdk[cloud]"'),
        ("s3fs", "Install s3fs to access S3"),
    ],
)
def test_a_missing_package_is_named(missing: str, line: str, tiny_bundle: Path) -> None:
    program = (
        f"import sys; sys.modules[{missing!r}] = None; from srflow_apps.commands.cli import "
        "upscale; upscale()"
    )
    command = [
        sys.executable,
        "-c",
        program,
        "s3://bucket/photos",
        "-o",
        "out",
        "--quiet",
        "--model",
        str(tiny_bundle),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    (said,) = done.stderr.splitlines()
    assert said.startswith("error: s3://bucket/photos: ")
    assert said.endswith(line)


def test_a_server_that_dies_fails_what_is_left_and_a_second_run_makes_it(
    server: Server, pictures: str, upscaler: Upscaler
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))

        def dies(file: FolderFile) -> None:
            server.use(*unused.getsockname())

        result = upscale_folder(
            pictures, "s3://bucket/large", upscaler=upscaler, recursive=True, on_file=dies
        )
    assert result.files[0].status == "done"
    assert result.files[2].status == "failed"
    said = (
        "s3://bucket/photos/sub/a.png: the file cannot be read: the store said Could not connect "
        "to the endpoint"
    )
    assert str(result.files[2].error).startswith(said)
    server.use(*server.address)
    again = upscale_folder(
        pictures, "s3://bucket/large", upscaler=upscaler, recursive=True, resume=True
    )
    assert again.count("failed") == 0
    assert again.count("skipped") == result.count("done")


def test_an_upload_that_breaks_leaves_what_was_there(server: Server, tmp_path: Path) -> None:
    server.store.pipe_file("bucket/a.bin", b"old")
    (tmp_path / "new.bin").write_bytes(b"n" * 200_000)
    proxy = Breaking(server.address, after=100_000)
    server.use(*proxy.address)
    with pytest.raises(ImageError, match=r"^s3://bucket/a.bin: the file cannot be written: "):
        storage.put(tmp_path / "new.bin", UrlPath("s3:/bucket/a.bin"))
    assert names(server) == ["a.bin"]
    assert server.store.cat_file("bucket/a.bin") == b"old"
    proxy.close()


def test_a_file_that_is_not_whole_is_an_error(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.store.pipe_file("bucket/a.bin", b"x" * 1000)
    monkeypatch.setattr(type(server.store), "size", lambda *_: 1001)
    with pytest.raises(ImageError, match="it changed, or the connection ended too early"):
        storage.fetch(UrlPath("s3:/bucket/a.bin"), tmp_path / "a.bin")


class Breaking:
    """Passes a client's bytes on to a server, and breaks the connection after so many."""

    def __init__(self, server: tuple[str, int], *, after: int) -> None:
        self._server = server
        self._after = after
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                for ends in ((client, server, self._after), (server, client, 1 << 40)):
                    threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, giver: socket.socket, taker: socket.socket, left: int) -> None:
        with contextlib.suppress(OSError):
            while (data := giver.recv(1 << 14)) and (left := left - len(data)) > 0:
                taker.sendall(data)
        for end in (giver, taker):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
