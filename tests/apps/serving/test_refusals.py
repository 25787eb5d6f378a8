"""What a RemoteUpscaler refuses: addresses, options, models and calls that cannot be."""

from __future__ import annotations

import socket
import socketserver
import threading
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from srflow_apps.serving.http_client import parse_address
from srflow_sdk.errors import ArgumentError, RemoteError, UnavailableError
from srflow_sdk.latents.picture_latents import Latents
from srflow_sdk.triton import RemoteUpscaler

from .inference_server import NAME, InferenceServer


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("gpu", "http://gpu:8000"),
        (" Http://gpu:9/ ", "http://gpu:9"),
        ("http://[::1]:9", "http://[::1]:9"),
    ],
)
def test_protocol_and_port_have_defaults(url: str, address: str) -> None:
    assert str(parse_address(url)) == address


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        *(
            (url, "only a host and a port can be named")
            for url in ("http://gpu/v2", "http://:8000", "a b")
        ),
        *(
            (f"{url}s3cr3t", "only a host and a port can be named")
            for url in ("http://gpu?token=", "gpu/v2#")
        ),
        *(
            (f"{url}:s3cr3t@gpu", "only a host and a port can be named")
            for url in ("http://me", "me", "ftp://me")
        ),
        *((url, "only a host and a port can be named") for url in ("  ", 8001, "gpu\x1b[2J")),
        *((url, "only HTTP is spoken here") for url in ("https://gpu", "grpc://gpu:8001")),
        ("gpu:port", "Port could not be cast"),
        ("gpu:99999", "Port out of range"),
    ],
)
def test_other_addresses_are_refused_in_one_line_without_passwords(
    url: object, reason: str
) -> None:
    with pytest.raises(ArgumentError, match=reason) as caught:
        parse_address(url)
    assert "\n" not in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_what_needs_the_model_here_is_refused_with_what_to_use(
    photo: NDArray[np.uint8], remote: RemoteUpscaler, server: InferenceServer
) -> None:
    small = photo[:16, :16]
    large = np.zeros((64, 64, 3), np.uint8)
    manifest = remote.bundle.manifest
    zeros = {
        e.level: np.zeros((e.channels, 64 >> e.level, 64 >> e.level), np.float32)
        for e in manifest.latent_levels
    }
    latents = Latents(zeros, height=64, width=64, model_sha256=manifest.digest)
    for use in (
        lambda: remote.encode(small).invert(large),
        lambda: remote.encode(small).decode(latents),
        lambda: remote.restore(large),
        lambda: remote.transfer(large, large, np.ones((64, 64), bool)),
        lambda: remote.log_likelihood(large),
    ):
        with pytest.raises(
            RemoteError, match=r"only upscales; .* use Upscaler with the bundle on this machine"
        ):
            use()
    assert not server.requests


def test_nothing_at_the_address_fails_at_once_with_what_to_check(server: InferenceServer) -> None:
    server.stop()
    with pytest.raises(
        UnavailableError, match="cannot be reached: Connection refused; start the server, or check"
    ):
        RemoteUpscaler(f"127.0.0.1:{server.port}")


def test_machine_that_does_not_answer_cannot_be_reached() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(
            UnavailableError, match=r"cannot be reached: no answer within 0\.4 s; start the server"
        ):
            RemoteUpscaler("{}:{}".format(*silent.getsockname()), timeout=0.4)


def test_a_port_that_speaks_another_protocol_says_which_one_to_name() -> None:
    class Grpc(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(4096)
            self.request.sendall(b"\0\0\x12\x04\0\0\0\0\0")  # settings of HTTP/2

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Grpc) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        with pytest.raises(
            UnavailableError, match="it does not answer in HTTP; 8000 is Triton's port for HTTP"
        ):
            RemoteUpscaler("{}:{}".format(*other.server_address))
        other.shutdown()


def test_model_that_is_not_there_is_refused_with_those_that_are(server: InferenceServer) -> None:
    with pytest.raises(RemoteError, match=f"has no model 'nope'; its models are {NAME}"):
        RemoteUpscaler(server.url, model="nope")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": None}, "is not a model that upscales pictures"),
        ({"model": "{"}, "it is not JSON"),
        ({"model": '{"scale": 4}'}, "the field .* is missing"),
        ({"max_tile_pixels": "many"}, "max_tile_pixels is 'many'"),
        ({"precision": "fastest"}, "precision is 'fastest'; it must be one of bundle, bf16, int8"),
    ],
)
def test_server_that_describes_its_model_badly_is_refused(
    changes: dict[str, str | None], reason: str, server: InferenceServer
) -> None:
    changed = {**server.parameters, **changes}
    server.parameters = {name: text for name, text in changed.items() if text is not None}
    with pytest.raises(RemoteError, match=reason):
        RemoteUpscaler(server.url)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"max_message_bytes": 1000},
            "max_message_bytes is 1000; it must be a whole number from 65536",
        ),
        ({"timeout": 0}, "timeout is 0; it must be a finite number from 0.001 to 1e"),
        ({"retry_for": -1}, "retry_for is -1"),
        ({"tile": 3}, "tile is 3"),
    ],
)
def test_options_that_cannot_be_are_refused(
    options: dict[str, Any], reason: str, server: InferenceServer
) -> None:
    with pytest.raises(ArgumentError, match=reason):
        RemoteUpscaler(server.url, **options)
