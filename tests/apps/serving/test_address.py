from __future__ import annotations

import pytest

from srflow_apps.serving.http_client import parse_address
from srflow_sdk.errors import ArgumentError


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("gpu", "http://gpu:8000"),
        ("gpu:9", "http://gpu:9"),
        ("Http://gpu", "http://gpu:8000"),
        ("http://gpu:9/", "http://gpu:9"),
        ("http://[::1]:9", "http://[::1]:9"),
        (" gpu:9 ", "http://gpu:9"),
    ],
)
def test_protocol_and_port_have_defaults(url: str, address: str) -> None:
    assert str(parse_address(url)) == address


@pytest.mark.parametrize(
    "url",
    [
        "http://somebody:s3cr3t@gpu:8000",
        "somebody:s3/cr3t@gpu:8001",
        "http://gpu?token=s3cr3t",
        "http://gpu/v2#s3cr3t",
        "ftp://somebody:s3cr3t@gpu",
    ],
)
def test_a_password_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ArgumentError, match="only a host and a port can be named") as caught:
        parse_address(url)
    assert "s3" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("  ", "it is empty"),
        (8001, "must be a text"),
        ("gpu\x1b[2J", "must be a text"),
        ("https://gpu", "encrypted connections are not supported"),
        ("grpc://gpu:8001", "grpc:// is not spoken here, only HTTP; write host:port or http://host:8000"),
        ("gpu:port", "Port could not be cast"),
        ("gpu:99999", "Port out of range"),
        ("http://gpu/v2", "only a host and a port"),
        ("http://:8000", "only a host and a port"),
        ("a b", "only a host and a port"),
    ],
)
def test_anything_else_is_refused_in_one_line_that_says_what_to_write(url: object, reason: str) -> None:
    with pytest.raises(ArgumentError, match=reason) as caught:
        parse_address(url)
    assert "\n" not in str(caught.value)
