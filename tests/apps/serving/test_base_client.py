from __future__ import annotations

import http.server
import threading

import pytest

from srflow_apps.serving.http_client import HttpClient, NotThereError, UnknownModelError, parse_address
from srflow_sdk.errors import ArgumentError, ImageError, NonFiniteError, OutOfMemoryError, RemoteError, UnavailableError
from srflow_sdk.triton import RemoteUpscaler


@pytest.mark.parametrize(
    ("status", "message", "kind", "line"),
    [
        (400, "ArgumentError: tau: it is nan", ArgumentError, "the server GPU says: tau: it is nan"),
        (400, "ImageError: tile: odd", ImageError, "the server GPU says: tile: odd"),
        (500, "OutOfMemoryError: memory ran out", OutOfMemoryError, "the server GPU says: memory ran out"),
        (500, "NonFiniteError: NaN", NonFiniteError, "the server GPU says: NaN"),
        (500, "BundleError: damaged", RemoteError, "the server GPU failed: BundleError: damaged"),
        (503, "Server is stopping", NotThereError, "Server is stopping"),
        (404, "Request for unknown model", UnknownModelError, "Request for unknown model"),
        (504, "Deadline Exceeded", RemoteError, "the server GPU did not answer within 9 s"),
    ],
)
def test_failure_becomes_the_error_that_says_what_to_do(
    status: int, message: str, kind: type[Exception], line: str
) -> None:
    address = parse_address("gpu")
    error = HttpClient(address, timeout=9, max_message_bytes=1)._said(status, message)
    assert type(error) is kind
    assert str(error).startswith(line.replace("GPU", str(address)))


def test_proxy_without_a_server_behind_it_is_unavailable() -> None:
    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(502)

        def log_message(self, *arguments: object) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        with pytest.raises(UnavailableError, match="cannot be reached: HTTP status 502; start the server"):
            RemoteUpscaler(f"http://127.0.0.1:{proxy.server_port}")
        proxy.shutdown()
