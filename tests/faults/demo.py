"""Hostile requests to a srflow-demo that runs, with and without its token, and signals at any time.

Lost is whatever gives a file or a path of the machine, touches what another page has, fails in the
server, takes much memory, asks another address for anything, or does not end.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
from PIL import Image

from tests.apps.demo.served import Served, served
from tests.apps.demo.visitor import CONTROLS, Answer, Visitor
from tests.sdk.flow_bundle import write_flow_bundle

SECRET = b"what-nobody-may-read"
MAX_BYTES = 900_000_000
_UPLOAD_BYTES = 300_000
_EVERY = 40  # so many attempts, the server is looked at, and ended by a signal
_END_S = 20
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "CONNECT", "X")
_EXPECTED = {200, 400, 403, 404, 405, 408, 410, 413, 421, 431, 501}


class _Host:
    """A server, a visitor of it who must notice nothing, and what an attacker knows."""

    def __init__(self, folder: Path, running: Served, chance: random.Random) -> None:
        self.folder = folder
        self.running = running
        self.chance = chance
        self.photo = (folder / "photo.png").read_bytes()
        self.visitor = Visitor(running.url).open()
        assert self.visitor.send("enlarge", "photo.png", self.photo).status == 200
        assert self.visitor.finish("enlarge", **CONTROLS)["state"] == "done"
        self.whole = self.visitor.of_page("GET", "files/enlarge").body
        self.attacker = Visitor(running.url).open()
        self.open: list[socket.socket] = []  # connections that are held

    def damage(self) -> str | None:
        """What is wrong with the server or with what the visitor has."""
        if self.running.process.poll() is not None:
            return f"the server ended with status {self.running.process.returncode}"
        if self.visitor.of_page("GET", "files/enlarge").body != self.whole:
            return "the visitor's file is gone or another"
        if self.running.connected_to():
            return f"it connected to {self.running.connected_to()[0]}"
        status = Path(f"/proc/{self.running.process.pid}/status").read_text(encoding="utf-8")
        peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
        if peak > MAX_BYTES:
            return f"took {peak / 1e9:.1f} GB"
        return (
            None
            if (self.folder / "secret").read_bytes() == SECRET
            else "a file outside was changed"
        )


def attack(folder: Path, count: int, seed: int) -> Iterator[tuple[str, str | None]]:
    """Attack a server, with the tiny flow, which has all tabs; every so often another one, after a
    signal."""
    chance = random.Random(seed)
    bundle = write_flow_bundle(folder / "flow.srflow")
    (folder / "secret").write_bytes(SECRET)
    os.mkfifo(folder / "fifo")
    shades = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(shades).save(folder / "photo.png")
    options = (
        "--model",
        bundle,
        "--threads",
        "1",
        "--max-upload",
        str(_UPLOAD_BYTES),
        "--max-pixels",
        "100k",
    )
    for first in range(0, count, _EVERY):
        with served(folder / f"server{first}", *options) as running:
            host = _Host(folder, running, chance)
            for number in range(first, min(first + _EVERY, count)):
                act = chance.choice((_requested, _requested, _requested, _unfinished))
                try:
                    loss = act(host)
                except (OSError, http.client.HTTPException) as error:
                    loss = None if running.process.poll() is None else f"the server ended: {error}"
                yield (
                    f"{number}, {act.__name__.strip('_')}",
                    loss or (host.damage() if number % 10 == 0 else None),
                )
            yield f"after {number}, a signal", host.damage() or _ended(host)


def _requested(host: _Host) -> str | None:
    """A request of random parts, by the attacker's page or by a stranger."""
    chance = host.chance
    visitor = chance.choice((host.attacker, Visitor(host.running.origin)))
    headers = {}
    if chance.random() < 0.3:
        headers[
            chance.choice(("Host", "Origin", "Sec-Fetch-Site", "Cookie", "Content-Type", "Range"))
        ] = _word(host)
    body = chance.choice((None, b"{}", _said(host), chance.randbytes(5000), host.photo))
    parts = [_word(host) for _ in range(chance.randrange(1, 5))]
    if chance.random() < 0.7:
        parts[0] = f"pages/{host.attacker.page}"
    path = (
        "/"
        + "/".join(parts)
        + chance.choice(("", f"?name={quote(_word(host))}", f"?token={quote(_word(host))}"))
    )
    return _judged(
        host, visitor.ask(chance.choice(_METHODS), quote(path, safe="/?=%&."), body, headers)
    )


def _unfinished(host: _Host) -> str | None:
    """A request of which a part is sent, and whose connection is kept."""
    place = f"/pages/{host.attacker.page}/pictures/enlarge?name=a.png"
    cookie = f"Cookie: {host.attacker.cookie}\r\n"
    head = f"PUT {place} HTTP/1.1\r\nHost: 127.0.0.1\r\n{cookie}Content-Length: 1000\r\n\r\n"
    whole = f"{head}abc".encode()
    held = socket.create_connection((host.attacker.host, host.attacker.port), timeout=30)
    held.sendall(whole[: host.chance.randrange(1, len(whole))])
    host.open.append(held)
    return None


def _word(host: _Host) -> str:
    """A part of a route, a path of the machine, or nonsense."""
    secret = str(host.folder / "secret")
    routes = (
        "pages",
        "static",
        "pictures",
        "files",
        "work",
        "show",
        "samples",
        "alive",
        "enlarge",
        "restore",
    )
    secrets = (
        secret,
        quote(secret, safe=""),
        f"../../../../../..{secret}",
        f"file://{secret}",
        "/etc/passwd",
    )
    nonsense = (
        "..",
        "%2e%2e",
        "\x00",
        "a X: b",
        "http://127.0.0.1:1/",
        "null",
        "127.0.0.1",
        "é",
        "a" * 3000,
    )
    return host.chance.choice(
        (*routes, *secrets, *nonsense, "page.html", str(host.folder / "fifo"), "same-origin")
    )


def _said(host: _Host) -> bytes:
    said: dict[str, object] = {**CONTROLS, "format": "png", "over": "auto"}
    for name in host.chance.sample(sorted(said), host.chance.randrange(4)):
        paths = (str(host.folder / "fifo"), {"path": str(host.folder / "secret")})
        said[name] = host.chance.choice(
            (None, -1, 2**70, 1e308, True, "", [], {}, "png", *paths, [[0] * 50] * 50)
        )
    return json.dumps(said).encode()


def _judged(host: _Host, answer: Answer) -> str | None:
    if answer.status not in _EXPECTED:
        return f"status {answer.status}: {answer.body[:300]!r}"
    secrets = (SECRET, b"root:x:", b"Traceback", str(host.running.connections.parent).encode())
    return next(
        (f"gave {secret!r}: {answer.body[:300]!r}" for secret in secrets if secret in answer.body),
        None,
    )


def _ended(host: _Host) -> str | None:
    """End the server by a signal, while a photo is rendered and connections are open."""
    number = host.chance.choice(_SIGNALS)
    process = host.running.process
    host.visitor.of_page("POST", "work/enlarge", {**CONTROLS, "format": "png"})
    process.send_signal(number)
    try:
        _, errors = process.communicate(timeout=_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return f"{signal.Signals(number).name} did not end it"
    finally:
        for held in host.open:
            held.close()
    if process.returncode != 128 + number or errors not in ("", "interrupted\n"):
        return (
            f"{signal.Signals(number).name} ended it with status {process.returncode}: "
            f"{errors[-300:]!r}"
        )
    left = sorted(path.name for path in (host.running.connections.parent / "tmp").iterdir())
    return f"left behind: {', '.join(left)}" if left else None
