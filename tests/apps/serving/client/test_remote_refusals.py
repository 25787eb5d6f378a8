"""What a RemoteUpscaler refuses: addresses, options, models and calls that cannot be."""

from __future__ import annotations

import re
import socket
import socketserver
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from srflow_sdk.errors import (
    ArgumentError,
    MissingExtraError,
    RemoteError,
    UnavailableError,
)
from srflow_sdk.latents.picture_latents import Latents
from srflow_sdk.triton import RemoteUpscaler
from srflow_sdk.upscaler import Upscaler

from .inference_server import NAME, InferenceServer


def test_inverting_and_decoding_are_refused_with_what_to_use(
    photo: NDArray[np.uint8], remote: RemoteUpscaler, server: InferenceServer
) -> None:
    small, large, manifest = photo[:16, :16], np.zeros((64, 64, 3), np.uint8), remote.bundle.manifest
    size = {"height": 64, "width": 64, "padded_height": 64, "padded_width": 64}
    latents = Latents.zeros(manifest.latent_levels, **size, model_sha256=manifest.digest)
    for use in (lambda: remote.encode(small).invert(large), lambda: remote.encode(small).decode(latents)):
        with pytest.raises(RemoteError, match=r"only upscales; .* use Upscaler with the bundle on this machine"):
            use()
    assert not server.requests


def test_what_needs_the_model_here_is_no_method() -> None:
    here = {"restore", "restore_file", "transfer", "transfer_file", "log_likelihood"}
    public = {name for name in dir(Upscaler) if not name.startswith("_")}
    assert {name for name in dir(RemoteUpscaler) if not name.startswith("_")} == public - here


def test_numbers_that_a_request_cannot_hold_are_refused(photo: NDArray[np.uint8], remote: RemoteUpscaler) -> None:
    for options in ({"seed": 1 << 63}, {"sample": 1 << 63}):
        with pytest.raises(ArgumentError, match=r"below 2\^63 where a server draws"):
            remote.upscale(photo, **options)
    assert remote.upscale(photo, seed=(1 << 63) - 1, sample=(1 << 63) - 1).shape == (180, 244, 3)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_nothing_at_the_address_fails_at_once_with_what_to_check(protocol: Any, server: InferenceServer) -> None:
    server.stop()
    with pytest.raises(UnavailableError, match="cannot be reached: Connection refused; start the server, or check"):
        RemoteUpscaler(f"127.0.0.1:{server.port}", protocol=protocol)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_machine_that_does_not_answer_cannot_be_reached(protocol: Any) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(UnavailableError, match=r"cannot be reached: no answer within 0\.4 s; start the server"):
            RemoteUpscaler("{}:{}".format(*silent.getsockname()), protocol=protocol, timeout=0.4)


def test_http_to_a_port_of_grpc_says_what_to_write(server: InferenceServer) -> None:
    with pytest.raises(UnavailableError, match=rf"does not speak HTTP \(.*write grpc://127\.0\.0\.1:{server.port}"):
        RemoteUpscaler(f"http://127.0.0.1:{server.port}")


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"])
def test_grpc_to_a_port_of_http_says_what_to_write(answer: bytes) -> None:
    class Http(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(4096)
            self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Http) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        place = "{}:{}".format(*other.server_address)
        with pytest.raises(UnavailableError, match=rf"does not speak gRPC \(.*write http://{re.escape(place)}"):
            RemoteUpscaler(place)
        other.shutdown()


def test_model_that_is_not_there_is_refused_with_those_that_are(server: InferenceServer) -> None:
    with pytest.raises(RemoteError, match=f"has no model 'nope'; its models are {NAME}"):
        RemoteUpscaler(server.url, model="nope")


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("model", None, "is not a model that upscales pictures"),
        ("model", "{", "it is not JSON"),
        ("model", '{"scale": 4}', "the field .* is missing"),
        ("max_tile_pixels", "many", "max_tile_pixels is 'many'"),
    ],
)
def test_server_that_describes_its_model_badly_is_refused(
    name: str, text: str | None, reason: str, server: InferenceServer
) -> None:
    server.parameters.pop(name)
    if text is not None:
        server.parameters[name] = text
    with pytest.raises(RemoteError, match=reason):
        RemoteUpscaler(server.url)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"max_message_bytes": 100_000}, "max_message_bytes is 100,000; the smallest tile"),
        (
            {"max_message_bytes": 1 << 31},
            "it must be a whole number from 65536 to 2147483647",
        ),
        ({"max_message_bytes": 1000}, "max_message_bytes is 1000; it must be a whole number from 65536"),
        ({"max_message_bytes": -1}, "max_message_bytes is -1; it must be a whole number from 65536"),
        ({"max_message_bytes": 1e7}, "must be a whole number"),
        ({"timeout": 0}, "timeout is 0; it must be a finite number from 0.001 to 1e"),
        ({"timeout": float("nan")}, "timeout is nan"),
        ({"timeout": 1e300}, r"timeout is 1e\+300; it must be a finite number"),
        ({"timeout": float("inf")}, "timeout is inf"),
        ({"timeout": 10**400}, "timeout is inf"),
        ({"retry_for": -1}, "retry_for is -1"),
        ({"model": ""}, "must be the name of a model"),
        ({"tile": 3}, "tile is 3"),
        ({"protocol": "udp"}, "protocol is 'udp'"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], reason: str, server: InferenceServer) -> None:
    with pytest.raises(ArgumentError, match=reason):
        RemoteUpscaler(server.url.removeprefix("grpc://"), **options)


def test_without_the_extra_an_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tritonclient.grpc", None)
    with pytest.raises(MissingExtraError, match=r'pip install "srflow-sdk\[triton\]"'):
        RemoteUpscaler("gpu:8001")


def test_client_library_is_imported_only_when_a_server_is_opened() -> None:
    code = "import sys, srflow_sdk.triton; print([name for name in sys.modules if name.startswith(('grpc', 'triton'))])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "[]"
