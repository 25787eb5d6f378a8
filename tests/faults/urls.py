"""Random URLs with secrets in them, in every place of a command: nothing that it says or writes may have one.

Half of them lead to a web server of this process, which gives a picture, or refuses.
"""

from __future__ import annotations

import http.server
import os
import random
import string
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from srflow_sdk import write_image
from tests.faults.attempts import Attempt
from tests.faults.commands import Ended, hidden_files, loss_of
from tests.sdk.tiny_bundle import write_tiny_bundle

_PATIENCE_S = 60
_SCHEMES = ("http", "HTTP", "https", "sftp", "ssh", "ftp", "s3", "s3a", "abfs", "memory", "foo", "smb")
_NAMES = ("token", "sig", "X-Amz-Signature", "X-Amz-Credential", "password", "q", "AWSAccessKeyId")
_OPTIONS = ("input", "input", "input", "-o", "--report", "--model", "--server", "--from-output", "--tau")
_NOWHERE = {
    **dict.fromkeys(("AWS_ENDPOINT_URL", "STORAGE_EMULATOR_HOST"), "http://127.0.0.1:9"),
    **dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "none"),
    "AWS_MAX_ATTEMPTS": "1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
_PROGRAM = """
import sys
from srflow_apps.commands.cli import upscale
upscale(sys.argv[1:])
"""


class _Store(http.server.BaseHTTPRequestHandler):
    content = b""

    def do_GET(self) -> None:
        status = 200 if "/a.png" in self.path else 403
        self.send_response(status)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(self.content)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


def attack(folder: Path, count: int, seed: int) -> Iterator[Attempt]:
    """Run the command with one URL after the other. Everything that is left is searched for its secrets."""
    chance = random.Random(seed)
    model, photo = write_tiny_bundle(folder / "tiny.srflow"), folder / "photo.png"
    write_image(photo, np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8))
    _Store.content = photo.read_bytes()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Store) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for number in range(count):
            url, secrets = _url(chance, server.server_port)
            option = chance.choice(_OPTIONS)
            place = folder / f"{number:05d}"
            place.mkdir()
            arguments = {
                "input": [url, "-o", "out/", "--report", "report.json"],
                "-o": [str(photo), "-o", url],
            }.get(option, [str(photo), "-o", "out/", option, url])
            if option not in ("--model", "--server"):
                arguments += ["--model", str(model)]
            ended = _run([*arguments, "--threads", "1"], place)
            loss = loss_of(ended) if ended.status != 2 else None  # wrong usage is click's line
            yield Attempt(what=f"{number}: {option} {url}", loss=loss or _found(secrets, ended, place))
        server.shutdown()


def _url(chance: random.Random, port: int) -> tuple[str, list[str]]:
    """A URL, and what of it is secret."""
    secrets: list[str] = []

    def secret() -> str:
        secrets.append("".join(chance.choices(string.ascii_letters, k=12)))
        return secrets[-1] + chance.choice(("", "%2F", "%40x", "=", "+", "~", "%"))

    here = chance.random() < 0.5
    scheme = chance.choice(("http", "HTTP")) if here else chance.choice(_SCHEMES)
    web = scheme.lower() in ("http", "https")
    host = f"127.0.0.1:{port}" if here else chance.choice(("127.0.0.1:9", "127.0.0.1", "[::1]:9", "bucket", "a.b"))
    user = ""
    if chance.random() < 0.6:
        user = f"{chance.choice(('somebody', '', 'x%40y'))}:{secret()}@"
        if web and chance.random() < 0.3:
            user = f"{secret()}@"
    path = chance.choice(("/a.png", "/b.png", "/x//a.png", "/x/../a.png", "/a%20b.png", "/", "", "/a@b.png"))
    query = ""
    if chance.random() < 0.7:
        query = "?" + "&".join(f"{chance.choice(_NAMES)}={secret()}" for _ in range(chance.choice((1, 2, 5))))
    if web and chance.random() < 0.2:
        query += f"#{secret()}"
    return f"{scheme}://{user}{host}{path}{query}", secrets


def _run(arguments: list[str], place: Path) -> Ended:
    environment = {**os.environ, **_NOWHERE, "OMP_NUM_THREADS": "1", "SRFLOW_CACHE_DIR": str(place.parent / "cache")}
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, *arguments],
            cwd=place,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Ended(status=None, output="", errors="")
    return Ended(status=done.returncode, output=done.stdout, errors=done.stderr)


def _found(secrets: list[str], ended: Ended, place: Path) -> str | None:
    """Where a secret stands."""
    if ended.status is None:
        return "it did not end"
    left = [path for path in place.rglob("*") if path.is_file()]
    texts = {"the output": ended.output, "the errors": ended.errors, "names": "\n".join(map(str, place.rglob("*")))}
    for secret in secrets:
        for where, text in texts.items():
            if secret in text:
                return f"the secret {secret} in {where}: {text.strip()[:300]}"
        for path in left:
            if secret.encode() in path.read_bytes():
                return f"the secret {secret} in {path}"
    hidden = hidden_files(place)
    return f"left behind: {', '.join(hidden)}" if hidden else None
