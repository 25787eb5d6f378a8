"""Pictures on a web server: secrets in their URLs, and a server that never answers."""

from __future__ import annotations

import base64
import http.server
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from srflow_apps.commands import cli
from srflow_sdk import read_provenance
from srflow_sdk.files import write_image

SECRETS = ("s3cr3t", "s1gned", "s2gned")
LOGIN = "Basic " + base64.b64encode(b"somebody:s3cr3t").decode()


class PrivateStore(http.server.BaseHTTPRequestHandler):
    """Gives a picture to whoever knows the password or a signature."""

    content = b""

    def do_GET(self) -> None:
        allowed = self.headers.get("Authorization") == LOGIN or "sig=s1gned" in self.path or "sig=s2gned" in self.path
        content = b"" if not allowed else self.content if ".png" in self.path else b"none"
        self.send_response(200 if allowed else 403)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


@pytest.fixture
def place(photo: np.ndarray, tmp_path: Path) -> Iterator[str]:
    """The store's host and port."""
    write_image(tmp_path / "photo.png", photo[:12, :16])
    PrivateStore.content = (tmp_path / "photo.png").read_bytes()
    (tmp_path / "photo.png").unlink()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), PrivateStore) as server:
        threading.Thread(target=lambda: server.serve_forever(0.05), daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def run(model: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli.upscale, [*arguments, "--model", str(model), "--device", "cpu", "--threads", "1"])


def test_passwords_and_signatures_open_pictures_and_stand_nowhere(
    place: str, tiny_bundle: Path, tmp_path: Path
) -> None:
    urls = [
        f"http://somebody:s3cr3t@{place}/a.png",
        f"http://{place}/b.png?X-Amz-Expires=9&sig=s1gned",
        f"http://somebody:s3cr3t@{place}/text",
        f"http://{place}/c.png?sig=wr0ng",
    ]
    report = tmp_path / "report.json"
    command = [*urls, "-o", str(tmp_path / "out"), "--report", str(report)]
    done = run(tiny_bundle, *command)
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [str(tmp_path / "out" / name) for name in ("a.png", "b.png")]
    errors = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert errors[0] == f"error: http://{place}/text: this is not an image file in a supported format"
    assert errors[1].startswith(f"error: http://{place}/c.png: the file cannot be read: ")
    said = json.loads(report.read_text())
    assert [file["source"] for file in said["files"]] == [
        f"http://{place}/{name}" for name in ("a.png", "b.png", "text", "c.png")
    ]
    provenance = read_provenance(tmp_path / "out" / "b.png")
    assert provenance is not None
    assert provenance.source == "b.png"
    everything = [done.output.encode(), *(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())]
    everything += [str(path).encode() for path in tmp_path.rglob("*")]
    for secret in (*SECRETS, "wr0ng", "somebody", "X-Amz"):
        assert not [content for content in everything if secret.encode() in content]
    again = run(tiny_bundle, f"http://{place}/a.png?sig=s2gned", *command[1:3], *command[4:], "--resume")
    assert "2 skipped" in again.stderr  # signed anew, they are the same pictures


@pytest.mark.parametrize(
    "arguments",
    [
        ("{url}", "-o", "{url}"),
        ("{url}", "-o", "out.png", "--report", "{url}"),
        ("{url}", "-o", "out.png", "--model", "{url}"),
        ("{url}", "-o", "out.png", "--from-output", "{url}"),
        ("{url}", "-o", "out.png", "--server", "{url}"),
        ("{url}", "-o", "out.png", "--tau", "{url}"),
        ("{url}", "-o", "out.png", "--ray", "{url}"),
        ("x::{url}", "-o", "out.png"),
    ],
)
def test_options_that_refuse_a_url_do_not_show_its_secrets(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = "https://somebody:s3cr3t@127.0.0.1:9/a.png?sig=s1gned"
    done = CliRunner().invoke(cli.upscale, [text.format(url=url) for text in arguments])
    assert done.exit_code in (1, 2)
    assert not [secret for secret in ("s3cr3t", "s1gned", "somebody") if secret in done.output]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_waiting_for_a_server_that_is_silent(
    number: signal.Signals, status: int, tiny_bundle: Path, tmp_path: Path
) -> None:
    program = "from srflow_apps.commands.cli import upscale; upscale()"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = "http://{}:{}/a.png".format(*silent.getsockname())
        command = [sys.executable, "-c", program, url, "-o", "out.png", "--model", tiny_bundle, "--device", "cpu"]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        connection, _ = silent.accept()
        connection.recv(10)
        begun = time.monotonic()
        process.send_signal(number)
        output, errors = process.communicate(timeout=30)
    assert time.monotonic() - begun < 10  # on a busy machine; half a second on an idle one
    assert process.returncode == status
    assert output == ""
    assert errors.splitlines()[-1].startswith("interrupted")
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_falls_silent_is_given_up(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("srflow_apps.batch.storage._SILENT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = "http://{}:{}/a.png".format(*silent.getsockname())
        done = run(tiny_bundle, url, "-o", str(tmp_path / "out.png"), "--quiet")
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {url}: the file cannot be read: the store does not answer")
