"""Pictures on a web server: it gives them, never answers, and secrets in URLs are shown nowhere."""

from __future__ import annotations

import functools
import http.server
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from srflow_apps.commands import cli
from srflow_sdk import read_provenance
from srflow_sdk.files import write_image


class Pictures(http.server.SimpleHTTPRequestHandler):
    """Gives the files of a folder."""

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


@pytest.mark.not_on_windows("URLs are refused there")
def test_a_picture_is_read_from_a_web_server(
    tiny_bundle: Path, tmp_path: Path, photo: np.ndarray
) -> None:
    (tmp_path / "web").mkdir()
    write_image(tmp_path / "web" / "a.png", photo[:12, :16])
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Pictures, directory=tmp_path / "web")
    ) as server:
        threading.Thread(target=lambda: server.serve_forever(0.05), daemon=True).start()
        urls = [f"http://127.0.0.1:{server.server_port}/{name}.png" for name in "ab"]
        options = ["--model", str(tiny_bundle), "--device", "cpu", "--threads", "1"]
        done = CliRunner().invoke(cli.upscale, [*urls, "-o", str(tmp_path / "out"), *options])
        server.shutdown()
    assert (done.exit_code, done.stdout) == (1, f"{tmp_path / 'out' / 'a.png'}\n")
    assert f"error: {urls[1]}: the file cannot be read: there is no such file" in done.stderr
    provenance = read_provenance(tmp_path / "out" / "a.png")
    assert provenance is not None
    assert provenance.source == "a.png"


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


@pytest.mark.not_on_windows("URLs are refused there")
def test_a_signal_ends_the_waiting_for_a_server_that_is_silent(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    program = "from srflow_apps.commands.cli import upscale; upscale()"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = "http://{}:{}/a.png".format(*silent.getsockname())
        command = [
            sys.executable,
            "-c",
            program,
            url,
            "-o",
            "out.png",
            "--model",
            tiny_bundle,
            "--device",
            "cpu",
        ]
        process = subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        connection, _ = silent.accept()
        connection.recv(10)
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=30)
    assert time.monotonic() - begun < 10  # on a busy machine; half a second on an idle one
    assert process.returncode == 128 + signal.SIGTERM
    assert output == ""
    assert errors.splitlines()[-1].startswith("interrupted")
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []
