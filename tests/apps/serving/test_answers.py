"""Answers that fail, end, trickle, never end or are none, of a server that may go, come back or
become another one."""

from __future__ import annotations

import dataclasses
import gzip
import json
import math
import pickle
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from srflow_sdk.errors import (
    ArgumentError,
    CancelledError,
    DeviceError,
    NonFiniteError,
    OutOfMemoryError,
    RemoteError,
    SRFlowError,
    UnavailableError,
)
from srflow_sdk.files import write_image
from srflow_sdk.triton import RemoteUpscaler
from srflow_sdk.upscaler import Upscaler
from tests.sdk.tiny_bundle import write_tiny_bundle

from .conftest import largest_difference
from .inference_server import OPTIONS, Answer, InferenceServer


@pytest.mark.parametrize(
    ("status", "message", "kind", "line"),
    [
        (
            400,
            "ArgumentError: tau: it is nan",
            ArgumentError,
            "the server URL says: tau: it is nan",
        ),
        (500, "BundleError: damaged", RemoteError, "the server URL failed: BundleError: damaged"),
        (500, "the fan fell off", RemoteError, "the server URL failed: the fan fell off"),
        (502, "", UnavailableError, "URL is not available: HTTP status 502"),
        (
            404,
            "Request for unknown model",
            UnavailableError,
            "URL is not available: Request for unknown model",
        ),
        (504, "Deadline Exceeded", RemoteError, "the server URL did not answer within 120 s"),
    ],
)
def test_what_the_server_says_is_the_error_that_says_what_to_do_and_not_tried_again(
    photo: NDArray[np.uint8],
    remote: RemoteUpscaler,
    server: InferenceServer,
    status: int,
    message: str,
    kind: type[Exception],
    line: str,
) -> None:
    def spoiled(answer: Answer) -> Iterable[bytes]:
        answer.status = status
        yield answer.raw(json.dumps({"error": message} if message else {}).encode())

    server.spoil = spoiled
    with pytest.raises(kind) as caught:
        remote.upscale(photo)
    assert type(caught.value) is kind
    assert str(caught.value).startswith(line.replace("URL", server.url))
    assert len(server.requests) == 1


def test_server_without_memory_for_a_tile_gets_smaller_ones(
    photo: NDArray[np.uint8], remote: RemoteUpscaler, server: InferenceServer, upscaler: Upscaler
) -> None:
    def too_large(inputs: dict[str, Any]) -> None:
        if inputs["tile"].size > 3 * 48 * 48:
            raise OutOfMemoryError("memory ran out")

    server.before = too_large
    assert largest_difference(remote.upscale(photo), upscaler.upscale(photo)) <= 1
    server.before = lambda inputs: too_large({"tile": np.zeros(3 * 48 * 48 + 1)})
    with pytest.raises(OutOfMemoryError, match=r"with tiles of \d+ pixels, the smallest possible"):
        remote.upscale(photo)


def test_server_that_comes_back_continues_the_picture(
    photo: NDArray[np.uint8],
    server: InferenceServer,
    tiny_bundle: Path,
    upscaler: Upscaler,
    caplog: pytest.LogCaptureFixture,
) -> None:
    again: list[InferenceServer] = []

    def restart(done: int, total: int) -> None:
        if done == 1:
            server.stop()
            threading.Timer(
                0.4, lambda: again.append(InferenceServer(tiny_bundle, port=server.port))
            ).start()

    with (
        RemoteUpscaler(server.url, tile=32) as remote,
        Upscaler(tiny_bundle, device="cpu", tile=32) as local,
    ):
        assert np.array_equal(remote.upscale(photo, progress=restart), local.upscale(photo))
    again[0].stop()
    assert f"{server.url} is not available" in caplog.text
    assert "trying again for 30 s" in caplog.text


def test_model_that_is_unloaded_is_waited_for_like_a_server(
    photo: NDArray[np.uint8], server: InferenceServer, upscaler: Upscaler
) -> None:
    def unload(inputs: dict[str, Any]) -> None:
        server.before = lambda inputs: None
        server.loaded = False
        threading.Timer(0.4, lambda: setattr(server, "loaded", True)).start()

    server.before = unload
    with RemoteUpscaler(server.url) as remote:
        assert np.array_equal(remote.upscale(photo), upscaler.upscale(photo))
    assert len(server.requests) == 1  # its answer was good; only the look at the config waited
    with RemoteUpscaler(server.url, retry_for=0) as remote:
        server.loaded = False
        with pytest.raises(UnavailableError, match="is not available: Request for unknown model"):
            remote.upscale(photo)


def test_another_model_in_the_middle_of_a_picture_is_refused(
    photo: NDArray[np.uint8], server: InferenceServer, other_bundle: Path
) -> None:
    with RemoteUpscaler(server.url, tile=32) as remote:
        with pytest.raises(
            UnavailableError,
            match=r"now serves another model .*: other \(sha256 .* instead of tiny",
        ):
            remote.upscale(
                photo, progress=lambda done, total: server.load(other_bundle) if done == 2 else None
            )
        with pytest.raises(UnavailableError, match="now serves another model"):
            remote.upscale(photo)


def test_files_record_the_servers_precision_and_a_change_of_it_is_refused(
    photo: NDArray[np.uint8], tmp_path: Path
) -> None:
    bundle = write_tiny_bundle(tmp_path / "int8.srflow", int8="near")
    server = InferenceServer(bundle, options=dataclasses.replace(OPTIONS, precision="int8"))
    write_image(tmp_path / "a.png", photo)
    with RemoteUpscaler(server.url, retry_for=0) as remote:
        assert remote.precision == "int8"
        (output,) = remote.upscale_file(tmp_path / "a.png", tmp_path / "b.png").outputs
        assert (output.provenance.precision, output.provenance.device) == ("int8", server.url)
        server.parameters["precision"] = "bundle"
        with pytest.raises(UnavailableError, match="now draws in bundle instead of int8"):
            remote.upscale(photo)
    server.stop()


def test_cancel_ends_the_waiting_for_a_server(
    photo: NDArray[np.uint8], server: InferenceServer
) -> None:
    cancel = threading.Event()
    with RemoteUpscaler(server.url, retry_for=600) as remote:
        server.stop()
        threading.Timer(0.3, cancel.set).start()
        with pytest.raises(CancelledError):
            remote.upscale(photo, cancel=cancel)


def test_closed_one_says_so_and_cannot_be_pickled(
    photo: NDArray[np.uint8], server: InferenceServer
) -> None:
    remote = RemoteUpscaler(server.url)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(remote)
    remote.close()
    remote.close()
    with pytest.raises(DeviceError, match="was closed"):
        remote.upscale(photo)


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
        with pytest.raises(RemoteError, match=f"^{server.url} gave an answer that cannot be used"):
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
    [declared, endless, chunked(b"100000"), chunked(b"ffffffffffff")],
    ids=["declared", "endless", "chunks", "a huge chunk"],
)
def test_an_answer_beyond_the_limit_is_left_there(
    spoil: Callable[[Answer], Iterable[bytes]], photo: NDArray[np.uint8], server: InferenceServer
) -> None:
    with RemoteUpscaler(server.url, max_message_bytes=LIMIT, retry_for=0, timeout=20) as remote:
        server.sent = 0
        server.spoil = spoil
        with pytest.raises(
            RemoteError, match=f"^{server.url} gave an answer that cannot be used: it"
        ):
            remote.upscale(photo)
        assert server.sent < LIMIT + (32 << 20)  # what the sockets of both sides may hold


def test_a_connection_that_ends_in_the_middle_is_unavailability(
    photo: NDArray[np.uint8], server: InferenceServer
) -> None:
    with RemoteUpscaler(server.url, retry_for=0) as remote:
        server.spoil = lambda answer: [answer.raw()[:-5]]
        with pytest.raises(
            UnavailableError, match="the connection ended in the middle of an answer"
        ):
            remote.upscale(photo)


@pytest.mark.parametrize("how", ["cancel", "close"])
def test_cancel_and_close_end_a_request_at_once(
    how: str, photo: NDArray[np.uint8], server: InferenceServer
) -> None:
    cancel = threading.Event()
    reached = threading.Event()

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
            expected,
            match="cancelled by the caller" if how == "cancel" else "closed while it was used",
        ):
            pending.result(10)
    assert time.monotonic() - begun < 3
    remote.close()


Spoil = Callable[[Answer], bytes]


def head(**changes: Any) -> Spoil:
    """An answer whose JSON has other fields."""

    def spoiled(answer: Answer) -> bytes:
        answer.head |= changes
        return answer.raw()

    return spoiled


def output(**changes: Any) -> Spoil:
    """An answer whose tensor is described otherwise."""

    def spoiled(answer: Answer) -> bytes:
        answer.head["outputs"][0].update(changes)
        return answer.raw()

    return spoiled


def body(content: bytes, status: int = 200) -> Spoil:
    def spoiled(answer: Answer) -> bytes:
        answer.status = status
        return answer.raw(content)

    return spoiled


def replaced(old: bytes, new: bytes) -> Spoil:
    return lambda answer: answer.raw().replace(old, new, 1)


CONFIGS: dict[str, Spoil] = {
    "a page": body(b"<html><body>welcome</body></html>"),
    "deep JSON": body(b"[" * 100_000),
    "parameters that are a list": head(parameters=["model"]),
    "status 204": body(b"", 204),
    "an error that is a number": body(b'{"error": 5}', 500),
}
INFERENCES: dict[str, Spoil] = {
    "nothing": body(b""),
    "endless headers": lambda answer: b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000,
    "no outputs": head(outputs=[]),
    "another type": output(datatype="FP16"),
    "another order of the same numbers": output(shape=[1, 244, 180, 3]),
    "a negative size": output(parameters={"binary_data_size": -4}),
    "a size beyond the end": output(parameters={"binary_data_size": 1 << 60}),
    "no length of the JSON": replaced(b"Inference-Header", b"Another-Header"),
    "half the tensor": lambda answer: answer.raw(
        json.dumps(answer.head).encode() + answer.tensors[:1000]
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_that_is_none_is_one_line(name: str, server: InferenceServer) -> None:
    server.spoil = lambda answer: [CONFIGS[name](answer)]
    with pytest.raises(RemoteError, match=f"^.*{server.url}.*$"):
        RemoteUpscaler(server.url)


@pytest.mark.parametrize("name", INFERENCES)
def test_an_answer_that_is_none_is_one_line(
    name: str, server: InferenceServer, photo: NDArray[np.uint8], tmp_path: Path
) -> None:
    write_image(tmp_path / "a.png", photo)
    with RemoteUpscaler(server.url, retry_for=0) as remote:
        server.spoil = lambda answer: [
            INFERENCES[name](answer) if answer.kind == "infer" else answer.raw()
        ]
        with pytest.raises(RemoteError, match=f"^.*{server.url}.*$"):
            remote.upscale_file(tmp_path / "a.png", tmp_path / "b.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert len(server.requests) == 1  # it is no reason to ask again


@pytest.mark.parametrize("value", [math.nan, -math.inf, 1e30])
def test_values_that_no_picture_has_are_an_error_with_the_servers_name(
    value: float, server: InferenceServer, photo: NDArray[np.uint8], tmp_path: Path
) -> None:
    def spoiled(answer: Answer) -> list[bytes]:
        if answer.kind == "infer":
            values = np.frombuffer(answer.tensors, np.float32).copy()
            values[len(values) // 2] = value
            answer.tensors = values.tobytes()
        return [answer.raw()]

    server.spoil = spoiled
    write_image(tmp_path / "a.png", photo)
    with RemoteUpscaler(server.url) as remote:
        line = (
            f"^the server {server.url} gave NaN or infinite values, .* at tau 0.7, seed 3, sample "
            "0, in rows 0 to 45"
        )
        with pytest.raises(NonFiniteError, match=line):
            remote.upscale_file(tmp_path / "a.png", tmp_path / "b.png", tau=0.7, seed=3)
        with pytest.raises(NonFiniteError):
            remote.encode(photo).std(2)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
