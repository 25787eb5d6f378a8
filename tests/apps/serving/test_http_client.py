"""The client over HTTP: bits, connections, deadlines, limits."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from srflow_sdk.errors import CancelledError, DeviceError, RemoteError, SRFlowError, UnavailableError
from srflow_sdk.triton import RemoteUpscaler

from .inference_server import Answer, InferenceServer

LIMIT = 1_000_000
GIGABYTES = 3 << 30


def test_nothing_but_plain_bytes_is_asked_for_and_compression_is_refused(
    photo: NDArray[np.uint8], server: InferenceServer
) -> None:
    with RemoteUpscaler(server.url) as remote:
        assert {headers["Accept-Encoding"] for headers in server.headers} == {"identity"}

        def packed(answer: Answer) -> Iterable[bytes]:
            answer.headers["Content-Encoding"] = "gzip"
            yield answer.raw(gzip.compress(bytes(50_000_000), 1))

        server.spoil = packed
        with pytest.raises(RemoteError, match=f"^{server.url} gave an answer .*: its Content-Encoding is 'gzip'"):
            remote.upscale(photo)


@pytest.mark.parametrize("kind", ["config", "infer"])
@pytest.mark.parametrize("where", ["headers", "body"])
def test_an_answer_that_trickles_ends_at_the_deadline(
    photo: NDArray[np.uint8], server: InferenceServer, kind: str, where: str
) -> None:
    def trickling(answer: Answer) -> Iterable[bytes]:
        whole = answer.raw()
        begin = whole.index(b"\r\n\r\n") + 4 if where == "body" else 1
        yield whole[:begin] if answer.kind == kind else whole
        for byte in whole[begin:] if answer.kind == kind else b"":
            yield bytes([byte])
            server.stopped.wait(0.02)

    with RemoteUpscaler(server.url, timeout=0.6, retry_for=0) as remote:
        server.spoil = trickling
        begun = time.monotonic()
        with pytest.raises(RemoteError, match=r"answer within 0\.6 s"):
            remote.upscale(photo)
        assert time.monotonic() - begun < 3
        assert len(server.requests) <= 1  # it is no reason to ask again


def declared(answer: Answer) -> Iterable[bytes]:
    answer.headers["Content-Length"] = str(GIGABYTES)
    yield answer.raw()[:-1]


def endless(answer: Answer) -> Iterable[bytes]:
    yield b"HTTP/1.1 200 OK\r\n\r\n"
    for _ in range(GIGABYTES >> 20):
        yield bytes(1 << 20)


def chunked(size: bytes) -> Callable[[Answer], Iterable[bytes]]:
    def send(answer: Answer) -> Iterable[bytes]:
        yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        for _ in range(GIGABYTES >> 20):
            yield size + b"\r\n" + bytes(1 << 20) + b"\r\n"

    return send


@pytest.mark.parametrize(
    "spoil",
    [declared, endless, chunked(b"100000"), chunked(b"-1"), chunked(b"ffffffffffff")],
    ids=["declared", "endless", "chunks", "negative chunks", "a huge chunk"],
)
def test_an_answer_beyond_the_limit_is_left_there(
    spoil: Callable[[Answer], Iterable[bytes]], photo: NDArray[np.uint8], server: InferenceServer
) -> None:
    with RemoteUpscaler(server.url, max_message_bytes=LIMIT, retry_for=0, timeout=20) as remote:
        server.sent, server.spoil = 0, spoil
        with pytest.raises(RemoteError, match=f"^{server.url} gave an answer that cannot be used: it"):
            remote.upscale(photo)
        assert server.sent < LIMIT + (32 << 20)  # what the sockets of both sides may hold


def test_a_connection_that_ends_in_the_middle_is_unavailability(
    photo: NDArray[np.uint8], server: InferenceServer
) -> None:
    with RemoteUpscaler(server.url, retry_for=0) as remote:
        server.spoil = lambda answer: [answer.raw()[:-5]]
        with pytest.raises(UnavailableError, match="the connection ended in the middle of an answer"):
            remote.upscale(photo)


@pytest.mark.parametrize("how", ["cancel", "close"])
def test_cancel_and_close_end_a_request_at_once(how: str, photo: NDArray[np.uint8], server: InferenceServer) -> None:
    cancel, reached = threading.Event(), threading.Event()

    def held(answer: Answer) -> Iterable[bytes]:
        reached.set()
        server.stopped.wait(30)
        yield b""

    remote = RemoteUpscaler(server.url)
    server.spoil = held
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(remote.upscale, photo, cancel=cancel)
        assert reached.wait(10)
        begun = time.monotonic()
        cancel.set() if how == "cancel" else remote.close()
        expected: type[SRFlowError] = CancelledError if how == "cancel" else DeviceError
        with pytest.raises(
            expected, match="cancelled by the caller" if how == "cancel" else "closed while it was used"
        ):
            pending.result(10)
    assert time.monotonic() - begun < 3
    remote.close()
