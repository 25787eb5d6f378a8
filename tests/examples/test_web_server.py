"""examples/web/serve.mjs: the page's server, asked for whatever a client can write."""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NODE = shutil.which("node")
PATIENCE_S = 60
TEXT = r"/ // .. . %2e%2e %2F %5c \ % %zz %00 %ff ? # * : @ [ ] http:// file: index.html secret"
PARTS = TEXT.split()
PARTS += ["\x7f", "é", " ", "a" * 300]

pytestmark = pytest.mark.skipif(NODE is None, reason="no node on this machine: apt install nodejs")


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """Of a server whose folder has a page, and lies beside a secret."""
    (tmp_path / "secret").write_text("a secret")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("the page")
    command = [
        str(NODE),
        str(ROOT / "examples/web/serve.mjs"),
        "--port",
        "0",
        "--folder",
        str(tmp_path / "site"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield int(server.stdout.readline().strip().rstrip("/").rpartition(":")[2])
        assert server.poll() is None, "it ended"
        server.kill()


def asked(port: int, target: str) -> bytes:
    """The whole answer to a request of this target."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as line:
        line.sendall(
            f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode(
                "utf-8", "replace"
            )
        )
        return line.makefile("rb").read()


@pytest.mark.parametrize("target", ["//", "/?x=1", "/./index.html"])
def test_the_page_is_found(port: int, target: str) -> None:
    answer = asked(port, target)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\nthe page")


def test_no_request_target_ends_it_or_leads_out_of_its_folder(port: int) -> None:
    chance = random.Random(0)
    text = r"// /// //[ http:// http://[ * /% /%00 /.. /../secret /%2e%2e/secret /\..\secret"
    targets = text.split()
    targets += ["".join(chance.choices(PARTS, k=chance.randint(1, 8))) for _ in range(200)]
    for target in targets:
        answer = asked(port, target)
        assert answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 400 ", b"HTTP/1.1 404 ")), (
            target,
            answer,
        )
        assert b"a secret" not in answer, target
