from __future__ import annotations

import http.server
import threading

import pytest

from srflow_apps.serving.client.base_client import NotThereError, UnknownModelError, parse_address
from srflow_apps.serving.client.http import HttpClient
from srflow_sdk.errors import ArgumentError, ImageError, NonFiniteError, OutOfMemoryError, RemoteError, UnavailableError
from srflow_sdk.triton import RemoteUpscaler


@pytest.mark.parametrize(
    ("message", "status", "kind", "line"),
    [
        ("ArgumentError: tau: it is nan", "400", ArgumentError, "the server GPU says: tau: it is nan"),
        (
            "ImageError: tile: odd",
            "StatusCode.INVALID_ARGUMENT",
            ImageError,
            "the server GPU says: tile: odd",
        ),
        (
            "OutOfMemoryError: memory ran out",
            "500",
            OutOfMemoryError,
            "the server GPU says: memory ran out",
        ),
        ("NonFiniteError: NaN", "StatusCode.INTERNAL", NonFiniteError, "the server GPU says: NaN"),
        ("BundleError: damaged", "500", RemoteError, "the server GPU failed: BundleError: damaged"),
        ("Server is stopping", "StatusCode.UNAVAILABLE", NotThereError, "Server is stopping"),
        ("Server is stopping", "503", NotThereError, "Server is stopping"),
        ("Request for unknown model", "404", UnknownModelError, "Request for unknown model"),
        (
            "Deadline Exceeded",
            "StatusCode.DEADLINE_EXCEEDED",
            RemoteError,
            "the server GPU did not answer within 9 s",
        ),
        (
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:9: Connection refused",
            "StatusCode.UNAVAILABLE",
            NotThereError,
            "Connection refused",
        ),
        (
            "errors resolving nowhere:9: [field:hostname lookup error:nowhere:9: Domain name not found]",
            "StatusCode.UNAVAILABLE",
            NotThereError,
            "Domain name not found",
        ),
    ],
)
def test_failure_becomes_the_error_that_says_what_to_do(
    message: str, status: str, kind: type[Exception], line: str
) -> None:
    address = parse_address("gpu")
    error = HttpClient(address, timeout=9, max_message_bytes=1)._typed(message, status)
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
