"""A server that fails, is not there, comes back or becomes another one; and what is cancelled or closed meanwhile."""

from __future__ import annotations

import dataclasses
import json
import pickle
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from srflow_sdk.errors import (
    ArgumentError,
    CancelledError,
    DeviceError,
    ImageError,
    NonFiniteError,
    OutOfMemoryError,
    RemoteError,
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
        (400, "ArgumentError: tau: it is nan", ArgumentError, "the server URL says: tau: it is nan"),
        (400, "ImageError: tile: odd", ImageError, "the server URL says: tile: odd"),
        (500, "NonFiniteError: NaN", NonFiniteError, "the server URL says: NaN"),
        (500, "BundleError: damaged", RemoteError, "the server URL failed: BundleError: damaged"),
        (500, "the fan fell off", RemoteError, "the server URL failed: the fan fell off"),
        (502, "", UnavailableError, "URL is not available: HTTP status 502"),
        (503, "Server is stopping", UnavailableError, "URL is not available: Server is stopping"),
        (404, "Request for unknown model", UnavailableError, "URL is not available: Request for unknown model"),
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
            threading.Timer(0.4, lambda: again.append(InferenceServer(tiny_bundle, port=server.port))).start()

    with RemoteUpscaler(server.url, tile=32) as remote, Upscaler(tiny_bundle, device="cpu", tile=32) as local:
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
        with pytest.raises(UnavailableError, match=r"now serves another model .*: other \(sha256 .* instead of tiny"):
            remote.upscale(photo, progress=lambda done, total: server.load(other_bundle) if done == 2 else None)
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


def test_cancel_ends_the_waiting_for_a_server(photo: NDArray[np.uint8], server: InferenceServer) -> None:
    cancel = threading.Event()
    with RemoteUpscaler(server.url, retry_for=600) as remote:
        server.stop()
        threading.Timer(0.3, cancel.set).start()
        with pytest.raises(CancelledError):
            remote.upscale(photo, cancel=cancel)


def test_closed_one_says_so_and_cannot_be_pickled(photo: NDArray[np.uint8], server: InferenceServer) -> None:
    remote = RemoteUpscaler(server.url)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(remote)
    remote.close()
    remote.close()
    with pytest.raises(DeviceError, match="was closed"):
        remote.upscale(photo)
