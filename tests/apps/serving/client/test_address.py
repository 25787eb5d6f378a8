from __future__ import annotations

import pytest

from srflow_apps.serving.client.base_client import parse_address
from srflow_sdk.errors import ArgumentError


@pytest.mark.parametrize(
    ("url", "protocol", "address"),
    [
        ("gpu", None, "grpc://gpu:8001"),
        ("gpu", "http", "http://gpu:8000"),
        ("gpu:9", None, "grpc://gpu:9"),
        ("10.0.0.1:9", "http", "http://10.0.0.1:9"),
        ("http://gpu", None, "http://gpu:8000"),
        ("http://gpu:9/", "http", "http://gpu:9"),
        ("grpc://gpu:9", None, "grpc://gpu:9"),
        ("GRPC://gpu:9", None, "grpc://gpu:9"),
        ("Http://gpu", "http", "http://gpu:8000"),
        ("grpc://[::1]:9", None, "grpc://[::1]:9"),
        (" gpu:9 ", None, "grpc://gpu:9"),
    ],
)
def test_protocol_and_port_have_defaults(url: str, protocol: str | None, address: str) -> None:
    assert str(parse_address(url, protocol)) == address


@pytest.mark.parametrize(
    "url",
    [
        "http://somebody:s3cr3t@gpu:8000",
        "http://somebody:s3/cr3t@gpu",
        "somebody:s3cr3t@gpu:8001",
        "http://s3cr3t@gpu/path",
        "grpc://gpu?token=s3cr3t",
        "http://gpu/v2#s3cr3t",
        "https://somebody:s3cr3t@gpu",
        "ftp://somebody:s3cr3t@gpu",
    ],
)
@pytest.mark.parametrize("protocol", [None, "grpc"])
def test_a_password_is_refused_and_not_shown(url: str, protocol: str | None) -> None:
    with pytest.raises(ArgumentError, match="only a host and a port can be named") as caught:
        parse_address(url, protocol)
    assert "s3" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "protocol", "reason"),
    [
        ("", None, "it is empty"),
        ("  ", None, "it is empty"),
        ("dns:///gpu:8001", None, "one connection, and with it one server"),
        (8001, None, "must be a text"),
        ("gpu\n", "ftp", '"grpc" or "http"'),
        ("gpu\x1b[2J", None, "must be a text"),
        ("https://gpu", None, "encrypted connections are not supported"),
        ("ftp://gpu", None, "ftp:// is not a protocol"),
        ("http://gpu", "grpc", "leave one of them out"),
        ("gpu:port", None, "Port could not be cast"),
        ("gpu:99999", None, "Port out of range"),
        ("http://gpu/v2", None, "only a host and a port"),
        ("user@gpu", None, "only a host and a port"),
        ("grpc://:8001", None, "only a host and a port"),
        ("a b", None, "only a host and a port"),
    ],
)
def test_anything_else_is_refused_in_one_line_that_says_what_to_write(
    url: object, protocol: str | None, reason: str
) -> None:
    with pytest.raises(ArgumentError, match=reason) as caught:
        parse_address(url, protocol)
    assert "\n" not in str(caught.value)
