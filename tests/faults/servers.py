"""Hostile servers: malformed, slow, endless and compressed answers to a RemoteUpscaler.

An attempt is survived if a picture of the right size comes, or an error of one line with the server's name, in time.
"""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from srflow_sdk import SRFlowError
from srflow_sdk.triton import RemoteUpscaler
from tests.apps.serving.inference_server import JSON_BYTES, Answer, InferenceServer
from tests.faults.attempts import Attempt
from tests.faults.mutation import mutated, odd_value, with_odd_value
from tests.faults.workers import MAX_BYTES, is_one_line
from tests.sdk.tiny_bundle import write_tiny_bundle

_TIMEOUT_S = 1.0
_PATIENCE_S = 15.0  # for one attempt on a busy machine: two calls, and their second tries
_LIMIT = 1_000_000
_PHOTO = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
_ODD_HEADERS = ("Content-Length", "Transfer-Encoding", "Content-Encoding", "Connection", JSON_BYTES)
_ODD_TEXTS = ("-1", "0", "9" * 30, "gzip", "chunked", "close", "br, gzip", "identity", "", "\x00", "é", "5, 6")


def attack(folder: Path, count: int, seed: int) -> Iterator[Attempt]:
    """Ask from a process of its own, which prints a line of JSON for each attempt: what it was, and the loss."""
    write_tiny_bundle(folder / "tiny.srflow")
    command = [sys.executable, "-m", "tests.faults.servers", str(folder), str(count), str(seed)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60 + 5 * count, env=environment, check=False, errors="replace"
    )
    lines = done.stdout.splitlines()
    for line in lines:
        what, loss = json.loads(line)
        yield Attempt(what=what, loss=loss)
    if done.returncode or len(lines) < count or "Traceback" in done.stderr:
        last = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
        yield Attempt(what="all attempts", loss=f"status {done.returncode} after {len(lines)} attempts: {last}")


def _spoiled(chance: random.Random) -> tuple[str, Callable[[Answer], Iterable[bytes]]]:
    """A way to spoil one kind of answer."""
    kind, way = chance.choice(("config", "infer")), chance.choice(sorted(_WAYS))

    def spoil(answer: Answer) -> Iterable[bytes]:
        return _WAYS[way](answer, chance) if answer.kind == kind else [answer.raw()]

    return f"{kind}, {way}", spoil


def _changed_json(answer: Answer, chance: random.Random) -> Iterable[bytes]:
    answer.head = with_odd_value(answer.head, chance)
    yield answer.raw()


def _odd_header(answer: Answer, chance: random.Random) -> Iterable[bytes]:
    answer.headers[chance.choice(_ODD_HEADERS)] = chance.choice(_ODD_TEXTS)
    yield answer.raw()


def _odd_status(answer: Answer, chance: random.Random) -> Iterable[bytes]:
    answer.status = chance.choice((100, 103, 204, 206, 301, 304, 400, 404, 418, 500, 503, 504, 999))
    body = chance.choice((b"", b"<html>no</html>", json.dumps({"error": odd_value(chance)}).encode()))
    yield answer.raw(body)


def _trickling(answer: Answer, chance: random.Random) -> Iterable[bytes]:
    whole = answer.raw()
    begin = chance.choice((1, 20, whole.index(b"\r\n\r\n") + 4))
    yield whole[:begin]
    for byte in whole[begin : begin + 200]:
        yield bytes([byte])
        time.sleep(0.05)


def _endless(answer: Answer, chance: random.Random) -> Iterable[bytes]:
    size, chunk = chance.choice((b"", b"100000", b"-1", b"-100000")), bytes(1 << 20)
    yield b"HTTP/1.1 200 OK\r\n" + (b"Transfer-Encoding: chunked\r\n\r\n" if size else b"\r\n")
    for _ in range(3000):
        yield size + b"\r\n" + chunk + b"\r\n" if size else chunk


def _compressed(answer: Answer, chance: random.Random) -> Iterable[bytes]:
    answer.headers["Content-Encoding"] = chance.choice(("gzip", "deflate", "br", "GZIP", "identity, gzip"))
    yield answer.raw(zlib.compress(bytes(chance.choice((10, 100_000_000))), 1))


_WAYS: dict[str, Callable[[Answer, random.Random], Iterable[bytes]]] = {
    "mutated bytes": lambda answer, chance: [mutated(answer.raw(), chance)],
    "mutated body": lambda answer, chance: [answer.raw(mutated(json.dumps(answer.head).encode(), chance))],
    "changed JSON": _changed_json,
    "odd header": _odd_header,
    "odd status": _odd_status,
    "trickling": _trickling,
    "endless": _endless,
    "compressed": _compressed,
    "nothing": lambda answer, chance: [],
}


def _attempt(url: str) -> str | None:
    """The loss of one picture from this server."""
    begun = time.monotonic()
    try:
        with RemoteUpscaler(url, timeout=_TIMEOUT_S, retry_for=0.3, max_message_bytes=_LIMIT) as remote:
            picture = remote.upscale(_PHOTO, tau=0.7)
            scale = remote.scale
        if picture.shape != (12 * scale, 16 * scale, 3) or picture.dtype != np.uint8:
            return f"a picture of {picture.dtype} and shape {picture.shape}"
    except SRFlowError as error:
        if not is_one_line(str(error)):
            return f"an error of several lines: {error!r}"
        if url not in str(error) and not str(error).startswith("max_message_bytes is"):
            return f"an error without the server's name: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if (seconds := time.monotonic() - begun) > _PATIENCE_S:
        return f"it took {seconds:.0f} s"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return f"{peak / 1e9:.1f} GB" if peak > MAX_BYTES else None


def _main(folder: Path, count: int, seed: int) -> None:
    chance = random.Random(seed)
    server = InferenceServer(folder / "tiny.srflow")
    for number in range(count):
        what, server.spoil = _spoiled(chance)
        loss = _attempt(server.url)
        print(json.dumps([f"attempt {number}: {what}", loss]), flush=True)  # noqa: T201
    server.stop()


if __name__ == "__main__":
    _main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
